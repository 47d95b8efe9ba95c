//! Clients of 2026-07-28.

use super::*;

#[expect(clippy::too_many_lines, reason = "a table")]
#[tokio::test]
async fn what_is_wrong_with_a_modern_request_has_its_status_and_code() {
    let world = world();
    let list = modern("tools/list", json!({}));
    let call = modern("tools/call", json!({"name": "echo"}));
    let v = ("mcp-protocol-version", "2026-07-28");
    let no_capabilities = r#"{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    let old = list.replace("2026-07-28", "1900-01-01");
    let cases: &[(Pairs<'_>, &str, u16, i64)] = &[
        (&[v, ("mcp-method", "tools/list")], &list, 200, 0),
        (&[("mcp-method", "tools/list")], &list, 400, -32020),
        (&[("mcp-protocol-version", "2025-11-25"), ("mcp-method", "tools/list")], &list, 400, -32020),
        (&[v], &list, 400, -32020),
        (&[v, ("mcp-method", "tools/call")], &list, 400, -32020),
        (&[v, ("mcp-method", "Tools/List")], &list, 400, -32020),
        (&[v, ("mcp-method", "tools/list"), ("mcp-method", "tools/list")], &list, 400, -32020),
        (&[v, ("mcp-method", "tools/list")], no_capabilities, 400, -32602),
        (&[v, ("mcp-method", "tools/list")], &request("tools/list", json!({})), 400, -32602),
        (&[("mcp-protocol-version", "1900-01-01"), ("mcp-method", "tools/list")], &old, 400, -32022),
        (&[v, ("mcp-method", "tools/call"), ("mcp-name", "echo")], &call, 200, 0),
        (&[v, ("mcp-method", "tools/call"), ("mcp-name", "=?base64?ZWNobw==?=")], &call, 200, 0),
        (&[v, ("mcp-method", "tools/call"), ("mcp-name", "=?base64?!?=")], &call, 400, -32020),
        (&[v, ("mcp-method", "tools/call")], &call, 400, -32020),
        (&[v, ("mcp-method", "tools/call"), ("mcp-name", "other")], &call, 400, -32020),
        (&[v, ("mcp-method", "no/such")], &modern("no/such", json!({})), 404, -32601),
        (&[v, ("mcp-method", "ping")], &modern("ping", json!({})), 404, -32601),
        (&[v, ("mcp-method", "initialize")], &modern("initialize", json!({})), 404, -32601),
        (&[], &request("server/discover", json!({})), 400, -32602),
        (
            &[v, ("mcp-method", "tools/call"), ("mcp-name", "bad")],
            &modern("tools/call", json!({"name": "bad"})),
            200,
            -32602,
        ),
        (&[v, ("mcp-session-id", "whatever"), ("mcp-method", "tools/list")], &list, 200, 0),
        (&[v, ("mcp-method", "tools/list"), ("content-type", "text/plain")], &list, 415, -32600),
        (&[v, ("mcp-method", "tools/list"), ("content-type", "")], &list, 415, -32600),
        (&[v, ("accept", ""), ("mcp-method", "tools/list")], &list, 200, 0),
        (
            &[v, ("accept", "application/json"), ("mcp-method", "subscriptions/listen")],
            &modern("subscriptions/listen", json!({"notifications": {}})),
            406,
            -32600,
        ),
        (
            &[v, ("mcp-method", "subscriptions/listen")],
            &modern("subscriptions/listen", json!({})),
            400,
            -32602,
        ),
        (&[v], "{", 400, -32700),
        (&[v], "[]", 400, -32600),
        (&[v], r#"{"jsonrpc":"2.0","id":7,"method":"tools/list","params":[]}"#, 400, -32602),
        (
            &[v],
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a","name":"b"}}"#,
            400,
            -32602,
        ),
        (&[v], r#"{"jsonrpc":"2.0","method":"notifications/x"}"#, 202, 0),
    ];
    for (headers, body, status, code) in cases {
        let (found, value) = world.post(headers, body).await;
        assert_eq!(
            (found.as_u16(), value["error"]["code"].as_i64().unwrap_or(0)),
            (*status, *code),
            "{headers:?} {body} {value}"
        );
        if *code != 0 {
            assert!(value["id"] == 7 || value.get("id").is_none(), "{value}");
        }
    }
    let (_, value) = world.post(&[("mcp-protocol-version", "1900-01-01")], &old).await;
    assert_eq!(value["error"]["data"]["requested"], "1900-01-01");
    assert_eq!(value["error"]["data"]["supported"][0], "2026-07-28");
    for verb in ["GET", "DELETE", "PUT"] {
        let response = world.send(build(verb, &[v], "")).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{verb}");
    }
}

#[tokio::test]
async fn bodies_are_bounded() {
    let world = world();
    let (status, _) = world.post(&[], &"x".repeat(MAX_BODY + 1)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, _) = world.post(&[("content-length", "99999999")], "{}").await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn modern_results_say_what_the_version_wants_and_keep_the_rest() {
    let world = world();
    let (_, list) = read(world.modern("tools/list", json!({"cursor": "next"})).await).await;
    let result = &list["result"];
    assert_eq!(result["resultType"], "complete");
    assert_eq!((&result["ttlMs"], &result["cacheScope"]), (&json!(0), &json!("public")));
    assert_eq!((&result["tools"], &result["nextCursor"]), (&json!([1, 2]), &json!("next")));
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "toolcrib");

    let (_, discovered) = read(world.modern("server/discover", json!({})).await).await;
    let result = &discovered["result"];
    assert_eq!(result["supportedVersions"][0], "2026-07-28");
    assert_eq!(result["capabilities"]["tools"]["listChanged"], true);
    assert_eq!(result["instructions"], "be \"kind\"");
    assert_eq!((&result["ttlMs"], &result["resultType"]), (&json!(0), &json!("complete")));

    // The fixture echoes its parameters as the result.
    let cases = [
        (json!({"name": "echo", "resultType": "task", "é": 1.5}), "task"),
        (
            json!({"name": "echo", "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "other"}}}),
            "complete",
        ),
    ];
    for (params, kind) in cases {
        let (_, value) = read(world.modern("tools/call", params.clone()).await).await;
        let result = &value["result"];
        assert_eq!(result["resultType"], kind);
        assert!(result.get("ttlMs").is_none());
        let info = &result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"];
        let named = params["_meta"].is_object();
        assert_eq!(info, if named { "other" } else { "toolcrib" }, "{result}");
        assert_eq!(result["é"], params["é"]);
    }
    let (_, value) = read(world.modern("resources/read", json!({"uri": "x://1", "ttlMs": 5})).await).await;
    assert_eq!((&value["result"]["ttlMs"], &value["result"]["cacheScope"]), (&json!(5), &json!("private")));
}

#[tokio::test]
async fn annotated_parameters_must_be_repeated_in_headers() {
    let world = world();
    let with = |region: Option<&str>, argument: Value| {
        let body = modern("tools/call", json!({"name": "mine", "arguments": {"region": argument}}));
        let region = region.unwrap_or_default().to_owned();
        let world = &world;
        async move {
            let headers = [
                ("mcp-protocol-version", "2026-07-28"),
                ("mcp-method", "tools/call"),
                ("mcp-name", "mine"),
                ("mcp-param-region", region.as_str()),
            ];
            world.post(&headers, &body).await.1["error"]["code"].as_i64().unwrap_or(0)
        }
    };
    assert_eq!(with(Some("eu"), json!("eu")).await, 0);
    assert_eq!(with(Some("=?base64?ZXU=?="), json!("eu")).await, 0);
    assert_eq!(with(Some("42.0"), json!(42)).await, 0);
    assert_eq!(with(None, Value::Null).await, 0);
    assert_eq!(with(None, json!("eu")).await, -32020);
    assert_eq!(with(Some("us"), json!("eu")).await, -32020);
    assert_eq!(with(Some("us"), Value::Null).await, -32020);
}

#[tokio::test]
async fn a_call_that_tells_of_itself_is_a_stream_of_events() {
    let world = world();
    let quiet = world.modern("tools/call", json!({"name": "told"})).await;
    assert_eq!(quiet.headers()["content-type"], "application/json");

    let meta = json!({"progressToken": "tok", "io.modelcontextprotocol/logLevel": "warning"});
    let response = world.modern("tools/call", json!({"name": "told", "_meta": meta})).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let mut stream = BodyStream::new(response.into_body());
    let mut told = Vec::new();
    while let Some(event) = event(&mut stream).await {
        told.push(event);
    }
    let progress = |n: u32, message: &str| {
        json!({"jsonrpc": "2.0", "method": "notifications/progress",
            "params": {"progressToken": "tok", "progress": n, "total": 2.5, "message": message}})
    };
    assert_eq!(told[0], progress(1, "one\n"));
    assert_eq!(
        told[1]["params"],
        json!({"level": "error", "data": "high"}),
        "what is below the level is not told"
    );
    assert_eq!(told[2], progress(2, "two"));
    assert_eq!(told[3]["result"]["content"], json!([]));
    assert_eq!(told.len(), 4);
    let wrong = json!({"io.modelcontextprotocol/logLevel": "loud"});
    let (status, value) =
        read(world.modern("tools/call", json!({"name": "told", "_meta": wrong})).await).await;
    assert_eq!((status.as_u16(), &value["error"]["code"]), (400, &json!(-32602)));
}

#[tokio::test]
async fn a_modern_client_that_goes_away_cancels_its_call() {
    let world = world();
    // Before anything was said.
    let early =
        tokio::time::timeout(Duration::from_millis(5), world.modern("tools/call", json!({"name": "stuck"})));
    assert!(early.await.is_err());
    world.fixture.cancelled.notified().await;
    // After the stream began.
    let params = json!({"name": "stuck", "_meta": {"progressToken": 1}});
    let response = world.modern("tools/call", params).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    drop(response);
    world.fixture.cancelled.notified().await;
}

#[tokio::test]
async fn a_subscription_tells_what_was_asked_for_and_ends_with_its_response() {
    let world = world();
    let filter = json!({"toolsListChanged": true, "resourcesListChanged": false,
        "resourceSubscriptions": ["x://1", "x://none"]});
    let response = world.modern("subscriptions/listen", json!({"notifications": filter})).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = BodyStream::new(response.into_body());
    let acknowledged = event(&mut stream).await.expect("an event");
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(
        acknowledged["params"]["notifications"],
        json!({"toolsListChanged": true, "resourceSubscriptions": ["x://1"]})
    );
    let id = |event: &Value| event["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].clone();
    assert_eq!(id(&acknowledged), 7);
    // Of the resource itself, not of another server's with its name, nor of others.
    for (server, uri) in [("other", "x://1"), ("s", "x://2"), ("s", "x://1")] {
        let server = Name::parse(server).expect("a name");
        world.fixture.updates.send(Updated { server, uri: uri.into() }).expect("somebody listens");
    }
    let updated = event(&mut stream).await.expect("an event");
    assert_eq!(
        (updated["method"].as_str(), &updated["params"]["uri"], id(&updated)),
        (Some("notifications/resources/updated"), &json!("x://1"), json!(7))
    );
    world.fixture.changes.send_modify(|changes| changes.prompts += 1);
    world.fixture.changes.send_modify(|changes| changes.tools += 3);
    let changed = event(&mut stream).await.expect("an event");
    assert_eq!(
        (changed["method"].as_str(), id(&changed)),
        (Some("notifications/tools/list_changed"), json!(7))
    );
    world.shutdown.cancel();
    let ended = event(&mut stream).await.expect("an event");
    assert_eq!((&ended["id"], &ended["result"]["resultType"]), (&json!(7), &json!("complete")));
    assert_eq!(event(&mut stream).await, None);
}

#[tokio::test]
async fn a_subscription_tells_of_tasks_as_long_as_it_can() {
    let world = world();
    let listen = async |ids: &[&str]| {
        let filter = json!({"taskIds": ids});
        let response = world.modern("subscriptions/listen", json!({"notifications": filter})).await;
        BodyStream::new(response.into_body())
    };
    let mut none = listen(&["hidden"]).await;
    assert_eq!(event(&mut none).await.expect("an event")["params"]["notifications"], json!({}));
    let mut stream = listen(&["hidden", "gone", "a", "a"]).await;
    let acknowledged = event(&mut stream).await.expect("an event");
    assert_eq!(acknowledged["params"]["notifications"], json!({"taskIds": ["a", "gone"]}));
    for id in ["a", "gone"] {
        let told = event(&mut stream).await.expect("an event");
        assert_eq!(told["method"], "notifications/tasks");
        let meta = json!({"io.modelcontextprotocol/subscriptionId": 7, "x": 1});
        assert_eq!(told["params"], json!({"taskId": id, "_meta": meta}));
    }
    let ended = event(&mut stream).await.expect("an event");
    assert_eq!((&ended["id"], &ended["result"]["resultType"]), (&json!(7), &json!("complete")));
    assert_eq!(event(&mut stream).await, None);
    world.shutdown.cancel();
    assert_eq!(event(&mut none).await.expect("the end")["id"], 7, "without tasks it went on");
}

#[tokio::test]
async fn many_changes_are_told_as_one() {
    let world = world();
    let filter = json!({"toolsListChanged": true});
    let response = world.modern("subscriptions/listen", json!({"notifications": filter})).await;
    let mut stream = BodyStream::new(response.into_body());
    event(&mut stream).await.expect("acknowledged");
    for changes in [1, 100] {
        for _ in 0..changes {
            world.fixture.changes.send_modify(|changes| changes.tools += 1);
        }
        let told = event(&mut stream).await.expect("told");
        assert_eq!(told["method"], "notifications/tools/list_changed");
    }
    world.shutdown.cancel();
    assert_eq!(event(&mut stream).await.expect("the end")["id"], 7, "nothing more was told");
}

#[tokio::test]
async fn a_call_goes_on_although_its_client_reads_nothing() {
    let world = world();
    let params = json!({"name": "long", "_meta": {"progressToken": 1}});
    let response = world.modern("tools/call", params).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    // What it holds is not held for as long as somebody does not read.
    world.fixture.go.notify_one();
    let ended = tokio::time::timeout(Duration::from_secs(20), world.fixture.done.notified()).await;
    assert!(ended.is_ok(), "the call waits for its client to read");
    let mut stream = BodyStream::new(response.into_body());
    assert_eq!(event(&mut stream).await.expect("an event")["method"], "notifications/progress");
    assert_eq!(event(&mut stream).await.expect("an event")["id"], 7);
}
