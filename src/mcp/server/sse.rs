//! Server-sent events: their framing, and streams that are told part by part.

use std::collections::VecDeque;
use std::future::Future;

use bytes::Bytes;
use http::Response;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::{Payload, respond};

/// Between comments on a quiet stream: below the idle limits of common proxies, which begin at 30 s.
pub(super) const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(15);

/// What keeps a quiet stream open.
pub(super) const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// One JSON-RPC message as an event. Line breaks in JSON stand only between its tokens, so that they
/// can be blanks.
pub(super) fn event<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
    let mut out = b"event: message\ndata: ".to_vec();
    for part in parts {
        let from = out.len();
        out.extend_from_slice(part);
        for byte in out.iter_mut().skip(from).filter(|byte| matches!(byte, b'\n' | b'\r')) {
            *byte = b' ';
        }
    }
    out.extend_from_slice(b"\n\n");
    out.into()
}

/// The first event of a stream that a client may open again (2025-11-25): an id, and no data.
pub(super) fn priming(id: &str) -> Bytes {
    format!("id: {id}\nretry: 3000\ndata: \n\n").into()
}

/// What waits to be sent on one stream.
pub(super) struct Queue {
    parts: VecDeque<Bytes>,
    keep_alive: Interval,
    ended: bool,
}

impl Queue {
    pub(super) fn new() -> Self {
        let mut keep_alive = tokio::time::interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { parts: VecDeque::new(), keep_alive, ended: false }
    }

    pub(super) fn push(&mut self, part: Bytes) {
        self.parts.push_back(part);
    }

    /// Nothing comes after what is waiting and what is pushed at once.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Waits until the stream was quiet for so long that it is kept open with a comment. Safe to
    /// cancel: a tick is only late.
    pub(super) async fn quiet(&mut self) {
        self.keep_alive.tick().await;
        self.push(COMMENT);
    }
}

/// A stream that is told until its queue has ended.
pub(super) trait Told: Send + Sized + 'static {
    fn queue(&mut self) -> &mut Queue;

    /// Waits for something to tell. False: the stream is cut off as it is.
    fn more(&mut self) -> impl Future<Output = bool> + Send;

    fn into_response(self) -> Response<Payload> {
        let told = futures::stream::unfold(self, |mut told| async move {
            loop {
                if let Some(part) = told.queue().parts.pop_front() {
                    return Some((part, told));
                }
                if told.queue().ended || !told.more().await {
                    return None;
                }
            }
        });
        respond::events(Payload::stream(told))
    }
}
