//! What this process holds of one running container: the attached stream.
//!
//! One task reads the stream and parts it: standard output to whoever connects, standard error to
//! the [`Tail`]. Output waits for its reader (bounded), so nothing that was said between start and
//! connect is lost.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bollard::container::{AttachContainerResults, LogOutput};
use bytes::Bytes;
use futures::StreamExt;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::tail::Tail;
use crate::ports::Channel;

/// Pieces of standard output between the engine and the reader. The engine's are 32 KiB at most,
/// so this is 2 MiB: the engine itself holds another one.
const PIECES: usize = 64;

pub(super) type Input = Pin<Box<dyn AsyncWrite + Send>>;

pub(super) struct Session {
    pub(super) tail: Arc<Tail>,
    /// The two ends, until somebody connects.
    ends: Mutex<Option<(mpsc::Receiver<Bytes>, Input)>>,
    /// Gone when the container's output has ended or the reader was dropped.
    output: mpsc::WeakSender<Bytes>,
    end: CancellationToken,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl Session {
    /// Of a server that speaks over its standard streams.
    pub(super) fn stdio(attached: AttachContainerResults, tail: Tail, tasks: &TaskTracker) -> Self {
        let (sender, receiver) = mpsc::channel(PIECES);
        let (session, end) = Self::new(tail, sender.downgrade());
        if let Ok(mut ends) = session.ends.lock() {
            *ends = Some((receiver, attached.input));
        }
        let tail = Arc::clone(&session.tail);
        let mut pieces = attached.output;
        tasks.spawn(end.run_until_cancelled_owned(async move {
            let mut reader = Some(sender);
            while let Some(Ok(piece)) = pieces.next().await {
                match piece {
                    LogOutput::StdErr { message } => tail.push(&message),
                    LogOutput::StdOut { message } => {
                        // Without a reader it still has to be taken, or the server stands still.
                        if let Some(sender) = &reader
                            && sender.send(message).await.is_err()
                        {
                            reader = None;
                        }
                    }
                    LogOutput::StdIn { .. } | LogOutput::Console { .. } => {}
                }
            }
            tail.finish();
        }));
        session
    }

    /// Of a server over HTTP: all it prints is its log.
    pub(super) fn log(attached: AttachContainerResults, tail: Tail, tasks: &TaskTracker) -> Self {
        let (sender, _) = mpsc::channel(1);
        let (session, end) = Self::new(tail, sender.downgrade());
        let tail = Arc::clone(&session.tail);
        let mut pieces = attached.output;
        tasks.spawn(end.run_until_cancelled_owned(async move {
            while let Some(Ok(piece)) = pieces.next().await {
                tail.push(piece.as_ref());
            }
            tail.finish();
        }));
        session
    }

    fn new(tail: Tail, output: mpsc::WeakSender<Bytes>) -> (Self, CancellationToken) {
        let end = CancellationToken::new();
        let session = Self { tail: Arc::new(tail), ends: Mutex::new(None), output, end: end.clone() };
        (session, end)
    }

    /// The streams, once.
    pub(super) fn take(&self) -> Option<Channel> {
        let (mut receiver, writer) = self.ends.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let pieces = futures::stream::poll_fn(move |context| {
            receiver.poll_recv(context).map(|piece| piece.map(Ok::<_, std::io::Error>))
        });
        Some(Channel::Stdio { reader: Box::new(StreamReader::new(pieces)), writer: Box::new(writer) })
    }

    /// Whether the streams can still be taken.
    pub(super) fn fresh(&self) -> bool {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).is_some() && self.flows()
    }

    /// Whether somebody has the streams, and they work.
    pub(super) fn connected(&self) -> bool {
        self.flows() && self.ends.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn flows(&self) -> bool {
        self.output.upgrade().is_some_and(|sender| !sender.is_closed())
    }
}
