//! Laws of planning, on generated states, and the cases that have a name.

mod elastic;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::{Strategy as Generate, any, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::desired::{Digests, Limits, Location, Program, Runner, VolumeId, Workload};
use crate::live::{Applied, Entry, Fault, InstanceState, Observation};
use crate::manifest::{Place, RepoPath};
use crate::resource::runner::{BuildSettings, RunnerKind};
use crate::resource::server::{Strategy, Transport};
use crate::resource::workload::Volume;
use crate::resource::{Kind, Revision};

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(super) fn server(id: &str, version: u8, strategy: Strategy) -> Arc<Server> {
    let id = ResourceId::new(Kind::Server, name(id));
    let digest = Digest::of_bytes(format!("{id}{version}").as_bytes());
    let workload = Workload {
        resource: id.clone(),
        runner: name("local"),
        program: Program::Command { argv: vec!["serve".to_owned()], dir: String::new() },
        env: BTreeMap::new(),
        files: BTreeMap::new(),
        transport: Transport::Stdio,
        limits: Limits::default(),
        security: Arc::default(),
        volumes: BTreeMap::new(),
        egress: Arc::default(),
    };
    Arc::new(Server {
        id,
        place: Place { file: RepoPath::parse("a.yaml").unwrap(), line: 1, column: 1 },
        labels: Arc::default(),
        digests: Digests { build: None, workload: digest, offer: digest },
        build: None,
        location: Location::Runner(Arc::new(workload)),
        strategy,
        synced: true,
        prefix: String::new(),
        include: Vec::new(),
        exclude: Vec::new(),
        presented: crate::desired::Presented::default(),
        depends_on: Box::default(),
        sessions: crate::resource::server::Sessions::Shared,
        concurrency: None,
        scale: crate::desired::Scale::ONE,
        trust: None,
        files: None,
        health: None,
        startup_timeout: Duration::from_secs(1),
        drain_timeout: Duration::from_secs(1),
        tests: Arc::default(),
        timeout: Duration::from_secs(1),
    })
}

fn desired(servers: impl IntoIterator<Item = Arc<Server>>) -> Desired {
    let runner = Runner {
        name: name("local"),
        kind: RunnerKind::Process,
        host: None,
        attributes: serde_json::Map::new(),
        build: BuildSettings::default(),
        gpu: None,
        slots: None,
    };
    Desired {
        signers: None,
        revision: Revision { reference: "main".to_owned(), commit: "0".repeat(40), dirty: false },
        naming: crate::resource::crib::Naming::default(),
        sync: crate::resource::crib::Sync::default(),
        register: Arc::new([]),
        operators: None,
        runners: BTreeMap::from([(name("local"), Arc::new(runner))]),
        servers: servers.into_iter().map(|server| (server.id.name.clone(), server)).collect(),
        tools: BTreeMap::new(),
        policies: BTreeMap::new(),
        toolsets: BTreeMap::new(),
        faulty: BTreeSet::new(),
        pending: BTreeSet::new(),
        origins: crate::desired::Origins::default(),
    }
}

/// The world a plan is about, and a way to carry a plan out in it.
#[derive(Clone, Debug, Default)]
struct World {
    instances: BTreeMap<String, Instance>,
    inventory: Inventory,
    connected: BTreeSet<UpstreamKey>,
    broken: BTreeMap<InstanceId, Fault>,
    correct: BTreeSet<ResourceId>,
    routed: BTreeSet<InstanceId>,
    demand: BTreeMap<UpstreamKey, Demand>,
    ending: BTreeSet<String>,
    former: BTreeMap<Name, Arc<Server>>,
    held: BTreeMap<ResourceId, String>,
}

impl World {
    fn plan(&self, desired: &Desired) -> Plan {
        self.plan_with(desired, false, None)
    }

