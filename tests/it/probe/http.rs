//! The laws of the HTTP transport, against scripted servers on loopback.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use toolcrib::mcp::client::{CallError, Params, Upstream};
use toolcrib::ports::{CallContext, Channel, Greeting, Logs, Severity};

use super::{LONG, params};
use crate::support::Port;

/// One request as a server sees it.
struct Asked {
    peer: SocketAddr,
    http: Method,
    path: String,
    headers: HeaderMap,
    message: Value,
}

impl Asked {
    fn method(&self) -> &str {
        self.message["method"].as_str().unwrap_or_default()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    fn result(&self, result: &Value) -> Response<Body> {
        let answer = json!({"jsonrpc": "2.0", "id": self.message["id"], "result": result});
        respond(200, "application/json", answer.to_string())
    }

    fn error(&self, status: u16, code: i64) -> Response<Body> {
        let answer =
            json!({"jsonrpc": "2.0", "id": self.message["id"], "error": {"code": code, "message": "no"}});
        respond(status, "application/json", answer.to_string())
    }
}

fn respond(status: u16, kind: &str, body: impl Into<Body>) -> Response<Body> {
    Response::builder().status(status).header("content-type", kind).body(body.into()).expect("a response")
}

fn accepted() -> Response<Body> {
    respond(202, "application/json", "")
}

/// Serves what `script` answers until the test ends; the address of its endpoint.
async fn serve(script: impl Fn(Asked) -> Response<Body> + Clone + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let app = Router::new().fallback(
        move |ConnectInfo(peer): ConnectInfo<SocketAddr>,
              http: Method,
              uri: axum::http::Uri,
              headers: HeaderMap,
              body: Bytes| {
            let message = serde_json::from_slice(&body).unwrap_or_default();
            let answer = script(Asked { peer, http, path: uri.path().to_owned(), headers, message });
            async move { answer }
        },
    );
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::task::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}/mcp")
}

/// A legacy server's share of the handshake; its session is `session`.
fn legacy(asked: &Asked, session: &str) -> Option<Response<Body>> {
    if asked.http != Method::POST {
        return Some(respond(405, "text/plain", ""));
    }
    match asked.method() {
        "server/discover" => Some(asked.error(400, -32600)),
        "initialize" => {
            let mut response = asked.result(&json!({"protocolVersion": "2025-06-18", "capabilities": {}}));
            response.headers_mut().insert("mcp-session-id", session.parse().expect("a header"));
            Some(response)
        }
        "notifications/initialized" => Some(accepted()),
        _ => None,
    }
}

fn modern(asked: &Asked) -> Option<Response<Body>> {
    let discovered = json!({"supportedVersions": ["2026-07-28"], "capabilities": {}});
    (asked.method() == "server/discover").then(|| asked.result(&discovered))
}

async fn connect(url: String) -> Arc<Upstream> {
    let connected = Upstream::connect(Channel::Http { url }, Greeting::Unknown, LONG, || {}).await;
    connected.unwrap_or_else(|error| panic!("{error}"))
}

async fn call(upstream: &Upstream, tool: &str) -> Result<Value, CallError> {
    let result = upstream
        .call("tools/call", Params::of(&params(tool, &json!({}))), LONG, &CallContext::default())
        .await?;
    Ok(serde_json::from_str(result.get()).expect("JSON"))
}

