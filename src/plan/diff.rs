//! One resource at a time: what it needs to become what is desired.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::start::{self, Count};
use super::{Action, Blocked, Demand, Input, Plan, Step, scale};
use crate::build::BuildSpec;
use crate::desired::{Desired, Location, Server, Workload};
use crate::live::{Instance, InstanceId, InstanceState, Live, Observation, UpstreamKey};
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
pub(super) fn build_step(
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

pub(super) fn push(
    plan: &mut Plan,
    id: &ResourceId,
    action: Action,
    reason: &str,
    needs: Vec<usize>,
) -> usize {
    plan.steps.push(Step { resource: id.clone(), action, reason: reason.to_owned(), needs });
    plan.steps.len() - 1
}

/// Whether the resource waits for its back-off; says so in the report.
pub(super) fn hold(input: &Input<'_>, id: &ResourceId, plan: &mut Plan) -> bool {
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
            start::stop_all(input, server, own, "runs elsewhere now", &[], plan);
            standing
        }
        Location::Runner(workload) => {
            if let Some(why) = unknown.get(&workload.runner) {
                let reason = format!("runner `{}` cannot be asked: {why}", workload.runner);
                plan.blocked.push(Blocked { resource: server.id.clone(), reason });
                Standing::Waits
            } else {
                let now = on_runner(input, server, workload, own, standing, plan);
                if let (Standing::Waits, Some(served)) = (now, input.former.get(&server.id.name)) {
                    former(input, served, own, standing, plan);
                }
                now
            }
        }
    }
}

/// `own` are instances of any version, on any runner.
pub(super) fn on_runner(
    input: &Input<'_>,
    server: &Arc<Server>,
    workload: &Workload,
    own: &[&Instance],
    standing: &BTreeMap<&Name, Standing>,
    plan: &mut Plan,
) -> Standing {
    let usable = |instance: &&&Instance| {
        instance.runner == workload.runner
            && instance.digest == server.digests.workload
            && !matches!(instance.state, InstanceState::Exited { .. } | InstanceState::Paused)
            && !input.broken.contains_key(&instance.id)
            && !input.ending.contains(&instance.name)
            && !input.rebuild.contains(&server.id)
    };
    let connected = |instance: &Instance| {
        let key = UpstreamKey { server: server.id.name.clone(), instance: instance.id.clone() };
        input.connected.contains(&key)
    };
    let none = Demand::default();
    let elastic = server.scale.is_elastic();
    let demand = elastic.then(|| input.demand.get(&UpstreamKey::any_of(server))).flatten().unwrap_or(&none);
    let mut usable: Vec<&Instance> =
        own.iter().filter(usable).filter(|it| connected(it) || it.adoptable).copied().collect();
    // Those that answer before those that may, and those in use before all.
    usable.sort_by_key(|instance| (!connected(instance), !demand.used.contains(&instance.id)));
    let running = usable.iter().filter(|instance| !connected(instance)).count();
    let wanted = scale::wanted(server, demand, running);
    usable.truncate(wanted);
    let keep: BTreeSet<&InstanceId> = usable.iter().map(|instance| &instance.id).collect();
    let rest: Vec<&Instance> = own.iter().copied().filter(|instance| !keep.contains(&instance.id)).collect();
    let mut adopted = Vec::new();
    for &instance in usable.iter().filter(|instance| !connected(instance)) {
        let action = Action::Adopt { server: Arc::clone(server), instance: instance.clone() };
        adopted.push(push(plan, &server.id, action, "runs with the wanted digest", Vec::new()));
    }
    let ready = usable.iter().any(|instance| connected(instance));
    if usable.len() < wanted {
        let count = Count { there: usable.len(), wanted };
        let started = start::start(input, server, workload, (&rest, count), standing, plan);
        return if ready {
            Standing::Ready
        } else {
            adopted.first().copied().map_or(started, Standing::After)
        };
    }
    if wanted == 0 {
        start::ahead(input, server, workload, plan);
    }
    let reason = if elastic { "not needed" } else { "superseded" };
    start::stop_all(input, server, &rest, reason, &adopted, plan);
    match adopted.first() {
        Some(first) if !ready => Standing::After(*first),
        _ => Standing::Ready,
    }
}

/// The version that is served of a server, while the wanted one cannot be had: it goes on as it is used.
pub(super) fn former(
    input: &Input<'_>,
    server: &Arc<Server>,
    own: &[&Instance],
    standing: &BTreeMap<&Name, Standing>,
    plan: &mut Plan,
) {
    let Location::Runner(workload) = &server.location else { return };
    let known = matches!(input.live.runners.get(&workload.runner), Some(Observation::Present(_)));
    let own: Vec<&Instance> =
        own.iter().copied().filter(|instance| instance.digest == server.digests.workload).collect();
    if known {
        on_runner(input, server, workload, &own, standing, plan);
    }
}

/// The steps a start has to wait for, of the servers it depends on; none when one of those waits itself.
pub(super) fn awaited(
    server: &Server,
    standing: &BTreeMap<&Name, Standing>,
    plan: &mut Plan,
) -> Option<Vec<usize>> {
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
