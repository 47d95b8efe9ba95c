//! The ordered difference between what is desired and what runs, as data.
//!
//! Input: [`Input`], all of it plain data. Output: a [`Plan`] of [`Step`]s and a report of what was
//! held back. Invariants: planning is synchronous, total and deterministic; a step leaves no choice
//! to whoever applies it; unknown is not absent; nothing is pruned that inventory and label do not
//! both claim. Not here: applying, waiting, time.

mod diff;
mod display;
mod drift;
mod prune;
mod scale;
mod start;
#[cfg(test)]
mod tests;

pub use display::{PlanView, StepView};
pub use scale::Demand;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::build::BuildSpec;
use crate::desired::{Desired, Server, VolumeId};
use crate::live::{Fault, Guard, Instance, InstanceId, Inventory, Live, UpstreamKey};
use crate::resource::{Digest, Name, ResourceId};

/// Everything a plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub desired: &'a Desired,
    pub live: &'a Live,
    pub inventory: &'a Inventory,
    /// Build digests known to have an image, with the runner that has it.
    pub built: &'a BTreeSet<(Name, Digest)>,
    /// Instances this daemon holds a proven connection to.
    pub connected: &'a BTreeSet<UpstreamKey>,
    /// Instances that are of no more use: replaced, not adopted.
    pub broken: &'a BTreeMap<InstanceId, Fault>,
    /// How much servers are used, where their number of instances depends on it.
    /// By what a catalog leads to ([`UpstreamKey::any_of`]).
    pub demand: &'a BTreeMap<UpstreamKey, Demand>,
    /// Instances that are being stopped, by name: of no more use, and still there.
    pub ending: &'a BTreeSet<String>,
    /// Versions that are served and not wanted any more, while the wanted one cannot be had: where they start
    /// on demand, they start.
    pub former: &'a BTreeMap<Name, Arc<Server>>,
    /// Resources whose drift somebody asked to correct, whatever `sync.drift` says.
    pub correct: &'a BTreeSet<ResourceId>,
    /// Instances that the served catalog still leads to, while their successors wait to be published.
    pub routed: &'a BTreeSet<InstanceId>,
    /// Resources that failed lately and wait for their back-off; the text says until when.
    pub held: &'a BTreeMap<ResourceId, String>,
    /// Resources to build although their digest is known.
    pub rebuild: &'a BTreeSet<ResourceId>,
    /// The hash of a plan whose prunes were approved.
    pub approved: Option<Digest>,
    /// Whether the desired set was computed with an error in it: then nothing is pruned.
    pub errors: bool,
}

/// What to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// What is wanted but held back, and why.
    pub blocked: Vec<Blocked>,
    /// What differs from what was last applied and is left so (`sync.drift: report`).
    pub drift: Vec<Blocked>,
    /// Volumes that nothing declares any more: no step ever removes one.
    pub kept: Vec<VolumeId>,
    /// Over the steps alone, not the revision or the time.
    pub hash: Digest,
    /// Where prunes wait for approval: the hash of the plan that has them.
    pub approvable: Option<Digest>,
    /// What guards prunes from now on; none while the revision is not applied as far as prunes go.
    pub guard: Option<Guard>,
}

/// One idempotent thing to do. `needs` are indices of steps that come first.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub resource: ResourceId,
    pub action: Action,
    /// Why, as a phrase.
    pub reason: String,
    pub needs: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make an image, named by its digest.
    Build { runner: Name, build: Arc<BuildSpec>, rebuild: bool },
    /// Start an instance under this name, prove it healthy, offer what it lists.
    Start { runner: Name, server: Arc<Server>, name: String, change: Change },
    /// Use an instance that runs: connect, prove it healthy, offer what it lists.
    Adopt { server: Arc<Server>, instance: Instance },
    /// Reach a server that runs elsewhere.
    Reach { server: Arc<Server>, url: String },
    /// Let calls in flight end for at most `grace`, stop the instance, remove what it left.
    Stop { instance: Instance, grace: Duration, change: Change },
}

/// What a step means for its resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    Create,
    Replace,
    Restart,
    Prune,
}

/// Something wanted that this plan does not do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    pub resource: ResourceId,
    pub reason: String,
}

/// Works out the plan.
pub fn plan(input: &Input<'_>) -> Plan {
    let mut plan = empty();
    let unknown = diff::unknown_runners(input.live);
    let mut instances = diff::by_server(input.live);
    diff::tools(input, &mut plan);
    let mut standing = BTreeMap::new();
    for server in diff::in_order(input.desired) {
        let own = instances.remove(&server.id.name).unwrap_or_default();
        let now = diff::server(input, server, &own, &unknown, &standing, &mut plan);
        standing.insert(&server.id.name, now);
    }
    for (name, server) in input.former.iter().filter(|(name, _)| !input.desired.servers.contains_key(*name)) {
        let own = instances.remove(name).unwrap_or_default();
        diff::former(input, server, &own, &standing, &mut plan);
    }
    prune::orphans(input, instances, &mut plan);
    plan.kept = prune::kept(input);
    plan.guard = prune::settled(input, &plan).then(|| Guard::of(&input.desired.sync));
    plan.hash = display::hash(&plan.steps);
    plan
}

/// The plan before anything was read: nothing is wanted, nothing is known.
pub fn empty() -> Plan {
    Plan {
        steps: Vec::new(),
        blocked: Vec::new(),
        drift: Vec::new(),
        kept: Vec::new(),
        hash: display::hash(&[]),
        approvable: None,
        guard: None,
    }
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
