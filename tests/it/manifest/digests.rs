//! What changes with what: digests, and what stays the very same from one revision to the next.

use super::*;

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
