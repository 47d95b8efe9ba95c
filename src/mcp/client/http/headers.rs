//! The headers of a request: what both eras want, and what intermediaries route by.
//!
//! Source: MCP 2026-07-28 `basic/transports/streamable-http` (SEP-2243), 2025-11-25 `basic/transports`.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::mcp::client::Params;

const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
pub(in crate::mcp::client) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("toolcrib/", env!("CARGO_PKG_VERSION")));

/// What every request says once a server has been greeted.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::mcp::client) struct Spoken {
    pub(in crate::mcp::client) version: HeaderValue,
    /// Whether the headers that mirror the body are wanted.
    pub(in crate::mcp::client) modern: bool,
    pub(in crate::mcp::client) session: Option<HeaderValue>,
}

impl Spoken {
    pub(in crate::mcp::client) fn modern() -> Self {
        Self { version: HeaderValue::from_static(crate::mcp::wire::MODERN), modern: true, session: None }
    }
}

/// What a message says of itself in headers; empty towards legacy servers.
#[derive(Default)]
pub(in crate::mcp::client) struct Mirrored(Vec<(HeaderName, HeaderValue)>);

impl Mirrored {
    /// The method, and what of `params` the method is about.
    pub(in crate::mcp::client) fn of(method: &str, params: Option<Params<'_>>) -> Self {
        let mut headers = Vec::with_capacity(2);
        let written = match method {
            "tools/call" => Some(HeaderValue::from_static("tools/call")),
            other => HeaderValue::from_str(other).ok(),
        };
        headers.extend(written.map(|method| (METHOD, method)));
        let key = match method {
            "tools/call" | "prompts/get" => Some("name"),
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => Some("uri"),
            "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
            _ => None,
        };
        let name = key.zip(params).and_then(|(key, params)| params.text(key));
        headers.extend(name.and_then(|name| encode(&name)).map(|name| (NAME, name)));
        Self(headers)
    }

    /// Adds an `Mcp-Param-…` header.
    pub(in crate::mcp::client) fn push(&mut self, name: &HeaderName, value: &str) {
        self.0.extend(encode(value).map(|value| (name.clone(), value)));
    }

    #[cfg(test)]
    pub(in crate::mcp::client) fn pairs(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default())).collect()
    }
}

/// A value that cannot travel as it is goes in Base64.
fn encode(value: &str) -> Option<HeaderValue> {
    let plain = value.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && value.trim_matches(' ') == value
        && !(value.starts_with("=?base64?") && value.ends_with("?="));
    let value = if plain {
        Cow::Borrowed(value)
    } else {
        Cow::Owned(format!("=?base64?{}?=", BASE64_STANDARD.encode(value)))
    };
    HeaderValue::from_str(&value).ok()
}

/// The headers of a POST.
pub(in crate::mcp::client) fn post(spoken: Option<&Spoken>, mirrored: Mirrored) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(ACCEPT, BOTH);
    base(&mut headers, spoken);
    if spoken.is_some_and(|spoken| spoken.modern) {
        headers.extend(mirrored.0);
    }
    headers
}

/// The headers of a GET that opens a stream before anything was said.
pub(in crate::mcp::client) fn events() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    base(&mut headers, None);
    headers
}

/// The headers of a GET (the stream of a session) or DELETE.
pub(in crate::mcp::client) fn session(spoken: &Spoken) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    base(&mut headers, Some(spoken));
    headers
}

/// The headers of a GET that takes up a stream after its event `id`.
pub(in crate::mcp::client) fn resume(spoken: &Spoken, id: &str) -> Option<HeaderMap> {
    let mut headers = session(spoken);
    headers.insert(LAST_EVENT, HeaderValue::from_str(id).ok()?);
    Some(headers)
}

fn base(headers: &mut HeaderMap, spoken: Option<&Spoken>) {
    headers.insert(USER_AGENT, AGENT);
    if let Some(spoken) = spoken {
        headers.insert(PROTOCOL_VERSION, spoken.version.clone());
        headers.extend(spoken.session.clone().map(|session| (SESSION, session)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_mirrored_and_wrapped_only_when_it_must_be() {
        let cases = [
            ("forecast", "forecast"),
            ("", ""),
            (" edge", "=?base64?IGVkZ2U=?="),
            ("wétter", "=?base64?d8OpdHRlcg==?="),
            ("=?base64?x?=", "=?base64?PT9iYXNlNjQ/eD89?="),
        ];
        for (name, header) in cases {
            let params =
                crate::mcp::wire::raw::into_raw(format!("{{\"name\":{}}}", crate::mcp::wire::quote(name)))
                    .expect("JSON");
            let headers =
                post(Some(&Spoken::modern()), Mirrored::of("tools/call", Some(Params::of(&params))));
            assert_eq!(headers["mcp-name"], header);
            assert_eq!(headers["mcp-method"], "tools/call");
        }
        let legacy = Spoken { modern: false, ..Spoken::modern() };
        assert!(!post(Some(&legacy), Mirrored::of("tools/call", None)).contains_key("mcp-method"));
    }
}
