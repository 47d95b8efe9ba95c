//! The catalog that is served, and those that were until lately.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::Instant;

use super::invalid;
use crate::catalog::{Catalog, Changed, Cursor, List};
use crate::mcp::server::Changes;
use crate::mcp::wire::ErrorObject;

/// Catalogs kept after they were replaced, so that listings under way finish on theirs. They share
/// what did not change.
const RETAINED: usize = 8;
/// How long each of them is kept at least, unless there are newer ones than that.
const RETENTION: Duration = Duration::from_mins(1);
/// Catalogs kept while many follow one another closely, and how long: longer than one client takes
/// from page to page.
const RETAINED_IN_A_BURST: usize = 64;
const BURST: Duration = Duration::from_secs(10);

/// The current catalog, swapped whole.
pub struct Catalogs {
    current: ArcSwap<Catalog>,
    /// With the time of their replacement, oldest first.
    retained: Mutex<VecDeque<(Arc<Catalog>, Instant)>>,
    changes: watch::Sender<Changes>,
}

impl Catalogs {
    pub(super) fn new(first: Catalog) -> Self {
        Self {
            current: ArcSwap::from_pointee(first),
            retained: Mutex::default(),
            changes: watch::Sender::new(Changes::default()),
        }
    }

    pub fn current(&self) -> Arc<Catalog> {
        self.current.load_full()
    }

    /// Serves `next` from now on and tells subscribers what of it they can see. Called by one pass at
    /// a time.
    pub fn swap(&self, next: Arc<Catalog>) -> Changed {
        // The first page is what is asked for next, by everybody at once.
        let _ = next.page(List::Tools, 0);
        let mut retained = self.retained.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.current.load_full();
        let changed = next.changed_since(&before);
        self.current.store(next);
        let now = Instant::now();
        retained.push_back((before, now));
        while retained.front().is_some_and(|(_, since)| is_over(retained.len(), now - *since)) {
            retained.pop_front();
        }
        drop(retained);
        self.tell(changed);
        changed
    }

    /// Tells subscribers which lists they see differently.
    pub(super) fn tell(&self, changed: Changed) {
        if changed.any() {
            self.changes.send_modify(|changes| {
                changes.tools += u64::from(changed.tools);
                changes.prompts += u64::from(changed.prompts);
                changes.resources += u64::from(changed.resources);
            });
        }
    }

    pub(super) fn changes(&self) -> watch::Receiver<Changes> {
        self.changes.subscribe()
    }

    /// The catalog in which a listing began, and the place where it goes on.
    pub(super) fn of(&self, cursor: Option<&str>) -> Result<(Arc<Catalog>, usize), ErrorObject> {
        let current = self.current();
        let Some(text) = cursor else { return Ok((current, 0)) };
        let cursor = Cursor::decode(text).ok_or_else(expired)?;
        if is_of(&current, &cursor) {
            return Ok((current, cursor.offset));
        }
        let retained = self.retained.lock().unwrap_or_else(PoisonError::into_inner);
        let found = retained.iter().find(|(catalog, _)| is_of(catalog, &cursor));
        found.map(|(catalog, _)| (Arc::clone(catalog), cursor.offset)).ok_or_else(expired)
    }
}

/// For a cursor that leads nowhere.
pub(super) fn expired() -> ErrorObject {
    invalid("the cursor is not one of this endpoint, or of a catalog that is gone: list again without it")
}

/// Whether the oldest of `count` catalogs goes, so long after it was replaced.
fn is_over(count: usize, age: Duration) -> bool {
    count > RETAINED_IN_A_BURST || age > RETENTION || (count > RETAINED && age > BURST)
}

fn is_of(catalog: &Catalog, cursor: &Cursor) -> bool {
    catalog.generation == cursor.generation && catalog.revision.short() == cursor.revision
}
