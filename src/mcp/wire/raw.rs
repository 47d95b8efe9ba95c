//! Changing one member of a JSON object that is otherwise left byte for byte as it came.
//!
//! Input: the raw object. Output: its text with members of it, or of its `_meta`, put in, replaced or
//! taken out. Invariant: every byte outside the members named is kept. Not here: reading messages.

mod scan;

use std::borrow::Cow;

use serde_json::value::RawValue;

use self::scan::{Member, members, unescaped};
use super::WireError;

/// The members of an object, in order: keys and values. Fails when `raw` is something else.
pub fn pairs<'a>(
    raw: &'a RawValue,
    what: &'static str,
) -> Result<Vec<(Cow<'a, str>, &'a RawValue)>, WireError> {
    let members = members(raw.get()).ok_or(WireError::NotObject(what))?;
    Ok(members.filter_map(|member| Some((member.key, raw_of(member.value)?))).collect())
}

/// The value of a member. Of a key that is there twice it is the last, as most parsers have it.
pub fn get<'a>(object: &'a RawValue, key: &str) -> Option<&'a RawValue> {
    raw_of(text_at(object.get(), key)?)
}

/// The text of a value of an object that is known to be JSON.
fn text_at<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    members(object)?.filter(|member| member.key == key).last().map(|member| member.value)
}

/// The values of `keys` in an object that is known to be JSON, as they are written.
///
/// # Errors
/// The key that is there twice: whoever looks at it elsewhere may take the other value.
pub(in crate::mcp) fn unique<'a, const N: usize>(
    object: &'a str,
    keys: [&'static str; N],
) -> Result<[Option<&'a str>; N], &'static str> {
    let mut found = [None; N];
    for member in members(object).into_iter().flatten() {
        for (key, value) in keys.into_iter().zip(&mut found).filter(|(key, _)| member.key == *key) {
            if value.replace(member.value).is_some() {
                return Err(key);
            }
        }
    }
    Ok(found)
}

/// What is a slice of JSON, as a value.
fn raw_of(text: &str) -> Option<&RawValue> {
    serde_json::from_str(text).ok()
}

/// The value of a member that is a string.
pub fn get_str<'a>(object: &'a RawValue, key: &str) -> Option<Cow<'a, str>> {
    string(text_at(object.get(), key)?)
}

/// The value of a member of the object's `_meta`.
pub fn get_meta<'a>(object: &'a RawValue, key: &str) -> Option<&'a RawValue> {
    get(get(object, "_meta")?, key)
}

/// A JSON string's text; none when it is something else.
pub fn text_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    string(raw.get())
}

/// The text of a string as it is written in JSON; none when it is something else.
pub(in crate::mcp) fn string(written: &str) -> Option<Cow<'_, str>> {
    written.starts_with('"').then(|| unescaped(written)).flatten()
}

/// Replaces (or adds) members of the top level. `entries`: keys that need no escapes, values as JSON
/// text. Every occurrence of a key that is there twice goes.
pub fn set(object: &RawValue, entries: &[(&str, &str)]) -> Result<String, WireError> {
    let mut out = String::with_capacity(room(object, entries));
    write(&mut out, object, entries, "the value")?;
    Ok(out)
}

/// Replaces (or adds) one member that is a string, such as the `name` of a call.
pub fn set_str(object: &RawValue, key: &str, value: &str) -> Result<Box<RawValue>, WireError> {
    into_raw(set(object, &[(key, &super::quote(value))])?)
}

/// Replaces (or adds) members of the `_meta` of `params`, and takes those named in `remove` out of
/// it; without `params` it makes them.
pub fn edit_meta<'a>(
    params: Option<&'a RawValue>,
    entries: &[(&str, &str)],
    remove: &[&str],
) -> Result<Cow<'a, str>, WireError> {
    let Some(params) = params else { return Ok(format!("{{\"_meta\":{}}}", object_of(entries)).into()) };
    match edited_meta(params, entries, remove)? {
        Some(meta) => set(params, &[("_meta", &meta)]).map(Cow::Owned),
        None => Ok(Cow::Borrowed(params.get())),
    }
}

