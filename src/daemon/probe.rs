//! Probing without a daemon: a runner is made for it, and is gone afterwards.

use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::publish::SystemClock;
use super::world::DOCKER_SOCKET;
use crate::config::Environment;
use crate::desired::Program;
use crate::ports::{PortError, PortResult, Runner};
use crate::probe::Record;
use crate::probe::undeclared::{self, Attempt};
use crate::resource::Name;
use crate::runner::docker::{self, DockerRunner};
use crate::runner::process::{self, ProcessRunner};

/// What is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undeclared {
    /// A server that runs already.
    Url(String),
    Image(String),
    /// A command and the folder it starts in.
    Command {
        argv: Vec<String>,
        dir: PathBuf,
    },
}

/// What one-off runners and their instances are called.
const NAME: &str = "toolcrib-probe";
/// How long a process that was probed has to end.
const GRACE: Duration = Duration::from_secs(5);

/// Asks it what it offers, within `deadline`, and leaves nothing behind.
///
/// # Errors
/// When it cannot be started, or speaks no MCP.
pub async fn probe(
    what: Undeclared,
    environment: &Environment,
    deadline: Duration,
    cancel: &CancellationToken,
) -> PortResult<Record> {
    let clock = SystemClock;
    let name =
        Name::parse(NAME).map_err(|error| PortError::stalled("failed to name the probe").caused_by(error))?;
    let attempt = async |runner: &dyn Runner, kind, program| {
        let attempt = Attempt { runner, name: name.clone(), kind, clock: &clock, deadline, cancel };
        undeclared::started(&attempt, program).await
    };
    match what {
        Undeclared::Url(url) => undeclared::at(&url, &clock, deadline, cancel).await,
        Undeclared::Image(reference) => {
            let host =
                environment.get("DOCKER_HOST").filter(|host| !host.is_empty()).unwrap_or(DOCKER_SOCKET);
            let owner = format!("{NAME}-{}", std::process::id());
            let settings =
                docker::Settings { name: name.clone(), host: host.to_owned(), owner, clean: false };
            let runner = DockerRunner::new(settings);
            let program = Program::Image { reference, id: None, entrypoint: None, args: None };
            attempt(&runner, "docker", program).await
        }
        Undeclared::Command { argv, dir } => {
            let state = environment.state_home().join(format!("probe-{}", std::process::id()));
            let runner =
                ProcessRunner::new(process::Config::local(name.clone(), &state, &*environment.lookup()))?;
            let program = Program::Command { argv, dir: dir.display().to_string() };
            let found = attempt(&runner, "process", program).await;
            runner.shutdown(GRACE).await;
            if let Err(error) = std::fs::remove_dir_all(&state) {
                tracing::warn!(folder = %state.display(), %error, "the folder of the probe stays");
            }
            found
        }
    }
}
