//! The streamable HTTP transport of both eras: a POST for each message, its answer as JSON or as a
//! stream of events that ends with it.
//!
//! Invariant: nothing is sent to another host than the one that was declared.

pub(super) mod headers;
mod pool;
pub(super) mod requests;
pub(super) mod sender;
pub(super) mod sse;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use self::headers::{Mirrored, Spoken};
use self::requests::Requests;
use self::sender::Body;
use super::http_sse::HttpSse;
use super::inbox::{Asked, Events, Inbox, Incoming};
use super::{Failure, Outgoing, Params};
use crate::mcp::wire::{self, MAX_MESSAGE, Message};
use crate::ports::{Channel, Credentials};

/// How long the rest of a stream whose answer is there is read, so that its connection can be used
/// again; servers end it at once.
const DRAIN: Duration = Duration::from_secs(1);

/// How long a message that nobody waits for may take.
pub(super) const TELL: Duration = Duration::from_secs(5);

/// Before a stream is taken up again: at least, and at most whatever the server says.
const RESUME: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(10)];

/// How much of an answer that is no JSON-RPC is read to explain it.
pub(super) const EXPLANATION: usize = 64 << 10;

pub(super) struct Http {
    inbox: Arc<Inbox>,
    tasks: TaskTracker,
    requests: Requests,
    url: ArcSwap<Uri>,
    /// None until the server has been greeted.
    spoken: ArcSwapOption<Spoken>,
    /// Whether the server was asked for the stream of a session, and answered.
    pub(super) opened: watch::Sender<bool>,
    /// Held by whoever opens a new session.
    pub(super) renewing: tokio::sync::Mutex<()>,
}

/// An answer, and the session a server opened with it.
pub(super) struct Answer {
    pub(super) result: Box<RawValue>,
    pub(super) session: Option<HeaderValue>,
}

impl Http {
    pub(super) fn new(
        url: &str,
        credentials: Option<Arc<dyn Credentials>>,
        inbox: Arc<Inbox>,
        tasks: TaskTracker,
    ) -> Result<Arc<Self>, Failure> {
        let (url, requests) = Requests::to(url, credentials)?;
        let url = ArcSwap::from_pointee(url);
        let renewing = tokio::sync::Mutex::new(());
        let (spoken, opened) = (ArcSwapOption::empty(), watch::Sender::default());
        Ok(Arc::new(Self { inbox, tasks, requests, url, spoken, opened, renewing }))
    }

    /// The address, after moves.
    pub(super) fn address(&self) -> String {
        self.url.load().to_string()
    }

    pub(super) fn spoken(&self) -> Option<Arc<Spoken>> {
        self.spoken.load_full()
    }

    pub(super) fn speak(&self, spoken: Spoken) {
        self.spoken.store(Some(Arc::new(spoken)));
    }

    /// Sends a request in the way that was agreed and waits for its answer. Dropped before, the stream
    /// is closed, which a modern server takes as a cancellation, and a legacy one is told.
    pub(super) async fn exchange(self: &Arc<Self>, request: Outgoing<'_>) -> Result<Box<RawValue>, Failure> {
        let spoken = self.spoken.load();
        // What is said on a subscription comes on its own stream.
        let listens = request.events.filter(|_| !request.standing);
        let guard = Guard {
            link: self,
            id: request.id,
            told: !request.cancellable || spoken.as_ref().is_none_or(|spoken| spoken.modern),
            listens: listens.is_some(),
        };
        if let Some(events) = listens {
            self.inbox.listen(request.id, events);
        }
        let outcome = self.answer(request, spoken.as_deref()).await;
        guard.done();
        outcome.map(|answer| answer.result)
    }

