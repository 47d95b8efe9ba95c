//! Contract tests without a daemon: what they need is started aside, and gone afterwards.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::world::World;
use super::{DaemonError, EVENTS, GRACE};
use crate::config::Config;
use crate::contract::Report;
use crate::ports::{PortError, PortResult, Runner, Runners as _};
use crate::reconcile::Reconciler;
use crate::resource::{Name, ResourceId};
use crate::status::Status;

/// How long an instance has to end when its tests are over.
const STOP: Duration = Duration::from_secs(5);

/// What tests came to.
pub struct Tested {
    /// Of everything that was started for them.
    pub status: Status,
    /// Of each test that ran.
    pub reports: Vec<Report>,
}

/// Starts these servers and tools under a name of their own, in a state directory of their own, and runs
/// their contract tests. Images that were built for it stay: the next daemon has them.
///
/// # Errors
/// When nothing could be tried at all.
pub async fn test(
    mut config: Config,
    only: BTreeSet<ResourceId>,
    cancel: CancellationToken,
) -> Result<Tested, DaemonError> {
    let name = format!("toolcrib-test-{}-{:08x}", std::process::id(), rand::random::<u32>());
    config.owner = Name::parse(&name)
        .map_err(|error| PortError::stalled("failed to name the tests").caused_by(error))?;
    let folder = Folder(std::env::temp_dir().join(&name));
    config.state.clone_from(&folder.0);
    let (events, _inbox) = mpsc::channel(EVENTS);
    let tasks = TaskTracker::new();
    let world = World::build(&config, events, &tasks)?;
    let reconciler = Reconciler::new(world.ports(), config.floor.clone(), Status::default())?;
    let tested = tokio::select! {
        // Cancel-safe: what was started is found by its label below.
        () = cancel.cancelled() => Err(DaemonError::interrupted()),
        (status, reports) = reconciler.test(only) => Ok(Tested { status, reports }),
    };
    world.release().await;
    let cleaned = clean(&world).await;
    world.pool.shutdown(GRACE).await;
    drop(folder);
    let tested = tested?;
    cleaned?;
    Ok(tested)
}

/// Stops everything that bears the name of these tests.
async fn clean(world: &World) -> PortResult<()> {
    let mut result = Ok(());
    for name in world.pool.names() {
        let Some(runner) = world.pool.get(&name) else { continue };
        // A runner that cannot be asked has started nothing either.
        let Ok(instances) = runner.observe().await else { continue };
        for instance in instances {
            if let Err(error) = runner.stop(&instance.id, STOP).await {
                tracing::warn!(instance = instance.name, error = %error.chain(), "not removed");
                result = Err(error);
            }
        }
        if let Err(error) = discard_volumes(&*runner).await {
            tracing::warn!(error = %error.chain(), "a volume of the tests stays");
            result = Err(error);
        }
        if let Err(error) = runner.keep_egress(&BTreeSet::new()).await {
            tracing::warn!(runner = %name, error = %error.chain(), "ways out are not removed");
            result = Err(error);
        }
    }
    result
}

/// Removes the volumes of what was started under a name of its own.
///
/// # Errors
/// When one of them stays.
pub(super) async fn discard_volumes(runner: &dyn Runner) -> PortResult<()> {
    for volume in runner.volumes().await? {
        runner.remove_volume(&volume).await?;
    }
    Ok(())
}

/// Removed when dropped, with all it holds.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %self.0.display(), %error, "the folder of the tests stays");
        }
    }
}
