//! A Docker engine (20.10 or newer, classic builder) as a place where things run.
//!
//! Input: workloads, builds and runs, resolved. Output: containers that carry our labels.
//! Everything that is started runs below crib-init (`src/init/main.rs`), so that SIGTERM means
//! what it says, nothing is left unreaped, and secrets reach it without the engine's knowing.
//!
//! Invariants: nothing without our owner's label is stopped or removed, but for what brought an
//! earlier crib-init, which is of no owner; an instance's name is
//! decided before it is created, so a half-made one is found again; secrets are in no request
//! to the engine. Whoever drops the runner calls [`DockerRunner::close`] first, so that runs in
//! progress are removed; what is left all the same goes with the next `sweep`.
//!
//! Not here: deciding what should run.

mod build;
mod container;
mod context;
mod disk;
mod egress;
mod engine;
mod frame;
mod framed;
mod image;
mod init;
mod labels;
mod launch;
mod network;
mod run;
mod serve;
mod session;
mod tail;
mod volume;
mod warm;
mod watch;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::EventMessage;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::build::BuildSpec;
use crate::desired::Workload;
use crate::live::{Instance, InstanceId};
use crate::ports::{
    Ahead, BuildInput, Channel, Identity, Material, PortResult, Prepared, Progress, Run, Runner, Running,
    SecretValue,
};
use crate::resource::workload::Egress;
use crate::resource::{Digest, Name};

/// Containers of ours whose end is expected. Entries go when the engine tells of the removal; past
/// the bound (the engine tells nothing), forgetting them costs one needless pass each.
const MAX_LEAVING: usize = 4096;

/// What a Docker runner is made from.
#[derive(Clone, Debug)]
pub struct Settings {
    pub name: Name,
    /// `unix:///path` or `tcp://host:port`.
    pub host: String,
    /// Whose containers are ours: from `--name`, or repository and path. Never random.
    pub owner: String,
    /// Whether the daemon before this one stopped cleanly: then no answer of a stdio server can be
    /// under way, and it may be used on.
    pub clean: bool,
}

/// A Docker engine. Nothing is asked of it before it is used.
pub struct DockerRunner {
    inner: Arc<Inner>,
}

