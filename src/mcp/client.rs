//! Our side as a client: connections to servers, by instance.
//!
//! Input: the two ends a runner gives, or an address. Output: [`Upstream`]s that carry calls as raw
//! JSON, whatever era the server is of. Invariant: an answer reaches the call that asked, or nobody;
//! a call that goes away is forgotten here and told to the server. Not here: what a server offers
//! ([`crate::probe`]), and naming ([`crate::catalog`]).

mod compose;
mod era;
mod forward;
mod group;
mod held;
mod http;
mod http_sse;
mod inbox;
mod level;
mod lines;
mod link;
mod listen;
mod mirror;
mod params;
mod post;
mod registry;
mod stdio;
mod task;
mod watched;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::http::HeaderValue;
use arc_swap::ArcSwap;
use serde_json::value::RawValue;
use tokio::sync::{Notify, Semaphore, broadcast, watch};
use tokio_util::task::TaskTracker;

pub use self::era::GreetError;
pub use self::forward::{ForwardError, forward};
pub use self::group::{Group, Lacking, Stay, Taken, Waiting};
pub use self::held::Held;
pub use self::inbox::{Notice, Owner};
pub use self::params::Params;
pub use self::post::{Answer, PostError, Poster};
pub use self::registry::Upstreams;
pub use self::task::{Hearing, TaskNews};
pub use self::watched::{Updated, Watch};

use self::compose::{Wishes, compose};
use self::held::InFlight;
use self::http::headers::Mirrored;
use self::inbox::{Events, Inbox};
use self::link::Link;
use self::mirror::Mirrors;
use super::wire::{self, Era, ErrorObject};
use crate::ports::{CallContext, Channel, Greeting, Handshake, Severity};

/// How long a closed connection's tasks may take to end: what they wait for are the last bytes of a
/// peer that may be gone.
const CLOSE: Duration = Duration::from_secs(2);

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The server answered with an error.
    #[error("the server answered: {}", .0.message)]
    Server(ErrorObject),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the call was cancelled")]
    Cancelled,
    /// It wants a token of its user with more scopes, and the user can be asked.
    #[error("the server wants more of the user's authorization: {0}")]
    Lacks(String),
    /// The connection is gone: the server died, or was stopped.
    #[error("the server is not there: {0}")]
    Gone(String),
    /// There is no instance that takes the call.
    #[error("it could not be started: {0}")]
    NotStarted(String),
    /// The server answered something that is no result: another status, garbage, too much.
    #[error("the server's answer cannot be used: {0}")]
    Unusable(String),
    #[error("the server's answer is longer than {0} bytes")]
    TooLong(usize),
}

/// Why a request has no result, as transports see it.
#[derive(Debug)]
enum Failure {
    /// With an error of JSON-RPC.
    Answered(ErrorObject),
    /// Nothing was sent: no connection.
    Unreached(String),
    /// Nothing was sent: what the server is to be shown cannot be had.
    Credentials(String),
    /// It wants a token of its user with more scopes: which.
    Lacks(String),
    /// The connection ended before the answer.
    Gone(String),
    /// An HTTP status, and what is known about it.
    Status(u16, String),
    /// This legacy HTTP session is over; a new one can be opened.
    SessionLost(HeaderValue),
    /// An answer that is none.
    Unusable(String),
    /// More than so many bytes.
    TooLong(usize),
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Answered(error) => Self::Server(error),
            Failure::Unreached(reason) | Failure::Credentials(reason) | Failure::Gone(reason) => {
                Self::Gone(reason)
            }
            Failure::Lacks(scopes) => Self::Lacks(scopes),
            Failure::Status(status, reason) => Self::Unusable(format!("HTTP {status} {reason}")),
            Failure::SessionLost(_) => Self::Gone("its session is over".to_owned()),
            Failure::Unusable(reason) => Self::Unusable(reason),
            Failure::TooLong(max) => Self::TooLong(max),
        }
    }
}

/// A request about to be sent.
struct Outgoing<'a> {
    id: u64,
    /// The whole message.
    body: String,
    mirrored: Mirrored,
    events: Option<&'a Events>,
    /// Whether it is a subscription: what is said while it is open is said of something else.
    standing: bool,
    /// Whether the server is told when nobody waits any more. The handshake must not be cancelled.
    cancellable: bool,
}

/// One connection to one instance of a server. Dropping it closes it.
pub struct Upstream {
    inbox: Arc<Inbox>,
    link: Link,
    tasks: TaskTracker,
    era: Era,
    handshake: Handshake,
    mirrors: ArcSwap<Mirrors>,
    /// Resources that a modern server is to tell of.
    listened: watch::Sender<BTreeSet<Arc<str>>>,
    /// Places for listeners to its tasks.
    listeners: Arc<Semaphore>,
    /// Whether the server says that it logs.
    logs: bool,
    /// The lowest level that a legacy server was told, and in which session.
    level: Mutex<Option<(u64, Severity)>>,
    in_flight: AtomicUsize,
    idle: Notify,
}

