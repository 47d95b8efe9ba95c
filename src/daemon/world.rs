//! The adapters of one configuration.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures::future::join_all;
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use super::pool::{Pool, Setting};
use super::publish::{Published, SystemClock};
use super::record::observer;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::execute::Executor;
use crate::gateway::Gateway;
use crate::http::Presented;
use crate::http::grants::Grants;
use crate::http::opa::Opa;
use crate::mcp::client::Upstreams;
use crate::outgoing;
use crate::ports::{
    Identities, Lookup, PortError, PortResult, Prober, Publisher, RunnerPool, Runners, Secrets, Source,
    Store, ToolExecutor,
};
use crate::probe::Probe;
use crate::reconcile::{Event, Ports};
use crate::registrar::Registrar;
use crate::resource::{Name, Revision};
use crate::secret::LocalSecrets;
use crate::store::Redb;
use crate::telemetry::{Journal, Metrics};

/// Where the store says whether the last daemon ended in order.
pub(super) const CLEAN: &str = "clean";

/// Where records of calls are, below the state directory.
const JOURNAL: &str = "audit";

/// The file below the state directory with the key of users' tokens.
const AUTHORIZATIONS: &str = "authorizations.key";

/// Where the store keeps the key under which secrets are told apart.
const KEY: &str = "installation-key";

/// Where an engine listens unless somebody says otherwise.
pub(super) const DOCKER_SOCKET: &str = "unix:///var/run/docker.sock";

/// Everything there is one of.
pub(super) struct World {
    /// Whether the daemon before ended in order.
    pub(super) clean: bool,
    pub(super) store: Arc<Redb>,
    pub(super) source: Arc<dyn Source>,
    pub(super) lookup: Arc<dyn Lookup>,
    pub(super) secrets: Arc<dyn Secrets>,
    pub(super) presented: Arc<Presented>,
    pub(super) probes: Arc<Probe>,
    pub(super) executor: Arc<dyn ToolExecutor>,
    pub(super) pool: Arc<Pool>,
    pub(super) journal: Arc<Journal>,
    pub(super) published: Arc<Published>,
}

impl World {
    pub(super) fn build(
        config: &Config,
        events: mpsc::Sender<Event>,
        tasks: &TaskTracker,
    ) -> PortResult<Self> {
        if let Some(file) = &config.git.ca_file {
            trust(file)?;
        }
        let store = Arc::new(Redb::open(&config.state)?);
        let clean = store.get(CLEAN)?.is_some_and(|value| value == b"yes");
        store.put(CLEAN, b"")?;
        // On the disk before anything runs: after a kill, the next start must not find a clean end.
        store.flush()?;
        let local = LocalSecrets::new(key(&store)?, config.environment.lookup());
        let known = local.known();
        let secrets: Arc<dyn Secrets> = Arc::new(local);
        let source = super::source::open(config)?;
        let metrics = Arc::new(Metrics::default());
        let setting = Setting {
            metrics: Arc::clone(&metrics),
            state: config.state.clone(),
            owner: config.owner.clone(),
            environment: config.environment.clone(),
            docker_host: config.environment.get("DOCKER_HOST").unwrap_or(DOCKER_SOCKET).to_owned(),
            clean,
        };
        let lender = super::lend::FromLoop { events: events.clone(), tasks: tasks.clone() };
        let pool = Arc::new(Pool::new(setting, events, tasks.clone()));
        let upstreams = Arc::new(Upstreams::default());
        let runners: Arc<dyn Runners> = Arc::clone(&pool) as _;
        let executor: Arc<dyn ToolExecutor> =
            Arc::new(Executor::new(runners, Arc::clone(&secrets), config.max_warm));
        let first =
            Catalog::empty(Revision { reference: String::new(), commit: String::new(), dirty: false });
        let journal = Journal::open(&config.state.join(JOURNAL)).map_err(|error| {
            PortError::stalled("failed to open the records of calls in the state directory").caused_by(error)
        })?;
        let journal = Arc::new(journal);
        let gateway =
            Gateway::new(first, Arc::clone(&upstreams), Arc::clone(&executor), observer(&metrics, &journal));
        gateway.set_starter(Arc::new(lender.clone()));
        gateway.bridge(Arc::new(lender), &key(&store)?);
        gateway.set_mask(known);
        let presented = Arc::new(presented(&config.state, &store, &secrets)?);
        gateway.set_presented(Arc::clone(&presented));
        count_waiting(&metrics, &executor);
        let published = Published {
            gateway,
            status: ArcSwap::default(),
            failures: ArcSwap::default(),
            metrics,
            judge: Arc::new(Opa::new(Arc::clone(&secrets))?),
            served: watch::Sender::new(false),
            quiet: watch::Sender::new(false),
            changed: watch::Sender::new(()),
            register: watch::Sender::new([].into()),
            registered: ArcSwap::default(),
            executor: Arc::clone(&executor),
            certificate: ArcSwapOption::default(),
        };
        Ok(Self {
            clean,
            store,
            source,
            lookup: crate::git::lookup(super::source::network(config)),
            presented,
            secrets,
            probes: Arc::new(Probe::new(upstreams)),
            executor,
            pool,
            journal,
            published: Arc::new(published),
        })
    }

