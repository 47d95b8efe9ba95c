//! Adapters for the runners a repository declares: made when declared, kept while unchanged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::metered::Metered;
use crate::config::Environment;
use crate::desired;
use crate::ports::{DeclaredRunners, PortResult, Runner, RunnerPool, Runners};
use crate::reconcile::{Cause, Event};
use crate::resource::Name;
use crate::resource::runner::RunnerKind;
use crate::runner::docker::{self, DockerRunner};
use crate::runner::process::{self, ProcessRunner};
use crate::telemetry::Metrics;

/// Between two looks for leftovers: of runs that could not be removed when they ended.
const SWEEP: Duration = Duration::from_mins(10);
/// After a look that failed, as while an engine is away.
const SWEEP_AGAIN: Duration = Duration::from_secs(15);

/// How adapters are made.
pub(super) struct Setting {
    pub(super) state: std::path::PathBuf,
    pub(super) owner: Name,
    pub(super) environment: Environment,
    /// Where the engine is unless a runner says: `DOCKER_HOST`, or the usual socket.
    pub(super) docker_host: String,
    /// Whether the daemon before ended in order, so that streams may be taken over.
    pub(super) clean: bool,
    pub(super) metrics: Arc<Metrics>,
}

/// One adapter and what it was made for.
struct Member {
    declared: Arc<desired::Runner>,
    runner: Arc<dyn Runner>,
    process: Option<Arc<ProcessRunner>>,
    docker: Option<Arc<DockerRunner>>,
    /// Ends the task that waits for its changes.
    watch: CancellationToken,
}

/// All adapters there are.
pub(super) struct Pool {
    setting: Setting,
    members: Mutex<BTreeMap<Name, Member>>,
    events: mpsc::Sender<Event>,
    tasks: TaskTracker,
}

impl Pool {
    pub(super) fn new(setting: Setting, events: mpsc::Sender<Event>, tasks: TaskTracker) -> Self {
        Self { setting, members: Mutex::default(), events, tasks }
    }

    fn make(&self, declared: &Arc<desired::Runner>) -> PortResult<Member> {
        let watch = CancellationToken::new();
        let (mut process, mut docker) = (None, None);
        let runner: Arc<dyn Runner> = match declared.kind {
            RunnerKind::Process => {
                let config = process::Config::local(
                    declared.name.clone(),
                    &self.setting.state,
                    &*self.setting.environment.lookup(),
                );
                let runner = Arc::new(ProcessRunner::new(config)?);
                process = Some(Arc::clone(&runner));
                runner
            }
            RunnerKind::Docker => {
                let runner = Arc::new(DockerRunner::new(docker::Settings {
                    name: declared.name.clone(),
                    owner: self.setting.owner.to_string(),
                    host: declared.host.clone().unwrap_or_else(|| self.setting.docker_host.clone()),
                    clean: self.setting.clean,
                }));
                docker = Some(Arc::clone(&runner));
                runner
            }
        };
        let (name, metrics) = (declared.name.clone(), Arc::clone(&self.setting.metrics));
        let runner: Arc<dyn Runner> = Arc::new(Metered::new(runner, name, metrics, self.tasks.clone()));
        self.watch(Arc::clone(&runner), watch.clone(), declared.name.clone());
        Ok(Member { declared: Arc::clone(declared), runner, process, docker, watch })
    }

    /// Sweeps what earlier runs left, again when that failed or some time has gone by, and tells the
    /// loop of every change.
    fn watch(&self, runner: Arc<dyn Runner>, ended: CancellationToken, name: Name) {
        let events = self.events.clone();
        let watching = async move {
            let (mut next_sweep, mut told) = (tokio::time::Instant::now(), false);
            loop {
                if tokio::time::Instant::now() >= next_sweep {
                    let pause = sweep(&*runner, &name, &mut told).await;
                    next_sweep = tokio::time::Instant::now() + pause;
                }
                // Cancel-safe: a change that was not returned yet is returned by the next call.
                tokio::select! {
                    () = runner.changed() => {}
                    () = tokio::time::sleep_until(next_sweep) => continue,
                }
                if events.send(Event::Look(Cause::Runner)).await.is_err() {
                    break;
                }
            }
        };
        // Cancel-safe: the watch holds nothing.
        self.tasks.spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = watching => {}
            }
        });
    }

    /// All runners there are.
    pub(super) fn all(&self) -> Vec<Arc<dyn Runner>> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.values().map(|member| Arc::clone(&member.runner)).collect()
    }

    /// Ends what cannot outlive the daemon: processes, and containers of runs. Those of servers go on.
    pub(super) async fn shutdown(&self, grace: std::time::Duration) {
        let members = std::mem::take(&mut *self.members.lock().unwrap_or_else(PoisonError::into_inner));
        for member in members.values() {
            member.watch.cancel();
        }
        let ending = members.values().filter_map(|member| member.process.as_ref());
        let letting_go = members.values().filter_map(|member| member.docker.as_ref());
        futures::future::join(
            join_all(ending.map(|runner| runner.shutdown(grace))),
            join_all(letting_go.map(|runner| tokio::time::timeout(grace, runner.close()))),
        )
        .await;
    }
}

impl Pool {
    /// The runners there are now.
    pub(super) fn names(&self) -> Vec<Name> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

impl Runners for Pool {
    fn get(&self, name: &Name) -> Option<Arc<dyn Runner>> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.get(name).map(|member| Arc::clone(&member.runner))
    }
}

impl RunnerPool for Pool {
    fn set(&self, runners: &DeclaredRunners) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|name, member| {
            let stays = runners.get(name).is_some_and(|declared| same_place(declared, &member.declared));
            if !stays {
                member.watch.cancel();
            }
            stays
        });
        for (name, declared) in runners {
            if members.contains_key(name) {
                continue;
            }
            match self.make(declared) {
                Ok(member) => {
                    members.insert(name.clone(), member);
                }
                Err(error) => {
                    tracing::error!(runner = %name, error = %error.chain(), hint = error.hint, "the runner cannot be set up");
                }
            }
        }
    }
}

/// Removes leftovers; how long until it is to be tried again. A failure is told once.
async fn sweep(runner: &dyn Runner, name: &Name, told: &mut bool) -> Duration {
    match runner.sweep().await {
        Ok(()) => {
            *told = false;
            SWEEP
        }
        Err(error) => {
            if !std::mem::replace(told, true) {
                tracing::warn!(runner = %name, error = %error.chain(), "leftovers of earlier runs stay; tried again");
            }
            SWEEP_AGAIN
        }
    }
}

/// Whether the adapter of one serves the other: attributes and build settings travel with each job.
fn same_place(a: &desired::Runner, b: &desired::Runner) -> bool {
    a.kind == b.kind && a.host == b.host
}
