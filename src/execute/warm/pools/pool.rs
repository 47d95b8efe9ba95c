//! The containers of one tool.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::desired::Tool;
use crate::policy::Principal;
use crate::resource::tool::Isolation;
use crate::resource::{Digest, ResourceId};

/// The first wait after a container did not start or ended while it waited; doubled with each further one.
const FIRST: Duration = Duration::from_secs(1);
/// The longest: often enough that a repaired engine is used again soon.
const LONGEST: Duration = Duration::from_mins(5);

/// Whether something is still there.
pub(in crate::execute) trait Lives {
    fn lives(&self) -> bool;
}

/// Which pool, in which version of its tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::execute) struct Key {
    pub(in crate::execute) tool: ResourceId,
    pub(super) digest: Digest,
    pub(super) isolation: Isolation,
}

/// A container to start.
#[derive(Clone, Debug)]
pub(in crate::execute) struct Begin {
    pub(in crate::execute) key: Key,
    pub(in crate::execute) tool: Arc<Tool>,
    pub(in crate::execute) revision: Arc<str>,
}

impl Begin {
    /// Whether it serves more than one call.
    pub(in crate::execute) fn reuse(&self) -> bool {
        self.key.isolation != Isolation::Call
    }
}

/// Whose a container is once a call used it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::execute) enum Used {
    /// Nobody's: it goes.
    Once,
    /// With these secrets, by this principal where that matters.
    By { principal: Option<Principal>, tag: String },
}

/// A container that a call has.
pub(in crate::execute) struct Taken<C> {
    pub(super) key: Key,
    pub(super) serial: u64,
    /// How often rules had become others when it was taken.
    pub(super) rules: u64,
    pub(in crate::execute) container: C,
    pub(in crate::execute) used: Used,
}

/// What is to be done now, and when to look again.
pub(in crate::execute) struct Next<C> {
    pub(in crate::execute) begin: Vec<Begin>,
    pub(in crate::execute) dropped: Vec<C>,
    pub(in crate::execute) wake: Option<Instant>,
}

pub(super) struct Waiting<C> {
    pub(super) serial: u64,
    pub(super) container: C,
    pub(super) since: Instant,
    /// None: no call had it.
    pub(super) used: Option<Used>,
}

pub(super) struct Pool<C> {
    pub(super) key: Key,
    pub(super) tool: Arc<Tool>,
    pub(super) revision: Arc<str>,
    /// The longest waiting first.
    pub(super) waiting: Vec<Waiting<C>>,
    pub(super) starting: usize,
    pub(super) busy: usize,
    pub(super) failures: u32,
    /// Nothing is started before: for a failure, or for a call that has just begun.
    pub(super) hold: Option<Instant>,
    pub(super) settle: Option<Instant>,
    pub(super) problem: Option<String>,
}

impl<C> Pool<C> {
    pub(super) fn new(key: Key, tool: Arc<Tool>, revision: Arc<str>) -> Self {
        Self {
            key,
            tool,
            revision,
            waiting: Vec::new(),
            starting: 0,
            busy: 0,
            failures: 0,
            hold: None,
            settle: None,
            problem: None,
        }
    }

    pub(super) fn fresh(&self) -> usize {
        self.waiting.iter().filter(|one| one.used.is_none()).count()
    }

    pub(super) fn there(&self) -> usize {
        self.waiting.len() + self.starting
    }

    /// How many are missing.
    pub(super) fn missing(&self) -> usize {
        let there = match self.key.isolation {
            // Those of principals come on top.
            Isolation::Call | Isolation::Principal => self.fresh() + self.starting,
            // One that is busy comes back.
            Isolation::Tool => self.there() + self.busy,
        };
        (self.tool.warm as usize).saturating_sub(there)
    }

    pub(super) fn fails(&mut self, problem: String, now: Instant) {
        self.failures += 1;
        let delay = FIRST.saturating_mul(1 << (self.failures - 1).min(16)).min(LONGEST);
        self.hold = Some(now + delay);
        self.problem = Some(problem);
    }

    pub(super) fn remove(&mut self, is: impl Fn(&Waiting<C>) -> bool) -> Option<Waiting<C>> {
        let at = self.waiting.iter().position(is)?;
        Some(self.waiting.remove(at))
    }
}
