//! HTTP+SSE, which is how HTTP was used in MCP 2024-11-05: one stream of events with all that the server
//! says, and an address, named by its first event, to which each message is posted.
//!
//! Invariants: nothing is posted to another host than the one that was declared. A stream that ends ends
//! the calls that wait on it; another one is opened in its place and greeted anew. A call that comes in
//! between has that tried at once, and fails with it. Source: MCP 2024-11-05 `basic/transports`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Uri};
use serde_json::value::RawValue;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::http::headers::{self, Mirrored};
use super::http::requests::{Requests, on_host};
use super::http::sender::Body;
use super::http::{EXPLANATION, Kind, TELL, lost_session, sse};
use super::inbox::{Asked, Inbox, Incoming};
use super::listen::Pause;
use super::{Failure, GreetError, Outgoing, era};
use crate::mcp::wire::MAX_MESSAGE;
use crate::ports::{Channel, Credentials};

/// How long a server may take to open its stream and to say where messages go; it does so at once.
const OPEN: Duration = Duration::from_secs(10);

/// How long it may take to be greeted again, as a server that just started.
const GREET: Duration = Duration::from_secs(30);

pub(super) struct HttpSse {
    inbox: Arc<Inbox>,
    tasks: TaskTracker,
    requests: Requests,
    /// Of the stream.
    url: Uri,
    state: watch::Sender<State>,
    /// Somebody has something to say, so that another stream is tried for at once.
    wanted: Notify,
    /// No stream is followed any more.
    over: CancellationToken,
}

/// What a message meets.
enum State {
    Open(Arc<Session>),
    /// Why there is no session.
    Away(String),
}

/// What one stream stands for.
pub(super) struct Session {
    /// Where messages go.
    endpoint: Uri,
    /// The server says that it does not know it any more.
    over: CancellationToken,
}

struct Stream {
    session: Arc<Session>,
    body: Body,
    events: sse::Events,
}

impl HttpSse {
    pub(super) fn to(
        url: &str,
        credentials: Option<Arc<dyn Credentials>>,
        inbox: Arc<Inbox>,
        tasks: TaskTracker,
    ) -> Result<Arc<Self>, Failure> {
        let (url, requests) = Requests::to(url, credentials)?;
        Ok(Self::new(url, requests, inbox, tasks))
    }

    pub(super) fn new(url: Uri, requests: Requests, inbox: Arc<Inbox>, tasks: TaskTracker) -> Arc<Self> {
        let state = watch::Sender::new(State::Away("its stream of events is not open".to_owned()));
        let over = inbox.closed().child_token();
        Arc::new(Self { inbox, tasks, requests, url, state, wanted: Notify::new(), over })
    }

    pub(super) fn address(&self) -> String {
        self.url.to_string()
    }

    /// Another connection to the same server.
    pub(super) fn again(&self) -> Channel {
        Channel::Sse { url: self.address(), credentials: self.requests.credentials() }
    }

    /// Opens the stream, which is followed from then on, and replaced when it ends. The first session is
    /// greeted by whoever opens it.
    pub(super) async fn open(self: &Arc<Self>) -> Result<(), Failure> {
        let stream = self.begin().await?;
        self.state.send_replace(State::Open(Arc::clone(&stream.session)));
        let over = self.over.clone();
        self.tasks.spawn(over.run_until_cancelled_owned(Arc::clone(self).keep(stream)));
        Ok(())
    }

    /// Follows no stream any more, since the first session could not be greeted.
    pub(super) fn give_up(&self) {
        self.over.cancel();
    }

    /// Sends a request and waits for its answer. Dropped before, it tells the server.
    pub(super) async fn exchange(self: &Arc<Self>, request: Outgoing<'_>) -> Result<Box<RawValue>, Failure> {
        let session = self.session().await?;
        self.exchange_in(&session, request).await
    }

