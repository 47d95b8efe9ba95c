//! The short form of parameters to JSON Schema, and what of a schema is published.
//!
//! A parameter of the short form is a JSON Schema with five rules: a word alone is its type, the type
//! is `string` where none follows from the rest, `required: true` makes it required (else it is
//! optional), `split` and `allowDash` say how it fills the command, and arguments that are not declared
//! are refused.

use serde_json::{Map, Value, json};

use super::place::Findings;
use crate::manifest::schema::{TYPES, problems, type_hint};
use crate::manifest::suggest::nearest;
use crate::resource::tool::ToolSpec;

/// What is ours in the schema of a parameter, and is not published.
const OURS: [&str; 2] = ["split", "allowDash"];

/// The keywords of JSON Schema 2020-12 that a parameter may use.
const KEYWORDS: [&str; 42] = [
    "type",
    "title",
    "description",
    "default",
    "enum",
    "const",
    "examples",
    "deprecated",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "contentEncoding",
    "contentMediaType",
    "items",
    "prefixItems",
    "contains",
    "minContains",
    "maxContains",
    "minItems",
    "maxItems",
    "uniqueItems",
    "properties",
    "patternProperties",
    "additionalProperties",
    "propertyNames",
    "minProperties",
    "maxProperties",
    "dependentRequired",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "$ref",
    "$defs",
    "$comment",
    "readOnly",
];

/// The input schema of a tool.
pub(super) struct Input {
    /// As it is published.
    pub(super) schema: Value,
    /// Its properties with what is ours in them.
    pub(super) properties: Map<String, Value>,
}

pub(super) fn input(spec: &ToolSpec, findings: &mut Findings<'_>) -> Input {
    match (&spec.parameters, &spec.input_schema) {
        (Some(parameters), _) => short(&parameters.unpack(), findings),
        (None, Some(schema)) => full(&schema.unpack()),
        (None, None) => Input { schema: object(Map::new(), Vec::new()), properties: Map::new() },
    }
}

fn object(properties: Map<String, Value>, required: Vec<Value>) -> Value {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".to_owned(), Value::Array(required));
    }
    schema.insert("additionalProperties".to_owned(), json!(false));
    Value::Object(schema)
}

fn full(schema: &Value) -> Input {
    let mut published = schema.clone();
    let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(properties) = published.get_mut("properties").and_then(Value::as_object_mut) {
        for property in properties.values_mut().filter_map(Value::as_object_mut) {
            property.retain(|key, _| !OURS.contains(&key.as_str()));
        }
    }
    Input { schema: published, properties }
}

fn short(parameters: &Map<String, Value>, findings: &mut Findings<'_>) -> Input {
    let (mut published, mut properties, mut required) = (Map::new(), Map::new(), Vec::new());
    for (name, declared) in parameters {
        let Some(mut schema) = parameter(name, declared, findings) else { continue };
        if schema.shift_remove("required") == Some(Value::Bool(true)) {
            required.push(Value::String(name.clone()));
        }
        properties.insert(name.clone(), Value::Object(schema.clone()));
        schema.retain(|key, _| !OURS.contains(&key.as_str()));
        published.insert(name.clone(), Value::Object(schema));
    }
    let schema = object(published, required);
    whole(&schema, findings);
    Input { schema, properties }
}

/// Faults of the schema that the parameters make, at the parameter that has them.
fn whole(schema: &Value, findings: &mut Findings<'_>) {
    for problem in problems(schema) {
        let Some((_, below)) = problem.path.split_first().filter(|(first, _)| *first == "properties") else {
            continue;
        };
        // Types of parameters were looked at before.
        if problem.of_type && below.get(1).is_some_and(|key| key == "type") && below.len() < 4 {
            continue;
        }
        let path: Vec<&str> = std::iter::once("parameters").chain(below.iter().map(String::as_str)).collect();
        findings.error(&path, "invalid-schema", problem.message, &problem.hint);
    }
}

/// One parameter, with its type filled in.
fn parameter(name: &str, declared: &Value, findings: &mut Findings<'_>) -> Option<Map<String, Value>> {
    let path = ["parameters", name];
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
        let message = format!("`{name}` cannot name a parameter");
        findings.error(&path, "invalid-value", message, "use at most 64 of a-z, A-Z, 0-9, `_`, `-` and `.`");
    }
    let mut schema = match declared {
        Value::Object(schema) => schema.clone(),
        Value::String(kind) => Map::from_iter([("type".to_owned(), json!(kind))]),
        Value::Null => Map::new(),
        _ => {
            let message = format!("the parameter `{name}` is neither a type nor a mapping");
            findings.error(&path, "wrong-type", message, "write `{type: string, description: …}`");
            return None;
        }
    };
    for key in schema.keys() {
        let known = KEYWORDS.iter().chain(&OURS).copied().chain(["required"]);
        if !known.clone().any(|known| known == key) && !key.starts_with("x-") {
            let hint = match nearest(key, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "use keywords of JSON Schema, `required`, `split` or `allowDash`".to_owned(),
            };
            findings.error(
                &["parameters", name, key],
                "unknown-field",
                format!("there is no field `{key}` here"),
                &hint,
            );
        }
    }
    if schema.get("required").is_some_and(|required| !required.is_boolean()) {
        let hint = "write `required: true`; fields of an object are required in its own `inputSchema`";
        findings.error(
            &["parameters", name, "required"],
            "wrong-type",
            "`required` is neither true nor false",
            hint,
        );
    }
    kinds(name, schema.get("type"), findings);
    if !["type", "enum", "const", "allOf", "anyOf", "oneOf", "$ref"]
        .iter()
        .any(|key| schema.contains_key(*key))
    {
        let rest = std::mem::take(&mut schema);
        schema.insert("type".to_owned(), json!("string"));
        schema.extend(rest);
    }
    Some(schema)
}

fn kinds(name: &str, kind: Option<&Value>, findings: &mut Findings<'_>) {
    let listed = match kind {
        None => return,
        Some(Value::Array(kinds)) => kinds.iter().map(Value::as_str).collect(),
        Some(kind) => vec![kind.as_str()],
    };
    for kind in listed {
        if kind.is_some_and(|kind| TYPES.contains(&kind)) {
            continue;
        }
        let kind = kind.unwrap_or_default();
        let hint = type_hint(kind);
        let message = format!("`{kind}` is not a type");
        findings.error(&["parameters", name, "type"], "unknown-value", message, &hint);
    }
}
