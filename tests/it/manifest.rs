//! Manifests as written, and what Toolcrib says of them.
//!
//! Each folder of `tests/it/manifest/` is a case: a repository of a few files, and `expected.txt`, the
//! diagnostics and a summary of what is desired. `BLESS=1 cargo test --test it manifest` writes the
//! expectations anew; read the difference before it is committed. A first line `# floor: none` in
//! `input.yaml` takes every leave away; a folder `before/` is the revision before; where
//! there is a folder `envs/prod/`, that one is the manifest path; an
//! empty file `x.submodule` stands for a submodule `x`.

mod codes;
mod digests;
mod examples;
mod order;
mod traps;
mod whatever;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
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

/// A revision of these files, resolved after `previous`, with `answers` to what is asked.
fn revision(files: &[(&str, &str)], previous: Option<&(Manifest, Resolved)>) -> (Manifest, Resolved) {
    let files = files
        .iter()
        .map(|(path, text)| (RepoPath::parse(path).unwrap(), (Mode::File, text.as_bytes().to_vec())))
        .collect();
    let floor = Floor { process: true, privileges: false, local_git: false, signers: None };
    resolve(&repository(files), &floor, previous)
}
