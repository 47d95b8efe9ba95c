//! `publish: whole`: the changes of a revision are published in one swap, when all of it is ready.
//!
//! Until then what was published before is served, with its instances. Removals and rules do not wait:
//! nobody may use what was taken away. Nor does anything wait while nothing was published, since there
//! is nothing to serve instead.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Reconciler;
use crate::catalog::{Offered, ReadyTool};
use crate::desired::Desired;
use crate::live::InstanceId;
use crate::manifest::Snapshot;
use crate::resource::crib::Publish;
use crate::resource::{Kind, ResourceId, Revision};

/// What the served catalog was composed of.
#[derive(Clone)]
pub(super) struct Published {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) revision: Revision,
    /// Both in the order of names.
    pub(super) servers: Vec<Offered>,
    pub(super) tools: Vec<ReadyTool>,
}

impl Reconciler {
    /// What is to be published now: everything that is ready, or what was published before.
    pub(super) fn publishable(&mut self, desired: &Desired) -> Option<Published> {
        let waits_for = self.awaited(desired);
        if !waits_for.is_empty() && waits_for != self.waits_for {
            let list: Vec<&str> = waits_for.iter().map(String::as_str).collect();
            tracing::info!(revision = %desired.revision, waits_for = %super::serve::listed(&list), "not published before all of it is ready");
        }
        self.waits_for = waits_for;
        let servers = self.offered(desired);
        match &self.published {
            Some(before) if !self.waits_for.is_empty() => Some(self.as_before(before, desired)),
            _ => self.as_ready(desired, servers),
        }
    }

    fn as_ready(&self, desired: &Desired, servers: Vec<Offered>) -> Option<Published> {
        Some(Published {
            snapshot: Arc::clone(self.accepted.as_ref()?),
            revision: desired.revision.clone(),
            servers,
            tools: self.tools.values().cloned().collect(),
        })
    }

    /// What was published before, without what is no longer declared, and over the connections there
    /// are now.
    fn as_before(&self, before: &Published, desired: &Desired) -> Published {
        let mut published = before.clone();
        published.servers.retain_mut(|offered| {
            let id = &offered.server.id;
            if let Some(now) = self.serving.get(&id.name)
                && now.server.digests.workload == offered.server.digests.workload
            {
                offered.upstream = now.key.clone();
                if let Some(standing) = self.standing.get(&id.name) {
                    offered.offer = Arc::clone(standing.offer());
                }
            }
            desired.servers.contains_key(&id.name) || waits(desired, id)
        });
        published.tools.retain(|ready| {
            let id = &ready.tool.id;
            desired.tools.contains_key(&id.name) || waits(desired, id)
        });
        published
    }

    /// What is not ready of a revision newer than the published one, when it is published as a whole.
    fn awaited(&self, desired: &Desired) -> BTreeSet<String> {
        let newer = self.published.as_ref().zip(self.accepted.as_ref());
        let newer = newer.is_some_and(|(published, now)| !Arc::ptr_eq(&published.snapshot, now));
        if desired.sync.publish != Publish::Whole || !newer {
            return BTreeSet::new();
        }
        self.unready(desired).into_keys().collect()
    }

    /// Instances that the served catalog leads to although their successors have answered.
    pub(super) fn routed(&self) -> BTreeSet<InstanceId> {
        if self.waits_for.is_empty() {
            return BTreeSet::new();
        }
        let published = self.published.iter().flat_map(|published| &published.servers);
        let led = |offered: &Offered| {
            let own = self.members(&offered.server).map(|key| key.instance.clone());
            let any = offered.upstream.is_any();
            own.filter(|_| any).chain((!any).then(|| offered.upstream.instance.clone())).collect::<Vec<_>>()
        };
        published.flat_map(led).collect()
    }

    /// Whether this resource is ready, and another version of it published while it waits for others.
    pub(super) fn is_held(&self, id: &ResourceId) -> bool {
        let (Some(published), Some(desired), false) =
            (&self.published, &self.desired, self.waits_for.is_empty())
        else {
            return false;
        };
        match id.kind {
            Kind::Server => {
                let at = published.servers.binary_search_by_key(&&id.name, |offered| &offered.server.id.name);
                let before = at.ok().map(|at| published.servers[at].server.digests);
                let now = desired.servers.get(&id.name).filter(|server| server.synced);
                before != now.map(|server| server.digests)
            }
            Kind::Tool => {
                let at = published.tools.binary_search_by_key(&&id.name, |ready| &ready.tool.id.name);
                let before = at.ok().map(|at| published.tools[at].tool.digests);
                before != desired.tools.get(&id.name).map(|tool| tool.digests)
            }
            Kind::Crib | Kind::Runner | Kind::Policy | Kind::Integration | Kind::Toolset => false,
        }
    }

    /// What the newest revision waits for, as a sentence's end.
    pub(super) fn awaits(&self) -> String {
        let list: Vec<&str> = self.waits_for.iter().map(String::as_str).collect();
        format!(
            "published when all of the revision is ready (`publish: whole`); it waits for {}",
            super::serve::listed(&list)
        )
    }
}

/// Whether the version before is kept for want of a better one.
pub(super) fn waits(desired: &Desired, id: &ResourceId) -> bool {
    desired.faulty.contains(id) || desired.pending.contains(id)
}
