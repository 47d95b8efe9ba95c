//! Changes by table, and the promise behind "compatible" by property.

#![expect(clippy::needless_pass_by_value, reason = "called with literals")]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::schema::Schemas;

/// Changes as lines: `!` breaks, `.` does not.
fn lines(before: &Value, after: &Value, direction: Direction) -> Vec<String> {
    let told = compare(before, after, direction).into_iter();
    told.map(|change| {
        let mark = if change.breaking { '!' } else { '.' };
        format!("{mark} {}: {}", change.path, change.what)
    })
    .collect()
}

#[track_caller]
fn check(before: Value, after: Value, expected: &[&str]) {
    assert_eq!(lines(&before, &after, Direction::Input), expected, "{before} -> {after}");
}

fn closed(properties: Value, required: Value) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

#[test]
fn parameters() {
    let one = closed(json!({"a": {"type": "string"}}), json!([]));
    let two = closed(json!({"a": {"type": "string"}, "b": {"type": "integer"}}), json!([]));
    check(one.clone(), one.clone(), &[]);
    check(one.clone(), two.clone(), &[". b: is new, optional"]);
    check(two.clone(), one.clone(), &["! b: is removed, and what is not declared is refused"]);
    let needed = closed(json!({"a": {"type": "string"}, "b": {"type": "integer"}}), json!(["b"]));
    check(one.clone(), needed.clone(), &["! b: is new and required"]);
    check(two.clone(), needed.clone(), &["! b: is required now"]);
    check(needed.clone(), two.clone(), &[". b: is not required any more"]);
    let open = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    check(one.clone(), open.clone(), &[". : takes what is not declared too"]);
    check(open.clone(), one.clone(), &["! : refuses what is not declared"]);
    let bare = json!({"type": "object"});
    check(open, bare, &[". a: is not declared any more"]);
    let renamed = closed(json!({"c": {"type": "string"}}), json!([]));
    check(one, renamed, &["! a: is removed, and what is not declared is refused", ". c: is new, optional"]);
}

#[test]
fn what_values_may_be() {
    check(
        json!({"type": "string"}),
        json!({"type": "integer"}),
        &["! : changes its type from string to integer"],
    );
    check(json!({"type": "integer"}), json!({"type": "number"}), &[". : may also be of type number"]);
    check(json!({"type": "number"}), json!({"type": "integer"}), &["! : may not be of type number any more"]);
    check(json!({}), json!({"type": "string"}), &["! : has to be of type string"]);
    check(json!({"type": "string"}), json!({}), &[". : may be of any type"]);
    check(
        json!({"enum": ["a", "b"]}),
        json!({"enum": ["b", "c"]}),
        &["! : does not take `\"a\"` any more", ". : takes `\"c\"` too"],
    );
    check(
        json!({"type": "string"}),
        json!({"type": "string", "enum": ["a"]}),
        &["! : is limited to `\"a\"`"],
    );
    check(json!({"enum": ["a"]}), json!({"type": "string", "enum": ["a"]}), &[]);
    check(
        json!({"const": 1}),
        json!({"type": "integer"}),
        &[". : is not limited to certain values any more"],
    );
    check(
        json!({"type": "integer", "maximum": 5}),
        json!({"type": "integer", "maximum": 4}),
        &["! : `maximum` changes from `5` to `4`"],
    );
    check(
        json!({"type": "integer", "minimum": 5}),
        json!({"type": "integer", "minimum": 4}),
        &[". : `minimum` changes from `5` to `4`"],
    );
    check(
        json!({"type": "string"}),
        json!({"type": "string", "maxLength": 4}),
        &["! : `maxLength` is `4` now"],
    );
    check(
        json!({"type": "string", "pattern": "a"}),
        json!({"type": "string", "pattern": "b"}),
        &["! : `pattern` changes from `\"a\"` to `\"b\"`"],
    );
    check(json!({"type": "string", "pattern": "a"}), json!({"type": "string"}), &[". : `pattern` is gone"]);
    check(
        json!({"type": "string", "default": "a"}),
        json!({"type": "string", "default": "b"}),
        &[". : `default` changes from `\"a\"` to `\"b\"`"],
    );
    check(json!({"type": "string", "description": "a"}), json!({"type": "string", "description": "b"}), &[]);
    check(
        json!({"type": "array", "items": {"type": "string"}}),
        json!({"type": "array", "items": {"type": "null"}}),
        &["! []: changes its type from string to null"],
    );
    check(json!(true), json!(false), &["! : takes nothing any more"]);
    check(json!({"not": {"type": "null"}}), json!({}), &[". : `not` is gone"]);
    // What another type means nothing to, changes nothing.
    check(json!({"type": "string", "maximum": 5}), json!({"type": "string"}), &[]);
}