impl Upstream {
    /// Connects and greets within `deadline`. `changed` is called when a list of the server changed and
    /// when the connection ended by itself.
    ///
    /// # Errors
    /// When the server cannot be reached, or speaks nothing that we do.
    pub async fn connect(
        channel: Channel,
        greeting: Greeting<'_>,
        deadline: Duration,
        changed: impl Fn() + Send + Sync + 'static,
    ) -> Result<Arc<Self>, GreetError> {
        Self::greeted(channel, greeting, deadline, None, Box::new(changed)).await
    }

    /// Connects for one client. Requests of the server go to [`CallContext::requests`] of the call under
    /// way, or to the client's line. `protocol` is what the server spoke before; `changed` is as in
    /// [`Self::connect`].
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_for(
        owner: Owner,
        channel: Channel,
        protocol: &str,
        deadline: Duration,
        changed: impl Fn() + Send + Sync + 'static,
    ) -> Result<Arc<Self>, GreetError> {
        let greeting = Greeting::Known(protocol);
        let upstream = Self::greeted(channel, greeting, deadline, Some(owner), Box::new(changed)).await?;
        upstream.listening().await;
        Ok(upstream)
    }

    async fn greeted(
        channel: Channel,
        greeting: Greeting<'_>,
        deadline: Duration,
        owner: Option<Owner>,
        changed: Box<dyn Fn() + Send + Sync>,
    ) -> Result<Arc<Self>, GreetError> {
        let first = match greeting {
            // Late answers to an earlier daemon must meet no id of ours. Below 2^53, which is as far as
            // JSON numbers are exact, with room for 2^20 calls between two daemons.
            Greeting::Resumed(_) => u64::from(rand::random::<u32>()) << 20,
            _ => 1,
        };
        let inbox = Arc::new(Inbox::new(first, owner, changed));
        let tasks = TaskTracker::new();
        let closing = CloseOnDrop(Some(Arc::clone(&inbox)));
        let link = Link::new(channel, &inbox, &tasks).map_err(GreetError::from)?;
        let (link, handshake) = Box::pin(era::greet(link, &inbox, greeting, deadline)).await?;
        closing.keep();
        let upstream = Self {
            inbox,
            link,
            tasks,
            era: era::era_of(&handshake.protocol),
            logs: era::capability(&handshake, "logging").is_some(),
            handshake,
            mirrors: ArcSwap::default(),
            listened: watch::Sender::default(),
            listeners: Arc::new(Semaphore::new(task::MAX_LISTENERS)),
            level: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            idle: Notify::new(),
        };
        upstream.listen();
        Ok(Arc::new(upstream))
    }

    /// Where it is reached over HTTP; none over stdio.
    pub fn address(&self) -> Option<String> {
        match &self.link {
            Link::Stdio(_) => None,
            Link::Http(http) => Some(http.address()),
            Link::Sse(sse) => Some(sse.address()),
        }
    }

    /// Another way to the same server over HTTP, with the same credentials; none over stdio.
    pub fn again(&self) -> Option<Channel> {
        match &self.link {
            Link::Stdio(_) => None,
            Link::Http(http) => Some(http.again()),
            Link::Sse(sse) => Some(sse.again()),
        }
    }

    pub fn era(&self) -> Era {
        self.era
    }

    /// The protocol that was agreed, and what the server said of itself.
    pub fn handshake(&self) -> &Handshake {
        &self.handshake
    }

