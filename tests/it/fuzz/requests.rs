//! Targets that are given requests: the endpoint of a gateway, and the tokens of callers.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use serde_json::value::RawValue;
use toolcrib::http::access::Tokens;
use toolcrib::http::{Access, Answer as _, Body, Peer, Router, any, authenticated};
use toolcrib::mcp::server::{Endpoint, Payload};
use toolcrib::mcp::wire::raw;
use toolcrib::policy::Principal;
use toolcrib::resource::Digest;

use super::engine::Target;
use super::targets::{target, texts};
use crate::gateway_unit::{endpoint, mirrored, tool};

/// An answer that takes longer never comes.
const PATIENCE: Duration = Duration::from_secs(10);

const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"x","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}"#;

/// Requests of both eras that are served: a verb and a path, headers, a blank line, a body.
fn seeds() -> Vec<Vec<u8>> {
    let json = "accept: application/json, text/event-stream\ncontent-type: application/json\n";
    let modern = |method: &str, name: &str, more: &str, params: &str| {
        format!(
            "POST /mcp\n{json}mcp-protocol-version: 2026-07-28\nmcp-method: {method}\nmcp-name: {name}\n{more}\n\
             {{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\",\"params\":{{{params}{META}}}}}"
        )
    };
    let legacy = |method: &str, params: &str| {
        format!(
            "POST /mcp\n{json}mcp-session-id: SESSION\nmcp-protocol-version: 2025-11-25\n\n\
             {{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"{method}\",\"params\":{params}}}"
        )
    };
    let initialize =
        r#"{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}"#;
    let all = [
        modern("tools/call", "a", "", r#""name":"a","arguments":{"n":1},"#),
        modern("tools/call", "m", "mcp-param-n: 7\n", r#""name":"m","arguments":{"n":7},"#),
        modern(
            "tools/call",
            "=?base64?bQ==?=",
            "mcp-param-n: =?base64?Nw==?=\n",
            r#""name":"m","arguments":{"n":7},"#,
        ),
        modern("tools/list", "", "", r#""cursor":"YS4xLjEwMDAudG9vbHM","#),
        modern("server/discover", "", "", ""),
        modern("subscriptions/listen", "", "", r#""notifications":{"toolsListChanged":true},"#),
        modern("resources/read", "x://1", "", r#""uri":"x://1","#),
        modern(
            "completion/complete",
            "",
            "",
            r#""ref":{"type":"ref/prompt","name":"a"},"argument":{"name":"a","value":""},"#,
        ),
        legacy("initialize", initialize),
        legacy("tools/call", r#"{"name":"a","arguments":{"n":1},"_meta":{"progressToken":"t"}}"#),
        legacy("tools/list", r#"{"cursor":"YS4xLjEwMDAudG9vbHM"}"#),
        legacy("logging/setLevel", r#"{"level":"debug"}"#),
        legacy("resources/subscribe", r#"{"uri":"x://1"}"#),
        "GET /mcp\naccept: text/event-stream\nmcp-session-id: SESSION\nlast-event-id: 1\n\n".to_owned(),
        "DELETE /mcp\nmcp-session-id: SESSION\n\n".to_owned(),
        format!(
            "POST /mcp\n{json}mcp-session-id: SESSION\n\n{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{{\"requestId\":1}}}}"
        ),
        format!(
            "POST /mcp/set\n{json}mcp-session-id: SESSION\n\n{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{}}}}"
        ),
    ];
    all.map(String::into_bytes).to_vec()
}

/// A head and a body, the first blank line between them.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let at = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(at);
    (head, body.strip_prefix(b"\n\n").unwrap_or(body))
}

fn request(head: &[u8], body: &[u8], session: &str) -> http::Request<Full<Bytes>> {
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut first = lines.next().unwrap_or_default().splitn(2, |byte| *byte == b' ');
    let verb = http::Method::from_bytes(first.next().unwrap_or_default()).unwrap_or(http::Method::POST);
    let target = first.next().unwrap_or_default();
    let target = http::Uri::try_from(target).unwrap_or(http::Uri::from_static("/mcp"));
    let mut request = http::Request::builder().method(verb).uri(target);
    for line in lines {
        let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = (&line[..at], line.get(at + 1..).unwrap_or_default().trim_ascii());
        let value = if value == b"SESSION" { session.as_bytes() } else { value };
        let header = (http::HeaderName::from_bytes(name), http::HeaderValue::from_bytes(value));
        if let (Ok(name), Ok(value)) = header {
            request = request.header(name, value);
        }
    }
    request.body(Full::new(Bytes::copy_from_slice(body))).unwrap()
}

/// An endpoint, and a session at it.
struct World {
    runtime: tokio::runtime::Runtime,
    endpoint: Arc<Endpoint>,
    session: RefCell<String>,
}

impl World {
    fn send(&self, request: http::Request<Full<Bytes>>) -> http::Response<Payload> {
        let principal = Arc::new(Principal { name: "x".to_owned(), ..Principal::default() });
        self.runtime.block_on(async {
            let answering = tokio::time::timeout(PATIENCE, self.endpoint.handle(request, principal));
            answering.await.expect("an answer")
        })
    }

    fn open(&self) {
        let seeds = seeds();
        let (head, body) = split(&seeds[8]);
        let opened = self.send(request(head, body, ""));
        self.session.replace(opened.headers()["mcp-session-id"].to_str().unwrap().to_owned());
    }

    /// Ends every session but ours, which is opened again when it was ended.
    fn tidy(&self, response: &http::Response<Payload>) {
        if let Some(opened) = response.headers().get("mcp-session-id") {
            let end = format!("DELETE /mcp\nmcp-session-id: {}\n", opened.to_str().unwrap());
            self.send(request(end.as_bytes(), b"", ""));
        }
        if self.endpoint.sessions() == 0 {
            self.open();
        }
        assert_eq!(self.endpoint.sessions(), 1, "nothing else opens sessions");
    }
}

/// Whatever is asked of the endpoint is answered in a way that the protocol has.
pub(super) fn http_requests() -> Target {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let endpoint = endpoint(&[tool("a", 1), mirrored("m", 1)]);
    let world = World { runtime, endpoint, session: RefCell::default() };
    world.open();
    target(
        seeds(),
        &[
            "mcp-session-id: ",
            "SESSION",
            "mcp-protocol-version: ",
            "mcp-method: ",
            "mcp-name: ",
            "mcp-param-n: ",
            "2025-06-18",
            "=?base64?aGk=?=",
            "initialize",
            "subscriptions/listen",
            "tools/list",
            "/mcp@",
            "/mcp/toolcrib",
            "content-length: 9\n",
            "content-encoding: gzip\n",
            "\"requestState\":\"AAAA\",",
            "\"inputResponses\":{},",
            "\"progressToken\":",
            "\"cursor\":",
            "\"id\":",
            "[{}]",
        ],
        move |bytes| {
            let (head, body) = split(bytes);
            let response = world.send(request(head, body, &world.session.borrow().clone()));
            world.tidy(&response);
            let status = response.status();
            let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
            assert!(!status.is_server_error(), "{status}");
            match kind.as_deref() {
                // A stream goes on until its client leaves.
                Some("text/event-stream") => format!("{status} events"),
                Some(kind) => {
                    assert_eq!(kind, "application/json");
                    let answer = world.runtime.block_on(response.into_body().collect()).unwrap().to_bytes();
                    assert!(answer.len() < 10 * bytes.len() + 10_000, "what is answered is bounded");
                    format!("{status} {}", checked(&answer, bytes))
                }
                None => {
                    assert!(matches!(status.as_u16(), 202 | 204), "{status} without a body");
                    status.to_string()
                }
            }
        },
    )
}

/// What an answer says, in a few words; it is a response of JSON-RPC, to what was sent.
fn checked(answer: &[u8], sent: &[u8]) -> String {
    let message: &RawValue = serde_json::from_slice(answer).expect("JSON");
    let member = |key: &str| raw::get(message, key).map(RawValue::get);
    assert_eq!(member("jsonrpc"), Some("\"2.0\""));
    if let Some(id) = member("id").filter(|id| *id != "null") {
        assert!(sent.windows(id.len()).any(|window| window == id.as_bytes()), "{id} was not sent");
    }
    let Some(error) = member("error") else {
        assert!(member("result").is_some() && member("id").is_some(), "a result is of a request");
        return "result".to_owned();
    };
    assert!(member("result").is_none(), "an error or a result");
    let error: Value = serde_json::from_str(error).expect("an error");
    assert!(error["code"].is_i64());
    error["message"].as_str().expect("a message").chars().take(30).collect()
}

/// What callers show, against the file of tokens: headers, a blank line, the file.
pub(super) fn bearers() -> Target {
    const HASH: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    let line = format!("ada:{HASH}:admin,developers\n");
    let mut seeds = vec![format!("Bearer secret\n\n{line}").into_bytes()];
    seeds.extend(texts(&[
        "bearer  secret \n\n# nobody\n",
        "Basic YTpi\n\nada:00:x\n",
        "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.\nBearer b\n\n",
    ]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    target(seeds, &["Bearer ", "secret", ":", "sha256:", "#", HASH], move |bytes| {
        let (head, lines) = split(bytes);
        std::fs::write(file.path(), lines).unwrap();
        let tokens = match Tokens::read(file.path()) {
            Ok(tokens) => tokens,
            Err(error) => {
                // What is wrong with a line may be that it is a token: it is not repeated.
                assert!(!error.chain().contains("secret"), "{}", error.chain());
                return error.chain().chars().filter(char::is_ascii_alphabetic).take(60).collect();
            }
        };
        let access =
            Access::new(Some(tokens), None, "http://localhost", Arc::new(|_| {}), Arc::new(|_| Vec::new()))
                .unwrap();
        let answer = authenticated(Router::new().fallback(any(async || "in")), Some(Arc::new(access)));
        let mut request = http::Request::builder().uri("/mcp");
        let mut shown = Vec::new();
        for value in head.split(|byte| *byte == b'\n') {
            if let Ok(header) = http::HeaderValue::from_bytes(value) {
                request = request.header("authorization", header);
                shown.push(value);
            }
        }
        let request = request.body(Body::empty()).unwrap();
        let status =
            runtime.block_on(answer.answer(request, Peer(std::net::Ipv4Addr::LOCALHOST.into()))).status();
        if status == http::StatusCode::OK {
            let [shown] = shown[..] else { panic!("more than one token was shown") };
            let token = shown.rsplit(|byte| *byte == b' ').find(|word| !word.is_empty()).unwrap();
            let hash = Digest::of_bytes(token).to_string();
            // Digits of either case are the same hash.
            let known = String::from_utf8_lossy(lines).to_ascii_lowercase();
            let known = known.contains(hash.trim_start_matches("sha256:"));
            assert!(known, "{hash} is in no line");
        } else {
            assert_eq!(status, http::StatusCode::UNAUTHORIZED);
        }
        status.to_string()
    })
}
