//! One process group for one call.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::ChildStdin;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::launch::{Launcher, Request, Supervised};
use crate::ports::{PortError, PortResult, Run, RunEvent, Running};

/// Bytes of one event: what a pipe of Linux holds by default.
const CHUNK: usize = 64 << 10;
/// Events under way: with [`CHUNK`], 1 MiB. When it is full the process waits, as on any pipe.
const EVENTS: usize = 16;
/// Between the polite signal and the end of a run that is out of time or was cancelled.
const GRACE: Duration = Duration::from_secs(2);
/// How long output may take after the leader has ended before its stragglers are looked for.
const PROMPT: Duration = Duration::from_millis(100);
/// How long it may take after they were ended. Only a process that we cannot see can hold it open.
const DRAIN: Duration = Duration::from_secs(10);

pub(super) async fn run(launcher: &Launcher, run: Run) -> PortResult<Running> {
    // Volumes and egress are refused for commands where they are declared.
    let Run {
        name,
        resource,
        revision,
        digest,
        program,
        stdin,
        material,
        limits,
        security,
        volumes: _,
        egress: _,
        timeout,
    } = run;
    let piped = stdin.is_some();
    let subject = resource.to_string();
    let request =
        Request { name, resource, digest, revision, program, material, limits, security, stdin: piped };
    let mut started = launcher.launch(request).await?;
    let cancel = CancellationToken::new();
    let guard = cancel.clone().drop_guard();
    let (sender, events) = mpsc::channel(EVENTS);
    let mut pumps = JoinSet::new();
    if let Some(stream) = started.child.stdout.take() {
        pumps.spawn(pump(stream, RunEvent::Stdout, sender.clone()));
    }
    if let Some(stream) = started.child.stderr.take() {
        pumps.spawn(pump(stream, RunEvent::Stderr, sender.clone()));
    }
    // Apart from the others: what is not read of it is not waited for.
    let mut feed = JoinSet::new();
    if let Some((pipe, bytes)) = started.child.stdin.take().zip(stdin) {
        feed.spawn(write(pipe, bytes));
    }
    let (stop, stopped) = watch::channel(None);
    let supervised = launcher.supervise(started, stopped);
    let closing = launcher.closing().clone();
    let course = Course { supervised, stop, cancel, closing, timeout, pumps, feed };
    launcher.tasks().spawn(async move {
        let (cancel, closing) = (course.cancel.clone(), course.closing.clone());
        let last = match course.follow().await {
            Ok(code) => Ok(RunEvent::Exit(code)),
            Err(TimedOut) => {
                Err(PortError::retry(format!("`{subject}` took longer than {timeout:?} and was ended")))
            }
        };
        tokio::select! {
            // An error means that nobody listens any more.
            _sent = sender.send(last) => {}
            () = cancel.cancelled() => {}
            () = closing.cancelled() => {}
        }
    });
    Ok(Running { events, guard })
}

struct TimedOut;

/// A run under way.
struct Course {
    supervised: Supervised,
    stop: watch::Sender<Option<Duration>>,
    cancel: CancellationToken,
    /// The runner is shutting down.
    closing: CancellationToken,
    timeout: Duration,
    pumps: JoinSet<()>,
    feed: JoinSet<()>,
}

impl Course {
    /// To the end, with everything removed; the exit code unless time ran out.
    async fn follow(mut self) -> Result<i64, TimedOut> {
        let (code, timed_out) = {
            let leader = self.supervised.leader();
            tokio::pin!(leader);
            let timed_out = tokio::select! {
                biased;
                code = &mut leader => Ok(code),
                () = self.cancel.cancelled() => Err(false),
                () = self.closing.cancelled() => Err(false),
                () = tokio::time::sleep(self.timeout) => Err(true),
            };
            match timed_out {
                Ok(code) => (code, false),
                Err(timed_out) => {
                    self.stop.send_replace(Some(GRACE));
                    (leader.await, timed_out)
                }
            }
        };
        self.feed.abort_all();
        self.drain().await;
        self.supervised.finish().await;
        if timed_out { Err(TimedOut) } else { Ok(code) }
    }

    /// Waits for the last output.
    async fn drain(&mut self) {
        if all(&mut self.pumps, PROMPT).await {
            return;
        }
        self.supervised.stragglers().await;
        tokio::select! {
            _ended = all(&mut self.pumps, DRAIN) => {}
            () = self.cancel.cancelled() => {}
            () = self.closing.cancelled() => {}
        }
        self.pumps.abort_all();
    }
}

/// Whether all tasks ended in time.
async fn all(tasks: &mut JoinSet<()>, limit: Duration) -> bool {
    tokio::time::timeout(limit, async { while tasks.join_next().await.is_some() {} }).await.is_ok()
}

async fn pump(
    mut stream: impl AsyncRead + Unpin,
    event: fn(Bytes) -> RunEvent,
    sender: mpsc::Sender<PortResult<RunEvent>>,
) {
    let mut chunk = bytes::BytesMut::with_capacity(CHUNK);
    while let Ok(1..) = stream.read_buf(&mut chunk).await {
        let bytes = chunk.split().freeze();
        if sender.send(Ok(event(bytes))).await.is_err() {
            return;
        }
        chunk.reserve(CHUNK);
    }
}

async fn write(mut pipe: ChildStdin, bytes: Bytes) {
    // A program that does not read its input is no error: it has its reasons, and its exit code.
    if pipe.write_all(&bytes).await.is_ok() {
        let _closed = pipe.shutdown().await;
    }
}
