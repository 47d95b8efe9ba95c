//! Parameters that clients mirror into HTTP headers: `x-mcp-header` in an input schema.
//!
//! Source: MCP 2026-07-28, `basic/transports/streamable-http`, "Custom Headers from Tool Parameters".
//! A definition that breaks the rules there must not be listed.

use std::sync::Arc;

use serde_json::{Map, Value};

/// One annotated parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamHeader {
    /// Of the header: `mcp-param-<name>`, lower case.
    pub header: Arc<str>,
    /// The keys that lead to the value in the arguments.
    pub path: Vec<String>,
}

/// The annotation's key.
const KEY: &str = "x-mcp-header";

/// Reads the annotations of an input schema.
///
/// # Errors
/// What breaks the rules, as a sentence.
pub(super) fn read(schema: &str) -> Result<Arc<[ParamHeader]>, String> {
    // Almost no definition has one.
    if !schema.contains(KEY) {
        return Ok(Arc::default());
    }
    let schema: Value =
        serde_json::from_str(schema).map_err(|error| format!("its inputSchema is not JSON: {error}"))?;
    let mut found = Vec::new();
    if let Value::Object(schema) = &schema {
        walk(schema, &mut Vec::new(), &mut found)?;
    }
    let total = count(&schema);
    if total != found.len() {
        return Err(format!("an `{KEY}` stands where no chain of `properties` leads"));
    }
    Ok(found.into())
}

fn walk(
    schema: &Map<String, Value>,
    path: &mut Vec<String>,
    found: &mut Vec<ParamHeader>,
) -> Result<(), String> {
    let Some(Value::Object(properties)) = schema.get("properties") else { return Ok(()) };
    for (name, property) in properties {
        let Value::Object(property) = property else { continue };
        path.push(name.clone());
        if let Some(header) = property.get(KEY) {
            let header = named(header).ok_or_else(|| format!("the `{KEY}` of `{name}` is no header name"))?;
            let primitive = matches!(
                property.get("type").and_then(Value::as_str),
                Some("string" | "integer" | "boolean")
            );
            if !primitive {
                return Err(format!("the `{KEY}` of `{name}` is not on a string, integer or boolean"));
            }
            if found.iter().any(|other| other.header == header) {
                return Err(format!("the `{KEY}` of `{name}` is there twice"));
            }
            found.push(ParamHeader { header, path: path.clone() });
        }
        walk(property, path, found)?;
        path.pop();
    }
    Ok(())
}

fn named(header: &Value) -> Option<Arc<str>> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let name = header.as_str().filter(|name| !name.is_empty() && name.bytes().all(token))?;
    Some(format!("mcp-param-{}", name.to_ascii_lowercase()).into())
}

/// How many annotations there are anywhere. A property called like the key is none: its value is a
/// schema, so an object or a boolean.
fn count(value: &Value) -> usize {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| {
                usize::from(key == KEY && !value.is_object() && !value.is_boolean()) + count(value)
            })
            .sum(),
        Value::Array(items) => items.iter().map(count).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn annotations_are_read_or_refused() {
        let cases = [
            (r#"{"type":"object"}"#, Ok(vec![])),
            (
                r#"{"properties":{"r":{"type":"string","x-mcp-header":"Region"},"o":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}}}}}"#,
                Ok(vec!["mcp-param-region r", "mcp-param-n o.n"]),
            ),
            (r#"{"properties":{"r":{"type":"number","x-mcp-header":"R"}}}"#, Err("not on a string")),
            (r#"{"properties":{"r":{"type":"string","x-mcp-header":"a b"}}}"#, Err("no header name")),
            (
                r#"{"properties":{"a":{"type":"string","x-mcp-header":"X"},"b":{"type":"string","x-mcp-header":"x"}}}"#,
                Err("twice"),
            ),
            (
                r#"{"properties":{"a":{"type":"array","items":{"type":"string","x-mcp-header":"X"}}}}"#,
                Err("no chain"),
            ),
            (r#"{"properties":{"x-mcp-header":{"type":"string"}}}"#, Ok(vec![])),
        ];
        for (schema, expected) in cases {
            match (read(schema), expected) {
                (Ok(found), Ok(expected)) => {
                    let found: Vec<_> =
                        found.iter().map(|p| format!("{} {}", p.header, p.path.join("."))).collect();
                    assert_eq!(found, expected, "{schema}");
                }
                (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
                (found, expected) => panic!("{schema}: {found:?}, expected {expected:?}"),
            }
        }
    }
}
