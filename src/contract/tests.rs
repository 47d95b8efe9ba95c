//! Answers against expectations.

use serde_json::json;

use super::*;
use crate::resource::{Kind, Name};

fn difference(expect: &Value, result: &Value, shown: bool) -> Option<String> {
    let test = json!({"name": "t", "expect": expect});
    let test: ContractTest = serde_json::from_value(test).unwrap();
    let id = ResourceId::new(Kind::Tool, Name::parse("x").unwrap());
    judge(&id, &test, Ok(&result.to_string()), shown).difference
}

fn said(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

#[test]
fn everything_that_is_named_has_to_hold() {
    let warned = json!({"content": [
        {"type": "text", "text": "hello\n", "_meta": {"dev.toolcrib/stream": "stdout"}},
        {"type": "text", "text": "warning", "_meta": {"dev.toolcrib/stream": "stderr"}},
    ]});
    let failed = json!({"isError": true, "content": [
        {"type": "text", "text": "", "_meta": {"dev.toolcrib/stream": "stdout"}},
        {"type": "text", "text": "no such file", "_meta": {"dev.toolcrib/stream": "stderr"}},
    ]});
    let cases = [
        (json!({}), said("anything"), None),
        (json!({"text": "hello"}), said("hello\n"), None),
        (json!({"text": "hello"}), warned.clone(), None),
        (
            json!({"contains": "warning"}),
            warned,
            Some("expected a text with \"warning\"; answered: \"hello\""),
        ),
        (json!({"text": "hello"}), said("hallo"), Some("expected the text \"hello\"; answered: \"hallo\"")),
        (json!({"contains": "ell"}), said("hello"), None),
        (json!({"matches": "^h.*o$"}), said("hello\n"), None),
        (
            json!({"matches": "^o"}),
            said("hello"),
            Some("expected a text that matches `^o`; answered: \"hello\""),
        ),
        (json!({"json": {"a": [1]}}), said("{\"a\": [1]}\n"), None),
        (
            json!({"json": {"a": 2}}),
            said("{\"a\": 1}"),
            Some("expected the JSON \"{\\\"a\\\":2}\"; answered: \"{\\\"a\\\":1}\""),
        ),
        (json!({"json": 1}), said("one"), Some("expected JSON; answered: \"one\"")),
        (json!({"structured": {"a": 1}}), json!({"structuredContent": {"a": 1}}), None),
        (
            json!({"structured": {"a": 1}}),
            said("x"),
            Some("expected the structured content \"{\\\"a\\\":1}\"; answered: none"),
        ),
        (json!({}), failed.clone(), Some("it failed: \"\\nno such file\"")),
        (json!({"error": true, "contains": "such"}), failed.clone(), None),
        (
            json!({"error": true, "contains": "more"}),
            failed,
            Some("expected a text with \"more\"; answered: \"\\nno such file\""),
        ),
        (json!({"error": true}), said("fine"), Some("an error is expected; answered: \"fine\"")),
        (
            json!({"text": "a", "contains": "b"}),
            said("a"),
            Some("expected a text with \"b\"; answered: \"a\""),
        ),
    ];
    for (expect, result, expected) in cases {
        assert_eq!(difference(&expect, &result, true).as_deref(), expected, "{expect} {result}");
    }
}

#[test]
fn what_may_hold_a_secret_is_not_told_and_nothing_is_told_at_length() {
    let told = difference(&json!({"text": "a"}), &said("canary"), false).unwrap();
    assert_eq!(told, "expected the text \"a\"; answered: not shown, since it may hold a secret");
    let told = difference(&json!({"json": {}}), &said("[\"canary\"]"), false).unwrap();
    assert!(!told.contains("canary"), "{told}");
    assert!(difference(&json!({"text": "a"}), &said(&"b".repeat(9999)), true).unwrap().chars().count() < 500);
}
