//! A client that only starts commands, in front of an endpoint over HTTP.
//!
//! Input: lines of JSON-RPC from a client of either era. Output: what the endpoint says, as lines.
//! Invariant: each request is answered once, by the endpoint or with an error; a call that may have
//! been carried out is never sent twice. An endpoint that restarts is greeted again behind the client's
//! back, and the client told that lists may have changed. Not here: what messages mean.

mod request;
mod session;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Uri};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::session::Session;
use super::Failure;
use super::http::sender::Sender;
use super::lines::{Line, Lines};
use super::mirror::Mirrors;
use crate::mcp::wire::{self, ErrorObject, Id, MAX_MESSAGE, Message, code, meta, raw};

/// Lines on their way to the client: it reads slowly, and the endpoint waits.
const QUEUE: usize = 64;
/// Requests of one client at a time. Above it, reading waits.
const MAX_IN_FLIGHT: usize = 256;
/// How long a message is tried to be delivered to an endpoint that is not there: a restart, with an
/// image or two to be started again.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two attempts: from the first to the last.
const RETRY: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];
/// For the end of a session, and for what the client is still to read.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why there is nothing (more) to forward.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    #[error("the endpoint's address cannot be used: {0}")]
    Address(String),
    #[error("failed to read from the client")]
    Read(#[source] io::Error),
    #[error("failed to write to the client")]
    Write(#[source] io::Error),
}

/// Forwards until the client ends its input. `authorization` is shown with each request; `authorities` are
/// certificates (PEM) that are trusted besides the system's.
///
/// # Errors
/// When the address is none, or the client cannot be read from or written to any more.
pub async fn forward(
    url: &str,
    authorization: Option<HeaderValue>,
    authorities: &[u8],
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin + Send + 'static,
) -> Result<(), ForwardError> {
    let address = |error: String| ForwardError::Address(error);
    let url: Uri = url.parse().map_err(|error: http::uri::InvalidUri| address(error.to_string()))?;
    let sender = Sender::new(&url, authorities)
        .map_err(|failure| address(super::CallError::from(failure).to_string()))?;
    let (out, lines) = mpsc::channel(QUEUE);
    let forward = Arc::new(Forward {
        sender,
        url,
        authorization,
        out,
        session: Session::default(),
        in_flight: Mutex::default(),
        mirrors: ArcSwap::default(),
        over: CancellationToken::new(),
    });
    let tasks = TaskTracker::new();
    let mut writer = JoinSet::new();
    writer.spawn(write(lines, output));
    let read = tokio::select! {
        read = forward.read(input, &tasks) => read,
        // Only a failure ends it before the last sender is gone.
        Some(written) = writer.join_next() => return written.unwrap_or(Ok(())),
    };
    forward.over.cancel();
    tasks.close();
    let _ = tokio::time::timeout(FAREWELL, async {
        tasks.wait().await;
        forward.end_session().await;
    })
    .await;
    drop(forward);
    read?;
    match tokio::time::timeout(FAREWELL, writer.join_next()).await {
        Ok(Some(Ok(written))) => written,
        _ => Ok(()),
    }
}

async fn write(
    mut lines: mpsc::Receiver<Bytes>,
    mut output: impl AsyncWrite + Unpin,
) -> Result<(), ForwardError> {
    while let Some(line) = lines.recv().await {
        output.write_all(&line).await.map_err(ForwardError::Write)?;
        output.write_all(b"\n").await.map_err(ForwardError::Write)?;
        output.flush().await.map_err(ForwardError::Write)?;
    }
    Ok(())
}

/// One client and its endpoint.
struct Forward {
    sender: Sender,
    url: Uri,
    /// What is shown with each request.
    authorization: Option<HeaderValue>,
    out: mpsc::Sender<Bytes>,
    session: Session,
    /// What ends each request that waits for its answer.
    in_flight: Mutex<HashMap<Id, CancellationToken>>,
    /// Arguments that modern tools want in headers, from the lists that went by.
    mirrors: ArcSwap<Mirrors>,
    /// The client ended its input.
    over: CancellationToken,
}

impl Forward {
    async fn read(
        self: &Arc<Self>,
        input: impl AsyncRead + Unpin,
        tasks: &TaskTracker,
    ) -> Result<(), ForwardError> {
        let slots = Arc::new(tokio::sync::Semaphore::new(MAX_IN_FLIGHT));
        let mut lines = Lines::new(input, MAX_MESSAGE);
        while let Some(line) = lines.next().await.map_err(ForwardError::Read)? {
            let line = match line {
                Line::Whole(line) => line,
                Line::TooLong(_) => {
                    let message = format!("a message of more than {MAX_MESSAGE} bytes is not sent");
                    self.refuse(None, code::INVALID_REQUEST, message).await;
                    continue;
                }
            };
            match wire::parse(&line, MAX_MESSAGE) {
                // Whatever comes after it needs what it agrees on.
                Ok(Message::Request { id, method, .. }) if method == "initialize" => {
                    self.initialize(&id, line.clone(), tasks).await;
                }
                Ok(Message::Request { id, .. }) => {
                    let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
                    let (forward, line) = (Arc::clone(self), line.clone());
                    let cancel = self.over.child_token();
                    self.waiting().insert(id.clone(), cancel.clone());
                    tasks.spawn(async move {
                        cancel.run_until_cancelled(forward.request(&id, line)).await;
                        forward.waiting().remove(&id);
                        drop(slot);
                    });
                }
                Ok(Message::Notification { method, params }) if method == "notifications/cancelled" => {
                    let id = params.and_then(|params| raw::get(params, "requestId")).and_then(Id::from_raw);
                    // In the modern era the end of its stream is what ends a call.
                    if let Some(cancel) = id.and_then(|id| self.waiting().remove(&id)) {
                        cancel.cancel();
                    }
                    self.deliver(line.clone()).await;
                }
                Ok(Message::Notification { .. } | Message::Response { .. }) => {
                    self.deliver(line.clone()).await;
                }
                Err(error) => self.refuse(None, error.code(), error.to_string()).await,
            }
        }
        Ok(())
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<Id, CancellationToken>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line to the client. When nobody reads any more, `write` has ended everything.
    async fn say(&self, line: Bytes) {
        let _ = self.out.send(one_line(line)).await;
    }

    async fn refuse(&self, id: Option<&Id>, code: i64, message: String) {
        self.say(wire::failure(id, &ErrorObject::new(code, message)).into()).await;
    }
}

/// The message without line ends: inside of JSON strings they are escaped, so that those left are
/// white space.
fn one_line(text: Bytes) -> Bytes {
    if !text.contains(&b'\n') && !text.contains(&b'\r') {
        return text;
    }
    text.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
}

/// Whether a message says by itself that it is of the modern era.
fn is_modern(params: Option<&serde_json::value::RawValue>) -> bool {
    params.is_some_and(|params| raw::get_meta(params, meta::PROTOCOL_VERSION).is_some())
}

/// Whether the endpoint is not there now and may be soon.
fn may_return(failure: &Failure) -> bool {
    matches!(failure, Failure::Unreached(_) | Failure::Status(502..=504, _))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_several_lines_becomes_one() {
        let text = Bytes::from_static(b"{\r\n \"a\": \"b\\nc\"\n}");
        assert_eq!(one_line(text), Bytes::from_static(b"{   \"a\": \"b\\nc\" }"));
    }
}
