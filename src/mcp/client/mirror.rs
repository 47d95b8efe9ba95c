//! Arguments that a modern server over HTTP wants repeated in headers (`x-mcp-header`).
//!
//! Input: the tools a server lists. Output: for each, which argument goes in which `Mcp-Param-…`
//! header. A tool whose annotations break the rules must not be offered. Source: SEP-2243.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ::http::HeaderName;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::http::headers::Mirrored;
use crate::mcp::wire::raw;

const KEY: &str = "x-mcp-header";

/// How deep a schema is looked into; serde reads no deeper either.
const DEPTH: usize = 128;

/// By tool name: the arguments that go in headers.
pub(super) type Mirrors = HashMap<String, Vec<Mirror>>;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mirror {
    /// From the root of the arguments.
    path: Vec<String>,
    header: HeaderName,
}

/// What tools want mirrored, and the tools that say it in a way that cannot be followed, with why.
pub(super) fn read(tools: &[Arc<str>]) -> (Mirrors, Vec<(String, String)>) {
    let (mut mirrors, mut invalid) = (Mirrors::new(), Vec::new());
    for tool in tools.iter().filter(|tool| tool.contains(KEY)) {
        let Ok(Value::Object(tool)) = serde_json::from_str(tool) else { continue };
        let (Some(Value::String(name)), Some(Value::Object(schema))) =
            (tool.get("name"), tool.get("inputSchema"))
        else {
            continue;
        };
        match annotations(schema) {
            Ok(found) if found.is_empty() => {}
            Ok(found) => drop(mirrors.insert(name.clone(), found)),
            Err(reason) => invalid.push((name.clone(), reason)),
        }
    }
    (mirrors, invalid)
}

/// Adds the headers a call of the tool wants.
pub(super) fn add(mirrored: &mut Mirrored, mirrors: &[Mirror], params: Option<&RawValue>) {
    let Some(arguments) = params.and_then(|params| raw::get(params, "arguments")) else { return };
    for Mirror { path, header } in mirrors {
        let Some(value) = path.iter().try_fold(arguments, |value, key| raw::get(value, key)) else {
            continue;
        };
        match raw::text_of(value) {
            Some(text) => mirrored.push(header, &text),
            // Numbers and booleans, as they are written.
            None if !value.get().starts_with(['{', '[', 'n']) => mirrored.push(header, value.get()),
            None => {}
        }
    }
}

/// The annotations of a schema: on properties that can be reached by `properties` alone, each a token,
/// none twice, and of a type that fits a header.
fn annotations(schema: &Map<String, Value>) -> Result<Vec<Mirror>, String> {
    let mut found = Vec::new();
    properties(schema, &mut Vec::new(), &mut found)?;
    let all: usize = schema.values().map(|value| count(value, DEPTH)).sum();
    if all != found.len() || schema.contains_key(KEY) {
        return Err(format!("`{KEY}` stands where it cannot be reached by `properties` alone"));
    }
    let mut names = HashSet::new();
    match found.iter().find(|mirror| !names.insert(&mirror.header)) {
        Some(twice) => Err(format!("the header `{}` is wanted twice", twice.header)),
        None => Ok(found),
    }
}

fn properties(
    schema: &Map<String, Value>,
    path: &mut Vec<String>,
    found: &mut Vec<Mirror>,
) -> Result<(), String> {
    let Some(Value::Object(properties_of)) = schema.get("properties") else { return Ok(()) };
    for (name, property) in properties_of {
        let Value::Object(property) = property else { continue };
        path.push(name.clone());
        if let Some(annotation) = property.get(KEY) {
            found.push(Mirror { path: path.clone(), header: header(annotation, property, path)? });
        }
        properties(property, path, found)?;
        path.pop();
    }
    Ok(())
}

fn header(annotation: &Value, property: &Map<String, Value>, path: &[String]) -> Result<HeaderName, String> {
    let path = path.join(".");
    let fits = property.get("type").and_then(Value::as_str);
    if !matches!(fits, Some("string" | "integer" | "boolean")) {
        return Err(format!("`{path}` is no string, integer or boolean"));
    }
    let token = annotation.as_str().filter(|token| !token.is_empty());
    let name = token.and_then(|token| HeaderName::try_from(format!("mcp-param-{token}")).ok());
    name.ok_or_else(|| format!("`{KEY}` of `{path}` is no header name"))
}

/// How often an annotation stands anywhere below.
fn count(value: &Value, depth: usize) -> usize {
    match value {
        _ if depth == 0 => 0,
        Value::Object(map) => {
            let own = map
                .iter()
                .filter(|(key, _)| !matches!(key.as_str(), "default" | "const" | "enum" | "examples"));
            usize::from(map.contains_key(KEY)) + own.map(|(_, value)| count(value, depth - 1)).sum::<usize>()
        }
        Value::Array(items) => items.iter().map(|item| count(item, depth - 1)).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(schema: &str) -> Arc<str> {
        format!(r#"{{"name":"t","inputSchema":{schema}}}"#).into()
    }

    #[test]
    fn annotated_arguments_go_in_headers() {
        let schema = r#"{"properties":{
            "region":{"type":"string","x-mcp-header":"Region"},
            "plain":{"type":"string"},
            "deep":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}}},
            "no":{"type":"boolean","x-mcp-header":"No"}}}"#;
        let (mirrors, invalid) = read(&[tool(schema), r#"{"name":"u"}"#.into()]);
        assert!(invalid.is_empty(), "{invalid:?}");
        let params = r#"{"name":"t","arguments":{"region":" é","deep":{"n":7},"no":null}}"#;
        let params = raw::into_raw(params.to_owned()).expect("JSON");
        let mut mirrored = Mirrored::default();
        add(&mut mirrored, &mirrors["t"], Some(&params));
        assert_eq!(mirrored.pairs(), [("mcp-param-region", "=?base64?IMOp?="), ("mcp-param-n", "7")]);
    }

    #[test]
    fn annotations_that_break_the_rules_are_told() {
        let cases = [
            (r#"{"x-mcp-header":"A"}"#, "cannot be reached"),
            (r#"{"properties":{"a":{"items":{"x-mcp-header":"A","type":"string"}}}}"#, "cannot be reached"),
            (r#"{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}"#, "is no string"),
            (r#"{"properties":{"a":{"type":"string","x-mcp-header":"A B"}}}"#, "is no header name"),
            (r#"{"properties":{"a":{"type":"string","x-mcp-header":""}}}"#, "is no header name"),
            (
                r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}"#,
                "is wanted twice",
            ),
        ];
        for (schema, message) in cases {
            let (mirrors, invalid) = read(&[tool(schema)]);
            assert!(mirrors.is_empty() && invalid[0].1.contains(message), "{schema}: {invalid:?}");
        }
    }
}
