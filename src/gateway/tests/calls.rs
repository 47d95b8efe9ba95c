//! Requests find their servers, and come back as they were answered.

use super::*;

#[tokio::test]
async fn a_call_reaches_its_server_under_the_servers_own_name_and_comes_back_as_it_was_said() {
    let mut world = World::new();
    let weather = offered(server("weather"), tools(&["echo", "broken", "mute"]));
    world.connect(&weather).await;
    world.publish(1, &[weather], &[]);
    let result =
        world.call(r#"{"name":"weather_echo","arguments":{"x":1.0,"name":"kept"},"y":"\u00e9"}"#).await;
    assert_eq!(
        result.expect("a result"),
        r#"{"new" : 1.50e3,"method":"tools/call","params":{"name":"echo","arguments":{"x":1.0,"name":"kept"},"y":"é"}}"#
    );
    let error = world.call(r#"{"name":"weather_broken"}"#).await.expect_err("an error");
    assert_eq!((error.code, error.message.as_str()), (-32000, "broken"));
    for (params, message) in
        [(r#"{"name":"echo"}"#, "unknown tool `echo`"), ("{}", "`params.name` is no string")]
    {
        let error = world.call(params).await.expect_err(params);
        assert_eq!((error.code, error.message.as_str()), (-32602, message));
    }
    let cancelled =
        tokio::time::timeout(Duration::from_millis(20), world.call(r#"{"name":"weather_mute"}"#)).await;
    assert!(cancelled.is_err());
    assert_eq!(
        world.outcomes(),
        ["weather_echo success", "weather_broken server_error", "echo refused", "weather_mute cancelled"]
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_fails_its_own_calls_with_a_result() {
    let mut world = World::new();
    let (dead, alive) = (offered(server("dead"), tools(&["t"])), offered(server("alive"), tools(&["t"])));
    world.connect(&alive).await;
    world.publish(1, &[dead.clone(), alive], &[]);
    let result = world.call(r#"{"name":"dead_t"}"#).await.expect("a result");
    assert!(
        result.contains("\"isError\":true") && result.contains("server `dead` cannot be reached"),
        "{result}"
    );
    assert!(world.call(r#"{"name":"alive_t"}"#).await.is_ok());
    world.connect(&dead).await;
    assert!(world.call(r#"{"name":"dead_t"}"#).await.expect("a result").contains("\"new\""));
    world.upstreams.get(&dead.upstream).expect("connected").close().await;
    assert!(world.call(r#"{"name":"dead_t"}"#).await.expect("a result").contains("cannot be reached"));

    let mut slow = server("slow");
    slow.timeout = Duration::from_millis(10);
    let slow = offered(slow, tools(&["mute"]));
    world.connect(&slow).await;
    world.publish(2, &[slow], &[]);
    let result = world.call(r#"{"name":"slow_mute"}"#).await.expect("a result");
    assert!(result.contains("gave no answer within"), "{result}");
    let ends: Vec<_> =
        world.outcomes().iter().map(|outcome| outcome.split_once(' ').expect("two").1.to_owned()).collect();
    assert_eq!(ends, ["unavailable", "success", "success", "unavailable", "timeout"]);
}

#[tokio::test]
async fn arguments_of_a_tool_are_checked_before_it_runs() {
    let world = World::new();
    let schema = r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#;
    world.publish(1, &[], &[tool(schema)]);
    let result = world.call(r#"{"name":"greet","arguments":{"city":"Oslo"}}"#).await.expect("a result");
    let said: Value = serde_json::from_str(&result).expect("JSON");
    assert_eq!(said["content"][0]["text"], format!("greet {{\"city\":\"Oslo\"}} {}", revision(1)));
    for (arguments, message) in [
        ("{}", "\"city\" is a required property"),
        (r#"{"city":7}"#, "`/city`: the value is not of type \"string\""),
    ] {
        let params = format!("{{\"name\":\"greet\",\"arguments\":{arguments}}}");
        let said: Value = serde_json::from_str(&world.call(&params).await.expect("a result")).expect("JSON");
        assert_eq!(said["isError"], true);
        let text = said["content"][0]["text"].as_str().expect("text");
        assert_eq!(text, format!("the arguments do not fit the tool's input schema: {message}"));
    }
    assert_eq!(world.call(r#"{"name":"greet","arguments":[]}"#).await.expect_err("no object").code, -32602);
    world.call(r#"{"name":"greet","arguments":{"city":"Oslo","fail":1}}"#).await.expect("a result");
    assert_eq!(
        world.outcomes(),
        ["greet success", "greet invalid", "greet invalid", "greet invalid", "greet tool_error"],
        "every one is recorded"
    );
}

#[tokio::test]
async fn prompts_resources_and_completions_find_their_servers() {
    let mut world = World::new();
    let offer = Offer {
        prompts: vec![r#"{"name":"p"}"#.into()],
        resources: vec![r#"{"uri":"x://gone","name":"r"}"#.into()],
        templates: vec![r#"{"uriTemplate":"t://{id}","name":"t"}"#.into()],
        ..Offer::default()
    };
    let docs = offered(server("docs"), offer);
    world.connect(&docs).await;
    world.publish(1, &[docs], &[]);
    let cases = [
        (Method::PromptsGet, r#"{"name":"docs_p","x":[1]}"#, r#"{"name":"p","x":[1]}"#),
        (Method::ResourcesRead, r#"{"uri":"t://7"}"#, r#"{"uri":"t://7"}"#),
        (
            Method::Complete,
            r#"{"argument":{"name":"a"},"ref":{"type":"ref/prompt","name":"docs_p"}}"#,
            r#"{"argument":{"name":"a"},"ref":{"type":"ref/prompt","name":"p"}}"#,
        ),
        (
            Method::Complete,
            r#"{"ref":{"type":"ref/resource","uri":"t://{id}"}}"#,
            r#"{"ref":{"type":"ref/resource","uri":"t://{id}"}}"#,
        ),
    ];
    for (method, params, received) in cases {
        let expected = format!(r#"{{"new" : 1.50e3,"method":"{}","params":{received}}}"#, method.as_str());
        match world.ask(method, Era::Modern, params).await {
            Ok(Reply::Whole(text)) => assert_eq!(*text, *expected),
            other => panic!("{params}: {other:?}"),
        }
    }
    let faults = [
        (Method::PromptsGet, Era::Modern, r#"{"name":"p"}"#, -32602),
        (Method::ResourcesRead, Era::Modern, r#"{"uri":"y://1"}"#, -32602),
        (Method::ResourcesRead, Era::Legacy, r#"{"uri":"y://1"}"#, -32002),
        (Method::ResourcesRead, Era::Modern, r#"{"uri":"x://gone"}"#, -32602),
        (Method::ResourcesRead, Era::Legacy, r#"{"uri":"x://gone"}"#, -32002),
        (Method::Complete, Era::Modern, r#"{"ref":{"type":"ref/prompt","name":"p"}}"#, -32602),
        (Method::Complete, Era::Modern, "{}", -32602),
        (Method::Other("x/y".to_owned()), Era::Legacy, "{}", -32601),
    ];
    for (method, era, params, code) in faults {
        let error = world.ask(method, era, params).await.expect_err(params);
        assert_eq!(error.code, code, "{params} {error:?}");
    }
}
