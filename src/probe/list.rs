//! The lists of a server, page after page, within bounds.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::mcp::client::{CallError, Params, Upstream};
use crate::mcp::wire::{code, quote, raw};
use crate::ports::Offer;
use crate::resource::Digest;

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

/// What a server listed, and what it was read from.
#[derive(Clone)]
pub(super) struct Known {
    /// In the order of the lists of an offer.
    lists: [Arc<Listed>; 4],
    pub(super) offer: Offer,
}

/// One list, with the digest of each of its pages and how many items that has.
#[derive(Default, PartialEq, Eq)]
struct Listed {
    pages: Vec<(Digest, usize)>,
    items: Vec<Arc<str>>,
}

/// Asks for everything the server says it has.
pub(super) async fn offer(upstream: &Upstream, until: Instant) -> Result<Offer, ListError> {
    Ok(again(upstream, None, until).await?.offer)
}

/// The same. Pages that are those of before, byte for byte, are not read again.
pub(super) async fn again(
    upstream: &Upstream,
    known: Option<&Known>,
    until: Instant,
) -> Result<Known, ListError> {
    let budget = AtomicUsize::new(BYTES);
    let before = |at: usize| known.map(|known| &*known.lists[at]);
    let all = |at, list| listed(upstream, list, before(at), &budget, until);
    let (tools, prompts, resources, templates) =
        futures::try_join!(all(0, &TOOLS), all(1, &PROMPTS), all(2, &RESOURCES), all(3, &TEMPLATES))?;
    let lists = [tools, prompts, resources, templates].map(Arc::new);
    let same = known.filter(|known| known.lists.iter().zip(&lists).all(|(a, b)| a.pages == b.pages));
    match same {
        Some(same) => Ok(same.clone()),
        None => Ok(Known { offer: offered(upstream, &lists), lists }),
    }
}

fn offered(upstream: &Upstream, lists: &[Arc<Listed>; 4]) -> Offer {
    let [mut tools, prompts, resources, templates] = lists.each_ref().map(|list| list.items.clone());
    for (name, reason) in upstream.learn(&tools) {
        tracing::warn!(tool = name, reason, "a tool is left out: its header annotations are not valid");
        tools.retain(|tool| !is_named(tool, &name));
    }
    let handshake = upstream.handshake().clone();
    Offer {
        protocol: handshake.protocol,
        server_info: handshake.server_info,
        capabilities: handshake.capabilities,
        instructions: handshake.instructions,
        tools,
        prompts,
        resources,
        templates,
    }
}

async fn listed(
    upstream: &Upstream,
    list: &List,
    known: Option<&Listed>,
    budget: &AtomicUsize,
    until: Instant,
) -> Result<Listed, ListError> {
    let method = list.method;
    let mut reading = Reading { list, known, listed: Listed::default(), names: None };
    if !has(upstream, list.capability) {
        return Ok(reading.listed);
    }
    let mut params = raw_object("{}".to_owned());
    for _ in 0..PAGES {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let page = match Box::pin(upstream.look(method, Params::of(&params), left)).await {
            Ok(page) => page,
            // The capability was said, or not denied, but there is no such list.
            Err(CallError::Server(error))
                if error.code == code::METHOD_NOT_FOUND && reading.listed.items.is_empty() =>
            {
                return Ok(reading.listed);
            }
            Err(CallError::TooLong(max)) => {
                return Err(ListError::TooMany { method, max, what: "bytes in one page" });
            }
            Err(CallError::Timeout(_)) => return Err(ListError::Late(method)),
            Err(source) => return Err(ListError::Call { method, source }),
        };
        spend(budget, page.get().len())?;
        reading.take(&page)?;
        match raw::get_str(&page, "nextCursor") {
            Some(cursor) => params = raw_object(format!("{{\"cursor\":{}}}", quote(&cursor))),
            None => return Ok(reading.listed),
        }
    }
    Err(ListError::TooMany { method, max: PAGES, what: "pages" })
}

/// A list that is being read.
struct Reading<'a> {
    list: &'a List,
    /// As it was before.
    known: Option<&'a Listed>,
    listed: Listed,
    /// From the first page on that is not as it was before.
    names: Option<HashSet<String>>,
}

impl Reading<'_> {
    fn take(&mut self, page: &RawValue) -> Result<(), ListError> {
        let digest = Digest::of_bytes(page.get().as_bytes());
        let Listed { pages, items } = &mut self.listed;
        let before = items.len();
        let known = self.known.filter(|_| self.names.is_none());
        let same = known.and_then(|known| {
            let (_, count) = known.pages.get(pages.len()).filter(|(of, _)| *of == digest)?;
            known.items.get(before..before + count)
        });
        if let Some(same) = same {
            items.extend_from_slice(same);
        } else {
            let names = self.names.get_or_insert_with(|| names(self.list, items));
            take(self.list, page, names, items)?;
        }
        pages.push((digest, items.len() - before));
        Ok(())
    }
}

fn names(list: &List, items: &[Arc<str>]) -> HashSet<String> {
    let name = |item: &Arc<str>| {
        let item: &RawValue = serde_json::from_str(item).ok()?;
        raw::get_str(item, list.key).map(std::borrow::Cow::into_owned)
    };
    items.iter().filter_map(name).collect()
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
    fn pages_of_before_are_not_read_again_and_names_stay_unique() {
        let page = |names: &[&str]| {
            let items: Vec<_> = names.iter().map(|name| format!(r#"{{"name":"{name}"}}"#)).collect();
            raw_object(format!(r#"{{"tools":[{}]}}"#, items.join(",")))
        };
        let read = |known: Option<&Listed>, pages: &[Box<RawValue>]| {
            let mut reading = Reading { list: &TOOLS, known, listed: Listed::default(), names: None };
            pages.iter().try_for_each(|page| reading.take(page))?;
            Ok::<_, ListError>((reading.listed, reading.names.is_some()))
        };
        let (first, second) = (page(&["a", "b"]), page(&["c"]));
        let (known, fresh) = read(None, &[first.clone(), second.clone()]).expect("fine");
        assert!(fresh && known.items.len() == 3);
        let (again, fresh) = read(Some(&known), &[first.clone(), second.clone()]).expect("fine");
        assert!(!fresh && again == known);
        assert!(again.items.iter().zip(&known.items).all(|(a, b)| Arc::ptr_eq(a, b)), "the same memory");
        let (shorter, fresh) = read(Some(&known), std::slice::from_ref(&first)).expect("fine");
        assert!(!fresh && shorter.pages != known.pages && shorter.items.len() == 2);
        let (other, fresh) = read(Some(&known), &[first.clone(), page(&["d"])]).expect("fine");
        assert!(fresh && other.items.len() == 3 && other.items[2].contains('d'));
        let twice = read(Some(&known), &[first, page(&["b"])]).err().expect("twice");
        assert_eq!(twice.to_string(), "`tools/list` lists `b` twice");
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
