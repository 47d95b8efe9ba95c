//! Locks made without a daemon: everything is started in a place of its own, asked, and taken away.

use std::collections::BTreeSet;
use std::path::Path;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::control::lock_view;
use super::rehearse::discard_volumes;
use super::world::World;
use super::{DaemonError, EVENTS, GRACE};
use crate::admin::LockView;
use crate::config::Config;
use crate::ports::PortResult;
use crate::reconcile::Reconciler;
use crate::resource::{Name, ResourceId};
use crate::status::Status;

pub use crate::git::{Author, Commit, Committed};

/// Looks up, builds, starts and asks the resources in `only`, and leaves nothing of it behind.
///
/// # Errors
/// When a place of its own cannot be had, or `cancel` was cancelled.
pub async fn survey(
    config: &Config,
    only: BTreeSet<ResourceId>,
    cancel: CancellationToken,
) -> Result<Vec<LockView>, DaemonError> {
    let name = format!("lock-{}", std::process::id());
    let owner = Name::parse(&name).map_err(|error| DaemonError {
        message: "failed to name the survey".to_owned(),
        hint: None,
        source: Some(Box::new(error)),
    })?;
    let config = Config { state: config.environment.state_home().join(&name), owner, ..config.clone() };
    let (events, _inbox) = mpsc::channel(EVENTS);
    let tasks = TaskTracker::new();
    let world = World::build(&config, events, &tasks)?;
    let reconciler = Reconciler::new(world.ports(), config.floor.clone(), Status::default())?;
    let found = tokio::select! {
        // Cancel-safe: what was started is looked for below.
        () = cancel.cancelled() => Err(DaemonError::interrupted()),
        found = reconciler.survey(only) => Ok(found),
    };
    world.release().await;
    for runner in world.pool.all() {
        let gone = async {
            for instance in runner.observe().await? {
                runner.stop(&instance.id, GRACE).await?;
            }
            discard_volumes(&*runner).await?;
            runner.collect(&BTreeSet::new()).await
        };
        if let Err(error) = gone.await {
            tracing::warn!(error = %error.chain(), "something that was started to be asked stays");
        }
    }
    world.pool.shutdown(GRACE).await;
    drop(world);
    if let Err(error) = std::fs::remove_dir_all(&config.state) {
        tracing::warn!(folder = %config.state.display(), %error, "the folder of the survey stays");
    }
    Ok(found?.into_iter().map(lock_view).collect())
}

/// Writes a commit of files of a local repository.
///
/// # Errors
/// As [`crate::git::write_commit`].
pub async fn commit(repository: &Path, commit: Commit) -> PortResult<Committed> {
    crate::git::write_commit(repository, commit).await
}