/// The `_meta` of `params` with `entries`, and without what `remove` names. None: it stays as it is.
pub(in crate::mcp) fn edited_meta(
    params: &RawValue,
    entries: &[(&str, &str)],
    remove: &[&str],
) -> Result<Option<String>, WireError> {
    let object = members(params.get()).ok_or(WireError::NotObject("`params`"))?;
    let meta = object.filter(|member| member.key == "_meta").last().map_or("{}", |member| member.value);
    let meta = if meta == "null" { "{}" } else { meta };
    let present = || members(meta).ok_or(WireError::NotObject("`_meta`"));
    let removed = |member: &Member<'_>| remove.contains(&member.key.as_ref());
    if entries.is_empty() && !present()?.any(|member| removed(&member)) {
        return Ok(None);
    }
    let is = |member: &Member<'_>| entries.iter().any(|(key, _)| member.key == *key);
    let mut text = String::with_capacity(meta.len() + size(entries));
    text.push('{');
    for (key, value) in entries {
        super::push_member(&mut text, key, value);
    }
    for member in present()?.filter(|member| !removed(member) && !is(member)) {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(member.written);
    }
    text.push('}');
    Ok(Some(text))
}

/// Text that is known to be JSON, as a value.
pub fn into_raw(text: String) -> Result<Box<RawValue>, WireError> {
    RawValue::from_string(text).map_err(WireError::Json)
}

/// An object of nothing but `entries`.
pub fn object_of(entries: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(2 + size(entries));
    text.push('{');
    for (key, value) in entries {
        super::push_member(&mut text, key, value);
    }
    text.push('}');
    text
}

/// An array of strings.
pub fn strings_of(texts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let quoted: Vec<_> = texts.into_iter().map(|text| super::quote(text.as_ref())).collect();
    format!("[{}]", quoted.join(","))
}

/// Bytes that an object with these members more may have.
pub(in crate::mcp) fn room(object: &RawValue, entries: &[(&str, &str)]) -> usize {
    object.get().len() + size(entries)
}

fn size(entries: &[(&str, &str)]) -> usize {
    entries.iter().map(|(key, value)| key.len() + value.len() + 4).sum()
}

