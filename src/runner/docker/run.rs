//! Runs: one container for each call.
//!
//! The task that owns the container outlives whoever asked: it removes the container when the run
//! ended, when its time is over, and when nobody listens any more.

use std::sync::Arc;

use bollard::Docker;
use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use bollard::query_parameters::{InspectContainerOptions, WaitContainerOptions};
use futures::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::container::{Container, First, Stdin, file_path};
use super::engine::{ask, fault};
use super::image::Image;
use super::serve::program_image;
use super::{Inner, disk, egress, frame, labels, launch, lock, session};
use crate::desired::{Limits, Program};
use crate::ports::{Identity, Material, PortError, PortResult, Run, RunEvent, Running};
use crate::resource::workload::{Egress, Mounts, Security};

/// Events between a run and its listener: 32 pieces of at most 32 KiB. Then the program waits.
pub(super) const EVENTS: usize = 32;
/// The code of a killed process, as engines and shells write it.
const KILLED: i64 = 137;

pub(super) type Events = mpsc::Sender<PortResult<RunEvent>>;

pub(super) async fn run(inner: &Arc<Inner>, run: Run) -> PortResult<Running> {
    let (events, receiver) = mpsc::channel(EVENTS);
    let (started, starts) = oneshot::channel();
    let cancel = inner.closing.child_token();
    // From here on, dropping this future ends the run.
    let guard = cancel.clone().drop_guard();
    let name = run.name.clone();
    inner.tasks.spawn(own(Arc::clone(inner), run, (events, started), cancel));
    match starts.await {
        Ok(Ok(())) => Ok(Running { events: receiver, guard }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(PortError::retry(format!("failed to start run `{name}`"))),
    }
}

/// Owns one container from before it exists until it is gone.
async fn own(
    inner: Arc<Inner>,
    run: Run,
    (events, started): (Events, oneshot::Sender<PortResult<()>>),
    cancel: CancellationToken,
) {
    lock(&inner.starting).insert(run.name.clone());
    // Not cut short by a cancellation: a container in the making could not be found and removed.
    match launch(&inner, &run).await {
        Ok((docker, id, attached, input)) => {
            let heard = started.send(Ok(())).is_ok();
            if heard {
                let followed = follow(&docker, &id, (attached, input), &events);
                let outcome = tokio::select! {
                    () = cancel.cancelled() => None,
                    outcome = tokio::time::timeout(run.timeout, followed) => Some(outcome),
                };
                conclude(&docker, &id, &run, outcome, &events).await;
            }
            clean(&docker, &id).await;
        }
        Err(error) => {
            let name = labels::container(&inner.owner, &run.name);
            if let Ok(docker) = inner.engine.client().await
                && let Ok(Some(id)) = launch::ours(&docker, &inner.owner, &name).await
            {
                clean(&docker, &id).await;
            }
            let _ = started.send(Err(error));
        }
    }
    lock(&inner.starting).remove(&run.name);
}

pub(super) async fn clean(docker: &Docker, id: &str) {
    if let Err(error) = launch::remove(docker, id).await {
        tracing::warn!(error = error.chain(), "a container of a run is left; the next start removes it");
    }
}

type Launched = (Docker, String, AttachContainerResults, Vec<u8>);

/// Creates, attaches and starts; the bytes for standard input.
async fn launch(inner: &Inner, run: &Run) -> PortResult<Launched> {
    let docker = inner.engine.client().await?;
    let material = given(run)?;
    let frame = frame::encode(&material)?;
    let open = frame.is_some() || run.stdin.is_some();
    let identity = Identity {
        name: run.name.clone(),
        resource: run.resource.clone(),
        digest: run.digest,
        revision: run.revision.clone(),
    };
    let wanted = Wanted {
        identity: &identity,
        program: &run.program,
        files: material.files.keys().map(String::as_str).collect(),
        limits: &run.limits,
        security: &run.security,
        volumes: &run.volumes,
        egress: &run.egress,
    };
    let first = First::Run { program: &run.program, framed: frame.is_some() };
    let stdin = if open { Stdin::Once } else { Stdin::Empty };
    let (id, _) = create(inner, &docker, &wanted, ("run", first, stdin)).await?;
    let attached = launch::attach(&docker, &id, open).await?;
    launch::start(&docker, &inner.init, &id).await?;
    let mut input = frame.unwrap_or_default();
    input.extend_from_slice(run.stdin.as_deref().unwrap_or_default());
    Ok((docker, id, attached, input))
}

/// Variables and files, these by absolute paths.
pub(super) fn given(run: &Run) -> PortResult<Material> {
    let mut material = Material { env: run.material.env.clone(), ..Material::default() };
    for (path, contents) in &run.material.files {
        material.files.insert(file_path(path)?, contents.clone());
    }
    Ok(material)
}

/// What the container of one run is, whenever it is started.
pub(super) struct Wanted<'a> {
    pub(super) identity: &'a Identity,
    pub(super) program: &'a Program,
    /// Absolute paths.
    pub(super) files: Vec<&'a str>,
    pub(super) limits: &'a Limits,
    pub(super) security: &'a Security,
    pub(super) volumes: &'a Mounts,
    pub(super) egress: &'a [Egress],
}

