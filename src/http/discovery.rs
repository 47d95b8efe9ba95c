//! How others find what is served here: the read side of the MCP registry's API v0.1, server cards, and the
//! AI catalog that names them.
//!
//! Answers come from memory, are the same for everybody who sees the same, and carry an `ETag`. They are
//! nobody's business to keep: what is listed depends on who asks and on the commit that is served. Source:
//! the registry's `OpenAPI` of 2025-12-01, `ServerList` and `ServerResponse`; the draft of SEP-2127 as of July
//! 2026 (`<endpoint>/server-card`, `/.well-known/ai-catalog.json`), and the address that its drafts of before
//! had (`/.well-known/mcp/server-card.json`).

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::json;

use crate::convert::listing::{CARD_TYPE, Listing, Query};
use crate::policy::Principal;
use crate::resource::Digest;

/// Whoever answers is to be asked each time, by whom the answer was for.
const CACHED: HeaderValue = HeaderValue::from_static("private, no-cache");
const JSON: &str = "application/json";
const CATALOG_TYPE: &str = "application/ai-catalog+json";

/// What is served, as it is listed for somebody.
pub trait Directory: Send + Sync {
    /// None: whoever has this listener to themselves.
    fn listing(&self, principal: Option<&Arc<Principal>>) -> Arc<Listing>;
}

/// Whether a path may be one of [`routes`].
pub fn may_be(path: &str) -> bool {
    path.ends_with("/server-card") || path.starts_with("/v0.1/") || path.starts_with("/.well-known/")
}

/// The routes by which we are found.
pub fn routes(directory: Arc<dyn Directory>) -> Router {
    Router::new()
        .route("/v0.1/servers", get(servers))
        .route("/v0.1/servers/{name}/versions", get(versions))
        .route("/v0.1/servers/{name}/versions/{version}", get(version))
        .route("/mcp/server-card", get(card))
        .route("/mcp/{toolset}/server-card", get(card_of))
        .route("/.well-known/mcp/server-card.json", get(card))
        .route("/.well-known/ai-catalog.json", get(catalog))
        .with_state(directory)
}

type Shared = State<Arc<dyn Directory>>;

fn seen(directory: &Arc<dyn Directory>, request: &Request) -> Arc<Listing> {
    directory.listing(request.extensions().get())
}

async fn servers(State(directory): Shared, RawQuery(query): RawQuery, request: Request) -> Response {
    // Only to have its pairs decoded.
    let url = reqwest::Url::parse(&format!("http://localhost/?{}", query.unwrap_or_default()));
    let Ok(url) = url else { return refused(StatusCode::BAD_REQUEST, "the query cannot be read") };
    match Query::of(url.query_pairs()) {
        Ok(query) => answer(request.headers(), JSON, seen(&directory, &request).page(&query).into()),
        Err(why) => refused(StatusCode::BAD_REQUEST, &why),
    }
}

async fn versions(State(directory): Shared, Path(name): Path<String>, request: Request) -> Response {
    match seen(&directory, &request).versions(&name) {
        Some(text) => answer(request.headers(), JSON, text.into()),
        None => refused(StatusCode::NOT_FOUND, &format!("there is no server `{name}`")),
    }
}

async fn version(
    State(directory): Shared,
    Path((name, version)): Path<(String, String)>,
    request: Request,
) -> Response {
    if let Some(text) = seen(&directory, &request).version(&name, &version) {
        return answer(request.headers(), JSON, Bytes::copy_from_slice(text.as_bytes()));
    }
    let why = format!("there is no version `{version}` of `{name}`: only what is served is listed");
    refused(StatusCode::NOT_FOUND, &why)
}

async fn card(State(directory): Shared, request: Request) -> Response {
    carded(&seen(&directory, &request), None, request.headers())
}

async fn card_of(State(directory): Shared, Path(toolset): Path<String>, request: Request) -> Response {
    carded(&seen(&directory, &request), Some(&toolset), request.headers())
}

fn carded(listing: &Listing, toolset: Option<&str>, headers: &HeaderMap) -> Response {
    match listing.card(toolset) {
        Some(card) => answer(headers, CARD_TYPE, card),
        None => refused(StatusCode::NOT_FOUND, "there is no such toolset"),
    }
}

async fn catalog(State(directory): Shared, request: Request) -> Response {
    answer(request.headers(), CATALOG_TYPE, seen(&directory, &request).ai_catalog.clone())
}

/// An answer, unless whoever asks has it already.
fn answer(asked: &HeaderMap, kind: &'static str, bytes: Bytes) -> Response {
    let tag = format!("\"{}\"", Digest::of_bytes(&bytes).short());
    let known = asked.get_all(IF_NONE_MATCH).iter().any(|known| has(known, &tag));
    let mut response = Response::new(if known { Body::empty() } else { Body::from(bytes) });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        headed(&mut response, CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    headed(&mut response, CACHE_CONTROL, CACHED);
    response.headers_mut().extend(HeaderValue::from_str(&tag).ok().map(|tag| (ETAG, tag)));
    response
}

fn headed(response: &mut Response, name: HeaderName, value: HeaderValue) {
    response.headers_mut().insert(name, value);
}

/// Whether `If-None-Match` names an answer: compared weakly (RFC 9110, 13.1.2).
fn has(known: &HeaderValue, tag: &str) -> bool {
    let known = known.to_str().unwrap_or_default();
    known
        .split(',')
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// A refusal in the form of the API.
fn refused(status: StatusCode, why: &str) -> Response {
    let mut response = Response::new(Body::from(json!({"error": why}).to_string()));
    *response.status_mut() = status;
    headed(&mut response, CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}
