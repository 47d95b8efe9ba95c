//! Connections that belong to one client each, to servers that declare `sessions: perClient`.
//!
//! Whoever opened a session with us has one connection for it to each such server, until the session
//! ends. A client without sessions is lent one for each call under way: after the call it is kept for
//! the next one of the same user. Over HTTP that is another session with the running instance, over
//! stdio an instance of its own. Invariants: nobody else's calls run on a connection over which a
//! client can be asked; connections are bounded for each server, and idle ones end.

#![expect(clippy::disallowed_methods, reason = "idle time is measured")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::desired::Server;
use crate::live::{Instance, InstanceId, UpstreamKey};
use crate::mcp::client::{CallError, Owner, Stay, Upstream, Upstreams};
use crate::mcp::server::Request;
use crate::ports::{Channel, Lender};
use crate::resource::{Digest, Name};

/// Connections of clients to one server: over stdio each is a process or a container.
const PER_SERVER: usize = 32;
/// How long a connection without calls is kept for the session it belongs to: as long as the session
/// itself is, without use.
const IDLE_SESSION: Duration = Duration::from_mins(30);
/// How long one is kept for the next call of a client without sessions.
const IDLE: Duration = Duration::from_mins(5);
/// How often idle ones are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// Whose connection to which version of a server.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    server: Name,
    workload: Digest,
    /// Over HTTP: the instance it leads to.
    instance: Option<InstanceId>,
    client: Client,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Client {
    Session(Arc<str>),
    /// By user, and what the client can be asked.
    Stateless(String, Arc<str>),
}

/// All connections of clients.
#[derive(Clone, Default)]
pub(super) struct Clients(Arc<Inner>);

#[derive(Default)]
struct Inner {
    lender: OnceLock<Arc<dyn Lender>>,
    tasks: TaskTracker,
    rooms: Mutex<HashMap<Name, Arc<Semaphore>>>,
    /// Of sessions. The lock inside is held while a connection is opened.
    sessions: Mutex<HashMap<Key, Arc<Slot>>>,
    /// Of clients without sessions, between calls; the longest idle first.
    idle: Mutex<Vec<(Key, Arc<Connection>, Instant)>>,
    /// Instances over stdio that are started and nobody's yet: one for each version of a server.
    spares: Mutex<HashMap<(Name, Digest), (Spare, Instant)>>,
    sweeping: OnceLock<()>,
}

type Slot = tokio::sync::Mutex<Option<(Arc<Connection>, Instant)>>;

/// The server, and the connection that everybody shares.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    pub(super) server: &'a Arc<Server>,
    pub(super) key: &'a UpstreamKey,
    pub(super) connection: &'a Upstream,
    pub(super) all: &'a Upstreams,
}

/// One connection. Dropping it ends it, and the instance that was started for it.
pub(super) struct Connection {
    upstream: Arc<Upstream>,
    lent: Option<(Arc<dyn Lender>, Instance)>,
    tasks: TaskTracker,
    _room: OwnedSemaphorePermit,
    /// The instance that all share goes on as long as this is there.
    _stay: Option<Stay>,
}

impl std::ops::Deref for Connection {
    type Target = Upstream;

    fn deref(&self) -> &Upstream {
        &self.upstream
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let (upstream, lent) = (Arc::clone(&self.upstream), self.lent.take());
        // Without a runtime the process ends, and with it what it started.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let ending = async move {
            upstream.close().await;
            if let Some((lender, instance)) = lent {
                lender.give_back(instance);
            }
        };
        self.tasks.spawn_on(ending, &runtime);
    }
}

/// A connection for one call. Unless the call says that it ended well, it is not used again: the server
/// may still be at work.
pub(super) struct Lease {
    connection: Arc<Connection>,
    /// Where it goes afterwards.
    back: Option<(Weak<Inner>, Key)>,
}

impl std::ops::Deref for Lease {
    type Target = Upstream;

    fn deref(&self) -> &Upstream {
        &self.connection.upstream
    }
}

impl Lease {
    /// The server has answered.
    pub(super) fn done(self) {
        let Some((inner, key)) = self.back else { return };
        let Some(inner) = inner.upgrade() else { return };
        if !self.connection.is_closed() {
            lock(&inner.idle).push((key, self.connection, Instant::now()));
        }
    }
}

impl Clients {
    pub(super) fn lend_from(&self, lender: Arc<dyn Lender>) {
        // Said once, when the daemon is put together.
        drop(self.0.lender.set(lender));
    }

