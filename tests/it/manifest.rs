//! Manifests as written, and what Toolcrib says of them.
//!
//! Each folder of `tests/it/manifest/` is a case: a repository of a few files, and `expected.txt`, the
//! diagnostics and a summary of what is desired. `BLESS=1 cargo test --test it manifest` writes the
//! expectations anew; read the difference before it is committed. A first line `# floor: none` in
//! `input.yaml` takes every leave away; a folder `before/` is the revision before; where
//! there is a folder `envs/prod/`, that one is the manifest path; an
//! empty file `x.submodule` stands for a submodule `x`.

mod codes;
mod order;
mod traps;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::{any, prop, prop_assume, proptest};
use sha2::{Digest as _, Sha256};
use toolcrib::contract;
use toolcrib::desired::{self, Desired, Floor, Location, Program, Question, Resolutions, Resolved};
use toolcrib::manifest::{self, BlobId, Manifest, Mode, RepoPath, Snapshot, TreeEntry, parse_file};
use toolcrib::policy::PolicySet;
use toolcrib::policy::admit::Admission;
use toolcrib::reconcile::rules_of;
use toolcrib::resource::policy::Point;
use toolcrib::resource::workload::Egress;
use toolcrib::resource::{EnvValue, ResourceId, Revision};

/// Where a case that has it is followed.
const ENVIRONMENT: &str = "envs/prod";

pub(crate) fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/manifest")
}

/// A revision and the contents of its files.
pub(crate) struct Repository {
    snapshot: Snapshot,
    contents: BTreeMap<BlobId, Bytes>,
}

fn read_folder(root: &Path, folder: &Path, repository: &mut BTreeMap<RepoPath, (Mode, Vec<u8>)>) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if ["expected.txt", "before"].contains(&name.as_str()) {
            continue;
        }
        let repo_path = RepoPath::parse(&name).unwrap();
        if let Some(submodule) = name.strip_suffix(".submodule") {
            repository.insert(RepoPath::parse(submodule).unwrap(), (Mode::Submodule, Vec::new()));
        } else if path.is_symlink() {
            repository.insert(repo_path, (Mode::Symlink, Vec::new()));
        } else if path.is_dir() {
            read_folder(root, &path, repository);
        } else {
            repository.insert(repo_path, (Mode::File, std::fs::read(&path).unwrap()));
        }
    }
}

pub(crate) fn repository(files: BTreeMap<RepoPath, (Mode, Vec<u8>)>) -> Repository {
    let mut contents = BTreeMap::new();
    let mut tree = BTreeMap::new();
    for (path, (mode, bytes)) in files {
        let hash: [u8; 32] = Sha256::digest(&bytes).into();
        let id = BlobId(hash[..20].try_into().unwrap());
        contents.insert(id, Bytes::from(bytes));
        tree.insert(path, TreeEntry { mode, id });
    }
    let revision = Revision { reference: "main".to_owned(), commit: "0".repeat(40), dirty: false };
    let snapshot = Snapshot { revision, path: RepoPath::parse("").unwrap(), files: Arc::new(tree) };
    Repository { snapshot, contents }
}

/// Reads as the daemon does: only what is asked for.
fn load(repository: &Repository, previous: Option<&Manifest>) -> Manifest {
    let mut read = BTreeMap::new();
    loop {
        let wanted = manifest::wanted(&repository.snapshot, previous, &read);
        if wanted.is_empty() {
            return manifest::load(&repository.snapshot, previous, &read);
        }
        read.extend(wanted.into_iter().map(|id| (id, repository.contents[&id].clone())));
    }
}

