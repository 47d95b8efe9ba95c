//! A client that costs as little as possible: one connection, blocking, no parsing beyond framing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

/// Which protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Era {
    /// 2026-07-28.
    Modern,
    /// 2025-11-25.
    Legacy,
}

impl Era {
    /// Its newest protocol version.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::Modern => "2026-07-28",
            Self::Legacy => "2025-11-25",
        }
    }
}

/// A connection to an MCP endpoint.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
    path: String,
    era: Era,
    /// The bearer token that it shows.
    token: Option<String>,
    session: Option<String>,
    next: u64,
}

impl Client {
    /// Connects and, in the legacy era, shakes hands.
    pub(crate) fn connect(host: SocketAddr, path: &str, era: Era) -> std::io::Result<Self> {
        Self::connect_as(host, path, era, None)
    }

    /// The same, with a bearer token.
    pub(crate) fn connect_as(
        host: SocketAddr,
        path: &str,
        era: Era,
        token: Option<String>,
    ) -> std::io::Result<Self> {
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let stream = BufReader::with_capacity(1 << 16, stream);
        let mut client = Self { stream, host, path: path.to_owned(), era, token, session: None, next: 0 };
        if era == Era::Legacy {
            client.request(
                "initialize",
                None,
                json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}),
            )?;
            let body = json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string();
            client.send("notifications/initialized", None, &body)?;
            client.receive()?;
        }
        Ok(client)
    }

    /// One request and the bytes of its answer.
    pub(crate) fn request(
        &mut self,
        method: &str,
        name: Option<&str>,
        params: Value,
    ) -> std::io::Result<Vec<u8>> {
        let body = self.body(method, params);
        self.exchange(method, name, &body)
    }

    /// The text of a request, so that writing it is not measured.
    pub(crate) fn body(&mut self, method: &str, mut params: Value) -> String {
        self.next += 1;
        if self.era == Era::Modern {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
            });
        }
        json!({"jsonrpc": "2.0", "id": self.next, "method": method, "params": params}).to_string()
    }

    /// Sends a request and waits for all of its answer.
    pub(crate) fn exchange(
        &mut self,
        method: &str,
        name: Option<&str>,
        body: &str,
    ) -> std::io::Result<Vec<u8>> {
        self.send(method, name, body)?;
        self.receive()
    }

    fn send(&mut self, method: &str, name: Option<&str>, body: &str) -> std::io::Result<()> {
        use std::fmt::Write as _;
        let version = self.era.version();
        let mut head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n",
            self.path,
            self.host,
            body.len()
        );
        if method != "initialize" {
            let _ = write!(head, "MCP-Protocol-Version: {version}\r\n");
        }
        if self.era == Era::Modern {
            let _ = write!(head, "Mcp-Method: {method}\r\n");
            if let Some(name) = name {
                let _ = write!(head, "Mcp-Name: {name}\r\n");
            }
        }
        if let Some(token) = &self.token {
            let _ = write!(head, "Authorization: Bearer {token}\r\n");
        }
        if let Some(session) = &self.session {
            let _ = write!(head, "Mcp-Session-Id: {session}\r\n");
        }
        head.push_str("\r\n");
        head.push_str(body);
        self.stream.get_mut().write_all(head.as_bytes())
    }

    fn receive(&mut self) -> std::io::Result<Vec<u8>> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status: u16 = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let (mut length, mut chunked) = (0, false);
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap_or(0),
                "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
                "mcp-session-id" => self.session = Some(value.to_owned()),
                _ => {}
            }
        }
        let body = if chunked { self.chunks()? } else { self.exactly(length)? };
        if (200..300).contains(&status) {
            return Ok(body);
        }
        Err(std::io::Error::other(format!("HTTP {status}: {}", String::from_utf8_lossy(&body))))
    }

    fn exactly(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    fn chunks(&mut self) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        let mut line = String::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim_end(), 16).map_err(std::io::Error::other)?;
            body.extend(self.exactly(size)?);
            line.clear();
            self.stream.read_line(&mut line)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
}

/// The JSON of an answer, which may stand in an event stream.
pub(crate) fn json_of(body: &[u8]) -> Value {
    let text = String::from_utf8_lossy(body);
    let data =
        text.lines().filter_map(|line| line.strip_prefix("data:")).find(|data| data.contains("\"id\""));
    serde_json::from_str(data.unwrap_or(&text)).unwrap_or_else(|error| panic!("{error}: {text}"))
}
