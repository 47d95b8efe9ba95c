//! JSON as text: written for people, written for the wire, and compared.
//!
//! Tokens are never read into numbers or maps, so nothing is lost on the way.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Objects and arrays inside each other that are looked into. Below, text is compared as it stands;
/// the same bound as `serde_json` has for its own values.
pub const MAX_DEPTH: usize = 128;

/// One definition over several lines, two spaces a level, an empty list or object in place. Characters
/// that a reviewer cannot see (controls, bidirectional marks, zero-width and tag characters) are
/// written as escapes, which mean the same.
pub fn pretty(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0;
    let mut rest = Tokens(text).peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(token) = rest.next() {
        match token {
            "{" | "[" => {
                out.push_str(token);
                if let Some(close) = rest.next_if(|next| matches!(*next, "}" | "]")) {
                    out.push_str(close);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            "}" | "]" => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push_str(token);
            }
            "," => {
                out.push(',');
                line(&mut out, depth);
            }
            ":" => out.push_str(": "),
            token => escape_hidden(&mut out, token),
        }
    }
    out
}

/// The same on one line, without white space.
pub fn compact(text: &str) -> String {
    Tokens(text).collect()
}

/// The same for all spellings that every JSON reader reads alike: members in the order of their names
/// (those of one name in the order they were written), strings with one spelling, numbers as written.
pub fn canonical(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    write_canonical(&mut out, text.trim(), 0);
    out
}

fn write_canonical(out: &mut String, text: &str, depth: usize) {
    if depth < MAX_DEPTH {
        match text.as_bytes().first() {
            Some(b'{') => {
                if let Some(mut members) = members(text) {
                    members.sort_by(|a, b| a.0.cmp(&b.0));
                    wrap(out, '{', '}', &members, |out, (key, value)| {
                        let _ = write!(out, "{}:", serde_json::Value::from(key.as_ref()));
                        write_canonical(out, value.get(), depth + 1);
                    });
                    return;
                }
            }
            Some(b'[') => {
                if let Some(items) = items(text) {
                    wrap(out, '[', ']', &items, |out, item| write_canonical(out, item.get(), depth + 1));
                    return;
                }
            }
            Some(b'"') => {
                if let Ok(Text(string)) = serde_json::from_str::<Text<'_>>(text) {
                    let _ = write!(out, "{}", serde_json::Value::from(string.as_ref()));
                    return;
                }
            }
            _ => {}
        }
    }
    out.extend(Tokens(text));
}

fn wrap<T>(out: &mut String, open: char, close: char, all: &[T], mut each: impl FnMut(&mut String, &T)) {
    out.push(open);
    for (at, one) in all.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        each(out, one);
    }
    out.push(close);
}

/// The members of an object, in their order. None: it is none.
pub(super) fn members(text: &str) -> Option<Vec<(Cow<'_, str>, &RawValue)>> {
    serde_json::Deserializer::from_str(text).deserialize_map(Members).ok()
}

/// The items of an array. None: it is none.
pub(super) fn items(text: &str) -> Option<Vec<&RawValue>> {
    serde_json::Deserializer::from_str(text).deserialize_seq(Items).ok()
}

/// The text under a key that is there once.
pub(super) fn member(text: &str, key: &str) -> Option<String> {
    let members = members(text)?;
    let mut found = members.iter().filter(|(name, _)| name == key);
    let (Some((_, value)), None) = (found.next(), found.next()) else { return None };
    serde_json::from_str::<Text<'_>>(value.get()).ok().map(|Text(text)| text.into_owned())
}

/// Whether a character leaves no mark, or moves those around it: C0, C1 and format characters,
/// variation selectors, fillers, and the tag characters that spell text nobody sees.
pub(super) fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
            | '\u{fffe}'..='\u{ffff}')
}

/// Text with hidden characters as escapes.
pub(super) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape_hidden(&mut out, text);
    out
}

fn escape_hidden(out: &mut String, token: &str) {
    for c in token.chars() {
        if hidden(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
}

/// The tokens of JSON: punctuation, strings with their quotes, and the rest, white space left out.
/// What is not JSON comes out as it went in.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start_matches([' ', '\t', '\n', '\r']);
        let first = text.bytes().next()?;
        let end = match first {
            b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
            b'"' => {
                let mut escaped = false;
                let close = text.bytes().skip(1).position(|byte| {
                    let closes = byte == b'"' && !escaped;
                    escaped = byte == b'\\' && !escaped;
                    closes
                });
                close.map_or(text.len(), |at| at + 2)
            }
            _ => text
                .find([' ', '\t', '\n', '\r', '{', '}', '[', ']', ',', ':', '"'])
                .unwrap_or(text.len())
                .max(1),
        };
        let (token, rest) = text.split_at_checked(end)?;
        self.0 = rest;
        Some(token)
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(Text(key)) = map.next_key()? {
            members.push((key, map.next_value()?));
        }
        Ok(members)
    }
}

struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(items)
    }
}
