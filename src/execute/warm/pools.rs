//! Which containers wait for which calls, and what is to be started and dropped. Pure: time is an input.
//!
//! Invariants: a container serves the workload digest and limits it was started for and no others; one that
//! was used serves nobody whom `isolation` keeps from it, nor anybody when secrets or rules are others than
//! they were; those that wait or start are never more than [`Pools::most`] together.

mod pool;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::desired::Tool;
use crate::policy::Principal;
use crate::ports::Run;
use crate::resource::ResourceId;
use crate::resource::tool::Isolation;
use crate::status::WarmStatus;
pub(super) use pool::{Begin, Key, Lives, Next, Taken, Used};
use pool::{Pool, Waiting};

/// Starts at a time, of all tools: each takes the engine, and calls, a good part of a processor.
const MAX_STARTING: usize = 2;
/// After a call took a container, until the next is started although the call goes on: short calls are not
/// disturbed by it.
const SETTLE: Duration = Duration::from_millis(50);
/// How long a container that was used is kept for its principal, or its tool.
const IDLE: Duration = Duration::from_mins(5);
/// Containers kept for one principal and tool: agents call few tools side by side.
const PER_PRINCIPAL: usize = 2;
/// Containers kept for principals of one tool.
const PER_TOOL: usize = 16;
/// Waiting this long forgives earlier failures.
const FORGIVEN: Duration = Duration::from_mins(1);

/// All pools.
pub(super) struct Pools<C> {
    /// Containers that wait or start, of all tools together.
    most: usize,
    serial: u64,
    /// How often rules became others.
    rules: u64,
    /// By their tools.
    tools: BTreeMap<ResourceId, Pool<C>>,
}

