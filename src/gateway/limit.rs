//! How many calls run at once: of one tool, of one server, on one runner.
//!
//! Input: the declared limits of what a call uses. Output: leave to go on, held as long as the call
//! lasts. Invariants: leaves are taken in one order, so that calls never wait for each other in a circle;
//! a wait ends with the call's own time or its cancellation. Not here: limits of clients.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::resource::ResourceId;

/// Calls that may wait for one limit: each holds its arguments, of at most a few MiB. Beyond that a
/// caller is told at once rather than after its time.
const MAX_WAITING: u32 = 256;

/// Semaphores by what they limit. One is made anew when its number changes: calls under way then end
/// under the former one.
#[derive(Default)]
pub(super) struct Limits(Mutex<HashMap<ResourceId, Arc<Limit>>>);

struct Limit {
    most: u32,
    free: Arc<Semaphore>,
    waiting: AtomicU32,
}

/// Leave to go on, until it is dropped.
#[derive(Default)]
pub(super) struct Leave(#[expect(dead_code, reason = "held, not read")] Vec<OwnedSemaphorePermit>);

/// Why there is no leave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Busy {
    Cancelled,
    /// The sentence for the caller.
    Full(String),
}

impl Limits {
    fn of(&self, id: &ResourceId, most: u32) -> Arc<Limit> {
        let mut limits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(limit) = limits.get(id).filter(|limit| limit.most == most) {
            return Arc::clone(limit);
        }
        let free = Arc::new(Semaphore::new(most as usize));
        let limit = Arc::new(Limit { most, free, waiting: AtomicU32::new(0) });
        limits.insert(id.clone(), Arc::clone(&limit));
        limit
    }

    /// Waits until every limit has room, in the order given.
    pub(super) async fn enter(
        &self,
        wanted: &[(ResourceId, u32)],
        within: Duration,
        cancel: &CancellationToken,
    ) -> Result<Leave, Busy> {
        let mut leave = Vec::with_capacity(wanted.len());
        for (id, most) in wanted {
            let limit = self.of(id, *most);
            let full = |what: &str| {
                Busy::Full(format!("{id} works on {most} calls at once, and {what}; try again later"))
            };
            if let Ok(permit) = Arc::clone(&limit.free).try_acquire_owned() {
                leave.push(permit);
                continue;
            }
            let waiting = Waiting::of(&limit);
            if waiting.others >= MAX_WAITING {
                return Err(full("too many others wait already"));
            }
            tokio::select! {
                // Cancel-safe: a place in the queue is given up.
                () = cancel.cancelled() => return Err(Busy::Cancelled),
                turn = tokio::time::timeout(within, Arc::clone(&limit.free).acquire_owned()) => match turn {
                    Ok(Ok(permit)) => leave.push(permit),
                    Ok(Err(_)) | Err(_) => return Err(full("none of them ended in the time this call has")),
                },
            }
        }
        Ok(Leave(leave))
    }
}

/// Counts one that waits, for as long as it does.
struct Waiting<'l> {
    limit: &'l Limit,
    others: u32,
}

impl<'l> Waiting<'l> {
    fn of(limit: &'l Limit) -> Self {
        Self { limit, others: limit.waiting.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.limit.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{Kind, Name};

    fn id(kind: Kind) -> ResourceId {
        ResourceId::new(kind, Name::parse("a").unwrap())
    }

    #[tokio::test]
    async fn a_call_waits_for_one_that_ends_for_its_time_or_until_it_is_cancelled() {
        let (limits, never) = (Limits::default(), CancellationToken::new());
        let minute = Duration::from_mins(1);
        let both = [(id(Kind::Tool), 2), (id(Kind::Runner), 1)];
        let first = limits.enter(&both, minute, &never).await.ok().unwrap();
        let full = limits.enter(&both, Duration::ZERO, &never).await.err();
        assert!(
            matches!(&full, Some(Busy::Full(why)) if why.starts_with("Runner/a works on 1 calls")),
            "{full:?}"
        );
        // The tool itself has room: what was taken of it above was given back.
        limits.enter(&both[..1], minute, &never).await.ok().unwrap();

        let cancel = CancellationToken::new();
        let ((), cancelled) = tokio::join!(async { cancel.cancel() }, limits.enter(&both, minute, &cancel));
        assert_eq!(cancelled.err(), Some(Busy::Cancelled));

        let (second, ()) = tokio::join!(limits.enter(&both, minute, &never), async { drop(first) });
        assert!(second.is_ok());
        // Another number is another limit.
        assert!(limits.enter(&[(id(Kind::Runner), 2)], minute, &never).await.is_ok());
    }
}