    /// Sends a request as `spoken` says and waits for its answer.
    pub(super) async fn answer(
        self: &Arc<Self>,
        request: Outgoing<'_>,
        spoken: Option<&Spoken>,
    ) -> Result<Answer, Failure> {
        let Outgoing { id, body, events, mirrored, .. } = request;
        let response = self.post(headers::post(spoken, mirrored), body.into()).await?;
        let status = response.status();
        let session = response.headers().get(headers::SESSION).cloned();
        let kind = Kind::of(response.headers());
        let had_session = spoken.and_then(|spoken| spoken.session.as_ref());
        if status.is_success() && kind == Kind::Events {
            // Apart, as it takes more room than all the rest, and most answers are no streams.
            let result = Box::pin(self.streamed(id, response.into_body(), events, spoken)).await?;
            return Ok(Answer { result, session });
        }
        let max = if status.is_success() { MAX_MESSAGE } else { EXPLANATION };
        let text = match response.into_body().all(max).await {
            Ok(text) => text,
            Err(error) if status.is_success() => return Err(error),
            Err(_) => Bytes::new(),
        };
        if let Some(lost) = had_session.filter(|_| lost_session(status, &text)) {
            return Err(Failure::SessionLost(lost.clone()));
        }
        match self.inbox.receive(&text, Some((id, events))) {
            Ok(Incoming::Answer(answered, Ok(result))) if answered == id && status.is_success() => {
                Ok(Answer { result, session })
            }
            Ok(Incoming::Answer(_, Err(error))) => Err(Failure::Answered(error)),
            _ if !status.is_success() => Err(refusal(status, &text)),
            Ok(_) => Err(Failure::Unusable("it is not the answer to the request".to_owned())),
            Err(_) if text.is_empty() => Err(Failure::Unusable(format!("HTTP {status} without a body"))),
            Err(error) => Err(Failure::Unusable(error.to_string())),
        }
    }

    /// Sends a message that has no answer.
    pub(super) async fn send(&self, message: String) -> Result<(), Failure> {
        let method = match wire::parse(message.as_bytes(), MAX_MESSAGE) {
            Ok(Message::Notification { method, params }) => Mirrored::of(&method, params.map(Params::of)),
            _ => Mirrored::default(),
        };
        let headers = headers::post(self.spoken.load().as_deref(), method);
        let response = self.post(headers, message.into()).await?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(Failure::Status(status.as_u16(), String::new())),
        }
    }

    /// As [`Self::send`], from where nobody can wait.
    pub(super) fn send_soon(self: &Arc<Self>, message: String) {
        let link = Arc::clone(self);
        self.tasks.spawn(async move { tokio::time::timeout(TELL, link.send(message)).await });
    }

    /// Sends the client's answer to a request of the server when it comes.
    fn answer_soon(self: &Arc<Self>, asked: Asked) {
        let link = Arc::clone(self);
        let closed = self.inbox.closed().clone();
        self.tasks.spawn(closed.run_until_cancelled_owned(async move {
            let response = asked.response().await;
            drop(tokio::time::timeout(TELL, link.send(response)).await);
        }));
    }

    /// Reads the stream of a legacy session until it ends; false when the server has none.
    pub(super) async fn follow(self: &Arc<Self>, spoken: &Spoken) -> Result<bool, Failure> {
        let response = self.send_to(Method::GET, headers::session(spoken), Bytes::new()).await;
        self.opened.send_replace(true);
        let response = response?;
        let mut body = match (response.status(), &spoken.session) {
            (status, _) if status.is_success() && Kind::of(response.headers()) == Kind::Events => {
                response.into_body()
            }
            (StatusCode::NOT_FOUND, Some(lost)) => return Err(Failure::SessionLost(lost.clone())),
            (status, _) if status.is_server_error() => {
                return Err(Failure::Status(status.as_u16(), String::new()));
            }
            _ => return Ok(false),
        };
        let mut events = sse::Events::new(MAX_MESSAGE);
        while let Some(chunk) = body.chunk().await? {
            events.push(&chunk);
            while let Some(event) = events.next().map_err(|_| too_long())? {
                match self.inbox.receive(&event, None) {
                    Ok(Incoming::Reply(message)) => self.send_soon(message),
                    Ok(Incoming::Asked(asked)) => self.answer_soon(asked),
                    _ => {}
                }
            }
        }
        Ok(true)
    }

    /// Ends the session of a legacy server, which may well refuse.
    pub(super) async fn end_session(&self) {
        let spoken = self.spoken.load_full();
        if let Some(spoken) = spoken.filter(|spoken| spoken.session.is_some()) {
            let ended = self.send_to(Method::DELETE, headers::session(&spoken), Bytes::new());
            let _ = tokio::time::timeout(TELL, ended).await;
        }
    }

    async fn streamed(
        self: &Arc<Self>,
        id: u64,
        mut body: Body,
        events: Option<&Events>,
        spoken: Option<&Spoken>,
    ) -> Result<Box<RawValue>, Failure> {
        let mut parser = sse::Events::new(MAX_MESSAGE);
        loop {
            while let Some(event) = parser.next().map_err(|_| too_long())? {
                match self.inbox.receive(&event, Some((id, events))) {
                    Ok(Incoming::Answer(answered, outcome)) if answered == id => {
                        self.drain(body);
                        return outcome.map_err(Failure::Answered);
                    }
                    Ok(Incoming::Reply(message)) => self.send_soon(message),
                    Ok(Incoming::Asked(asked)) => self.answer_soon(asked),
                    Ok(Incoming::Answer(..) | Incoming::Nothing) => {}
                    Err(error) => return Err(Failure::Unusable(error.to_string())),
                }
            }
            let broken = match body.chunk().await {
                Ok(Some(chunk)) => {
                    parser.push(&chunk);
                    continue;
                }
                Ok(None) => Failure::Gone("the stream ended before the answer".to_owned()),
                Err(failure) => failure,
            };
            body = self.resumed(&mut parser, spoken).await.ok_or(broken)?;
        }
    }

    /// Takes up the stream of a legacy server that gave its events ids; none when that cannot be. The
    /// call's own time limit bounds how often.
    async fn resumed(&self, parser: &mut sse::Events, spoken: Option<&Spoken>) -> Option<Body> {
        let spoken = spoken.filter(|spoken| !spoken.modern)?;
        let (id, pause) = parser.last_id()?;
        let headers = headers::resume(spoken, id)?;
        tokio::time::sleep(pause.unwrap_or(RESUME[0]).clamp(RESUME[0], RESUME[1])).await;
        let response = self.send_to(Method::GET, headers, Bytes::new()).await.ok()?;
        let resumed = response.status().is_success() && Kind::of(response.headers()) == Kind::Events;
        parser.resume();
        resumed.then(|| response.into_body())
    }

    fn drain(&self, mut body: Body) {
        self.tasks.spawn(async move {
            let rest = async { while let Ok(Some(_)) = body.chunk().await {} };
            tokio::time::timeout(DRAIN, rest).await
        });
    }

    async fn post(&self, headers: HeaderMap, body: Bytes) -> Result<Response<Body>, Failure> {
        self.send_to(Method::POST, headers, body).await
    }

    async fn send_to(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, Failure> {
        let mut url = Uri::clone(&self.url.load());
        let (response, moved) = self.requests.send(&mut url, method, headers, body).await?;
        if moved {
            self.url.store(Arc::new(url));
        }
        Ok(response)
    }

    /// Another connection to the same server.
    pub(super) fn again(&self) -> Channel {
        Channel::Remote { url: self.address(), credentials: self.requests.credentials() }
    }

    /// The same server, to be spoken to over HTTP+SSE.
    pub(super) fn older(&self) -> Arc<HttpSse> {
        let url = Uri::clone(&self.url.load());
        HttpSse::new(url, self.requests.clone(), Arc::clone(&self.inbox), self.tasks.clone())
    }
}

