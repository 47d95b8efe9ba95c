//! URIs of a server with a `resourcesPrefix`: clients' to the server's own, and back in results.
//!
//! Input: what a client sends, and what the server answers. Output: the same with URIs of resources
//! changed, every other byte as it came. Links to the web (`https`) that the server does not list are
//! links for the client, and stay. Not here: arguments and structured content, which have forms of their
//! own.

use serde_json::value::RawValue;

use crate::catalog::Catalog;
use crate::mcp::wire::{quote, raw};

/// How the URIs of one server are published.
#[derive(Clone, Copy)]
pub(super) struct Links<'a> {
    /// Before each of them.
    pub(super) prefix: &'a str,
    pub(super) catalog: &'a Catalog,
}

impl Links<'_> {
    fn public(&self, uri: &str) -> Option<String> {
        let public = format!("{}{uri}", self.prefix);
        let web = uri.starts_with("https://") || uri.starts_with("http://");
        (!web || self.catalog.resources.contains_key(public.as_str())).then_some(public)
    }

    /// A result of `tools/call`, `prompts/get` or `resources/read` with published URIs. None: as it is.
    pub(super) fn published(&self, result: &RawValue) -> Option<Box<RawValue>> {
        let mut edits = Vec::new();
        for (key, edit) in [
            ("content", &(|item: &RawValue| self.block(item)) as &dyn Fn(&RawValue) -> Option<String>),
            ("contents", &|item| self.contents(item)),
            ("messages", &|item| self.message(item)),
        ] {
            let value = raw::get(result, key);
            edits.extend(value.and_then(|value| array(value, edit)).map(|text| (key, text)));
        }
        if edits.is_empty() {
            return None;
        }
        let edits: Vec<_> = edits.iter().map(|(key, text)| (*key, text.as_str())).collect();
        raw::set(result, &edits).and_then(raw::into_raw).ok()
    }

    /// A block of content: a link, or a resource in place.
    fn block(&self, block: &RawValue) -> Option<String> {
        match &*raw::get_str(block, "type")? {
            "resource_link" => self.contents(block),
            "resource" => {
                let inner = self.contents(raw::get(block, "resource")?)?;
                raw::set(block, &[("resource", &inner)]).ok()
            }
            _ => None,
        }
    }

    /// Something with a `uri`.
    fn contents(&self, contents: &RawValue) -> Option<String> {
        let public = self.public(&raw::get_str(contents, "uri")?)?;
        raw::set(contents, &[("uri", &quote(&public))]).ok()
    }

    /// A message of a prompt: its content is one block, or several.
    fn message(&self, message: &RawValue) -> Option<String> {
        let content = raw::get(message, "content")?;
        let edited = match array(content, &|block| self.block(block)) {
            Some(edited) => edited,
            None => self.block(content)?,
        };
        raw::set(message, &[("content", &edited)]).ok()
    }
}

/// An array with some of its items changed. None: it is none, or nothing changes.
fn array(value: &RawValue, edit: &dyn Fn(&RawValue) -> Option<String>) -> Option<String> {
    let items: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
    let edited: Vec<Option<String>> = items.iter().map(|item| edit(item)).collect();
    if edited.iter().all(Option::is_none) {
        return None;
    }
    let parts = items.iter().zip(&edited).map(|(item, edited)| edited.as_deref().unwrap_or(item.get()));
    Some(format!("[{}]", parts.collect::<Vec<_>>().join(",")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::catalog::tests::revision;

    #[test]
    fn links_of_every_kind_are_published_and_all_else_is_kept() {
        let catalog = Catalog::empty(revision(0));
        let links = Links { prefix: "n+", catalog: &catalog };
        let link = |uri: &str| json!({"type": "resource_link", "uri": uri, "name": "x", "size": 1.50});
        let inner =
            |uri: &str| json!({"type": "resource", "resource": {"uri": uri, "text": "note://in text"}});
        let text = json!({"type": "text", "text": "note://1", "uri": "note://no"});
        let result = |uri: &str| {
            json!({
                "content": [text, link(uri), inner(uri), link("https://example.com/")],
                "contents": [{"uri": uri, "blob": "AA=="}],
                "messages": [
                    {"role": "user", "content": inner(uri)},
                    {"role": "user", "content": [link(uri)]},
                    {"role": "user", "content": text},
                ],
                "structuredContent": {"uri": "note://1"},
            })
        };
        let given = raw::into_raw(result("note://1").to_string()).expect("JSON");
        let published = links.published(&given).expect("changed");
        assert_eq!(serde_json::from_str::<Value>(published.get()).expect("JSON"), result("n+note://1"));
        for same in [r#"{"content":[]}"#, r#"{"content":{"uri":"a:b"}}"#, "{}", "[]", "1"] {
            assert!(links.published(&raw::into_raw(same.to_owned()).expect("JSON")).is_none(), "{same}");
        }
    }
}