#[tokio::test]
async fn a_lost_session_is_opened_anew_once_and_the_call_repeated() {
    for status in [404, 400] {
        let sessions = Arc::new(AtomicUsize::new(0));
        let opened = Arc::clone(&sessions);
        let url = serve(move |asked| {
            if asked.method() == "initialize" {
                opened.fetch_add(1, Ordering::SeqCst);
            }
            let now = opened.load(Ordering::SeqCst);
            if let Some(answer) = legacy(&asked, &now.to_string()) {
                return answer;
            }
            assert_eq!(asked.header("mcp-protocol-version"), "2025-06-18");
            assert_eq!(asked.header("mcp-method"), "", "legacy servers are not told what they do not know");
            // The first session is forgotten as soon as it is open.
            match asked.header("mcp-session-id") {
                "1" => respond(status, "application/json", r#"{"error":"No valid session ID"}"#),
                _ => asked.result(&json!({"ok": true})),
            }
        })
        .await;
        let upstream = connect(url).await;
        let calls = futures::future::join_all((0..8).map(|_| call(&upstream, "t"))).await;
        assert!(calls.iter().all(|call| call.as_ref().is_ok_and(|result| result["ok"] == true)), "{calls:?}");
        assert_eq!(sessions.load(Ordering::SeqCst), 2, "one session for all that noticed");
    }
}

#[tokio::test]
async fn a_session_in_the_place_of_a_lost_one_hears_the_log_level_before_the_repeated_call() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&heard);
    let sessions = Arc::new(AtomicUsize::new(0));
    let url = serve(move |asked| {
        if asked.http != Method::POST {
            return respond(405, "text/plain", "");
        }
        let (method, session) = (asked.method().to_owned(), asked.header("mcp-session-id").to_owned());
        match method.as_str() {
            "server/discover" => asked.error(400, -32600),
            "initialize" => {
                let now = sessions.fetch_add(1, Ordering::SeqCst) + 1;
                let logs = json!({"protocolVersion": "2025-06-18", "capabilities": {"logging": {}}});
                let mut response = asked.result(&logs);
                response.headers_mut().insert("mcp-session-id", now.to_string().parse().expect("a header"));
                response
            }
            "notifications/initialized" => accepted(),
            _ => {
                told.lock().unwrap().push(format!("{session} {method}"));
                // The first session is forgotten as soon as it is open.
                match session.as_str() {
                    "1" => respond(404, "application/json", "{}"),
                    _ => asked.result(&json!({"ok": true})),
                }
            }
        }
    })
    .await;
    let upstream = connect(url).await;
    let context = CallContext { logs: Some(Logs::From(Severity::Warning)), ..CallContext::default() };
    upstream
        .call("tools/call", Params::of(&params("t", &json!({}))), LONG, &context)
        .await
        .expect("answered");
    let heard = heard.lock().unwrap();
    assert_eq!(*heard, ["1 logging/setLevel", "1 tools/call", "2 logging/setLevel", "2 tools/call"]);
}

#[tokio::test]
async fn a_modern_request_says_in_headers_what_it_is_about() {
    let url = serve(|asked| {
        if let Some(answer) = modern(&asked) {
            assert_eq!(asked.header("mcp-method"), "server/discover");
            return answer;
        }
        let said = ["mcp-protocol-version", "mcp-method", "mcp-name", "content-type", "accept"];
        asked.result(&json!(said.map(|name| asked.header(name))))
    })
    .await;
    let upstream = connect(url).await;
    let said = call(&upstream, "forecast").await.expect("answered");
    let expected =
        ["2026-07-28", "tools/call", "forecast", "application/json", "application/json, text/event-stream"];
    assert_eq!(said, json!(expected));
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let peers = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = Arc::clone(&peers);
    let url = serve(move |asked| {
        seen.lock().expect("alone").insert(asked.peer.port());
        // In one piece, and in several.
        let size = if asked.message["id"].as_u64().is_some_and(|id| id % 2 == 0) { 10 } else { 100_000 };
        modern(&asked).unwrap_or_else(|| asked.result(&json!({"text": "x".repeat(size)})))
    })
    .await;
    let upstream = connect(url).await;
    for _ in 0..20 {
        call(&upstream, "t").await.expect("answered");
    }
    assert!(peers.lock().expect("alone").len() <= 2, "{peers:?}");
}

