//! What clients are offered: tools, prompts and resources, added, removed, and changed in what a model or
//! a caller reads of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value};

use super::offered::{Offers, definition, own_name};
use super::schema::{self, Direction, SchemaChange};
use super::text::TextChange;
use super::{Change, Concern, Marked, Side, scan, tokens};
use crate::catalog::{Entry, List};
use crate::manifest::{Declared, Place};
use crate::resource::{ResourceId, Spec};

/// Texts of one definition that are compared. A generated schema has some hundreds.
const MAX_TEXTS: usize = 2_000;
/// Objects inside each other that are looked into.
const MAX_DEPTH: usize = 64;
/// Characters of one value that is shown.
const MAX_VALUE: usize = 200;

/// Which list an entry is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    Tool,
    Prompt,
    Resource,
    Template,
}

impl EntryKind {
    fn of(list: List) -> Self {
        match list {
            List::Tools => Self::Tool,
            List::Prompts => Self::Prompt,
            List::Resources => Self::Resource,
            List::Templates => Self::Template,
        }
    }

    pub fn noun(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Prompt => "prompt",
            Self::Resource => "resource",
            Self::Template => "resource template",
        }
    }
}

/// A text of a definition that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedText {
    /// `description`, `inputSchema.properties.city.description`.
    pub path: String,
    pub change: TextChange,
}

/// A value that changed, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ValueChange {
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// One entry of the catalog that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryChange {
    pub kind: EntryKind,
    /// The published name, or the URI.
    pub name: String,
    pub change: Change,
    /// Whether a caller may have to be changed.
    pub breaking: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renamed_from: Option<String>,
    pub owner: ResourceId,
    /// Where the resource is declared.
    pub place: Option<Place>,
    pub texts: Vec<NamedText>,
    pub input: Vec<SchemaChange>,
    pub output: Vec<SchemaChange>,
    /// Annotations, and every other member that is no text and no schema.
    pub values: Vec<ValueChange>,
    /// Estimated tokens of a model's context, before and after.
    pub tokens: (usize, usize),
}

type Key<'e> = (EntryKind, &'e ResourceId, &'e str);

/// Entries by where they come from, so that a new name is a new name of the same.
fn keyed(offers: &Offers) -> BTreeMap<Key<'_>, &Entry> {
    let mut keyed = BTreeMap::new();
    for (list, entry) in offers.entries() {
        let entry: &Entry = entry;
        keyed.insert((EntryKind::of(list), &entry.owner, own_name(entry)), entry);
    }
    keyed
}

pub(super) fn compare(
    offers: (&Offers, &Offers),
    sides: (&Side<'_>, &Side<'_>),
) -> (Vec<EntryChange>, Vec<Marked>) {
    let (was, now) = (keyed(offers.0), keyed(offers.1));
    let (mut changes, mut marks) = (Vec::new(), Vec::new());
    for (key, entry) in &now {
        let before = was.get(key);
        let (old, new) = (before.map(|entry| definition(entry)), definition(entry));
        let renamed = before.filter(|before| before.name != entry.name).map(|before| before.name.to_string());
        if renamed.is_none() && old.as_ref() == Some(&new) {
            continue;
        }
        let change = if before.is_some() { Change::Changed } else { Change::Added };
        let mut found = EntryChange::new(key.0, entry, change, sides.1);
        found.compare(old.as_ref().unwrap_or(&Value::Null), &new);
        found.breaking = change == Change::Changed && (renamed.is_some() || found.breaks());
        found.renamed_from = renamed;
        let declared = sides.1.manifest.resources.get(&entry.owner);
        marks.extend(found.marked(old.as_ref(), &new, declared.map(AsRef::as_ref)));
        changes.push(found);
    }
    for (key, entry) in was.iter().filter(|(key, _)| !now.contains_key(*key)) {
        let mut found = EntryChange::new(key.0, entry, Change::Removed, sides.0);
        found.breaking = true;
        found.tokens.0 = tokens::of_tool(&definition(entry));
        changes.push(found);
    }
    (changes, marks)
}

impl EntryChange {
    fn new(kind: EntryKind, entry: &Entry, change: Change, side: &Side<'_>) -> Self {
        let declared = side.manifest.resources.get(&entry.owner);
        Self {
            kind,
            name: entry.name.to_string(),
            change,
            breaking: false,
            renamed_from: None,
            owner: entry.owner.clone(),
            place: declared.map(|declared| declared.place.clone()),
            texts: Vec::new(),
            input: Vec::new(),
            output: Vec::new(),
            values: Vec::new(),
            tokens: (0, 0),
        }
    }

    fn breaks(&self) -> bool {
        self.input.iter().chain(&self.output).any(|schema| schema.breaking)
    }

    /// Fills in what differs between two definitions; `Null` is none.
    fn compare(&mut self, before: &Value, after: &Value) {
        let (was, now) = (texts(before), texts(after));
        for path in was.keys().chain(now.keys().filter(|path| !was.contains_key(*path))) {
            let text = |side: &BTreeMap<String, String>| side.get(path).cloned().unwrap_or_default();
            let change = TextChange::between(&text(&was), &text(&now));
            self.texts.extend(change.map(|change| NamedText { path: path.clone(), change }));
        }
        // The description of the whole first, as a model reads it.
        self.texts.sort_by_key(|text| text.path.matches('.').count());
        let both = before.is_object();
        let schemas = |key: &str, direction: Direction| match (before.get(key), after.get(key)) {
            (Some(before), Some(after)) => schema::compare(before, after, direction),
            (None, Some(_)) if both => vec![whole("is declared now", false)],
            (Some(_), None) if both => vec![whole("is not declared any more", true)],
            _ => Vec::new(),
        };
        self.input = schemas("inputSchema", Direction::Input);
        self.output = schemas("outputSchema", Direction::Output);
        self.values = values(before, after);
        let tokens =
            |definition: &Value| if definition.is_object() { tokens::of_tool(definition) } else { 0 };
        self.tokens = (tokens(before), tokens(after));
    }

