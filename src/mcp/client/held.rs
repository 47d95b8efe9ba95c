//! Who uses a connection: calls under way, and whoever is about to call.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Upstream;

/// A call under way.
pub(super) struct InFlight<'a>(&'a Upstream);

impl<'a> InFlight<'a> {
    pub(super) fn enter(upstream: &'a Upstream) -> Self {
        upstream.enter();
        Self(upstream)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// A connection that somebody is about to call on: as good as a call under way, so that draining waits
/// for it.
pub struct Held(Arc<Upstream>);

impl Held {
    pub(super) fn new(upstream: Arc<Upstream>) -> Self {
        upstream.enter();
        Self(upstream)
    }

    /// Whether both are the same connection.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.0))
    }
}

impl std::ops::Deref for Held {
    type Target = Upstream;

    fn deref(&self) -> &Upstream {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Upstream {
    fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
    }

    fn leave(&self) {
        if self.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.idle.notify_waiters();
        }
    }
}
