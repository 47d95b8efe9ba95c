//! Clients with sessions.

use super::*;

#[tokio::test]
async fn a_legacy_session_begins_with_initialize_and_ends_with_delete() {
    let world = world();
    for (asked, agreed) in
        [("2025-06-18", "2025-06-18"), ("2024-11-05", "2024-11-05"), ("2099-01-01", "2025-11-25")]
    {
        let body = request("initialize", json!({"protocolVersion": asked, "capabilities": {}}));
        let (status, value) = world.post(&[], &body).await;
        assert_eq!((status.as_u16(), value["result"]["protocolVersion"].as_str()), (200, Some(agreed)));
        assert_eq!(value["result"]["serverInfo"]["name"], "toolcrib");
    }
    let session = world.session("2025-11-25").await;
    let s = ("mcp-session-id", session.as_str());
    let v = ("mcp-protocol-version", "2025-11-25");
    let list = request("tools/list", json!({}));
    let cases: &[(Pairs<'_>, &str, u16, i64)] = &[
        (&[s, v], &list, 200, 0),
        (&[s], &list, 200, 0),
        (&[v], &list, 400, -32600),
        (&[("mcp-session-id", "0123456789abcdef0123456789abcdef"), v], &list, 404, -32600),
        (&[s, ("mcp-protocol-version", "1.0")], &list, 400, -32600),
        (&[s, v], &request("ping", json!({})), 200, 0),
        (&[s, v], &request("no/such", json!({})), 200, -32601),
        (&[s, v], &request("logging/setLevel", json!({"level": "error"})), 200, 0),
        (&[s, v], &request("logging/setLevel", json!({"level": "loud"})), 200, -32602),
        (&[s, v], &request("initialize", json!({})), 400, -32602),
        (&[s, v], r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, 202, 0),
        (&[v], r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, 400, -32600),
        (&[s, v], r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, 202, 0),
        (&[s, ("mcp-protocol-version", "2025-03-26")], &format!("[{list}]"), 400, -32600),
    ];
    for (headers, body, status, code) in cases {
        let (found, value) = world.post(headers, body).await;
        assert_eq!(
            (found.as_u16(), value["error"]["code"].as_i64().unwrap_or(0)),
            (*status, *code),
            "{headers:?} {body} {value}"
        );
    }
    let (_, value) = world.post(&[s, v], &list).await;
    assert_eq!(
        value,
        json!({"jsonrpc": "2.0", "id": 7, "result": {"tools": [1, 2]}}),
        "nothing of a later version"
    );
    let other = Arc::new(Principal { name: "other".to_owned(), groups: Vec::new(), ..Principal::default() });
    let stolen = world.endpoint.handle(build("POST", &[s, v], &list), other).await;
    assert_eq!(stolen.status(), StatusCode::NOT_FOUND, "a session is its principal's alone");
    assert_eq!(world.send(build("GET", &[v], "")).await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(world.send(build("GET", &[], "")).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(world.send(build("DELETE", &[s, v], "")).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(world.post(&[s, v], &list).await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.send(build("GET", &[s, v], "")).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_stream_of_a_session_tells_changes_also_those_it_missed() {
    let world = world();
    let session = world.session("2025-11-25").await;
    let headers = [("mcp-session-id", session.as_str()), ("accept", "text/event-stream")];
    world.fixture.changes.send_modify(|changes| changes.tools += 1);
    let response = world.send(build("GET", &headers, "")).await;
    let mut stream = BodyStream::new(response.into_body());
    let primed = stream.next().await.expect("a frame").expect("a frame").into_data().expect("data");
    assert!(primed.starts_with(b"id: ") && primed.ends_with(b"data: \n\n"), "{primed:?}");
    assert_eq!(event(&mut stream).await.expect("missed")["method"], "notifications/tools/list_changed");
    world.fixture.changes.send_modify(|changes| changes.prompts += 1);
    let told = event(&mut stream).await.expect("told");
    assert_eq!(told, json!({"jsonrpc": "2.0", "method": "notifications/prompts/list_changed"}));
    // Another stream takes its place, and has nothing to tell.
    let again = world.send(build("GET", &headers, "")).await;
    assert_eq!(event(&mut stream).await, None);
    let mut again = BodyStream::new(again.into_body());
    world.shutdown.cancel();
    assert_eq!(event(&mut again).await, None);
}

#[tokio::test]
async fn a_legacy_call_ends_by_word_not_by_silence() {
    let world = world();
    let session = world.session("2025-11-25").await;
    let headers = [("mcp-session-id", session.as_str())];
    let stuck = request("tools/call", json!({"name": "stuck"}));
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
    let cancelling = async {
        tokio::task::yield_now().await;
        world.post(&headers, cancel).await
    };
    let ((_, answered), (status, _)) = tokio::join!(world.post(&headers, &stuck), cancelling);
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(answered["error"]["message"], "the request was cancelled");
    world.fixture.cancelled.notified().await;

    let long = request("tools/call", json!({"name": "long"}));
    let gone = tokio::time::timeout(Duration::from_millis(1), world.post(&headers, &long)).await;
    assert!(gone.is_err());
    world.fixture.go.notify_one();
    world.fixture.done.notified().await;
    world.endpoint.drained().await;
}

#[tokio::test]
async fn sessions_are_bounded_and_busy_ones_stay() {
    let minute = Duration::from_mins(1);
    let sessions =
        |idle, idle_when_full| session::Sessions::new(session::Limits { max: 2, idle, idle_when_full });
    let asked = |scope| Asked {
        headers: HeaderMap::new(),
        principal: Arc::default(),
        scope,
        user: quota::User::default(),
    };
    let all = asked(Scope::All);
    let open = |sessions: &session::Sessions| {
        sessions.open("2025-11-25", &all, None, Changes::default(), Held::default())
    };

    let fresh = sessions(minute, minute);
    let (first, second) = (open(&fresh).expect("room"), open(&fresh).expect("room"));
    assert_ne!(first.id, second.id);
    assert!(open(&fresh).is_none(), "both were used just now");
    fresh.close(&first);
    assert!(first.ended.is_cancelled() && open(&fresh).is_some());

    let full = sessions(minute, Duration::ZERO);
    let (busy, idle) = (open(&full).expect("room"), open(&full).expect("room"));
    let call = busy.begin(&wire::Id::number(1)).expect("a new id");
    assert!(busy.begin(&wire::Id::number(1)).is_none(), "it is in use");
    drop(busy.begin(&wire::Id::number(2)));
    assert!(busy.begin(&wire::Id::number(2)).is_some(), "it is free again");
    assert!(open(&full).is_some(), "the idle one makes room");
    assert!(idle.ended.is_cancelled() && !busy.ended.is_cancelled());

    let over = sessions(Duration::ZERO, Duration::ZERO);
    let (listening, idle) = (open(&over).expect("room"), open(&over).expect("room"));
    let (stream, _asked) = listening.open_stream();
    assert!(over.get(&idle.id, &all).is_none());
    assert!(over.get(&listening.id, &all).is_some(), "somebody listens");
    let elsewhere = asked(Scope::Toolset("data".into()));
    assert!(over.get(&listening.id, &elsewhere).is_none(), "it was opened at another endpoint");
    stream.cancel();
    assert!(over.get(&listening.id, &all).is_none());
    drop(call);
}

#[tokio::test]
async fn resources_that_changed_while_no_stream_was_open_are_told_once_on_the_next() {
    let world = world();
    let session = world.session("2025-11-25").await;
    let s = ("mcp-session-id", session.as_str());
    let change = |uris: &[&str]| {
        for uri in uris {
            let server = Name::parse("s").expect("a name");
            world.fixture.updates.send(Updated { server, uri: (*uri).into() }).expect("somebody listens");
        }
    };
    for uri in ["x://1", "x://2"] {
        let (status, _) = world.post(&[s], &request("resources/subscribe", json!({"uri": uri}))).await;
        assert_eq!(status, StatusCode::OK);
    }
    let open = async || {
        let response = world.send(build("GET", &[s, ("accept", "text/event-stream")], "")).await;
        let mut stream = BodyStream::new(response.into_body());
        assert!(stream.next().await.is_some(), "the priming event");
        stream
    };
    change(&["x://1", "x://other", "x://1"]);
    let mut stream = open().await;
    let uri = |event: Option<Value>| event.expect("an event")["params"]["uri"].clone();
    assert_eq!(uri(event(&mut stream).await), "x://1");
    change(&["x://2"]);
    assert_eq!(uri(event(&mut stream).await), "x://2");
    // The client is gone for a while, and misses more than is kept: all that it watches.
    drop(stream);
    change(&["x://1"; 9]);
    let mut stream = open().await;
    let mut told = [uri(event(&mut stream).await), uri(event(&mut stream).await)];
    told.sort_by_key(ToString::to_string);
    assert_eq!(told, ["x://1", "x://2"]);
    world.shutdown.cancel();
    assert_eq!(event(&mut stream).await, None);
}