    /// Marks in texts that were not there before.
    fn marked(&self, before: Option<&Value>, after: &Value, declared: Option<&Declared>) -> Vec<Marked> {
        let mut old = BTreeSet::new();
        if let Some(before) = before {
            strings(before, &mut String::new(), 0, &mut |_, text| {
                old.insert(text.to_owned());
            });
        }
        let mut marks = Vec::new();
        strings(after, &mut String::new(), 0, &mut |path, text| {
            if old.contains(text) {
                return;
            }
            marks.extend(scan(text).into_iter().map(|mark| Marked {
                resource: self.owner.clone(),
                entry: Some(self.name.clone()),
                field: path.to_owned(),
                place: declared.map(|declared| place(declared, path)),
                mark,
            }));
        });
        marks
    }
}

fn whole(what: &str, breaking: bool) -> SchemaChange {
    SchemaChange { path: String::new(), what: what.to_owned(), breaking }
}

/// Members that are told otherwise.
fn told_elsewhere(key: &str) -> bool {
    matches!(key, "name" | "uri" | "uriTemplate" | "title" | "description" | "inputSchema" | "outputSchema")
}

/// Members that are no text and no schema, those of annotations one by one.
fn values(before: &Value, after: &Value) -> Vec<ValueChange> {
    let empty = Map::new();
    let flat = |definition: &Value| -> BTreeMap<String, Value> {
        let members = definition.as_object().unwrap_or(&empty);
        let mut flat = BTreeMap::new();
        for (key, value) in members.iter().filter(|(key, _)| !told_elsewhere(key)) {
            match value {
                Value::Object(inner) if key == "annotations" => {
                    let inner = inner.iter().filter(|(name, _)| *name != "title");
                    flat.extend(inner.map(|(name, value)| (format!("annotations.{name}"), value.clone())));
                }
                _ => {
                    flat.insert(key.clone(), value.clone());
                }
            }
        }
        flat
    };
    let (was, now) = (flat(before), flat(after));
    let paths: BTreeSet<&String> = was.keys().chain(now.keys()).collect();
    let changed = paths.into_iter().filter(|path| was.get(*path) != now.get(*path));
    changed
        .map(|path| ValueChange {
            path: path.clone(),
            before: was.get(path).map(shown),
            after: now.get(path).map(shown),
        })
        .collect()
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    let mut cut: String = text.chars().take(MAX_VALUE).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

/// Descriptions and titles of a definition, whatever they describe, by their place.
fn texts(definition: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    strings(definition, &mut String::new(), 0, &mut |path, text| {
        let key = path.rsplit('.').next().unwrap_or_default();
        if matches!(key, "description" | "title") && found.len() < MAX_TEXTS {
            found.insert(path.to_owned(), text.to_owned());
        }
    });
    found
}

/// Every text of a value with its place: a model reads all of them.
fn strings(value: &Value, path: &mut String, depth: usize, take: &mut impl FnMut(&str, &str)) {
    if depth > MAX_DEPTH {
        return;
    }
    let length = path.len();
    match value {
        Value::String(text) => take(path, text),
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                // Writing to a string cannot fail.
                let _ = write!(path, "[{at}]");
                strings(item, path, depth + 1, take);
                path.truncate(length);
            }
        }
        Value::Object(members) => {
            for (key, member) in members {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
                strings(member, path, depth + 1, take);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// Where a text of a definition is written: of a tool in its manifest, of others where they are declared.
fn place(declared: &Declared, path: &str) -> Place {
    let Spec::Tool(spec) = &declared.spec else { return declared.place.clone() };
    let short = path.strip_prefix("inputSchema.properties.").filter(|_| spec.parameters.is_some());
    let field = short.map_or_else(|| format!("spec.{path}"), |path| format!("spec.parameters.{path}"));
    declared.place_of(&field.split('.').collect::<Vec<_>>())
}

/// Annotations that make a tool look safer than before: clients ask nobody for such a call.
pub(super) fn concerns(changes: &[EntryChange]) -> Vec<Concern> {
    let mut concerns = Vec::new();
    for change in changes.iter().filter(|change| change.change == Change::Changed) {
        for value in &change.values {
            let after = value.after.as_deref();
            let safer = match value.path.as_str() {
                "annotations.readOnlyHint" | "annotations.idempotentHint" => after == Some("true"),
                "annotations.destructiveHint" | "annotations.openWorldHint" => after == Some("false"),
                _ => false,
            };
            if safer {
                concerns.push(Concern {
                    widens: true,
                    resource: change.owner.clone(),
                    code: "claims-to-be-safer",
                    says: "claims of itself what makes clients ask less".to_owned(),
                    before: None,
                    after: Some(format!("{}: {}: {}", change.name, value.path, after.unwrap_or_default())),
                    place: change.place.clone(),
                });
            }
        }
    }
    concerns
}
