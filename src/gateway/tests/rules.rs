//! What rules refuse, and what they hide.

use super::*;

#[tokio::test]
async fn what_rules_refuse_reaches_nobody_and_what_they_hide_is_not_there() {
    let mut world = World::new();
    let files = offered(server("files"), tools(&["read", "remove"]));
    world.connect(&files).await;
    world.publish(1, &[files], &[tool(r#"{"type":"object"}"#)]);
    let mut changes = world.gateway.changes(&Scope::All);
    changes.mark_unchanged();

    let refusing = rules(
        &[Point::Call],
        "deny contains \"not today\" if { input.tool.args.path == \"/\"; input.user.name == \"local\" }",
    );
    world.gateway.set_rules(refusing);
    let result = world.call(r#"{"name":"files_read","arguments":{"path":"/"}}"#).await.expect("a result");
    assert!(
        result.contains("not today (Policy/p, rule `data.p.deny`)") && result.contains("\"isError\":true"),
        "{result}"
    );
    assert!(
        world
            .call(r#"{"name":"files_read","arguments":{"path":"/a"}}"#)
            .await
            .expect("a result")
            .contains("\"new\"")
    );
    assert_eq!(world.list(None).await.expect("a page").0.len(), 3);
    assert!(!changes.has_changed().expect("open"), "the same list");
    let failing = rules(&[Point::Call], "deny if { to_number(input.tool.args.path) == 1 }");
    world.gateway.set_rules(failing);
    let result = world.call(r#"{"name":"files_read","arguments":{"path":"x"}}"#).await.expect("a result");
    assert!(result.contains("was refused"), "what cannot be evaluated refuses: {result}");

    world.gateway.set_rules(rules(
        &[Point::List],
        "visible := false if { startswith(input.tool.name, \"files_rem\") }",
    ));
    assert_eq!(world.list(None).await.expect("a page").0, ["files_read", "greet"]);
    assert_eq!(changes.borrow_and_update().tools, 2, "the list became shorter");
    let error = world.call(r#"{"name":"files_remove"}"#).await.expect_err("hidden");
    assert_eq!((error.code, error.message.as_str()), (-32602, "unknown tool `files_remove`"));
    assert!(world.call(r#"{"name":"files_read"}"#).await.is_ok());
    assert_eq!(
        world.outcomes(),
        [
            "files_read refused",
            "files_read success",
            "files_read refused",
            "files_remove refused",
            "files_read success"
        ]
    );
}

#[tokio::test]
async fn prompts_resources_and_templates_are_hidden_as_tools_are() {
    let mut world = World::new();
    let all =
        |names: [&str; 2], key: &str| names.map(|name| json!({"name": name, key: name}).to_string().into());
    let offer = Offer {
        prompts: all(["open", "secret"], "title").to_vec(),
        resources: all(["x://open", "x://secret"], "uri").to_vec(),
        templates: all(["x://open/{a}", "y://{secret}"], "uriTemplate").to_vec(),
        capabilities: Some(r#"{"resources":{}}"#.into()),
        ..Offer::default()
    };
    let files = offered(server("files"), offer);
    world.connect(&files).await;
    world.publish(1, &[files], &[]);
    let mut changes = world.gateway.changes(&Scope::All);
    changes.mark_unchanged();
    world.gateway.set_rules(rules(&[Point::List], "deny if { contains(input.entry.name, \"secret\") }"));
    let seen = *changes.borrow_and_update();
    assert_eq!((seen.tools, seen.prompts, seen.resources), (0, 2, 2), "told to those who listen");

    for (method, left) in [
        (Method::PromptsList, "files_open"),
        (Method::ResourcesList, "x://open"),
        (Method::TemplatesList, "x://open/{a}"),
    ] {
        let Ok(Reply::List { items, private, .. }) = world.ask(method.clone(), Era::Modern, "{}").await
        else {
            panic!("{}", method.as_str());
        };
        let items: Vec<Value> = serde_json::from_slice(&items).expect("JSON");
        assert!(private && items.len() == 1 && items[0].to_string().contains(left), "{items:?}");
    }
    let complete = |kind: &str, key: &str, name: &str| {
        let argument = json!({"name": "a", "value": ""});
        json!({"ref": {"type": kind, key: name}, "argument": argument}).to_string()
    };
    // What is asked, and whether there is such a thing to this client.
    for (method, params, there) in [
        (Method::PromptsGet, json!({"name": "files_open"}).to_string(), true),
        (Method::PromptsGet, json!({"name": "files_secret"}).to_string(), false),
        (Method::ResourcesRead, json!({"uri": "x://open"}).to_string(), true),
        (Method::ResourcesRead, json!({"uri": "x://secret"}).to_string(), false),
        // By a template that is seen, by one that is hidden, and by none.
        (Method::ResourcesRead, json!({"uri": "x://open/1"}).to_string(), true),
        (Method::ResourcesRead, json!({"uri": "x://open/secret"}).to_string(), false),
        (Method::ResourcesRead, json!({"uri": "y://1"}).to_string(), false),
        (Method::ResourcesRead, json!({"uri": "z://1"}).to_string(), true),
        (Method::ResourcesRead, json!({"uri": "z://secret"}).to_string(), false),
        (Method::Complete, complete("ref/prompt", "name", "files_open"), true),
        (Method::Complete, complete("ref/prompt", "name", "files_secret"), false),
        (Method::Complete, complete("ref/resource", "uri", "x://open/{a}"), true),
        (Method::Complete, complete("ref/resource", "uri", "y://{secret}"), false),
    ] {
        let answer = world.ask(method.clone(), Era::Modern, &params).await;
        let case = format!("{} {params}", method.as_str());
        match answer {
            Ok(_) => assert!(there, "{case}"),
            Err(error) => {
                assert!(!there && error.code == -32602, "{case}: {error:?}");
                assert!(error.message.starts_with("unknown "), "{case}: {error:?}");
            }
        }
    }
}
