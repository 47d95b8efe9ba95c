//! Requests byte by byte, as no well-behaved client writes them, and answers read strictly.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

/// Until an answer has come, on a busy machine. What is late is a failure.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);

pub(super) const MODERN: &str = "2026-07-28";
pub(super) const LEGACY: &str = "2025-11-25";

/// One request, with everything that a correct one has until it is taken away.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    verb: &'static str,
    target: String,
    version: &'static str,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Asked {
    pub(super) fn new(verb: &'static str, target: &str) -> Self {
        let headers = vec![("Host".to_owned(), b"{host}".to_vec())];
        Self { verb, target: target.to_owned(), version: "HTTP/1.1", headers, body: Vec::new() }
    }

    fn post(body: &Value) -> Self {
        Self::new("POST", "/mcp")
            .with("Content-Type", "application/json")
            .with("Accept", "application/json, text/event-stream")
            .body(body.to_string())
    }

    /// A request of 2026-07-28; its id is 7.
    pub(super) fn modern(method: &str, mut params: Value) -> Self {
        let named = params.get("name").or_else(|| params.get("uri")).and_then(Value::as_str);
        let named = named.map(str::to_owned);
        let meta = params.as_object_mut().unwrap().entry("_meta").or_insert_with(|| json!({}));
        meta["io.modelcontextprotocol/protocolVersion"] = MODERN.into();
        meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
        let asked = Self::post(&json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}))
            .with("MCP-Protocol-Version", MODERN)
            .with("Mcp-Method", method);
        match named {
            Some(name) => asked.with("Mcp-Name", name),
            None => asked,
        }
    }

    /// A request of 2025-11-25; its id is 7.
    pub(super) fn legacy(session: &str, method: &str, params: Value) -> Self {
        Self::post(&json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}))
            .with("MCP-Protocol-Version", LEGACY)
            .with("Mcp-Session-Id", session)
    }

    /// What a legacy client says of its own: a notification, or an answer.
    pub(super) fn said(session: &str, message: &Value) -> Self {
        Self::post(message).with("MCP-Protocol-Version", LEGACY).with("Mcp-Session-Id", session)
    }

    /// What a legacy client says first.
    pub(super) fn initialize() -> Self {
        let client = json!({"name": "it", "version": "1"});
        let params = json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client});
        Self::post(&json!({"jsonrpc": "2.0", "id": 7, "method": "initialize", "params": params}))
    }

    /// With this header, and no other of its name.
    pub(super) fn with(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.without(name).also(name, value)
    }

    /// With one more header.
    pub(super) fn also(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// With the text of the body changed.
    pub(super) fn edit(self, from: &str, to: &str) -> Self {
        let text = String::from_utf8(self.body.clone()).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        self.body(text.replace(from, to))
    }

    pub(super) fn verb(self, verb: &'static str) -> Self {
        Self { verb, ..self }
    }

    pub(super) fn target(self, target: &str) -> Self {
        Self { target: target.to_owned(), ..self }
    }

    pub(super) fn http(self, version: &'static str) -> Self {
        Self { version, ..self }
    }

    /// The body in chunks of this size.
    pub(super) fn chunked(mut self, size: usize) -> Self {
        let mut body = Vec::new();
        for chunk in self.body.chunks(size) {
            write!(body, "{:x}\r\n", chunk.len()).unwrap();
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\n");
        self.body = body;
        self.with("Transfer-Encoding", "chunked")
    }

    /// As it is sent to a host.
    pub(super) fn bytes(&self, host: &str) -> Vec<u8> {
        let mut bytes = format!("{} {} {}\r\n", self.verb, self.target.replace("{host}", host), self.version)
            .into_bytes();
        for (name, value) in &self.headers {
            let value: &[u8] = if value == b"{host}" { host.as_bytes() } else { value };
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        let says_length = |name: &str| {
            name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("transfer-encoding")
        };
        if !self.body.is_empty() && !self.headers.iter().any(|(name, _)| says_length(name)) {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// One answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn is_stream(&self) -> bool {
        self.header("content-type") == Some("text/event-stream")
    }

    /// The JSON-RPC message: the body, or the last event of a stream.
    pub(super) fn message(&self) -> Value {
        let text = String::from_utf8(self.body.clone()).unwrap();
        let last = text.lines().rev().find_map(|line| line.strip_prefix("data: ")).unwrap_or(&text);
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {}", self.shown()))
    }

    /// The code of its error; 0 when there is none.
    pub(super) fn code(&self) -> i64 {
        if self.body.is_empty() { 0 } else { self.message()["error"]["code"].as_i64().unwrap_or(0) }
    }

    /// The beginning, for failures.
    pub(super) fn shown(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        format!("{} {}", self.status, text.chars().take(300).collect::<String>())
    }

    /// Panics unless it is empty or one JSON-RPC response, to the request 7 or to one that could not be read.
    #[track_caller]
    pub(super) fn check(&self, what: &str) {
        if self.body.is_empty() {
            return;
        }
        let message = self.message();
        assert_eq!(message["jsonrpc"], "2.0", "{what}: {}", self.shown());
        let id = message.get("id");
        assert!(id.is_none_or(|id| id == 7 || id.is_null()), "{what}: {}", self.shown());
        let error = message.get("error");
        assert!(message.get("result").is_some() != error.is_some(), "{what}: {}", self.shown());
        if let Some(error) = error {
            assert!(error["code"].is_i64() && error["message"].is_string(), "{what}: {}", self.shown());
        } else {
            assert_eq!(message["id"], 7, "{what}: {}", self.shown());
        }
    }
}

/// A connection.
pub(super) struct Wire {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Wire {
    /// To `127.0.0.1:PORT`.
    pub(super) fn open(host: &str) -> Self {
        let stream = TcpStream::connect(host).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream), host: host.to_owned() }
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The other side may have refused before it has all: then what it said is still there to read.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.get_mut().write_all(bytes);
    }

    pub(super) fn ask(&mut self, asked: &Asked) -> Answer {
        let bytes = asked.bytes(&self.host);
        self.send(&bytes);
        self.answer().unwrap_or_else(|error| panic!("{error}: {asked:?}"))
    }

    /// Nothing more is sent. The other side may be gone already.
    pub(super) fn finish(&mut self) {
        let _ = self.stream.get_mut().shutdown(Shutdown::Write);
    }

    /// The next answer, whole.
    pub(super) fn answer(&mut self) -> std::io::Result<Answer> {
        let mut answer = self.head()?;
        let length = answer.header("content-length").map(|length| length.parse::<usize>().unwrap());
        match length {
            Some(length) => {
                answer.body = vec![0; length];
                self.stream.read_exact(&mut answer.body)?;
            }
            None if answer.header("transfer-encoding") == Some("chunked") => {
                while let Some(chunk) = self.chunk()? {
                    answer.body.extend_from_slice(&chunk);
                }
            }
            None if matches!(answer.status, 202 | 204) => {}
            None => drop(self.stream.read_to_end(&mut answer.body)?),
        }
        Ok(answer)
    }

    /// Status and headers of the next answer, whose body is still to come.
    pub(super) fn head(&mut self) -> std::io::Result<Answer> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| std::io::Error::other(format!("no status line: {first:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        if status == 100 {
            return self.head();
        }
        Ok(Answer { status, headers, body: Vec::new() })
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches("\r\n").to_owned())
    }

    /// The next chunk of a body; none at its end.
    pub(super) fn chunk(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let size = self.line()?;
        let size = usize::from_str_radix(&size, 16).map_err(std::io::Error::other)?;
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk)?;
        chunk.truncate(size);
        Ok((size > 0).then_some(chunk))
    }

    /// Whether the other side has closed, without another byte.
    pub(super) fn is_closed(&mut self) -> bool {
        matches!(self.stream.fill_buf(), Ok([]) | Err(_))
    }
}
