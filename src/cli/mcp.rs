//! One MCP request over HTTP, in the era that needs no handshake (2026-07-28).

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use serde_json::{Value, json};

use super::error::{CliError, CliResult};
use crate::mcp::client::{Answer, PostError, Poster};
use crate::mcp::wire::{MODERN, code, meta};

/// Bytes of one event of a stream: a result with an image or two in it.
const MAX_EVENT: usize = 64 << 20;
/// Bytes of an answer: a result with a few of them.
const MAX_ANSWER: usize = 256 << 20;
/// The id of the only request of a connection.
const ID: u64 = 1;

/// An MCP endpoint.
pub(super) struct Endpoint {
    poster: Poster,
    url: Uri,
    authorization: Option<HeaderValue>,
}

/// One request.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub(super) method: &'a str,
    /// What `Mcp-Name` says: the tool.
    pub(super) name: Option<&'a str>,
    pub(super) params: serde_json::Map<String, Value>,
    pub(super) limit: Duration,
}

impl Endpoint {
    /// `authorities` are certificates (PEM) that are trusted besides the system's.
    ///
    /// # Errors
    /// When `url` is no address of a web server, or the certificates are none.
    pub(super) fn parse(url: &str, authorities: &[u8]) -> CliResult<Self> {
        let wrong = || {
            CliError::usage(format!("`{url}` is not an http or https address"))
                .hint("write the address of the MCP endpoint, such as http://127.0.0.1:7800/mcp")
        };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        if uri.authority().is_none() || !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong());
        }
        let poster = Poster::new(&uri, authorities).map_err(|error| {
            CliError::usage(format!("`{url}` cannot be asked"))
                .caused_by(&error)
                .hint("look at the address, and at the file of --ca-file")
        })?;
        Ok(Self { poster, url: uri, authorization: None })
    }

    /// With what is shown to those who want to know who asks.
    pub(super) fn authorized(self, authorization: Option<HeaderValue>) -> Self {
        Self { authorization, ..self }
    }

    /// Sends one request; `hear` gets the notifications that come before its result.
    ///
    /// # Errors
    /// When nobody answers in time, or the answer is an error.
    pub(super) async fn ask(&self, ask: Ask<'_>, hear: &mut dyn FnMut(&Value)) -> CliResult<Value> {
        let limit = ask.limit;
        let work = async {
            let request = self.request(ask)?;
            let answer = self.poster.send(request).await.map_err(|error| self.unanswered(&error))?;
            let kind = answer.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            if kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
                return stream(answer, hear).await;
            }
            let status = answer.status;
            if status == StatusCode::UNAUTHORIZED {
                return Err(CliError::failure("the endpoint wants to know who asks")
                    .hint("put the token you were given in the variable TOOLCRIB_TOKEN"));
            }
            let body = answer.all(MAX_ANSWER).await.map_err(|error| broken().caused_by(&error))?;
            let message: Value = serde_json::from_slice(&body).map_err(|error| {
                CliError::failure(format!("{} answered {status}, and no JSON", self.url)).caused_by(&error)
            })?;
            outcome(message)
        };
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            Err(CliError::failure(format!("no result within {} s", limit.as_secs()))
                .hint("allow more time with --timeout"))
        })
    }

    fn unanswered(&self, error: &PostError) -> CliError {
        match error {
            PostError::Unreached(reason) => {
                let error = CliError::failure(format!("no daemon answers at {}", self.url)).cause(reason);
                if reason.contains("CaUsedAsEndEntity") {
                    error.hint(
                        "its certificate is that of an authority (CA:TRUE): let an authority sign one for it",
                    )
                } else if reason.contains("certificate") {
                    error.hint("name the certificate of its authority with --ca-file")
                } else {
                    error.hint("start one with `toolcrib run --repo PATH`, or name another with --url")
                }
            }
            PostError::Failed(error) => broken().caused_by(error),
        }
    }

    fn request(&self, ask: Ask<'_>) -> CliResult<Request<Bytes>> {
        let Ask { method, name, mut params, limit: _ } = ask;
        let about = json!({
            meta::PROTOCOL_VERSION: MODERN,
            meta::CLIENT_INFO: {"name": "toolcrib", "version": env!("CARGO_PKG_VERSION")},
            meta::CLIENT_CAPABILITIES: {},
            meta::LOG_LEVEL: "info",
            "progressToken": ID,
        });
        params.insert("_meta".to_owned(), about);
        let body = json!({"jsonrpc": "2.0", "id": ID, "method": method, "params": params}).to_string();
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&self.url)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream")
            .header("mcp-protocol-version", MODERN)
            .header("mcp-method", method);
        if let Some(name) = name {
            request = request.header("mcp-name", name);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.body(body.into()).map_err(|error| {
            CliError::usage("the request cannot be written as HTTP")
                .caused_by(&error)
                .hint("names of tools have letters, digits, `_` and `-`")
        })
    }
}

