//! Lists cut into pages, each serialised once, and the cursors between them.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

/// Entries of one page: clients with a thousand tools or fewer need one request.
pub const PAGE_ENTRIES: usize = 1000;
/// Bytes of one page at most, unless one entry alone is longer: what every client reads at once.
const PAGE_BYTES: usize = 4 << 20;
/// Longest cursor that is looked at; ours have about 50 characters, and those of a toolset its name.
const MAX_CURSOR: usize = 192;

/// The pages of one list.
#[derive(Clone, Debug)]
pub(super) struct Pages(Vec<Page>);

#[derive(Clone, Debug)]
struct Page {
    /// The place of its first entry in the list.
    start: usize,
    definitions: Vec<Arc<str>>,
    /// The JSON array, once somebody asked for it. Shared by all catalogs with this very page.
    bytes: Arc<OnceLock<Bytes>>,
}

impl Pages {
    pub(super) fn cut(definitions: impl Iterator<Item = Arc<str>>, previous: Option<&Self>) -> Self {
        let mut pages = vec![Page { start: 0, definitions: Vec::new(), bytes: Arc::default() }];
        let (mut count, mut size) = (0, 0);
        for definition in definitions {
            let full = pages.last().is_none_or(|page| {
                let entries = page.definitions.len();
                entries == PAGE_ENTRIES || (entries > 0 && size + definition.len() > PAGE_BYTES)
            });
            if full {
                pages.push(Page { start: count, definitions: Vec::new(), bytes: Arc::default() });
                size = 0;
            }
            size += definition.len();
            count += 1;
            if let Some(page) = pages.last_mut() {
                page.definitions.push(definition);
            }
        }
        if let Some(previous) = previous {
            for (page, before) in pages.iter_mut().zip(&previous.0) {
                if page.definitions == before.definitions {
                    page.bytes = Arc::clone(&before.bytes);
                }
            }
        }
        Self(pages)
    }

    /// The page that begins at `offset`, and where the next one begins.
    pub(super) fn at(&self, offset: usize) -> Option<(Bytes, Option<usize>)> {
        let index = self.0.binary_search_by_key(&offset, |page| page.start).ok()?;
        let page = self.0.get(index)?;
        let bytes = page.bytes.get_or_init(|| join(&page.definitions)).clone();
        Some((bytes, self.0.get(index + 1).map(|page| page.start)))
    }
}

/// Whether a client sees the same list. Definitions that did not change are the same allocation, so
/// that this seldom compares text.
impl PartialEq for Pages {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&Page, &Page)| Arc::ptr_eq(&a.bytes, &b.bytes) || a.definitions == b.definitions;
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }
}

fn join(definitions: &[Arc<str>]) -> Bytes {
    let size: usize = definitions.iter().map(|definition| definition.len() + 1).sum();
    let mut text = String::with_capacity(size + 2);
    text.push('[');
    for (n, definition) in definitions.iter().enumerate() {
        if n > 0 {
            text.push(',');
        }
        text.push_str(definition);
    }
    text.push(']');
    text.into()
}

/// A place in a list of one catalog. Opaque to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The short form of the commit.
    pub revision: String,
    pub generation: u64,
    pub offset: usize,
    /// Which list of which endpoint it is a place in, in the words of whoever gives it out: without
    /// dots, and at most 100 bytes. At others it leads nowhere.
    pub list: String,
}

impl Cursor {
    pub fn encode(&self) -> String {
        let Self { revision, generation, offset, list } = self;
        URL_SAFE_NO_PAD.encode(format!("{revision}.{generation}.{offset}.{list}"))
    }

    /// None: no cursor of ours.
    pub fn decode(text: &str) -> Option<Self> {
        if text.len() > MAX_CURSOR {
            return None;
        }
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let mut parts = text.split('.');
        let cursor = Self {
            revision: parts.next()?.to_owned(),
            generation: parts.next()?.parse().ok()?,
            offset: parts.next()?.parse().ok()?,
            list: parts.next()?.to_owned(),
        };
        parts.next().is_none().then_some(cursor)
    }
}
