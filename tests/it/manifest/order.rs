//! The same text says the same, byte for byte: on every run, in whatever files it stands, and whichever of
//! them was read first.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{Just, Strategy, prop, proptest};
use serde_json::{Value, json};
use toolcrib::desired::{Digests, Floor, Resolved};
use toolcrib::live::{Inventory, Live};
use toolcrib::manifest::{Diagnostic, Manifest, Mode, RepoPath};
use toolcrib::plan::{self, Input};
use toolcrib::policy::PolicySet;
use toolcrib::reconcile::rules_of;

use super::{Repository, cases, load, read_folder, repository, resolve};

const FLOOR: Floor = Floor { process: true, privileges: false, local_git: false, signers: None };

/// Everything a user is told.
fn told(manifest: &Manifest, resolved: &Resolved) -> Value {
    let mut diagnostics: Vec<Diagnostic> =
        manifest.diagnostics.iter().chain(&resolved.diagnostics).cloned().collect();
    let policies = resolved.desired.policies.values().map(|source| rules_of(source)).collect();
    diagnostics.extend(PolicySet::compile(policies).err().into_iter().flatten());
    diagnostics.sort();
    json!({"diagnostics": diagnostics, "made": made(resolved)})
}

/// What comes of it, wherever it stands: definitions, digests and the plan.
fn made(resolved: &Resolved) -> Value {
    let desired = &resolved.desired;
    let (live, inventory) = (Live::default(), Inventory::default());
    let plan = plan::plan(&Input {
        desired,
        live: &live,
        inventory: &inventory,
        built: &BTreeSet::new(),
        connected: &BTreeSet::new(),
        broken: &BTreeMap::new(),
        routed: &BTreeSet::new(),
        demand: &BTreeMap::new(),
        ending: &BTreeSet::new(),
        former: &BTreeMap::new(),
        correct: &BTreeSet::new(),
        held: &BTreeMap::new(),
        rebuild: &BTreeSet::new(),
        approved: None,
        errors: false,
    });
    let digests = |digests: Digests| json!([digests.build, digests.workload, digests.offer]);
    let servers: BTreeMap<String, Value> =
        desired.servers.values().map(|server| (server.id.to_string(), digests(server.digests))).collect();
    let tools: BTreeMap<String, Value> = desired
        .tools
        .values()
        .map(|tool| (tool.id.to_string(), json!([digests(tool.digests), tool.definition.to_string()])))
        .collect();
    json!({"servers": servers, "tools": tools, "plan": plan.view(), "refused": resolved.refused})
}

/// Every case in one repository, each in a folder of its own.
fn everything() -> Repository {
    let mut files = BTreeMap::new();
    for case in std::fs::read_dir(cases()).unwrap() {
        let folder = case.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let mut inside = BTreeMap::new();
        read_folder(&folder, &folder, &mut inside);
        let name = folder.file_name().unwrap().to_str().unwrap();
        files.extend(
            inside
                .into_iter()
                .map(|(path, file)| (RepoPath::parse(&format!("{name}/{path}")).unwrap(), file)),
        );
    }
    repository(files)
}

#[test]
fn every_run_says_the_same() {
    let say = || {
        let (manifest, resolved) = resolve(&everything(), &FLOOR, None);
        told(&manifest, &resolved).to_string()
    };
    let first = say();
    assert!(first.len() > 20_000);
    for _ in 0..3 {
        assert_eq!(say(), first);
    }
}

/// Documents that stand on their own: valid ones, one with a warning, two with faults.
fn documents() -> Vec<String> {
    let valid = std::fs::read_to_string(cases().join("valid-everything/input.yaml")).unwrap();
    let mut documents: Vec<String> = valid.split("\n---\n").map(str::to_owned).collect();
    let head = "apiVersion: toolcrib.dev/v1alpha1\n";
    documents.push(format!(
        "{head}kind: Tool\nmetadata: {{name: moving}}\nspec: {{description: Moves., image: \"a:latest\"}}\n"
    ));
    documents.push(format!(
        "{head}kind: Tool\nmetadata: {{name: faulty}}\nspec: {{description: Bad., comand: [a]}}\n"
    ));
    documents.push(format!("{head}kind: Server\nmetadata: {{name: lost}}\nspec: {{source: {{image: \"a:1\"}}, runner: nowhere}}\n"));
    documents
}

/// The documents in files of which each begins where `cuts` says.
fn in_files(documents: &[String], cuts: &BTreeSet<usize>) -> BTreeMap<RepoPath, (Mode, Vec<u8>)> {
    let mut files: Vec<Vec<&str>> = vec![Vec::new()];
    for (at, document) in documents.iter().enumerate() {
        if cuts.contains(&at) {
            files.push(Vec::new());
        }
        files.last_mut().unwrap().push(document);
    }
    let file = |(at, documents): (usize, Vec<&str>)| {
        let path = RepoPath::parse(&format!("{at:02}.yaml")).unwrap();
        (path, (Mode::File, documents.join("\n---\n").into_bytes()))
    };
    files.into_iter().enumerate().map(file).collect()
}

/// What is wrong, without where.
fn wrong(manifest: &Manifest, resolved: &Resolved) -> BTreeSet<(String, String, String)> {
    let all = manifest.diagnostics.iter().chain(&resolved.diagnostics);
    all.map(|fault| {
        let whose = fault.resource.as_ref().map(ToString::to_string);
        (fault.code.to_owned(), fault.message.clone(), whose.unwrap_or_default())
    })
    .collect()
}

fn arranged() -> impl Strategy<Value = (Vec<String>, BTreeSet<usize>)> {
    let documents = documents();
    let count = documents.len();
    (Just(documents).prop_shuffle(), prop::collection::btree_set(0..count, 0..count))
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(40))]

    #[test]
    fn the_order_of_documents_and_files_does_not_matter((documents, cuts) in arranged()) {
        let plain = resolve(&repository(in_files(&self::documents(), &BTreeSet::new())), &FLOOR, None);
        let files = in_files(&documents, &cuts);
        let (manifest, resolved) = resolve(&repository(files.clone()), &FLOOR, None);
        assert_eq!(made(&resolved).to_string(), made(&plain.1).to_string());
        assert_eq!(wrong(&manifest, &resolved), wrong(&plain.0, &plain.1));

        // Commit by commit, whichever file comes first.
        let order: Vec<usize> = cuts.iter().copied().chain(0..).take(files.len() * 2).collect();
        let mut there = BTreeMap::new();
        let mut last: Option<(Manifest, Resolved)> = None;
        let mut rest = files.clone();
        for at in order {
            let Some(path) = rest.keys().nth(at % rest.len().max(1)).cloned() else { continue };
            there.extend(rest.remove_entry(&path));
            last = Some(resolve(&repository(there.clone()), &FLOOR, last.as_ref()));
        }
        let (grown, resolved) = last.unwrap();
        assert_eq!(grown.files.len(), files.len());
        let fresh = load(&repository(files), None);
        assert_eq!(format!("{:?}", grown.resources), format!("{:?}", fresh.resources));
        assert_eq!(grown.diagnostics, fresh.diagnostics);
        assert_eq!(made(&resolved).to_string(), made(&plain.1).to_string());
    }
}
