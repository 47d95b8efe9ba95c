//! Builds everything, supervises, shuts down in order; the only place that names adapters.

mod access;
mod control;
mod counted;
mod lend;
pub mod history;
pub mod lock;
mod metered;
mod operations;
mod pool;
pub mod probe;
mod publish;
mod record;
pub mod rehearse;
mod register;
pub mod source;
mod triggers;
pub mod update;
mod why;
mod world;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, PlanView};
use crate::config::{Config, Environment, Repository};
use crate::convert::listing::Place;
use crate::http;
use crate::http::opa::Opa;
use crate::mcp::wire::VERSIONS;
use crate::ports::{Clock as _, Judge, PortError, PortResult, Publisher as _, Store as _};
use crate::reconcile::{Cause, Event, Reconciler};
use crate::resource::Revision;
use crate::secret::LocalSecrets;
use crate::status::{ConditionStatus, ConditionType, Status, Timestamp, get};
use control::DaemonControl;
use publish::{Published, SystemClock};
use world::World;

/// Events that wait for the loop, which takes them all at once: more than there are senders.
const EVENTS: usize = 256;
/// How long the first catalog may wait for servers before it is announced.
const FIRST_QUIET: Duration = Duration::from_secs(3);
/// How long the loop, listeners and processes have to end, each.
const GRACE: Duration = Duration::from_secs(10);

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DaemonError {
    pub message: String,
    pub hint: Option<String>,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What `run` prints when the first catalog is served.
#[derive(Clone, Debug, Default)]
pub struct Banner {
    /// `http://127.0.0.1:7800/mcp`, with the real port.
    pub mcp: String,
    /// `http://127.0.0.1:7801`, with the real port.
    pub admin: String,
    pub revision: Option<Revision>,
    /// How many resources are declared.
    pub declared: usize,
    /// Published name, owner (`Server/time`) and description or title of each tool.
    pub tools: Vec<(String, String, String)>,
    pub prompts: usize,
    pub resources: usize,
    /// Resources that are not ready, with the message why.
    pub not_ready: Vec<(String, String)>,
}

impl From<PortError> for DaemonError {
    fn from(error: PortError) -> Self {
        Self {
            message: error.operation.clone(),
            hint: error.hint.clone(),
            source: error.source.map(|cause| cause as _),
        }
    }
}

/// The time now, since the Unix epoch.
pub fn now() -> Duration {
    SystemClock.now()
}

/// Follows, serves, and returns when `shutdown` was cancelled and everything is drained.
/// `on_ready` is called once, after the first catalog is served.
///
/// # Errors
/// When a listener, the state directory or the configuration does not permit a start.
pub async fn run(
    config: Config,
    shutdown: CancellationToken,
    on_ready: Box<dyn FnOnce(&Banner) + Send>,
) -> Result<(), DaemonError> {
    let (events, inbox) = mpsc::channel(EVENTS);
    let tasks = TaskTracker::new();
    let ended = CancellationToken::new();
    let world = World::build(&config, events.clone(), &tasks)?;
    let tls = access::certificate(&config)?;
    let mcp = http::bind(config.listen, config.callers.is_some())?;
    let reads = http::bind(config.admin, false)?;
    let socket = admin::listen::Socket::bind(&config.socket())?;
    let addresses = (local(&mcp)?, local(&reads)?);

    let reconciler = Reconciler::new(world.ports(), config.floor.clone(), first_status(&config, addresses))?;
    let control = controlled(&world, &events);
    let admin = admin::routes::Admin { control, metrics: Arc::clone(&world.published.metrics) };
    let public = config.public_url.as_deref().and_then(|url| url.parse().ok());
    let allowed = |address| http::Allowed::new(address, public.as_ref());
    let routes = http::guard(admin::routes::reads(admin.clone()), allowed(addresses.1));
    tasks.spawn(http::serve(reads, routes, ended.clone()));
    world.published.gateway.set_place(place(&config, addresses.0));
    let grants = world.presented.grants();
    let routes = access::routes(&config, addresses.0, &world.published, grants, ended.clone())?;
    let allowed = allowed(addresses.0).encrypted(tls.is_some()).origins(&config.origins);
    if let Some(tls) = &tls {
        tasks.spawn(Arc::clone(tls).follow(ended.clone()));
        tasks.spawn(access::tell(Arc::clone(&world.published), tls.state(), ended.clone()));
    }
    // They outlive what is ended below: instances that a call started are looked after there.
    let lanes = Arc::new(http::Lanes::start(lanes())?);
    let mcp = http::Listener::encrypted(mcp, tls).on(Arc::clone(&lanes));
    tasks.spawn(serve_when_filled(
        &world.published,
        http::serve(mcp, http::guard(routes, allowed), ended.clone()),
    ));
    let serving = socket.serve(admin::routes::all(admin), ended.clone());
    let told = shutdown.clone();
    tasks.spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the admin socket failed");
            told.cancel();
        }
    });
    tasks.spawn(triggers::commits(world.source.clone(), events.clone(), ended.clone()));
    tasks.spawn(triggers::timer(config.interval, events.clone(), ended.clone()));
    tasks.spawn(triggers::authorized(Arc::clone(grants), events.clone(), ended.clone()));
    tasks.spawn(triggers::upstreams(world.probes.clone(), events.clone(), ended.clone()));
    let registrar = world.registrar(&config.owner)?;
    let address = config.public_endpoint(addresses.0);
    tasks.spawn(register::keep(Arc::clone(&world.published), registrar, address, ended.clone()));
    let looping = tasks.spawn(reconciler.run(inbox, ended.clone()));
    tell_what_is_followed(&config, addresses);
    // The loop takes events from its first moment; there is room for one.
    drop(events.send(Event::Fetch(Cause::Start)).await);

    tokio::select! {
        // Cancel-safe: a token.
        () = shutdown.cancelled() => {}
        // Cancel-safe: it only tells.
        () = announce(&world.published, on_ready) => shutdown.cancelled().await,
    }
    tracing::info!("shutting down: calls under way may end");
    ended.cancel();
    world.published.gateway.let_go();
    drop(tokio::time::timeout(GRACE, looping).await);
    world.release().await;
    world.pool.shutdown(GRACE).await;
    tasks.close();
    drop(tokio::time::timeout(GRACE, tasks.wait()).await);
    drop(lanes);
    world.store.put(world::CLEAN, b"yes")?;
    Ok(())
}

