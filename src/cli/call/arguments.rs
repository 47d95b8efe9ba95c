//! `key=value` to JSON, as the tool's schema wants it. Pure.

use serde_json::{Map, Value};

use crate::cli::error::{CliError, CliResult};

/// Schemas inside schemas that are looked through for types.
const MAX_DEPTH: usize = 8;

/// Reads `key=value` pairs; a key that is given twice, or whose schema wants an array, is an array.
///
/// # Errors
/// When a pair has no `=`, or a value is not of a type the schema allows.
pub(in crate::cli) fn parse(pairs: &[String], schema: &Value) -> CliResult<Map<String, Value>> {
    let mut arguments = Map::new();
    for pair in pairs {
        let (key, text) = pair.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
            CliError::usage(format!("`{pair}` is not key=value"))
                .hint("write name=Ada, or all arguments as --json '{\"name\": \"Ada\"}'")
        })?;
        let property = &schema["properties"][key];
        let types = types(property, schema, 0);
        let many = types.contains(&"array") && !text.trim_start().starts_with('[');
        if many {
            let items = self::types(&property["items"], schema, 0);
            let item = value(key, text, &items)?;
            match arguments.entry(key).or_insert_with(|| Value::Array(Vec::new())) {
                Value::Array(list) => list.push(item),
                other => *other = item,
            }
            continue;
        }
        let value = value(key, text, &types)?;
        match arguments.get_mut(key) {
            None => {
                arguments.insert(key.to_owned(), value);
            }
            Some(Value::Array(list)) => list.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Ok(arguments)
}

/// The types a schema allows; empty when it does not say.
fn types<'a>(schema: &'a Value, root: &'a Value, depth: usize) -> Vec<&'a str> {
    if depth > MAX_DEPTH {
        return Vec::new();
    }
    let mut found: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    for key in ["anyOf", "oneOf"] {
        for branch in schema[key].as_array().map_or(&[][..], Vec::as_slice) {
            found.extend(types(branch, root, depth + 1));
        }
    }
    if let Some(pointer) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'))
        && let Some(target) = root.pointer(pointer)
    {
        found.extend(types(target, root, depth + 1));
    }
    if found.is_empty() && schema["enum"].as_array().is_some_and(|all| all.iter().all(Value::is_string)) {
        found.push("string");
    }
    found
}

fn value(key: &str, text: &str, types: &[&str]) -> CliResult<Value> {
    let parsed = serde_json::from_str::<Value>(text).ok();
    if types.is_empty() {
        return Ok(parsed.unwrap_or_else(|| text.into()));
    }
    let fits = |value: &Value| {
        types.iter().any(|name| match *name {
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => false,
        })
    };
    match parsed.filter(fits) {
        Some(value) => Ok(value),
        None if types.contains(&"string") => Ok(text.into()),
        None => Err(CliError::usage(format!("`{key}`: `{text}` is not {}", types.join(" or ")))
            .hint("`toolcrib tools NAME` shows what the tool takes")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_follow_the_schema() {
        let schema = json!({
            "properties": {
                "name": {"type": "string"}, "count": {"type": "integer"}, "deep": {"type": "object"},
                "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "either": {"type": ["integer", "string"]}, "on": {"type": "boolean"},
                "paths": {"type": "array", "items": {"type": "string"}},
                "level": {"$ref": "#/$defs/Level"}
            },
            "$defs": {"Level": {"enum": ["low", "high"]}}
        });
        let parse = |pairs: &[&str]| {
            let pairs: Vec<String> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
            super::parse(&pairs, &schema).map(Value::Object)
        };
        for (pairs, expected) in [
            (&["name=5", "count=5"][..], json!({"name": "5", "count": 5})),
            (&["name=a=b", "name="], json!({"name": ["a=b", ""]})),
            (&["maybe=null"], json!({"maybe": null})),
            (&["maybe=x", "either=7", "on=true"], json!({"maybe": "x", "either": 7, "on": true})),
            (&["paths=1", "paths=b"], json!({"paths": ["1", "b"]})),
            (&["paths=[\"a\"]", "deep={\"x\":1}"], json!({"paths": ["a"], "deep": {"x": 1}})),
            (&["level=low", "free=1", "other=x"], json!({"level": "low", "free": 1, "other": "x"})),
        ] {
            assert_eq!(parse(pairs).unwrap(), expected, "{pairs:?}");
        }
        for wrong in ["name", "=x", "count=many", "on=yes", "deep=[]"] {
            assert!(parse(&[wrong]).is_err(), "{wrong}");
        }
    }
}
