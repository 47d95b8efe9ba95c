//! Starting one process group, and seeing it to its end.

#![expect(clippy::disallowed_methods, reason = "starts processes")]

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::process::{Child, Command};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::limits::Limits;
use super::prepare::{self, Folders};
use super::record::{self, Record, Written};
use super::{Config, LiveName, group, is_live};
use crate::desired;
use crate::ports::{Material, PortError, PortResult};
use crate::resource::workload::Security;
use crate::resource::{Digest, ResourceId};

/// How often processes that left their group are looked for, at most: it reads all of `/proc`.
const STRAGGLERS_PERIOD: Duration = Duration::from_secs(1);
/// How long a count of the user's tasks is good for: it reads all of `/proc`, and is a rough
/// headroom anyway.
const TASKS_PERIOD: Duration = Duration::from_secs(10);

/// What is asked to be started.
pub(super) struct Request {
    pub(super) name: String,
    pub(super) resource: ResourceId,
    pub(super) digest: Digest,
    pub(super) revision: String,
    pub(super) program: desired::Program,
    pub(super) material: Material,
    pub(super) limits: desired::Limits,
    pub(super) security: Arc<Security>,
    /// Whether something is written to its standard input.
    pub(super) stdin: bool,
}

/// A process group that runs.
pub(super) struct Launched {
    pub(super) child: Child,
    pub(super) group: i32,
    /// Of its leader, see [`group::Stat::start`].
    pub(super) start: u64,
    leavings: Leavings,
}

/// What is removed when it has ended, in this order.
struct Leavings {
    _folders: Folders,
    _record: Written,
    name: LiveName,
}

/// Starts process groups. Everything that blocks happens on one thread of its own: the kernel sends
/// the death signal when the *thread* that started a process ends, and this one lives as long as
/// the runner.
pub(super) struct Launcher {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

struct Shared {
    config: Config,
    /// When the user's tasks were counted, and how many there were.
    counted: Mutex<Option<(tokio::time::Instant, u64)>>,
    tasks: TaskTracker,
    /// Whether a look for stragglers is under way.
    looking: AtomicBool,
    closing: CancellationToken,
}

impl Launcher {
    pub(super) fn new(config: Config) -> PortResult<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new()
            .name("process-runner".to_owned())
            .spawn(move || {
                let _entered = runtime.enter();
                for job in queue {
                    job();
                }
            })
            .map_err(|error| PortError::retry("failed to start a thread for processes").caused_by(error))?;
        let shared = Shared {
            config,
            counted: Mutex::new(None),
            tasks: TaskTracker::new(),
            looking: AtomicBool::new(false),
            closing: CancellationToken::new(),
        };
        Ok(Self { shared: Arc::new(shared), jobs })
    }

    pub(super) fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Where tasks of this runner are spawned.
    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.shared.tasks
    }

    /// Runs something that blocks on the runner's thread.
    pub(super) async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> PortResult<T> {
        let (reply, answer) = oneshot::channel();
        let stopped = || PortError::retry("the process runner has stopped");
        let job = Box::new(move || {
            // Nobody waits any more when the caller was cancelled.
            let _unheard = reply.send(work());
        });
        self.jobs.send(job).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }

    pub(super) async fn launch(&self, request: Request) -> PortResult<Launched> {
        let shared = self.shared.clone();
        self.on_thread(move || shared.launch(&request)).await?
    }

    /// Sees a process group to its end and removes what it left. Gives the exit code of its leader;
    /// negative: the signal that ended it.
    pub(super) fn supervise(&self, started: Launched, stop: watch::Receiver<Option<Duration>>) -> Supervised {
        let shared = self.shared.clone();
        let jobs = self.jobs.clone();
        let Launched { child, group, leavings, .. } = started;
        Supervised { shared, jobs, child, group, leavings, stop }
    }

    pub(super) async fn sweep(&self) -> PortResult<()> {
        let shared = self.shared.clone();
        let swept = self.on_thread(move || {
            record::sweep(&shared.config, &|name| is_live(&shared.config.installation, name))
        });
        swept
            .await?
            .map_err(|error| PortError::retry("failed to end what an earlier daemon left").caused_by(error))
    }

    /// Lets runs end by themselves for at most `grace`, then ends them.
    pub(super) async fn close(&self, grace: Duration) {
        let tasks = &self.shared.tasks;
        tasks.close();
        if tokio::time::timeout(grace, tasks.wait()).await.is_err() {
            self.shared.closing.cancel();
            tasks.wait().await;
        }
        if let Some(memory) = &self.shared.config.memory {
            // It was never made, or somebody else's run still has files in it.
            let _kept = tokio::fs::remove_dir(memory).await;
        }
    }

    /// Cancelled when runs that still go on are to end.
    pub(super) fn closing(&self) -> &CancellationToken {
        &self.shared.closing
    }
}