    /// The instance that the connection of a client's session leads to, over HTTP.
    pub(super) fn instance_of(&self, request: &Request, server: &Server) -> Option<InstanceId> {
        let session = Client::Session(Arc::clone(&request.session.as_ref()?.id));
        let sessions = lock(&self.0.sessions);
        let own = |key: &&Key| {
            key.client == session && key.server == server.id.name && key.workload == server.digests.workload
        };
        sessions.keys().find(own)?.instance.clone()
    }

    /// The connection of the client that sent `request`. `capabilities` is what this client offers to the
    /// server.
    pub(super) async fn of(
        &self,
        request: &Request,
        shared: Shared<'_>,
        capabilities: Arc<str>,
    ) -> Result<Lease, CallError> {
        let server = shared.server;
        self.sweep();
        let client = if let Some(session) = &request.session {
            Client::Session(Arc::clone(&session.id))
        } else {
            let user = serde_json::to_string(&*request.principal).unwrap_or_default();
            Client::Stateless(user, Arc::clone(&capabilities))
        };
        let key = Key {
            server: server.id.name.clone(),
            workload: server.digests.workload,
            instance: shared.connection.address().map(|_| shared.key.instance.clone()),
            client,
        };
        match &request.session {
            None => {
                if let Some(connection) = self.0.take_idle(&key) {
                    return Ok(Lease { connection, back: Some((Arc::downgrade(&self.0), key)) });
                }
                let connection = self.open(shared, Owner { capabilities, line: None }).await?;
                Ok(Lease { connection, back: Some((Arc::downgrade(&self.0), key)) })
            }
            Some(session) => {
                let slot = self.slot(&key, session.ended.clone());
                let mut held = slot.lock().await;
                let connection = match held.take() {
                    Some((connection, _)) if !connection.is_closed() => connection,
                    _ => {
                        let line = Some(Arc::downgrade(&session.line));
                        self.open(shared, Owner { capabilities, line }).await?
                    }
                };
                *held = Some((Arc::clone(&connection), Instant::now()));
                Ok(Lease { connection, back: None })
            }
        }
    }

    /// The place of a session's connection, which goes when the session ends. Its connections to other
    /// versions of the server go now: calls under way keep theirs.
    fn slot(&self, key: &Key, ended: tokio_util::sync::CancellationToken) -> Arc<Slot> {
        let mut sessions = lock(&self.0.sessions);
        if let Some(slot) = sessions.get(key) {
            return Arc::clone(slot);
        }
        sessions.retain(|other, _| other.client != key.client || other.server != key.server);
        let slot: Arc<Slot> = Arc::default();
        sessions.insert(key.clone(), Arc::clone(&slot));
        drop(sessions);
        let (inner, key) = (Arc::downgrade(&self.0), key.clone());
        self.0.tasks.spawn(async move {
            ended.cancelled().await;
            if let Some(inner) = inner.upgrade() {
                lock(&inner.sessions).remove(&key);
            }
        });
        slot
    }

    async fn open(&self, shared: Shared<'_>, owner: Owner) -> Result<Arc<Connection>, CallError> {
        let Shared { server, key, connection: main, all } = shared;
        let gone = |error: &dyn std::fmt::Display| CallError::Gone(error.to_string());
        let room = || {
            self.0.room(&server.id.name).ok_or_else(|| {
                gone(&format!("{PER_SERVER} clients use it at the same time, which is as many as it serves"))
            })
        };
        // What was started is given back by its drop when the greeting fails.
        let (channel, back, room) = match (main.again(), self.0.lender.get()) {
            (Some(channel), _) => (channel, GiveBack(None), room()?),
            (None, Some(lender)) => {
                let spare = lock(&self.0.spares).remove(&(server.id.name.clone(), server.digests.workload));
                let spare = match spare {
                    Some((spare, _)) => spare,
                    None => Spare::start(lender, server, room()?).await.map_err(|why| gone(&why))?,
                };
                self.start_spare(lender, server);
                (spare.channel, spare.back, spare.room)
            }
            (None, None) => return Err(gone(&"no instances can be started for clients here")),
        };
        let protocol = &main.handshake().protocol;
        // Lists are those of the connection that all share: when a client's own says that they changed, that
        // one is asked again.
        let (limit, changed) = (server.startup_timeout, all.teller(key));
        let greeted = Upstream::connect_for(owner, channel, protocol, limit, changed).await;
        let upstream = greeted.map_err(|error| gone(&error))?;
        let (lent, tasks) = (back.keep(), self.0.tasks.clone());
        Ok(Arc::new(Connection { upstream, lent, tasks, _room: room, _stay: all.stay(key) }))
    }