    /// As [`Self::exchange`], in a session that may not have been greeted.
    pub(super) async fn exchange_in(
        self: &Arc<Self>,
        session: &Arc<Session>,
        request: Outgoing<'_>,
    ) -> Result<Box<RawValue>, Failure> {
        let Outgoing { id, body, events, standing, cancellable, .. } = request;
        let mut answer = self.inbox.wait(id, events, standing);
        let _guard = Guard { link: self, session, id, cancellable };
        // The stream may have ended just before this began to wait.
        if session.over.is_cancelled() {
            return Err(Failure::Gone("its stream of events ended".to_owned()));
        }
        let gone = || Failure::Gone(self.inbox.reason());
        tokio::select! {
            // The answer can be there before the post is confirmed, which then does not matter.
            outcome = &mut answer => return outcome.map_err(|_| gone())?,
            posted = self.post(session, body) => posted?,
        }
        answer.await.map_err(|_| gone())?
    }

    /// Sends a message that has no answer.
    pub(super) async fn send(&self, message: String) -> Result<(), Failure> {
        self.post(&*self.session().await?, message).await
    }

    /// As [`Self::send`], in a session that may not have been greeted.
    pub(super) async fn post(&self, session: &Session, message: String) -> Result<(), Failure> {
        let (method, mut url) = (Method::POST, session.endpoint.clone());
        let headers = headers::post(None, Mirrored::default());
        let (response, _) = self.requests.send(&mut url, method, headers, message.into()).await?;
        let status = response.status();
        let text = response.into_body().all(EXPLANATION).await.unwrap_or_default();
        if status.is_success() {
            return Ok(());
        }
        if lost_session(status, &text) {
            session.over.cancel();
            return Err(Failure::Gone("its session is over".to_owned()));
        }
        Err(Failure::Status(status.as_u16(), status.canonical_reason().unwrap_or_default().to_owned()))
    }

    fn send_soon(self: &Arc<Self>, session: &Arc<Session>, message: String) {
        let (link, session) = (Arc::clone(self), Arc::clone(session));
        self.tasks.spawn(async move { tokio::time::timeout(TELL, link.post(&session, message)).await });
    }

    /// Sends the client's answer to a request of the server when it comes.
    fn answer_soon(self: &Arc<Self>, session: &Arc<Session>, asked: Asked) {
        let (link, session) = (Arc::clone(self), Arc::clone(session));
        let closed = self.inbox.closed().clone();
        self.tasks.spawn(closed.run_until_cancelled_owned(async move {
            let response = asked.response().await;
            drop(tokio::time::timeout(TELL, link.post(&session, response)).await);
        }));
    }

    /// The session that messages go to.
    pub(super) async fn session(&self) -> Result<Arc<Session>, Failure> {
        let mut state = self.state.subscribe();
        if let State::Open(session) = &*state.borrow_and_update() {
            return Ok(Arc::clone(session));
        }
        self.wanted.notify_one();
        // What comes next is what came of the attempt.
        let _ = state.changed().await;
        match &*state.borrow() {
            State::Open(session) => Ok(Arc::clone(session)),
            State::Away(reason) => Err(Failure::Gone(reason.clone())),
        }
    }

    /// Opens a stream and reads where messages go.
    async fn begin(&self) -> Result<Stream, Failure> {
        let opening = async {
            let (method, mut url) = (Method::GET, self.url.clone());
            let (response, _) = self.requests.send(&mut url, method, headers::events(), Bytes::new()).await?;
            let status = response.status();
            if !status.is_success() {
                let reason = status.canonical_reason().unwrap_or_default().to_owned();
                return Err(Failure::Status(status.as_u16(), reason));
            }
            if Kind::of(response.headers()) != Kind::Events {
                return Err(Failure::Unusable("a GET is answered with something else".to_owned()));
            }
            let (mut body, mut events) = (response.into_body(), sse::Events::new(MAX_MESSAGE));
            let first = loop {
                if let Some(event) = events.next().map_err(|_| Failure::TooLong(MAX_MESSAGE))? {
                    break event;
                }
                let chunk = body.chunk().await?;
                events.push(&chunk.ok_or_else(|| Failure::Gone("its stream of events ended".to_owned()))?);
            };
            let endpoint = std::str::from_utf8(&first).ok().filter(|_| events.name() == b"endpoint");
            let endpoint = endpoint.ok_or_else(|| {
                Failure::Unusable("its stream of events does not begin with `endpoint`".to_owned())
            })?;
            let endpoint = on_host(&url, endpoint.trim()).ok_or_else(|| {
                Failure::Unusable("it wants messages at another host, which is not followed".to_owned())
            })?;
            let session = Arc::new(Session { endpoint, over: CancellationToken::new() });
            Ok(Stream { session, body, events })
        };
        let late = || Err(Failure::Unusable(format!("it opened no stream of events within {OPEN:?}")));
        tokio::time::timeout(OPEN, opening).await.unwrap_or_else(|_| late())
    }

