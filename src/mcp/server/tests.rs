//! The wire rules of both eras, on the endpoint itself with a handler of a few tools.

mod legacy;
mod limits;
mod modern;

use std::collections::BTreeSet;
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
use crate::mcp::client::{Updated, Upstreams, Watch};
use crate::mcp::wire::ErrorObject;
use crate::ports::{CallContext, CallEvent};
use crate::resource::Name;

/// Tools: `echo` (its parameters), `told` (progress and logs first), `stuck` (until it is cancelled),
/// `long` (until it is let go), `mine` (a parameter in a header).
struct Fixture {
    changes: watch::Sender<Changes>,
    cancelled: Arc<Notify>,
    go: Arc<Notify>,
    done: Arc<Notify>,
    upstreams: Upstreams,
    updates: tokio::sync::broadcast::Sender<Updated>,
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
                    events.tell(progress(1.0, "one\n"));
                    events.tell(CallEvent::Log(r#"{"level":"debug","data":"low"}"#.into()));
                    events.tell(CallEvent::Log(r#"{"level":"error","data":"high"}"#.into()));
                    events.tell(progress(2.0, "two"));
                }
                Ok(Reply::Whole("{\"content\":[]}".into()))
            }
            (Method::ToolsCall, Some("stuck")) => {
                let _dropped = NotifyOnDrop(Arc::clone(&self.cancelled));
                if let Some(events) = &context.events {
                    events.tell(CallEvent::Progress { progress: 1.0, total: None, message: None });
                }
                context.cancel.cancelled().await;
                Err(ErrorObject::new(1, "cancelled"))
            }
            (Method::ToolsCall, Some("long")) => {
                if let Some(events) = &context.events {
                    events.tell(CallEvent::Progress { progress: 1.0, total: None, message: None });
                }
                self.go.notified().await;
                self.done.notify_one();
                Ok(Reply::Whole("{}".into()))
            }
            (Method::ToolsCall, Some("bad")) => Err(ErrorObject::new(-32602, "unknown tool")),
            (Method::ToolsCall | Method::ResourcesRead, _) => Ok(Reply::Whole(params().into())),
            (method, _) => Err(ErrorObject::new(-32601, format!("there is no {}", method.as_str()))),
        }
    }

    fn admit(&self, scope: &Scope, _: &Principal) -> Result<(), Unserved> {
        match scope {
            Scope::Toolset(name) if &**name == "closed" => Err(Unserved::Forbidden("closed to you".into())),
            Scope::Toolset(name) if &**name != "data" => Err(Unserved::Absent("no such toolset".into())),
            _ => Ok(()),
        }
    }

    fn changes(&self, _: &Scope) -> watch::Receiver<Changes> {
        self.changes.subscribe()
    }

    fn about(&self, _: &Scope) -> About {
        About { instructions: Some("be \"kind\"".into()), completions: true, subscribe: true, tasks: true }
    }

    fn watch(&self, _: &Request, uri: &str) -> Result<Watch, ErrorObject> {
        let watch = || self.upstreams.watch(&Name::parse("s").expect("a name"), uri).expect("room");
        if uri == "x://none" { Err(ErrorObject::new(-32602, "none")) } else { Ok(watch()) }
    }

    /// Tasks are told at once that have another id than `hidden`; with `gone` they end.
    async fn tasks(
        self: Arc<Self>,
        _: Request,
        mut ids: BTreeSet<String>,
    ) -> Result<TaskStates, ErrorObject> {
        ids.remove("hidden");
        let state = |id: &String| {
            let state = json!({"taskId": id, "_meta": {"io.modelcontextprotocol/subscriptionId": 9, "x": 1}});
            serde_json::value::to_raw_value(&state).expect("JSON")
        };
        let states: Vec<_> = ids.iter().map(state).collect();
        let goes_on = futures::stream::iter((!ids.contains("gone")).then_some(futures::stream::pending()));
        Ok(TaskStates { ids, states: futures::stream::iter(states).chain(goes_on.flatten()).boxed() })
    }

    fn updates(&self) -> tokio::sync::broadcast::Receiver<Updated> {
        self.updates.subscribe()
    }

    fn param_headers(&self, _: &Scope, tool: &str, _: &Principal) -> Arc<[ParamHeader]> {
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
        upstreams: Upstreams::default(),
        updates: tokio::sync::broadcast::channel(8).0,
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