/// Answers every question, but that of a ref or an image called `missing`.
fn answers(repository: &Repository, manifest: &Manifest, floor: &Floor) -> Resolutions {
    let mut resolutions = Resolutions::default();
    for question in desired::questions(manifest, &repository.snapshot, floor) {
        match question {
            Question::Git { url, reference, .. } => {
                let known = reference != "missing";
                let answer = if known { Ok("1".repeat(40)) } else { Err("there is no such ref".to_owned()) };
                resolutions.git.insert((url, reference), answer);
            }
            Question::Image { runner, reference } => {
                let known = !reference.starts_with("missing");
                let answer =
                    if known { Ok("sha256:2222".to_owned()) } else { Err("manifest unknown".to_owned()) };
                resolutions.images.insert((runner, reference), answer);
            }
        }
    }
    for id in desired::blobs(manifest, &repository.snapshot) {
        resolutions.blobs.insert(id, repository.contents[&id].clone());
    }
    resolutions
}

pub(crate) fn resolve(
    repository: &Repository,
    floor: &Floor,
    previous: Option<&(Manifest, Resolved)>,
) -> (Manifest, Resolved) {
    let manifest = load(repository, previous.map(|(manifest, _)| manifest));
    let resolutions = answers(repository, &manifest, floor);
    let before = previous.map(|(_, resolved)| &resolved.desired);
    let resolved = desired::resolve(&manifest, &repository.snapshot, &resolutions, floor, before);
    (manifest, resolved)
}

/// What a workload gets, without the values.
fn given(env: &BTreeMap<String, EnvValue>, files: &BTreeMap<String, EnvValue>) -> String {
    let names: Vec<&str> = env.keys().chain(files.keys()).map(String::as_str).collect();
    if names.is_empty() { String::new() } else { format!(" with {}", names.join(", ")) }
}

fn reaches(egress: &[Egress]) -> String {
    let places: Vec<String> = egress.iter().map(ToString::to_string).collect();
    if places.is_empty() { String::new() } else { format!(", reaches {}", places.join(" ")) }
}

