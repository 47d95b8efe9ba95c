//! Schemas of documents: what schemars derives from the types, with what comments say put where editors
//! look for it.

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform as _};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::comment::{Comment, value};
use crate::resource::{
    API_VERSION, CribSpec, IntegrationSpec, Kind, Metadata, PolicySpec, RunnerSpec, ServerSpec, ToolSpec,
    ToolsetSpec,
};

/// A name of a schema, not an address: nothing is fetched.
const ID: &str = "https://toolcrib.dev/schemas/v1alpha1";
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The file of a kind's schema, or of all kinds'.
pub fn file_name(kind: Option<Kind>) -> String {
    format!("{}.schema.json", kind.map_or("resource".to_owned(), |kind| kind.as_str().to_lowercase()))
}

/// The schema of the documents of one kind.
pub fn kind(kind: Kind) -> Value {
    let mut defs = Map::new();
    let document = document(kind, &mut defs);
    whole(Some(kind), document, defs)
}

/// The schema of a document of any kind.
pub fn any() -> Value {
    let mut defs = Map::new();
    let mut cases = Vec::new();
    for kind in Kind::ALL {
        let document = document(kind, &mut defs);
        cases.push(json!({
            "if": {"properties": {"kind": {"const": kind.as_str()}}, "required": ["kind"]},
            "then": {"$ref": format!("#/$defs/{kind}")},
        }));
        defs.insert(kind.as_str().to_owned(), document);
    }
    let kinds: Vec<Value> = Kind::ALL.iter().map(|kind| json!(kind.as_str())).collect();
    let document = json!({
        "title": "Resource",
        "description": "A document of Toolcrib, of any kind.",
        "type": "object",
        "properties": {
            "apiVersion": api_version(),
            "kind": {"description": "What is declared.", "type": "string", "enum": kinds},
            "metadata": {"$ref": "#/$defs/Metadata"},
            "spec": {"description": "What is declared of it.", "type": "object"},
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "allOf": cases,
    });
    whole(None, document, defs)
}

fn whole(kind: Option<Kind>, document: Value, mut defs: Map<String, Value>) -> Value {
    let mut whole = Map::new();
    whole.insert("$schema".to_owned(), json!(DIALECT));
    whole.insert("$id".to_owned(), json!(format!("{ID}/{}", file_name(kind))));
    if let Value::Object(document) = document {
        whole.extend(document);
    }
    defs.sort_keys();
    whole.insert("$defs".to_owned(), Value::Object(defs));
    Value::Object(whole)
}

fn api_version() -> Value {
    json!({"description": "The group and version of all documents of Toolcrib.", "const": API_VERSION})
}

/// What the comment of a kind's type says.
pub(super) fn comment(kind: Kind) -> Comment {
    spec(kind, &mut Map::new())
}

/// The schema of a kind's `spec`, put into `defs`.
fn spec(kind: Kind, defs: &mut Map<String, Value>) -> Comment {
    match kind {
        Kind::Crib => part::<CribSpec>("CribSpec", defs),
        Kind::Runner => part::<RunnerSpec>("RunnerSpec", defs),
        Kind::Policy => part::<PolicySpec>("PolicySpec", defs),
        Kind::Integration => part::<IntegrationSpec>("IntegrationSpec", defs),
        Kind::Server => part::<ServerSpec>("ServerSpec", defs),
        Kind::Tool => part::<ToolSpec>("ToolSpec", defs),
        Kind::Toolset => part::<ToolsetSpec>("ToolsetSpec", defs),
    }
}

/// The schema of a document, and in `defs` what it refers to.
fn document(kind: Kind, defs: &mut Map<String, Value>) -> Value {
    let comment = spec(kind, defs);
    part::<Metadata>("Metadata", defs);
    let mut document = json!({
        "title": kind.as_str(),
        "description": comment.text,
        "type": "object",
        "properties": {
            "apiVersion": api_version(),
            "kind": {"description": "What is declared.", "const": kind.as_str()},
            "metadata": {"$ref": "#/$defs/Metadata"},
            "spec": {"$ref": format!("#/$defs/{kind}Spec")},
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": false,
    });
    if let Some(example) = comment.document.as_deref().and_then(value) {
        document["examples"] = json!([example]);
    }
    document
}

/// Puts the schema of a type into `defs` under `name`, with those it refers to. What its comment says.
fn part<T: JsonSchema>(name: &str, defs: &mut Map<String, Value>) -> Comment {
    let mut settings = SchemaSettings::draft2020_12();
    settings.meta_schema = None;
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    let comment = Comment::read(schema.get("description").and_then(Value::as_str).unwrap_or_default());
    schema.remove("title");
    RecursiveTransform(put_right).transform(&mut schema);
    for (name, schema) in schema.remove("$defs").as_ref().and_then(Value::as_object).into_iter().flatten() {
        defs.insert(name.clone(), schema.clone());
    }
    defs.insert(name.to_owned(), schema.to_value());
    comment
}

/// One schema: what its comment says of defaults and examples, and no more than it means.
fn put_right(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    let text = match object.get("type") {
        Some(Value::String(kind)) => kind == "string",
        Some(Value::Array(kinds)) => kinds.contains(&json!("string")),
        _ => false,
    };
    // Where text is wanted, what stands there is text.
    let as_text = |written: &str| text && !written.starts_with('"');
    let read = |written: &str| if as_text(written) { Some(json!(written)) } else { value(written) };
    if let Some(Value::String(text)) = object.get("description") {
        let comment = Comment::read(text);
        object.insert("description".to_owned(), json!(comment.text));
        if let Some(default) = comment.default_value().and_then(read) {
            object.entry("default").or_insert(default);
        }
        let examples: Vec<Value> = comment.examples.iter().filter_map(|text| read(text)).collect();
        if !examples.is_empty() {
            object.insert("examples".to_owned(), Value::Array(examples));
        }
    }
    let nothing = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    if object.get("default").is_some_and(nothing) {
        object.shift_remove("default");
    }
    if object.get("format").and_then(Value::as_str).is_some_and(|format| format != "uri") {
        // Names of Rust's numbers.
        object.shift_remove("format");
    }
    // A number or a truth value where text is wanted is the text that was written.
    let narrow = ["enum", "pattern", "const"].iter().any(|key| object.contains_key(*key));
    match object.get("type") {
        Some(Value::String(kind)) if kind == "string" && !narrow => {
            object.insert("type".to_owned(), json!(["string", "number", "boolean"]));
        }
        Some(Value::Array(kinds)) if !narrow && *kinds == [json!("string"), json!("null")] => {
            object.insert("type".to_owned(), json!(["string", "number", "boolean", "null"]));
        }
        _ => {}
    }
}
