//! Whether a schema is one, by the rules of the draft it names (2020-12 where it names none).

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use serde_json::Value;

use super::plain::is_plain;

/// Faults of one schema that are told: a document of another kind has thousands.
const MAX_FAULTS: usize = 20;

/// What is wrong in a schema, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Keys and indices from the top of the schema on.
    pub path: Vec<String>,
    pub problem: Problem,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// `$schema` names a dialect that is not known.
    Dialect(String),
    /// A value of `type` that is none.
    NotAType(String),
    /// Something else where a schema is wanted.
    NotASchema,
    /// A keyword has a value that it does not take.
    Value { keyword: String, why: String },
    /// A regular expression that is none.
    Pattern(String),
    /// A reference to nothing.
    NoTarget(String),
    /// A reference to something outside of the schema: nothing is fetched.
    Outside(String),
    /// It cannot be compiled; the text says why.
    Unusable(String),
}

/// What is wrong in a schema, in its order; nothing when it is one.
pub fn faults(schema: &Value) -> Vec<Fault> {
    if is_plain(schema) { Vec::new() } else { judged(schema) }
}

/// The same, by the rules of the draft.
pub(super) fn judged(schema: &Value) -> Vec<Fault> {
    let Ok(rules) = jsonschema::meta::validator_for(schema) else {
        let named = schema.get("$schema").and_then(Value::as_str).unwrap_or_default();
        return vec![Fault { path: vec!["$schema".to_owned()], problem: Problem::Dialect(named.to_owned()) }];
    };
    let mut found: Vec<Fault> = Vec::new();
    for error in rules.iter_errors(schema) {
        let fault = of_rules(&error);
        // One mistake breaks several rules; the first says most of it.
        if !found.iter().any(|known| known.path == fault.path) {
            found.push(fault);
        }
        if found.len() == MAX_FAULTS {
            break;
        }
    }
    if found.is_empty()
        && let Err(error) = super::build(schema)
    {
        found = of_compiling(&error, schema);
    }
    found
}

fn steps(error: &ValidationError<'_>) -> Vec<String> {
    let unescaped = |step: &str| step.replace("~1", "/").replace("~0", "~");
    error.instance_path().as_str().split('/').skip(1).map(unescaped).collect()
}

fn of_rules(error: &ValidationError<'_>) -> Fault {
    let path = steps(error);
    let keyword = path.iter().rev().find(|step| step.parse::<usize>().is_err()).cloned().unwrap_or_default();
    let problem = match error.kind() {
        ValidationErrorKind::AnyOf { .. } if keyword == "type" => {
            let written = error.instance();
            Problem::NotAType(written.as_str().map_or_else(|| written.to_string(), str::to_owned))
        }
        ValidationErrorKind::Type { kind: TypeKind::Multiple(_) } => Problem::NotASchema,
        _ => Problem::Value { keyword, why: error.masked_with("the value").to_string() },
    };
    Fault { path, problem }
}

fn of_compiling(error: &ValidationError<'_>, schema: &Value) -> Vec<Fault> {
    let text = error.to_string();
    match error.kind() {
        ValidationErrorKind::Referencing(_) => {
            let mut references = Vec::new();
            collect(schema, &mut Vec::new(), &mut references);
            let leads_nowhere = |reference: &&(Vec<String>, String)| {
                let name = reference.1.trim_start_matches('#');
                let missing = reference.1.starts_with("#/") && schema.pointer(name).is_none();
                missing || (!name.is_empty() && text.contains(name))
            };
            let of = |(path, reference): &(Vec<String>, String)| {
                let here = reference.starts_with('#');
                let problem = if here { Problem::NoTarget } else { Problem::Outside };
                Fault { path: path.clone(), problem: problem(reference.clone()) }
            };
            let found: Vec<Fault> = references.iter().filter(leads_nowhere).map(of).collect();
            if found.is_empty() {
                vec![Fault { path: Vec::new(), problem: Problem::Unusable(text) }]
            } else {
                found
            }
        }
        ValidationErrorKind::Format { format } if format == "regex" => {
            let written = error.instance();
            let written = written.as_str().map_or_else(|| written.to_string(), str::to_owned);
            vec![Fault { path: steps(error), problem: Problem::Pattern(written) }]
        }
        _ => vec![Fault { path: steps(error), problem: Problem::Unusable(text) }],
    }
}

/// Every reference, with the place of its keyword.
fn collect(schema: &Value, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, String)>) {
    let mut visit = |step: String, value: &Value| {
        path.push(step);
        if let (Some("$ref" | "$dynamicRef"), Some(to)) = (path.last().map(String::as_str), value.as_str()) {
            found.push((path.clone(), to.to_owned()));
        }
        collect(value, path, found);
        path.pop();
    };
    match schema {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| visit(key.clone(), value)),
        Value::Array(items) => items.iter().enumerate().for_each(|(at, value)| visit(at.to_string(), value)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn faults_are_found_at_their_place() {
        let seventh = "http://json-schema.org/draft-07/schema#";
        for (schema, expected) in [
            (json!({"type": "object", "properties": {"a": {"type": ["string", "null"]}}}), ""),
            (json!({"properties": {"type": {"type": "string"}, "$ref": {"enum": ["$ref"]}}}), ""),
            (json!({"items": [{"type": "string"}], "$schema": seventh}), ""),
            (json!({"items": [{"type": "string"}]}), "/items: NotASchema"),
            (json!({"properties": {"a": {"type": "int"}}}), "/properties/a/type: NotAType(\"int\")"),
            (json!({"properties": {"a/b": 5}}), "/properties/a/b: NotASchema"),
            (
                json!({"required": "a", "minProperties": -1}),
                "/required: Value { keyword: \"required\", why: \"the value is not of type \\\"array\\\"\" }; \
                 /minProperties: Value { keyword: \"minProperties\", why: \"the value is less than the minimum of 0\" }",
            ),
            (json!({"properties": {"a": {"pattern": "("}}}), "/properties/a/pattern: Pattern(\"(\")"),
            (
                json!({"properties": {"a": {"$ref": "#/$defs/x"}, "b": {"$ref": "#/$defs/y"}, "c": {"$ref": "#"}}}),
                "/properties/a/$ref: NoTarget(\"#/$defs/x\"); /properties/b/$ref: NoTarget(\"#/$defs/y\")",
            ),
            (json!({"$ref": "https://example.com/x"}), "/$ref: Outside(\"https://example.com/x\")"),
            (json!({"$schema": "https://example.com/d"}), "/$schema: Dialect(\"https://example.com/d\")"),
            (json!([]), ": NotASchema"),
        ] {
            let found: Vec<String> = faults(&schema)
                .iter()
                .map(|fault| {
                    let path = [&[String::new()], &fault.path[..]].concat().join("/");
                    format!("{path}: {:?}", fault.problem)
                })
                .collect();
            assert_eq!(found.join("; "), expected, "{schema}");
        }
    }
}
