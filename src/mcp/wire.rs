//! JSON-RPC messages with everything inside them left as it came.
//!
//! Definitions, arguments and results are raw JSON from end to end: a field nobody here knows
//! arrives as it was sent. Source: JSON-RPC 2.0; MCP 2025-11-25 and 2026-07-28, `basic`.

pub mod raw;

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use smol_str::{SmolStr, format_smolstr};

/// The newest protocol version of each era that we speak, and all that we accept.
pub const MODERN: &str = "2026-07-28";
pub const LEGACY: &str = "2025-11-25";
pub const LEGACY_VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// Those of both eras, the newest first.
pub const VERSIONS: [&str; 5] = [MODERN, "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// Says that what a client was asked to do elsewhere is done (2025-11-25).
pub const ELICITED: &str = "notifications/elicitation/complete";

/// Keys of `_meta` (2026-07-28, `basic`).
pub mod meta {
    pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
    pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
    pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
    pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
}

/// Error codes (JSON-RPC 2.0, and MCP 2026-07-28).
pub mod code {
    pub const PARSE_ERROR: i64 = -32700;
    pub const INVALID_REQUEST: i64 = -32600;
    pub const METHOD_NOT_FOUND: i64 = -32601;
    pub const INVALID_PARAMS: i64 = -32602;
    pub const INTERNAL_ERROR: i64 = -32603;
    /// Of 2025-11-25: the user has to open an address first.
    pub const URL_ELICITATION_REQUIRED: i64 = -32042;
    /// One of ours, of those that JSON-RPC leaves to servers: a limit of the caller. It may come again later.
    pub const LIMIT_EXCEEDED: i64 = -32005;
    pub const HEADER_MISMATCH: i64 = -32020;
    pub const MISSING_CLIENT_CAPABILITY: i64 = -32021;
    pub const UNSUPPORTED_PROTOCOL_VERSION: i64 = -32022;
}

/// The `error` of a response.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorObject {
    pub code: i64,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
}

impl ErrorObject {
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// As raw JSON.
    pub fn to_json(&self) -> String {
        let data = self.data.as_ref().map_or_else(String::new, |data| format!(",\"data\":{}", data.get()));
        format!("{{\"code\":{},\"message\":{}{data}}}", self.code, quote(&self.message))
    }

    /// The error of a peer; one that is no error object is kept in `data`.
    fn from_raw(raw: &RawValue) -> Self {
        serde_json::from_str(raw.get()).unwrap_or_else(|_| Self {
            code: code::INTERNAL_ERROR,
            message: "the error of the answer has no code and message".to_owned(),
            data: Some(raw.to_owned()),
        })
    }
}

/// Which generation of the protocol a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Era {
    /// 2026-07-28: no handshake, everything in each request.
    Modern,
    /// 2025-11-25 and older: `initialize`, sessions.
    Legacy,
}