fn summary(manifest: &Manifest, resolved: &Resolved) -> String {
    let mut text = String::new();
    let mut diagnostics: Vec<_> = manifest.diagnostics.iter().chain(&resolved.diagnostics).cloned().collect();
    let policies = resolved.desired.policies.values().map(|source| rules_of(source)).collect();
    let mut desired = resolved.desired.clone();
    diagnostics.extend(match PolicySet::compile(policies) {
        Ok(rules) => Admission::default().admit(&Arc::new(rules), manifest, &mut desired),
        Err(faults) => faults,
    });
    diagnostics.extend(contract::check(manifest, &desired));
    diagnostics.sort();
    for diagnostic in diagnostics {
        writeln!(text, "{diagnostic}\n").unwrap();
    }
    if resolved.refused {
        writeln!(text, "the revision is refused").unwrap();
    }
    let Desired { runners, servers, tools, policies, toolsets, faulty, pending, .. } = &desired;
    for runner in runners.values() {
        writeln!(text, "Runner/{}: {}", runner.name, runner.kind.as_str()).unwrap();
    }
    for server in servers.values() {
        write!(text, "{}: prefix `{}`", server.id, server.prefix).unwrap();
        match &server.location {
            Location::Remote { url, .. } => writeln!(text, ", at {url}").unwrap(),
            Location::Runner(workload) => {
                let program = match &workload.program {
                    Program::Image { reference, id, .. } => {
                        let reference = reference.split('@').next().unwrap();
                        format!("{} {}", without_digest(reference), id.as_deref().unwrap_or("built"))
                    }
                    Program::Command { argv, dir } => format!("{argv:?} in `{dir}`"),
                };
                let given = given(&workload.env, &workload.files) + &reaches(&workload.egress);
                writeln!(text, ", {program} on {}{given}", workload.runner).unwrap();
            }
        }
    }
    for tool in tools.values() {
        let given = given(&tool.env, &tool.files) + &reaches(&tool.egress);
        writeln!(text, "{} on {}{given}: {}", tool.id, tool.runner, tool.definition).unwrap();
    }
    for policy in policies.values() {
        let modules: Vec<String> =
            policy.modules.iter().map(|module| format!("{}:{}", module.file, module.line)).collect();
        writeln!(text, "{}: {} from {}", policy.id, policy.package, modules.join(", ")).unwrap();
    }
    for toolset in toolsets.values() {
        let taken = tools.values().filter(|tool| toolset.takes(&tool.id, &tool.labels, &tool.published));
        let taken: Vec<&str> = taken.map(|tool| tool.published.as_str()).collect();
        let ada = toolset.admits("ada", &[], &[]);
        let data = toolset.admits("eve", &["data".to_owned()], &[]);
        writeln!(text, "{}: takes {}; admits ada {ada}, data {data}", toolset.id, taken.join(", ")).unwrap();
    }
    for (id, lock) in &manifest.locks {
        let said = lock.offer.iter().flat_map(|offer| &offer.tools).map(|tool| &*tool.text);
        writeln!(text, "lock of {id}: {}", said.collect::<Vec<_>>().join(", ")).unwrap();
    }
    for (what, ids) in [("faulty", faulty), ("pending", pending)] {
        if !ids.is_empty() {
            writeln!(text, "{what}: {}", ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
                .unwrap();
        }
    }
    if manifest.skipped > 0 {
        writeln!(text, "skipped: {}", manifest.skipped).unwrap();
    }
    text
}

/// Digests of builds change with every word of the templates.
fn without_digest(reference: &str) -> &str {
    if reference.starts_with("toolcrib.local/") { reference.rsplit_once(':').unwrap().0 } else { reference }
}

fn check(case: &Path) -> Result<(), String> {
    let files = |folder: &Path| {
        let mut files = BTreeMap::new();
        read_folder(folder, folder, &mut files);
        let mut repository = repository(files);
        if folder.join(ENVIRONMENT).is_dir() {
            repository.snapshot.path = RepoPath::parse(ENVIRONMENT).unwrap();
        }
        repository
    };
    let repository = files(case);
    let input = std::fs::read(case.join("input.yaml")).unwrap_or_default();
    let allowed = !input.starts_with(b"# floor: none");
    let floor = Floor { process: allowed, privileges: false, local_git: false, signers: None };
    let before = case.join("before");
    let previous = before.is_dir().then(|| resolve(&files(&before), &floor, None));
    let (manifest, resolved) = resolve(&repository, &floor, previous.as_ref());
    let found = summary(&manifest, &resolved);
    let expected = case.join("expected.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&expected, &found).unwrap();
        return Ok(());
    }
    let wanted = std::fs::read_to_string(&expected).unwrap_or_default();
    if wanted == found {
        return Ok(());
    }
    Err(format!("=== {}\n--- expected\n{wanted}\n--- found\n{found}", case.display()))
}

#[test]
fn every_case_says_what_is_expected() {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(cases()).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    assert!(folders.len() >= 25, "the cases are there");
    let faults: Vec<String> = folders.iter().filter_map(|case| check(case).err()).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// All manifests of the cases: seeds for what a hand may do to one.
fn seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for case in std::fs::read_dir(cases()).unwrap() {
        let input = case.unwrap().path().join("input.yaml");
        all.extend(std::fs::read(input).ok());
    }
    all
}

proptest! {
    /// Cuts, doubles and replaces pieces of real manifests: whatever comes out is answered.
    #[test]
    fn reading_never_panics(
        seed in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40, "[ -~\n\t&*!|>{}\\[\\]:#'\"%@`\u{0}\u{e9}\r-]{0,6}"), 1..6),
    ) {
        let seeds = seeds();
        let mut bytes = seeds[seed.index(seeds.len())].clone();
        for (at, length, text) in edits {
            let at = at.index(bytes.len() + 1);
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, text.bytes());
        }
        let path = RepoPath::parse("a.yaml").unwrap();
        let parsed = parse_file(&path, &bytes);
        for diagnostic in &parsed.diagnostics {
            assert!(!diagnostic.to_string().is_empty());
        }
        let files = BTreeMap::from([(path, (Mode::File, bytes))]);
        let repository = repository(files);
        let floor = Floor { process: true, privileges: false, local_git: false, signers: None };
        resolve(&repository, &floor, None);
    }
}

