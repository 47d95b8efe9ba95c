//! The lists of a server, page after page, within bounds.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::mcp::client::{CallError, Params, Upstream};
use crate::mcp::wire::{code, quote, raw};
use crate::ports::{CallContext, Offer};

/// Pages of one list. Servers in use send 50 to 1,000 items a page.
const PAGES: usize = 100;

/// Items of one list: twice what the largest server known offers times ten, and far less than a
/// server that lists 100,000 tools to whoever asks.
const ITEMS: usize = 20_000;

/// Bytes of all lists together: 20,000 definitions of 3 KiB.
const BYTES: usize = 64 << 20;

/// How much of a name an error shows, in characters.
const NAME: usize = 80;

/// Why a list is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListError {
    #[error("`{method}` failed")]
    Call { method: &'static str, source: CallError },
    #[error("`{0}` did not end in time")]
    Late(&'static str),
    #[error("`{method}` lists more than {max} {what}")]
    TooMany { method: &'static str, max: usize, what: &'static str },
    #[error("its lists are longer than {BYTES} bytes")]
    TooLarge,
    #[error("the result of `{method}` has no array `{field}`")]
    NoList { method: &'static str, field: &'static str },
    #[error("`{method}` lists something without `{key}` as item {index}")]
    NoName { method: &'static str, key: &'static str, index: usize },
    #[error("`{method}` lists `{name}` twice")]
    Twice { method: &'static str, name: String },
}

/// One of the four lists.
struct List {
    method: &'static str,
    /// Where the items are in the result.
    field: &'static str,
    /// What an item is known by.
    key: &'static str,
    /// The capability that says that the server has such a list.
    capability: &'static str,
}

const TOOLS: List = List { method: "tools/list", field: "tools", key: "name", capability: "tools" };
const PROMPTS: List = List { method: "prompts/list", field: "prompts", key: "name", capability: "prompts" };
const RESOURCES: List =
    List { method: "resources/list", field: "resources", key: "uri", capability: "resources" };
const TEMPLATES: List = List {
    method: "resources/templates/list",
    field: "resourceTemplates",
    key: "uriTemplate",
    capability: "resources",
};

/// Asks for everything the server says it has.
pub(super) async fn offer(upstream: &Upstream, until: Instant) -> Result<Offer, ListError> {
    let budget = AtomicUsize::new(BYTES);
    let all = |list| items(upstream, list, &budget, until);
    let (mut tools, prompts, resources, templates) =
        futures::try_join!(all(&TOOLS), all(&PROMPTS), all(&RESOURCES), all(&TEMPLATES))?;
    for (name, reason) in upstream.learn(&tools) {
        tracing::warn!(tool = name, reason, "a tool is left out: its header annotations are not valid");
        tools.retain(|tool| !is_named(tool, &name));
    }
    let handshake = upstream.handshake().clone();
    Ok(Offer {
        protocol: handshake.protocol,
        server_info: handshake.server_info,
        capabilities: handshake.capabilities,
        instructions: handshake.instructions,
        tools,
        prompts,
        resources,
        templates,
    })
}

async fn items(
    upstream: &Upstream,
    list: &List,
    budget: &AtomicUsize,
    until: Instant,
) -> Result<Vec<Arc<str>>, ListError> {
    let method = list.method;
    let mut items = Vec::new();
    if !has(upstream, list.capability) {
        return Ok(items);
    }
    let mut names = HashSet::new();
    let mut params = raw_object("{}".to_owned());
    for _ in 0..PAGES {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let context = CallContext::default();
        let page = match Box::pin(upstream.call(method, Params::of(&params), left, &context)).await {
            Ok(page) => page,
            // The capability was said, or not denied, but there is no such list.
            Err(CallError::Server(error)) if error.code == code::METHOD_NOT_FOUND && items.is_empty() => {
                return Ok(items);
            }
            Err(CallError::TooLong(max)) => {
                return Err(ListError::TooMany { method, max, what: "bytes in one page" });
            }
            Err(CallError::Timeout(_)) => return Err(ListError::Late(method)),
            Err(source) => return Err(ListError::Call { method, source }),
        };
        spend(budget, page.get().len())?;
        take(list, &page, &mut names, &mut items)?;
        match raw::get_str(&page, "nextCursor") {
            Some(cursor) => params = raw_object(format!("{{\"cursor\":{}}}", quote(&cursor))),
            None => return Ok(items),
        }
    }
    Err(ListError::TooMany { method, max: PAGES, what: "pages" })
}

/// Takes the items of one page.
fn take(
    list: &List,
    page: &RawValue,
    names: &mut HashSet<String>,
    items: &mut Vec<Arc<str>>,
) -> Result<(), ListError> {
    let List { method, field, key, .. } = *list;
    let found = raw::get(page, field).ok_or(ListError::NoList { method, field })?;
    let found: Vec<&RawValue> =
        serde_json::from_str(found.get()).map_err(|_| ListError::NoList { method, field })?;
    if items.len() + found.len() > ITEMS {
        return Err(ListError::TooMany { method, max: ITEMS, what: "items" });
    }
    for item in found {
        let name = raw::get_str(item, key).filter(|name| !name.is_empty());
        let name = name.ok_or(ListError::NoName { method, key, index: items.len() })?.into_owned();
        if names.contains(&name) {
            return Err(ListError::Twice { method, name: name.chars().take(NAME).collect() });
        }
        names.insert(name);
        items.push(item.get().into());
    }
    Ok(())
}

fn is_named(item: &str, name: &str) -> bool {
    let item = serde_json::from_str::<&RawValue>(item).ok();
    item.and_then(|item| raw::get_str(item, TOOLS.key)).is_some_and(|found| found == name)
}

/// Whether the server says it has that kind of thing. One that says nothing is asked.
fn has(upstream: &Upstream, capability: &str) -> bool {
    let Some(capabilities) = upstream.handshake().capabilities.as_deref() else { return true };
    let Ok(capabilities) = serde_json::from_str::<&RawValue>(capabilities) else { return true };
    raw::get(capabilities, capability).is_some_and(|value| value.get() != "null")
}

fn spend(budget: &AtomicUsize, bytes: usize) -> Result<(), ListError> {
    let spent = budget.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(bytes));
    spent.map(drop).map_err(|_| ListError::TooLarge)
}

fn raw_object(text: String) -> Box<RawValue> {
    raw::into_raw(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(list: &List, pages: &[String]) -> Result<Vec<Arc<str>>, ListError> {
        let (mut names, mut items) = (HashSet::new(), Vec::new());
        for page in pages {
            take(list, &raw_object(page.clone()), &mut names, &mut items)?;
        }
        Ok(items)
    }

    #[test]
    fn items_are_kept_byte_for_byte_in_their_order() {
        let pages = [
            r#"{"tools":[{"name":"b", "x":1.0 },{"execution":{},"name":"a"}],"nextCursor":"2"}"#.to_owned(),
            r#"{"tools":[{"name":"c"}]}"#.to_owned(),
        ];
        let items = taken(&TOOLS, &pages).expect("fine");
        let items: Vec<_> = items.iter().map(AsRef::as_ref).collect();
        assert_eq!(items, [r#"{"name":"b", "x":1.0 }"#, r#"{"execution":{},"name":"a"}"#, r#"{"name":"c"}"#]);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let many = vec![r#"{"name":"a"}"#; ITEMS + 1].join(",");
        let cases = [
            (r#"{"tool":[]}"#.to_owned(), "the result of `tools/list` has no array `tools`"),
            (r#"{"tools":{}}"#.to_owned(), "the result of `tools/list` has no array `tools`"),
            (
                r#"{"tools":[{"name":"a"},7]}"#.to_owned(),
                "`tools/list` lists something without `name` as item 1",
            ),
            (
                r#"{"tools":[{"name":""}]}"#.to_owned(),
                "`tools/list` lists something without `name` as item 0",
            ),
            (r#"{"tools":[{"name":"a"},{"name":"\u0061"}]}"#.to_owned(), "`tools/list` lists `a` twice"),
            (format!("{{\"tools\":[{many}]}}"), "`tools/list` lists more than 20000 items"),
        ];
        for (page, message) in cases {
            assert_eq!(taken(&TOOLS, &[page]).expect_err(message).to_string(), message);
        }
        let budget = AtomicUsize::new(10);
        assert!(spend(&budget, 6).is_ok() && spend(&budget, 6).is_err());
    }
}
