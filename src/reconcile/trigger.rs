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
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Commit => "commit",
            Self::Timer => "timer",
            Self::Asked => "asked",
            Self::Runner => "runner",
        })
    }
}

/// When the pass under way began.
#[derive(Clone, Debug, Default)]
pub struct PassClock {
    began: Option<(Duration, Cause)>,
}

impl PassClock {
    /// The first trigger counts: time waited is time taken.
    pub fn began(&mut self, clock: &dyn Clock, cause: Cause) {
        if self.began.is_none() {
            self.began = Some((clock.now(), cause));
        }
    }

    /// The time since it began, with its cause; and it is over.
    pub fn ended(&mut self, clock: &dyn Clock) -> Option<(Duration, Cause)> {
        let (began, cause) = self.began.take()?;
        Some((clock.now().saturating_sub(began), cause))
    }
}
