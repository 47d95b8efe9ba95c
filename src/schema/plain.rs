//! Schemas that anybody sees are one.
//!
//! Most are a list of parameters with a type and a description. Judging them by the rules of a draft
//! takes a hundred times as long as looking at them, and a validator that stays in memory; ten thousand
//! are read at a start.

use serde_json::{Map, Value};

/// Schemas within schemas: what is deeper is judged by the rules.
const MAX_DEPTH: usize = 16;

/// Whether it is a schema in every draft from 6 on: every keyword is one of the common ones, with a value
/// that it takes. When not, it may still be one.
pub(super) fn is_plain(schema: &Value) -> bool {
    plain(schema, MAX_DEPTH)
}

fn plain(schema: &Value, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    match schema {
        Value::Bool(_) => true,
        Value::Object(keywords) => keywords.iter().all(|(keyword, value)| takes(keyword, value, depth)),
        _ => false,
    }
}

fn takes(keyword: &str, value: &Value, depth: usize) -> bool {
    match keyword {
        "title" | "description" => value.is_string(),
        "default" | "const" => true,
        "enum" => value.as_array().is_some_and(|values| !values.is_empty() && distinct(values)),
        "examples" => value.is_array(),
        "type" => value.as_str().is_some_and(is_type),
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => value.is_number(),
        "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" => {
            value.is_u64()
        }
        "uniqueItems" => value.is_boolean(),
        "items" | "additionalProperties" => plain(value, depth),
        "properties" => value.as_object().is_some_and(|each| all_plain(each, depth)),
        "required" => {
            value.as_array().is_some_and(|names| names.iter().all(Value::is_string) && distinct(names))
        }
        _ => false,
    }
}

fn all_plain(schemas: &Map<String, Value>, depth: usize) -> bool {
    schemas.values().all(|schema| plain(schema, depth))
}

fn is_type(name: &str) -> bool {
    matches!(name, "string" | "integer" | "number" | "boolean" | "array" | "object" | "null")
}

/// Lists are short; a long one is judged by the rules.
fn distinct(values: &[Value]) -> bool {
    const MAX: usize = 64;
    values.len() <= MAX
        && values.iter().all(Value::is_string)
        && values.iter().enumerate().all(|(n, value)| !values.iter().take(n).any(|before| before == value))
}