    fn plan_with(&self, desired: &Desired, errors: bool, approved: Option<Digest>) -> Plan {
        let seen = Observation::Present(self.instances.values().cloned().collect());
        let live = Live { runners: BTreeMap::from([(name("local"), seen)]), ..Live::default() };
        plan(&Input {
            desired,
            live: &live,
            inventory: &self.inventory,
            built: &BTreeSet::new(),
            connected: &self.connected,
            broken: &self.broken,
            demand: &self.demand,
            ending: &self.ending,
            former: &self.former,
            correct: &self.correct,
            routed: &self.routed,
            held: &self.held,
            rebuild: &BTreeSet::new(),
            approved,
            errors,
        })
    }

    fn add(&mut self, server: &Server, name: &str, adoptable: bool, state: InstanceState) {
        let instance = Instance {
            id: InstanceId(name.to_owned()),
            name: name.to_owned(),
            runner: super::tests::name("local"),
            resource: server.id.clone(),
            digest: server.digests.workload,
            revision: String::new(),
            state,
            adoptable,
        };
        self.instances.insert(name.to_owned(), instance);
        let entry = Entry {
            runner: super::tests::name("local"),
            resource: server.id.clone(),
            digest: server.digests.workload,
            secrets: None,
        };
        self.inventory.entries.insert(name.to_owned(), entry);
    }

    /// Carries steps out in order; at each point every need must have been met before.
    fn apply(&mut self, plan: &Plan) {
        for (index, step) in plan.steps.iter().enumerate() {
            assert!(step.needs.iter().all(|need| *need < index), "needs come first");
            match &step.action {
                Action::Start { server, name, .. } => {
                    assert!(!self.instances.contains_key(name), "a new name");
                    self.add(server, name, true, InstanceState::Running);
                    self.connect(server, name);
                }
                Action::Adopt { server, instance } => self.connect(server, &instance.name),
                Action::Stop { instance, .. } => {
                    self.instances.remove(&instance.name).unwrap();
                    self.inventory.entries.remove(&instance.name);
                    self.connected.retain(|key| key.instance != instance.id);
                }
                Action::Build { .. } | Action::Reach { .. } => {}
            }
        }
    }

