//! The stdio transport: one message a line, both ways, for all calls.
//!
//! Invariant: only the writer task writes, so that a call that is dropped leaves no half line behind.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::inbox::{Inbox, Incoming};
use super::lines::{Line, Lines};
use super::{Failure, Outgoing};
use crate::mcp::wire::{self, MAX_MESSAGE};

/// Messages that wait to be written; calls beyond that wait for a place.
const QUEUE: usize = 256;

/// Lines in a row that are no messages, after which this is no MCP server. Banners of frameworks and
/// stray prints stay far below.
const GARBAGE: usize = 100;

/// How long a server that takes no input any more may go on saying what it has to say. One that has
/// ended is at its end at once, so that its end is what is told, whichever of its pipes is met first.
const LAST_WORDS: Duration = Duration::from_secs(1);

pub(super) struct Stdio {
    inbox: Arc<Inbox>,
    outgoing: mpsc::Sender<String>,
    tasks: TaskTracker,
}

impl Stdio {
    pub(super) fn start(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        inbox: Arc<Inbox>,
        tasks: TaskTracker,
    ) -> Self {
        let (outgoing, queue) = mpsc::channel(QUEUE);
        tasks.spawn(write(writer, queue, Arc::clone(&inbox)));
        tasks.spawn(read(reader, outgoing.clone(), Arc::clone(&inbox), tasks.clone()));
        Self { inbox, outgoing, tasks }
    }

    /// Sends a request and waits for its answer. Dropped before, it tells the server.
    pub(super) async fn exchange(&self, request: Outgoing<'_>) -> Result<Box<RawValue>, Failure> {
        let Outgoing { id, body, events, standing, cancellable, .. } = request;
        let answer = self.inbox.wait(id, events, standing);
        let mut guard = Guard { link: self, id, cancellable: false };
        self.send(body).await?;
        guard.cancellable = cancellable;
        answer.await.map_err(|_| Failure::Gone(self.inbox.reason()))?
    }

    /// Sends a message that has no answer.
    pub(super) async fn send(&self, message: String) -> Result<(), Failure> {
        self.outgoing.send(message).await.map_err(|_| Failure::Gone(self.inbox.reason()))
    }

    /// As [`Self::send`], from where nobody can wait.
    fn send_soon(&self, message: String) {
        if let Err(mpsc::error::TrySendError::Full(message)) = self.outgoing.try_send(message) {
            let outgoing = self.outgoing.clone();
            self.tasks.spawn(async move { outgoing.send(message).await });
        }
    }
}

/// Ends the wait of a call that goes away.
struct Guard<'a> {
    link: &'a Stdio,
    id: u64,
    cancellable: bool,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if self.link.inbox.forget(self.id) && self.cancellable {
            self.link.send_soon(super::compose::cancelled(self.id));
        }
    }
}

async fn write(
    mut writer: impl AsyncWrite + Send + Unpin,
    mut queue: mpsc::Receiver<String>,
    inbox: Arc<Inbox>,
) {
    let mut batch = Vec::new();
    let mut bytes = Vec::new();
    loop {
        let count = tokio::select! {
            // Cancel-safe: nothing is taken from the queue unless it is returned.
            count = queue.recv_many(&mut batch, QUEUE) => count,
            () = inbox.closed().cancelled() => break,
        };
        if count == 0 {
            break;
        }
        for message in batch.drain(..) {
            push_line(&mut bytes, &message);
        }
        let written = async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        let outcome = tokio::select! {
            outcome = written => outcome,
            () = inbox.closed().cancelled() => break,
        };
        if let Err(error) = outcome {
            let _ = tokio::time::timeout(LAST_WORDS, inbox.closed().cancelled()).await;
            inbox.fail(&format!("the server does not take its input any more: {error}"));
            break;
        }
        bytes.clear();
        bytes.shrink_to(MAX_MESSAGE >> 8);
    }
    let _ = writer.shutdown().await;
}

/// Raw JSON of a client may be written over several lines; between tokens a space does as well, and
/// within a string there can be no line end.
fn push_line(bytes: &mut Vec<u8>, message: &str) {
    let start = bytes.len();
    bytes.extend_from_slice(message.as_bytes());
    for byte in bytes.iter_mut().skip(start).filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    bytes.push(b'\n');
}

async fn read(
    reader: impl AsyncRead + Send + Unpin,
    outgoing: mpsc::Sender<String>,
    inbox: Arc<Inbox>,
    tasks: TaskTracker,
) {
    let mut lines = Lines::new(reader, MAX_MESSAGE);
    let mut garbage = 0;
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            () = inbox.closed().cancelled() => return,
        };
        let text = match line {
            Ok(Some(Line::Whole(text))) => text,
            Ok(Some(Line::TooLong(head))) => {
                if let Some(id) = answered(&head) {
                    inbox.deliver(id, Err(Failure::TooLong(MAX_MESSAGE)));
                }
                continue;
            }
            Ok(None) => return inbox.fail("it ended, or closed its output"),
            Err(error) => return inbox.fail(&format!("its output cannot be read: {error}")),
        };
        match inbox.receive(&text, None) {
            Ok(Incoming::Answer(id, outcome)) => inbox.deliver(id, outcome.map_err(Failure::Answered)),
            // A full queue means a server that does not read; it can wait for its answer.
            Ok(Incoming::Reply(message)) => drop(outgoing.try_send(message)),
            Ok(Incoming::Asked(asked)) => {
                let (outgoing, closed) = (outgoing.clone(), inbox.closed().clone());
                let answering = async move { drop(outgoing.send(asked.response().await).await) };
                tasks.spawn(async move { closed.run_until_cancelled(answering).await });
            }
            Ok(Incoming::Nothing) => {}
            Err(error) => {
                // The line itself is not shown: it may hold a secret of the server.
                garbage += 1;
                inbox.count_garbage();
                if garbage >= GARBAGE {
                    return inbox.fail(&format!(
                        "its standard output is not MCP: {garbage} lines in a row are no messages ({error})"
                    ));
                }
                continue;
            }
        }
        garbage = 0;
    }
}

/// The id of an answer of which only the front was kept, when it stands before the result.
fn answered(head: &[u8]) -> Option<u64> {
    let head = String::from_utf8_lossy(head);
    let front = head.split_once("\"result\"")?.0;
    let (_, id) = front.rsplit_once("\"id\"")?;
    wire::Id::from_raw(
        &serde_json::value::RawValue::from_string(id.trim_matches([' ', ':', ',']).to_owned()).ok()?,
    )?
    .as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_over_several_lines_is_written_on_one() {
        let mut bytes = Vec::new();
        push_line(&mut bytes, "{\n \"a\": \"\\n\"\r\n}");
        assert_eq!(bytes, b"{  \"a\": \"\\n\"  }\n");
    }

    #[test]
    fn the_id_is_found_at_the_front_of_what_is_too_long() {
        assert_eq!(answered(br#"{"jsonrpc":"2.0","id" : 17,"result":{"a"#), Some(17));
        assert_eq!(answered(br#"{"jsonrpc":"2.0","result":{"id":17,"#), None);
    }
}