/// Creates a container and all it needs before; its id, and its image.
pub(super) async fn create(
    inner: &Inner,
    docker: &Docker,
    wanted: &Wanted<'_>,
    (role, first, stdin): (&str, First<'_>, Stdin),
) -> PortResult<(String, Image)> {
    let Wanted { identity, program, files, limits, security, volumes, egress } = wanted;
    inner.init.ensure(docker, &inner.owner).await?;
    let egress = egress::ensure(inner, docker, egress).await?;
    let image = program_image(docker, program).await?;
    disk::check(docker, limits, security).await?;
    let mounts = inner.mounts(docker, volumes, &security.user).await?;
    let body = Container {
        image: &image,
        first,
        limits,
        security,
        env: std::collections::BTreeMap::new(),
        files: files.clone(),
        stdin,
        network: None,
        mounts,
        egress,
        labels: labels::of((&inner.owner, &inner.name), role, identity),
    }
    .body()?;
    let name = labels::container(&inner.owner, &identity.name);
    let id = launch::create(docker, &inner.owner, &name, body).await.map_err(disk::explained)?;
    Ok((id, image))
}

/// Feeds and reads until the container has ended; its exit code. `None`: nobody listens.
async fn follow(
    docker: &Docker,
    id: &str,
    (attached, bytes): (AttachContainerResults, Vec<u8>),
    events: &Events,
) -> PortResult<Option<i64>> {
    let AttachContainerResults { mut output, mut input } = attached;
    let feed = async {
        // A program that does not read its input is none of our business.
        let _ = feed(&mut input, &bytes).await;
        std::future::pending::<()>().await;
    };
    let read = async {
        while let Some(piece) = output.next().await {
            let event = match piece.map_err(|error| fault("failed to read the output".to_owned(), error))? {
                LogOutput::StdOut { message } => RunEvent::Stdout(message),
                LogOutput::StdErr { message } => RunEvent::Stderr(message),
                LogOutput::StdIn { .. } | LogOutput::Console { .. } => continue,
            };
            if events.send(Ok(event)).await.is_err() {
                return Ok(false);
            }
        }
        Ok::<_, PortError>(true)
    };
    let listened = tokio::select! {
        listened = read => listened?,
        () = feed => true,
    };
    if listened { wait(docker, id).await.map(Some) } else { Ok(None) }
}

async fn feed(input: &mut session::Input, bytes: &[u8]) -> Result<(), std::io::Error> {
    input.write_all(bytes).await?;
    input.flush().await?;
    input.shutdown().await
}

async fn wait(docker: &Docker, id: &str) -> PortResult<i64> {
    let operation = || format!("failed to learn how container `{id}` ended");
    ask(operation, async {
        match docker.wait_container(id, None::<WaitContainerOptions>).next().await {
            Some(Ok(ended)) => Ok(Some(ended.status_code)),
            Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(Some(code)),
            Some(Err(error)) => Err(error),
            None => Ok(None),
        }
    })
    .await?
    .ok_or_else(|| PortError::retry(operation()))
}

type Outcome = Result<PortResult<Option<i64>>, tokio::time::error::Elapsed>;

/// Says how it ended, to whoever still listens.
async fn conclude(docker: &Docker, id: &str, run: &Run, outcome: Option<Outcome>, events: &Events) {
    let last = match outcome {
        None | Some(Ok(Ok(None))) => return,
        Some(Ok(Ok(Some(code)))) => {
            if code == KILLED && out_of_memory(docker, id).await {
                let _ = events.send(Ok(RunEvent::Stderr(memory_note(run)))).await;
            }
            Ok(RunEvent::Exit(code))
        }
        Some(Ok(Err(error))) => Err(error),
        Some(Err(_)) => Err(took_too_long(run)),
    };
    let _ = events.send(last).await;
}

/// What is said of a program that the kernel killed for want of memory.
pub(super) fn memory_note(run: &Run) -> bytes::Bytes {
    let most = run.limits.memory.0;
    format!("toolcrib: killed because it used more than its {most} bytes of memory\n").into()
}

pub(super) fn took_too_long(run: &Run) -> PortError {
    PortError::stalled(format!("run `{}` was ended", run.name))
        .caused_by(format!("it took longer than {} s", run.timeout.as_secs_f64()))
        .hint("raise its `timeout`")
}

async fn out_of_memory(docker: &Docker, id: &str) -> bool {
    let look = docker.inspect_container(id, None::<InspectContainerOptions>);
    let container = ask(|| format!("failed to look at container `{id}`"), look).await;
    container.ok().and_then(|container| container.state?.oom_killed).unwrap_or(false)
}