    fn connect(&mut self, server: &Server, name: &str) {
        let instance = InstanceId(name.to_owned());
        self.connected.insert(UpstreamKey { server: server.id.name.clone(), instance });
    }
}

fn any_world() -> impl Generate<Value = World> {
    let instance = (0..4_usize, 0..3_u8, any::<bool>(), 0..3_u8, any::<bool>());
    proptest::collection::vec(instance, 0..8).prop_map(|instances| {
        let mut world = World::default();
        for (index, (id, version, adoptable, state, connected)) in instances.into_iter().enumerate() {
            let server = server(["a", "b", "c", "d"][id], version, Strategy::Surge);
            let instance = format!("{}-{index}", server.id.name);
            let state = match state {
                0 => InstanceState::Exited { code: Some(1) },
                1 => InstanceState::Starting,
                _ => InstanceState::Running,
            };
            world.add(&server, &instance, adoptable, state);
            if connected && adoptable {
                world.connect(&server, &instance);
            }
        }
        world
    })
}

fn any_desired() -> impl Generate<Value = Desired> {
    proptest::collection::vec((0..4_usize, 0..3_u8, any::<bool>()), 0..5).prop_map(|servers| {
        desired(servers.into_iter().map(|(id, version, recreate)| {
            let strategy = if recreate { Strategy::Recreate } else { Strategy::Surge };
            server(["a", "b", "c", "d"][id], version, strategy)
        }))
    })
}

proptest! {
    /// Carrying out a plan leaves nothing to do, and one proven instance of each server.
    #[test]
    fn a_plan_converges(world in any_world(), desired in any_desired()) {
        let mut world = world;
        let plan = world.plan(&desired);
        world.apply(&plan);
        let after = world.plan(&desired);
        let held_back = after.blocked.len();
        prop_assert!(after.is_empty(), "{}", after.view());
        if held_back == 0 {
            prop_assert_eq!(world.instances.len(), desired.servers.len());
        }
        for server in desired.servers.values() {
            let own = world.instances.values().filter(|instance| instance.resource == server.id);
            prop_assert_eq!(own.filter(|instance| instance.digest == server.digests.workload).count(), 1);
        }
    }

    /// The same input gives the same plan, and the hash tells plans apart.
    #[test]
    fn a_plan_is_deterministic(world in any_world(), desired in any_desired()) {
        let (first, second) = (world.plan(&desired), world.plan(&desired));
        prop_assert_eq!(&first, &second);
        prop_assert_eq!(first.hash == empty().hash, first.is_empty());
    }

    /// With an error in the desired set nothing is pruned.
    #[test]
    fn errors_prune_nothing(world in any_world(), desired in any_desired()) {
        let plan = world.plan_with(&desired, true, None);
        let pruned = |step: &Step| matches!(&step.action, Action::Stop { change: Change::Prune, .. });
        prop_assert!(!plan.steps.iter().any(pruned));
    }

    /// What is not in the inventory is nobody's of ours, whatever its labels say.
    #[test]
    fn foreign_instances_are_never_pruned(world in any_world()) {
        let mut world = world;
        world.inventory.entries.clear();
        prop_assert!(world.plan(&desired([])).is_empty());
    }
}

#[test]
fn a_new_instance_is_proven_before_the_old_one_goes() {
    for (strategy, first) in [(Strategy::Surge, "start"), (Strategy::Recreate, "stop")] {
        let mut world = World::default();
        let old = server("a", 1, strategy);
        world.add(&old, "a-1", true, InstanceState::Running);
        world.connect(&old, "a-1");
        let view = world.plan(&desired([server("a", 2, strategy)])).view();
        assert_eq!(view.steps[0].action, first);
        assert_eq!(view.steps[1].needs, [0]);
    }
}

#[test]
fn a_volume_that_nothing_declares_is_told_and_kept() {
    let volumes = ["local/data", "local/old"].map(|id| VolumeId::parse(id).unwrap());
    let mut world = World::default();
    world.inventory.volumes.extend(volumes);
    let mut server = (*server("a", 1, Strategy::Surge)).clone();
    let Location::Runner(workload) = &mut server.location else { panic!("it runs somewhere") };
    let mount = |text: &str| Volume { name: name(text), read_only: false };
    Arc::make_mut(workload).volumes = [("/data", "data"), ("/new", "new"), ("/again", "new")]
        .map(|(at, of)| (at.to_owned(), mount(of)))
        .into();
    let mut desired = desired([Arc::new(server)]);
    let view = world.plan(&desired).view();
    assert_eq!((view.kept.as_slice(), view.steps.len()), (["local/old".to_owned()].as_slice(), 1));
    assert_eq!(view.steps[0].reason, "does not run; makes volume new");
    let text = view.to_string();
    assert!(text.contains("`toolcrib volumes delete local/old` removes it"), "{text}");
    // What is at fault may declare it.
    desired.faulty.insert(ResourceId::parse("Server/b").unwrap());
    assert!(world.plan(&desired).kept.is_empty());
}

#[test]
fn an_unknown_runner_changes_nothing() {
    let desired = desired([server("a", 1, Strategy::Surge)]);
    let live = Live {
        runners: BTreeMap::from([(name("local"), Observation::Unknown("no answer".to_owned()))]),
        ..Live::default()
    };
    let world = World::default();
    let plan = plan(&Input {
        desired: &desired,
        live: &live,
        inventory: &world.inventory,
        built: &BTreeSet::new(),
        connected: &BTreeSet::new(),
        broken: &BTreeMap::new(),
        demand: &BTreeMap::new(),
        ending: &BTreeSet::new(),
        former: &BTreeMap::new(),
        correct: &BTreeSet::new(),
        routed: &BTreeSet::new(),
        held: &BTreeMap::new(),
        rebuild: &BTreeSet::new(),
        approved: None,
        errors: false,
    });
    assert!(plan.is_empty());
    assert_eq!(plan.blocked.len(), 1);
}

#[test]
fn prunes_above_the_budget_wait_for_approval_of_that_very_plan() {
    let mut world = World::default();
    for index in 0..8 {
        let gone = server(&format!("s{index}"), 1, Strategy::Surge);
        world.add(&gone, &format!("s{index}-1"), true, InstanceState::Running);
    }
    let desired = desired([]);
    let held = world.plan(&desired);
    assert!(held.is_empty());
    assert_eq!(held.blocked.len(), 8);
    let wanted = held.approvable.unwrap();
    let approved = world.plan_with(&desired, false, Some(wanted));
    assert_eq!(approved.steps.len(), 8);
    assert_eq!(approved.hash, wanted);
}

#[test]
fn drift_is_reported_or_corrected_and_only_drift_is() {
    use InstanceState::{Exited, Paused, Running};
    // What was last applied, what runs and what is wrong with it, and what that is called.
    type Case = (Option<u8>, Option<InstanceState>, Option<Fault>, Option<&'static str>);
    let gone = "its instance is gone";
    let applied = Some(1);
    let cases: [Case; 10] = [
        (applied, None, None, Some(gone)),
        (applied, Some(Exited { code: Some(137) }), None, Some("its instance ended")),
        (applied, Some(Exited { code: Some(137) }), Some(Fault::Ended), Some("its instance ended")),
        (applied, Some(Paused), None, Some("its instance is paused")),
        (applied, Some(Running), Some(Fault::Silent), Some("its instance does not answer")),
        // Wanted, or brought about by the daemon.
        (applied, Some(Running), Some(Fault::Rotated), None),
        (applied, Some(Running), None, None),
        (Some(2), None, None, None),
        (None, None, None, None),
        (None, Some(Exited { code: Some(1) }), None, None),
    ];
    for (applied, state, fault, expected) in cases {
        let server = server("a", 1, Strategy::Surge);
        let mut world = World::default();
        if let Some(version) = applied {
            let digest = super::tests::server("a", version, Strategy::Surge).digests.workload;
            world.inventory.applied.insert(name("a"), Applied { digest, transient: false, instances: 1 });
        }
        if let Some(state) = state.clone() {
            world.add(&server, "a-1", false, state);
        }
        world.broken.extend(fault.map(|fault| (InstanceId("a-1".to_owned()), fault)));
        let mut desired = desired([Arc::clone(&server)]);
        let case = format!("{applied:?} {state:?} {fault:?}");

        let corrected = world.plan(&desired).view();
        assert!(corrected.drift.is_empty() && corrected.steps[0].action == "start", "{case}: {corrected}");
        assert_eq!(
            corrected.steps[0].reason.starts_with("drift: "),
            expected.is_some(),
            "{case}: {corrected}"
        );

        desired.sync.drift = crate::resource::crib::Drift::Report;
        let reported = world.plan(&desired);
        assert_eq!(reported.drift.first().map(|drift| drift.reason.as_str()), expected, "{case}");
        assert_eq!(reported.is_empty(), expected.is_some(), "{case}");
        world.correct.insert(server.id.clone());
        assert_eq!(world.plan(&desired).view().steps, corrected.steps, "{case}");
    }
}

#[test]
fn what_the_served_catalog_leads_to_is_not_stopped() {
    let mut world = World::default();
    let (old, new) = (server("a", 1, Strategy::Surge), server("a", 2, Strategy::Surge));
    world.add(&old, "a-1", true, InstanceState::Running);
    world.add(&new, "a-2", true, InstanceState::Running);
    world.connect(&new, "a-2");
    world.routed.insert(InstanceId("a-1".to_owned()));
    let held = world.plan(&desired([Arc::clone(&new)]));
    assert!(held.is_empty() && held.blocked[0].reason.contains("`a-1` serves"), "{}", held.view());
    world.routed.clear();
    assert_eq!(world.plan(&desired([new])).view().steps[0].subject, "a-1");
}

#[test]
fn what_is_waited_for_comes_first_and_is_waited_for_while_it_cannot_start() {
    let waits = |id: &str, on: &[&str]| {
        let depends_on = on.iter().map(|on| name(on)).collect();
        Arc::new(Server { depends_on, ..Server::clone(&server(id, 1, Strategy::Surge)) })
    };
    let all = desired([waits("a", &["b", "c"]), waits("b", &["c"]), waits("c", &[])]);
    let mut world = World::default();
    let plan = world.plan(&all);
    let steps: Vec<String> =
        plan.steps.iter().map(|step| format!("{} after {:?}", step.resource.name, step.needs)).collect();
    assert_eq!(steps, ["c after []", "b after [0]", "a after [1, 0]"]);
    world.apply(&plan);
    assert!(world.plan(&all).is_empty());

    let alone = World::default().plan(&desired([waits("a", &["gone"])]));
    assert!(alone.steps.is_empty(), "{}", alone.view());
    assert!(alone.blocked[0].reason.contains("`Server/gone`"), "{}", alone.view());
    // A circle waits for ever rather than turning for ever.
    let circle = World::default().plan(&desired([waits("a", &["b"]), waits("b", &["a"])]));
    assert!(circle.steps.is_empty() && circle.blocked.len() == 2, "{}", circle.view());
}

#[test]
fn a_protected_kind_is_pruned_only_with_approval() {
    let mut world = World::default();
    world.add(&server("a", 1, Strategy::Surge), "a-1", true, InstanceState::Running);
    let mut without = desired([]);
    assert_eq!(world.plan(&without).steps.len(), 1);
    without.sync.protect = vec![Kind::Server];
    let held = world.plan(&without);
    assert!(held.is_empty() && held.blocked[0].reason.contains("protected"), "{}", held.view());
    assert_eq!(world.plan_with(&without, false, held.approvable).steps.len(), 1);
}

#[test]
fn a_revision_is_held_to_the_guard_of_the_one_applied_before_until_nothing_is_left_to_prune() {
    let mut world = World::default();
    let all: Vec<_> = (0..8).map(|index| server(&format!("s{index}"), 1, Strategy::Surge)).collect();
    for server in &all {
        let name = format!("{}-1", server.id.name);
        world.add(server, &name, true, InstanceState::Running);
        world.connect(server, &name);
    }
    let mut strict = desired(all.clone());
    strict.sync.protect = vec![Kind::Server];
    strict.sync.prune_budget = 0;
    world.inventory.guard = world.plan(&strict).guard;
    assert_eq!(world.inventory.guard, Some(Guard { protect: vec![Kind::Server], budget: 0 }));

    // Lifts the protection, and removes what it protected.
    let mut loose = desired([]);
    loose.sync.prune_budget = 100;
    let held = world.plan(&loose);
    assert!(held.is_empty() && held.guard.is_none(), "{}", held.view());
    assert!(held.blocked[0].reason.contains("the revision applied before protects"), "{}", held.view());
    let approved = world.plan_with(&loose, false, held.approvable);
    assert!(approved.steps.len() == 8 && approved.guard.is_none(), "{}", approved.view());

    world.inventory.guard = Some(Guard { protect: Vec::new(), budget: 0 });
    let held = world.plan(&loose);
    let why = "8 prunes are above the budget of 5 of the revision applied before";
    assert!(held.is_empty() && held.blocked[0].reason.starts_with(why), "{}", held.view());

    // Lifted by a revision of its own, which has nothing to prune: in force for the next.
    let mut lifted = desired(all);
    lifted.sync.prune_budget = 100;
    assert_eq!(world.plan_with(&lifted, true, None).guard, None);
    world.inventory.guard = world.plan(&lifted).guard;
    assert_eq!(world.plan(&loose).steps.len(), 8);
}
