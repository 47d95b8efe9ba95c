//! Our side as a server: streamable HTTP in both eras, on one endpoint.
//!
//! Input: HTTP requests, and a [`Handler`] that knows what the methods mean. Output: HTTP responses.
//! Invariants: what is inside parameters and results is not looked at beyond what the transport
//! needs; a request is served by the rules of the one era it belongs to; every list, body and stream
//! here is bounded. Not here: what a method does (the gateway), connections and who may connect
//! (`http`). Source: MCP 2026-07-28 and 2025-11-25, `basic/transports`.

mod body;
mod handler;
mod headers;
mod legacy;
mod listen;
mod modern;
mod reply;
mod request;
mod respond;
mod scope;
mod session;
mod sse;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method as Verb, Response, StatusCode, header};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::wire::{self, Message};
use crate::policy::Principal;

pub use body::Payload;
pub use handler::{About, Changes, Handler};
pub use reply::Reply;
pub use request::{Level, Meta, Method, Request, SessionOf};
pub use scope::{Scope, Unserved};

/// Bytes of one request: what the SDKs take, and several times what a model can write.
pub const MAX_BODY: usize = 4 << 20;
/// From the head of a request to the end of its body: a slow sender holds nothing for longer.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Streams that stay open, of both eras: each costs a connection and a few KiB.
const MAX_STREAMS: usize = 10_000;

/// The endpoint.
pub struct Endpoint {
    handler: Arc<dyn Handler>,
    sessions: session::Sessions,
    /// Ends streams; calls go on until the listener's own grace is over.
    shutdown: CancellationToken,
    streams: Arc<Semaphore>,
    /// Calls of legacy clients that went away: they run to their end.
    detached: TaskTracker,
}

impl Endpoint {
    pub fn new(handler: Arc<dyn Handler>, shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            handler,
            sessions: session::Sessions::new(session::LIMITS),
            shutdown,
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            detached: TaskTracker::new(),
        })
    }

    /// Waits for calls whose clients went away.
    pub async fn drained(&self) {
        self.detached.close();
        self.detached.wait().await;
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        MAX_STREAMS - self.streams.available_permits()
    }

    /// How many calls go on whose clients went away.
    pub fn detached(&self) -> usize {
        self.detached.len()
    }

    /// How many sessions of legacy clients there are.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Answers one HTTP request. Dropping the future is what a lost connection means in the era of
    /// the request: the end of a modern call, nothing to a legacy one.
    pub async fn handle<B>(
        self: &Arc<Self>,
        request: http::Request<B>,
        principal: Arc<Principal>,
    ) -> Response<Payload>
    where
        B: hyper::body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let Some(scope) = Scope::of_path(parts.uri.path()) else {
            let message = "MCP is served at /mcp, /mcp/<toolset> and /mcp@<revision>";
            return Refusal::status(StatusCode::NOT_FOUND, message).into_response();
        };
        if let Err(unserved) = self.handler.admit(&scope, &principal) {
            return Refusal::from(unserved).into_response();
        }
        let asked = Asked { headers: parts.headers, principal, scope };
        let answered = match parts.method {
            Verb::POST => self.post(&asked, body).await,
            Verb::GET => legacy::get(self, &asked),
            Verb::DELETE => legacy::delete(self, &asked),
            _ => Err(Refusal::status(
                StatusCode::METHOD_NOT_ALLOWED,
                "only POST, GET and DELETE are served here",
            )),
        };
        answered.unwrap_or_else(Refusal::into_response)
    }

    async fn post<B>(self: &Arc<Self>, asked: &Asked, body: B) -> Result<Response<Payload>, Refusal>
    where
        B: hyper::body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        headers::content_type(&asked.headers)?;
        let reading = tokio::time::timeout(BODY_TIMEOUT, body::read(&asked.headers, body, MAX_BODY));
        let bytes = reading
            .await
            .map_err(|_| Refusal::status(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"))??;
        let message = wire::parse(&bytes, MAX_BODY).map_err(|error| {
            Refusal::error(StatusCode::BAD_REQUEST, None, error.code(), error.to_string())
        })?;
        match message {
            Message::Request { id, method, params } => {
                let request = request::read(id, &method, params, asked)?;
                drop(bytes);
                if headers::is_modern(&asked.headers, &request)? {
                    modern::request(self, asked, request).await
                } else {
                    legacy::request(self, asked, request).await
                }
            }
            Message::Notification { method, params } => {
                if headers::version(&asked.headers)? == Some(wire::MODERN) {
                    return Ok(accepted());
                }
                legacy::notification(self, asked, &method, params)
            }
            Message::Response { id, outcome } => legacy::response(self, asked, id, outcome),
        }
    }
}

/// What the transport knows of a request besides its body.
struct Asked {
    headers: HeaderMap,
    principal: Arc<Principal>,
    scope: Scope,
}

/// A request that is not served, as HTTP says so.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    /// Of the request, when it could be read.
    id: Option<wire::Id>,
    error: wire::ErrorObject,
}

impl Refusal {
    fn status(status: StatusCode, message: &str) -> Self {
        Self::error(status, None, wire::code::INVALID_REQUEST, message)
    }

    fn error(status: StatusCode, id: Option<&wire::Id>, code: i64, message: impl Into<String>) -> Self {
        Self { status, id: id.cloned(), error: wire::ErrorObject::new(code, message) }
    }

    fn bad(id: &wire::Id, code: i64, message: impl Into<String>) -> Self {
        Self::error(StatusCode::BAD_REQUEST, Some(id), code, message)
    }

    /// The same, as the answer to a request.
    fn about(self, id: &wire::Id) -> Self {
        Self { id: Some(id.clone()), ..self }
    }

    fn into_response(self) -> Response<Payload> {
        let text = reply::failure(self.id.as_ref(), &self.error);
        let mut response = respond::json(self.status, Payload::full(text));
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(header::ALLOW, http::HeaderValue::from_static("POST, GET, DELETE"));
        }
        response
    }
}

impl From<Unserved> for Refusal {
    fn from(unserved: Unserved) -> Self {
        match unserved {
            Unserved::Absent(why) => Self::status(StatusCode::NOT_FOUND, &why),
            Unserved::Forbidden(why) => Self::status(StatusCode::FORBIDDEN, &why),
        }
    }
}

fn accepted() -> Response<Payload> {
    let mut response = Response::new(Payload::default());
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}
