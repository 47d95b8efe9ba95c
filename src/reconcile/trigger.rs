//! Why a pass began, and how long it has taken: a cause is for the log, never for a decision.

use std::fmt;
use std::time::Duration;

use crate::ports::Clock;

/// What made the loop look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    Start,
    /// The ref moved.
    Commit,
    Timer,
    /// A person or a program asked.
    Asked,
    /// A container or process appeared or ended.
    Runner,
    /// A call found no instance, or busy ones.
    Demand,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Commit => "commit",
            Self::Timer => "timer",
            Self::Asked => "asked",
            Self::Runner => "runner",
            Self::Demand => "demand",
        })
    }
}

/// The pass under way: from the first trigger until nothing is left to do.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    began: Option<(Duration, Cause)>,
    /// Steps that ended, and those of them that failed.
    pub steps: u64,
    pub failed: u64,
}

impl Pass {
    /// The first trigger counts: time waited is time taken.
    pub fn begin(&mut self, clock: &dyn Clock, cause: Cause) {
        if self.began.is_none() {
            *self = Self { began: Some((clock.now(), cause)), steps: 0, failed: 0 };
        }
    }

    /// The time since it began, with its cause.
    pub fn elapsed(&self, clock: &dyn Clock) -> Option<(Duration, &Cause)> {
        let (began, cause) = self.began.as_ref()?;
        Some((clock.now().saturating_sub(*began), cause))
    }

    /// Takes the pass that ended: how long it took, its steps and its failures.
    pub fn end(&mut self, clock: &dyn Clock) -> Option<(Duration, u64, u64)> {
        let (took, _) = self.elapsed(clock)?;
        let Self { steps, failed, .. } = std::mem::take(self);
        Some((took, steps, failed))
    }
}
