//! Locks as written and read, their differences, and the table of trust.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::{any, prop, proptest};
use serde_json::json;

use super::*;
use crate::manifest::{self, BlobId, Manifest, Mode, RepoPath, Snapshot, TreeEntry};
use crate::resource::Revision;
use crate::resource::server::Trust;

/// Definitions of tools: `a` with the description `one`.
fn tools(all: &[(&str, &str)]) -> Definitions {
    let tool = |(name, description): &(&str, &str)| {
        let text = json!({"name": name, "description": description, "inputSchema": {"type": "object"}});
        Definition::new(Section::Tools, &text.to_string().into())
    };
    Definitions { tools: all.iter().map(tool).collect(), ..Definitions::default() }
}

fn lock(offer: Definitions) -> Lock {
    Lock {
        resource: ResourceId::parse("Server/weather").unwrap(),
        source: json!({"package": {"registry": "pypi", "name": "weather", "version": "1.2.3", "args": ["--on", "1"]}}),
        resolved: Resolved { version: Some("1.2.3".to_owned()), ..Resolved::default() },
        signer: Signer::Unsigned,
        offer: Some(offer.sorted()),
    }
}

/// A repository of these files, read below `path`.
fn load(path: &str, files: &[(&str, &str)], previous: Option<&Manifest>) -> Manifest {
    let mut contents = BTreeMap::new();
    let mut tree = BTreeMap::new();
    for (name, text) in files {
        let id = BlobId(Digest::of_bytes(text.as_bytes()).hex().as_bytes()[..20].try_into().unwrap());
        contents.insert(id, Bytes::copy_from_slice(text.as_bytes()));
        tree.insert(RepoPath::parse(name).unwrap(), TreeEntry { mode: Mode::File, id });
    }
    let revision = Revision { reference: "main".to_owned(), commit: "0".repeat(40), dirty: false };
    let snapshot = Snapshot { revision, path: RepoPath::parse(path).unwrap(), files: Arc::new(tree) };
    manifest::load(&snapshot, previous, &contents)
}

const WEATHER: &str = "apiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {name: weather}\n\
                       spec: {source: {url: 'http://127.0.0.1:1/mcp'}}\n";

fn read_back(text: &str) -> Lock {
    let manifest = load("", &[("a.yaml", WEATHER), ("locks/server/weather.yaml", text)], None);
    assert_eq!(manifest.diagnostics, vec![]);
    Lock::clone(&manifest.locks[&ResourceId::parse("Server/weather").unwrap()])
}

