//! The wire rules of both eras, on the endpoint itself with a handler of a few tools.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request as HttpRequest, Response, StatusCode};
use http_body_util::{BodyExt as _, BodyStream, Full};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::catalog::ParamHeader;
use crate::mcp::wire::ErrorObject;
use crate::ports::{CallContext, CallEvent};

/// Tools: `echo` (its parameters), `told` (progress and logs first), `stuck` (until it is cancelled),
/// `long` (until it is let go), `mine` (a parameter in a header).
struct Fixture {
    changes: watch::Sender<Changes>,
    cancelled: Arc<Notify>,
    go: Arc<Notify>,
    done: Arc<Notify>,
}

#[async_trait]
impl Handler for Fixture {
    async fn request(&self, request: &Request, context: &CallContext) -> Result<Reply, ErrorObject> {
        let params = || request.params.as_ref().map_or("{}", |params| params.get());
        match (&request.method, request.name.as_deref()) {
            (Method::ToolsList, _) => Ok(Reply::List {
                member: "tools",
                items: Bytes::from_static(b"[1, 2]"),
                next: request.cursor.clone(),
                private: false,
            }),
            (Method::ToolsCall, Some("told")) => {
                if let Some(events) = &context.events {
                    let progress = |progress, message: &str| CallEvent::Progress {
                        progress,
                        total: Some(2.5),
                        message: Some(message.to_owned()),
                    };
                    let _ = events.send(progress(1.0, "one\n")).await;
                    let _ = events.send(CallEvent::Log(r#"{"level":"debug","data":"low"}"#.into())).await;
                    let _ = events.send(CallEvent::Log(r#"{"level":"error","data":"high"}"#.into())).await;
                    let _ = events.send(progress(2.0, "two")).await;
                }
                Ok(Reply::Whole("{\"content\":[]}".into()))
            }
            (Method::ToolsCall, Some("stuck")) => {
                let _dropped = NotifyOnDrop(Arc::clone(&self.cancelled));
                if let Some(events) = &context.events {
                    let _ =
                        events.send(CallEvent::Progress { progress: 1.0, total: None, message: None }).await;
                }
                context.cancel.cancelled().await;
                Err(ErrorObject::new(1, "cancelled"))
            }
            (Method::ToolsCall, Some("long")) => {
                self.go.notified().await;
                self.done.notify_one();
                Ok(Reply::Whole("{}".into()))
            }
            (Method::ToolsCall, Some("bad")) => Err(ErrorObject::new(-32602, "unknown tool")),
            (Method::ToolsCall | Method::ResourcesRead, _) => Ok(Reply::Whole(params().into())),
            (method, _) => Err(ErrorObject::new(-32601, format!("there is no {}", method.as_str()))),
        }
    }

    fn changes(&self) -> watch::Receiver<Changes> {
        self.changes.subscribe()
    }

    fn about(&self) -> About {
        About { instructions: Some("be \"kind\"".into()), completions: true }
    }

    fn param_headers(&self, tool: &str, _: &Principal) -> Arc<[ParamHeader]> {
        let header = ParamHeader { header: "mcp-param-region".into(), path: vec!["region".to_owned()] };
        if tool == "mine" { Arc::new([header]) } else { Arc::default() }
    }
}

struct NotifyOnDrop(Arc<Notify>);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

struct World {
    endpoint: Arc<Endpoint>,
    fixture: Arc<Fixture>,
    shutdown: CancellationToken,
}

fn world() -> World {
    let fixture = Arc::new(Fixture {
        changes: watch::Sender::new(Changes::default()),
        cancelled: Arc::default(),
        go: Arc::default(),
        done: Arc::default(),
    });
    let shutdown = CancellationToken::new();
    let endpoint = Endpoint::new(Arc::clone(&fixture) as Arc<dyn Handler>, shutdown.clone());
    World { endpoint, fixture, shutdown }
}

/// Headers as pairs; a pair with an empty value takes a header of the default ones away.
type Pairs<'a> = &'a [(&'a str, &'a str)];

fn build(verb: &str, headers: Pairs<'_>, body: &str) -> HttpRequest<Full<Bytes>> {
    let defaults = [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
    let mut builder = HttpRequest::builder().method(verb).uri("/mcp");
    let given = |name: &str| headers.iter().any(|(header, _)| *header == name);
    for (name, value) in defaults.iter().filter(|(name, _)| !given(name)).chain(headers) {
        if !value.is_empty() {
            builder = builder.header(*name, *value);
        }
    }
    builder.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).expect("a request")
}

impl World {
    async fn send(&self, request: HttpRequest<Full<Bytes>>) -> Response<Payload> {
        let principal =
            Arc::new(Principal { name: "local".to_owned(), groups: Vec::new(), ..Principal::default() });
        self.endpoint.handle(request, principal).await
    }

    async fn post(&self, headers: Pairs<'_>, body: &str) -> (StatusCode, Value) {
        read(self.send(build("POST", headers, body)).await).await
    }

    /// A modern request with everything right.
    async fn modern(&self, method: &str, params: Value) -> Response<Payload> {
        let name =
            params.get("name").or(params.get("uri")).and_then(Value::as_str).unwrap_or_default().to_owned();
        let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", method), ("mcp-name", &name)];
        self.send(build("POST", &headers, &modern(method, params))).await
    }

    async fn session(&self, version: &str) -> String {
        let body = request("initialize", json!({"protocolVersion": version, "capabilities": {}}));
        let response = self.send(build("POST", &[], &body)).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.headers()["mcp-session-id"].to_str().expect("text").to_owned()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "called with literals")]
fn request(method: &str, params: Value) -> String {
    json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).to_string()
}

fn modern(method: &str, mut params: Value) -> String {
    let meta = params.as_object_mut().expect("an object").entry("_meta").or_insert_with(|| json!({}));
    let meta = meta.as_object_mut().expect("an object");
    meta.insert("io.modelcontextprotocol/protocolVersion".to_owned(), "2026-07-28".into());
    meta.insert("io.modelcontextprotocol/clientCapabilities".to_owned(), json!({}));
    request(method, params)
}

async fn read(response: Response<Payload>) -> (StatusCode, Value) {
    let status = response.status();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// The data of the next event that has some.
async fn event(
    stream: &mut (
             impl futures::Stream<Item = Result<hyper::body::Frame<Bytes>, std::convert::Infallible>> + Unpin
         ),
) -> Option<Value> {
    loop {
        let frame = stream.next().await?.expect("a frame").into_data().expect("data");
        let text = String::from_utf8(frame.to_vec()).expect("text");
        let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or_default();
        if !data.is_empty() {
            return Some(serde_json::from_str(data).expect("JSON"));
        }
    }
}

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
    let filter =
        json!({"toolsListChanged": true, "resourcesListChanged": false, "resourceSubscriptions": ["x://1"]});
    let response = world.modern("subscriptions/listen", json!({"notifications": filter})).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = BodyStream::new(response.into_body());
    let acknowledged = event(&mut stream).await.expect("an event");
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(acknowledged["params"]["notifications"], json!({"toolsListChanged": true}));
    let id = |event: &Value| event["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].clone();
    assert_eq!(id(&acknowledged), 7);
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
    let principal = Arc::new(Principal::default());
    let open = |sessions: &session::Sessions| sessions.open("2025-11-25", &principal, Changes::default());

    let fresh = sessions(minute, minute);
    let (first, second) = (open(&fresh).expect("room"), open(&fresh).expect("room"));
    assert_ne!(first.id, second.id);
    assert!(open(&fresh).is_none(), "both were used just now");
    fresh.close(&first);
    assert!(first.ended.is_cancelled() && open(&fresh).is_some());

    let full = sessions(minute, Duration::ZERO);
    let (busy, idle) = (open(&full).expect("room"), open(&full).expect("room"));
    let call = busy.begin(&wire::Id::number(1));
    assert!(open(&full).is_some(), "the idle one makes room");
    assert!(idle.ended.is_cancelled() && !busy.ended.is_cancelled());

    let over = sessions(Duration::ZERO, Duration::ZERO);
    let (listening, idle) = (open(&over).expect("room"), open(&over).expect("room"));
    let stream = listening.open_stream();
    assert!(over.get(&idle.id, &principal).is_none());
    assert!(over.get(&listening.id, &principal).is_some(), "somebody listens");
    stream.cancel();
    assert!(over.get(&listening.id, &principal).is_none());
    drop(call);
}

/// Requests that are nearly right: valid ones with bytes changed, cut off, and headers left out.
fn nearly_right() -> impl proptest::strategy::Strategy<Value = (String, Vec<u8>, u8)> {
    use proptest::prelude::*;
    let listen = modern("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    let bodies = vec![
        modern("tools/call", json!({"name": "echo", "arguments": {"é": [1, {"a": null}]}})),
        modern("tools/call", json!({"name": "told", "_meta": {"progressToken": 1}})),
        listen,
        request("initialize", json!({"protocolVersion": "2025-11-25", "capabilities": {}})),
        request("tools/list", json!({"cursor": "x"})),
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":null,"result":{}}"#.to_owned(),
    ];
    let edits = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4);
    let cut = any::<Option<proptest::sample::Index>>();
    let method =
        proptest::sample::select(vec!["tools/call", "tools/list", "initialize", "subscriptions/listen", ""]);
    (proptest::sample::select(bodies), edits, cut, method, any::<u8>()).prop_map(
        |(body, edits, cut, method, headers)| {
            let mut bytes = body.into_bytes();
            for (place, byte) in edits {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            (method.to_owned(), bytes, headers)
        },
    )
}

proptest::proptest! {
    #[test]
    fn whatever_is_sent_is_answered_as_the_protocol_says((method, body, headers) in nearly_right()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (status, kind, value) = runtime.block_on(async {
            let world = world();
            let session = if headers & 1 > 0 { world.session("2025-11-25").await } else { String::new() };
            let version = ["", "2026-07-28", "2025-11-25", "1900-01-01"][usize::from(headers >> 1 & 3)];
            let pairs = [
                ("mcp-session-id", session.as_str()),
                ("mcp-protocol-version", version),
                ("mcp-method", method.as_str()),
                ("mcp-name", if headers & 8 > 0 { "echo" } else { "" }),
                ("accept", if headers & 16 > 0 { "text/event-stream" } else { "" }),
            ];
            let (parts, _) = build("POST", &pairs, "").into_parts();
            let response = world.send(HttpRequest::from_parts(parts, Full::new(body.into()))).await;
            let kind = response.headers().get("content-type").map(|kind| kind.to_str().expect("text").to_owned());
            world.shutdown.cancel();
            let (status, value) = read(response).await;
            (status.as_u16(), kind, value)
        });
        match kind.as_deref() {
            None => proptest::prop_assert_eq!(status, 202),
            Some("text/event-stream") => proptest::prop_assert_eq!(status, 200),
            Some(_) => {
                proptest::prop_assert_eq!(&value["jsonrpc"], "2.0");
                proptest::prop_assert!(value.get("result").is_some() != value.get("error").is_some());
                proptest::prop_assert!(matches!(status, 200 | 400 | 404 | 406), "{}", status);
            }
        }
    }
}