/// What the examples teach is right: no fault, not even a warning, and everything in them resolves.
#[test]
fn the_examples_are_without_fault() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(names.len() >= 4, "the examples are there");
    for folder in names {
        let mut files = BTreeMap::new();
        read_folder(&folder, &folder, &mut files);
        assert!(files.contains_key(&RepoPath::parse("README.md").unwrap()), "{}", folder.display());
        let floor = Floor { process: true, privileges: false, local_git: false, signers: None };
        let (manifest, resolved) = resolve(&repository(files), &floor, None);
        let said: Vec<String> =
            manifest.diagnostics.iter().chain(&resolved.diagnostics).map(ToString::to_string).collect();
        assert!(said.is_empty(), "{}: {}", folder.display(), said.join("\n"));
        let offered = resolved.desired.tools.len() + resolved.desired.servers.len();
        assert!(offered >= 2 && !resolved.refused, "{}", folder.display());
        let rules = resolved.desired.policies.values().map(|source| rules_of(source)).collect();
        if let Err(faults) = PolicySet::compile(rules) {
            panic!("{}: {faults:?}", folder.display());
        }
    }
}

/// What the README of `examples/policies` says of its rules is so.
#[test]
fn the_example_policy_decides_as_its_readme_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/policies");
    let mut files = BTreeMap::new();
    read_folder(&root, &root, &mut files);
    let floor = Floor { process: true, privileges: false, local_git: false, signers: None };
    let (_, resolved) = resolve(&repository(files), &floor, None);
    let set = PolicySet::compile(resolved.desired.policies.values().map(|source| rules_of(source)).collect());
    let set = set.unwrap_or_else(|faults| panic!("{faults:?}"));
    for (read_only, path, group, cluster, allowed) in [
        (true, ".", "local", "staging", true),
        (false, "x", "local", "staging", false),
        (false, "x", "admin", "staging", true),
        (true, "/etc/passwd", "admin", "staging", false),
        (true, ".", "local", "production", false),
        (true, ".", "admin", "production", true),
    ] {
        let input = serde_json::json!({
            "tool": {"name": "t", "argv": ["ls", "--", path], "annotations": {"readOnlyHint": read_only}},
            "user": {"name": "ada", "groups": [group]},
            "runner": {"name": "local", "type": "process", "attributes": {"cluster": cluster}},
        });
        let decision = set.decide(Point::Call, &input);
        assert_eq!(decision.allowed, allowed, "{input}: {decision:?}");
    }
}

/// A revision of these files, resolved after `previous`, with `answers` to what is asked.
fn revision(files: &[(&str, &str)], previous: Option<&(Manifest, Resolved)>) -> (Manifest, Resolved) {
    let files = files
        .iter()
        .map(|(path, text)| (RepoPath::parse(path).unwrap(), (Mode::File, text.as_bytes().to_vec())))
        .collect();
    let floor = Floor { process: true, privileges: false, local_git: false, signers: None };
    resolve(&repository(files), &floor, previous)
}

const RUNNERS: &str = "\
apiVersion: toolcrib.dev/v1alpha1
kind: Runner
metadata: {name: local}
spec: {process: {}}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Runner
metadata: {name: engine}
spec: {docker: {}}
";

const SERVERS: &str = "\
apiVersion: toolcrib.dev/v1alpha1
kind: Server
metadata: {name: script}
spec: {source: {command: [python3, server.py]}}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Server
metadata: {name: built}
spec: {source: {build: {context: image}}}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata: {name: run}
spec: {description: Runs., command: [sh, run.sh]}
";

/// What changes with a file, by digest: (name, build, workload, offer).
fn digests(resolved: &Resolved) -> BTreeMap<String, desired::Digests> {
    let servers = resolved.desired.servers.values().map(|server| (server.id.to_string(), server.digests));
    let tools = resolved.desired.tools.values().map(|tool| (tool.id.to_string(), tool.digests));
    servers.chain(tools).collect()
}