#[tokio::test]
async fn whoever_looks_after_a_server_is_told_by_calls_that_it_is_gone_and_not_by_its_own_look() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/mcp", listener.local_addr().expect("bound"));
    // It says once what it is, and is gone.
    let server = async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut asked = Vec::new();
        while !asked.ends_with(b"}") {
            assert!(stream.read_buf(&mut asked).await.expect("a request") > 0);
        }
        let found = json!({"jsonrpc": "2.0", "id": 1, "result":
            {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}})
        .to_string();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
        let answer = format!("{head}content-length: {}\r\n\r\n{found}", found.len());
        stream.write_all(answer.as_bytes()).await.expect("somebody reads");
    };
    let told = Arc::new(AtomicUsize::new(0));
    let tells = Arc::clone(&told);
    let connecting = Upstream::connect(Channel::Http { url }, Greeting::Unknown, LONG, move || {
        tells.fetch_add(1, Ordering::Relaxed);
    });
    let (upstream, ()) = tokio::join!(connecting, server);
    let upstream = upstream.unwrap_or_else(|error| panic!("{error}"));
    let empty = params("t", &json!({}));
    for _ in 0..3 {
        let error = upstream.look("tools/list", Params::of(&empty), LONG).await.expect_err("it is gone");
        assert!(matches!(error, CallError::Gone(_)), "{error}");
    }
    assert_eq!(told.load(Ordering::Relaxed), 0, "or it would look without end");
    call(&upstream, "t").await.expect_err("it is gone");
    assert_eq!(told.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn answers_that_are_none_fail_the_call_alone() {
    let url = serve(|asked| {
        if let Some(answer) = modern(&asked) {
            return answer;
        }
        match asked.message["params"]["name"].as_str().expect("a name") {
            "refused" => asked.error(404, -32601),
            "page" => respond(500, "text/html", "<html>"),
            "other" => respond(200, "application/json", r#"{"jsonrpc":"2.0","id":5,"result":{}}"#),
            "nothing" => accepted(),
            "long" => respond(200, "application/json", vec![b' '; 17 << 20]),
            "cut" => respond(200, "text/event-stream", ": nothing came\n\n"),
            "elsewhere" => {
                let mut response = respond(307, "text/plain", "");
                response.headers_mut().insert("location", "http://192.0.2.1/mcp".parse().expect("a header"));
                response
            }
            _ => asked.result(&json!({})),
        }
    })
    .await;
    let upstream = connect(url).await;
    for (tool, message) in [
        ("refused", "the server answered: no"),
        ("page", "the server's answer cannot be used: HTTP 500 Internal Server Error"),
        ("other", "the server's answer cannot be used: it is not the answer to the request"),
        ("nothing", "the server's answer cannot be used: HTTP 202 Accepted without a body"),
        ("long", "the server's answer is longer than 16777216 bytes"),
        ("cut", "the server is not there: the stream ended before the answer"),
        (
            "elsewhere",
            "the server's answer cannot be used: HTTP 307 it redirects to another host, which is not followed",
        ),
    ] {
        let error = call(&upstream, tool).await.expect_err(tool);
        assert_eq!(error.to_string(), message);
        call(&upstream, "fine").await.expect("the next one is answered");
    }
}

#[tokio::test]
async fn a_move_on_the_same_host_is_followed_and_remembered() {
    let count = Arc::new(AtomicUsize::new(0));
    let moved = Arc::clone(&count);
    let url = serve(move |asked| {
        if asked.path == "/mcp" {
            moved.fetch_add(1, Ordering::SeqCst);
            let mut response = respond(307, "text/plain", "");
            response.headers_mut().insert("location", "/mcp/".parse().expect("a header"));
            return response;
        }
        modern(&asked).unwrap_or_else(|| asked.result(&json!({})))
    })
    .await;
    let upstream = connect(url).await;
    call(&upstream, "t").await.expect("answered");
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn requests_within_a_stream_are_answered_and_the_connection_kept() {
    let replies = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&replies);
    let url = serve(move |asked| {
        if let Some(answer) = legacy(&asked, "s") {
            return answer;
        }
        if asked.method().is_empty() {
            heard.lock().expect("alone").push(asked.message);
            return accepted();
        }
        let answer = json!({"jsonrpc": "2.0", "id": asked.message["id"], "result": {"n": 1}});
        let events = format!(
            "event: message\r\ndata: {}\r\n\r\n: keep-alive\n\nid: 1\ndata: {answer}\n\ndata: after\n\n",
            json!({"jsonrpc": "2.0", "id": "p", "method": "ping"})
        );
        respond(200, "text/event-stream", events)
    })
    .await;
    let upstream = connect(url).await;
    for _ in 0..3 {
        assert_eq!(call(&upstream, "t").await.expect("answered"), json!({"n": 1}));
    }
    upstream.close().await;
    let replies = replies.lock().expect("alone");
    assert_eq!(*replies, vec![json!({"jsonrpc": "2.0", "id": "p", "result": {}}); 3]);
}

#[tokio::test]
async fn a_legacy_stream_that_breaks_is_taken_up_where_it_ended() {
    let asked_for = Arc::new(Mutex::new(Value::Null));
    let url = serve(move |asked| {
        if asked.http == Method::GET && asked.headers.contains_key("last-event-id") {
            assert_eq!((asked.header("last-event-id"), asked.header("mcp-session-id")), ("s-7", "s"));
            let answer = json!({"jsonrpc": "2.0", "id": *asked_for.lock().expect("alone"), "result": {}});
            return respond(200, "text/event-stream", format!("id: s-8\ndata: {answer}\n\n"));
        }
        if let Some(answer) = legacy(&asked, "s") {
            return answer;
        }
        *asked_for.lock().expect("alone") = asked.message["id"].clone();
        respond(200, "text/event-stream", "id: s-7\nretry: 1\ndata:\n\n")
    })
    .await;
    let upstream = connect(url).await;
    assert_eq!(call(&upstream, "t").await.expect("answered"), json!({}));
}

#[tokio::test]
async fn a_legacy_server_is_told_of_a_cancelled_call() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let url = serve(move |asked| {
        if let Some(answer) = legacy(&asked, "s") {
            return answer;
        }
        let _ = told.send(asked.message);
        // It takes for ever.
        let never = futures::stream::pending::<std::io::Result<Bytes>>();
        respond(200, "text/event-stream", Body::from_stream(never))
    })
    .await;
    let upstream = connect(url).await;
    let cancel = CancellationToken::new();
    let context = CallContext { cancel: cancel.clone(), ..CallContext::default() };
    let empty = params("t", &json!({}));
    let call = upstream.call("tools/call", Params::of(&empty), LONG, &context);
    let server = async {
        let request = heard.recv().await.expect("a call");
        cancel.cancel();
        let told = heard.recv().await.expect("told");
        assert_eq!(told["method"], "notifications/cancelled");
        assert_eq!(told["params"]["requestId"], request["id"]);
    };
    let (outcome, ()) = tokio::join!(call, server);
    assert!(matches!(outcome, Err(CallError::Cancelled)));
}

#[tokio::test]
async fn a_server_that_listens_late_is_waited_for_and_one_that_never_does_is_told_of() {
    let port = Port::new();
    let url = format!("http://{}/mcp", port.address);
    let late = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let listener = TcpListener::bind(port.address).await.expect("the port");
        let app = Router::new().fallback(|body: Bytes| async move {
            let message: Value = serde_json::from_slice(&body).expect("JSON");
            let result = json!({"supportedVersions": ["2026-07-28"], "capabilities": {}});
            json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string()
        });
        tokio::task::spawn(async move { axum::serve(listener, app).await });
    };
    let (upstream, ()) = tokio::join!(connect(url), late);
    assert_eq!(upstream.handshake().protocol, "modern 2026-07-28");

    let nobody = Port::new();
    let url = format!("http://{}/mcp", nobody.address);
    let never = Duration::from_secs(1);
    let refused = Upstream::connect(Channel::Http { url }, Greeting::Unknown, never, || {}).await;
    let Err(error) = refused else { panic!("nobody listens") };
    assert!(error.to_string().contains("within 1.0s, at last: "), "{error}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
}