    /// Notifications of the server that belong to no call.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.inbox.notices()
    }

    /// Sends a request and waits for its result. `params` are the JSON object of the client's
    /// parameters; what the protocol wants in `_meta` towards this server is put in here. Over HTTP nothing
    /// else may notice that the server is down: whoever looks after it is told.
    ///
    /// # Errors
    /// When there is no result; the server has been told where the protocol has a way.
    pub async fn call(
        &self,
        method: &str,
        params: Params<'_>,
        timeout: Duration,
        context: &CallContext,
    ) -> Result<Box<RawValue>, CallError> {
        self.ask(method, params, timeout, context, || self.inbox.tell_changed()).await
    }

    /// The same for who looks after the server, and would be told to look again what it just saw.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn look(
        &self,
        method: &str,
        params: Params<'_>,
        timeout: Duration,
    ) -> Result<Box<RawValue>, CallError> {
        self.ask(method, params, timeout, &CallContext::default(), || ()).await
    }

    async fn ask(
        &self,
        method: &str,
        params: Params<'_>,
        timeout: Duration,
        context: &CallContext,
        unreached: impl FnOnce(),
    ) -> Result<Box<RawValue>, CallError> {
        let params = Some(params).filter(|params| params.given().get() != "null");
        let _in_flight = InFlight::enter(self);
        let answer = async {
            if let Some(told) = self.set_level(context.logs) {
                told.await;
            }
            match self.exchange(method, params, context).await {
                Err(Failure::SessionLost(lost)) => {
                    Box::pin(self.link.renew(&lost, &self.inbox)).await?;
                    // The new session has not heard it.
                    if let Some(told) = self.set_level(context.logs) {
                        told.await;
                    }
                    self.exchange(method, params, context).await
                }
                outcome => outcome,
            }
        };
        tokio::select! {
            // Cancel-safe: dropping the exchange tells the server and forgets the id.
            outcome = answer => outcome.map_err(|failure| {
                if matches!(failure, Failure::Unreached(_)) {
                    unreached();
                }
                CallError::from(failure)
            }),
            () = context.cancel.cancelled() => Err(CallError::Cancelled),
            () = self.inbox.closed().cancelled() => Err(CallError::Gone(self.inbox.reason())),
            () = tokio::time::sleep(timeout) => Err(CallError::Timeout(timeout)),
        }
    }

    /// Sends a notification. `params` is raw JSON.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn notify(&self, method: &str, params: Option<&RawValue>) -> Result<(), CallError> {
        let message = wire::notification(method, params.map(RawValue::get));
        Ok(self.link.send(message).await?)
    }

    async fn exchange(
        &self,
        method: &str,
        params: Option<Params<'_>>,
        context: &CallContext,
    ) -> Result<Box<RawValue>, Failure> {
        let id = self.inbox.next_id();
        let events = Events::of(context);
        let wishes = Wishes {
            progress: context.progress,
            capabilities: context.capabilities.as_deref().unwrap_or("{}"),
            logs: context.logs.filter(|_| self.logs),
        };
        let body = compose(self.era, id, method, params, &wishes)
            .map_err(|error| Failure::Answered(ErrorObject::new(error.code(), error.to_string())))?;
        let mirrored = match (&self.link, self.era) {
            (Link::Http(_), Era::Modern) => self.mirrored(method, params),
            _ => Mirrored::default(),
        };
        let events = events.as_ref();
        self.link.exchange(Outgoing { id, body, mirrored, events, standing: false, cancellable: true }).await
    }

    fn mirrored(&self, method: &str, params: Option<Params<'_>>) -> Mirrored {
        let mut mirrored = Mirrored::of(method, params);
        let mirrors = self.mirrors.load();
        if method == "tools/call" && !mirrors.is_empty() {
            let name = params.and_then(|params| params.text("name"));
            if let Some(mirrors) = name.and_then(|name| mirrors.get(name.as_ref())) {
                mirror::add(&mut mirrored, mirrors, params.map(|params| params.given()));
            }
        }
        mirrored
    }

    /// Learns which arguments the listed tools want repeated in headers, and returns the names of those
    /// that say so in a way that cannot be followed, with why: they must not be offered. Only modern
    /// servers over HTTP have such wishes.
    pub fn learn(&self, tools: &[Arc<str>]) -> Vec<(String, String)> {
        match (&self.link, self.era) {
            (Link::Http(_), Era::Modern) => {
                let (mirrors, invalid) = mirror::read(tools);
                self.mirrors.store(Arc::new(mirrors));
                invalid
            }
            _ => Vec::new(),
        }
    }

    /// Calls under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Waits until the connection is closed, by whomever.
    pub async fn closed(&self) {
        self.inbox.closed().cancelled().await;
    }

    pub fn is_closed(&self) -> bool {
        self.inbox.closed().is_cancelled()
    }

    /// Lets calls under way finish for at most `grace`, then closes.
    pub async fn drain(&self, grace: Duration) {
        let idle = async {
            loop {
                let idle = self.idle.notified();
                if self.in_flight() == 0 {
                    return;
                }
                idle.await;
            }
        };
        let _ = tokio::time::timeout(grace, idle).await;
        self.close().await;
    }

    /// Closes at once; calls under way end as gone.
    pub async fn close(&self) {
        if !self.is_closed()
            && let Link::Http(http) = &self.link
        {
            http.end_session().await;
        }
        self.inbox.close("it was stopped");
        self.tasks.close();
        let _ = tokio::time::timeout(CLOSE, self.tasks.wait()).await;
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.inbox.close("nobody uses it any more");
    }
}

/// Closes a connection whose greeting is given up.
struct CloseOnDrop(Option<Arc<Inbox>>);

impl CloseOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(inbox) = &self.0 {
            inbox.close("it was not greeted");
        }
    }
}

#[cfg(test)]
mod tests;
