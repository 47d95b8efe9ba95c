//! Arguments, schemas and the cache.

use super::*;
use proptest::prelude::*;
use serde_json::json;

#[test]
fn faults_name_their_place() {
    let schemas = Schemas::default();
    let schema = r##"{"type":"object","properties":{"city":{"type":"string","maxLength":5},"days":{"$ref":"#/$defs/n"}},
        "required":["city"],"additionalProperties":false,"$defs":{"n":{"type":"integer"}}}"##;
    let cases = [
        (json!({"city": "Oslo", "days": 2}), ""),
        (json!({"days": 2}), "\"city\" is a required property"),
        (json!({"city": 7}), "`/city`: the value is not of type \"string\""),
        (json!({"city": "Oslo", "days": 1.5}), "`/days`: the value is not of type \"integer\""),
        (json!({"city": "Amsterdam"}), "`/city`: the value is longer than 5 characters"),
        (json!({"city": "Oslo", "x": 1}), "Additional properties are not allowed ('x' was unexpected)"),
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

/// Schemas of the common keywords, with values that fit and values that do not.
fn schemas() -> impl Strategy<Value = Value> {
    let keywords = || {
        prop::sample::select(
            [
                "type",
                "title",
                "default",
                "enum",
                "examples",
                "minimum",
                "maxLength",
                "uniqueItems",
                "items",
                "additionalProperties",
                "properties",
                "required",
                "pattern",
                "anyOf",
                "x-ours",
            ]
            .as_slice(),
        )
    };
    let leaf = prop_oneof![
        Just(json!("string")),
        Just(json!("strin")),
        Just(json!(3)),
        Just(json!(-1)),
        Just(json!(2.5)),
        Just(json!(true)),
        Just(json!(null)),
        Just(json!({})),
        Just(json!([])),
        Just(json!(["a", "b"])),
        Just(json!(["a", "a"])),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop::collection::hash_map(keywords(), inner, 0..4)
            .prop_map(|each| each.into_iter().map(|(keyword, value)| (keyword.to_owned(), value)).collect())
    })
}

proptest! {
    #[test]
    fn what_is_plainly_a_schema_is_one_by_the_rules(schema in schemas()) {
        if plain::is_plain(&schema) {
            prop_assert_eq!(dialect::judged(&schema), Vec::new());
        }
    }
}

#[test]
fn a_list_of_parameters_is_plainly_a_schema() {
    let parameters = json!({
        "type": "object",
        "properties": {"city": {"type": "string", "description": "Where"}, "days": {"type": "integer", "minimum": 1}},
        "required": ["city"],
        "additionalProperties": false,
    });
    assert!(plain::is_plain(&parameters));
    for fault in
        [json!({"type": "strin"}), json!({"pattern": "("}), json!({"required": ["a", "a"]}), json!([])]
    {
        assert!(!plain::is_plain(&fault), "{fault}");
    }
}
