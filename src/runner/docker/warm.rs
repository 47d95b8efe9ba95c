//! Containers that are started ahead: each waits for a run, as crib-init does in it.
//!
//! They are what the container of a run is, confined alike, but for the command and the secrets: these
//! come over the attached stream with the run, and neither is ever told to the engine. A task owns each
//! from before it exists until it is gone, like that of a run; the stream that it holds is the only one,
//! so that a container whose daemon was killed ends by itself.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use bollard::container::{AttachContainerResults, LogOutput};
use bytes::{Buf as _, Bytes};
use futures::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::container::{First, Stdin, command, file_path};
use super::engine::fault;
use super::framed::{self, Decoder, Gibberish, Said};
use super::image::Image;
use super::run::{EVENTS, Events, Wanted, clean, create, given, memory_note, took_too_long};
use super::{Inner, egress, labels, launch, lock, session};
use crate::ports::{Ahead, Identity, PortError, PortResult, Prepared, Run, RunEvent, Running};
use crate::resource::Digest;

/// Until crib-init says that it waits: it does at once, unless the engine is very busy.
const READY: Duration = Duration::from_secs(30);
/// Until a container is clean after a run: milliseconds, unless very much was left.
const CLEAN: Duration = Duration::from_secs(10);

/// One run for a container that waits.
struct Request {
    run: Run,
    /// The request as it is sent, and standard input after it.
    bytes: Vec<u8>,
    events: Events,
    /// Told whether the program was started.
    begun: oneshot::Sender<bool>,
    /// Told whether the container waits again.
    cleaned: oneshot::Sender<bool>,
    cancel: CancellationToken,
}

/// A container that waits, for whoever has it.
struct Waiting {
    inner: Arc<Inner>,
    image: Arc<Image>,
    requests: mpsc::Sender<Request>,
    cleaned: Mutex<Option<oneshot::Receiver<bool>>>,
    gone: CancellationToken,
}

type Ready = PortResult<Arc<Image>>;

pub(super) async fn prepare(inner: &Arc<Inner>, ahead: Ahead) -> PortResult<Box<dyn Prepared>> {
    let (requests, receiver) = mpsc::channel(1);
    let (ready, waits) = oneshot::channel();
    let gone = CancellationToken::new();
    let name = ahead.name.clone();
    inner.tasks.spawn(own(Arc::clone(inner), ahead, ready, receiver, gone.clone()));
    match waits.await {
        Ok(Ok(image)) => Ok(Box::new(Waiting {
            inner: Arc::clone(inner),
            image,
            requests,
            cleaned: Mutex::default(),
            gone,
        })),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(PortError::retry(format!("failed to start `{name}` ahead of calls"))),
    }
}

/// The digests of what is there, or is being made.
pub(super) async fn there(inner: &Inner) -> PortResult<BTreeSet<Digest>> {
    let mut digests: BTreeSet<Digest> = lock(&inner.ahead).values().copied().collect();
    let listed = inner.list("warm").await?;
    digests.extend(listed.iter().filter_map(|one| labels::digest(one.labels.as_ref()?)));
    Ok(digests)
}

#[async_trait]
impl Prepared for Waiting {
    async fn run(&self, run: &Run) -> PortResult<Option<Running>> {
        let command = command(&self.image, &run.program)?;
        let mut bytes = framed::request(&command, &given(run)?, run.stdin.as_ref())?;
        bytes.extend_from_slice(run.stdin.as_deref().unwrap_or_default());
        if !run.egress.is_empty() {
            // Somebody may have ended the forwarder since.
            egress::ensure(&self.inner, &self.inner.engine.client().await?, &run.egress).await?;
        }
        let (events, receiver) = mpsc::channel(EVENTS);
        let (begun, begins) = oneshot::channel();
        let (cleaned, waits) = oneshot::channel();
        let cancel = CancellationToken::new();
        // From here on, dropping this future ends the run, and the container with it.
        let guard = cancel.clone().drop_guard();
        let request = Request { run: run.clone(), bytes, events, begun, cleaned, cancel };
        if self.requests.send(request).await.is_err() || !begins.await.unwrap_or(false) {
            return Ok(None);
        }
        *self.cleaned.lock().unwrap_or_else(PoisonError::into_inner) = Some(waits);
        Ok(Some(Running { events: receiver, guard }))
    }

    async fn cleaned(&self) -> bool {
        let waits = self.cleaned.lock().unwrap_or_else(PoisonError::into_inner).take();
        match waits {
            Some(waits) => waits.await.unwrap_or(false),
            None => false,
        }
    }