    /// Lets calls under way end, then lets go of every server; containers go on running.
    pub(super) async fn release(&self) {
        // Nothing is started ahead any more.
        self.executor.keep_warm(&[], "", &Arc::default());
        let keys = self.probes.connected();
        join_all(keys.iter().map(|key| self.probes.release(key, super::GRACE))).await;
        // Blocks for a moment, when nothing else is to be done any more.
        self.journal.written();
    }

    /// What speaks with registration APIs.
    pub(super) fn registrar(&self, owner: &Name) -> PortResult<Registrar> {
        let store = Arc::clone(&self.store) as Arc<dyn Store>;
        Registrar::new(store, Arc::clone(&self.secrets), format!("toolcrib/{owner}"))
    }

    pub(super) fn ports(&self) -> Ports {
        Ports {
            source: Arc::clone(&self.source),
            lookup: Arc::clone(&self.lookup),
            runners: Arc::clone(&self.pool) as Arc<dyn RunnerPool>,
            prober: Arc::clone(&self.probes) as Arc<dyn Prober>,
            secrets: Arc::clone(&self.secrets),
            identities: Arc::clone(&self.presented) as Arc<dyn Identities>,
            store: Arc::clone(&self.store) as Arc<dyn Store>,
            clock: Arc::new(SystemClock),
            publisher: Arc::clone(&self.published) as Arc<dyn Publisher>,
            executor: Arc::clone(&self.executor),
        }
    }
}

/// Has everything that is asked over HTTPS be trusted by these certificates too.
#[expect(clippy::disallowed_methods, reason = "the file of certificates is read, once")]
fn trust(file: &std::path::Path) -> PortResult<()> {
    let failed = || {
        PortError::stalled(format!("`--ca-file`: no certificates can be read from `{}`", file.display()))
            .hint("give the path of a PEM file: blocks that begin with -----BEGIN CERTIFICATE-----")
    };
    let pem = std::fs::read(file).map_err(|error| failed().caused_by(error))?;
    outgoing::trust(&pem).map_err(|error| failed().caused_by(error))
}

/// Counts containers that wait for calls.
fn count_waiting(metrics: &Metrics, executor: &Arc<dyn ToolExecutor>) {
    let executor = Arc::downgrade(executor);
    metrics.look("warm_containers", "Containers that wait for calls, started ahead of them", move || {
        let pools = executor.upgrade().map(|executor| executor.warm()).unwrap_or_default();
        pools.values().map(|pool| pool.waiting as usize).sum()
    });
}

/// What servers elsewhere are shown. Tokens of users are encrypted under a key that is not in the store.
fn presented(
    state: &std::path::Path,
    store: &Arc<Redb>,
    secrets: &Arc<dyn Secrets>,
) -> PortResult<Presented> {
    let key = crate::store::key(&state.join(AUTHORIZATIONS))?;
    let store = Arc::clone(store) as Arc<dyn Store>;
    let grants = Grants::new(Arc::clone(secrets), store, &key)?;
    Presented::new(Arc::clone(secrets), Arc::new(grants))
}

/// The installation's key, made at its first start.
fn key(store: &Redb) -> PortResult<[u8; 32]> {
    if let Some(key) = store.get(KEY)?.and_then(|bytes| bytes.try_into().ok()) {
        return Ok(key);
    }
    let key: [u8; 32] = rand::random();
    store.put(KEY, &key)?;
    Ok(key)
}
