//! A server elsewhere, in this process: many tools that say again what they are told.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::any;
use http::{HeaderMap, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Served until it is dropped.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    _end: DropGuard,
}

impl Upstream {
    /// With `count` tools `t0000` and so on, whose descriptions have so many letters.
    pub(crate) fn start(count: usize, letters: usize) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), count, letters)
    }

    /// The same at an address that is held, where another one may have been before.
    pub(crate) fn start_at(at: SocketAddr, count: usize, letters: usize) -> Self {
        let tool = |n: usize| {
            json!({
                "name": format!("t{n:04}"),
                "description": "x".repeat(letters),
                "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}},
            })
        };
        let tools: Arc<Value> = Arc::new((0..count).map(tool).collect());
        let end = CancellationToken::new();
        let (told, address) = std::sync::mpsc::channel();
        let until = end.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind(at).await.unwrap();
                told.send(listener.local_addr().unwrap()).unwrap();
                let respond = move |method: http::Method, headers: HeaderMap, body: Bytes| {
                    let tools = Arc::clone(&tools);
                    async move {
                        if method == http::Method::POST {
                            respond(&headers, &body, &tools)
                        } else {
                            answer(StatusCode::METHOD_NOT_ALLOWED, None)
                        }
                    }
                };
                let router = Router::new().route("/mcp", any(respond));
                let listener = axum::serve::ListenerExt::tap_io(listener, |io| drop(io.set_nodelay(true)));
                tokio::select! {
                    served = axum::serve(listener, router) => served.unwrap(),
                    () = until.cancelled() => {}
                }
            });
        });
        Self { address: address.recv().unwrap(), _end: end.drop_guard() }
    }

    /// It as a `Server` of that name, with more of its `spec`.
    pub(crate) fn declared(&self, name: &str, more: &str) -> String {
        format!(
            "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {{name: {name}}}\nspec:\n  source: {{url: \"http://{}/mcp\"}}\n{more}\n",
            self.address
        )
    }
}

fn respond(headers: &HeaderMap, body: &[u8], tools: &Value) -> Response<Body> {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let id = &request["id"];
    if id.is_null() {
        return answer(StatusCode::ACCEPTED, None);
    }
    let modern = headers.get("mcp-protocol-version").is_some_and(|version| version == "2026-07-28");
    let server = json!({"name": "many", "version": "1"});
    let result = match request["method"].as_str().unwrap_or_default() {
        "server/discover" if modern => json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
            "ttlMs": 0, "cacheScope": "public", "_meta": {"io.modelcontextprotocol/serverInfo": server},
        }),
        "tools/list" => json!({"resultType": "complete", "tools": tools, "ttlMs": 0, "cacheScope": "public"}),
        "tools/call" => {
            let text = &request["params"]["arguments"]["text"];
            json!({"resultType": "complete", "content": [{"type": "text", "text": text}]})
        }
        method => {
            let error = json!({"code": -32601, "message": format!("no method {method}")});
            let body = json!({"jsonrpc": "2.0", "id": id, "error": error});
            return answer(StatusCode::NOT_FOUND, Some(&body));
        }
    };
    answer(StatusCode::OK, Some(&json!({"jsonrpc": "2.0", "id": id, "result": result})))
}

fn answer(status: StatusCode, body: Option<&Value>) -> Response<Body> {
    let response = Response::builder().status(status);
    match body {
        Some(body) => response.header(header::CONTENT_TYPE, "application/json").body(body.to_string().into()),
        None => response.body(Body::empty()),
    }
    .unwrap()
}