impl Shared {
    fn launch(&self, request: &Request) -> PortResult<Launched> {
        let Request { name, program, material, limits, security, .. } = request;
        if security.user != Security::default().user {
            return Err(PortError::stalled("a process runner cannot change the user")
                .hint("leave `security.user` out, or use a runner that runs containers"));
        }
        let live = LiveName::new(&self.config.installation, name);
        let prepared = prepare::prepare(&self.config, name, program, material)?;
        let limits = Limits {
            memory: Some(limits.memory.0),
            tasks: self.tasks(u64::from(limits.pids)),
            parent: Some(std::process::id()),
        };
        let mut command = Command::new(&self.config.launcher);
        command
            .args(limits.arguments())
            .arg(&prepared.program)
            .args(&prepared.args)
            .current_dir(&prepared.dir)
            .env_clear()
            .envs(prepared.env)
            .stdin(if request.stdin { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let failed = |error: std::io::Error| {
            PortError::retry(format!("failed to start `{}`", prepared.program.display())).caused_by(error)
        };
        let child = command.spawn().map_err(failed)?;
        let group = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        let start = group::stat(group).map_or(0, |stat| stat.start);
        let record = Record {
            name: name.clone(),
            group,
            start,
            resource: request.resource.clone(),
            digest: request.digest,
            revision: request.revision.clone(),
        };
        let written = record.write(&self.config.state).map_err(failed)?;
        let leavings = Leavings { _folders: prepared.folders, _record: written, name: live };
        Ok(Launched { child, group, start, leavings })
    }

    /// The limit for the user's tasks: as many as there are, and `pids` more. Root has none.
    fn tasks(&self, pids: u64) -> Option<u64> {
        if nix::unistd::geteuid().is_root() {
            return None;
        }
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = tokio::time::Instant::now();
        let fresh = counted.filter(|(at, _)| now.duration_since(*at) < TASKS_PERIOD);
        let (_, tasks) = *counted.insert(fresh.unwrap_or_else(|| (now, group::tasks_of_user())));
        Some(tasks + pids)
    }
}

impl Shared {
    /// In a while, kills processes whose instance has ended but that had left its group.
    fn look_for_stragglers(self: Arc<Self>) {
        if self.looking.swap(true, Ordering::AcqRel) {
            return;
        }
        self.tasks.clone().spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(STRAGGLERS_PERIOD) => {}
                () = self.closing.cancelled() => {}
            }
            self.looking.store(false, Ordering::Release);
            let scan = tokio::task::spawn_blocking(move || {
                let installation = &self.config.installation;
                group::kill_marked(installation, &|name| !is_live(installation, name));
            });
            let _joined = scan.await;
        });
    }
}

/// A process group whose end is waited for.
pub(super) struct Supervised {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    child: Child,
    group: i32,
    leavings: Leavings,
    stop: watch::Receiver<Option<Duration>>,
}

impl Supervised {
    /// Waits for the leader, or ends the group when asked to; then ends the rest of the group.
    pub(super) async fn leader(&mut self) -> i64 {
        let group = self.group;
        let asked = tokio::select! {
            status = self.child.wait() => Some(status),
            grace = asked_to_stop(&mut self.stop) => {
                group::signal(group, Signal::SIGTERM);
                tokio::time::timeout(grace, self.child.wait()).await.ok()
            }
        };
        let status = if let Some(status) = asked {
            status
        } else {
            group::signal(group, Signal::SIGKILL);
            self.child.wait().await
        };
        // The leader was reaped this instant; its pid, and with it the group's id, cannot have
        // gone all the way round to somebody else yet.
        group::signal(group, Signal::SIGKILL);
        status.map_or(-1, exit_code)
    }

    /// Ends what left the group, now.
    pub(super) async fn stragglers(&self) {
        let (shared, name) = (self.shared.clone(), self.leavings.name.name.clone());
        let killed = tokio::task::spawn_blocking(move || {
            group::kill_marked(&shared.config.installation, &|marked| marked == name);
        });
        // It cannot be cancelled, and a panic in it was already reported.
        let _joined = killed.await;
    }

    /// Removes what is left: record, folders, and soon whatever left the group.
    pub(super) async fn finish(self) {
        let Self { shared, jobs, leavings, .. } = self;
        let (done, finished) = oneshot::channel();
        let work = move || {
            drop(leavings);
            let _unheard = done.send(());
        };
        if let Err(mpsc::SendError(work)) = jobs.send(Box::new(work)) {
            work();
        }
        let _done = finished.await;
        shared.look_for_stragglers();
    }
}

async fn asked_to_stop(stop: &mut watch::Receiver<Option<Duration>>) -> Duration {
    match stop.wait_for(Option::is_some).await {
        Ok(grace) => grace.unwrap_or_default(),
        // Whoever could ask is gone: the runner is being dropped.
        Err(_) => Duration::ZERO,
    }
}

fn exit_code(status: std::process::ExitStatus) -> i64 {
    use std::os::unix::process::ExitStatusExt as _;
    let signal = || status.signal().map_or(-1, |signal| -i64::from(signal));
    status.code().map_or_else(signal, i64::from)
}
