//! What is served where: `/mcp/<toolset>` and `/mcp@<revision>` beside `/mcp`, on the built daemon.

mod audit;
mod discovery;
mod links;
mod operator;
mod revision;
mod search;
mod toolset;

use serde_json::{Value, json};

use crate::support::Daemon;

/// `TEXT` as a resource of a process runner that says its own name.
pub(crate) fn tool(name: &str, labels: &str, description: &str) -> String {
    format!(
        "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Tool\nmetadata: {{name: {name}, labels: {{{labels}}}}}\nspec: {{description: {description}, command: [echo, {name}]}}\n"
    )
}

pub(crate) const RUNNER: &str =
    "apiVersion: toolcrib.dev/v1alpha1\nkind: Runner\nmetadata: {name: local}\nspec: {process: {}}\n";

pub(crate) fn toolset(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Toolset\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

/// A request with everything a modern one has, or with a session: status and body.
pub(crate) fn post(url: &str, headers: &[(&str, &str)], body: &Value) -> (u16, Value) {
    crate::support::tls();
    let mut request = reqwest::Client::new()
        .post(url)
        .header("accept", "application/json")
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let response = request.body(body.to_string()).send().await.unwrap();
        let status = response.status().as_u16();
        let session = response.headers().get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
        let mut body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        if let Some(session) = session {
            body["session"] = session.into();
        }
        (status, body)
    })
}

/// Names of the tools at an endpoint.
pub(crate) fn names_at(url: &str) -> Vec<String> {
    let listed = crate::follow::ask_at(url, "tools/list", json!({}));
    let tools = listed["tools"].as_array().unwrap_or_else(|| panic!("{listed}"));
    tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

/// The status of a modern `tools/list` at an endpoint, and the message of its error.
pub(crate) fn refused_at(url: &str, more: &[(&str, &str)]) -> (u16, String) {
    let headers = [&[("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/list")], more].concat();
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "it", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
    let (status, body) = post(url, &headers, &body);
    (status, body["error"]["message"].as_str().unwrap_or_default().to_owned())
}

/// A stream of a modern subscription: the names of its notifications, as they come.
pub(crate) struct Heard(std::sync::mpsc::Receiver<String>);

impl Heard {
    pub(crate) fn at(daemon: &Daemon, path: &str) -> Self {
        Self::watching(daemon, path, &[])
    }

    /// Also of these resources: their URI follows the name.
    pub(crate) fn watching(daemon: &Daemon, path: &str, uris: &[&str]) -> Self {
        use std::io::{BufRead as _, Write as _};
        let address = daemon.mcp.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": {
            "notifications": {"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true, "resourceSubscriptions": uris},
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "it", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        }})
        .to_string();
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\ncontent-type: application/json\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: subscriptions/listen\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in std::io::BufReader::new(stream).lines().map_while(Result::ok) {
                let Some(data) = line.strip_prefix("data: ") else { continue };
                let message: Value = serde_json::from_str(data).unwrap();
                let mut name = message["method"].as_str().map_or_else(|| "end".to_owned(), str::to_owned);
                if let Some(uri) = message["params"]["uri"].as_str() {
                    name = format!("{name} {uri}");
                }
                if sender.send(name).is_err() {
                    return;
                }
            }
        });
        let heard = Self(receiver);
        assert_eq!(heard.next(), "notifications/subscriptions/acknowledged");
        heard
    }

    pub(crate) fn next(&self) -> String {
        self.0.recv_timeout(crate::follow::SOON).expect("an event")
    }
}
