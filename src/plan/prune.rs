//! What nobody declares any more, and when it may go.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Action, Blocked, Change, Input, Plan, Step};
use crate::desired::VolumeId;
use crate::live::{Guard, Instance, Observation};
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
    match refusal(input, &claimed).filter(|_| input.approved != Some(hash)) {
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

/// Why these prunes may not happen without approval.
fn refusal(input: &Input<'_>, claimed: &[&Instance]) -> Option<String> {
    if claimed.is_empty() {
        return None;
    }
    if input.errors {
        return Some("not pruned while the revision has errors".to_owned());
    }
    let now = Guard::of(&input.desired.sync);
    let before = input.inventory.guard.as_ref().unwrap_or(&now);
    let protects =
        |guard: &Guard| claimed.iter().any(|instance| guard.protect.contains(&instance.resource.kind));
    if protects(&now) {
        return Some("not pruned: a protected kind is among them, and waits for approval".to_owned());
    }
    if protects(before) {
        let why = "not pruned: a kind is among them that the revision applied before protects";
        return Some(format!("{why}, and waits for approval"));
    }
    if input.inventory.rebuilt {
        return Some("not pruned: the inventory was rebuilt from labels and waits for approval".to_owned());
    }
    let count_of = |seen: &Observation| match seen {
        Observation::Present(instances) => instances.len(),
        Observation::Unknown(_) => 0,
    };
    let all: usize = input.live.runners.values().map(count_of).sum();
    let count = claimed.len();
    let budget = |guard: &Guard| (all * usize::from(guard.budget) / 100).max(ALWAYS);
    let (old, new) = (budget(before), budget(&now));
    let whose = if old < new { " of the revision applied before" } else { "" };
    let budget = old.min(new);
    (count > budget)
        .then(|| format!("{count} prunes are above the budget of {budget}{whose} and wait for approval"))
}

/// Volumes that nothing declares, as far as that is known.
pub(super) fn kept(input: &Input<'_>) -> Vec<VolumeId> {
    let known = !input.errors && input.desired.pending.is_empty() && input.desired.faulty.is_empty();
    if !known || input.inventory.volumes.is_empty() {
        return Vec::new();
    }
    let declared = input.desired.volumes();
    input.inventory.volumes.iter().filter(|volume| !declared.contains_key(volume)).cloned().collect()
}

/// Whether nothing is left to prune, or to be asked about: then the revision's own guard is in force.
pub(super) fn settled(input: &Input<'_>, plan: &Plan) -> bool {
    let prunes = |step: &Step| matches!(step.action, Action::Stop { change: Change::Prune, .. });
    let known = |seen: &Observation| matches!(seen, Observation::Present(_));
    !input.errors
        && input.desired.pending.is_empty()
        && plan.approvable.is_none()
        && input.live.runners.values().all(known)
        && !plan.steps.iter().any(prunes)
}

fn block(plan: &mut Plan, resource: &ResourceId, reason: String) {
    plan.blocked.push(Blocked { resource: resource.clone(), reason });
}