/// As many as can run at a time.
fn lanes() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Says what is followed, and where it will be served.
fn tell_what_is_followed(config: &Config, (mcp, admin): (SocketAddr, SocketAddr)) {
    let meanwhile = match config.repository {
        Repository::Local(_) => "",
        Repository::Remote(_) => "; the first fetch of a remote repository takes a while",
    };
    tracing::info!(repository = %config.repository, path = %config.path, %mcp, %admin, "following{meanwhile}");
}

/// Takes connections when there is a first catalog: clients that come back to a daemon that was started
/// again wait in the kernel's queue, instead of being told that there is nothing. Not for long: a
/// repository that cannot be reached must not look like an endpoint that hangs.
fn serve_when_filled(
    published: &Published,
    serving: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    let mut served = published.served.subscribe();
    async move {
        drop(tokio::time::timeout(FIRST_QUIET, served.wait_for(|served| *served)).await);
        serving.await;
    }
}

/// What answers the admin endpoint, and operators over MCP.
fn controlled(world: &World, events: &mpsc::Sender<Event>) -> Arc<DaemonControl> {
    let control = Arc::new(DaemonControl {
        published: Arc::clone(&world.published),
        events: events.clone(),
        pool: Arc::clone(&world.pool),
        journal: Arc::clone(&world.journal),
        grants: Arc::clone(world.presented.grants()),
    });
    world.published.gateway.set_operations(Arc::new(operations::Operating {
        control: Arc::downgrade(&control),
        probes: Arc::clone(&world.probes),
        events: events.clone(),
    }));
    control
}

/// One pass without listeners: what it did is in the status.
///
/// # Errors
/// When the pass could not be made at all; failed steps are conditions of the status.
pub async fn apply(config: Config, cancel: CancellationToken) -> Result<Status, DaemonError> {
    let (events, _inbox) = mpsc::channel(EVENTS);
    let tasks = TaskTracker::new();
    let world = World::build(&config, events, &tasks)?;
    let reconciler = Reconciler::new(world.ports(), config.floor.clone(), status_of(&config))?;
    let status = tokio::select! {
        // Cancel-safe: what was started is in the inventory, and found again.
        () = cancel.cancelled() => return Err(DaemonError::interrupted()),
        status = Box::pin(reconciler.once()) => status,
    };
    world.release().await;
    world.pool.shutdown(GRACE).await;
    world.store.put(world::CLEAN, b"yes")?;
    Ok(status)
}

