//! The fields of a foreign object, read by name, with what is left over.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

/// Faults of one file that are kept; more say nothing new.
const MAX_PROBLEMS: usize = 100;

/// Something in a foreign file that is not what its format asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: `[1].git_repo_url`.
    pub path: String,
    /// A sentence without its full stop.
    pub message: String,
    /// The next step.
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, message, hint } = self;
        let place = if path.is_empty() { "at the top" } else { path };
        write!(f, "{place}: {message}\n  = help: {hint}")
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn add(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        if self.0.len() < MAX_PROBLEMS {
            self.0.push(Problem { path: path.to_owned(), message: message.into(), hint: hint.into() });
        }
    }

    pub(super) fn take(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.0)
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

/// One object, and which of its fields were asked for.
pub(super) struct Fields<'v> {
    map: &'v Map<String, Value>,
    pub(super) path: String,
    asked: BTreeSet<&'v str>,
}

impl<'v> Fields<'v> {
    pub(super) fn new(map: &'v Map<String, Value>, path: impl Into<String>) -> Self {
        Self { map, path: path.into(), asked: BTreeSet::new() }
    }

    /// An object, or a problem.
    pub(super) fn of(value: &'v Value, path: impl Into<String>, problems: &mut Problems) -> Option<Self> {
        let path = path.into();
        let map = value.as_object();
        if map.is_none() {
            problems.add(&path, format!("expected an object, found {}", kind(value)), "write `{…}`");
        }
        map.map(|map| Self::new(map, path))
    }

    pub(super) fn place(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of a field; `null` is as if it were not there.
    pub(super) fn get(&mut self, key: &str) -> Option<&'v Value> {
        let (key, value) = self.map.get_key_value(key)?;
        self.asked.insert(key);
        (!value.is_null()).then_some(value)
    }

    /// The value of the first of several spellings that is there.
    pub(super) fn any(&mut self, keys: &[&str]) -> Option<&'v Value> {
        keys.iter().find_map(|key| self.get(key))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(|value| !value.is_null())
    }

    /// Text; a number or truth value is taken as it is written.
    pub(super) fn text(&mut self, key: &str, problems: &mut Problems) -> Option<String> {
        let value = self.get(key)?;
        let text = scalar(value);
        if text.is_none() {
            let message = format!("expected text, found {}", kind(value));
            problems.add(&self.place(key), message, "write a string");
        }
        text
    }

    /// Text that has to be there and not empty.
    pub(super) fn required(&mut self, key: &str, hint: &str, problems: &mut Problems) -> Option<String> {
        let before = problems.count();
        let text = self.text(key, problems).filter(|text| !text.trim().is_empty());
        if text.is_none() && problems.count() == before {
            problems.add(&self.path, format!("`{key}` is missing"), hint);
        }
        text
    }

    pub(super) fn truth(&mut self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    /// A list of texts; one text alone is a list of one.
    pub(super) fn texts(&mut self, key: &str, problems: &mut Problems) -> Option<Vec<String>> {
        let value = self.get(key)?;
        let texts = match value {
            Value::Array(items) => items.iter().map(scalar).collect(),
            other => scalar(other).map(|text| vec![text]),
        };
        if texts.is_none() {
            problems.add(&self.place(key), "expected a list of texts", "write `[\"…\", \"…\"]`");
        }
        texts
    }

    /// A nested object.
    pub(super) fn object(&mut self, key: &str, problems: &mut Problems) -> Option<Fields<'v>> {
        let place = self.place(key);
        Self::of(self.get(key)?, place, problems)
    }

    /// A nested list of anything.
    pub(super) fn list(&mut self, key: &str, problems: &mut Problems) -> &'v [Value] {
        match self.get(key) {
            Some(Value::Array(items)) => items,
            Some(other) => {
                let message = format!("expected a list, found {}", kind(other));
                problems.add(&self.place(key), message, "write `[…]`");
                &[]
            }
            None => &[],
        }
    }

    /// Says that fields are known and mean nothing here.
    pub(super) fn ignore(&mut self, keys: &[&str]) {
        for key in keys {
            self.get(key);
        }
    }

    /// What nobody asked for, in the order of the file.
    pub(super) fn rest(&self) -> Vec<(&'v str, &'v Value)> {
        let left = self.map.iter().filter(|(key, _)| !self.asked.contains(key.as_str()));
        left.map(|(key, value)| (key.as_str(), value)).collect()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&'v str, &'v Value)> + use<'v> {
        self.map.iter().map(|(key, value)| (key.as_str(), value))
    }
}

pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// What it is, in a sentence.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
