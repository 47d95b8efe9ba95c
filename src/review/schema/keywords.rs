//! Keyword by keyword: schemas without `anyOf` and `oneOf`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{NOTHING, PARTIAL, Path, Walk};

const ALL: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];
const TRUE: &Value = &Value::Bool(true);
/// Characters of one value that is told.
const MAX_VALUE: usize = 60;
/// Values and names told of one keyword.
const MAX_TOLD: usize = 8;

/// Keywords that let nothing through or hold nothing back. Descriptions and titles are compared as text.
pub(super) fn silent(keyword: &str) -> bool {
    matches!(
        keyword,
        "title"
            | "description"
            | "$comment"
            | "$schema"
            | "$id"
            | "$anchor"
            | "$defs"
            | "definitions"
            | "examples"
            | "deprecated"
            | "readOnly"
            | "writeOnly"
            | "contentMediaType"
            | "contentEncoding"
    ) || keyword.starts_with("x-")
}

type Keywords = Map<String, Value>;

pub(super) fn compare(walk: &mut Walk<'_>, path: &mut Path, before: &Keywords, after: &Keywords) {
    if walk.same(before, after) {
        return;
    }
    match (before.contains_key(NOTHING), after.contains_key(NOTHING)) {
        (true, true) => return,
        (false, true) => return walk.tell(path, "takes nothing any more".to_owned(), true, false),
        (true, false) => return walk.tell(path, "takes something now".to_owned(), false, true),
        (false, false) => {}
    }
    let kinds = (types(before), types(after));
    compare_types(walk, path, &kinds);
    values(walk, path, before, after, &kinds);
    let common: BTreeSet<&str> = kinds.0.intersection(&kinds.1).copied().collect();
    for (keyword, kinds, sense) in BOUNDS {
        if kinds.iter().any(|kind| common.contains(kind)) {
            bound(walk, path, keyword, *sense, (before, after));
        }
    }
    if common.contains("object") {
        object(walk, path, before, after);
    }
    if common.contains("array") {
        items(walk, path, before, after);
    }
    default(walk, path, before.get("default"), after.get("default"));
    for keyword in before.keys().chain(after.keys().filter(|keyword| !before.contains_key(*keyword))) {
        if !known(keyword) && !walk.same(&before.get(keyword), &after.get(keyword)) {
            let change = change(before.get(keyword), after.get(keyword));
            // A limit that was added cannot widen, one that was taken away cannot narrow.
            let (narrows, widens) = (after.contains_key(keyword), before.contains_key(keyword));
            walk.tell(path, format!("`{keyword}` {change}"), narrows, widens);
        }
    }
}

/// Whether a keyword has a rule here.
fn known(keyword: &str) -> bool {
    silent(keyword)
        || BOUNDS.iter().any(|(bound, ..)| *bound == keyword)
        || matches!(
            keyword,
            "type"
                | "enum"
                | "const"
                | "default"
                | "properties"
                | "required"
                | "additionalProperties"
                | "items"
        )
}

/// The types a schema lets through; `number` includes `integer`.
fn types(schema: &Keywords) -> BTreeSet<&'static str> {
    let listed: Vec<&str> = match schema.get("type") {
        Some(Value::String(name)) => vec![name.as_str()],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => match enumerated(schema) {
            Some(values) => values.into_iter().map(kind_of).collect(),
            None => ALL.to_vec(),
        },
    };
    let fits = |known: &&str| listed.contains(known) || (*known == "integer" && listed.contains(&"number"));
    ALL.into_iter().filter(fits).collect()
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Both as people name them: `number` alone where it includes `integer`.
fn told_types(kinds: &BTreeSet<&'static str>) -> String {
    let shown: Vec<&str> =
        kinds.iter().copied().filter(|kind| *kind != "integer" || !kinds.contains("number")).collect();
    shown.join(", ")
}

fn compare_types(
    walk: &mut Walk<'_>,
    path: &Path,
    (before, after): &(BTreeSet<&'static str>, BTreeSet<&'static str>),
) {
    let lost: BTreeSet<&'static str> = before.difference(after).copied().collect();
    let gained: BTreeSet<&'static str> = after.difference(before).copied().collect();
    let what = match (lost.is_empty(), gained.is_empty()) {
        (true, true) => return,
        (true, false) if after.len() == ALL.len() => "may be of any type".to_owned(),
        (true, false) => format!("may also be of type {}", told_types(&gained)),
        (false, true) if before.len() == ALL.len() => format!("has to be of type {}", told_types(after)),
        (false, true) => format!("may not be of type {} any more", told_types(&lost)),
        (false, false) => format!("changes its type from {} to {}", told_types(before), told_types(after)),
    };
    walk.tell(path, what, !lost.is_empty(), !gained.is_empty());
}