    fn gone(&self) -> &CancellationToken {
        &self.gone
    }
}

/// Owns one container from before it exists until it is gone.
async fn own(
    inner: Arc<Inner>,
    ahead: Ahead,
    ready: oneshot::Sender<Ready>,
    mut requests: mpsc::Receiver<Request>,
    gone: CancellationToken,
) {
    let gone = gone.drop_guard();
    lock(&inner.ahead).insert(ahead.name.clone(), ahead.digest);
    lock(&inner.starting).insert(ahead.name.clone());
    // Not cut short: a container in the making could not be found and removed.
    let launched = launch(&inner, &ahead).await;
    lock(&inner.starting).remove(&ahead.name);
    match launched {
        Ok((docker, id, mut line, image)) => {
            let waits = line.waits().await;
            let good = waits.is_ok();
            if ready.send(waits.map(|()| image)).is_ok() && good {
                // Cancel-safe: whatever is under way ends with the container.
                tokio::select! {
                    () = inner.closing.cancelled() => {}
                    () = serve(&mut line, &mut requests, ahead.reuse) => {}
                }
            }
            drop(gone);
            clean(&docker, &id).await;
        }
        Err(error) => {
            let name = labels::container(&inner.owner, &ahead.name);
            if let Ok(docker) = inner.engine.client().await
                && let Ok(Some(id)) = launch::ours(&docker, &inner.owner, &name).await
            {
                clean(&docker, &id).await;
            }
            let _ = ready.send(Err(error));
        }
    }
    lock(&inner.ahead).remove(&ahead.name);
}

/// Creates, attaches and starts.
async fn launch(inner: &Inner, ahead: &Ahead) -> PortResult<(Docker, String, Line, Arc<Image>)> {
    let docker = inner.engine.client().await?;
    let Ahead { name, resource, revision, digest, .. } = ahead;
    let identity = Identity {
        name: name.clone(),
        resource: resource.clone(),
        digest: *digest,
        revision: revision.clone(),
    };
    let files = ahead.files.iter().map(|path| file_path(path)).collect::<PortResult<Vec<_>>>()?;
    let wanted = Wanted {
        identity: &identity,
        program: &ahead.program,
        files: files.iter().map(String::as_str).collect(),
        limits: &ahead.limits,
        security: &ahead.security,
        volumes: &ahead.volumes,
        egress: &ahead.egress,
    };
    let first = First::Wait { reuse: ahead.reuse };
    let (id, image) = create(inner, &docker, &wanted, ("warm", first, Stdin::Once)).await?;
    let attached = launch::attach(&docker, &id, true).await?;
    launch::start(&docker, &inner.init, &id).await?;
    Ok((docker, id, Line::new(attached), Arc::new(image)))
}

/// Serves runs, one after the other, until the container is of no more use.
async fn serve(line: &mut Line, requests: &mut mpsc::Receiver<Request>, reuse: bool) {
    loop {
        // Cancel-safe: `recv` loses nothing, and of a container that is said to be over nothing is needed.
        let request = tokio::select! {
            request = requests.recv() => match request {
                Some(request) => request,
                None => return,
            },
            // Nothing is said by a container that waits: it has ended.
            _ = line.next() => return,
        };
        let Request { run, bytes, events, begun, cleaned, cancel } = request;
        let mut bytes = Bytes::from(bytes);
        let followed = follow(line, &run, &mut bytes, begun, &events);
        let outcome = tokio::select! {
            () = cancel.cancelled() => return,
            outcome = tokio::time::timeout(run.timeout, followed) => outcome,
        };
        let last = match outcome {
            Ok(Ok(Some(code))) => Ok(RunEvent::Exit(code)),
            Ok(Ok(None)) => return,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(took_too_long(&run)),
        };
        let ended = last.is_ok();
        if events.send(last).await.is_err() || !ended || !reuse {
            return;
        }
        drop(events);
        let waits = tokio::time::timeout(CLEAN, line.waits_again(&mut bytes)).await;
        let waits = waits.is_ok_and(|waits| waits.is_ok());
        if cleaned.send(waits).is_err() || !waits {
            return;
        }
    }
}