/// Longest message that is taken from anybody: what rmcp and the SDKs for Python and TypeScript
/// carry without trouble, and room for a base64 image of 12 MB.
pub const MAX_MESSAGE: usize = 16 << 20;

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("the message is longer than {0} bytes")]
    TooLong(usize),
    #[error("the message is not JSON")]
    Json(#[source] serde_json::Error),
    #[error("the message is not JSON-RPC 2.0: {0}")]
    Invalid(&'static str),
    #[error("{0} is not an object")]
    NotObject(&'static str),
}

impl WireError {
    /// The code a server answers such a message with.
    pub fn code(&self) -> i64 {
        match self {
            Self::Json(_) => code::PARSE_ERROR,
            Self::TooLong(_) | Self::Invalid(_) => code::INVALID_REQUEST,
            Self::NotObject(_) => code::INVALID_PARAMS,
        }
    }
}

/// Bytes of an id: it is repeated in every message of a subscription, and kept as long as its request.
const MAX_ID: usize = 1024;

/// The id of a request, as it was written: a JSON number or string.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(SmolStr);

impl Id {
    pub fn number(id: u64) -> Self {
        Self(format_smolstr!("{id}"))
    }

    pub fn text(id: &str) -> Self {
        Self(quote(id).into())
    }

    /// An id out of a message or a `requestId`; none when it is neither a number nor a string, or too
    /// long.
    pub fn from_raw(raw: &RawValue) -> Option<Self> {
        let first = raw.get().as_bytes().first().filter(|_| raw.get().len() <= MAX_ID)?;
        matches!(first, b'"' | b'-' | b'0'..=b'9').then(|| Self(SmolStr::new(raw.get())))
    }

    /// The number, when it is one that [`Id::number`] could have written.
    pub fn as_u64(&self) -> Option<u64> {
        self.0.parse().ok()
    }

    /// The JSON text.
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

/// One message, borrowed from the bytes it came in.
#[derive(Debug)]
pub enum Message<'a> {
    Request {
        id: Id,
        method: Cow<'a, str>,
        params: Option<&'a RawValue>,
    },
    Notification {
        method: Cow<'a, str>,
        params: Option<&'a RawValue>,
    },
    /// The id is none when the peer could not read the id of the request.
    Response {
        id: Option<Id>,
        outcome: Result<&'a RawValue, ErrorObject>,
    },
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    jsonrpc: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Text<'a>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// A string, borrowed where it has no escapes: within an option, serde would copy it.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Tells `null` from absent.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Reads one message of at most `max` bytes. Batches (2025-03-26 only) are refused.
pub fn parse(bytes: &[u8], max: usize) -> Result<Message<'_>, WireError> {
    if bytes.len() > max {
        return Err(WireError::TooLong(max));
    }
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(WireError::Invalid("batches are not supported"));
    }
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => WireError::Invalid("a member has the wrong type"),
        _ => WireError::Json(error),
    })?;
    if envelope.jsonrpc.is_none_or(|Text(version)| version != "2.0") {
        return Err(WireError::Invalid("`jsonrpc` is not \"2.0\""));
    }
    let id = envelope.id.filter(|id| id.get() != "null");
    let id = match id
        .map(|raw| Id::from_raw(raw).ok_or(WireError::Invalid("`id` is no number or short string")))
    {
        Some(id) => Some(id?),
        None => None,
    };
    match (envelope.method.map(|Text(method)| method), envelope.error, envelope.result) {
        (Some(method), None, None) => Ok(match (id, envelope.id) {
            (Some(id), _) => Message::Request { id, method, params: envelope.params },
            (None, None) => Message::Notification { method, params: envelope.params },
            (None, Some(_)) => return Err(WireError::Invalid("the `id` of a request is null")),
        }),
        (None, Some(error), _) => Ok(Message::Response { id, outcome: Err(ErrorObject::from_raw(error)) }),
        (None, None, Some(result)) if id.is_some() => Ok(Message::Response { id, outcome: Ok(result) }),
        _ => Err(WireError::Invalid("it is no request, notification or response")),
    }
}

/// Writes a request. `params` is JSON text; it is put in as it is, as below.
pub fn request(id: &Id, method: &str, params: Option<&str>) -> String {
    let mut text = open_request(id, method, params.map_or(0, str::len));
    if let Some(params) = params {
        push_member(&mut text, "params", params);
    }
    text.push('}');
    text
}

/// Writes a notification.
pub fn notification(method: &str, params: Option<&str>) -> String {
    message(None, &[("method", &quote(method))], ("params", params))
}

/// Writes the answer to a request that went well.
pub fn response(id: &Id, result: &str) -> String {
    message(Some(id.as_json()), &[], ("result", Some(result)))
}

/// Writes the answer to a request that did not; without `id` when it could not be read.
pub fn failure(id: Option<&Id>, error: &ErrorObject) -> String {
    message(Some(id.map_or("null", Id::as_json)), &[], ("error", Some(&error.to_json())))
}

/// Begins a request whose `params` come last: an object still open, with room for `room` bytes more.
pub(super) fn open_request(id: &Id, method: &str, room: usize) -> String {
    let mut text = String::with_capacity(64 + method.len() + room);
    text.push_str("{\"jsonrpc\":\"2.0\"");
    push_member(&mut text, "id", id.as_json());
    push_key(&mut text, "method");
    push_quoted(&mut text, method);
    text
}

fn message(id: Option<&str>, members: &[(&str, &str)], last: (&str, Option<&str>)) -> String {
    let mut text = String::with_capacity(96 + last.1.map_or(0, str::len));
    text.push_str("{\"jsonrpc\":\"2.0\"");
    for (key, value) in id.map(|id| ("id", id)).iter().chain(members) {
        push_member(&mut text, key, value);
    }
    if let Some(value) = last.1 {
        push_member(&mut text, last.0, value);
    }
    text.push('}');
    text
}

