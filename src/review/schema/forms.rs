//! `anyOf` and `oneOf`: schemas that let several forms through.
//!
//! Forms that are equal on both sides are left out. One that is left on each side is the same form,
//! changed. Of more, each is looked for among those of the other side.

use serde_json::{Map, Value};

use super::keywords::default;
use super::{NOTHING, Path, Walk};

/// Forms that are compared each with each.
const MAX_FORMS: usize = 24;
/// Characters of a form that is told.
const MAX_SHOWN: usize = 60;

type Keywords = Map<String, Value>;

pub(super) fn compare(walk: &mut Walk<'_>, path: &mut Path, before: &Keywords, after: &Keywords) {
    let (Some((was, rest_was)), Some((now, rest_now))) = (forms(before), forms(after)) else {
        if !walk.same(before, after) {
            walk.tell(path, "takes other forms, in a way that cannot be told".to_owned(), true, true);
        }
        return;
    };
    let exclusive = before.contains_key("oneOf") || after.contains_key("oneOf");
    if exclusive && !walk.same(&before.get("oneOf"), &after.get("oneOf")) && !(apart(&was) && apart(&now)) {
        walk.tell(path, "takes other forms, in a way that cannot be told".to_owned(), true, true);
        return;
    }
    // What stands beside the forms holds for each of them.
    let joined = |form: &Value, rest: &Keywords| {
        let mut parts = vec![form.clone()];
        if !rest.is_empty() {
            parts.push(Value::Object(rest.clone()));
        }
        if parts.len() == 1 { parts.remove(0) } else { serde_json::json!({"allOf": parts}) }
    };
    let was: Vec<Value> = was.iter().map(|form| joined(form, &rest_was)).collect();
    let now: Vec<Value> = now.iter().map(|form| joined(form, &rest_now)).collect();
    let lost: Vec<&Value> =
        was.iter().filter(|form| !now.iter().any(|other| walk.same(*form, other))).collect();
    let gained: Vec<&Value> =
        now.iter().filter(|form| !was.iter().any(|other| walk.same(*form, other))).collect();
    default(walk, path, before.get("default"), after.get("default"));
    if let ([before], [after]) = (lost.as_slice(), gained.as_slice())
        && was.len() == now.len()
    {
        return walk.pair(path, before, after);
    }
    for form in lost {
        if now.iter().all(|other| walk.narrows(path, form, other)) {
            walk.tell(path, format!("does not take {} any more", shown(form)), true, false);
        }
    }
    for form in gained {
        if was.iter().all(|other| walk.widens(path, other, form)) {
            walk.tell(path, format!("takes {} too", shown(form)), false, true);
        }
    }
}

/// The forms of a schema and what stands beside them; a schema without forms is its only form. None:
/// both keywords, or too many forms.
fn forms(schema: &Keywords) -> Option<(Vec<Value>, Keywords)> {
    let mut rest = schema.clone();
    let (any, one) = (rest.shift_remove("anyOf"), rest.shift_remove("oneOf"));
    match (any, one) {
        (Some(Value::Array(forms)), None) | (None, Some(Value::Array(forms))) => {
            rest.retain(|keyword, _| keyword != "default" && !super::keywords::silent(keyword));
            (forms.len() <= MAX_FORMS).then_some((forms, rest))
        }
        (None, None) => {
            if rest.contains_key(NOTHING) {
                return Some((vec![Value::Bool(false)], Keywords::new()));
            }
            rest.shift_remove("default");
            // One of several types is one form for each.
            if let Some(Value::Array(kinds)) = rest.get("type").cloned() {
                let of = |kind: Value| {
                    let mut form = rest.clone();
                    form.insert("type".to_owned(), kind);
                    Value::Object(form)
                };
                return Some((kinds.into_iter().take(MAX_FORMS).map(of).collect(), Keywords::new()));
            }
            Some((vec![Value::Object(rest)], Keywords::new()))
        }
        _ => None,
    }
}

/// Whether no value can have two of the forms: each has one type of its own, or one value.
fn apart(forms: &[Value]) -> bool {
    let key = |form: &Value| {
        let typed = form.get("type").and_then(Value::as_str);
        form.get("const").map(ToString::to_string).or_else(|| typed.map(str::to_owned))
    };
    let mut keys: Vec<Option<String>> = forms.iter().map(key).collect();
    let (count, one) = (keys.len(), forms.len() <= 1);
    let mixed =
        keys.iter().flatten().any(|key| key == "number") && keys.iter().flatten().any(|key| key == "integer");
    keys.sort();
    keys.dedup();
    let typed = forms.iter().filter(|form| form.get("const").is_none()).count();
    // A constant and a type may meet; constants alone or types alone cannot.
    one || (keys.len() == count
        && keys.iter().all(Option::is_some)
        && !mixed
        && (typed == 0 || typed == count))
}

fn shown(form: &Value) -> String {
    let bare = form
        .as_object()
        .filter(|keywords| keywords.keys().all(|key| key == "type" || super::keywords::silent(key)));
    let text = match bare.and_then(|keywords| keywords.get("type")).and_then(Value::as_str) {
        Some(name) => name.to_owned(),
        None => form.to_string(),
    };
    let mut cut: String = text.chars().take(MAX_SHOWN).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("`{cut}`")
}
