//! Room for connections: as many as there may be, and who goes when there is none left.
//!
//! A connection is at work from the head of a request to the end of its answer, which may be a stream.
//! Invariants: one that is at work is never ended for another; when there is no room, the one that has
//! been idle for the longest goes, so that nobody keeps others out by connections that do nothing, and
//! the next one to come idle goes where none is. Whoever comes then waits in the kernel's queue.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// How long one that has to go may take before another has to.
const GOING: Duration = Duration::from_millis(250);

pub(super) struct Room {
    free: Arc<Semaphore>,
    open: Mutex<HashMap<u64, Arc<Place>>>,
    /// Counts what happens: the order in which connections came idle.
    clock: AtomicU64,
    /// Somebody waits, and none was idle.
    wanted: AtomicBool,
}

/// What is known of one connection.
struct Place {
    at_work: AtomicUsize,
    /// A request has begun on it.
    used: AtomicBool,
    /// Since when it is idle.
    since: AtomicU64,
    leave: CancellationToken,
}

/// A connection's place, until it is dropped.
pub(super) struct Seat {
    room: Arc<Room>,
    id: u64,
    place: Arc<Place>,
    _permit: OwnedSemaphorePermit,
}

/// A request that is being answered.
pub(super) struct Work(Arc<Room>, Arc<Place>);

impl Room {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(most)),
            open: Mutex::default(),
            clock: AtomicU64::new(0),
            wanted: AtomicBool::new(false),
        })
    }

    /// Waits for room. Safe to cancel: what was taken is given back.
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                self.wanted.store(false, Ordering::Relaxed);
                return Some(permit);
            }
            let idle = self.longest_idle();
            self.wanted.store(idle.is_none(), Ordering::Relaxed);
            if let Some(place) = idle {
                place.leave.cancel();
            }
            // It may have something to say yet: then the next one goes as well.
            let freed = tokio::time::timeout(GOING, Arc::clone(&self.free).acquire_owned());
            if let Ok(permit) = freed.await {
                self.wanted.store(false, Ordering::Relaxed);
                // Never closed.
                return permit.ok();
            }
        }
    }

    /// The place of a new connection; `shutdown` ends it too.
    pub(super) fn seat(self: &Arc<Self>, permit: OwnedSemaphorePermit, shutdown: &CancellationToken) -> Seat {
        let id = self.tick();
        let place = Arc::new(Place {
            at_work: AtomicUsize::new(0),
            used: AtomicBool::new(false),
            since: AtomicU64::new(id),
            leave: shutdown.child_token(),
        });
        self.open().insert(id, Arc::clone(&place));
        Seat { room: Arc::clone(self), id, place, _permit: permit }
    }

    fn longest_idle(&self) -> Option<Arc<Place>> {
        let open = self.open();
        let idle = open.values().filter(|place| place.at_work.load(Ordering::Relaxed) == 0);
        let idle = idle.filter(|place| !place.leave.is_cancelled());
        idle.min_by_key(|place| place.since.load(Ordering::Relaxed)).map(Arc::clone)
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Place>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Cancelled when the connection has to go, after what it is at.
    pub(super) fn leave(&self) -> &CancellationToken {
        &self.place.leave
    }

    /// Whether a request has ever begun on it.
    pub(super) fn is_used(&self) -> bool {
        self.place.used.load(Ordering::Relaxed)
    }

    /// Begins to answer a request.
    pub(super) fn work(&self) -> Work {
        self.place.used.store(true, Ordering::Relaxed);
        self.place.at_work.fetch_add(1, Ordering::Relaxed);
        Work(Arc::clone(&self.room), Arc::clone(&self.place))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.open().remove(&self.id);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let Self(room, place) = self;
        place.since.store(room.tick(), Ordering::Relaxed);
        if place.at_work.fetch_sub(1, Ordering::Relaxed) == 1 && room.wanted.swap(false, Ordering::Relaxed) {
            place.leave.cancel();
        }
    }
}

/// The body of an answer, which is being given as long as it lives.
pub(super) struct Given {
    body: Body,
    _work: Work,
}

impl Given {
    pub(super) fn new(body: Body, work: Work) -> Self {
        Self { body, _work: work }
    }
}

impl hyper::body::Body for Given {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
