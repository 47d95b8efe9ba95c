//! Diagnostics in SARIF 2.1.0, the form code scanners exchange.
//!
//! Places are relative to the root of the repository (`%SRCROOT%`), so that a log made on one machine is
//! read on another. Lines and columns count from 1, columns count characters.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::github::sentences;
use crate::manifest::code::{self, Code};
use crate::manifest::{Diagnostic, Place};

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
/// By convention of code scanners: the root of the checkout.
const ROOT: &str = "%SRCROOT%";

/// The log of one run.
pub(super) fn log(diagnostics: &[Diagnostic]) -> Value {
    let met: BTreeSet<&str> = diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
    let rules: Vec<Value> = met.iter().map(|id| rule(id, code::find(id))).collect();
    let results: Vec<Value> = diagnostics.iter().map(|diagnostic| result(diagnostic, &met)).collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "toolcrib",
                "version": env!("CARGO_PKG_VERSION"),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "originalUriBaseIds": {ROOT: {"description": {"text": "The root of the repository."}}},
            "results": results,
        }],
    })
}

fn rule(id: &str, row: Option<&Code>) -> Value {
    let mut rule = json!({"id": id, "name": name(id)});
    if let Some(Code { meaning, help, .. }) = row {
        rule["shortDescription"] = json!({"text": meaning});
        rule["help"] = json!({"text": help});
    }
    rule
}

/// `unknown-field` as `UnknownField`.
fn name(id: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    id.split('-').map(word).collect()
}

fn result(diagnostic: &Diagnostic, met: &BTreeSet<&str>) -> Value {
    let mut result = json!({
        "ruleId": diagnostic.code,
        "ruleIndex": met.iter().position(|id| *id == diagnostic.code),
        "level": diagnostic.severity.as_str(),
        "message": {"text": sentences(diagnostic)},
    });
    let mut location = json!({});
    if let Some(place) = &diagnostic.place {
        location["physicalLocation"] = physical(place, diagnostic.excerpt.as_deref());
    }
    if let Some(resource) = &diagnostic.resource {
        location["logicalLocations"] =
            json!([{"fullyQualifiedName": resource.to_string(), "kind": "resource"}]);
    }
    if location.as_object().is_some_and(|location| !location.is_empty()) {
        result["locations"] = json!([location]);
    }
    result
}

fn physical(place: &Place, excerpt: Option<&str>) -> Value {
    let mut region = json!({"startLine": place.line, "startColumn": place.column});
    if let Some(excerpt) = excerpt {
        region["snippet"] = json!({"text": excerpt});
    }
    json!({
        "artifactLocation": {"uri": uri(place.file.as_str()), "uriBaseId": ROOT},
        "region": region,
    })
}

/// A path as a relative reference (RFC 3986): all but unreserved characters and `/` is escaped.
fn uri(path: &str) -> String {
    use std::fmt::Write as _;
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::RepoPath;

    #[test]
    fn a_log_names_rules_places_and_resources() {
        let file = RepoPath::parse("tools/é #1.yaml").unwrap();
        let diagnostics = [
            Diagnostic::error("unknown-field", "there is no field `comand` here")
                .at(Place { file, line: 3, column: 5 }, Some("  comand: x".to_owned()))
                .hint("did you mean `command`?"),
            Diagnostic::warning("made-up", "nobody knows why"),
        ];
        let log = log(&diagnostics);
        let run = &log["runs"][0];
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        assert_eq!(rules[0], json!({"id": "made-up", "name": "MadeUp"}));
        assert_eq!((&rules[1]["name"], rules[1]["help"]["text"].is_string()), (&json!("UnknownField"), true));
        assert_eq!(
            run["results"][0],
            json!({
                "ruleId": "unknown-field",
                "ruleIndex": 1,
                "level": "error",
                "message": {"text": "there is no field `comand` here\nhelp: did you mean `command`?"},
                "locations": [{"physicalLocation": {
                    "artifactLocation": {"uri": "tools/%C3%A9%20%231.yaml", "uriBaseId": "%SRCROOT%"},
                    "region": {"startLine": 3, "startColumn": 5, "snippet": {"text": "  comand: x"}},
                }}],
            })
        );
        let plain = &run["results"][1];
        assert!(plain["level"] == "warning" && plain["ruleIndex"] == 0 && plain.get("locations").is_none());
    }
}
