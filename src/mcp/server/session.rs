//! Sessions of legacy clients: bounded, bound to who opened them, ended by idle time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Asked, Changes, Held, Scope};
use crate::mcp::client::{Updated, Watch};
use crate::mcp::wire::{self, Id};
use crate::policy::Principal;
use crate::ports::{ClientAnswer, ClientLine, ClientRequest, Severity};

/// The bounds of [`Sessions`].
pub(super) struct Limits {
    /// Sessions at a time: each takes about 1 KiB.
    pub(super) max: usize,
    /// A session that nobody used and nobody listens on for so long is over. Clients open another.
    pub(super) idle: Duration,
    /// When there is no room, the longest idle one goes, unless it was used as lately as this.
    pub(super) idle_when_full: Duration,
}

pub(super) const LIMITS: Limits =
    Limits { max: 10_000, idle: Duration::from_mins(30), idle_when_full: Duration::from_mins(1) };

/// Requests to one client that may wait for their answers.
const MAX_ASKED: usize = 64;
/// Messages of servers that wait until they are written to its stream.
const MAX_PASSED: usize = 16;

/// How often all sessions are looked through for idle ones.
const SWEEP: Duration = Duration::from_mins(1);

/// The sessions there are.
pub(super) struct Sessions {
    limits: Limits,
    started: Instant,
    /// Seconds after `started`.
    swept: AtomicU64,
    by_id: Mutex<HashMap<Arc<str>, Arc<Session>>>,
}

/// One client that said `initialize`.
pub(super) struct Session {
    pub(super) id: Arc<str>,
    /// The protocol version that was agreed.
    pub(super) version: &'static str,
    pub(super) principal: Arc<Principal>,
    /// The endpoint it was opened at: at others there is no such session.
    pub(super) scope: Scope,
    /// What the client said it can be asked; raw JSON.
    pub(super) capabilities: Option<Box<RawValue>>,
    /// Its place among those of its principal.
    _held: Held,
    /// Ends what is open when the session ends.
    pub(super) ended: CancellationToken,
    /// Which changes the client has heard of, or need not hear of.
    pub(super) heard: Mutex<Changes>,
    /// Seconds after the start of [`Sessions`].
    used: AtomicU64,
    level: Mutex<Option<Severity>>,
    calls: Mutex<HashMap<Id, CancellationToken>>,
    asked: Mutex<Pending>,
    /// Resources it wants to hear changes of.
    pub(super) watched: Mutex<HashMap<String, Watch>>,
    /// Changes of resources since its stream ended, or since it first watched one. As many are kept as
    /// for a slow stream; of one that missed more, all that it watches may have changed.
    pub(super) missed: Mutex<Option<broadcast::Receiver<Updated>>>,
    /// The stream of its GET, and what servers send on it.
    stream: Mutex<Option<(CancellationToken, mpsc::Sender<Passed>)>>,
}

/// What servers send to a client while none of its calls is under way.
pub(super) enum Passed {
    Request(ClientRequest),
    /// A whole message.
    Notification(String),
}

/// Requests that the client has not answered yet.
#[derive(Default)]
struct Pending {
    last: u64,
    by_id: HashMap<Id, oneshot::Sender<ClientAnswer>>,
}

impl Sessions {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, started: Instant::now(), swept: AtomicU64::new(0), by_id: Mutex::default() }
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// A new one; none when there is no room.
    pub(super) fn open(
        &self,
        version: &'static str,
        asked: &Asked,
        capabilities: Option<Box<RawValue>>,
        heard: Changes,
        held: Held,
    ) -> Option<Arc<Session>> {
        let now = self.now();
        // 128 bits of the operating system's generator: not to be guessed.
        let id: Arc<str> = format!("{:032x}", rand::random::<u128>()).into();
        let session = Arc::new(Session {
            id: Arc::clone(&id),
            version,
            principal: Arc::clone(&asked.principal),
            scope: asked.scope.clone(),
            capabilities,
            _held: held,
            ended: CancellationToken::new(),
            heard: Mutex::new(heard),
            used: AtomicU64::new(now),
            level: Mutex::default(),
            calls: Mutex::default(),
            asked: Mutex::default(),
            watched: Mutex::default(),
            missed: Mutex::default(),
            stream: Mutex::default(),
        });
        let mut sessions = lock(&self.by_id);
        if sessions.len() >= self.limits.max
            || now.saturating_sub(self.swept.load(Ordering::Relaxed)) >= SWEEP.as_secs()
        {
            self.swept.store(now, Ordering::Relaxed);
            sessions.retain(|_, session| !session.end_if_idle(now, self.limits.idle));
        }
        if sessions.len() >= self.limits.max {
            let oldest =
                sessions.values().filter(|session| !session.is_busy()).min_by_key(|session| session.used());
            let oldest =
                Arc::clone(oldest.filter(|session| session.end_if_idle(now, self.limits.idle_when_full))?);
            sessions.remove(&oldest.id);
        }
        sessions.insert(id, Arc::clone(&session));
        Some(session)
    }

    /// Ends the longest idle session of a principal that has as many as it may, unless it was used
    /// lately: clients that end without a word leave theirs behind.
    pub(super) fn make_room(&self, principal: &Principal) -> bool {
        let now = self.now();
        let mut sessions = lock(&self.by_id);
        let own = sessions.values().filter(|session| session.principal.name == principal.name);
        let oldest = own.filter(|session| !session.is_busy()).min_by_key(|session| session.used());
        let oldest = oldest.filter(|session| session.end_if_idle(now, self.limits.idle_when_full));
        let Some(id) = oldest.map(|session| Arc::clone(&session.id)) else { return false };
        sessions.remove(&id).is_some()
    }

    /// The session of that id, if it is this principal's at this endpoint. To anybody else there is none.
    ///
    /// A principal is its name here: what its token is good for may grow or shrink under way (MCP
    /// 2025-11-25, "Scope Challenge Handling"), and each request brings its own.
    pub(super) fn get(&self, id: &str, asked: &Asked) -> Option<Arc<Session>> {
        let now = self.now();
        let mut sessions = lock(&self.by_id);
        let session = sessions.get(id)?;
        if session.principal.name != asked.principal.name || session.scope != asked.scope {
            return None;
        }
        if session.end_if_idle(now, self.limits.idle) {
            sessions.remove(id);
            return None;
        }
        session.used.store(now, Ordering::Relaxed);
        Some(Arc::clone(session))
    }

    pub(super) fn close(&self, session: &Session) {
        lock(&self.by_id).remove(&session.id);
        session.ended.cancel();
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.by_id).len()
    }
}

