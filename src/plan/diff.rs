//! One resource at a time: what it needs to become what is desired.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Action, Blocked, Change, Input, Plan, Step, drift};
use crate::build::BuildSpec;
use crate::desired::{Desired, Location, Server, VolumeId, Workload};
use crate::live::{Fault, Instance, InstanceId, InstanceState, Live, Observation, UpstreamKey};
use crate::resource::crib::Drift;
use crate::resource::server::Strategy;
use crate::resource::{Kind, Name, ResourceId};

/// Runners that could not be asked, with the reason.
pub(super) fn unknown_runners(live: &Live) -> BTreeMap<&Name, &str> {
    live.runners
        .iter()
        .filter_map(|(name, seen)| match seen {
            Observation::Unknown(why) => Some((name, why.as_str())),
            Observation::Present(_) => None,
        })
        .collect()
}

/// Instances of servers, in the order of their names.
pub(super) fn by_server(live: &Live) -> BTreeMap<Name, Vec<&Instance>> {
    let mut map: BTreeMap<Name, Vec<&Instance>> = BTreeMap::new();
    for seen in live.runners.values() {
        let Observation::Present(instances) = seen else { continue };
        for instance in instances.iter().filter(|instance| instance.resource.kind == Kind::Server) {
            map.entry(instance.resource.name.clone()).or_default().push(instance);
        }
    }
    for instances in map.values_mut() {
        instances.sort_by(|a, b| a.name.cmp(&b.name));
    }
    map
}

/// Images that tools need.
pub(super) fn tools(input: &Input<'_>, plan: &mut Plan) {
    for tool in input.desired.tools.values() {
        if let Some(build) = &tool.build
            && !hold(input, &tool.id, plan)
        {
            build_step(input, &tool.id, &tool.runner, build, plan);
        }
    }
}

/// The index of the step that makes the image, when one is needed.
fn build_step(
    input: &Input<'_>,
    id: &ResourceId,
    runner: &Name,
    build: &Arc<BuildSpec>,
    plan: &mut Plan,
) -> Option<usize> {
    let rebuild = input.rebuild.contains(id);
    if input.built.contains(&(runner.clone(), build.digest)) && !rebuild {
        return None;
    }
    let same = |step: &Step| match &step.action {
        Action::Build { build: other, runner: on, .. } => other.digest == build.digest && on == runner,
        _ => false,
    };
    let there = plan.steps.iter().position(same);
    Some(there.unwrap_or_else(|| {
        let reason = if rebuild { "asked for" } else { "no image of this digest is known" };
        let action = Action::Build { runner: runner.clone(), build: Arc::clone(build), rebuild };
        push(plan, id, action, reason, Vec::new())
    }))
}

fn push(plan: &mut Plan, id: &ResourceId, action: Action, reason: &str, needs: Vec<usize>) -> usize {
    plan.steps.push(Step { resource: id.clone(), action, reason: reason.to_owned(), needs });
    plan.steps.len() - 1
}

/// Whether the resource waits for its back-off; says so in the report.
fn hold(input: &Input<'_>, id: &ResourceId, plan: &mut Plan) -> bool {
    if input.rebuild.contains(id) {
        return false;
    }
    let Some(until) = input.held.get(id) else { return false };
    plan.blocked.push(Blocked { resource: id.clone(), reason: until.clone() });
    true
}

/// How far a server is, for those that wait for it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing {
    /// It answers.
    Ready,
    /// It will, when this step is done.
    After(usize),
    /// It waits for something itself.
    Waits,
}

/// Servers, each after those it waits for; where they wait for each other, in the order of names.
pub(super) fn in_order(desired: &Desired) -> Vec<&Arc<Server>> {
    let (mut seen, mut order) = (BTreeSet::new(), Vec::with_capacity(desired.servers.len()));
    for first in desired.servers.values() {
        // Those whose needs are looked at: no deeper than a chain of them is long.
        let mut open = Vec::new();
        if seen.insert(&first.id.name) {
            open.push((first, first.depends_on.iter()));
        }
        while let Some((server, needed)) = open.last_mut() {
            let Some(name) = needed.next() else {
                order.push(*server);
                open.pop();
                continue;
            };
            let next = desired.servers.get(name).filter(|next| seen.insert(&next.id.name));
            open.extend(next.map(|next| (next, next.depends_on.iter())));
        }
    }
    order
}

/// What one server needs. `own` are its instances on every runner.
pub(super) fn server(
    input: &Input<'_>,
    server: &Arc<Server>,
    own: &[&Instance],
    unknown: &BTreeMap<&Name, &str>,
    standing: &BTreeMap<&Name, Standing>,
    plan: &mut Plan,
) -> Standing {
    match &server.location {
        Location::Remote { url, .. } => {
            let instance = InstanceId::remote(url, &server.digests.workload);
            let key = UpstreamKey { server: server.id.name.clone(), instance };
            let standing = if input.connected.contains(&key) {
                Standing::Ready
            } else if hold(input, &server.id, plan) {
                Standing::Waits
            } else {
                let action = Action::Reach { server: Arc::clone(server), url: url.clone() };
                Standing::After(push(plan, &server.id, action, "not connected", Vec::new()))
            };
            stop_all(input, server, own, "runs elsewhere now", &[], plan);
            standing
        }
        Location::Runner(workload) => {
            if let Some(why) = unknown.get(&workload.runner) {
                let reason = format!("runner `{}` cannot be asked: {why}", workload.runner);
                plan.blocked.push(Blocked { resource: server.id.clone(), reason });
                Standing::Waits
            } else {
                on_runner(input, server, workload, own, standing, plan)
            }
        }
    }
}

