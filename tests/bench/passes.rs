//! What a pass costs without network and processes: fetch, parse, resolve, plan, compose.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use toolcrib::catalog::{Catalog, ReadyTool, compose};
use toolcrib::desired::{self, Desired, Floor, Resolutions};
use toolcrib::git::{self, Allow, Network, Options};
use toolcrib::live::{Inventory, Live, Observation};
use toolcrib::manifest::{self, Manifest, RepoPath, Snapshot};
use toolcrib::plan::{self, Plan};
use toolcrib::ports::{PortError, PortResult, SecretValue, Secrets, Source};
use toolcrib::resource::SecretRef;

use crate::fixture::{Fixture, file_of, tool};
use crate::report::{Report, Samples, show, times};

/// Passes of each kind that are measured.
const ROUNDS: usize = 30;

struct NoSecrets;

impl Secrets for NoSecrets {
    fn tag(&self, _: &toolcrib::ports::Material) -> String {
        String::new()
    }

    fn resolve(&self, _: &SecretRef) -> PortResult<SecretValue> {
        Err(PortError::stalled("there are no secrets here"))
    }
}

/// Everything a pass leaves for the next.
struct Loaded {
    source: Arc<dyn Source>,
    manifest: Manifest,
    desired: Arc<Desired>,
    catalog: Catalog,
}

pub(crate) fn measure(report: &mut Report) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ms = Duration::from_millis;
    for (count, goal_idle) in [(1_000, None), (10_000, Some(ms(50)))] {
        if !report.takes(count) {
            continue;
        }
        let fixture = Fixture::new(count, &[]);
        let state = tempfile::tempdir().unwrap();
        let yaml = yaml_alone(count);
        let open = || {
            git::open(Options {
                repo: fixture.path().to_str().unwrap().to_owned(),
                reference: None,
                path: RepoPath::parse("").unwrap(),
                worktree: false,
                credentials: None,
                network: network(state.path()),
            })
            .unwrap()
        };
        let mut cold = Vec::new();
        let mut loaded = None;
        for _ in 0..5 {
            let start = Instant::now();
            loaded = Some(runtime.block_on(pass(open(), None)));
            cold.push(start.elapsed());
        }
        let cold = Samples::new(cold).p50();
        let mut loaded = loaded.unwrap();
        assert_eq!(loaded.desired.tools.len(), count, "every tool is read");
        let mut idle = Vec::new();
        let mut one = Vec::new();
        for round in 0..ROUNDS {
            let start = Instant::now();
            let source = Arc::clone(&loaded.source);
            loaded = runtime.block_on(pass(source, Some(loaded)));
            idle.push(start.elapsed());
            let text = tool(count / 2, &format!("round {round}"));
            fixture.stage(&[(file_of(count / 2), text)]).apply();
            let start = Instant::now();
            let source = Arc::clone(&loaded.source);
            loaded = runtime.block_on(pass(source, Some(loaded)));
            one.push(start.elapsed());
        }
        let (idle, one) = (Samples::new(idle), Samples::new(one));
        let big = count == 10_000;
        let name = |what: &str| format!("{what}, {count} resources");
        let cold_goal = big.then_some(ms(1500));
        report.time(&name("cold load"), cold_goal, cold, times(cold, yaml, "serde_yaml alone, untyped"));
        let ratio = times(idle.p50(), cold, "the cold load");
        report.time(&name("pass with nothing changed"), goal_idle, idle.p50(), ratio);
        let one_goal = big.then_some(ms(100));
        let ratio = format!("{}; p99 {}", times(one.p50(), cold, "the cold load"), show(one.p99()));
        report.time(&name("one changed file, fetch to catalog"), one_goal, one.p50(), ratio);
    }
}

/// The baseline of a cold load: the same text through the YAML parser, without types or places.
pub(crate) fn yaml_alone(count: usize) -> Duration {
    let texts: Vec<String> = (0..count).map(|n| tool(n, "as first written")).collect();
    let start = Instant::now();
    for text in &texts {
        let value: serde_yaml::Value = serde_yaml::from_str(text).unwrap();
        std::hint::black_box(value);
    }
    start.elapsed()
}

pub(crate) fn network(state: &std::path::Path) -> Network {
    Network {
        state: state.to_owned(),
        program: crate::daemon::program(),
        known_hosts: None,
        ca_file: None,
        proxy: None,
        timeout: git::TIMEOUT,
        allow: Allow::default(),
        secrets: Arc::new(NoSecrets),
    }
}

/// One pass, as the daemon makes it.
async fn pass(source: Arc<dyn Source>, before: Option<Loaded>) -> Loaded {
    let snapshot = source.fetch().await.unwrap();
    let (old_manifest, old_desired, old_catalog) = match before {
        Some(Loaded { manifest, desired, catalog, .. }) => (Some(manifest), Some(desired), Some(catalog)),
        None => (None, None, None),
    };
    let (manifest, desired) =
        validated(&*source, &snapshot, old_manifest.as_ref(), old_desired.as_deref()).await;
    let desired = Arc::new(desired);
    std::hint::black_box(planned(&desired));
    let ready = |tool: &Arc<_>| ReadyTool { tool: Arc::clone(tool), folder: None };
    let tools: Vec<_> = desired.tools.values().map(ready).collect();
    let (catalog, _) = compose(&toolcrib::catalog::Input {
        revision: &snapshot.revision,
        servers: &[],
        tools: &tools,
        previous: old_catalog.as_ref(),
    });
    Loaded { source, manifest, desired, catalog }
}

/// What manifests say and ask for, with every fault that there is without a network: none.
pub(crate) async fn validated(
    source: &dyn Source,
    snapshot: &Snapshot,
    old_manifest: Option<&Manifest>,
    old_desired: Option<&Desired>,
) -> (Manifest, Desired) {
    let mut contents = BTreeMap::new();
    loop {
        let wanted = manifest::wanted(snapshot, old_manifest, &contents);
        if wanted.is_empty() {
            break;
        }
        let read = source.read(&wanted, manifest::MAX_MANIFEST_BYTES + 1).await.unwrap();
        contents.extend(wanted.into_iter().zip(read));
    }
    let manifest = manifest::load(snapshot, old_manifest, &contents);
    let floor = Floor { process: true, privileges: false, local_git: false, signers: None };
    let resolved = desired::resolve(&manifest, snapshot, &Resolutions::default(), &floor, old_desired);
    assert!(!resolved.refused && manifest.diagnostics.is_empty() && resolved.diagnostics.is_empty());
    (manifest, resolved.desired)
}

fn planned(desired: &Desired) -> Plan {
    let mut live = Live::default();
    for name in desired.runners.keys() {
        live.runners.insert(name.clone(), Observation::Present(Vec::new()));
    }
    plan::plan(&plan::Input {
        desired,
        live: &live,
        inventory: &Inventory::default(),
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
    })
}
