//! What YAML makes of innocent text, and what nobody should have to read.
//!
//! The rule: a field that holds text takes what is written, whatever else it looks like; a field that
//! holds JSON (attributes, schemas, defaults) takes what YAML 1.2 says. Nothing is guessed.

use toolcrib::desired::{Location, Resolved};
use toolcrib::manifest::{Diagnostic, MAX_MANIFEST_BYTES, ParsedFile, RepoPath, parse_file};
use toolcrib::resource::{EnvValue, Spec};

use super::revision;

const LOCAL: &str = "\
apiVersion: toolcrib.dev/v1alpha1
kind: Runner
metadata: {name: local}
spec: {process: {}}
";

/// A runner of the name `name`, as a document.
fn runner(name: &str) -> String {
    LOCAL.replace("local", name)
}

fn parse(bytes: &[u8]) -> ParsedFile {
    parse_file(&RepoPath::parse("a.yaml").unwrap(), bytes)
}

/// The codes that are told, in the order of places.
fn codes(file: &ParsedFile) -> Vec<&'static str> {
    file.diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
}

/// What the server's variable is, or what is wrong.
fn env(resolved: &Resolved) -> Option<String> {
    let server = resolved.desired.servers.values().next()?;
    let Location::Runner(workload) = &server.location else { return None };
    match workload.env.get("V") {
        Some(EnvValue::Literal(text)) => Some(text.clone()),
        _ => None,
    }
}

/// What may stand in YAML, and what it is as JSON by YAML 1.2; nothing where it has no JSON.
const SCALARS: &[(&str, Option<&str>)] = &[
    ("no", Some("\"no\"")),
    ("off", Some("\"off\"")),
    ("on", Some("\"on\"")),
    ("y", Some("\"y\"")),
    ("NO", Some("\"NO\"")),
    ("true", Some("true")),
    ("False", Some("false")),
    ("014", Some("\"014\"")),
    ("0o14", Some("12")),
    ("0x1F", Some("31")),
    ("0b11", Some("3")),
    ("1_000", Some("\"1_000\"")),
    ("1e3", Some("1000.0")),
    ("1.10", Some("1.1")),
    (".5", Some("0.5")),
    ("+5", Some("5")),
    ("-0", Some("0")),
    ("9007199254740993", Some("9007199254740993")),
    ("123456789012345678901234567890", None),
    ("2024-01-01", Some("\"2024-01-01\"")),
    ("2024-01-01T10:00:00Z", Some("\"2024-01-01T10:00:00Z\"")),
    ("12:30:45", Some("\"12:30:45\"")),
    ("1.2.3", Some("\"1.2.3\"")),
    ("0123abc", Some("\"0123abc\"")),
    (".inf", None),
    (".nan", None),
];

#[test]
fn text_is_what_is_written() {
    for (written, json) in SCALARS {
        let server = format!(
            "apiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {{name: a, labels: {{{written}: {written}}}}}\n\
             spec:\n  source: {{command: [serve, {written}]}}\n  env:\n    V: {written}\n"
        );
        let (manifest, resolved) = revision(&[("r.yaml", LOCAL), ("a.yaml", &server)], None);
        assert!(manifest.diagnostics.is_empty(), "{written}: {:?}", manifest.diagnostics);
        assert_eq!(env(&resolved).as_deref(), Some(*written));
        let declared = manifest.resources.values().last().unwrap();
        assert_eq!(declared.metadata.labels.get(*written).map(String::as_str), Some(*written));
        let Spec::Server(spec) = &declared.spec else { panic!("{written}") };
        let source = serde_json::to_value(&spec.source).unwrap();
        assert_eq!(source["command"][1], *written);

        let runner =
            LOCAL.replace("{process: {}}", &format!("{{process: {{}}, attributes: {{v: {written}}}}}"));
        let file = parse(runner.as_bytes());
        let read = file.resources.first().map(|declared| match &declared.spec {
            Spec::Runner(spec) => spec.attributes["v"].to_string(),
            _ => panic!("{written}"),
        });
        if let Some(json) = json {
            assert_eq!(read.as_deref(), Some(*json), "{written}: {:?}", file.diagnostics);
        } else if read.is_none() {
            assert_eq!(codes(&file), ["invalid-value"], "{written}");
        }
    }
}

#[test]
fn text_in_quotes_and_tags_is_text_and_nothing_is_no_text() {
    for (written, arrives) in [
        ("\"no\"", Some("no")),
        ("'014'", Some("014")),
        ("\"\"", Some("")),
        ("\"null\"", Some("null")),
        ("!!str 014", Some("014")),
        ("!!str null", Some("null")),
        ("|-\n      a\n      b", Some("a\nb")),
        ("no # a remark", Some("no")),
        ("~", None),
        ("null", None),
        ("", None),
        ("[no]", None),
        ("{a: b}", None),
        ("{secret: no}", None),
    ] {
        let server = format!(
            "apiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {{name: a}}\nspec:\n  \
             source: {{command: [serve]}}\n  env:\n    V: {written}\n"
        );
        let (manifest, resolved) = revision(&[("r.yaml", LOCAL), ("a.yaml", &server)], None);
        assert_eq!(env(&resolved).as_deref(), arrives, "{written}: {:?}", manifest.diagnostics);
        assert_eq!(manifest.diagnostics.is_empty(), arrives.is_some(), "{written}");
        assert!(
            manifest.diagnostics.iter().all(|fault| fault.hint.is_some() || written.starts_with(['[', '{']))
        );
    }
}