#[test]
fn a_lock_is_written_for_people() {
    let mut offer = tools(&[("now", "Tells the time.\nIn \"UTC\".")]);
    offer.instructions = Some("Ask for one place.\n\n  Not for two.\n".to_owned());
    offer.resources.push(Definition::new(
        Section::Resources,
        &r#"{"uri":"data://x","big":12345678901234567890123,"seen\u202e":[],"b":1.0,"emoji":"☂"}"#.into(),
    ));
    let written = lock(offer).write();
    insta::assert_snapshot!(written, @r#"
    # Written by `toolcrib lock`. Review it like code: what stands here is what a model reads.
    apiVersion: toolcrib.dev/v1alpha1
    kind: Lock
    resource: Server/weather
    source:
      package:
        registry: pypi
        name: weather
        version: "1.2.3"
        args:
          - "--on"
          - "1"
    resolved:
      version: "1.2.3"
    unsigned: true
    instructions: |
      Ask for one place.

        Not for two.
    tools:
    - name: now
      definition: |
        {
          "name": "now",
          "description": "Tells the time.\nIn \"UTC\".",
          "inputSchema": {
            "type": "object"
          }
        }
    prompts: []
    resources:
    - name: "data://x"
      definition: |
        {
          "uri": "data://x",
          "big": 12345678901234567890123,
          "seen\u202e": [],
          "b": 1.0,
          "emoji": "☂"
        }
    templates: []
    "#);
    assert_eq!(read_back(&written).write(), written);
}

#[test]
fn what_cannot_be_seen_is_written_as_an_escape() {
    let tag = "plain\u{e0041}\u{200b}\u{7f}";
    let text = format!("{{\"name\":\"x\",\"description\":\"{tag}\"}}");
    assert_eq!(
        pretty(&text),
        "{\n  \"name\": \"x\",\n  \"description\": \"plain\\udb40\\udc41\\u200b\\u007f\"\n}"
    );
    let mut offer = Definitions { instructions: Some(tag.to_owned()), ..Definitions::default() };
    offer.tools.push(Definition::new(Section::Tools, &text.into()));
    let written = lock(offer.clone()).write();
    assert!(written.is_ascii(), "{written}");
    assert!(compare(read_back(&written).offer.as_ref().unwrap(), &offer).is_empty());
}

#[test]
fn faults_of_a_lock_have_places_and_keep_the_version_before() {
    let good = lock(tools(&[("a", "one")])).write();
    let name = "tools/locks/server/weather.yaml";
    let first = load("tools", &[("tools/a.yaml", WEATHER), (name, &good)], None);
    assert_eq!((first.locks.len(), first.diagnostics.len(), first.skipped), (1, 0, 0));
    let cases = [
        (good.replace("unsigned: true", "unsinged: true"), "unknown-field"),
        (good.replace("unsigned: true\n", ""), "invalid-value"),
        (good.replace("Server/weather", "Server/other"), "wrong-lock"),
        (good.replace("\"name\": \"a\"", "\"name\": \"b\""), "invalid-value"),
        (good.replace("\"inputSchema\": {", "\"inputSchema\": "), "invalid-value"),
        (good.replace("tools:\n", "prompts: []\ntools:\n"), "duplicate-key"),
        (good.replace("kind: Lock", "kind: Server"), "unknown-kind"),
        (format!("{good}---\n{good}"), "wrong-type"),
        ("- not: [closed".to_owned(), "syntax"),
    ];
    for (text, code) in cases {
        let broken = load("tools", &[("tools/a.yaml", WEATHER), (name, &text)], Some(&first));
        let codes: Vec<_> = broken.diagnostics.iter().map(|fault| fault.code).collect();
        assert!(codes.contains(&code), "{code}: {codes:?}");
        let place = broken.diagnostics[0].place.as_ref().unwrap();
        assert_eq!(place.file.as_str(), name);
        assert!(broken.diagnostics[0].hint.is_some(), "{code}");
        let id = ResourceId::parse("Server/weather").unwrap();
        assert_eq!(broken.locks.get(&id), first.locks.get(&id), "{code}: the version before stays");
        assert!(broken.broken_locks.contains(&id));
        let fresh = load("tools", &[("tools/a.yaml", WEATHER), (name, &text)], None);
        assert!(fresh.locks.is_empty() && fresh.broken_locks.contains(&id));
        let again = load("tools", &[("tools/a.yaml", WEATHER), (name, &good)], Some(&broken));
        assert_eq!((again.locks.len(), again.broken_locks.len()), (1, 0));
    }
    let gone = load("tools", &[("tools/a.yaml", WEATHER)], Some(&first));
    assert!(gone.locks.is_empty());
    let stray = load("tools", &[(name, &good)], Some(&gone));
    assert_eq!(stray.diagnostics.iter().map(|fault| fault.code).collect::<Vec<_>>(), ["stray-lock"]);
}

#[test]
fn only_files_of_the_right_name_are_locks() {
    let owner = |path| Lock::owner(path).map(|id| id.to_string());
    assert_eq!(owner("locks/server/weather.yaml").as_deref(), Some("Server/weather"));
    assert_eq!(owner("locks/tool/grep.yaml").as_deref(), Some("Tool/grep"));
    for path in
        ["locks/weather.yaml", "locks/runner/x.yaml", "locks/server/a/b.yaml", "x/locks/server/a.yaml"]
    {
        assert_eq!(owner(path), None, "{path}");
    }
    assert_eq!(Lock::path(&ResourceId::parse("Tool/grep").unwrap()), "locks/tool/grep.yaml");
}

#[test]
fn differences_name_each_field() {
    let check = |before: &str, after: &str| {
        let side = |text: &str| Definitions {
            tools: vec![Definition::new(Section::Tools, &text.into())],
            ..Definitions::default()
        };
        let found = compare(&side(before), &side(after));
        found.iter().fold(String::new(), |mut text, difference| {
            let _ = write!(text, "{difference}");
            if let Change::Changed(fields) = &difference.change {
                for field in fields {
                    let _ = write!(text, "\n  {field}");
                }
            }
            text
        })
    };
    insta::assert_snapshot!(
        check(
            r#"{"name":"a","description":"Adds","inputSchema":{"type":"object","required":["x"]}}"#,
            r#"{"name":"a","inputSchema":{"type":"object","required":["x","y"]},"annotations":{"readOnlyHint":true},"description":"Adds\u200b"}"#,
        ),
        @r#"
    tool `a` changed (annotations, description, inputSchema.required.1)
      annotations: nothing -> {"readOnlyHint":true}
      description: "Adds" -> "Adds\u200b"
      inputSchema.required.1: nothing -> "y"
    "#
    );
    // The order of members, white space and the spelling of characters say nothing.
    assert_eq!(check(r#"{"name":"a","x":"é"}"#, "{ \"x\" : \"\\u00e9\",\n\"name\":\"a\"}"), "");
    // A second member of one name does: readers differ in which they take.
    assert_eq!(
        check(r#"{"name":"a","d":"x"}"#, r#"{"name":"a","d":"x","d":"y"}"#),
        "tool `a` changed (d#2)\n  d#2: nothing -> \"y\""
    );
    assert_eq!(check(r#"{"name":"a"}"#, r#"{"name":"b"}"#), "tool `a` removedtool `b` added");
}

#[test]
fn nested_without_end_is_no_danger() {
    let deep = format!("{{\"name\":\"a\",\"x\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    assert_eq!(compact(&pretty(&deep[..300])).len(), compact(&deep[..300]).len());
    let side = |text: String| Definitions {
        tools: vec![Definition::new(Section::Tools, &text.into())],
        ..Definitions::default()
    };
    assert_eq!(compare(&side(deep.clone()), &side(deep.replace("[]", "[1]"))).len(), 1);
}

/// One row of the table of trust.
fn row(trust: Option<Trust>, state: &str, lifecycle: &str) -> String {
    // What the lock holds, what the server lists, and what it lists after it changed by itself.
    let (locked, ready) = match state {
        "none" | "broken" => (None, tools(&[("a", "one"), ("b", "one")])),
        "equal" => (Some(tools(&[("a", "one"), ("b", "one")])), tools(&[("a", "one"), ("b", "one")])),
        "changed" => (Some(tools(&[("a", "one"), ("b", "one")])), tools(&[("a", "two"), ("b", "one")])),
        "added" => (Some(tools(&[("b", "one")])), tools(&[("a", "one"), ("b", "one")])),
        "removed" => (Some(tools(&[("a", "one"), ("b", "one")])), tools(&[("b", "one")])),
        other => panic!("{other}"),
    };
    let mut later = ready.clone();
    later.tools.pop();
    later.tools.extend(tools(&[("b", "betrayed")]).tools);
    let locked = locked.map(lock);
    let seen = match lifecycle {
        "not started" | "on demand" => None,
        "ready" => Some(&ready),
        "restarted" | "list_changed" => Some(&later),
        other => panic!("{other}"),
    };
    let state = match &locked {
        Some(lock) => State::Known(lock),
        None if state == "broken" => State::Broken,
        None => State::None,
    };
    let on_demand = lifecycle == "on demand";
    let judged = judge(&Case { trust, lock: state, seen, first: seen.map(|_| &ready), on_demand });
    let offered: Vec<&str> = judged.offered.tools.iter().map(|tool| &*tool.name).collect();
    let told: Vec<String> = judged.differences.iter().map(ToString::to_string).collect();
    format!("{:<15} | {:<7} | {}", judged.verdict.reason(), offered.join(","), told.join("; "))
        .trim_end()
        .to_owned()
}

/// Every combination of trust, state of the lock and lifecycle is a row of the table.
#[test]
fn the_table_of_trust() {
    let mut rows = include_str!("trust.txt").lines().skip(1);
    let trusts = [
        ("locked", Some(Trust::Locked)),
        ("reviewed", Some(Trust::Reviewed)),
        ("live", Some(Trust::Live)),
        ("default", None),
    ];
    for (word, trust) in trusts {
        for state in ["none", "equal", "changed", "added", "removed", "broken"] {
            for lifecycle in ["not started", "on demand", "ready", "restarted", "list_changed"] {
                let row =
                    format!("{word:<8} | {state:<7} | {lifecycle:<12} | {}", row(trust, state, lifecycle));
                assert_eq!(rows.next(), Some(row.trim_end()));
            }
        }
    }
    assert_eq!(rows.next(), None);
}

proptest! {
    /// Nothing is lost and nothing depends on order: what is written reads back the same.
    #[test]
    fn written_and_read_back_a_lock_is_the_same(
        names in prop::collection::btree_map("[a-z]{1,6}", any::<String>(), 0..6),
        instructions in any::<Option<String>>(),
    ) {
        let all: Vec<(&str, &str)> = names.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let mut offer = tools(&all);
        offer.instructions = instructions;
        let mut turned = offer.clone();
        turned.tools.reverse();
        let written = lock(offer.clone()).write();
        assert_eq!(written, lock(turned).write());
        let back = read_back(&written);
        assert_eq!(compare(back.offer.as_ref().unwrap(), &offer.sorted()), vec![]);
        assert_eq!(back.write(), written);
    }

    /// Whatever a server sends, nothing here panics, and JSON stays the same JSON.
    #[test]
    fn any_text_is_compared(before in any::<String>(), after in "[\\[\\]{}\":,a \\\\\\n0-9]{0,40}") {
        for text in [&before, &after, &serde_json::to_string(&[&before, &after]).unwrap()] {
            let spelled = [pretty(text), compact(text), canonical(text)];
            let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
            if let Some(value) = read(text) {
                assert!(spelled.iter().all(|text| read(text).as_ref() == Some(&value)), "{spelled:?}");
            }
        }
    }
}
