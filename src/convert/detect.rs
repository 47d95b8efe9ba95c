//! What kind of file it is, and its content as a tree.

use serde_json::Value;

use super::{ConvertError, SyntaxError};

/// The foreign formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `servers_to_sync.json`: FastMCP servers in Git repositories.
    ServersToSync,
    /// `mcpServers` and its kin: what desktop clients and editors are configured with.
    Clients,
    /// `server.json` of the MCP registry.
    ServerJson,
    /// A catalog of the Docker MCP gateway.
    Catalog,
    /// Definitions of containerised tools.
    Definitions,
}

impl Format {
    pub const ALL: [Self; 5] =
        [Self::ServersToSync, Self::Clients, Self::ServerJson, Self::Catalog, Self::Definitions];

    /// As it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServersToSync => "servers-to-sync",
            Self::Clients => "clients",
            Self::ServerJson => "server-json",
            Self::Catalog => "catalog",
            Self::Definitions => "definitions",
        }
    }
}

/// Where clients keep their servers; the first that is there is read.
pub(super) const CLIENT_KEYS: [&str; 6] =
    ["mcpServers", "context_servers", "mcp_servers", "servers", "mcp", "projects"];

/// JSON with comments and trailing commas, else TOML (which clients have), else YAML.
pub(super) fn parse(text: &str) -> Result<Value, ConvertError> {
    let begins = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("//"));
    if begins.is_some_and(|line| line.starts_with(['{', '[', '/'])) && !is_toml_table(begins) {
        return json(text);
    }
    if text.lines().any(|line| line.trim_start().starts_with("[mcp_servers")) {
        return toml(text);
    }
    let fault = |source: String| ConvertError::Syntax { format: "YAML", source: SyntaxError(source) };
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = serde::Deserialize::deserialize(document).map_err(|error| fault(error.to_string()))?;
        documents.push(value);
    }
    match documents.len() {
        1 => Ok(documents.remove(0)),
        _ => Ok(Value::Array(documents.into_iter().filter(|value| !value.is_null()).collect())),
    }
}

fn is_toml_table(line: Option<&str>) -> bool {
    line.and_then(|line| line.strip_prefix('[')).is_some_and(|rest| {
        rest.trim_end().ends_with(']')
            && rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && !rest.starts_with("true")
            && !rest.starts_with("false")
            && !rest.starts_with("null")
    })
}

/// JSON as configurations of programs are written: with comments and trailing commas, and in all else
/// as the standard has it.
pub(super) fn lenient() -> jsonc_parser::ParseOptions {
    jsonc_parser::ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_extended_string_escapes: false,
        allow_non_finite_numbers: false,
    }
}

fn json(text: &str) -> Result<Value, ConvertError> {
    jsonc_parser::parse_to_serde_value::<Value>(text, &lenient())
        .map_err(|error| ConvertError::Syntax { format: "JSON", source: SyntaxError(error.to_string()) })
}

fn toml(text: &str) -> Result<Value, ConvertError> {
    let document: toml_edit::DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        ConvertError::Syntax { format: "TOML", source: SyntaxError(error.to_string()) }
    })?;
    Ok(toml_value(document.as_item()))
}

pub(super) fn toml_value(item: &toml_edit::Item) -> Value {
    if let Some(table) = item.as_table_like() {
        return Value::Object(table.iter().map(|(key, item)| (key.to_owned(), toml_value(item))).collect());
    }
    if let Some(tables) = item.as_array_of_tables() {
        let table = |table: &toml_edit::Table| toml_value(&toml_edit::Item::Table(table.clone()));
        return Value::Array(tables.iter().map(table).collect());
    }
    match item.as_value() {
        Some(toml_edit::Value::String(text)) => Value::String(text.value().clone()),
        Some(toml_edit::Value::Integer(number)) => Value::from(*number.value()),
        Some(toml_edit::Value::Float(number)) => Value::from(*number.value()),
        Some(toml_edit::Value::Boolean(truth)) => Value::Bool(*truth.value()),
        Some(toml_edit::Value::Array(items)) => {
            Value::Array(items.iter().map(|item| toml_value(&toml_edit::Item::Value(item.clone()))).collect())
        }
        Some(other) => Value::String(other.to_string().trim().to_owned()),
        None => Value::Null,
    }
}

/// The format, when what the file holds leaves no doubt.
pub(super) fn format(value: &Value) -> Option<Format> {
    match value {
        Value::Array(items) => items.iter().find_map(|item| item.is_object().then(|| entry(item))).flatten(),
        Value::Object(fields) => {
            if fields.get("registry").is_some_and(Value::is_object) {
                return Some(Format::Catalog);
            }
            let servers = fields.get("servers").and_then(Value::as_array);
            let of_registry = fields.contains_key("server")
                || fields.contains_key("packages")
                || fields.contains_key("remotes")
                || fields
                    .get("$schema")
                    .and_then(Value::as_str)
                    .is_some_and(|schema| schema.contains("/server.schema"));
            if of_registry || servers.is_some() {
                return Some(Format::ServerJson);
            }
            let client = |key: &str| fields.get(key).is_some_and(Value::is_object);
            if CLIENT_KEYS.iter().any(|key| client(key)) {
                return Some(Format::Clients);
            }
            entry(value).or_else(|| named(fields))
        }
        _ => None,
    }
}

fn entry(value: &Value) -> Option<Format> {
    let has = |key: &str| value.get(key).is_some();
    if has("git_repo_url") || has("server_file_path") || (has("id") && (has("docker_image") || has("mode"))) {
        return Some(Format::ServersToSync);
    }
    if has("tool_definition")
        || (has("name") && (has("container") || has("image") || has("content") || has("args")))
    {
        return Some(Format::Definitions);
    }
    (has("packages") || has("remotes")).then_some(Format::ServerJson)
}

/// Tools by name, or one client's servers without the key around them.
fn named(fields: &serde_json::Map<String, Value>) -> Option<Format> {
    let all = |keys: &[&str]| {
        !fields.is_empty() && fields.values().all(|value| keys.iter().any(|key| value.get(key).is_some()))
    };
    if all(&["command", "url", "serverUrl", "httpUrl"]) {
        return Some(Format::Clients);
    }
    all(&["image", "container"]).then_some(Format::Definitions)
}