struct Inner {
    name: Name,
    owner: String,
    clean: bool,
    engine: engine::Engine,
    init: init::Init,
    network: tokio::sync::Mutex<()>,
    /// Volumes that this process made, or has seen made.
    volumes: tokio::sync::Mutex<BTreeSet<Name>>,
    /// Held while a forwarder is made or removed.
    forwarders: tokio::sync::Mutex<()>,
    sessions: Mutex<HashMap<InstanceId, Arc<session::Session>>>,
    /// What instances that an earlier process started were given, until they are connected.
    revealed: Mutex<HashMap<InstanceId, Vec<SecretValue>>>,
    /// Containers that this process is starting, by name and id.
    starting: Mutex<HashSet<String>>,
    /// Containers that wait for runs, with their digests: from before they exist until they are gone.
    ahead: Mutex<HashMap<String, Digest>>,
    /// Containers that this process is ending, by id.
    leaving: Mutex<HashSet<String>>,
    builds: build::Builds,
    news: Notify,
    listening: std::sync::Once,
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl DockerRunner {
    pub fn new(settings: Settings) -> Self {
        let Settings { name, host, owner, clean } = settings;
        let inner = Inner {
            name,
            owner,
            clean,
            engine: engine::Engine::new(host),
            init: init::Init::default(),
            network: tokio::sync::Mutex::default(),
            volumes: tokio::sync::Mutex::default(),
            forwarders: tokio::sync::Mutex::default(),
            sessions: Mutex::default(),
            revealed: Mutex::default(),
            starting: Mutex::default(),
            ahead: Mutex::default(),
            leaving: Mutex::default(),
            builds: build::Builds::default(),
            news: Notify::new(),
            listening: std::sync::Once::new(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Ends runs and builds in progress and lets go of servers, which go on. The caller limits the
    /// time.
    pub async fn close(&self) {
        self.inner.closing.cancel();
        lock(&self.inner.sessions).clear();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl Drop for DockerRunner {
    fn drop(&mut self) {
        self.inner.closing.cancel();
    }
}

impl Inner {
    /// Whether an event was brought about by this process itself.
    fn expects(&self, event: &EventMessage) -> bool {
        let Some(id) = watch::container(event) else { return false };
        let leaving = &mut lock(&self.leaving);
        match event.action.as_deref() {
            Some("start") => {
                let known = lock(&self.sessions).contains_key(&InstanceId(id.to_owned()));
                known || lock(&self.starting).contains(id)
            }
            Some("destroy") => leaving.remove(id),
            _ => leaving.contains(id),
        }
    }

    fn leaves(&self, id: &str) {
        let leaving = &mut lock(&self.leaving);
        if leaving.len() >= MAX_LEAVING {
            leaving.clear();
        }
        leaving.insert(id.to_owned());
    }
}

/// Data behind these locks is whole between any two statements, so a panic elsewhere spoils none.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since the Unix epoch: compared with the age of what an engine holds.
#[expect(clippy::disallowed_methods, reason = "an engine tells when things were made, not how old they are")]
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl DockerRunner {
    /// The tags of a repository's images that are on the engine.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn tags(&self, repository: &str) -> PortResult<Vec<String>> {
        image::tags(&self.inner.engine.client().await?, repository).await
    }
}

#[async_trait]
impl Runner for DockerRunner {
    async fn observe(&self) -> PortResult<Vec<Instance>> {
        self.inner.observe().await
    }

    async fn image(&self, reference: &str) -> PortResult<String> {
        image::ensure(&self.inner.engine, self.inner.name.as_str(), reference).await
    }

    async fn registry_digest(&self, reference: &str) -> PortResult<Option<String>> {
        image::registry_digest(&self.inner.engine.client().await?, reference).await
    }

    async fn built(&self, build: &BuildSpec) -> PortResult<bool> {
        build::built(&self.inner, build).await
    }

    async fn build(
        &self,
        build: &BuildSpec,
        input: BuildInput,
        rebuild: bool,
        progress: Progress<'_>,
    ) -> PortResult<()> {
        build::build(&self.inner, build, input, rebuild, progress).await
    }

    async fn start(
        &self,
        identity: &Identity,
        workload: &Workload,
        material: Material,
    ) -> PortResult<Instance> {
        self.inner.start(identity, workload, material).await
    }

    async fn reveal(&self, instance: &InstanceId, secrets: Vec<SecretValue>) {
        lock(&self.inner.revealed).insert(instance.clone(), secrets);
    }

    async fn connect(&self, instance: &InstanceId) -> PortResult<Channel> {
        self.inner.connect(instance).await
    }

    async fn stop(&self, instance: &InstanceId, grace: Duration) -> PortResult<()> {
        self.inner.stop(instance, grace).await
    }

    async fn logs(&self, instance: &InstanceId) -> PortResult<String> {
        Ok(self.inner.logs(instance))
    }

    async fn run(&self, run: Run) -> PortResult<Running> {
        run::run(&self.inner, run).await
    }

    async fn prepare(&self, ahead: Ahead) -> PortResult<Box<dyn Prepared>> {
        warm::prepare(&self.inner, ahead).await
    }

    async fn ahead(&self) -> PortResult<BTreeSet<Digest>> {
        warm::there(&self.inner).await
    }

    async fn volumes(&self) -> PortResult<BTreeSet<Name>> {
        self.inner.list_volumes().await
    }

    async fn remove_volume(&self, name: &Name) -> PortResult<()> {
        self.inner.remove_volume(name).await
    }

    async fn healthy(&self) -> PortResult<()> {
        self.inner.engine.ping().await
    }

    async fn changed(&self) {
        self.inner.listening.call_once(|| {
            let listen = watch::listen(Arc::downgrade(&self.inner));
            let closing = self.inner.closing.clone();
            self.inner.tasks.spawn(closing.run_until_cancelled_owned(listen));
        });
        self.inner.news.notified().await;
    }

    async fn sweep(&self) -> PortResult<()> {
        self.inner.sweep().await
    }

    async fn collect(&self, keep: &BTreeSet<Digest>) -> PortResult<()> {
        build::collect(&self.inner, keep).await?;
        let _creating = self.inner.network.lock().await;
        // What is being started joins the network only when it runs.
        if !lock(&self.inner.starting).is_empty() {
            return Ok(());
        }
        let docker = self.inner.engine.client().await?;
        init::collect(&docker).await?;
        network::remove(&docker, &self.inner.owner, network::Which::Inside).await
    }

    async fn keep_egress(&self, wanted: &BTreeSet<Arc<[Egress]>>) -> PortResult<()> {
        let _creating = self.inner.network.lock().await;
        if !lock(&self.inner.starting).is_empty() {
            return Ok(());
        }
        egress::keep(&self.inner, wanted).await
    }
}
