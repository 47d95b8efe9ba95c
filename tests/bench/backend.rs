//! An MCP server that does next to nothing, so that what a gateway adds is seen.
//!
//! It runs in a process of its own: this program again, with [`ARGUMENT`].

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::routing::any;
use serde_json::{Value, json};

/// What this program is called with to become the server: then a port and a number of tools.
pub(crate) const ARGUMENT: &str = "--backend";

/// The server as a child.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Backend {
    pub(crate) fn start(tools: usize) -> Self {
        let address = crate::daemon::free_address();
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(program);
        command.args([ARGUMENT, &address.port().to_string(), &tools.to_string()]).stdout(Stdio::null());
        let child = command.spawn().unwrap();
        crate::daemon::wait_for(address);
        Self { address, child }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until it is killed.
pub(crate) fn serve(arguments: &[String]) {
    let port: u16 = arguments[0].parse().unwrap();
    let count: usize = arguments[1].parse().unwrap();
    let tools: Vec<Value> = (0..count).map(definition).collect();
    let list: &'static Value = Box::leak(Box::new(Value::Array(tools)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let router = Router::new().route(
            "/mcp",
            any(move |headers: HeaderMap, method: axum::http::Method, body: Bytes| async move {
                if method != "POST" {
                    return answer(StatusCode::METHOD_NOT_ALLOWED, String::new());
                }
                respond(&headers, &body, list)
            }),
        );
        axum::serve(axum::serve::ListenerExt::tap_io(listener, |io| drop(io.set_nodelay(true))), router)
            .await
            .unwrap();
    });
}

fn definition(n: usize) -> Value {
    json!({
        "name": format!("echo{n}"),
        "description": "Says again what it is told, as a server of a benchmark does",
        "inputSchema": {"type": "object", "properties": {"text": {"type": "string", "description": "What to say"}}},
    })
}

fn respond(headers: &HeaderMap, body: &[u8], tools: &Value) -> Response<Body> {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let id = &request["id"];
    if id.is_null() {
        return answer(StatusCode::ACCEPTED, String::new());
    }
    let modern = headers.get("mcp-protocol-version").is_some_and(|version| version == "2026-07-28");
    let server = json!({"name": "bench", "version": "1"});
    let result = match request["method"].as_str().unwrap_or_default() {
        "initialize" => json!({
            "protocolVersion": request["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": server,
        }),
        "server/discover" if modern => json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
            "ttlMs": 0, "cacheScope": "public", "_meta": {"io.modelcontextprotocol/serverInfo": server},
        }),
        "ping" => json!({}),
        "tools/list" => json!({"resultType": "complete", "tools": tools, "ttlMs": 0, "cacheScope": "public"}),
        "tools/call" => {
            let text = &request["params"]["arguments"]["text"];
            json!({"resultType": "complete", "content": [{"type": "text", "text": text}]})
        }
        method => {
            let error = json!({"code": -32601, "message": format!("no method {method}")});
            let status = if modern { StatusCode::NOT_FOUND } else { StatusCode::OK };
            return answer(status, json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string());
        }
    };
    answer(StatusCode::OK, json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string())
}

fn answer(status: StatusCode, body: String) -> Response<Body> {
    let response = Response::builder().status(status);
    let response =
        if body.is_empty() { response } else { response.header(header::CONTENT_TYPE, "application/json") };
    response.body(body.into()).unwrap()
}
