//! What is served, in the words of others.
//!
//! Input: published definitions. Output: definitions as the metatool document has them, `server.json` of
//! the MCP registry. Invariant: equal input gives equal output. Not here: asking what is served.

use serde_json::{Map, Value, json};

use super::server_json::{ServerJson, Transport};
use crate::resource::ResourceId;

/// One published tool.
#[derive(Clone, Copy, Debug)]
pub struct Tool<'a> {
    pub name: &'a str,
    pub owner: &'a ResourceId,
    /// As clients get it.
    pub definition: &'a Value,
}

/// The definition of a tool: arguments by name and type, its whole schema, and where it is called.
pub fn definition(tool: &Tool<'_>, endpoint: &str) -> Value {
    let Tool { name, owner, definition } = tool;
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| {
        if !value.is_null() {
            out.insert(key.to_owned(), value);
        }
    };
    let take = |key: &str| definition.get(key).cloned().unwrap_or_default();
    put("name", json!(name));
    put("title", take("title"));
    put("description", take("description"));
    put("type", json!("mcp"));
    put("args", arguments(&definition["inputSchema"]));
    put("input_schema", take("inputSchema"));
    put("output_schema", take("outputSchema"));
    put("annotations", take("annotations"));
    put("icon_url", definition["icons"][0]["src"].clone());
    put("source", json!(owner.to_string()));
    put("service", json!({"type": "streamable-http", "url": endpoint, "tool": name}));
    Value::Object(out)
}

/// Arguments in the order of the schema, those it requires marked.
fn arguments(schema: &Value) -> Value {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    let argument = |(name, property): (&String, &Value)| {
        let mut out = Map::new();
        out.insert("name".to_owned(), json!(name));
        out.insert("type".to_owned(), json!(type_of(property)));
        let mut put = |key: &str, value: Option<&Value>| {
            if let Some(value) = value {
                out.insert(key.to_owned(), value.clone());
            }
        };
        put("description", property.get("description"));
        put("default", property.get("default"));
        put("options", property.get("enum"));
        out.insert("required".to_owned(), json!(required.contains(&name.as_str())));
        Value::Object(out)
    };
    properties.map(argument).collect()
}

/// One word for what a property takes; what is several things at once is the first that is something.
fn type_of(property: &Value) -> &str {
    let named = match &property["type"] {
        Value::String(kind) => Some(kind.as_str()),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
        _ => None,
    };
    let nested = || {
        let any = property.get("anyOf").or(property.get("oneOf")).and_then(Value::as_array)?;
        any.iter().map(type_of).find(|kind| *kind != "null")
    };
    let listed = || match property.get("enum").or(property.get("const"))? {
        Value::Array(values) => values.first().map(kind_of),
        value => Some(kind_of(value)),
    };
    named.or_else(nested).or_else(listed).unwrap_or("object")
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The endpoint as a remote server, as the MCP registry has it.
pub fn server_json(name: String, description: &str, version: &str, endpoint: &str) -> ServerJson {
    let mut out = ServerJson::new(name, description, version);
    out.remotes.push(Transport::StreamableHttp { url: endpoint.to_owned(), headers: Vec::new() });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_has_arguments_a_schema_and_a_place() {
        let owner = ResourceId::parse("Server/weather").unwrap();
        let source = json!({
            "name": "weather_forecast", "description": "Forecast", "_meta": {"x": 1},
            "icons": [{"src": "https://x/i.png"}],
            "inputSchema": {"type": "object", "required": ["city"], "properties": {
                "city": {"type": "string", "description": "Where"},
                "days": {"anyOf": [{"type": "null"}, {"type": "integer"}], "default": 3},
                "unit": {"enum": ["c", "f"]},
                "tags": {"type": ["null", "array"]},
                "any": {},
            }},
        });
        let tool = Tool { name: "weather_forecast", owner: &owner, definition: &source };
        let out = definition(&tool, "http://h/mcp");
        assert_eq!(
            out["args"],
            json!([
                {"name": "city", "type": "string", "description": "Where", "required": true},
                {"name": "days", "type": "integer", "default": 3, "required": false},
                {"name": "unit", "type": "string", "options": ["c", "f"], "required": false},
                {"name": "tags", "type": "array", "required": false},
                {"name": "any", "type": "object", "required": false},
            ])
        );
        assert_eq!(
            out["service"],
            json!({"type": "streamable-http", "url": "http://h/mcp", "tool": "weather_forecast"})
        );
        assert_eq!((&out["source"], &out["icon_url"]), (&json!("Server/weather"), &json!("https://x/i.png")));
        assert_eq!(out["input_schema"], source["inputSchema"]);
        assert!(out.get("title").is_none() && out.get("_meta").is_none());
    }
}
