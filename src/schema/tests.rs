//! Arguments, schemas and the cache.

use super::*;
use serde_json::json;

#[test]
fn faults_name_their_place() {
    let schemas = Schemas::default();
    let schema = r##"{"type":"object","properties":{"city":{"type":"string","maxLength":5},"days":{"$ref":"#/$defs/n"}},
        "required":["city"],"additionalProperties":false,"$defs":{"n":{"type":"integer"}}}"##;
    let cases = [
        (json!({"city": "Oslo", "days": 2}), ""),
        (json!({"days": 2}), "`the arguments`: \"city\" is a required property"),
        (json!({"city": 7}), "`/city`: the value is not of type \"string\""),
        (json!({"city": "Oslo", "days": 1.5}), "`/days`: the value is not of type \"integer\""),
        (json!({"city": "Amsterdam"}), "`/city`: the value is longer than 5 characters"),
        (
            json!({"city": "Oslo", "x": 1}),
            "`the arguments`: Additional properties are not allowed ('x' was unexpected)",
        ),
    ];
    for (arguments, expected) in cases {
        let found = schemas.check(schema, &arguments);
        match expected {
            "" => assert!(found.is_ok(), "{found:?}"),
            message => match found {
                Err(SchemaError::Arguments(text)) => assert_eq!(text, message),
                other => panic!("{arguments}: {other:?}"),
            },
        }
    }
}

#[test]
fn schemas_reach_nothing_outside_themselves() {
    for schema in [
        r#"{"$ref":"https://example.com/schema.json"}"#,
        r#"{"$ref":"file:///etc/passwd"}"#,
        r#"{"type":"nonsense"}"#,
        r#"{"$schema":"https://example.com/my-dialect"}"#,
        "{",
    ] {
        assert!(
            matches!(Schemas::default().check(schema, &json!({})), Err(SchemaError::Schema(_))),
            "{schema}"
        );
    }
}

#[test]
fn a_pattern_cannot_hold_a_thread() {
    let schema = r#"{"properties":{"a":{"type":"string","pattern":"^(?=(a+)+$)(a+)+b$"}}}"#;
    let arguments = json!({ "a": "a".repeat(64) });
    assert!(Schemas::default().check(schema, &arguments).is_err());
}

#[test]
fn the_cache_is_bounded_and_used() {
    let schemas = Schemas::default();
    for n in 0..MAX_COMPILED + 10 {
        schemas.check(&format!("{{\"maxProperties\":{n}}}"), &json!({})).expect("fits");
    }
    let compiled = schemas.lock();
    assert_eq!((compiled.by_digest.len(), compiled.order.len()), (MAX_COMPILED, MAX_COMPILED));
}
