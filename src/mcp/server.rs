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
mod quota;
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
pub use handler::{About, Changes, Handler, TaskStates};
pub use quota::{Excess, Held, OnExcess, Quotas};
pub use reply::Reply;
pub use request::{Meta, Method, Request, SessionOf};
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
    users: quota::Users,
    /// Ends streams; calls go on until the listener's own grace is over.
    shutdown: CancellationToken,
    streams: Arc<Semaphore>,
    /// Calls of legacy clients that went away: they run to their end.
    detached: TaskTracker,
}

impl Endpoint {
    /// Without limits of single principals.
    pub fn new(handler: Arc<dyn Handler>, shutdown: CancellationToken) -> Arc<Self> {
        Self::limited(handler, shutdown, Quotas::default(), Arc::new(|_| {}))
    }

    /// With limits of each principal. `on_excess` hears of requests refused for them.
    pub fn limited(
        handler: Arc<dyn Handler>,
        shutdown: CancellationToken,
        quotas: Quotas,
        on_excess: OnExcess,
    ) -> Arc<Self> {
        Arc::new(Self {
            handler,
            sessions: session::Sessions::new(session::LIMITS),
            users: quota::Users::new(quotas, on_excess),
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
        let user = self.users.of(&principal);
        let asked = Asked { headers: parts.headers, principal, scope, user };
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
        let arriving = self.users.hold(&asked.user, Excess::Bodies, None)?;
        let max = self.users.max_body();
        let reading = tokio::time::timeout(BODY_TIMEOUT, body::read(&asked.headers, body, max));
        let late = |_| Refusal::status(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
        let bytes = reading.await.map_err(late)?.inspect_err(|refused| {
            if refused.status == StatusCode::PAYLOAD_TOO_LARGE {
                self.users.exceeded(Excess::Body);
            }
        })?;
        drop(arriving);
        let message = wire::parse(&bytes, max).map_err(|error| {
            Refusal::error(StatusCode::BAD_REQUEST, None, error.code(), error.to_string())
        })?;
        match message {
            Message::Request { id, method, params } => {
                // Notifications and answers are taken always: one may be what ends a call, or lets it go on.
                let held = self.users.request(&asked.user, &id)?;
                let request = Request { held, ..request::read(id, &method, params, asked)? };
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
    user: quota::User,
}

/// A request that is not served, as HTTP says so.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    /// Of the request, when it could be read.
    id: Option<wire::Id>,
    error: wire::ErrorObject,
    /// When it is worth to try again.
    after: Option<Duration>,
    /// What a token has to be good for.
    challenge: Option<Box<str>>,
}

impl Refusal {
    fn status(status: StatusCode, message: &str) -> Self {
        Self::error(status, None, wire::code::INVALID_REQUEST, message)
    }

    fn error(status: StatusCode, id: Option<&wire::Id>, code: i64, message: impl Into<String>) -> Self {
        Self {
            status,
            id: id.cloned(),
            error: wire::ErrorObject::new(code, message),
            after: None,
            challenge: None,
        }
    }

    fn after(self, after: Duration) -> Self {
        Self { after: Some(after), ..self }
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
        if let Some(after) = self.after {
            response.headers_mut().insert(header::RETRY_AFTER, after.as_secs().into());
        }
        let challenge = self.challenge.and_then(|challenge| http::HeaderValue::from_str(&challenge).ok());
        response.headers_mut().extend(challenge.map(|challenge| (header::WWW_AUTHENTICATE, challenge)));
        response
    }
}

impl From<Unserved> for Refusal {
    fn from(unserved: Unserved) -> Self {
        match unserved {
            Unserved::Absent(why) => Self::status(StatusCode::NOT_FOUND, &why),
            Unserved::Forbidden(why) => Self::status(StatusCode::FORBIDDEN, &why),
            Unserved::Scopes { why, challenge } => {
                Self { challenge: Some(challenge.into()), ..Self::status(StatusCode::FORBIDDEN, &why) }
            }
        }
    }
}

fn accepted() -> Response<Payload> {
    let mut response = Response::new(Payload::default());
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}