#[test]
fn forms() {
    let optional = json!({"anyOf": [{"type": "string"}, {"type": "null"}]});
    check(json!({"type": "string"}), optional.clone(), &[". : takes `null` too"]);
    check(optional.clone(), json!({"type": "string"}), &["! : does not take `null` any more"]);
    check(optional.clone(), json!({"anyOf": [{"type": "null"}, {"type": "string"}]}), &[]);
    check(optional.clone(), json!({"type": ["null", "string"]}), &[]);
    check(
        optional,
        json!({"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]}),
        &["! : `maxLength` is `3` now"],
    );
    check(
        json!({"oneOf": [{"type": "object", "title": "a"}]}),
        json!({"oneOf": [{"type": "object"}, {"type": "object", "required": ["a"]}]}),
        &["! : takes other forms, in a way that cannot be told"],
    );
    check(
        json!({"allOf": [{"type": "string"}, {"maxLength": 3}]}),
        json!({"type": "string", "maxLength": 3}),
        &[],
    );
}

#[test]
fn references_are_followed() {
    let with = |inner: Value| json!({"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": inner}});
    check(with(json!({"type": "string"})), with(json!({"type": "string"})), &[]);
    check(
        with(json!({"type": "string"})),
        with(json!({"type": "null"})),
        &["! a: changes its type from string to null"],
    );
    check(with(json!({"type": "string"})), json!({"properties": {"a": {"type": "string"}}}), &[]);
    let tree =
        |leaf: &str| with(json!({"properties": {"next": {"$ref": "#/$defs/A"}, "leaf": {"type": leaf}}}));
    check(tree("string"), tree("string"), &[]);
    check(tree("string"), tree("null"), &["! a.leaf: changes its type from string to null"]);
    check(
        json!({"$ref": "#/nowhere"}),
        json!({"$ref": "#/elsewhere"}),
        &["! : refers to a schema that is not there"],
    );
    let hidden = |inner: &str| json!({"not": {"$ref": "#/$defs/A"}, "$defs": {"A": {"type": inner}}});
    assert_eq!(lines(&hidden("string"), &hidden("null"), Direction::Input).len(), 1);
}

#[test]
fn outputs_are_the_other_way_round() {
    let out = |before: Value, after: Value| lines(&before, &after, Direction::Output);
    let one = closed(json!({"a": {"type": "string"}}), json!(["a"]));
    let two = closed(json!({"a": {"type": "string"}, "b": {"type": "string"}}), json!(["a"]));
    assert_eq!(out(one.clone(), two), ["! b: is new, optional"]);
    let open = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
    let more =
        json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "required": ["a", "b"]});
    assert_eq!(out(open.clone(), more), [". b: is new and required"]);
    let loose = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    assert_eq!(out(open, loose), ["! a: is not required any more"]);
    assert_eq!(out(json!({"enum": ["a"]}), json!({"enum": ["a", "b"]})), ["! : takes `\"b\"` too"]);
    // Whatever a property was, where nothing else is let through it is gone.
    let odd = closed(json!({"b": {"oneOf": [{}, {}]}}), json!([]));
    let said = lines(&odd, &closed(json!({}), json!([])), Direction::Output);
    assert_eq!(said, [". b: is removed, and what is not declared is refused"]);
}

#[test]
fn much_is_cut_and_never_looks_harmless() {
    let wide = |kind: &str| {
        let properties: serde_json::Map<String, Value> =
            (0..500).map(|n| (format!("p{n}"), json!({"type": kind}))).collect();
        json!({"type": "object", "properties": properties})
    };
    let told = compare(&wide("string"), &wide("null"), Direction::Input);
    assert_eq!(told.len(), MAX_CHANGES);
    assert!(told.iter().all(|change| change.breaking));
    let deep =
        |kind: &str| (0..60).fold(json!({"type": kind}), |inner, _| json!({"properties": {"a": inner}}));
    let told = compare(&deep("string"), &deep("null"), Direction::Input);
    assert!(told.iter().any(|change| change.breaking), "{told:?}");
}

