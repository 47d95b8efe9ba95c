//! The examples: without fault, and as their READMEs say.

use super::*;

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