    /// Starts an instance for the next client, so that it need not wait.
    fn start_spare(&self, lender: &Arc<dyn Lender>, server: &Arc<Server>) {
        let Some(room) = self.0.free_room(&server.id.name) else { return };
        let (inner, lender, server) = (Arc::downgrade(&self.0), Arc::clone(lender), Arc::clone(server));
        self.0.tasks.spawn(async move {
            let Ok(spare) = Spare::start(&lender, &server, room).await else { return };
            let Some(inner) = inner.upgrade() else { return };
            let key = (server.id.name.clone(), server.digests.workload);
            let before = lock(&inner.spares).insert(key, (spare, Instant::now()));
            drop(before);
        });
    }

    /// Looks for idle connections from now on.
    fn sweep(&self) {
        self.0.sweeping.get_or_init(|| {
            let inner = Arc::downgrade(&self.0);
            self.0.tasks.spawn(async move {
                let mut interval = tokio::time::interval(SWEEP);
                loop {
                    interval.tick().await;
                    let Some(inner) = inner.upgrade() else { return };
                    inner.end_idle();
                }
            });
        });
    }

    /// Ends all of them.
    pub(super) fn close(&self) {
        lock(&self.0.sessions).clear();
        lock(&self.0.idle).clear();
        lock(&self.0.spares).clear();
    }
}

/// An instance that is started and nobody's yet.
struct Spare {
    channel: Channel,
    back: GiveBack,
    room: OwnedSemaphorePermit,
}

impl Spare {
    async fn start(
        lender: &Arc<dyn Lender>,
        server: &Arc<Server>,
        room: OwnedSemaphorePermit,
    ) -> Result<Self, String> {
        let lending = tokio::time::timeout(server.startup_timeout, lender.lend(server));
        let lent = lending.await.map_err(|error| error.to_string())?.map_err(|error| error.chain())?;
        let back = GiveBack(Some((Arc::clone(lender), lent.instance)));
        Ok(Self { channel: lent.channel, back, room })
    }
}

/// An instance that goes back unless it is kept.
struct GiveBack(Option<(Arc<dyn Lender>, Instance)>);

impl GiveBack {
    fn keep(mut self) -> Option<(Arc<dyn Lender>, Instance)> {
        self.0.take()
    }
}

impl Drop for GiveBack {
    fn drop(&mut self) {
        if let Some((lender, instance)) = self.0.take() {
            lender.give_back(instance);
        }
    }
}

impl Inner {
    fn take_idle(&self, key: &Key) -> Option<Arc<Connection>> {
        let mut idle = lock(&self.idle);
        idle.retain(|(_, connection, _)| !connection.is_closed());
        let at = idle.iter().rposition(|(of, _, _)| of == key)?;
        Some(idle.remove(at).1)
    }

    fn free_room(&self, server: &Name) -> Option<OwnedSemaphorePermit> {
        let mut rooms = lock(&self.rooms);
        let all = rooms.entry(server.clone()).or_insert_with(|| Arc::new(Semaphore::new(PER_SERVER)));
        Arc::clone(all).try_acquire_owned().ok()
    }

    /// Room for one more connection; a spare instance of another version, or the longest idle connection,
    /// goes for it.
    fn room(&self, server: &Name) -> Option<OwnedSemaphorePermit> {
        if let Some(room) = self.free_room(server) {
            return Some(room);
        }
        lock(&self.spares).retain(|(of, _), _| of != server);
        let mut idle = lock(&self.idle);
        if let Some(at) = idle.iter().position(|(key, _, _)| key.server == *server) {
            let gone = idle.remove(at);
            drop(idle);
            drop(gone);
        }
        self.free_room(server)
    }

    fn end_idle(&self) {
        let idle_for = |since: &Instant, limit| since.elapsed() >= limit;
        lock(&self.spares).retain(|_, (_, since)| !idle_for(since, IDLE));
        lock(&self.idle).retain(|(_, connection, since)| !connection.is_closed() && !idle_for(since, IDLE));
        lock(&self.sessions).retain(|_, slot| {
            // One that is being opened is in use.
            let Ok(held) = slot.try_lock() else { return true };
            held.as_ref().is_none_or(|(connection, since)| {
                connection.in_flight() > 0 || !(connection.is_closed() || idle_for(since, IDLE_SESSION))
            })
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