/// Small schemas over small values, so that pairs of them have much in common.
fn schemas() -> impl Strategy<Value = Value> {
    let kinds = prop::sample::subsequence(vec!["string", "integer", "number", "null", "boolean"], 1..=2);
    let leaf = prop_oneof![
        Just(json!({})),
        Just(json!(true)),
        Just(json!(false)),
        kinds.prop_map(|kinds| json!({"type": kinds})),
        prop::sample::subsequence(vec![json!("a"), json!("bb"), json!(1), json!(2), Value::Null], 1..=4)
            .prop_map(|values| json!({"enum": values})),
        (0..3_u8, 0..3_u8)
            .prop_map(|(least, most)| json!({"type": "integer", "minimum": least, "maximum": most})),
        (0..3_u8).prop_map(|most| json!({"maxLength": most})),
        (0..3_u8).prop_map(|least| json!({"type": "string", "minLength": least})),
        Just(json!({"type": "string", "pattern": "^a"})),
        Just(json!({"$ref": "#/$defs/A"})),
        Just(json!({"not": {"$ref": "#/$defs/A"}})),
    ];
    let inner = leaf.prop_recursive(2, 12, 3, |inner| {
        let required = prop::sample::subsequence(vec!["a", "b"], 0..=2);
        let object = (prop::option::of(inner.clone()), prop::option::of(inner.clone()), required, any::<bool>());
        let object = object.prop_map(|(a, b, required, open)| {
            let mut properties = Map::new();
            properties.extend(a.map(|a| ("a".to_owned(), a)));
            properties.extend(b.map(|b| ("b".to_owned(), b)));
            // What is not described may be anything only where everything is described.
            let open = open && properties.len() == 2;
            json!({"type": "object", "properties": properties, "required": required, "additionalProperties": open})
        });
        prop_oneof![
            object,
            (prop::option::of(inner.clone()), 0..3_u8)
                .prop_map(|(items, most)| json!({"type": "array", "items": items.unwrap_or(json!({})), "maxItems": most})),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|forms| json!({"anyOf": forms})),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|forms| json!({"oneOf": forms})),
            prop::collection::vec(inner, 1..3).prop_map(|parts| json!({"allOf": parts})),
        ]
    });
    let named = prop::sample::select(vec![
        json!({"type": "string"}),
        json!({"type": "null"}),
        json!({"enum": ["a", 1]}),
    ]);
    (inner, named).prop_map(|(mut schema, named)| {
        if let Some(keywords) = schema.as_object_mut() {
            keywords.insert("$defs".to_owned(), json!({"A": named}));
        }
        if schema.is_object() { schema } else { json!({"allOf": [schema], "$defs": {"A": named}}) }
    })
}

/// Everything small.
fn values() -> Vec<Value> {
    let scalars = vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(1),
        json!(2),
        json!(1.5),
        json!(""),
        json!("a"),
        json!("bb"),
        json!("ccc"),
    ];
    let mut all = scalars.clone();
    all.extend([
        json!([]),
        json!({}),
        json!([["a"]]),
        json!([{"a": 1}]),
        json!({"a": {"b": "a"}}),
        json!({"a": {"a": 1, "b": "bb"}}),
        json!({"b": [1]}),
    ]);
    for one in &scalars {
        all.extend([json!([one]), json!({"a": one}), json!({"b": one})]);
        for other in &scalars {
            all.extend([json!([one, other]), json!({"a": one, "b": other})]);
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// The promise: what is not told as breaking breaks nobody.
    #[test]
    fn compatible_means_that_every_value_still_fits(before in schemas(), after in schemas()) {
        let broken = |direction| compare(&before, &after, direction).iter().any(|change| change.breaking);
        let (narrower, wider) = (broken(Direction::Input), broken(Direction::Output));
        let schemas = Schemas::default();
        let (was, now) = (before.to_string(), after.to_string());
        for value in values() {
            let (fitted, fits) = (schemas.check(&was, &value).is_ok(), schemas.check(&now, &value).is_ok());
            prop_assert!(narrower || !fitted || fits, "{value} is taken by {was} and not by {now}");
            prop_assert!(wider || !fits || fitted, "{value} is taken by {now} and not by {was}");
        }
    }

    #[test]
    fn a_schema_does_not_differ_from_itself(schema in schemas()) {
        prop_assert_eq!(compare(&schema, &schema, Direction::Input), vec![]);
        prop_assert_eq!(compare(&schema, &schema, Direction::Output), vec![]);
    }

    #[test]
    fn outputs_mirror_inputs(before in schemas(), after in schemas()) {
        let broken = |before, after, direction| compare(before, after, direction).iter().any(|change| change.breaking);
        prop_assert_eq!(broken(&before, &after, Direction::Output), broken(&after, &before, Direction::Input));
    }

    #[test]
    fn words_alone_break_nobody(schema in schemas(), text in "[a-z ]{0,9}") {
        let mut described = schema.clone();
        if let Some(keywords) = described.as_object_mut() {
            keywords.insert("description".to_owned(), json!(text));
            keywords.insert("examples".to_owned(), json!([1]));
        }
        prop_assert_eq!(compare(&schema, &described, Direction::Input), vec![]);
    }
}