/// Writes an object with members changed, as [`set`] has it. The first occurrence of a key is replaced
/// where it stands, later ones are dropped, and keys that are not there come first.
pub(in crate::mcp) fn write(
    out: &mut String,
    object: &RawValue,
    entries: &[(&str, &str)],
    what: &'static str,
) -> Result<(), WireError> {
    let text = object.get();
    let all = || members(text).ok_or(WireError::NotObject(what));
    out.push('{');
    let mut added = false;
    for (key, value) in entries {
        if !all()?.any(|member| member.key == *key) {
            super::push_member(out, key, value);
            added = true;
        }
    }
    if added && all()?.next().is_some() {
        out.push(',');
    }
    let mut copied = 1;
    for member in all()? {
        let Some((key, value)) = entries.iter().find(|(key, _)| member.key == *key) else { continue };
        let end = member.start + member.value.len();
        let again = all()?.take_while(|other| other.start < member.start).any(|other| other.key == *key);
        if again {
            // The comma before it goes with it.
            let from = end - member.written.len();
            let kept = text.get(copied..from).unwrap_or_default();
            out.push_str(kept.trim_end().strip_suffix(',').unwrap_or(kept));
        } else {
            out.push_str(text.get(copied..member.start).unwrap_or_default());
            out.push_str(value);
        }
        copied = end;
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::quote;
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    #[test]
    fn what_is_not_named_stays_byte_for_byte() {
        let cases = [
            ("{}", r#"{"_meta":{"t":1}}"#),
            ("{ }", r#"{"_meta":{"t":1} }"#),
            (r#"{"a" : 1.50e3,"é":"\u00e9"}"#, r#"{"_meta":{"t":1},"a" : 1.50e3,"é":"\u00e9"}"#),
            (r#"{"a":{"_meta":{"t":2}}, "_meta":{}}"#, r#"{"a":{"_meta":{"t":2}}, "_meta":{"t":1}}"#),
            (r#"{"_meta" : {"x" :[1, 2],"t":9} ,"b":0}"#, r#"{"_meta" : {"t":1,"x" :[1, 2]} ,"b":0}"#),
            (r#"{"_meta":null,"b":0}"#, r#"{"_meta":{"t":1},"b":0}"#),
            (r#"{"\u005fmeta":{"t":3}}"#, r#"{"\u005fmeta":{"t":1}}"#),
            (r#"{"_meta":{"t":3, "t":4,"u":5}}"#, r#"{"_meta":{"t":1,"u":5}}"#),
        ];
        for (before, after) in cases {
            assert_eq!(edit_meta(Some(&raw(before)), &[("t", "1")], &[]).expect(before), after);
        }
        assert_eq!(edit_meta(None, &[("t", "1")], &["u"]).expect("made"), r#"{"_meta":{"t":1}}"#);
        assert!(edit_meta(Some(&raw("[1]")), &[("t", "1")], &[]).is_err());
        assert!(edit_meta(Some(&raw(r#"{"_meta":7}"#)), &[("t", "1")], &[]).is_err());
    }

    #[test]
    fn keys_are_taken_out_of_meta_alone() {
        let cases = [
            (r#"{"t":1}"#, r#"{"t":1}"#),
            (r#"{"t":1,"_meta":{"k" : 2}}"#, r#"{"t":1,"_meta":{"k" : 2}}"#),
            (r#"{"t":1,"_meta":{"k" : 2 , "t":3}, "z":[]}"#, r#"{"t":1,"_meta":{"k" : 2}, "z":[]}"#),
            (r#"{"_meta":{"t":3,"k":{"t":1}}}"#, r#"{"_meta":{"k":{"t":1}}}"#),
            (r#"{"_meta":{"t":3}}"#, r#"{"_meta":{}}"#),
        ];
        for (before, after) in cases {
            assert_eq!(edit_meta(Some(&raw(before)), &[], &["t"]).expect(before), after);
        }
    }

    #[test]
    fn a_string_is_replaced_where_it_stands() {
        let call = raw("{\"arguments\": {\"name\":\"x\"},\n \"name\": \"weather_forecast\"}");
        let renamed = set_str(&call, "name", "fore\"cast").expect("an object");
        assert_eq!(renamed.get(), "{\"arguments\": {\"name\":\"x\"},\n \"name\": \"fore\\\"cast\"}");
        assert_eq!(get_str(&renamed, "name").expect("there"), "fore\"cast");
    }

    proptest::proptest! {
        #[test]
        fn an_edit_reads_back(keys in proptest::collection::vec("[a-c\"é]{0,2}", 0..6), value in 0..9u32) {
            let members: Vec<_> = keys.iter().enumerate().map(|(n, k)| format!("{}: {n}", quote(k))).collect();
            let before = raw(&format!("{{{}}}", members.join(" ,")));
            let after = raw(&set(&before, &[("a", &value.to_string())]).expect("an object"));
            proptest::prop_assert_eq!(get(&after, "a").expect("set").get(), value.to_string());
            let rest = |object: &RawValue| -> Vec<String> {
                members_of(object).into_iter().filter(|member| !member.starts_with("\"a\":")).collect()
            };
            proptest::prop_assert_eq!(rest(&before), rest(&after));
        }
    }

    /// Objects whose keys meet those that are edited, nested.
    fn values() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            any::<i32>().prop_map(serde_json::Value::from),
            "[a\"\\\\,:}é\n]{0,4}".prop_map(serde_json::Value::from),
            Just(serde_json::Value::Null),
        ];
        let keys = prop_oneof![
            Just("_meta".to_owned()),
            Just("set".to_owned()),
            Just("gone".to_owned()),
            "[a\"]{0,2}"
        ];
        leaf.prop_recursive(3, 16, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(serde_json::Value::from),
                proptest::collection::vec((keys.clone(), inner), 0..4)
                    .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest::proptest! {
        #[test]
        fn an_edit_of_meta_is_what_it_would_be_on_values(before in values(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&before) } else { serde_json::to_string(&before) };
            let text = raw(&text.expect("JSON"));
            let after = edit_meta(Some(&text), &[("set", "[1]")], &["gone"]);
            let serde_json::Value::Object(mut expected) = before else {
                proptest::prop_assert!(after.is_err());
                return Ok(());
            };
            let meta = expected.entry("_meta").or_insert(serde_json::Value::Null);
            if meta.is_null() {
                *meta = serde_json::json!({});
            }
            let Some(meta) = meta.as_object_mut() else {
                proptest::prop_assert!(after.is_err());
                return Ok(());
            };
            meta.remove("gone");
            meta.insert("set".to_owned(), serde_json::json!([1]));
            let after: serde_json::Value = serde_json::from_str(&after.expect("edited")).expect("JSON");
            proptest::prop_assert_eq!(after, serde_json::Value::Object(expected));
        }
    }

    fn members_of(object: &RawValue) -> Vec<String> {
        members(object.get()).expect("an object").map(|member| member.written.to_owned()).collect()
    }
}
