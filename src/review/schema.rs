//! Two JSON Schemas: what changed, and whom that breaks.
//!
//! Input: the schema before and after. Output: [`SchemaChange`]s by place. Invariants: a change that is
//! not told as narrowing lets every value through that the schema before described; where that cannot be
//! told (another `pattern`, another `not`), it counts as narrowing and as widening, so that nothing is
//! told as compatible that is not; work is bounded. Values that neither schema describes are not looked
//! at: a new optional property is compatible although a caller might have sent anything under its name.
//! Not here: descriptions and titles, which are text.

mod forms;
mod keywords;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

/// Changes that are told of one schema.
pub const MAX_CHANGES: usize = 100;
/// Schemas inside each other that are compared one by one.
const MAX_DEPTH: usize = 32;
/// Pairs of schemas that are compared; forms are compared each with each.
const MAX_PAIRS: usize = 5_000;

/// Which way values go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Callers send them: taking less breaks callers.
    Input,
    /// Callers read them: giving more breaks callers.
    Output,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SchemaChange {
    /// Names of properties, `[]` for items: `filter.names[]`. Empty: the whole.
    pub path: String,
    /// What happened to it, to be read after the path: "is required now".
    pub what: String,
    /// Whether what worked before may not work any more.
    pub breaking: bool,
}

/// Everything that changed between two schemas; at most [`MAX_CHANGES`].
pub fn compare(before: &Value, after: &Value, direction: Direction) -> Vec<SchemaChange> {
    let mut walk = Walk::new(before, after);
    walk.pair(&mut Path::default(), before, after);
    let breaks = |found: &Found| match direction {
        Direction::Input => found.narrows,
        Direction::Output => found.widens,
    };
    let told = walk.found.iter();
    told.map(|found| SchemaChange {
        path: found.path.clone(),
        what: found.what.clone(),
        breaking: breaks(found),
    })
    .collect()
}

/// One difference, as it concerns the set of values.
#[derive(Clone, Debug)]
struct Found {
    path: String,
    what: String,
    /// Some value is not let through any more.
    narrows: bool,
    /// Some value is let through that was not.
    widens: bool,
}

/// Where the walk is, for people.
#[derive(Clone, Debug, Default)]
struct Path(Vec<String>);

impl Path {
    fn text(&self) -> String {
        let mut text = String::new();
        for step in &self.0 {
            if !text.is_empty() && !step.starts_with('[') {
                text.push('.');
            }
            text.push_str(step);
        }
        text
    }
}

/// One comparison under way.
struct Walk<'a> {
    before: &'a Value,
    after: &'a Value,
    found: Vec<Found>,
    pairs: usize,
    /// Pairs of references that are open: a schema that holds itself is compared once.
    open: BTreeSet<(String, String)>,
}

impl<'a> Walk<'a> {
    fn new(before: &'a Value, after: &'a Value) -> Self {
        Self { before, after, found: Vec::new(), pairs: 0, open: BTreeSet::new() }
    }

    /// The same schemas, to ask a question on the side.
    fn aside(&self) -> Self {
        Self {
            before: self.before,
            after: self.after,
            found: Vec::new(),
            pairs: self.pairs,
            open: self.open.clone(),
        }
    }

    fn tell(&mut self, path: &Path, what: String, narrows: bool, widens: bool) {
        if self.found.len() < MAX_CHANGES {
            self.found.push(Found { path: path.text(), what, narrows, widens });
        } else if let Some(last) = self.found.last_mut() {
            // What is not told one by one must not look harmless.
            "changes further than is told here".clone_into(&mut last.what);
            last.narrows |= narrows;
            last.widens |= widens;
        }
    }

    /// Compares two schemas at one place.
    fn pair(&mut self, path: &mut Path, before: &Value, after: &Value) {
        self.pairs += 1;
        if self.pairs > MAX_PAIRS || path.0.len() > MAX_DEPTH {
            if !self.same(before, after) {
                self.tell(path, "is too large to be compared".to_owned(), true, true);
            }
            return;
        }
        let references = (reference(before), reference(after));
        let key = match references {
            (None, None) => None,
            (before, after) => {
                let text = |reference: Option<&str>| reference.unwrap_or_default().to_owned();
                Some((format!("{}{}", path_key(before.is_some(), path), text(before)), text(after)))
            }
        };
        if let Some(key) = &key
            && !self.open.insert(key.clone())
        {
            return;
        }
        match (Self::resolved(self.before, before), Self::resolved(self.after, after)) {
            (Some(before), Some(after)) => self.resolved_pair(path, &before, &after),
            _ if before == after => {}
            _ => self.tell(path, "refers to a schema that is not there".to_owned(), true, true),
        }
        if let Some(key) = &key {
            self.open.remove(key);
        }
    }

    fn resolved_pair(&mut self, path: &mut Path, before: &Map<String, Value>, after: &Map<String, Value>) {
        let plain =
            |schema: &Map<String, Value>| !schema.contains_key("anyOf") && !schema.contains_key("oneOf");
        if plain(before) && plain(after) {
            keywords::compare(self, path, before, after);
        } else {
            forms::compare(self, path, before, after);
        }
    }

