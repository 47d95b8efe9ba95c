//! Starts, and the stops that go with them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::diff::{Standing, awaited, build_step, hold, push};
use super::{Action, Blocked, Change, Input, Plan, drift};
use crate::desired::{Server, VolumeId, Workload};
use crate::live::{Fault, Instance, InstanceState, UpstreamKey};
use crate::resource::Name;
use crate::resource::crib::Drift;
use crate::resource::server::Strategy;

/// How many instances of the wanted version can be used, and how many are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    pub(super) there: usize,
    pub(super) wanted: usize,
}

/// Starts as many as are missing. `old` are instances that cannot be used.
pub(super) fn start(
    input: &Input<'_>,
    server: &Arc<Server>,
    workload: &Workload,
    (old, count): (&[&Instance], Count),
    standing: &BTreeMap<&Name, Standing>,
    plan: &mut Plan,
) -> Standing {
    let drift = drift::of(input, server, old, count.there);
    if let Some(what) = drift
        && input.desired.sync.drift == Drift::Report
        && !input.correct.contains(&server.id)
    {
        plan.drift.push(Blocked { resource: server.id.clone(), reason: what.to_owned() });
        return Standing::Waits;
    }
    let former = input.former.get(&server.id.name).is_some_and(|former| Arc::ptr_eq(former, server));
    if !former && hold(input, &server.id, plan) {
        return Standing::Waits;
    }
    let Some(mut needs) = awaited(server, standing, plan) else { return Standing::Waits };
    let built =
        server.build.as_ref().and_then(|build| build_step(input, &server.id, &workload.runner, build, plan));
    needs.extend(built);
    let (change, reason) = match drift {
        Some(what) => (Change::Restart, format!("drift: {what}")),
        None => why(server, (old, count), input),
    };
    let reason = reason + &makes(input, workload);
    if server.strategy == Strategy::Recreate {
        let first = plan.steps.len();
        for instance in old {
            stop(server, instance, "replaced; it goes first", &needs, plan);
        }
        needs.extend(first..plan.steps.len());
    }
    let mut taken = BTreeSet::new();
    let mut started = Vec::new();
    for _ in count.there..count.wanted {
        let name = free_name(input, server, old, &taken);
        taken.insert(name.clone());
        let action =
            Action::Start { runner: workload.runner.clone(), server: Arc::clone(server), name, change };
        started.push(push(plan, &server.id, action, &reason, needs.clone()));
    }
    if server.strategy != Strategy::Recreate {
        stop_all(input, server, old, "replaced", &started, plan);
    }
    started.first().map_or(Standing::Ready, |first| Standing::After(*first))
}

/// Makes the image of a server that starts on demand, so that the first call need not wait for it.
pub(super) fn ahead(input: &Input<'_>, server: &Arc<Server>, workload: &Workload, plan: &mut Plan) {
    let Some(build) = &server.build else { return };
    if !input.held.contains_key(&server.id) {
        build_step(input, &server.id, &workload.runner, build, plan);
    }
}

fn why(server: &Server, (old, count): (&[&Instance], Count), input: &Input<'_>) -> (Change, String) {
    if server.scale.is_elastic() && old.is_empty() {
        let reason = match count.there {
            0 if !server.scale.on_demand() => "does not run",
            0 if input.demand.get(&UpstreamKey::any_of(server)).is_some_and(|demand| demand.unknown) => {
                "it starts on demand, and what it offers is not known"
            }
            0 => "it is called",
            there if there < server.scale.min as usize => "too few run",
            _ => "those that run are busy",
        };
        return (Change::Create, reason.to_owned());
    }
    let (change, reason) = match old.iter().find(|instance| instance.digest == server.digests.workload) {
        Some(_) if input.rebuild.contains(&server.id) => (Change::Restart, "asked for"),
        Some(instance) => match (&instance.state, input.broken.get(&instance.id)) {
            (_, Some(Fault::Rotated)) => (Change::Restart, "its secrets changed"),
            (InstanceState::Exited { .. }, _) => (Change::Restart, "it ended"),
            (InstanceState::Paused, _) => (Change::Restart, "it is paused"),
            (_, Some(Fault::Ended | Fault::Silent)) => (Change::Restart, "it does not answer"),
            (_, None) => (Change::Restart, "its connection cannot be taken over"),
        },
        None if old.is_empty() => (Change::Create, "does not run"),
        None => (Change::Replace, "its workload changed"),
    };
    (change, reason.to_owned())
}

/// The volumes that a start makes first, as the end of its reason.
fn makes(input: &Input<'_>, workload: &Workload) -> String {
    let id = |name: &Name| VolumeId { runner: workload.runner.clone(), name: name.clone() };
    let names: BTreeSet<&Name> = workload.volumes.values().map(|volume| &volume.name).collect();
    let fresh = names.into_iter().filter(|name| !input.inventory.volumes.contains(&id(name)));
    let fresh: Vec<&str> = fresh.map(Name::as_str).collect();
    if fresh.is_empty() { String::new() } else { format!("; makes volume {}", fresh.join(", ")) }
}

/// `<name>-<digest>-<n>` with the smallest `n` that neither an instance nor the inventory has.
fn free_name(input: &Input<'_>, server: &Server, own: &[&Instance], others: &BTreeSet<String>) -> String {
    let stem = format!("{}-{}", server.id.name, server.digests.workload.short());
    let taken = |name: &str| {
        input.inventory.entries.contains_key(name)
            || others.contains(name)
            || own.iter().any(|instance| instance.name == name)
    };
    let mut n = 1_u64;
    loop {
        let name = format!("{stem}-{n}");
        if !taken(&name) {
            return name;
        }
        n += 1;
    }
}

/// Stops instances that are not needed any more; those the served catalog leads to go on until the
/// next one is published.
pub(super) fn stop_all(
    input: &Input<'_>,
    server: &Server,
    instances: &[&Instance],
    reason: &str,
    needs: &[usize],
    plan: &mut Plan,
) {
    for instance in instances {
        if input.routed.contains(&instance.id) {
            let reason = format!("`{}` serves until the whole revision is ready", instance.name);
            plan.blocked.push(Blocked { resource: server.id.clone(), reason });
        } else {
            stop(server, instance, reason, needs, plan);
        }
    }
}

fn stop(server: &Server, instance: &Instance, reason: &str, needs: &[usize], plan: &mut Plan) {
    let (instance, grace) = (instance.clone(), server.drain_timeout);
    let action = Action::Stop { instance, grace, change: Change::Replace };
    push(plan, &server.id, action, reason, needs.to_vec());
}
