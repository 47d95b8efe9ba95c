//! One entry in a JSON file with comments, everything else untouched.

use jsonc_parser::cst::{CstInputValue, CstObject, CstRootNode};
use serde_json::Value;

use super::EditError;
use crate::convert::SyntaxError;
use crate::convert::detect::lenient;

fn parse(text: &str) -> Result<(CstRootNode, CstObject), EditError> {
    let root = CstRootNode::parse(text, &lenient())
        .map_err(|error| EditError::Syntax { format: "JSON", source: SyntaxError(error.to_string()) })?;
    let top = root.object_value_or_create().ok_or_else(|| EditError::NotObject("the file".to_owned()))?;
    Ok((root, top))
}

pub(super) fn set(text: &str, key: &str, name: &str, entry: &Value) -> Result<String, EditError> {
    let (root, top) = parse(text)?;
    let servers = top.object_value_or_create(key).ok_or_else(|| EditError::NotObject(key.to_owned()))?;
    match servers.get(name) {
        Some(there) => there.set_value(input(entry)),
        None => {
            servers.append(name, input(entry));
        }
    }
    Ok(ended(text, root.to_string()))
}

pub(super) fn remove(text: &str, key: &str, name: &str) -> Result<String, EditError> {
    let (root, top) = parse(text)?;
    let Some(servers) = top.get(key) else { return Ok(text.to_owned()) };
    let servers = servers.object_value().ok_or_else(|| EditError::NotObject(key.to_owned()))?;
    let Some(there) = servers.get(name) else { return Ok(text.to_owned()) };
    there.remove();
    Ok(root.to_string())
}

pub(super) fn get(text: &str, key: &str, name: &str) -> Result<Option<Value>, EditError> {
    let (_, top) = parse(text)?;
    let Some(servers) = top.get(key) else { return Ok(None) };
    let servers = servers.object_value().ok_or_else(|| EditError::NotObject(key.to_owned()))?;
    Ok(servers.get(name).and_then(|entry| entry.to_serde_value()))
}

/// A new file ends with a line's end; one that was there ends as it did.
fn ended(before: &str, mut after: String) -> String {
    if before.trim().is_empty() && !after.ends_with('\n') {
        after.push('\n');
    }
    after
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(truth) => CstInputValue::Bool(*truth),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(input).collect()),
        Value::Object(fields) => {
            CstInputValue::Object(fields.iter().map(|(key, value)| (key.clone(), input(value))).collect())
        }
    }
}
