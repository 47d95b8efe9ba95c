//! One table in a TOML file, everything else untouched.

use serde_json::Value;
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TomlError};

use super::EditError;
use crate::convert::SyntaxError;
use crate::convert::detect::toml_value;

fn parse(text: &str) -> Result<DocumentMut, EditError> {
    text.parse().map_err(|error: TomlError| {
        // Its own text shows the line, with a caret.
        EditError::Syntax { format: "TOML", source: SyntaxError(error.to_string().trim_end().to_owned()) }
    })
}

pub(super) fn set(text: &str, key: &str, name: &str, entry: &Value) -> Result<String, EditError> {
    let mut document = parse(text)?;
    let new = || {
        let mut servers = Table::new();
        // Only the tables in it have a heading.
        servers.set_implicit(true);
        Item::Table(servers)
    };
    let servers = document.as_table_mut().entry(key).or_insert_with(new);
    let servers = servers.as_table_like_mut().ok_or_else(|| EditError::NotObject(key.to_owned()))?;
    let mut table = Table::new();
    for (field, value) in entry.as_object().into_iter().flatten() {
        table.insert(field, item(value));
    }
    if let Some(there) = servers.get(name).and_then(Item::as_table) {
        *table.decor_mut() = there.decor().clone();
        if let Some(position) = there.position() {
            table.set_position(Some(position));
        }
    } else if !text.trim().is_empty() {
        table.decor_mut().set_prefix("\n");
    }
    servers.insert(name, Item::Table(table));
    Ok(document.to_string())
}

pub(super) fn remove(text: &str, key: &str, name: &str) -> Result<String, EditError> {
    let mut document = parse(text)?;
    let Some(servers) = document.get_mut(key) else { return Ok(text.to_owned()) };
    let servers = servers.as_table_like_mut().ok_or_else(|| EditError::NotObject(key.to_owned()))?;
    Ok(if servers.remove(name).is_some() { document.to_string() } else { text.to_owned() })
}

pub(super) fn get(text: &str, key: &str, name: &str) -> Result<Option<Value>, EditError> {
    let document = parse(text)?;
    let Some(servers) = document.get(key) else { return Ok(None) };
    let servers = servers.as_table_like().ok_or_else(|| EditError::NotObject(key.to_owned()))?;
    Ok(servers.get(name).map(toml_value))
}

fn item(value: &Value) -> Item {
    toml_of(value).map_or(Item::None, Item::Value)
}

fn toml_of(value: &Value) -> Option<toml_edit::Value> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(truth) => (*truth).into(),
        Value::Number(number) => {
            number.as_i64().map_or_else(|| number.as_f64().map(Into::into), |whole| Some(whole.into()))?
        }
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().filter_map(toml_of).collect::<Array>().into(),
        Value::Object(fields) => {
            let mut table = InlineTable::new();
            for (key, value) in fields {
                if let Some(value) = toml_of(value) {
                    table.insert(key, value);
                }
            }
            table.into()
        }
    })
}
