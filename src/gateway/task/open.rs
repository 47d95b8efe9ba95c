//! Tasks that are under way, as far as was heard: their instances are not taken away from them at once,
//! and their ends are recorded once.
//!
//! Invariants: bounded; a task that nobody asks for holds nothing for long.

#![expect(clippy::disallowed_methods, reason = "tasks are timed")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;

use super::super::limit::Leave;
use crate::catalog::Entry;
use crate::mcp::client::Held;
use crate::resource::Digest;

/// Tasks that are remembered: of all users and of one. Each takes a few hundred bytes. The one that
/// nobody asked for longest goes for another; it is reached all the same.
const MAX_OPEN: usize = 4096;
const MAX_OPEN_OF_ONE: usize = 512;
/// For how long a task that nobody asks for is waited for, where its instance is to be replaced.
const IDLE: Duration = Duration::from_mins(5);
/// And for how long its end is still recorded.
const FORGOTTEN: Duration = Duration::from_hours(24);
/// How often such are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// A task under way.
#[derive(Clone)]
pub(super) struct Opened {
    pub(super) began: Instant,
    asked: Instant,
    pub(super) entry: Arc<Entry>,
    /// Draining waits for who holds it. None: nobody has asked for long.
    pub(super) connection: Option<Held>,
    /// Its place among the calls of its server, and until when it has that.
    place: Option<(Arc<Leave>, Instant)>,
}

impl Opened {
    pub(super) fn new(entry: &Arc<Entry>, connection: &Held) -> Self {
        let now = Instant::now();
        Self {
            began: now,
            asked: now,
            entry: Arc::clone(entry),
            connection: Some(connection.clone()),
            place: None,
        }
    }
}

/// By a digest of our id; with the name of who called.
type ById = HashMap<Digest, (Box<str>, Opened)>;

#[derive(Default)]
pub(super) struct Open {
    by_id: Arc<Mutex<ById>>,
    sweeping: OnceLock<()>,
    tasks: TaskTracker,
}

impl Open {
    pub(super) fn begin(&self, text: &str, user: &str, opened: Opened) {
        self.sweep();
        let mut all = lock(&self.by_id);
        let of_one = all.values().filter(|(of, _)| **of == *user).count();
        if of_one >= MAX_OPEN_OF_ONE || all.len() >= MAX_OPEN {
            let one = of_one >= MAX_OPEN_OF_ONE;
            let own = all.iter().filter(|(_, (of, _))| !one || **of == *user);
            let oldest = own.min_by_key(|(_, (_, opened))| opened.asked).map(|(id, _)| *id);
            oldest.map(|id| all.remove(&id));
        }
        all.insert(Digest::of_bytes(text.as_bytes()), (user.into(), opened));
    }

    /// One that somebody asks for.
    pub(super) fn get(&self, text: &str) -> Option<Opened> {
        let mut all = lock(&self.by_id);
        let (_, opened) = all.get_mut(&Digest::of_bytes(text.as_bytes()))?;
        opened.asked = Instant::now();
        Some(opened.clone())
    }

    /// It keeps its place among the calls of its server until it has ended, for at most so long: nobody need
    /// ever ask for its end.
    pub(super) fn keep(&self, text: &str, leave: Leave, at_most: Duration) {
        let until = Instant::now() + at_most;
        if let Some((_, opened)) = lock(&self.by_id).get_mut(&Digest::of_bytes(text.as_bytes())) {
            opened.place = Some((Arc::new(leave), until));
        }
    }

    /// It has ended. None: that was known, or it was not remembered.
    pub(super) fn end(&self, text: &str) -> Option<Opened> {
        lock(&self.by_id).remove(&Digest::of_bytes(text.as_bytes())).map(|(_, opened)| opened)
    }

    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut *lock(&self.by_id));
        drop(all);
    }

    /// Looks for those that nobody asks for from now on.
    fn sweep(&self) {
        self.sweeping.get_or_init(|| {
            let all = Arc::downgrade(&self.by_id);
            self.tasks.spawn(async move {
                let mut interval = tokio::time::interval(SWEEP);
                loop {
                    interval.tick().await;
                    let Some(all) = all.upgrade() else { return };
                    let mut all = lock(&all);
                    all.retain(|_, (_, opened)| opened.asked.elapsed() < FORGOTTEN);
                    for (_, opened) in all.values_mut() {
                        let idle = opened.asked.elapsed() >= IDLE;
                        opened.connection.take_if(|connection| idle || connection.is_closed());
                        opened.place.take_if(|(_, until)| *until <= Instant::now());
                    }
                }
            });
        });
    }
}

fn lock(all: &Mutex<ById>) -> MutexGuard<'_, ById> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}
