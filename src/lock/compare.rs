//! Two sets of definitions to what differs, field by field.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::json::{MAX_DEPTH, canonical, compact, items, members};
use super::{Definitions, Section};

/// One definition that is not the same in both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// None: the instructions of the server.
    pub section: Option<Section>,
    pub name: String,
    pub change: Change,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    Added,
    Removed,
    /// In the order of their places.
    Changed(Vec<FieldChange>),
}

/// One value inside a definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldChange {
    /// Keys and indices with dots between them: `inputSchema.properties.city.description`.
    pub path: String,
    /// JSON; none where it was not there.
    pub before: Option<String>,
    pub after: Option<String>,
}

/// Everything that differs, in the order of sections and names.
pub fn compare(before: &Definitions, after: &Definitions) -> Vec<Difference> {
    let mut all = Vec::new();
    if before.instructions != after.instructions {
        let quoted =
            |text: &Option<String>| text.as_deref().map(|text| serde_json::Value::from(text).to_string());
        let change = match (&before.instructions, &after.instructions) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            (old, new) => Change::Changed(vec![FieldChange {
                path: "instructions".to_owned(),
                before: quoted(old),
                after: quoted(new),
            }]),
        };
        all.push(Difference { section: None, name: "instructions".to_owned(), change });
    }
    for section in Section::ALL {
        let names: BTreeSet<&str> = [before, after]
            .into_iter()
            .flat_map(|side| side.list(section))
            .map(|definition| &*definition.name)
            .collect();
        let by_name = |side| -> BTreeMap<&str, &super::Definition> {
            let list: &[super::Definition] = Definitions::list(side, section);
            // Of one name the first counts.
            list.iter().rev().map(|definition| (&*definition.name, definition)).collect()
        };
        let (old, new) = (by_name(before), by_name(after));
        for name in names {
            let change = match (old.get(name), new.get(name)) {
                (Some(old), Some(new)) if old.same(new) => continue,
                (Some(old), Some(new)) => Change::Changed(fields(&old.text, &new.text)),
                (None, _) => Change::Added,
                (_, None) => Change::Removed,
            };
            all.push(Difference { section: Some(section), name: name.to_owned(), change });
        }
    }
    all
}

/// The values that differ between two JSON texts.
pub(super) fn fields(before: &str, after: &str) -> Vec<FieldChange> {
    let mut found = Vec::new();
    walk(&mut Vec::new(), Some(before.trim()), Some(after.trim()), &mut found);
    found
}

fn walk(path: &mut Vec<String>, before: Option<&str>, after: Option<&str>, found: &mut Vec<FieldChange>) {
    if let (Some(before), Some(after)) = (before, after) {
        if before == after {
            return;
        }
        if path.len() < MAX_DEPTH
            && let (Some(old), Some(new)) = (parts(before), parts(after))
        {
            let keys: BTreeSet<&Key> = old.keys().chain(new.keys()).collect();
            for key in keys {
                path.push(key.to_string());
                walk(path, old.get(key).copied(), new.get(key).copied(), found);
                path.pop();
            }
            return;
        }
        if canonical(before) == canonical(after) {
            return;
        }
    }
    found.push(FieldChange { path: path.join("."), before: before.map(compact), after: after.map(compact) });
}

/// What leads from a value to one inside it. Of members with one name, each but the first has a number:
/// some readers take the first and some the last.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Index(usize),
    Name(String, usize),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "{index}"),
            Self::Name(name, 0) => f.write_str(name),
            Self::Name(name, again) => write!(f, "{name}#{}", again + 1),
        }
    }
}

fn parts(text: &str) -> Option<BTreeMap<Key, &str>> {
    if text.starts_with('{') {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut parts = BTreeMap::new();
        for (name, value) in members(text)? {
            let count = seen.entry(name.to_string()).or_default();
            parts.insert(Key::Name(name.into_owned(), *count), value.get());
            *count += 1;
        }
        return Some(parts);
    }
    if !text.starts_with('[') {
        return None;
    }
    Some(items(text)?.into_iter().enumerate().map(|(at, item)| (Key::Index(at), item.get())).collect())
}

/// Characters of a value that one line shows.
const SHOWN: usize = 160;

fn shown(value: Option<&String>) -> String {
    let Some(value) = value else { return "nothing".to_owned() };
    let mut text: String = value.chars().take(SHOWN).collect();
    if value.chars().nth(SHOWN).is_some() {
        text.push('…');
    }
    super::json::visible(&text)
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {}", self.path, shown(self.before.as_ref()), shown(self.after.as_ref()))
    }
}

impl fmt::Display for Difference {
    /// One line: what it is, what became of it, and which fields.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.section {
            Some(section) => write!(f, "{} `{}` ", section.noun(), self.name)?,
            None => f.write_str("the instructions ")?,
        }
        match &self.change {
            Change::Added => f.write_str("added"),
            Change::Removed => f.write_str("removed"),
            Change::Changed(_) if self.section.is_none() => f.write_str("changed"),
            Change::Changed(fields) => {
                let paths: Vec<&str> = fields.iter().take(4).map(|field| field.path.as_str()).collect();
                let more = if fields.len() > 4 { ", …" } else { "" };
                write!(f, "changed ({}{more})", paths.join(", "))
            }
        }
    }
}