/// Ends the wait of a call that goes away.
struct Guard<'a> {
    link: &'a Arc<Http>,
    id: u64,
    /// There is nothing (more) to tell the server.
    told: bool,
    listens: bool,
}

impl Guard<'_> {
    fn done(mut self) {
        self.told = true;
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if self.listens {
            self.link.inbox.forget(self.id);
        }
        if !self.told {
            self.link.send_soon(super::compose::cancelled(self.id));
        }
    }
}

#[derive(PartialEq)]
pub(super) enum Kind {
    Events,
    Other,
}

impl Kind {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("text/event-stream") { Self::Events } else { Self::Other }
    }
}

/// 404 by the specification; servers made after the example of the TypeScript SDK say 400.
pub(super) fn lost_session(status: StatusCode, text: &[u8]) -> bool {
    let says = || String::from_utf8_lossy(text).to_ascii_lowercase().contains("session");
    status == StatusCode::NOT_FOUND || (status == StatusCode::BAD_REQUEST && says())
}

/// A refusal without the answer JSON-RPC asks for, or with one whose id is not ours.
fn refusal(status: StatusCode, text: &[u8]) -> Failure {
    match wire::parse(text, EXPLANATION) {
        Ok(Message::Response { outcome: Err(error), .. }) => Failure::Answered(error),
        _ => Failure::Status(status.as_u16(), status.canonical_reason().unwrap_or_default().to_owned()),
    }
}

fn too_long() -> Failure {
    Failure::TooLong(MAX_MESSAGE)
}
