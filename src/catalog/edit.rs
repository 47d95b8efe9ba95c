//! What a server's declaration changes of its tools' definitions.

use serde_json::{Map, Value, json};

use super::definition::Definition;
use crate::desired::Presented;

/// Members of the published definition that differ from the server's, as JSON.
pub(super) fn edits(
    definition: &Definition<'_>,
    presented: &Presented,
    own: &str,
) -> Vec<(&'static str, String)> {
    let mut edits = Vec::new();
    let text = |text: &str| Value::from(text).to_string();
    if let Some(change) = presented.overrides.get(own) {
        edits.extend(change.title.as_deref().map(|title| ("title", text(title))));
        edits.extend(change.description.as_deref().map(|said| ("description", text(said.trim_end()))));
        edits.extend(change.annotations.as_ref().map(|new| ("annotations", merged(definition, new))));
    }
    if let Some(icon) = presented.icon.as_deref().filter(|_| definition.get("icons").is_none()) {
        edits.push(("icons", json!([{"src": icon}]).to_string()));
    }
    edits
}

/// The server's annotations with the declared ones over them; `null` removes one.
fn merged(definition: &Definition<'_>, new: &Map<String, Value>) -> String {
    let theirs = definition.get("annotations").and_then(|text| serde_json::from_str(text).ok());
    let mut all: Map<String, Value> = theirs.unwrap_or_default();
    for (name, value) in new {
        if value.is_null() {
            all.remove(name);
        } else {
            all.insert(name.clone(), value.clone());
        }
    }
    Value::Object(all).to_string()
}
