//! Processes beside the daemon: for development and for servers one trusts.
//!
//! Input: workloads and runs whose program is a command. Output: process groups of our own, each
//! with an empty environment but for what is declared, limits, a private home, and files on a
//! memory file system below `$TOOLCRIB_FILES`. Invariant: whatever was started here ends with its
//! instance, its call, or (through the kernel's death signal and [`Runner::sweep`]) with the daemon.
//! Not here: confinement. A process sees the machine as the daemon's user does; its share of
//! processor time is not limited.

mod group;
mod launch;
mod limits;
mod prepare;
mod record;
mod ring;
mod run;
mod server;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::build::BuildSpec;
use crate::desired::Workload;
use crate::live::{Instance, InstanceId};
use crate::ports::{
    BuildInput, Channel, Identity, Material, PortError, PortResult, Progress, Run, Runner, Running,
};
use crate::resource::{Digest, Name};

pub use limits::{SUBCOMMAND, limits_child};

/// Where one process runner keeps things, and what it starts things with.
#[derive(Clone, Debug)]
pub struct Config {
    pub runner: Name,
    /// Records and homes; private to the daemon's user.
    pub state: PathBuf,
    /// Our own binary, for [`SUBCOMMAND`].
    pub launcher: PathBuf,
    /// `PATH` of what is started, unless it declares its own.
    pub path: OsString,
    /// A folder on a memory file system, for declared files.
    pub memory: Option<PathBuf>,
    /// Tells our processes from those of another daemon.
    pub installation: String,
}

impl Config {
    /// The runner's part of the daemon's state folder, and what the daemon's environment says, which
    /// `variable` answers for.
    pub fn local(runner: Name, state: &Path, variable: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let state = state.join("processes").join(runner.as_str());
        let installation = Digest::of_bytes(state.as_os_str().as_encoded_bytes()).short();
        let shared = [variable("XDG_RUNTIME_DIR").map(PathBuf::from), Some("/dev/shm".into())];
        let memory = shared.into_iter().flatten().find(|folder| is_memory(folder));
        Self {
            runner,
            state,
            launcher: "/proc/self/exe".into(),
            path: variable("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()),
            memory: memory.map(|folder| folder.join(format!("toolcrib-{installation}"))),
            installation,
        }
    }
}

#[cfg(target_os = "linux")]
fn is_memory(folder: &Path) -> bool {
    use nix::sys::statfs::{TMPFS_MAGIC, statfs};
    folder.is_absolute() && statfs(folder).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC)
}

#[cfg(not(target_os = "linux"))]
fn is_memory(_: &Path) -> bool {
    false
}

/// The runner. Dropping it ends what it started; [`ProcessRunner::shutdown`] does so politely.
pub struct ProcessRunner {
    launcher: launch::Launcher,
    servers: server::Servers,
}

impl ProcessRunner {
    /// # Errors
    /// When the state folder cannot be made.
    #[expect(clippy::disallowed_methods, reason = "makes the state folder")]
    pub fn new(config: Config) -> PortResult<Self> {
        let failed = |error| {
            PortError::retry(format!("failed to make the folder `{}`", config.state.display()))
                .caused_by(error)
        };
        std::fs::create_dir_all(config.state.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
        prepare::private(&config.state).map_err(failed)?;
        Ok(Self { launcher: launch::Launcher::new(config)?, servers: server::Servers::default() })
    }

    /// Stops every server, and lets runs go on for at most `grace`.
    pub async fn shutdown(&self, grace: Duration) {
        let stops =
            self.servers.ids().into_iter().map(|id| async move { self.servers.stop(&id, grace).await });
        futures::future::join_all(stops).await;
        self.launcher.close(grace).await;
    }
}

/// Process runners have no images and build nothing.
fn no_images() -> PortError {
    PortError::stalled("a process runner has no images")
        .hint("use a runner that runs containers, or declare a `command` without an image")
}

#[async_trait]
impl Runner for ProcessRunner {
    async fn observe(&self) -> PortResult<Vec<Instance>> {
        Ok(self.servers.list(&self.launcher.config().runner))
    }

    async fn image(&self, _reference: &str) -> PortResult<String> {
        Err(no_images())
    }

    async fn build(
        &self,
        _build: &BuildSpec,
        _input: BuildInput,
        _rebuild: bool,
        _progress: Progress<'_>,
    ) -> PortResult<()> {
        Err(no_images())
    }

    async fn start(
        &self,
        identity: &Identity,
        workload: &Workload,
        material: Material,
    ) -> PortResult<Instance> {
        self.servers.start(&self.launcher, identity, workload, material).await
    }

    async fn connect(&self, instance: &InstanceId) -> PortResult<Channel> {
        self.servers.connect(instance)
    }

    async fn stop(&self, instance: &InstanceId, grace: Duration) -> PortResult<()> {
        self.servers.stop(instance, grace).await;
        Ok(())
    }

    async fn logs(&self, instance: &InstanceId) -> PortResult<String> {
        self.servers.logs(instance).await
    }

    async fn run(&self, run: Run) -> PortResult<Running> {
        run::run(&self.launcher, run).await
    }

    async fn healthy(&self) -> PortResult<()> {
        let state = self.launcher.config().state.clone();
        let checked = self.launcher.on_thread(move || prepare::private(&state)).await?;
        checked.map_err(|error| {
            PortError::retry("the state folder of the process runner cannot be used").caused_by(error)
        })
    }

    async fn changed(&self) {
        self.servers.changed().await;
    }

    async fn sweep(&self) -> PortResult<()> {
        self.launcher.sweep().await
    }
}

/// What runs now, of all process runners of this daemon: `<installation>/<name>`. One for all, since
/// a runner that is declared again meets the runs of its former self.
static LIVE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn is_live(installation: &str, name: &str) -> bool {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner).contains(&format!("{installation}/{name}"))
}

/// One name in [`LIVE`]; gone on drop.
struct LiveName {
    installation: String,
    name: String,
}

impl LiveName {
    fn new(installation: &str, name: &str) -> Self {
        LIVE.lock().unwrap_or_else(PoisonError::into_inner).insert(format!("{installation}/{name}"));
        Self { installation: installation.to_owned(), name: name.to_owned() }
    }
}

impl Drop for LiveName {
    fn drop(&mut self) {
        let live = format!("{}/{}", self.installation, self.name);
        LIVE.lock().unwrap_or_else(PoisonError::into_inner).remove(&live);
    }
}
