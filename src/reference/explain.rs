//! One field of one kind: what it is, takes, and has inside.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::comment::Comment;
use super::schema;
use crate::manifest::suggest::nearest;
use crate::resource::Kind;

/// A field, or a whole kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Field {
    /// As it was asked for, below the document: `spec.source.git`. Of a whole kind, nothing.
    pub path: String,
    /// In words: `text`, `list of text`, `mapping`.
    pub kind: String,
    pub required: bool,
    pub description: String,
    /// In words.
    pub default: Option<String>,
    pub examples: Vec<String>,
    /// An example of a whole document.
    pub document: Option<String>,
    /// The words it takes, each with what it means.
    pub values: Vec<(String, String)>,
    /// What it has inside, in the order in which it is best written.
    pub fields: Vec<Inner>,
    /// Whether what it has inside are forms, of which one is given.
    pub one_of: bool,
    /// Its schema.
    #[serde(skip)]
    pub schema: Value,
}

/// A field inside another one.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inner {
    pub name: String,
    pub kind: String,
    pub required: bool,
    pub description: String,
    pub default: Option<String>,
}

/// A step of a path that leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    pub step: String,
    /// What it is not in: `server.source`.
    pub inside: String,
    pub near: Option<String>,
    pub known: Vec<String>,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no field `{}` in `{}`", self.step, self.inside)
    }
}

/// A field by its path from the document on; a path that begins with neither `metadata` nor `spec` is
/// meant below `spec`. Steps through lists and the names in mappings can be left out or given.
///
/// # Errors
/// When a step of it is not known.
pub fn find(kind: Kind, path: &[&str]) -> Result<Field, Unknown> {
    let root = schema::kind(kind);
    let document = ["apiVersion", "kind", "metadata", "spec"];
    let below = !path.first().is_none_or(|first| document.contains(first));
    let steps: Vec<&str> = below.then_some("spec").into_iter().chain(path.iter().copied()).collect();
    let mut at = At::of(&root, &root);
    let mut walked = kind.as_str().to_lowercase();
    for step in steps.iter().filter(|step| !step.is_empty()) {
        at = at.step(step).ok_or_else(|| {
            let known: Vec<String> = at.inner().into_iter().map(|(name, _)| name).collect();
            let near = nearest(step, known.iter().map(String::as_str)).map(str::to_owned);
            Unknown { step: (*step).to_owned(), inside: walked.clone(), near, known }
        })?;
        if !(below && *step == "spec" && walked.len() == kind.as_str().len()) {
            walked = format!("{walked}.{step}");
        }
    }
    let mut field = at.field(steps.join("."));
    if path.is_empty() {
        // Of a kind, what people write is below `spec`.
        let whole = At::of(&root, &root["$defs"][format!("{kind}Spec")]).field(String::new());
        let comment = schema::comment(kind);
        let (description, document) = (comment.body(), comment.document);
        field = Field { description, document, kind: kind.to_string(), ..whole };
    }
    Ok(field)
}

/// A place in a schema.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) root: &'a Value,
    pub(super) schema: &'a Value,
    /// The form it is the one field of, when exactly one of several forms is given.
    pub(super) form: Option<&'a Value>,
    pub(super) required: bool,
}

impl<'a> At<'a> {
    pub(super) fn of(root: &'a Value, schema: &'a Value) -> Self {
        Self { root, schema, form: None, required: true }
    }

    fn target(self, schema: &'a Value) -> Option<&'a Value> {
        let pointer = schema.get("$ref")?.as_str()?.strip_prefix('#')?;
        self.root.pointer(pointer)
    }

    /// The schema itself, what it refers to, and its forms; those that are nothing left out.
    fn faces(self) -> Vec<&'a Value> {
        let mut found = Vec::new();
        let mut open = vec![self.schema];
        while let Some(schema) = open.pop() {
            found.push(schema);
            open.extend(self.target(schema));
            for forms in [schema.get("oneOf"), schema.get("anyOf")] {
                let forms = forms.and_then(Value::as_array).into_iter().flatten();
                open.extend(forms.rev().filter(|form| form.get("type").is_none_or(|kind| kind != "null")));
            }
        }
        found
    }

    fn list_of(self) -> Option<Self> {
        self.faces().into_iter().find_map(|face| face.get("items")).map(|schema| Self {
            schema,
            form: None,
            ..self
        })
    }

    fn map_of(self) -> Option<Self> {
        let any = |face: &'a Value| face.get("additionalProperties").filter(|schema| schema.is_object());
        self.faces().into_iter().find_map(any).map(|schema| Self {
            schema,
            form: None,
            required: false,
            ..self
        })
    }

    /// Whether exactly one of several single fields is given.
    fn one_of(self) -> bool {
        let single = |face: &&Value| {
            face.get("properties").and_then(Value::as_object).is_some_and(|fields| fields.len() == 1)
        };
        self.faces().iter().filter(|face| single(face)).count() > 1
    }

