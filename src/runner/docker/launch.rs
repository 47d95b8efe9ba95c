//! Creating, attaching, starting and removing one container.

use std::time::Duration;

use bollard::Docker;
use bollard::container::AttachContainerResults;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, InspectContainerOptions,
    RemoveContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
};
use tokio::io::AsyncWriteExt;

use super::engine::{Engine, ask, fault, found, status};
use super::{init, labels, session};
use crate::ports::{PortError, PortResult};

/// Beyond a grace: until a killed container is gone.
const KILL: Duration = Duration::from_secs(30);
/// Until crib-init has taken a frame: the engine hands it on as soon as the container runs.
const FRAME: Duration = Duration::from_secs(30);

/// Creates a container. One of ours of the same name is what an earlier try left: it goes.
pub(super) async fn create(
    docker: &Docker,
    owner: &str,
    name: &str,
    body: ContainerCreateBody,
) -> PortResult<String> {
    let operation = || format!("failed to create container `{name}`");
    for _ in 0..2 {
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let created = ask(operation, async {
            match docker.create_container(Some(options), body.clone()).await {
                Err(error) if status(&error) == Some(409) => Ok(None),
                other => other.map(Some),
            }
        });
        if let Some(created) = created.await? {
            for warning in created.warnings {
                tracing::debug!(container = name, warning);
            }
            return Ok(created.id);
        }
        if let Some(id) = ours(docker, owner, name).await? {
            remove(docker, &id).await?;
        }
    }
    Err(PortError::retry(operation()).caused_by("another container has that name"))
}

/// The full id of a container of ours; `None` when there is none of that name or id.
///
/// # Errors
/// When there is one and it is not ours.
pub(super) async fn ours(docker: &Docker, owner: &str, id: &str) -> PortResult<Option<String>> {
    let operation = || format!("failed to look at container `{id}`");
    let look = async { found(docker.inspect_container(id, None::<InspectContainerOptions>).await) };
    let Some(container) = ask(operation, look).await? else { return Ok(None) };
    let labels = container.config.and_then(|config| config.labels);
    if !labels::owned_by(labels.as_ref(), owner) {
        return Err(PortError::stalled(operation()).caused_by("it is not ours"));
    }
    Ok(container.id)
}

/// Attaches before the start, so that nothing said is lost.
pub(super) async fn attach(docker: &Docker, id: &str, stdin: bool) -> PortResult<AttachContainerResults> {
    let options =
        AttachContainerOptionsBuilder::default().stdin(stdin).stdout(true).stderr(true).stream(true).build();
    ask(|| format!("failed to attach to container `{id}`"), docker.attach_container(id, Some(options))).await
}

/// Starts a created container.
pub(super) async fn start(docker: &Docker, init: &init::Init, id: &str) -> PortResult<()> {
    let operation = || format!("failed to start container `{id}`");
    let started = docker.start_container(id, None::<StartContainerOptions>);
    let failed = match tokio::time::timeout(KILL, started).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => fault(operation(), error),
        Err(_) => PortError::retry(operation()).caused_by("the Docker engine did not answer in time"),
    };
    if failed.chain().contains(init::PATH) {
        // Somebody removed the volume: the next start brings it again.
        init.forget().await;
    }
    if failed.chain().contains("could not select device driver") {
        return Err(PortError::stalled(operation()).caused_by(failed).hint(
            "the engine cannot hand out graphics processors: install its driver (NVIDIA Container Toolkit), or take \
             `gpu` from the runner's `capacity`",
        ));
    }
    Err(failed)
}

/// Sends the frame to crib-init.
pub(super) async fn send_frame(input: &mut session::Input, frame: &[u8]) -> PortResult<()> {
    let operation = "failed to hand environment and files to the container";
    let sent = async {
        input.write_all(frame).await?;
        input.flush().await
    };
    match tokio::time::timeout(FRAME, sent).await {
        Ok(sent) => sent.map_err(|error| PortError::retry(operation).caused_by(error)),
        Err(_) => Err(PortError::retry(operation).caused_by("it did not take them within 30 s")),
    }
}

/// Stops politely, then not. A container that is gone is stopped.
pub(super) async fn stop(engine: &Engine, id: &str, grace: Duration) -> PortResult<()> {
    let operation = || format!("failed to stop container `{id}`");
    let docker = engine.patient(grace + KILL).await?;
    let seconds = i32::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(i32::MAX);
    let options = StopContainerOptionsBuilder::default().t(seconds).build();
    let stop = async { found(docker.stop_container(id, Some(options)).await) };
    match tokio::time::timeout(grace + KILL, stop).await {
        Ok(stopped) => stopped.map(|_| ()).map_err(|error| fault(operation(), error)),
        Err(_) => Err(PortError::retry(operation()).caused_by("it does not end, not even when killed")),
    }
}

/// Removes a container and its anonymous volumes, killing it if need be.
pub(super) async fn remove(docker: &Docker, id: &str) -> PortResult<()> {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    ask(|| format!("failed to remove container `{id}`"), async {
        match found(docker.remove_container(id, Some(options)).await) {
            // 409: it is being removed already.
            Err(error) if status(&error) == Some(409) => Ok(()),
            other => other.map(|_| ()),
        }
    })
    .await
}
