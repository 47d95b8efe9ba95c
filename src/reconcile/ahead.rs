//! Containers that are started ahead of calls: written down before there is one, and for as long as one may
//! be there. How many there are at a moment is the executor's.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Reconciler;
use super::whole::Published;
use crate::desired::Tool;
use crate::live::AheadId;
use crate::resource::ResourceId;

impl Reconciler {
    /// Has containers of what is served wait for calls.
    pub(super) fn keep_ahead(&mut self, published: &Published) {
        if !self.ahead {
            return;
        }
        let declared = published.tools.iter().map(|ready| &ready.tool).filter(|tool| tool.warm > 0);
        let mut tools: Vec<Arc<Tool>> = declared.cloned().collect();
        let wanted: BTreeSet<AheadId> = tools.iter().map(|tool| id(tool)).collect();
        let fresh: Vec<AheadId> = wanted.difference(&self.inventory.ahead).cloned().collect();
        if !fresh.is_empty() {
            self.inventory.ahead.extend(fresh.iter().cloned());
            if !self.save_inventory() {
                self.inventory.ahead.retain(|id| !fresh.contains(id));
                tools.retain(|tool| self.inventory.ahead.contains(&id(tool)));
            }
        }
        self.ports.executor.keep_warm(&tools, &published.revision.to_string(), &self.policies);
        if self.inventory.ahead != wanted {
            // What is not wanted any more is dropped from the inventory when it is seen gone.
            self.look();
        }
    }

    /// What waits for calls of this tool is of an image that was made anew: it goes, and comes again with the
    /// next catalog.
    pub(super) fn renew_ahead(&mut self, tool: &ResourceId) {
        let Some(published) = self.published.as_ref().filter(|_| self.ahead) else { return };
        let others = published.tools.iter().map(|ready| &ready.tool);
        let others: Vec<Arc<Tool>> =
            others.filter(|other| other.warm > 0 && other.id != *tool).cloned().collect();
        self.ports.executor.keep_warm(&others, &published.revision.to_string(), &self.policies);
    }

    /// Drops what nobody wants and certainly nothing is there for; whether there was any.
    pub(super) fn forget_ahead(&mut self) -> bool {
        let published = self.published.iter().filter(|_| self.ahead).flat_map(|published| &published.tools);
        let wanted: BTreeSet<AheadId> =
            published.map(|ready| &ready.tool).filter(|tool| tool.warm > 0).map(|tool| id(tool)).collect();
        let before = self.inventory.ahead.len();
        let seen = &self.live.ahead;
        self.inventory.ahead.retain(|id| {
            wanted.contains(id) || seen.get(&id.runner).is_none_or(|seen| seen.contains(&id.digest))
        });
        self.inventory.ahead.len() != before
    }
}

fn id(tool: &Tool) -> AheadId {
    AheadId { runner: tool.runner.clone(), resource: tool.id.clone(), digest: tool.digests.workload }
}
