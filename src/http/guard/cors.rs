//! Pages of other origins: what browsers have to be told before they let a page ask and read (CORS, as the
//! Fetch standard has it).
//!
//! Invariants: only declared origins are answered so, each by its name; no credentials of the browser are
//! asked for, as callers show tokens. A preflight comes without a token and is answered before one is
//! looked for.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

/// What a page may send besides what MCP calls its own (`mcp-…`).
const SENT: [&str; 8] = [
    "accept",
    "accept-language",
    "authorization",
    "baggage",
    "content-type",
    "last-event-id",
    "traceparent",
    "tracestate",
];
/// What a page may read besides the body.
const READ: HeaderValue = HeaderValue::from_static("mcp-session-id, www-authenticate, retry-after");
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE");
/// Seconds a browser remembers an answer: what is declared changes with the daemon's start alone.
const REMEMBERED: HeaderValue = HeaderValue::from_static("600");

/// The answer to a browser that asks whether it may send a request.
pub(super) fn preflight(method: &Method, headers: &HeaderMap) -> Option<Response> {
    if method != Method::OPTIONS || !headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let asked = headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let asked = asked.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let names = asked.map(|name| name.trim().to_ascii_lowercase());
    let sent: Vec<String> =
        names.filter(|name| SENT.contains(&name.as_str()) || name.starts_with("mcp-")).collect();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let answered = response.headers_mut();
    answered.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    answered.insert(header::ACCESS_CONTROL_MAX_AGE, REMEMBERED);
    if let Ok(sent) = HeaderValue::from_str(&sent.join(", "))
        && !sent.is_empty()
    {
        answered.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, sent);
    }
    Some(response)
}

/// Lets a page of `origin` read a response.
pub(super) fn allow(response: &mut Response, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, READ);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_told_what_a_page_may_send() {
        let mut headers = HeaderMap::new();
        assert!(preflight(&Method::OPTIONS, &headers).is_none(), "that is no preflight");
        headers.insert(header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("POST"));
        let asked = "Authorization,content-type, mcp-param-region, mcp-session-id, x-evil";
        headers.insert(header::ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static(asked));
        assert!(preflight(&Method::POST, &headers).is_none());
        let response = preflight(&Method::OPTIONS, &headers).expect("a preflight");
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert_eq!(
            response.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS],
            "authorization, content-type, mcp-param-region, mcp-session-id"
        );
        assert!(!response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }
}
