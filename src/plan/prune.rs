//! What nobody declares any more, and when it may go.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Action, Blocked, Change, Input, Plan, Step};
use crate::live::{Instance, Observation};
use crate::resource::{Name, ResourceId};

/// Prunes up to this many need no share of the whole: small repositories change whole.
const ALWAYS: usize = 5;
/// How long calls on a pruned instance may go on: its own declaration is gone, so the default.
const GRACE: Duration = Duration::from_secs(30);

/// Adds stops for instances whose resource is gone, or says why not.
pub(super) fn orphans(input: &Input<'_>, instances: BTreeMap<Name, Vec<&Instance>>, plan: &mut Plan) {
    let waiting = |id: &ResourceId| input.desired.faulty.contains(id) || input.desired.pending.contains(id);
    let (claimed, foreign): (Vec<&Instance>, Vec<&Instance>) = instances
        .into_values()
        .flatten()
        .filter(|instance| !waiting(&instance.resource))
        .partition(|instance| input.inventory.entries.contains_key(&instance.name));
    for instance in foreign {
        let why = format!("`{}` carries our labels but is not in the inventory", instance.name);
        block(plan, &instance.resource, why);
    }
    let stops: Vec<Step> = claimed.iter().map(|instance| stop(instance)).collect();
    let whole: Vec<Step> = plan.steps.iter().chain(&stops).cloned().collect();
    let hash = super::display::hash(&whole);
    let protect = &input.desired.sync.protect;
    let protected = claimed.iter().any(|instance| protect.contains(&instance.resource.kind));
    match refusal(input, claimed.len(), protected).filter(|_| input.approved != Some(hash)) {
        Some(why) => {
            plan.approvable = (!input.errors).then_some(hash);
            for instance in claimed {
                block(plan, &instance.resource, why.clone());
            }
        }
        None => plan.steps.extend(stops),
    }
}

fn stop(instance: &Instance) -> Step {
    Step {
        resource: instance.resource.clone(),
        action: Action::Stop { instance: instance.clone(), grace: GRACE, change: Change::Prune },
        reason: "no longer declared".to_owned(),
        needs: Vec::new(),
    }
}

/// Why `count` prunes may not happen without approval.
fn refusal(input: &Input<'_>, count: usize, protected: bool) -> Option<String> {
    if count == 0 {
        return None;
    }
    if input.errors {
        return Some("not pruned while the revision has errors".to_owned());
    }
    if protected {
        return Some("not pruned: a protected kind is among them, and waits for approval".to_owned());
    }
    if input.inventory.rebuilt {
        return Some("not pruned: the inventory was rebuilt from labels and waits for approval".to_owned());
    }
    let count_of = |seen: &Observation| match seen {
        Observation::Present(instances) => instances.len(),
        Observation::Unknown(_) => 0,
    };
    let all: usize = input.live.runners.values().map(count_of).sum();
    let budget = (all * usize::from(input.desired.sync.prune_budget) / 100).max(ALWAYS);
    (count > budget).then(|| format!("{count} prunes are above the budget of {budget} and wait for approval"))
}

fn block(plan: &mut Plan, resource: &ResourceId, reason: String) {
    plan.blocked.push(Blocked { resource: resource.clone(), reason });
}
