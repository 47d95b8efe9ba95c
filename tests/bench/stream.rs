//! Connections that are begun and left: their first answer is read, what they are for is not.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};

/// A modern request on a connection of its own, and what came until `until` did.
pub(crate) fn begin(address: SocketAddr, method: &str, mut params: Value, until: &str) -> TcpStream {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let mut stream = TcpStream::connect(address).unwrap();
    let more = format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\n");
    send(&mut stream, address, "POST", &more, &body);
    hear(&mut stream, until);
    stream
}

/// A subscription to changes of tools.
pub(crate) fn follow(address: SocketAddr) -> TcpStream {
    let filter = json!({"notifications": {"toolsListChanged": true}});
    begin(address, "subscriptions/listen", filter, "subscriptions/acknowledged")
}

/// A session that is opened and ended.
pub(crate) fn session(address: SocketAddr) {
    let client = json!({"name": "bench", "version": "1"});
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).to_string();
    let mut stream = TcpStream::connect(address).unwrap();
    send(&mut stream, address, "POST", "", &body);
    let said = hear(&mut stream, "protocolVersion");
    let session = said.lines().find_map(|line| line.strip_prefix("mcp-session-id: ")).unwrap();
    send(&mut stream, address, "DELETE", &format!("Mcp-Session-Id: {session}\r\n"), "");
    hear(&mut stream, "HTTP/1.1 204");
}

fn send(stream: &mut TcpStream, address: SocketAddr, verb: &str, more: &str, body: &str) {
    let text = format!(
        "{verb} /mcp HTTP/1.1\r\nHost: {address}\r\nAccept: application/json, text/event-stream\r\n\
         Content-Type: application/json\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).unwrap();
}

fn hear(stream: &mut TcpStream, until: &str) -> String {
    let mut heard = Vec::new();
    let mut part = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&heard);
        if text.contains(until) {
            return text.into_owned();
        }
        let more = stream.read(&mut part).unwrap();
        assert!(more > 0, "closed after {text}");
        heard.extend_from_slice(&part[..more]);
    }
}