/// `text` is an object still open; `key` needs no escapes.
fn push_member(text: &mut String, key: &str, value: &str) {
    push_key(text, key);
    text.push_str(value);
}

/// The same, before its value is written.
pub(super) fn push_key(text: &mut String, key: &str) {
    if !text.ends_with('{') {
        text.push(',');
    }
    text.push('"');
    text.push_str(key);
    text.push_str("\":");
}

/// A string as JSON.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    push_quoted(&mut quoted, text);
    quoted
}

/// Writes a string as JSON.
fn push_quoted(out: &mut String, text: &str) {
    if text.bytes().any(|byte| byte < b' ' || matches!(byte, b'"' | b'\\')) {
        let _ = write!(out, "{}", serde_json::Value::from(text));
        return;
    }
    out.push('"');
    out.push_str(text);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_message_is_told_from_the_others() {
        let cases = [
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, "request 1 ping -"),
            (
                r#" {"id":"a\u0062","params":{"x": 1 },"method":"m","jsonrpc":"2.0","new":0}"#,
                r#"request "a\u0062" m {"x": 1 }"#,
            ),
            (r#"{"jsonrpc":"2.0","method":"n","params":null}"#, "notification n -"),
            (r#"{"jsonrpc":"2.0","id":-7,"result":null}"#, "result -7 null"),
            (r#"{"jsonrpc":"2.0","id":1,"result":{"a":1.0},"error":null}"#, r#"result 1 {"a":1.0}"#),
            (r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}}"#, "error null -32700 no"),
            (
                r#"{"jsonrpc":"2.0","id":1,"error":"bad"}"#,
                "error 1 -32603 the error of the answer has no code and message",
            ),
        ];
        for (text, kind) in cases {
            assert_eq!(told(&parse(text.as_bytes(), MAX_MESSAGE).expect(text)), kind);
        }
    }

    fn told(message: &Message<'_>) -> String {
        let raw = |raw: Option<&RawValue>| raw.map_or("-", RawValue::get).to_owned();
        match message {
            Message::Request { id, method, params } => {
                format!("request {} {method} {}", id.as_json(), raw(*params))
            }
            Message::Notification { method, params } => format!("notification {method} {}", raw(*params)),
            Message::Response { id, outcome } => {
                let id = id.as_ref().map_or("null", Id::as_json);
                match outcome {
                    Ok(result) => format!("result {id} {}", result.get()),
                    Err(error) => format!("error {id} {} {}", error.code, error.message),
                }
            }
        }
    }

    #[test]
    fn what_is_no_message_is_refused_with_the_right_code() {
        let cases = [
            ("{", code::PARSE_ERROR),
            ("[]", code::INVALID_REQUEST),
            ("1", code::INVALID_REQUEST),
            (r#"{"id":1,"method":"m"}"#, code::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":{},"method":"m"}"#, code::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#, code::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","method":"m","method":"n"}"#, code::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1}"#, code::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m","result":1}"#, code::INVALID_REQUEST),
        ];
        for (text, expected) in cases {
            let error = parse(text.as_bytes(), MAX_MESSAGE).expect_err(text);
            assert_eq!(error.code(), expected, "{text}: {error}");
        }
        assert!(matches!(parse(b"{}   ", 4), Err(WireError::TooLong(4))));
    }

    #[test]
    fn what_is_written_reads_back() {
        let id = Id::number(7);
        let error = ErrorObject {
            data: RawValue::from_string("[ 1]".to_owned()).ok(),
            ..ErrorObject::new(1, "a\"b")
        };
        for (text, kind) in [
            (request(&id, "tools/call", Some("{\"a\":  1}")), "request 7 tools/call {\"a\":  1}"),
            (notification("n/x", None), "notification n/x -"),
            (response(&id, "{}"), "result 7 {}"),
            (failure(Some(&id), &error), "error 7 1 a\"b"),
            (failure(None, &error), "error null 1 a\"b"),
        ] {
            assert_eq!(told(&parse(text.as_bytes(), MAX_MESSAGE).expect(kind)), kind);
        }
        assert_eq!(id.as_u64(), Some(7));
    }
}
