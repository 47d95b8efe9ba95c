//! How many instances of a server run, and when: `lifecycle` with every default filled in.

use std::time::Duration;

use crate::resource::server::Lifecycle;

/// How long an instance goes on that nobody uses, where nothing else is said: longer than people think
/// between two questions.
const IDLE: Duration = Duration::from_mins(10);
/// Calls in flight that an instance takes before another one is started, where `concurrency` says nothing:
/// a server that works on one call at a time keeps none of them waiting for more than seven others.
const BUSY: u32 = 8;

/// How many instances of a server run, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// At least; 0: it starts on demand.
    pub min: u32,
    /// At most.
    pub max: u32,
    /// How long one above `min` goes on without being used.
    pub idle: Duration,
}

impl Scale {
    /// One, always.
    pub const ONE: Self = Self { min: 1, max: 1, idle: IDLE };

    /// Whether it starts with a call, and ends without.
    pub fn on_demand(&self) -> bool {
        self.min == 0
    }

    /// Whether calls find their instance when they come: there may be none, or several.
    pub fn is_elastic(&self) -> bool {
        (self.min, self.max) != (1, 1)
    }

    /// Calls under way on one instance from which on another is started.
    pub fn busy(concurrency: Option<u32>) -> u32 {
        concurrency.unwrap_or(BUSY).max(1)
    }
}

pub(super) fn of(declared: Option<&Lifecycle>) -> Scale {
    let Some(declared) = declared else { return Scale::ONE };
    let idle = declared.idle_timeout.map_or(IDLE, |period| period.0);
    Scale { min: declared.least(), max: declared.most(), idle }
}