fn on_runner(
    input: &Input<'_>,
    server: &Arc<Server>,
    workload: &Workload,
    own: &[&Instance],
    standing: &BTreeMap<&Name, Standing>,
    plan: &mut Plan,
) -> Standing {
    let usable = |instance: &Instance| {
        instance.runner == workload.runner
            && instance.digest == server.digests.workload
            && !matches!(instance.state, InstanceState::Exited { .. } | InstanceState::Paused)
            && !input.broken.contains_key(&instance.id)
            && !input.rebuild.contains(&server.id)
    };
    let connected = |instance: &Instance| {
        let key = UpstreamKey { server: server.id.name.clone(), instance: instance.id.clone() };
        input.connected.contains(&key)
    };
    let usable: Vec<&Instance> = own.iter().copied().filter(|instance| usable(instance)).collect();
    let keep = usable
        .iter()
        .find(|instance| connected(instance))
        .or_else(|| usable.iter().find(|instance| instance.adoptable))
        .copied();
    let rest: Vec<&Instance> =
        own.iter().copied().filter(|instance| keep.is_none_or(|kept| kept.id != instance.id)).collect();
    match keep {
        Some(instance) if connected(instance) => {
            stop_all(input, server, &rest, "superseded", &[], plan);
            Standing::Ready
        }
        Some(instance) => {
            let action = Action::Adopt { server: Arc::clone(server), instance: instance.clone() };
            let adopted = push(plan, &server.id, action, "runs with the wanted digest", Vec::new());
            stop_all(input, server, &rest, "superseded", &[adopted], plan);
            Standing::After(adopted)
        }
        None => start(input, server, workload, &rest, standing, plan),
    }
}

/// The steps a start has to wait for, of the servers it depends on; none when one of those waits itself.
fn awaited(server: &Server, standing: &BTreeMap<&Name, Standing>, plan: &mut Plan) -> Option<Vec<usize>> {
    let mut steps = Vec::new();
    for name in &server.depends_on {
        match standing.get(name) {
            Some(Standing::Ready) => {}
            Some(Standing::After(step)) => steps.push(*step),
            Some(Standing::Waits) | None => {
                let reason = format!("it waits for `Server/{name}`, which is not ready");
                plan.blocked.push(Blocked { resource: server.id.clone(), reason });
                return None;
            }
        }
    }
    Some(steps)
}

fn start(
    input: &Input<'_>,
    server: &Arc<Server>,
    workload: &Workload,
    old: &[&Instance],
    standing: &BTreeMap<&Name, Standing>,
    plan: &mut Plan,
) -> Standing {
    let drift = drift::of(input, server, old);
    if let Some(what) = drift
        && input.desired.sync.drift == Drift::Report
        && !input.correct.contains(&server.id)
    {
        plan.drift.push(Blocked { resource: server.id.clone(), reason: what.to_owned() });
        return Standing::Waits;
    }
    if hold(input, &server.id, plan) {
        return Standing::Waits;
    }
    let Some(mut needs) = awaited(server, standing, plan) else { return Standing::Waits };
    let built =
        server.build.as_ref().and_then(|build| build_step(input, &server.id, &workload.runner, build, plan));
    let (change, reason) = match drift {
        Some(what) => (Change::Restart, format!("drift: {what}")),
        None => why(server, old, input),
    };
    let reason = reason + &makes(input, workload);
    let action = Action::Start {
        runner: workload.runner.clone(),
        server: Arc::clone(server),
        name: free_name(input, server, old),
        change,
    };
    needs.extend(built);
    if server.strategy == Strategy::Recreate {
        let first = plan.steps.len();
        for instance in old {
            stop(server, instance, "replaced; it goes first", &needs, plan);
        }
        needs.extend(first..plan.steps.len());
        Standing::After(push(plan, &server.id, action, &reason, needs))
    } else {
        let started = push(plan, &server.id, action, &reason, needs);
        stop_all(input, server, old, "replaced", &[started], plan);
        Standing::After(started)
    }
}

fn why(server: &Server, old: &[&Instance], input: &Input<'_>) -> (Change, String) {
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
fn free_name(input: &Input<'_>, server: &Server, own: &[&Instance]) -> String {
    let stem = format!("{}-{}", server.id.name, server.digests.workload.short());
    let taken = |name: &str| {
        input.inventory.entries.contains_key(name) || own.iter().any(|instance| instance.name == name)
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
fn stop_all(
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
