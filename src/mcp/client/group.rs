//! Instances of one version of a server that take calls side by side, of which there may be none.
//!
//! Input: which connections belong together, and calls that want one of them. Output: the one with the
//! fewest calls, and how much each is used. Invariants: no instance is given more calls than it may work on;
//! whoever waits for one is counted until it gives up; what is removed is given to nobody, and draining
//! waits for whoever has it. Not here: how many instances there should be ([`crate::plan`]).

#![expect(clippy::disallowed_methods, reason = "idle time is measured")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{Held, Upstream, Upstreams};
use crate::live::{InstanceId, UpstreamKey, Usage};

/// Between two times that another instance is asked for.
const ASK: Duration = Duration::from_millis(250);

/// By what catalogs lead to ([`UpstreamKey::any_of`]).
#[derive(Default)]
pub(super) struct Groups(Mutex<BTreeMap<UpstreamKey, Arc<Group>>>);

/// The instances of one version of a server.
#[derive(Default)]
pub struct Group {
    inside: Mutex<Inside>,
    changed: Notify,
}

#[derive(Default)]
struct Inside {
    members: BTreeMap<InstanceId, Member>,
    waiting: u32,
    /// When more of them were asked for last.
    asked: Option<Instant>,
}

struct Member {
    upstream: Arc<Upstream>,
    /// Calls under way.
    calls: u32,
    /// Connections of clients that lead to it.
    stays: u32,
    used: Instant,
}

/// An instance for one call.
pub struct Taken {
    pub connection: Held,
    pub key: UpstreamKey,
    group: Arc<Group>,
}

/// As long as it lives, the instance it leads to is in use, though no call is under way.
pub struct Stay {
    group: Arc<Group>,
    instance: InstanceId,
}

/// One that waits.
pub struct Waiting(Arc<Group>);

/// Why there is no instance for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacking {
    /// None runs.
    None,
    /// Each of so many works on as many calls as it may.
    Room(usize),
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The instance with the fewest calls below `most`, of those that `prefers` says if there is one, and how many calls it
    /// works on without this one.
    pub fn take(
        self: &Arc<Self>,
        any: &UpstreamKey,
        most: u32,
        prefers: impl Fn(&InstanceId) -> bool,
    ) -> Result<(Taken, u32), Lacking> {
        let mut inside = self.lock();
        let open = |(_, member): &(&InstanceId, &mut Member)| !member.upstream.is_closed();
        let mut there = 0;
        let found = inside
            .members
            .iter_mut()
            .filter(open)
            .inspect(|_| there += 1)
            .min_by_key(|(id, member)| (!prefers(id), member.calls));
        let Some((id, member)) = found else { return Err(Lacking::None) };
        if member.calls >= most {
            return Err(Lacking::Room(there));
        }
        member.calls += 1;
        let key = UpstreamKey { server: any.server.clone(), instance: id.clone() };
        let connection = Held::new(Arc::clone(&member.upstream));
        let before = member.calls - 1;
        drop(inside);
        Ok((Taken { connection, key, group: Arc::clone(self) }, before))
    }

    /// Counts one that waits, for as long as what is returned lives.
    pub fn wait(self: &Arc<Self>) -> Waiting {
        self.lock().waiting += 1;
        Waiting(Arc::clone(self))
    }

    /// Whether it is time to ask for another one: whoever starts them is not asked by each call.
    pub fn asks(&self) -> bool {
        let mut inside = self.lock();
        let asks = inside.asked.is_none_or(|asked| asked.elapsed() >= ASK);
        if asks {
            inside.asked = Some(Instant::now());
        }
        asks
    }

    /// Until an instance has come, or a call has ended, after this was called.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    fn used(&self, instance: &InstanceId, change: impl FnOnce(&mut Member)) {
        if let Some(member) = self.lock().members.get_mut(instance) {
            change(member);
            member.used = Instant::now();
        }
        self.changed.notify_waiters();
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.group.used(&self.key.instance, |member| member.calls = member.calls.saturating_sub(1));
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.group.used(&self.instance, |member| member.stays = member.stays.saturating_sub(1));
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut inside = self.0.lock();
        inside.waiting = inside.waiting.saturating_sub(1);
    }
}

impl Groups {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<UpstreamKey, Arc<Group>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection is given to nobody any more.
    pub(super) fn dismiss(&self, key: &UpstreamKey) {
        let mut groups = self.lock();
        for (_, group) in groups.iter().filter(|(any, _)| any.server == key.server) {
            group.lock().members.remove(&key.instance);
        }
        // Who holds one waits for an instance, or is about to.
        groups.retain(|_, group| Arc::strong_count(group) > 1 || !group.lock().members.is_empty());
    }
}

impl Upstreams {
    /// Those that take calls for what a catalog leads to.
    pub fn group(&self, any: &UpstreamKey) -> Arc<Group> {
        Arc::clone(self.groups.lock().entry(any.clone()).or_default())
    }

    /// From now on this connection takes calls for `any`.
    pub fn admit(&self, any: &UpstreamKey, key: &UpstreamKey) {
        let Some(upstream) = self.get(key) else { return };
        let group = self.group(any);
        let member = Member { upstream, calls: 0, stays: 0, used: Instant::now() };
        // One that is connected to anew keeps who uses it.
        let mut inside = group.lock();
        match inside.members.get_mut(&key.instance) {
            Some(known) => known.upstream = member.upstream,
            None => drop(inside.members.insert(key.instance.clone(), member)),
        }
        drop(inside);
        group.changed.notify_waiters();
    }

    /// From now on it takes none: calls under way go on.
    pub fn dismiss(&self, key: &UpstreamKey) {
        self.groups.dismiss(key);
    }

    /// Keeps an instance in use; none when it takes no calls for anybody.
    pub fn stay(&self, key: &UpstreamKey) -> Option<Stay> {
        let groups = self.groups.lock();
        let mut of_server = groups.iter().filter(|(any, _)| any.server == key.server);
        let group = of_server.find(|(_, group)| group.lock().members.contains_key(&key.instance))?.1;
        group.used(&key.instance, |member| member.stays += 1);
        Some(Stay { group: Arc::clone(group), instance: key.instance.clone() })
    }

    /// How much those are used that take calls for `any`.
    pub fn usage(&self, any: &UpstreamKey) -> Usage {
        let watched = self.watches(&any.server);
        let mut usage = Usage { watched, ..Usage::default() };
        let group = self.groups.lock().get(any).cloned();
        let Some(group) = group else { return usage };
        let mut inside = group.lock();
        usage.waiting = inside.waiting;
        for (at, (id, member)) in inside.members.iter_mut().enumerate() {
            // Tasks hold the connection, and of those that are watched one is enough.
            if (watched && at == 0) || member.stays > 0 || member.upstream.in_flight() > 0 {
                member.used = Instant::now();
            }
            usage.calls = usage.calls.saturating_add(member.calls);
            usage.idle.insert(id.clone(), member.used.elapsed());
        }
        drop(inside);
        usage
    }
}
