//! Limits of each principal, over the whole way of a request.

use super::*;

fn limited(quotas: Quotas) -> World {
    let world = world();
    let handler = Arc::clone(&world.fixture) as Arc<dyn Handler>;
    let endpoint = Endpoint::limited(handler, world.shutdown.clone(), quotas, Arc::new(|_| {}));
    World { endpoint, ..world }
}

fn initialize() -> HttpRequest<Full<Bytes>> {
    build("POST", &[], &request("initialize", json!({"protocolVersion": "2025-11-25", "capabilities": {}})))
}

#[tokio::test]
async fn requests_that_are_worked_on_have_a_limit_and_what_ends_them_has_none() {
    let world = limited(Quotas { requests: Some(1), ..Quotas::default() });
    let session = world.session("2025-11-25").await;
    let headers = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2025-11-25")];
    let stuck = request("tools/call", json!({"name": "stuck", "_meta": {"progressToken": 1}}));
    let call = world.send(build("POST", &headers, &stuck)).await;
    assert_eq!(call.headers()["content-type"], "text/event-stream", "it is worked on");
    let list = request("tools/list", json!({}));
    let response = world.send(build("POST", &headers, &list)).await;
    assert_eq!(response.headers()["retry-after"], "1");
    let (status, value) = read(response).await;
    assert_eq!((status.as_u16(), value["error"]["code"].as_i64()), (429, Some(-32005)));
    assert_eq!(value["id"], 7);
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
    assert_eq!(world.post(&headers, cancel).await.0, StatusCode::ACCEPTED);
    call.into_body().collect().await.expect("its end");
    world.fixture.cancelled.notified().await;
    assert_eq!(world.post(&headers, &request("tools/list", json!({}))).await.0, StatusCode::OK);
}

#[tokio::test]
async fn sessions_and_streams_have_a_limit_and_their_end_makes_room() {
    let world = limited(Quotas { sessions: Some(2), streams: Some(1), ..Quotas::default() });
    let session = world.session("2025-11-25").await;
    world.session("2025-11-25").await;
    let (status, value) = read(world.send(initialize()).await).await;
    assert_eq!((status.as_u16(), value["error"]["code"].as_i64()), (429, Some(-32005)), "{value}");
    let other = Arc::new(Principal { name: "other".to_owned(), ..Principal::default() });
    assert_eq!(world.endpoint.handle(initialize(), other).await.status(), StatusCode::OK);
    let s = [("mcp-session-id", session.as_str())];
    assert_eq!(world.send(build("DELETE", &s, "")).await.status(), StatusCode::NO_CONTENT);
    let session = world.session("2025-11-25").await;

    let listen =
        || world.modern("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    let stream = listen().await;
    assert_eq!(stream.status(), StatusCode::OK);
    assert_eq!(listen().await.status(), StatusCode::TOO_MANY_REQUESTS);
    let s = [("mcp-session-id", session.as_str()), ("accept", "text/event-stream")];
    assert_eq!(world.send(build("GET", &s, "")).await.status(), StatusCode::TOO_MANY_REQUESTS);
    drop(stream);
    assert_eq!(world.send(build("GET", &s, "")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_session_is_of_a_name_whatever_its_token_is_good_for() {
    let world = world();
    let ada = |scopes: &[&str]| {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        Arc::new(Principal { name: "ada".to_owned(), scopes, ..Principal::default() })
    };
    let opened = world.endpoint.handle(initialize(), ada(&["read"])).await;
    let session = opened.headers()["mcp-session-id"].to_str().expect("text").to_owned();
    let list = || build("POST", &[("mcp-session-id", &session)], &request("tools/list", json!({})));
    assert_eq!(world.endpoint.handle(list(), ada(&["read", "write"])).await.status(), StatusCode::OK);
    for verb in ["GET", "DELETE"] {
        let eve = Arc::new(Principal { name: "eve".to_owned(), ..Principal::default() });
        let request = build(verb, &[("mcp-session-id", &session), ("accept", "text/event-stream")], "");
        assert_eq!(world.endpoint.handle(request, eve).await.status(), StatusCode::NOT_FOUND, "{verb}");
    }
    assert_eq!(world.endpoint.handle(list(), ada(&[])).await.status(), StatusCode::OK);
}