/// The values of `enum` and `const`.
fn enumerated(schema: &Keywords) -> Option<Vec<&Value>> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    }
}

fn list(values: &[&Value]) -> String {
    let mut told: Vec<String> = values.iter().take(MAX_TOLD).map(|value| shown(value)).collect();
    if values.len() > MAX_TOLD {
        told.push(format!("and {} more", values.len() - MAX_TOLD));
    }
    told.join(", ")
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    let mut cut: String = text.chars().take(MAX_VALUE).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("`{cut}`")
}

fn values(
    walk: &mut Walk<'_>,
    path: &Path,
    before: &Keywords,
    after: &Keywords,
    kinds: &(BTreeSet<&'static str>, BTreeSet<&'static str>),
) {
    let fits = |value: &Value, kinds: &BTreeSet<&'static str>| kinds.contains(kind_of(value));
    match (enumerated(before), enumerated(after)) {
        (None, None) => {}
        (None, Some(now)) => walk.tell(path, format!("is limited to {}", list(&now)), true, false),
        (Some(_), None) => {
            walk.tell(path, "is not limited to certain values any more".to_owned(), false, true);
        }
        (Some(was), Some(now)) => {
            let lost: Vec<&Value> =
                was.iter().copied().filter(|value| !now.contains(value) && fits(value, &kinds.0)).collect();
            let gained: Vec<&Value> =
                now.iter().copied().filter(|value| !was.contains(value) && fits(value, &kinds.1)).collect();
            if !lost.is_empty() {
                walk.tell(path, format!("does not take {} any more", list(&lost)), true, false);
            }
            if !gained.is_empty() {
                walk.tell(path, format!("takes {} too", list(&gained)), false, true);
            }
        }
    }
}

/// What a larger number means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sense {
    /// Fewer values: a lower bound.
    Narrower,
    /// More values: an upper bound.
    Wider,
    /// Neither: any difference counts both ways.
    Other,
}

const BOUNDS: &[(&str, &[&str], Sense)] = &[
    ("minimum", &["integer", "number"], Sense::Narrower),
    ("exclusiveMinimum", &["integer", "number"], Sense::Narrower),
    ("maximum", &["integer", "number"], Sense::Wider),
    ("exclusiveMaximum", &["integer", "number"], Sense::Wider),
    ("multipleOf", &["integer", "number"], Sense::Other),
    ("minLength", &["string"], Sense::Narrower),
    ("maxLength", &["string"], Sense::Wider),
    ("pattern", &["string"], Sense::Other),
    ("format", &["string"], Sense::Other),
    ("minItems", &["array"], Sense::Narrower),
    ("maxItems", &["array"], Sense::Wider),
    ("minProperties", &["object"], Sense::Narrower),
    ("maxProperties", &["object"], Sense::Wider),
];

fn bound(walk: &mut Walk<'_>, path: &Path, keyword: &str, sense: Sense, sides: (&Keywords, &Keywords)) {
    let (before, after) = (sides.0.get(keyword), sides.1.get(keyword));
    if before == after {
        return;
    }
    let number = |value: Option<&Value>| value.and_then(Value::as_f64);
    let larger = match (number(before), number(after)) {
        (Some(before), Some(after)) => Some(after > before),
        _ => None,
    };
    let (narrows, widens) = match (before, after, larger, sense) {
        (None, Some(_), ..) => (true, false),
        (Some(_), None, ..) => (false, true),
        (.., Some(larger), Sense::Narrower) => (larger, !larger),
        (.., Some(larger), Sense::Wider) => (!larger, larger),
        _ => (true, true),
    };
    walk.tell(path, format!("`{keyword}` {}", change(before, after)), narrows, widens);
}

/// `is 5 now`, `changes from 5 to 6`, `is gone`.
fn change(before: Option<&Value>, after: Option<&Value>) -> String {
    match (before, after) {
        (Some(before), Some(after)) => format!("changes from {} to {}", shown(before), shown(after)),
        (None, Some(after)) => format!("is {} now", shown(after)),
        (_, None) => "is gone".to_owned(),
    }
}

pub(super) fn default(walk: &mut Walk<'_>, path: &Path, before: Option<&Value>, after: Option<&Value>) {
    if before != after {
        walk.tell(path, format!("`default` {}", change(before, after)), false, false);
    }
}

