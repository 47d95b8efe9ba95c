//! Servers of which there may be no instance, or several.

use super::*;
use crate::desired::Scale;

fn scaled(version: u8, (min, max): (u32, u32), strategy: Strategy) -> Arc<Server> {
    let mut server = server("a", version, strategy);
    Arc::make_mut(&mut server).scale = Scale { min, max, idle: Duration::from_secs(1) };
    server
}

fn demand(server: &Server, demand: Demand) -> BTreeMap<UpstreamKey, Demand> {
    BTreeMap::from([(UpstreamKey::any_of(server), demand)])
}

fn texts(plan: &Plan) -> Vec<String> {
    plan.view().steps.iter().map(|step| format!("{step:?}")).collect()
}

proptest! {
    /// Carrying out a plan leaves nothing to do, and as many instances as are wanted.
    #[test]
    fn a_plan_with_demand_converges(
        world in any_world(),
        versions in proptest::collection::vec((0..3_u8, 0..3_u32, 0..3_u32, any::<bool>(), 0..20_u32), 0..4),
    ) {
        let mut world = world;
        let servers: Vec<Arc<Server>> = versions
            .iter()
            .enumerate()
            .map(|(at, (version, min, more, recreate, waiting))| {
                let strategy = if *recreate { Strategy::Recreate } else { Strategy::Surge };
                let mut server = server(["a", "b", "c", "d"][at], *version, strategy);
                let max = (min + more).max(1);
                Arc::make_mut(&mut server).scale = Scale { min: *min, max, idle: Duration::ZERO };
                let wants = Demand { waiting: *waiting, ..Demand::default() };
                world.demand.insert(UpstreamKey::any_of(&server), wants);
                server
            })
            .collect();
        let desired = desired(servers);
        let plan = world.plan(&desired);
        world.apply(&plan);
        // Whoever has just come was used a moment ago.
        for server in desired.servers.values() {
            let own = world.connected.iter().filter(|key| key.server == server.id.name);
            let used = own.map(|key| key.instance.clone()).collect();
            world.demand.entry(UpstreamKey::any_of(server)).or_default().used = used;
        }
        let after = world.plan(&desired);
        prop_assert!(after.is_empty(), "{}", after.view());
        for server in desired.servers.values() {
            let own = world.instances.values().filter(|instance| instance.resource == server.id);
            prop_assert!(own.clone().all(|instance| instance.digest == server.digests.workload));
            let own = u32::try_from(own.count()).unwrap();
            prop_assert!((server.scale.min..=server.scale.max).contains(&own), "{own}: {:?}", server.scale);
        }
    }
}

#[test]
fn what_nobody_uses_is_stopped_and_what_is_called_is_started() {
    let server = scaled(1, (0, 1), Strategy::Surge);
    let wanted = desired([Arc::clone(&server)]);
    let mut world = World::default();
    assert!(world.plan(&wanted).is_empty(), "nobody calls it, and that is no drift");
    world.demand = demand(&server, Demand { unknown: true, ..Demand::default() });
    let plan = world.plan(&wanted);
    assert!(plan.steps[0].reason.contains("not known"), "{:?}", texts(&plan));
    world.apply(&plan);

    let id = InstanceId(world.instances.keys().next().unwrap().clone());
    world.demand = demand(&server, Demand { used: BTreeSet::from([id]), ..Demand::default() });
    assert!(world.plan(&wanted).is_empty(), "it is in use");
    world.demand.clear();
    world.apply(&world.plan(&wanted).clone());
    assert!(world.instances.is_empty());
    world.demand = demand(&server, Demand { waiting: 3, ..Demand::default() });
    assert_eq!(world.plan(&wanted).steps.len(), 1, "calls that wait share one start");
}

#[test]
fn an_instance_that_is_being_stopped_takes_no_call() {
    for (strategy, steps) in [(Strategy::Surge, ["start", "stop"]), (Strategy::Recreate, ["stop", "start"])] {
        let server = scaled(1, (0, 1), strategy);
        let mut world = World::default();
        world.add(&server, "a-1", true, InstanceState::Running);
        world.ending.insert("a-1".to_owned());
        world.demand = demand(&server, Demand { waiting: 1, ..Demand::default() });
        let plan = world.plan(&desired([Arc::clone(&server)]));
        let action = |step: &Step| match &step.action {
            Action::Start { .. } => "start",
            Action::Stop { .. } => "stop",
            _ => "other",
        };
        assert_eq!(plan.steps.iter().map(action).collect::<Vec<_>>(), steps, "{:?}", texts(&plan));
        assert_eq!(plan.steps[1].needs, [0], "of what writes a volume never two are there");
    }
}

#[test]
fn those_that_are_used_stay_when_fewer_are_needed() {
    let server = scaled(1, (1, 3), Strategy::Surge);
    let mut world = World::default();
    for name in ["a-1", "a-2", "a-3"] {
        world.add(&server, name, true, InstanceState::Running);
        world.connect(&server, name);
    }
    world.demand =
        demand(&server, Demand { used: BTreeSet::from([InstanceId("a-2".to_owned())]), ..Demand::default() });
    world.apply(&world.plan(&desired([server])).clone());
    assert_eq!(world.instances.keys().collect::<Vec<_>>(), ["a-2"]);
}

#[test]
fn all_new_instances_are_there_before_the_old_ones_go() {
    let mut world = World::default();
    let old = scaled(1, (2, 2), Strategy::Surge);
    for name in ["a-1", "a-2"] {
        world.add(&old, name, true, InstanceState::Running);
        world.connect(&old, name);
    }
    let plan = world.plan(&desired([scaled(2, (2, 2), Strategy::Surge)]));
    assert_eq!(plan.steps.len(), 4, "{:?}", texts(&plan));
    assert!(plan.steps[2..].iter().all(|stop| stop.needs == [0, 1]), "{:?}", texts(&plan));
}

#[test]
fn the_version_before_starts_on_demand_while_the_wanted_one_cannot_be_had() {
    let (before, wanted) = (scaled(1, (0, 1), Strategy::Surge), scaled(2, (0, 1), Strategy::Surge));
    let called = demand(&before, Demand { waiting: 1, ..Demand::default() });
    let mut world = World { demand: called, ..World::default() };
    world.demand.extend(demand(&wanted, Demand { unknown: true, ..Demand::default() }));
    world.former.insert(before.id.name.clone(), Arc::clone(&before));
    let of = |plan: &Plan| match &plan.steps[..] {
        [Step { action: Action::Start { server, .. }, .. }] => server.digests.workload,
        _ => panic!("{:?}", texts(plan)),
    };
    let now = desired([Arc::clone(&wanted)]);
    assert_eq!(of(&world.plan(&now)), wanted.digests.workload);
    world.held.insert(wanted.id.clone(), "failed".to_owned());
    assert_eq!(of(&world.plan(&now)), before.digests.workload);
    // Nor may anything be known of the wanted one, as when its manifest has a fault.
    assert_eq!(of(&world.plan(&desired([]))), before.digests.workload);
}