impl Session {
    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn is_busy(&self) -> bool {
        !lock(&self.calls).is_empty() || self.is_told()
    }

    /// Whether the client has its stream open.
    pub(super) fn is_told(&self) -> bool {
        lock(&self.stream).as_ref().is_some_and(|(stream, _)| !stream.is_cancelled())
    }

    fn end_if_idle(&self, now: u64, idle: Duration) -> bool {
        let over = now.saturating_sub(self.used()) >= idle.as_secs() && !self.is_busy();
        if over {
            tracing::debug!(session = self.id.get(..8), idle_s = now - self.used(), "session ended: idle");
            self.ended.cancel();
        }
        over
    }

    /// Lowest severity of log messages the client wants, once it said so.
    pub(super) fn level(&self) -> Option<Severity> {
        *lock(&self.level)
    }

    pub(super) fn set_level(&self, level: Severity) {
        *lock(&self.level) = Some(level);
    }

    /// Remembers a call so that it can be cancelled by its id. None while another one has that id: which
    /// of them were meant could not be told.
    pub(super) fn begin(self: &Arc<Self>, id: &Id) -> Option<CallInFlight> {
        let cancel = self.ended.child_token();
        match lock(&self.calls).entry(id.clone()) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(place) => place.insert(cancel.clone()),
        };
        Some(CallInFlight { session: Arc::clone(self), id: id.clone(), cancel })
    }

    pub(super) fn cancel(&self, id: &Id) {
        if let Some(cancel) = lock(&self.calls).get(id) {
            cancel.cancel();
        }
    }

    /// The message that asks the client, and remembers who waits for its answer. None when too many
    /// wait already, or nobody does any more.
    pub(super) fn asking(&self, request: ClientRequest) -> Option<String> {
        let ClientRequest { id: _, method, params, answer } = request;
        let mut asked = lock(&self.asked);
        asked.by_id.retain(|_, answer| !answer.is_closed());
        if asked.by_id.len() >= MAX_ASKED || answer.is_closed() {
            return None;
        }
        asked.last += 1;
        let id = Id::text(&format!("toolcrib-{}", asked.last));
        let message = wire::request(&id, &method, params.as_deref());
        asked.by_id.insert(id, answer);
        Some(message)
    }

    /// Hands the client's answer to whoever asked. One that nobody waits for is late or mistaken.
    pub(super) fn answered(&self, id: &Id, outcome: ClientAnswer) {
        if let Some(answer) = lock(&self.asked).by_id.remove(id) {
            let _ = answer.send(outcome);
        }
    }

    /// A token that ends with the session, or when the client opens its stream anew; and what servers send
    /// on the stream.
    pub(super) fn open_stream(&self) -> (CancellationToken, mpsc::Receiver<Passed>) {
        let stream = self.ended.child_token();
        let (sender, receiver) = mpsc::channel(MAX_PASSED);
        if let Some((before, _)) = lock(&self.stream).replace((stream.clone(), sender)) {
            before.cancel();
        }
        (stream, receiver)
    }

    /// Puts it on the stream. False: none is open, or it is full.
    fn pass(&self, passed: Passed) -> bool {
        let stream = lock(&self.stream);
        let open = stream.as_ref().filter(|(stream, _)| !stream.is_cancelled());
        open.is_some_and(|(_, line)| line.try_send(passed).is_ok())
    }
}

impl ClientLine for Session {
    fn ask(&self, request: ClientRequest) -> bool {
        self.pass(Passed::Request(request))
    }

    fn tell(&self, method: &str, params: &str) {
        self.pass(Passed::Notification(wire::notification(method, Some(params))));
    }
}

/// A call of a session, until it is dropped.
pub(super) struct CallInFlight {
    session: Arc<Session>,
    id: Id,
    pub(super) cancel: CancellationToken,
}

impl Drop for CallInFlight {
    fn drop(&mut self) {
        lock(&self.session.calls).remove(&self.id);
    }
}

/// No holder of these locks can panic half way; a poisoned one is as good.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