fn required(schema: &Keywords) -> BTreeSet<&str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn object(walk: &mut Walk<'_>, path: &mut Path, before: &Keywords, after: &Keywords) {
    let sides = (Fields::of(before), Fields::of(after));
    let (was, now) = &sides;
    for (name, schema) in &was.named {
        path.0.push(name.clone());
        match now.named.get(name) {
            Some(now) => walk.pair(path, schema, now),
            None => removed(walk, path, (name, schema), &sides),
        }
        path.0.pop();
    }
    for (name, schema) in now.named.iter().filter(|(name, _)| !was.named.contains_key(*name)) {
        path.0.push(name.clone());
        added(walk, path, (name, schema), &sides);
        path.0.pop();
    }
    let undeclared = |name: &str| !was.named.contains_key(name) && !now.named.contains_key(name);
    for name in now.required.difference(&was.required) {
        if was.named.contains_key(*name) || undeclared(name) {
            path.0.push((*name).to_owned());
            walk.tell(path, "is required now".to_owned(), true, false);
            path.0.pop();
        }
    }
    for name in was.required.difference(&now.required) {
        if now.named.contains_key(*name) || undeclared(name) {
            path.0.push((*name).to_owned());
            walk.tell(path, "is not required any more".to_owned(), false, true);
            path.0.pop();
        }
    }
    additional(walk, path, &was.others, &now.others);
}

/// What an object schema says of its properties.
struct Fields<'s> {
    named: Map<String, Value>,
    required: BTreeSet<&'s str>,
    /// What properties may be that are not named.
    others: Value,
    /// Something else speaks of properties too, such as `patternProperties`.
    else_said: bool,
}

impl<'s> Fields<'s> {
    fn of(schema: &'s Keywords) -> Self {
        let said = [PARTIAL, "patternProperties", "unevaluatedProperties", "propertyNames"];
        Self {
            named: schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default(),
            required: required(schema),
            others: schema.get("additionalProperties").cloned().unwrap_or(Value::Bool(true)),
            else_said: said.iter().any(|keyword| schema.contains_key(*keyword)),
        }
    }
}

/// A property that is described now.
fn added(
    walk: &mut Walk<'_>,
    path: &mut Path,
    (name, schema): (&str, &Value),
    (was, now): &(Fields<'_>, Fields<'_>),
) {
    let needed = now.required.contains(name);
    let what = match (needed, was.required.contains(name)) {
        (true, false) => "is new and required",
        (true, true) => "is described now",
        _ => "is new, optional",
    };
    // Of those that were let through under any name, it takes a part.
    let taken = was.others.is_object() && walk.narrows(path, &was.others, schema);
    // Readers that take no others are not ready for it.
    let unready = was.else_said || walk.narrows(path, schema, &was.others);
    walk.tell(
        path,
        what.to_owned(),
        needed && !was.required.contains(name) || taken || now.else_said,
        unready,
    );
}

/// A property that is not described any more: it is whatever others may be.
fn removed(
    walk: &mut Walk<'_>,
    path: &mut Path,
    (name, schema): (&str, &Value),
    (was, now): &(Fields<'_>, Fields<'_>),
) {
    let narrows = now.else_said || walk.narrows(path, schema, &now.others);
    let needed = was.required.contains(name) && !now.required.contains(name);
    // Where nothing else is let through, whatever it was is let through no more.
    let opens = now.others != Value::Bool(false) && walk.widens(path, schema, &now.others);
    let widens = needed || was.else_said || now.else_said || opens;
    let what = match now.others {
        Value::Bool(false) => "is removed, and what is not declared is refused",
        Value::Bool(true) => "is not declared any more",
        _ => "is not declared any more, and is what others may be",
    };
    walk.tell(path, what.to_owned(), narrows, widens);
}

fn additional(walk: &mut Walk<'_>, path: &mut Path, before: &Value, after: &Value) {
    if walk.same(before, after) {
        return;
    }
    match (before, after) {
        (_, Value::Bool(false)) => {
            walk.tell(path, "refuses what is not declared".to_owned(), true, false);
        }
        (Value::Bool(false), _) => {
            walk.tell(path, "takes what is not declared too".to_owned(), false, true);
        }
        _ => {
            path.0.push("[others]".to_owned());
            walk.pair(path, before, after);
            path.0.pop();
        }
    }
}

fn items(walk: &mut Walk<'_>, path: &mut Path, before: &Keywords, after: &Keywords) {
    let (before, after) = (before.get("items"), after.get("items"));
    if before.is_none() && after.is_none() {
        return;
    }
    path.0.push("[]".to_owned());
    walk.pair(path, before.unwrap_or(TRUE), after.unwrap_or(TRUE));
    path.0.pop();
}