    /// Whether some value of the first is none of the second, or that cannot be told.
    fn narrows(&mut self, path: &Path, before: &Value, after: &Value) -> bool {
        let mut aside = self.aside();
        aside.pair(&mut path.clone(), before, after);
        self.pairs = aside.pairs;
        aside.found.iter().any(|found| found.narrows)
    }

    /// The other way round.
    fn widens(&mut self, path: &Path, before: &Value, after: &Value) -> bool {
        let mut aside = self.aside();
        aside.pair(&mut path.clone(), before, after);
        self.pairs = aside.pairs;
        aside.found.iter().any(|found| found.widens)
    }

    /// The keywords of a schema with its references followed and its `allOf` joined. `true` has none;
    /// `false` has one that lets nothing through. None: a reference to nothing.
    fn resolved(root: &Value, schema: &Value) -> Option<Map<String, Value>> {
        let mut joined = Map::new();
        let mut parts: Vec<&Map<String, Value>> = Vec::new();
        let mut rest = vec![schema];
        let mut steps = 0;
        while let Some(schema) = rest.pop() {
            steps += 1;
            if steps > MAX_DEPTH {
                return None;
            }
            match schema {
                Value::Bool(true) => {}
                Value::Bool(false) => {
                    joined.insert(NOTHING.to_owned(), Value::Bool(true));
                }
                Value::Object(keywords) => {
                    if let Some(Value::String(target)) = keywords.get("$ref") {
                        rest.push(follow(root, target)?);
                    }
                    rest.extend(keywords.get("allOf").and_then(Value::as_array).into_iter().flatten());
                    parts.push(keywords);
                }
                _ => return None,
            }
        }
        let own = |keyword: &str| !matches!(keyword, "$ref" | "allOf");
        let says = |part: &&&Map<String, Value>| {
            part.keys().any(|keyword| own(keyword) && keyword != "default" && !keywords::silent(keyword))
        };
        let several = parts.iter().filter(says).count() > 1;
        let counts = |keyword: &str| own(keyword) && !keywords::silent(keyword);
        for (keyword, value) in parts.into_iter().flatten().filter(|(keyword, _)| counts(keyword)) {
            // It speaks of the properties beside it, not of those of other parts.
            let apart = several && matches!(keyword.as_str(), "additionalProperties" | "items");
            join(&mut joined, if apart { PARTIAL } else { keyword }, value);
        }
        Some(joined)
    }

    /// Whether two parts of the schemas say the same: also what they refer to.
    fn same<T: PartialEq + Serialize>(&self, before: &T, after: &T) -> bool {
        if before != after {
            return false;
        }
        let text = serde_json::to_string(before).unwrap_or_default();
        if !text.contains("\"$ref\"") {
            return true;
        }
        let inside = text.matches("\"$ref\"").count()
            == text.matches("\"$ref\":\"#/$defs/").count()
                + text.matches("\"$ref\":\"#/definitions/").count();
        inside && ["$defs", "definitions"].iter().all(|key| self.before.get(key) == self.after.get(key))
    }
}

/// Pairs of which one side is no reference are told apart by their place.
fn path_key(before: bool, path: &Path) -> String {
    if before { String::new() } else { format!("{}:", path.text()) }
}

/// A keyword of our own: what one of several parts says of the properties or items beside it.
const PARTIAL: &str = "additionalProperties of a part";
/// A keyword of our own: nothing is let through.
const NOTHING: &str = "\u{0}nothing";

/// Adds a keyword of one part of a schema. Where two parts say different things, both count.
fn join(joined: &mut Map<String, Value>, keyword: &str, value: &Value) {
    match joined.get(keyword) {
        None => {
            joined.insert(keyword.to_owned(), value.clone());
        }
        Some(there) if there == value => {}
        Some(Value::Array(there)) if keyword == "required" => {
            let mut all = there.clone();
            all.extend(value.as_array().into_iter().flatten().filter(|name| !there.contains(name)).cloned());
            joined.insert(keyword.to_owned(), Value::Array(all));
        }
        Some(Value::Object(there)) if keyword == "properties" => {
            let mut all = there.clone();
            for (name, schema) in value.as_object().into_iter().flatten() {
                let both = match all.get(name) {
                    Some(there) if there != schema => serde_json::json!({"allOf": [there, schema]}),
                    _ => schema.clone(),
                };
                all.insert(name.clone(), both);
            }
            joined.insert(keyword.to_owned(), Value::Object(all));
        }
        Some(there) => {
            // Compared as a whole: under a name that no rule knows, any difference counts.
            let both = Value::Array(vec![there.clone(), value.clone()]);
            joined.insert(format!("{keyword} (several)"), both);
        }
    }
}

fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref").and_then(Value::as_str)
}

/// What a reference inside the same schema names.
fn follow<'v>(root: &'v Value, target: &str) -> Option<&'v Value> {
    root.pointer(target.strip_prefix('#')?)
}
