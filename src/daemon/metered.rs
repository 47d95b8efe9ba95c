//! A runner that counts: what it starts, and how much of the machine it has promised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::build::BuildSpec;
use crate::desired::{Limits, Workload};
use crate::live::{Instance, InstanceId, InstanceState};
use crate::ports::{
    Ahead, BuildInput, Channel, Identity, Material, PortResult, Prepared, Progress, Run, Runner, Running,
    SecretValue,
};
use crate::resource::workload::Egress;
use crate::resource::{Cpu, Digest, Name};
use crate::telemetry::Metrics;

/// The runner inside, and the metrics it is counted in.
pub(super) struct Metered {
    inner: Arc<dyn Runner>,
    tasks: TaskTracker,
    promised: Arc<Promised>,
}

/// Processor time that was promised to what runs.
struct Promised {
    runner: Name,
    metrics: Arc<Metrics>,
    /// Thousandths of a core that this machine has.
    machine: u64,
    shares: Mutex<Shares>,
}

#[derive(Default)]
struct Shares {
    /// Of instances of servers, by name.
    instances: BTreeMap<String, u64>,
    /// Of runs in progress, together.
    runs: u64,
}

impl Promised {
    fn change(&self, change: impl FnOnce(&mut Shares)) {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut shares);
        let promised = shares.runs + shares.instances.values().sum::<u64>();
        drop(shares);
        #[expect(clippy::cast_precision_loss, reason = "thousandths of cores are far below 2^52")]
        let share = promised as f64 / self.machine as f64;
        self.metrics.utilization(self.runner.as_str(), share);
    }
}

impl Drop for Promised {
    fn drop(&mut self) {
        self.metrics.forget_runner(self.runner.as_str());
    }
}

impl Metered {
    pub(super) fn new(
        inner: Arc<dyn Runner>,
        runner: Name,
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let machine = u64::try_from(cores).unwrap_or(1) * 1000;
        let promised = Arc::new(Promised { runner, metrics, machine, shares: Mutex::default() });
        promised.change(|_| {});
        Self { inner, tasks, promised }
    }

    fn started(&self) {
        self.promised.metrics.started(self.promised.runner.as_str());
    }
}

/// Promises what a run may use, for as long as it goes on.
fn promise(promised: &Arc<Promised>, tasks: &TaskTracker, Cpu(cpu): Cpu, running: Running) -> Running {
    let Running { events, guard } = running;
    promised.change(|shares| shares.runs += cpu);
    let ended = guard.disarm();
    let (promised, told) = (Arc::clone(promised), ended.clone());
    // Ends with the run: whoever holds it cancels the token when it lets go.
    tasks.spawn(async move {
        told.cancelled().await;
        promised.change(|shares| shares.runs = shares.runs.saturating_sub(cpu));
    });
    Running { events, guard: ended.drop_guard() }
}

/// A container that waits, of which runs count like others.
struct Counted {
    inner: Box<dyn Prepared>,
    tasks: TaskTracker,
    promised: Arc<Promised>,
}

#[async_trait]
impl Prepared for Counted {
    async fn run(&self, run: &Run) -> PortResult<Option<Running>> {
        let running = self.inner.run(run).await?;
        Ok(running.map(|running| promise(&self.promised, &self.tasks, run.limits.cpu, running)))
    }

    async fn cleaned(&self) -> bool {
        self.inner.cleaned().await
    }

    fn gone(&self) -> &CancellationToken {
        self.inner.gone()
    }
}

#[async_trait]
impl Runner for Metered {
    async fn observe(&self) -> PortResult<Vec<Instance>> {
        let found = self.inner.observe().await?;
        let Limits { cpu: Cpu(usual), .. } = Limits::default();
        self.promised.change(|shares| {
            let running =
                found.iter().filter(|instance| !matches!(instance.state, InstanceState::Exited { .. }));
            // What was adopted was promised by an earlier daemon; most promise the usual.
            shares.instances = running
                .map(|instance| {
                    let before = shares.instances.get(&instance.name).copied();
                    (instance.name.clone(), before.unwrap_or(usual))
                })
                .collect();
        });
        Ok(found)
    }

    async fn image(&self, reference: &str) -> PortResult<String> {
        self.inner.image(reference).await
    }

    async fn built(&self, build: &BuildSpec) -> PortResult<bool> {
        self.inner.built(build).await
    }

    async fn build(
        &self,
        build: &BuildSpec,
        input: BuildInput,
        rebuild: bool,
        progress: Progress<'_>,
    ) -> PortResult<()> {
        self.inner.build(build, input, rebuild, progress).await
    }

    async fn start(
        &self,
        identity: &Identity,
        workload: &Workload,
        material: Material,
    ) -> PortResult<Instance> {
        let instance = self.inner.start(identity, workload, material).await?;
        self.started();
        let Cpu(cpu) = workload.limits.cpu;
        self.promised.change(|shares| {
            shares.instances.insert(identity.name.clone(), cpu);
        });
        Ok(instance)
    }

    async fn reveal(&self, instance: &InstanceId, secrets: Vec<SecretValue>) {
        self.inner.reveal(instance, secrets).await;
    }

    async fn connect(&self, instance: &InstanceId) -> PortResult<Channel> {
        self.inner.connect(instance).await
    }

    async fn stop(&self, instance: &InstanceId, grace: Duration) -> PortResult<()> {
        self.inner.stop(instance, grace).await
    }

    async fn logs(&self, instance: &InstanceId) -> PortResult<String> {
        self.inner.logs(instance).await
    }

    async fn run(&self, run: Run) -> PortResult<Running> {
        let cpu = run.limits.cpu;
        let running = self.inner.run(run).await?;
        self.started();
        Ok(promise(&self.promised, &self.tasks, cpu, running))
    }

    async fn prepare(&self, ahead: Ahead) -> PortResult<Box<dyn Prepared>> {
        let inner = self.inner.prepare(ahead).await?;
        self.started();
        Ok(Box::new(Counted { inner, tasks: self.tasks.clone(), promised: Arc::clone(&self.promised) }))
    }

    async fn ahead(&self) -> PortResult<BTreeSet<Digest>> {
        self.inner.ahead().await
    }

    async fn registry_digest(&self, reference: &str) -> PortResult<Option<String>> {
        self.inner.registry_digest(reference).await
    }

    async fn volumes(&self) -> PortResult<BTreeSet<Name>> {
        self.inner.volumes().await
    }

    async fn remove_volume(&self, name: &Name) -> PortResult<()> {
        self.inner.remove_volume(name).await
    }

    async fn healthy(&self) -> PortResult<()> {
        self.inner.healthy().await
    }

    async fn changed(&self) {
        self.inner.changed().await;
    }

    async fn sweep(&self) -> PortResult<()> {
        self.inner.sweep().await
    }

    async fn collect(&self, keep: &BTreeSet<Digest>) -> PortResult<()> {
        self.inner.collect(keep).await
    }

    async fn keep_egress(&self, wanted: &BTreeSet<Arc<[Egress]>>) -> PortResult<()> {
        self.inner.keep_egress(wanted).await
    }
}
