//! One definition as offered, to the same definition as it is sent: published name, provenance in
//! `_meta`, every other byte as it came.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::List;

/// Ours in `_meta`: what a server says under these names is not passed on.
const NAMESPACE: &str = "dev.toolcrib/";

/// A definition read far enough to be published.
pub(super) struct Definition<'a> {
    text: &'a str,
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
    list: List,
    /// The server's own name for it: `name`, `uri` or `uriTemplate`.
    pub(super) name: Cow<'a, str>,
}

/// The text that is sent, and where its input schema stands.
pub(super) struct Published {
    pub(super) text: String,
    pub(super) schema: Option<Range<usize>>,
}

impl List {
    /// The member that identifies an entry.
    fn key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
        }
    }
}

impl<'a> Definition<'a> {
    /// # Errors
    /// Why a client could not use it, as a sentence about the definition.
    pub(super) fn read(text: &'a str, list: List) -> Result<Self, String> {
        let text = text.trim();
        let members = serde_json::Deserializer::from_str(text)
            .deserialize_map(Members)
            .map_err(|error| format!("its definition is not a JSON object: {error}"))?;
        let key = list.key();
        let mut names = members.iter().filter(|(name, _)| name == key);
        let name = match (names.next(), names.next()) {
            (Some((_, value)), None) => string(value).filter(|name| !name.is_empty()),
            _ => None,
        };
        let name =
            name.ok_or_else(|| format!("its definition has not exactly one `{key}` that is a string"))?;
        let definition = Self { text, members, list, name };
        if list == List::Tools && !definition.get("inputSchema").is_some_and(is_object) {
            return Err("its definition has no `inputSchema` object".to_owned());
        }
        Ok(definition)
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a str> {
        self.members.iter().find(|(name, _)| name == key).map(|(_, value)| value.get())
    }

    /// Under `name`, with the members `provenance` (JSON, no braces) in `_meta`, and with the values of
    /// `edits` (JSON, by member) instead of its own.
    pub(super) fn publish(&self, name: &str, provenance: &str, edits: &[(&str, String)]) -> Published {
        let mut out = String::with_capacity(self.text.len() + name.len() + provenance.len() + 16);
        let (mut copied, mut schema, mut has_meta) = (0, None, false);
        for (key, value) in &self.members {
            // Every value is a slice of `text`.
            let start = value.get().as_ptr() as usize - self.text.as_ptr() as usize;
            out.push_str(self.text.get(copied..start).unwrap_or_default());
            copied = start + value.get().len();
            if key == self.list.key() && name != self.name {
                out.push_str(&serde_json::Value::from(name).to_string());
            } else if key == "_meta" {
                has_meta = true;
                push_meta(&mut out, value, provenance);
            } else if let Some((_, edited)) = edits.iter().find(|(member, _)| member == key) {
                out.push_str(edited);
            } else {
                if key == "inputSchema" {
                    schema = Some(out.len()..out.len() + value.get().len());
                }
                out.push_str(value.get());
            }
        }
        let rest = self.text.get(copied..).unwrap_or_default();
        let end = rest.rfind('}').unwrap_or(rest.len());
        out.push_str(rest.get(..end).unwrap_or_default());
        for (member, value) in edits.iter().filter(|(member, _)| self.get(member).is_none()) {
            let _ = write!(out, ",\"{member}\":{value}");
        }
        if !has_meta {
            out.push_str(",\"_meta\":{");
            out.push_str(provenance);
            out.push('}');
        }
        out.push_str(rest.get(end..).unwrap_or_default());
        Published { text: out, schema }
    }
}

/// `_meta` as the server sent it, without what is ours, and with `provenance`.
fn push_meta(out: &mut String, meta: &RawValue, provenance: &str) {
    let theirs = serde_json::Deserializer::from_str(meta.get()).deserialize_map(Members).unwrap_or_default();
    out.push('{');
    for (key, value) in theirs.iter().filter(|(key, _)| !key.starts_with(NAMESPACE)) {
        out.push_str(&serde_json::Value::from(key.as_ref()).to_string());
        out.push(':');
        out.push_str(value.get());
        out.push(',');
    }
    out.push_str(provenance);
    out.push('}');
}

fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|Text(text)| text)
}

fn is_object(json: &str) -> bool {
    json.starts_with('{')
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
