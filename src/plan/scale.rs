//! How many instances of a server are wanted: what it declares, and how much it is used.

use std::collections::BTreeSet;

use crate::desired::{Scale, Server};
use crate::live::InstanceId;

/// How much a server is used, as far as that decides how many instances run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Calls that wait for an instance.
    pub waiting: u32,
    /// Calls under way.
    pub calls: u32,
    /// Whether nobody knows yet what it offers, so that it has to be asked.
    pub unknown: bool,
    /// Instances that are in use, or were a short while ago.
    pub used: BTreeSet<InstanceId>,
}

/// How many are wanted. `running`: how many could be used that nobody has connected to yet, such as those an
/// earlier daemon left: one of them is taken, and ends like any other when nobody uses it.
pub(super) fn wanted(server: &Server, demand: &Demand, running: usize) -> usize {
    let Scale { min, max, .. } = server.scale;
    let calls = demand.calls.saturating_add(demand.waiting);
    let by_load = calls.div_ceil(Scale::busy(server.concurrency)) as usize;
    let started = usize::from(demand.unknown || demand.waiting > 0 || running > 0);
    let wanted = by_load.max(started).max(demand.used.len());
    wanted.clamp(min as usize, max as usize)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::plan::tests::server;
    use crate::resource::server::Strategy;

    fn wants((min, max): (u32, u32), concurrency: Option<u32>, demand: &Demand, running: usize) -> usize {
        let mut server = server("a", 1, Strategy::Surge);
        let server = Arc::make_mut(&mut server);
        (server.scale, server.concurrency) = (Scale { min, max, idle: Duration::ZERO }, concurrency);
        wanted(server, demand, running)
    }

    fn used(count: usize) -> Demand {
        let used = (0..count).map(|at| InstanceId(at.to_string())).collect();
        Demand { used, ..Demand::default() }
    }

    #[test]
    fn as_many_run_as_are_used_within_what_is_declared() {
        let none = Demand::default();
        let calls = |waiting, calls| Demand { waiting, calls, ..Demand::default() };
        for (scale, concurrency, demand, running, expected) in [
            ((1, 1), None, &none, 0, 1),
            ((2, 3), None, &none, 0, 2),
            ((0, 1), None, &none, 0, 0),
            ((0, 1), None, &none, 2, 1),
            ((0, 1), None, &Demand { unknown: true, ..Demand::default() }, 0, 1),
            ((0, 2), None, &calls(1, 0), 0, 1),
            ((0, 2), None, &calls(0, 8), 0, 1),
            ((0, 2), None, &calls(1, 8), 0, 2),
            ((1, 3), Some(2), &calls(1, 2), 0, 2),
            ((1, 3), Some(2), &calls(90, 6), 0, 3),
            ((1, 3), Some(1), &calls(0, 2), 0, 2),
            // What was used a short while ago goes on.
            ((1, 3), None, &used(2), 0, 2),
            ((0, 3), None, &used(9), 0, 3),
        ] {
            assert_eq!(wants(scale, concurrency, demand, running), expected, "{scale:?} {demand:?}");
        }
    }
}