/// Sends a request and passes on what the program says; its exit code. `None`: nobody listens, or it was
/// not started.
async fn follow(
    line: &mut Line,
    run: &Run,
    bytes: &mut Bytes,
    begun: oneshot::Sender<bool>,
    events: &Events,
) -> PortResult<Option<i64>> {
    let Line { output, input, decoder } = line;
    let feed = async {
        // A program that does not read its input is none of our business; a container that is gone is told
        // by the other stream.
        let _ = send(input, bytes).await;
        std::future::pending::<()>().await;
    };
    let read = async {
        let mut begun = Some(begun);
        loop {
            let said = match next(output, decoder).await {
                Ok(Some(said)) => said,
                // Whoever hears that it did not begin starts it elsewhere.
                Ok(None) | Err(_) if begun.is_some() => return Ok(None),
                Ok(None) => return Err(PortError::retry("the container ended during the call")),
                Err(error) => return Err(error),
            };
            let event = match said {
                Said::Begins => {
                    if begun.take().is_none_or(|begun| begun.send(true).is_err()) {
                        return Ok(None);
                    }
                    continue;
                }
                Said::Stdout(bytes) => RunEvent::Stdout(bytes),
                Said::Stderr(bytes) => RunEvent::Stderr(bytes),
                Said::Exit { code, out_of_memory } => {
                    if out_of_memory {
                        let _ = events.send(Ok(RunEvent::Stderr(memory_note(run)))).await;
                    }
                    return Ok(Some(code.into()));
                }
                Said::Waiting => return Err(nonsense(Gibberish)),
            };
            if events.send(Ok(event)).await.is_err() {
                return Ok(None);
            }
        }
    };
    tokio::select! {
        ended = read => ended,
        () = feed => Ok(None),
    }
}

/// Sends all of it. Cancelled, it can go on: what was sent is taken from the bytes.
async fn send(input: &mut session::Input, bytes: &mut Bytes) -> Result<(), std::io::Error> {
    while !bytes.is_empty() {
        let sent = input.write(bytes).await?;
        if sent == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        bytes.advance(sent);
    }
    input.flush().await
}

type Pieces =
    std::pin::Pin<Box<dyn futures::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;

/// The attached stream of one container.
struct Line {
    output: Pieces,
    input: session::Input,
    decoder: Decoder,
}

impl Line {
    fn new(attached: AttachContainerResults) -> Self {
        let AttachContainerResults { output, input } = attached;
        Self { output, input, decoder: Decoder::default() }
    }

    async fn next(&mut self) -> PortResult<Option<Said>> {
        next(&mut self.output, &mut self.decoder).await
    }

    /// Until crib-init waits.
    async fn waits(&mut self) -> PortResult<()> {
        let waits = waits(&mut self.output, &mut self.decoder);
        let late = || PortError::retry(STARTING).caused_by("it does not wait for calls in time");
        tokio::time::timeout(READY, waits).await.unwrap_or_else(|_| Err(late()))
    }

    /// Until crib-init waits again, after it was given what its program did not take.
    async fn waits_again(&mut self, rest: &mut Bytes) -> PortResult<()> {
        let Self { output, input, decoder } = self;
        // One that is gone is told by the other stream.
        let (_, waits) = tokio::join!(send(input, rest), waits(output, decoder));
        waits
    }
}

const STARTING: &str = "failed to start a container ahead of calls";

async fn waits(output: &mut Pieces, decoder: &mut Decoder) -> PortResult<()> {
    let mut complaint = Vec::new();
    loop {
        match next(output, decoder).await? {
            Some(Said::Waiting) => return Ok(()),
            Some(Said::Stderr(bytes)) if complaint.len() < MAX_COMPLAINT => complaint.extend(bytes),
            Some(_) => {}
            None => {
                let said = String::from_utf8_lossy(&complaint).trim().to_owned();
                return Err(PortError::retry(STARTING).caused_by(format!("it ended: {said}")));
            }
        }
    }
}

/// Bytes of what crib-init says of why it ended.
const MAX_COMPLAINT: usize = 4 << 10;

/// What is said next; `None` at the end. What comes on standard error is crib-init's own.
async fn next(output: &mut Pieces, decoder: &mut Decoder) -> PortResult<Option<Said>> {
    loop {
        if let Some(said) = decoder.next().map_err(nonsense)? {
            return Ok(Some(said));
        }
        match output.next().await {
            Some(Ok(LogOutput::StdOut { message })) => decoder.feed(&message),
            Some(Ok(LogOutput::StdErr { message })) => return Ok(Some(Said::Stderr(message))),
            Some(Ok(LogOutput::StdIn { .. } | LogOutput::Console { .. })) => {}
            Some(Err(error)) => return Err(fault("failed to read the output".to_owned(), error)),
            None => return Ok(None),
        }
    }
}

fn nonsense(error: Gibberish) -> PortError {
    PortError::retry("the call was lost").caused_by(error)
}