/// Whose (build, workload, offer) change.
type Changes<'a> = &'a [(&'a str, [bool; 3])];

#[test]
fn digests_change_with_what_they_are_made_of_and_with_nothing_else() {
    let base = [
        ("runners.yaml", RUNNERS),
        ("s/servers.yaml", SERVERS),
        ("s/server.py", "1"),
        ("s/run.sh", "1"),
        ("s/image/Dockerfile", "FROM scratch"),
        ("s/image/.dockerignore", "notes"),
        ("s/image/notes", "1"),
        ("README.md", "1"),
    ];
    let before = revision(&base, None);
    assert!(before.1.diagnostics.is_empty(), "{:?}", before.1.diagnostics);
    let (built, script, tool) = ("Server/built", "Server/script", "Tool/run");
    let described = SERVERS.replace("Runs.", "Runs it.");
    let renamed = SERVERS.replace("[python3, server.py]}", "[python3, server.py]}, tools: {prefix: p}");
    // The file, its new text, and what changes with it.
    let cases: [(&str, &str, Changes<'_>); 7] = [
        ("README.md", "2", &[]),
        ("s/image/notes", "2", &[]),
        ("s/server.py", "2", &[(script, [false, true, false]), (tool, [false, true, false])]),
        (
            "s/image/Dockerfile",
            "FROM a",
            &[(built, [true, true, false]), (script, [false, true, false]), (tool, [false, true, false])],
        ),
        ("s/servers.yaml", &described, &[(tool, [false, false, true])]),
        ("s/servers.yaml", &renamed, &[(script, [false, false, true])]),
        (
            "runners.yaml",
            &RUNNERS.replace("docker: {}", "docker: {}, build: {args: {A: b}}"),
            &[(built, [true, true, false])],
        ),
    ];
    for (path, text, expected) in cases {
        let files = base.map(|(file, old)| (file, if file == path { text } else { old }));
        let after = revision(&files, Some(&before));
        let (old, new) = (digests(&before.1), digests(&after.1));
        let changed: Vec<(&str, [bool; 3])> = old
            .iter()
            .map(|(id, old)| {
                let new = new[id];
                let parts = [old.build != new.build, old.workload != new.workload, old.offer != new.offer];
                (id.as_str(), parts)
            })
            .filter(|(_, parts)| parts.contains(&true))
            .collect();
        if path == "s/image/notes" {
            // Not part of the image; the commands of the folder above cannot know what they read.
            assert!(changed.iter().all(|(id, _)| *id != built), "{path}");
        } else {
            assert_eq!(changed, expected, "{path}");
        }
    }
}

#[test]
fn what_is_the_same_is_the_same_pointer() {
    let files =
        [("runners.yaml", RUNNERS), ("s/servers.yaml", SERVERS), ("s/server.py", "1"), ("s/run.sh", "1")];
    let files = [&files[..], &[("s/image/Dockerfile", "FROM scratch")]].concat();
    let first = revision(&files, None);
    let others = SERVERS.replace("name: ", "name: other-");
    let other = [&files[..], &[("other.yaml", others.as_str())]].concat();
    let second = revision(&other, Some(&first));
    for (name, server) in &first.1.desired.servers {
        assert!(Arc::ptr_eq(server, &second.1.desired.servers[name]), "{name}");
    }
    for (name, tool) in &first.1.desired.tools {
        assert!(Arc::ptr_eq(tool, &second.1.desired.tools[name]), "{name}");
    }
    // The added file's paths lead nowhere, and it is the only one to say so.
    assert_eq!(second.1.desired.faulty.len(), 1, "{:?}", second.1.diagnostics);
}

#[test]
fn a_missing_answer_is_pending_and_keeps_what_was_there() {
    let manifest = "\
apiVersion: toolcrib.dev/v1alpha1
kind: Server
metadata: {name: weather}
spec: {source: {image: \"weather:1\"}}
";
    let first = revision(&[("runners.yaml", RUNNERS), ("a.yaml", manifest)], None);
    assert_eq!(first.1.desired.servers.len(), 1);
    let next = manifest.replace("weather:1", "weather:2");
    let files = [("runners.yaml", RUNNERS), ("a.yaml", next.as_str())]
        .map(|(path, text)| (RepoPath::parse(path).unwrap(), (Mode::File, text.as_bytes().to_vec())));
    let repository = repository(files.into());
    let floor = Floor { process: true, privileges: false, local_git: false, signers: None };
    let manifest = load(&repository, Some(&first.0));
    let snapshot = &repository.snapshot;
    let unanswered =
        desired::resolve(&manifest, snapshot, &Resolutions::default(), &floor, Some(&first.1.desired));
    let pending: Vec<String> = unanswered.desired.pending.iter().map(ToString::to_string).collect();
    assert_eq!(pending, ["Server/weather"]);
    assert!(unanswered.diagnostics.is_empty() && unanswered.desired.faulty.is_empty());
    let kept = &unanswered.desired.servers.values().next().unwrap();
    assert!(Arc::ptr_eq(kept, first.1.desired.servers.values().next().unwrap()));
}

proptest! {
    /// Whatever a plain scalar looks like, it means what serde_yaml says it means.
    #[test]
    fn plain_scalars_mean_what_serde_yaml_says(text in "[-+.~a-zA-Z0-9_]{1,12}") {
        let document = format!(
            "apiVersion: toolcrib.dev/v1alpha1\nkind: Runner\nmetadata: {{name: a}}\nspec:\n  process: {{}}\n  attributes:\n    x: {text}\n"
        );
        let expected: Result<serde_json::Value, _> = serde_yaml::from_str(&document);
        // A lone dash is no scalar.
        prop_assume!(expected.is_ok());
        let path = RepoPath::parse("a.yaml").unwrap();
        let parsed = parse_file(&path, document.as_bytes());
        match parsed.resources.first().map(|declared| &declared.spec) {
            Some(toolcrib::resource::Spec::Runner(spec)) => {
                let expected = expected.unwrap();
                assert_eq!(spec.attributes["x"], expected["spec"]["attributes"]["x"], "{text}");
            }
            // Infinities, which JSON cannot hold: serde_yaml makes them null.
            _ => assert!(expected.unwrap()["spec"]["attributes"]["x"].is_null(), "{text}"),
        }
    }
}

/// What builds on a base is read again only when it or its patch changed.
#[test]
fn patched_resources_are_the_same_while_their_texts_are() {
    let mut files = BTreeMap::new();
    let case = cases().join("bases");
    read_folder(&case, &case, &mut files);
    let world = |files: &BTreeMap<RepoPath, (Mode, Vec<u8>)>| {
        let mut repository = repository(files.clone());
        repository.snapshot.path = RepoPath::parse(ENVIRONMENT).unwrap();
        repository
    };
    let floor = Floor { process: true, privileges: false, local_git: false, signers: None };
    let before = resolve(&world(&files), &floor, None);
    let again = resolve(&world(&files), &floor, Some(&before));
    let same = |a: &(Manifest, Resolved), b: &(Manifest, Resolved), id: &str| {
        let id = ResourceId::parse(id).unwrap();
        Arc::ptr_eq(&a.0.resources[&id], &b.0.resources[&id])
    };
    for id in again.0.resources.keys() {
        assert!(same(&before, &again, &id.to_string()), "{id}");
    }
    for (name, server) in &again.1.desired.servers {
        assert!(Arc::ptr_eq(server, &before.1.desired.servers[name]), "{name}");
    }
    let base = files.get_mut(&RepoPath::parse("base/servers.yaml").unwrap()).unwrap();
    base.1.extend(b"# changed\n");
    let after = resolve(&world(&files), &floor, Some(&again));
    assert!(!same(&again, &after, "server/weather") && same(&again, &after, "tool/greet"));
    let digests = |(_, resolved): &(Manifest, Resolved)| -> Vec<_> {
        resolved.desired.servers.values().map(|server| server.digests).collect()
    };
    assert_eq!(digests(&after), digests(&again));
}