/// One document that cannot be read, between two that can.
fn between(middle: &str) -> (ParsedFile, Vec<&'static str>) {
    let text = format!("{}---\n{middle}\n---\n{}", runner("before"), runner("after"));
    let file = parse(text.as_bytes());
    let codes = codes(&file);
    (file, codes)
}

#[test]
fn deep_nesting_ends_in_a_diagnostic() {
    const DEPTH: usize = 5_000;
    let head = "apiVersion: toolcrib.dev/v1alpha1\nkind: Runner\nmetadata: {name: deep}\nspec:\n  process: {}\n  attributes:\n    x: ";
    let indented = (0..1_500).fold(String::new(), |text, level| text + &format!("\n{:level$}k:", ""));
    for (what, middle) in [
        ("lists in brackets", format!("{head}{}{}", "[".repeat(DEPTH), "]".repeat(DEPTH))),
        ("brackets left open", format!("{head}{}", "[".repeat(DEPTH))),
        ("mappings in braces", format!("{head}{}{}", "{a: ".repeat(DEPTH), "}".repeat(DEPTH))),
        ("lists in lines", format!("{head}\n      {}x", "- ".repeat(DEPTH))),
        ("mappings in lines", format!("a:{indented} 1")),
        ("one of each", format!("{head}\n      {}{}{}", "- ".repeat(60), "[".repeat(60), "]".repeat(60))),
        ("keys that are lists", format!("{head}{}", "? [".repeat(DEPTH))),
        ("aliases of lists", format!("{head}{}", "&a [*a, ".repeat(DEPTH))),
    ] {
        let (file, found) = between(&middle);
        let code = if what == "keys that are lists" { "syntax" } else { "too-deep" };
        assert!(found.contains(&code), "{what}: {found:?}");
        assert!(file.diagnostics.len() < 10, "{what}: {found:?}");
        let named: Vec<&str> =
            file.resources.iter().map(|declared| declared.metadata.name.as_str()).collect();
        assert_eq!(named.first(), Some(&"before"), "{what}");
        assert!(file.diagnostics.iter().all(|fault| fault.to_string().len() < 2_000), "{what}");
    }
}

#[test]
fn bombs_and_masses_end_in_a_diagnostic() {
    let head = "apiVersion: toolcrib.dev/v1alpha1\nkind: Runner\nmetadata: {name: bomb}\nspec:\n  process: {}\n  attributes:\n";
    let laughs = (1..40).fold(String::new(), |text, level| {
        let below = format!("*l{}, ", level - 1).repeat(9);
        text + &format!("    l{level}: &l{level} [{below}]\n")
    });
    for (middle, code) in [
        (format!("{head}    l0: &l0 [x]\n{laughs}"), "too-large"),
        (format!("{head}    x: [{}]", "1,".repeat(250_000)), "too-large"),
        (format!("{head}    x: &x [*x]"), "unknown-anchor"),
        (format!("{head}{}", "    k: 1\n".repeat(2)), "duplicate-key"),
    ] {
        let (_, found) = between(&middle);
        assert!(found.contains(&code), "{code}: {found:?}");
    }
    let most = format!("{}# {}", runner("a"), "x".repeat(MAX_MANIFEST_BYTES));
    assert_eq!(codes(&parse(most.as_bytes())), ["too-large"]);
    let hundred = vec![b'a'; 100 << 20];
    assert_eq!(codes(&parse(&hundred)), ["too-large"]);
}

#[test]
fn bytes_that_are_no_text_are_shown_where_they_are() {
    for (bytes, line, column, message) in [
        (&b"a: b\nc: \x00\n# toolcrib"[..], 2, 4, "NUL"),
        (b"a: \xff # toolcrib", 1, 4, "not UTF-8"),
        (b"\xef\xbb\xbfa: b\nc: \xe9\n# toolcrib", 2, 4, "not UTF-8"),
        (b"a: \xed\xa0\x80 # toolcrib", 1, 4, "not UTF-8"),
        (b"\xff\xfea\0p\0 toolcrib", 1, 4, "NUL"),
    ] {
        let file = parse(bytes);
        assert_eq!(codes(&file), ["not-text"]);
        let Diagnostic { place, message: said, .. } = &file.diagnostics[0];
        let place = place.as_ref().unwrap();
        assert_eq!((place.line, place.column), (line, column), "{bytes:?}");
        assert!(said.contains(message) && file.broken && file.ours, "{said}");
    }
    for mark in ["\u{feff}", ""] {
        for end in ["\n", "\r\n"] {
            let text = format!("{mark}{}", LOCAL.replace('\n', end));
            let file = parse(text.as_bytes());
            assert!(file.diagnostics.is_empty() && file.resources.len() == 1, "{mark:?} {end:?}");
        }
    }
}