/// Reads events until the result comes.
async fn stream(mut answer: Answer, hear: &mut dyn FnMut(&Value)) -> CliResult<Value> {
    let mut events = Events::default();
    while let Some(data) = answer.chunk().await.map_err(|error| broken().caused_by(&error))? {
        for text in events.feed(&data)? {
            let message: Value = serde_json::from_str(&text).map_err(|error| {
                CliError::failure("the answer holds an event that is no JSON").caused_by(&error)
            })?;
            if message.get("method").is_some() {
                hear(&message);
            } else {
                return outcome(message);
            }
        }
    }
    Err(CliError::failure("the answer ended without a result")
        .hint("`toolcrib logs server/NAME` shows what the server said"))
}

fn broken() -> CliError {
    CliError::failure("the answer broke off")
}

/// The result of a response, or its error.
fn outcome(mut message: Value) -> CliResult<Value> {
    if let Some(error) = message.get("error") {
        let text = error.get("message").and_then(Value::as_str).unwrap_or("(no message)");
        let code = error.get("code").and_then(Value::as_i64).unwrap_or_default();
        if let Some(name) = text.strip_prefix("unknown tool ") {
            return Err(no_tool(name));
        }
        let error = CliError::failure(format!("the endpoint answered with error {code}: {text}"));
        return Err(match code {
            code::INVALID_PARAMS | code::METHOD_NOT_FOUND => {
                error.hint("`toolcrib tools NAME` shows what a tool takes")
            }
            _ => error,
        });
    }
    match message.get_mut("result") {
        Some(result) => Ok(result.take()),
        None => Err(CliError::failure("the answer has neither a result nor an error")
            .hint("is this the address of an MCP endpoint?")),
    }
}

/// For a name, in backticks, that nothing served has.
pub(super) fn no_tool(quoted: &str) -> CliError {
    CliError::failure(format!("there is no tool {quoted}")).hint("`toolcrib tools` lists what is served")
}

/// Server-sent events out of the bytes of a body.
#[derive(Debug, Default)]
struct Events {
    rest: Vec<u8>,
    data: String,
}

impl Events {
    /// The `data` of the events that are complete now.
    fn feed(&mut self, bytes: &[u8]) -> CliResult<Vec<String>> {
        if self.rest.len() + bytes.len() + self.data.len() > MAX_EVENT {
            return Err(CliError::failure("the answer holds an event of more than 64 MiB"));
        }
        self.rest.extend_from_slice(bytes);
        let mut complete = Vec::new();
        let mut from = 0;
        while let Some(length) = self.rest[from..].iter().position(|byte| *byte == b'\n') {
            let line =
                self.rest[from..from + length].strip_suffix(b"\r").unwrap_or(&self.rest[from..from + length]);
            let line = String::from_utf8_lossy(line).into_owned();
            from += length + 1;
            if line.is_empty() {
                if !self.data.is_empty() {
                    complete.push(std::mem::take(&mut self.data));
                }
            } else if let Some(data) = line.strip_prefix("data:") {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            }
        }
        self.rest.drain(..from);
        Ok(complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_they_are_cut() {
        let text = ": hello\r\nevent: message\ndata: {\"a\":\ndata: 1}\n\n\nid: 7\ndata:two\n\n";
        for size in [1, 3, 7, 1000] {
            let mut events = Events::default();
            let found: Vec<String> =
                text.as_bytes().chunks(size).flat_map(|chunk| events.feed(chunk).unwrap()).collect();
            assert_eq!(found, ["{\"a\":\n1}", "two"], "in pieces of {size}");
        }
    }

    #[test]
    fn addresses_are_http() {
        for good in ["http://localhost/mcp?x", "https://h/mcp", "HTTPS://h:1"] {
            assert!(Endpoint::parse(good, &[]).is_ok(), "{good}");
        }
        for bad in ["127.0.0.1:7800", "/mcp", "ftp://h/mcp", "http://169.254.169.254/mcp"] {
            assert!(Endpoint::parse(bad, &[]).is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_of_the_endpoint_are_errors() {
        let error = outcome(json!({"error": {"code": -32602, "message": "no such tool"}})).unwrap_err();
        assert_eq!(format!("{error:?}").matches("-32602: no such tool").count(), 1);
        assert_eq!(outcome(json!({"result": {"ok": true}})).unwrap(), json!({"ok": true}));
    }
}