/// What a pass would do now, computed without a daemon; changes nothing.
///
/// # Errors
/// When the repository cannot be read or a runner's answer is needed and missing.
pub async fn plan(config: Config, cancel: CancellationToken) -> Result<PlanView, DaemonError> {
    let (events, _inbox) = mpsc::channel(EVENTS);
    let tasks = TaskTracker::new();
    let world = World::build(&config, events, &tasks)?;
    let reconciler = Reconciler::new(world.ports(), config.floor.clone(), Status::default())?;
    let planned = tokio::select! {
        // Cancel-safe: nothing is changed.
        () = cancel.cancelled() => return Err(DaemonError::interrupted()),
        planned = Box::pin(reconciler.preview()) => planned,
    };
    // Nothing was taken over, so the end before this look is as clean as it was.
    if world.clean {
        world.store.put(world::CLEAN, b"yes")?;
    }
    let (plan, revision) = planned?;
    Ok(control::view(&plan, revision.map(|revision| revision.to_string())))
}

/// Asks policies that are answered elsewhere, without a daemon.
///
/// # Errors
/// When there is no TLS.
pub fn judge(environment: &Environment) -> PortResult<Arc<dyn Judge>> {
    // Nothing is told apart by its secrets here: any key will do.
    let secrets = LocalSecrets::new(rand::random(), environment.lookup());
    Ok(Arc::new(Opa::new(Arc::new(secrets))?))
}

impl DaemonError {
    fn interrupted() -> Self {
        Self { message: "interrupted".to_owned(), hint: None, source: None }
    }
}

/// Where and as whom clients find us.
fn place(config: &Config, mcp: SocketAddr) -> Place {
    // With an identity provider clients find out themselves where they get a token.
    let token = config.callers.as_ref().is_some_and(|callers| callers.oidc.is_none());
    Place { endpoint: config.public_endpoint(mcp), protocols: &VERSIONS, token }
}

fn local(listener: &TcpListener) -> Result<SocketAddr, DaemonError> {
    listener.local_addr().map_err(|cause| DaemonError {
        message: "failed to read a listener's address".to_owned(),
        hint: None,
        source: Some(Box::new(cause)),
    })
}

fn first_status(config: &Config, (mcp, admin): (SocketAddr, SocketAddr)) -> Status {
    let mut status = status_of(config);
    status.daemon.mcp = config.endpoint(mcp);
    status.daemon.admin = format!("http://{admin}");
    status.daemon.socket = config.socket().display().to_string();
    status
}

/// What is known before anything was read: who works, and on what.
fn status_of(config: &Config) -> Status {
    let mut status = Status::default();
    env!("CARGO_PKG_VERSION").clone_into(&mut status.daemon.version);
    status.daemon.pid = std::process::id();
    status.daemon.owner = config.owner.to_string();
    status.daemon.started = Some(Timestamp(SystemClock.now().as_secs()));
    status.source.repo = config.repository.to_string();
    status.source.reference.clone_from(&config.reference);
    status.source.path = config.path.to_string();
    status
}

/// Waits for the first catalog, and a little for servers on their way, then tells.
async fn announce(published: &Published, on_ready: Box<dyn FnOnce(&Banner) + Send>) {
    let (mut served, mut quiet) = (published.served.subscribe(), published.quiet.subscribe());
    // Both senders live as long as what is published.
    drop(served.wait_for(|served| *served).await);
    drop(tokio::time::timeout(FIRST_QUIET, quiet.wait_for(|quiet| *quiet)).await);
    let Some(catalog) = published.current() else { return };
    let status = published.status.load();
    let tool = |entry: &Arc<crate::catalog::Entry>| {
        (entry.name.to_string(), entry.owner.to_string(), summary(&entry.definition))
    };
    let not_ready = status.resources.iter().filter_map(|(id, resource)| {
        let ready = get(&resource.conditions, ConditionType::Ready)?;
        (ready.status == ConditionStatus::False).then(|| (id.to_string(), ready.message.clone()))
    });
    on_ready(&Banner {
        mcp: status.daemon.mcp.clone(),
        admin: status.daemon.admin.clone(),
        revision: Some(catalog.revision.clone()),
        declared: status.resources.len(),
        tools: catalog.tools.values().map(tool).collect(),
        prompts: catalog.prompts.len(),
        resources: catalog.resources.len(),
        not_ready: not_ready.collect(),
    });
}

/// The first line of a definition's description, or its title.
fn summary(definition: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Told {
        title: Option<String>,
        description: Option<String>,
    }
    let told: Option<Told> = serde_json::from_str(definition).ok();
    let text = told.and_then(|told| told.description.or(told.title)).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}
