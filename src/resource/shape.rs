//! The JSON Schemas of types that read themselves: words, quantities, and values of two forms.
//!
//! Whatever derives its reading derives its schema as well. What is here repeats what a `Deserialize` by
//! hand takes; that they agree is tested with every document of the tests.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::server::{Instructions, Transport};
use super::tool::ArgTemplate;
use super::toolset::{Search, SearchForm};
use super::value::Packed;
use super::workload::Egress;
use super::{Cpu, EnvValue, Memory, Name, Period, SecretRef};

/// A schema that stands where it is used.
macro_rules! inline {
    ($($type:ty: $name:literal = |$generator:ident| $schema:expr;)*) => {$(
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

inline! {
    Name: "Name" = |_generator| json_schema!({
        "type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    });
    Memory: "Memory" = |_generator| json_schema!({
        "type": ["string", "number"], "pattern": "^[0-9.]+([kKMG]|[KMG]i)?$",
    });
    Cpu: "Cpu" = |_generator| json_schema!({"type": ["string", "number"], "pattern": "^[0-9.]+m?$"});
    Period: "Period" = |_generator| json_schema!({
        "type": ["string", "number"], "pattern": "^[0-9.]+(ms|s|m|h)?$",
    });
    Egress: "Egress" = |_generator| json_schema!({
        "type": "string", "pattern": "^[A-Za-z0-9_.-]+(:[0-9]+)?$",
    });
    EnvValue: "EnvValue" = |generator| json_schema!({"anyOf": [
        {"type": "string", "description": "The text, as it is written: `no`, `014` and dates stay what they are."},
        {
            "type": "object",
            "description": "Where a secret is found; the daemon resolves it in memory.",
            "properties": {"secret": generator.subschema_for::<SecretRef>()},
            "required": ["secret"],
            "additionalProperties": false,
        },
    ]});
    Transport: "Transport" = |_generator| json_schema!({"anyOf": [
        transport_type(),
        {
            "type": "object",
            "properties": {
                "type": transport_type(),
                "port": {
                    "type": "integer", "minimum": 1, "maximum": 65535, "default": 8000,
                    "description": "The port the server listens on; not of `stdio`. Default: 8000. Example: `9000`.",
                },
                "path": {
                    "type": "string",
                    "description": "The path of its endpoint; not of `stdio`. Default: `/mcp`, of `sse` `/sse`. Example: `/`.",
                },
            },
            "required": ["type"],
            "additionalProperties": false,
        },
    ]});
    Instructions: "Instructions" = |_generator| json_schema!({"anyOf": [
        {"type": "string", "description": "Instead of what the server says."},
        {
            "type": "object",
            "properties": {"append": {"type": "string", "description": "After what the server says."}},
            "required": ["append"],
            "additionalProperties": false,
        },
    ]});
    ArgTemplate: "ArgTemplate" = |_generator| json_schema!({"anyOf": [
        {"type": "string", "description": "One argument, or several for `${name...}` and `split: words`."},
        {
            "type": "object",
            "description": "Arguments that are there only when a parameter is given.",
            "properties": {
                "if": {"type": "string", "description": "The parameter. Example: `namespace`."},
                "args": {
                    "type": "array", "items": {"type": "string"},
                    "description": "The arguments. Example: `[\"-n\", \"${namespace}\"]`.",
                },
            },
            "required": ["if", "args"],
            "additionalProperties": false,
        },
    ]});
    Search: "Search" = |generator| json_schema!({"anyOf": [
        {"type": "boolean"},
        generator.subschema_for::<SearchForm>(),
    ]});
    Parameters: "Parameters" = |_generator| json_schema!({
        "type": "object",
        "additionalProperties": {
            "description": "A parameter: its type alone, or a JSON Schema with `required`, `split` and `allowDash`.",
            "anyOf": [
            {"type": "string", "enum": TYPES, "description": "The type alone."},
            parameter(),
            {"type": "null", "description": "Text."},
        ]},
    });
}

/// What JSON calls the types of values.
const TYPES: [&str; 7] = ["string", "integer", "number", "boolean", "array", "object", "null"];

fn transport_type() -> Value {
    json!({
        "type": "string",
        "enum": ["stdio", "streamable-http", "sse"],
        "description": "`stdio`: over standard input and output. `streamable-http`: over HTTP. `sse`: over HTTP as it was in MCP 2024-11-05.",
    })
}

/// Stands for the short form of parameters in the schema of a `Tool`.
pub(super) struct Parameters;

fn parameter() -> Value {
    json!({
        "type": "object",
        "description": "JSON Schema 2020-12 with `required`, `split` and `allowDash`.",
        "properties": {
            "type": {
                "anyOf": [
                    {"type": "string", "enum": TYPES},
                    {"type": "array", "items": {"type": "string", "enum": TYPES}},
                ],
                "description": "Its type. Default: string. Example: `integer`.",
            },
            "description": {"type": "string", "description": "What it is: models read this. Example: `Name of the city`."},
            "required": {"type": "boolean", "description": "Whether every call has to give it. Default: false. Example: `true`."},
            "default": {"description": "What stands in when it is not given. Default: none. Example: `default`."},
            "enum": {"type": "array", "description": "The values that are taken. Default: any. Example: `[red, green]`."},
            "split": {
                "type": "string", "enum": ["words"],
                "description": "`words`: its text becomes several arguments, as a shell would split it. Default: it stays one.",
            },
            "allowDash": {"type": "boolean", "description": "Whether its text may begin with `-`. Default: false. Example: `true`."},
        },
    })
}

impl<T: JsonSchema> JsonSchema for Packed<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A mapping that can be written as a word alone.
fn or(schema: &mut Schema, word: &Value) {
    let mut whole = json_schema!({});
    if let Some(description) = schema.remove("description") {
        whole.insert("description".to_owned(), description);
    }
    whole.insert("anyOf".to_owned(), json!([word, schema]));
    *schema = whole;
}

pub(super) fn or_image(schema: &mut Schema) {
    or(schema, &json!({"type": "string", "description": "The image alone."}));
}

pub(super) fn or_volume(schema: &mut Schema) {
    or(schema, &json!({"type": "string", "description": "The name alone."}));
}

pub(super) fn or_running(schema: &mut Schema) {
    or(schema, &json!({"type": "string", "enum": ["always", "on-demand"], "description": "The mode alone."}));
}