    pub(super) fn inner(self) -> Vec<(String, Self)> {
        let one_of = self.one_of();
        let mut fields: Vec<(String, Self)> = Vec::new();
        for face in self.faces() {
            let required: BTreeSet<&str> = face
                .get("required")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            for (name, schema) in face.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let required = !one_of && required.contains(name.as_str());
                let form = one_of.then_some(face);
                fields.push((name.clone(), Self { schema, form, required, ..self }));
            }
        }
        if fields.is_empty() {
            return self.list_of().or_else(|| self.map_of()).map(Self::inner).unwrap_or_default();
        }
        fields
    }

    fn step(self, step: &str) -> Option<Self> {
        if let Some((_, at)) = self.inner().into_iter().find(|(name, _)| name == step) {
            return Some(at);
        }
        let number = step.bytes().all(|byte| byte.is_ascii_digit());
        if number && let Some(item) = self.list_of() {
            return Some(item);
        }
        // The name of one entry, such as that of a variable.
        self.map_of().filter(|_| self.faces().iter().all(|face| face.get("properties").is_none()))
    }

    fn comment(self) -> Comment {
        let described = |face: &&'a Value| face.get("description").and_then(Value::as_str).is_some();
        // Not those of its forms, of which each says only what it is itself.
        let own = self.form.into_iter().chain([self.schema]).chain(self.target(self.schema)).find(described);
        Comment::read(own.and_then(|face| face["description"].as_str()).unwrap_or_default())
    }

    pub(super) fn examples(self) -> Vec<String> {
        let examples = self.schema.get("examples").and_then(Value::as_array);
        examples.into_iter().flatten().map(flow).collect()
    }

    /// Its type in words.
    pub(super) fn words(self) -> String {
        let mut words: Vec<String> = Vec::new();
        let mut add = |word: String| {
            if !words.contains(&word) {
                words.push(word);
            }
        };
        for face in self.faces() {
            let kinds: Vec<&str> = match face.get("type") {
                Some(Value::String(kind)) => vec![kind.as_str()],
                Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
                _ => Vec::new(),
            };
            let here = Self { schema: face, form: None, ..self };
            for kind in &kinds {
                match *kind {
                    "string" => add("text".to_owned()),
                    // Text takes them as they are written.
                    "number" | "boolean" if kinds.contains(&"string") => {}
                    "number" => add("number".to_owned()),
                    "integer" => add("whole number".to_owned()),
                    "boolean" => add("true or false".to_owned()),
                    "array" => add(here
                        .list_of()
                        .map_or("list".to_owned(), |item| format!("list of {}", item.words()))),
                    "object" if face.get("properties").is_some() => add("mapping".to_owned()),
                    "object" => add(here.map_of().map_or("mapping".to_owned(), |item| {
                        format!("mapping of names to {}", item.words())
                    })),
                    _ => {}
                }
            }
            if kinds.is_empty() && face.get("const").is_some_and(Value::is_string) {
                add("text".to_owned());
            }
        }
        if words.is_empty() { "any".to_owned() } else { words.join(" or ") }
    }

    fn values(self) -> Vec<(String, String)> {
        let mut values = Vec::new();
        for face in self.faces() {
            let said = face.get("description").and_then(Value::as_str).unwrap_or_default();
            if let Some(value) = face.get("const").and_then(Value::as_str) {
                values.push((value.to_owned(), said.to_owned()));
            }
            let listed = face.get("enum").and_then(Value::as_array).into_iter().flatten();
            values.extend(listed.filter_map(Value::as_str).map(|value| (value.to_owned(), String::new())));
        }
        values
    }

    pub(super) fn field(self, path: String) -> Field {
        let comment = self.comment();
        let inner = |(name, at): (String, Self)| {
            let comment = at.comment();
            let required = at.required;
            Inner { name, kind: at.words(), required, description: comment.body(), default: comment.default }
        };
        Field {
            path,
            kind: self.words(),
            required: self.required,
            description: comment.body(),
            default: comment.default,
            examples: self.examples(),
            document: None,
            values: self.values(),
            fields: self.inner().into_iter().map(inner).collect(),
            one_of: self.one_of(),
            schema: self.schema.clone(),
        }
    }
}

/// A value in one line, as it would be written in YAML.
fn flow(value: &Value) -> String {
    let plain = |text: &str| {
        let odd = |c: char| "{}[],&*#?|<>=!%@\\\"'`:".contains(c) || c.is_whitespace() && c != ' ';
        !text.is_empty()
            && !text.contains(odd)
            && !text.starts_with(['-', ' '])
            && serde_yaml::from_str::<Value>(text).is_ok_and(|read| read.is_string())
    };
    match value {
        Value::String(text)
            if plain(text)
                || text.split_once(':').is_some_and(|(_, rest)| {
                    !rest.starts_with(' ') && !text.contains(['{', '"', ' ', '*', '#', '[', '&'])
                }) =>
        {
            text.clone()
        }
        Value::Array(items) => format!("[{}]", items.iter().map(inside).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| format!("{name}: {}", inside(value));
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Inside of braces and brackets, where more has to be in quotes.
fn inside(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains(':') => value.to_string(),
        other => flow(other),
    }
}