impl<C: Lives> Pools<C> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, serial: 0, rules: 0, tools: BTreeMap::new() }
    }

    /// These tools and no others. What is not wanted any more is returned.
    pub(super) fn set(&mut self, tools: &[Arc<Tool>], revision: &str) -> Vec<C> {
        let revision: Arc<str> = revision.into();
        let mut before = std::mem::take(&mut self.tools);
        let mut unwanted = Vec::new();
        for tool in tools.iter().filter(|tool| tool.warm > 0 && tool.image.is_some()) {
            let key = Key { tool: tool.id.clone(), digest: tool.digests.workload, isolation: tool.isolation };
            let known = before.remove(&tool.id);
            let (tool, revision) = (Arc::clone(tool), Arc::clone(&revision));
            let pool = match known {
                Some(known) if known.key == key => Pool { tool, revision, ..known },
                other => {
                    unwanted.extend(other.into_iter().flat_map(|pool| pool.waiting));
                    Pool::new(key, tool, revision)
                }
            };
            self.tools.insert(pool.key.tool.clone(), pool);
        }
        unwanted.extend(before.into_values().flat_map(|pool| pool.waiting));
        unwanted.into_iter().map(|one| one.container).collect()
    }

    /// Rules are others: nobody uses again what was used, nor what is in use now.
    pub(super) fn forget_used(&mut self) -> Vec<C> {
        self.rules += 1;
        let pools = self.tools.values_mut();
        pools.flat_map(|pool| pool.waiting.extract_if(.., |one| one.used.is_some())).map(container).collect()
    }

    /// The pool of that key, unless another version of its tool has taken its place.
    fn pool(&mut self, key: &Key) -> Option<&mut Pool<C>> {
        self.tools.get_mut(&key.tool).filter(|pool| pool.key == *key)
    }

    /// A container for a run, and what turned out to be of no use; none when its tool has no pool.
    pub(super) fn take(
        &mut self,
        run: &Run,
        principal: Option<&Principal>,
        tag: &dyn Fn() -> String,
        now: Instant,
    ) -> Option<(Option<Taken<C>>, Vec<C>)> {
        let pool = self.tools.get_mut(&run.resource)?;
        // Rules may lower the limits of one call: that is another container.
        if pool.key.digest != run.digest || pool.tool.limits != run.limits {
            return Some((None, Vec::new()));
        }
        let used = match (pool.key.isolation, principal) {
            (Isolation::Call, _) | (Isolation::Principal, None) => Used::Once,
            (Isolation::Principal, Some(principal)) => {
                Used::By { principal: Some(principal.clone()), tag: tag() }
            }
            (Isolation::Tool, _) => Used::By { principal: None, tag: tag() },
        };
        // Secrets were rotated: what held the former ones goes.
        let rotated = |one: &mut Waiting<C>| match (&one.used, &used) {
            (Some(Used::By { principal: a, tag: former }), Used::By { principal: b, tag }) => {
                a == b && former != tag
            }
            _ => false,
        };
        let dropped = pool.waiting.extract_if(.., |one| rotated(one) || !one.container.lives());
        let dropped = dropped.map(container).collect();
        // What was used last is the warmest, and of those that wait the first is surely ready.
        let at = pool.waiting.iter().rposition(|one| one.used.as_ref() == Some(&used));
        let at = at.or_else(|| pool.waiting.iter().position(|one| one.used.is_none()));
        let Some(taken) = at.map(|at| pool.waiting.remove(at)) else { return Some((None, dropped)) };
        pool.busy += 1;
        pool.settle.get_or_insert(now + SETTLE);
        (pool.failures, pool.hold, pool.problem) = (0, None, None);
        let Waiting { serial, container, .. } = taken;
        let taken = Taken { key: pool.key.clone(), serial, rules: self.rules, container, used };
        Some((Some(taken), dropped))
    }

    /// A call is over, and its container with it.
    pub(super) fn release(&mut self, taken: &Taken<C>) {
        if let Some(pool) = self.pool(&taken.key) {
            pool.busy = pool.busy.saturating_sub(1);
            pool.settle = None;
        }
    }

    /// A call is over, and its container clean: it is kept for whom it may serve, or another one goes for it.
    pub(super) fn give(&mut self, taken: Taken<C>, now: Instant) -> Vec<C> {
        self.release(&taken);
        let full = self.total() >= self.most;
        let Taken { key, serial, rules, container, used } = taken;
        if rules != self.rules || !container.lives() {
            return vec![container];
        }
        let mut dropped = Vec::new();
        if full && key.isolation == Isolation::Principal {
            dropped.extend(self.least_used());
        }
        let full = full && dropped.is_empty();
        let Some(pool) = self.pool(&key).filter(|_| used != Used::Once && !full) else {
            dropped.extend([Waiting { serial, container, since: now, used: None }]);
            return dropped.into_iter().map(self::container).collect();
        };
        let kept = |one: &Waiting<C>| one.used.is_some();
        let own = |one: &Waiting<C>| one.used.as_ref() == Some(&used);
        let own_count = pool.waiting.iter().filter(|one| own(one)).count();
        // The one that waits longest makes room.
        match key.isolation {
            Isolation::Tool if pool.there() >= pool.tool.warm as usize => {
                dropped.extend(pool.remove(kept).or_else(|| pool.remove(|_| true)));
            }
            Isolation::Principal if own_count >= PER_PRINCIPAL => dropped.extend(pool.remove(own)),
            Isolation::Principal if pool.waiting.iter().filter(|one| kept(one)).count() >= PER_TOOL => {
                dropped.extend(pool.remove(kept));
            }
            Isolation::Call | Isolation::Tool | Isolation::Principal => {}
        }
        pool.waiting.push(Waiting { serial, container, since: now, used: Some(used) });
        dropped.into_iter().map(self::container).collect()
    }

    /// Containers that wait or start.
    fn total(&self) -> usize {
        self.tools.values().map(Pool::there).sum()
    }

    /// A container waits; its number, and the container when nobody wants it any more.
    pub(super) fn started(&mut self, begin: &Begin, container: C, now: Instant) -> (u64, Option<C>) {
        self.serial += 1;
        let serial = self.serial;
        let Some(pool) = self.pool(&begin.key) else { return (serial, Some(container)) };
        pool.starting = pool.starting.saturating_sub(1);
        pool.problem = None;
        pool.waiting.push(Waiting { serial, container, since: now, used: None });
        (serial, None)
    }

    pub(super) fn failed(&mut self, begin: &Begin, problem: String, now: Instant) {
        if let Some(pool) = self.pool(&begin.key) {
            pool.starting = pool.starting.saturating_sub(1);
            pool.fails(problem, now);
        }
    }

    /// A container ended; whether it was one that waited.
    pub(super) fn died(&mut self, key: &Key, serial: u64, now: Instant) -> bool {
        let Some(pool) = self.pool(key) else { return false };
        let Some(died) = pool.remove(|one| one.serial == serial) else { return false };
        if now - died.since >= FORGIVEN {
            pool.failures = 0;
        }
        pool.fails("a container ended while it waited for a call".to_owned(), now);
        true
    }

    /// Decides what is to be done now.
    pub(super) fn next(&mut self, now: Instant) -> Next<C> {
        let mut dropped = Vec::new();
        for pool in self.tools.values_mut() {
            let old = |one: &Waiting<C>| one.used.is_some() && now >= one.since + IDLE;
            dropped.extend(pool.waiting.extract_if(.., |one| old(one)));
            // Fewer are declared than before.
            let most = pool.tool.warm as usize;
            while pool.fresh() > most {
                dropped.extend(pool.remove(|one| one.used.is_none()));
            }
            pool.hold = pool.hold.filter(|hold| *hold > now);
            pool.settle = pool.settle.filter(|settle| *settle > now);
        }
        let begin = self.begin(&mut dropped);
        let idle = |pool: &Pool<C>| {
            pool.waiting.iter().filter(|one| one.used.is_some()).map(|one| one.since + IDLE).min()
        };
        let waits = |pool: &Pool<C>| {
            let held = pool.hold.max(pool.settle).filter(|_| pool.missing() > 0);
            held.into_iter().chain(idle(pool)).min()
        };
        let wake = self.tools.values().filter_map(waits).min();
        Next { begin, dropped: dropped.into_iter().map(container).collect(), wake }
    }

    /// What is started now: of the tools that miss any, each time the one that has the fewest.
    fn begin(&mut self, dropped: &mut Vec<Waiting<C>>) -> Vec<Begin> {
        let mut begin = Vec::new();
        let mut total = self.total();
        let mut starting: usize = self.tools.values().map(|pool| pool.starting).sum();
        while starting < MAX_STARTING {
            let poor =
                |pool: &&mut Pool<C>| pool.missing() > 0 && pool.hold.is_none() && pool.settle.is_none();
            let has = |pool: &&mut Pool<C>| pool.fresh() + pool.starting;
            let Some(id) =
                self.tools.values_mut().filter(poor).min_by_key(has).map(|pool| pool.key.tool.clone())
            else {
                break;
            };
            if total >= self.most {
                // What is kept for somebody makes room for what is declared.
                let Some(oldest) = self.least_used() else { break };
                dropped.push(oldest);
                total -= 1;
            }
            let Some(chosen) = self.tools.get_mut(&id) else { break };
            chosen.starting += 1;
            (starting, total) = (starting + 1, total + 1);
            let (tool, revision) = (Arc::clone(&chosen.tool), Arc::clone(&chosen.revision));
            begin.push(Begin { key: chosen.key.clone(), tool, revision });
        }
        begin
    }

    /// The container that was kept longest for a principal.
    fn least_used(&mut self) -> Option<Waiting<C>> {
        let kept = self.tools.values_mut().filter(|pool| pool.key.isolation == Isolation::Principal);
        let oldest = kept.filter_map(|pool| {
            let since = pool.waiting.iter().filter(|one| one.used.is_some()).map(|one| one.since).min()?;
            Some((since, pool))
        });
        let (since, pool) = oldest.min_by_key(|(since, _)| *since)?;
        pool.remove(|one| one.used.is_some() && one.since == since)
    }

    /// How each pool is.
    pub(super) fn seen(&self) -> BTreeMap<ResourceId, WarmStatus> {
        let full = self.total() >= self.most;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let seen = |pool: &Pool<C>| {
            let bound = || format!("the daemon allows {} containers to wait in all (`max-warm`)", self.most);
            let bound = (full && pool.missing() > 0).then(bound);
            WarmStatus {
                wanted: pool.tool.warm,
                waiting: count(pool.waiting.len()),
                starting: count(pool.starting),
                busy: count(pool.busy),
                problem: pool.problem.clone().or(bound),
            }
        };
        self.tools.iter().map(|(id, pool)| (id.clone(), seen(pool))).collect()
    }
}

fn container<C>(waiting: Waiting<C>) -> C {
    waiting.container
}