    /// Follows one stream after the other.
    async fn keep(self: Arc<Self>, first: Stream) {
        let mut pause = Pause::new();
        let session = Arc::clone(&first.session);
        let mut ended = self.read(first).await;
        session.over.cancel();
        loop {
            self.state.send_replace(State::Away(ended.clone()));
            self.inbox.interrupt(&ended);
            tokio::select! {
                () = pause.wait() => {}
                // Cancel-safe: a permit that is not taken stays.
                () = self.wanted.notified() => {}
            }
            let stream = match self.begin().await {
                Ok(stream) => stream,
                // It answers, but not as before: whoever looks after it finds out anew what it speaks.
                Err(failure) => match GreetError::from(failure) {
                    error @ (GreetError::Gone(_) | GreetError::Credentials(_)) => {
                        ended = error.to_string();
                        continue;
                    }
                    error => return self.inbox.fail(&error.to_string()),
                },
            };
            let session = Arc::clone(&stream.session);
            ended = tokio::select! {
                ended = self.read(stream) => ended,
                // It goes on for as long as the stream does, unless it fails.
                error = self.greet(&session) => match error {
                    error @ GreetError::Gone(_) => error.to_string(),
                    error => return self.inbox.fail(&error.to_string()),
                },
            };
            session.over.cancel();
        }
    }

    /// Greets the server in the place of a session that ended; returns only when that fails.
    async fn greet(self: &Arc<Self>, session: &Arc<Session>) -> GreetError {
        let late = || Err(GreetError::Gone(format!("no answer to the handshake within {GREET:?}")));
        let greeting = era::initialize_sse(self, session, &self.inbox);
        match tokio::time::timeout(GREET, greeting).await.unwrap_or_else(|_| late()) {
            Ok(_) => {
                self.state.send_replace(State::Open(Arc::clone(session)));
                self.inbox.tell_renewed();
                // Changes in between were not heard.
                self.inbox.tell_changed();
                std::future::pending().await
            }
            Err(error) => error,
        }
    }

    /// Reads a stream until it ends; returns why.
    async fn read(self: &Arc<Self>, stream: Stream) -> String {
        let Stream { session, mut body, mut events } = stream;
        loop {
            loop {
                let event = match events.next() {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(sse::TooLong) => return format!("it sent an event of more than {MAX_MESSAGE} bytes"),
                };
                if !matches!(events.name(), b"" | b"message") {
                    continue;
                }
                match self.inbox.receive(&event, None) {
                    Ok(Incoming::Answer(id, outcome)) => {
                        self.inbox.deliver(id, outcome.map_err(Failure::Answered));
                    }
                    Ok(Incoming::Reply(message)) => self.send_soon(&session, message),
                    Ok(Incoming::Asked(asked)) => self.answer_soon(&session, asked),
                    Ok(Incoming::Nothing) => {}
                    Err(_) => self.inbox.count_garbage(),
                }
            }
            tokio::select! {
                // Cancel-safe: what was read of a stream that is over is of no use.
                chunk = body.chunk() => match chunk {
                    Ok(Some(chunk)) => events.push(&chunk),
                    Ok(None) => return "its stream of events ended".to_owned(),
                    Err(failure) => return format!("its stream of events broke: {}", GreetError::from(failure)),
                },
                () = session.over.cancelled() => return "its session is over".to_owned(),
            }
        }
    }
}

/// Ends the wait of a call that goes away.
struct Guard<'a> {
    link: &'a Arc<HttpSse>,
    session: &'a Arc<Session>,
    id: u64,
    cancellable: bool,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let waited = self.link.inbox.forget(self.id);
        if waited && self.cancellable && !self.session.over.is_cancelled() {
            self.link.send_soon(self.session, super::compose::cancelled(self.id));
        }
    }
}

#[cfg(test)]
mod tests;
