//! The part of a catalog that a toolset selects: its own lists, instructions and capabilities.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::compose::{ALL_INSTRUCTIONS, cut};
use super::page::Pages;
use super::search::Index;
use super::{Catalog, Changed, Cursor, List, search, selected};
use crate::desired::Toolset;
use crate::resource::toolset::Search;
use crate::resource::{Name, ResourceId};

/// What one server says, and can do, beside its lists.
#[derive(Clone, Debug)]
pub(super) struct Voice {
    pub(super) server: ResourceId,
    /// Under its name; bounded.
    pub(super) instructions: Option<Arc<str>>,
    pub(super) completions: bool,
    /// Whether it tells of changes of its resources.
    pub(super) subscribe: bool,
    /// Whether it may answer calls with tasks.
    pub(super) tasks: bool,
}

/// What a toolset's endpoint serves.
#[derive(Clone, Debug)]
pub struct Part {
    pub instructions: Option<Arc<str>>,
    /// Whether some server in it completes arguments.
    pub completions: bool,
    /// Whether some server in it tells of changes of its resources.
    pub subscribe: bool,
    /// Whether some server in it may answer calls with tasks.
    pub tasks: bool,
    pages: [Pages; 4],
    /// Its tools, to be found, once somebody searched.
    index: Arc<OnceLock<Index>>,
}

/// A toolset, and its part once somebody asked for it.
#[derive(Clone, Debug)]
pub(super) struct Division {
    toolset: Arc<Toolset>,
    made: OnceLock<Part>,
}

impl Catalog {
    /// With the named parts that can be asked for. What somebody asked for in `previous` is made at
    /// once, and shares what did not change.
    #[must_use]
    pub fn divided(mut self, toolsets: &BTreeMap<Name, Arc<Toolset>>, previous: Option<&Self>) -> Self {
        let mut parts = BTreeMap::new();
        for (name, toolset) in toolsets {
            let made = OnceLock::new();
            let before = previous.and_then(|previous| previous.parts.get(name.as_str())?.made.get());
            if let Some(before) = before {
                let _ = made.set(self.part_of(toolset, Some(before)));
            }
            parts.insert(Arc::from(name.as_str()), Division { toolset: Arc::clone(toolset), made });
        }
        self.parts = parts;
        self
    }

    pub fn toolset(&self, name: &str) -> Option<&Arc<Toolset>> {
        self.parts.get(name).map(|division| &division.toolset)
    }

    /// Names of the toolsets that are served, in order.
    pub fn toolsets(&self) -> impl Iterator<Item = &str> {
        self.parts.keys().map(AsRef::as_ref)
    }

    /// What a toolset serves. None: there is no such toolset.
    pub fn part(&self, name: &str) -> Option<&Part> {
        let division = self.parts.get(name)?;
        Some(division.made.get_or_init(|| self.part_of(&division.toolset, None)))
    }

    /// As [`Catalog::page`], of a part.
    pub fn page_of(&self, part: &Part, list: List, offset: usize) -> Option<(Bytes, Option<Cursor>)> {
        let (bytes, next) = part.pages.get(list as usize)?.at(offset)?;
        Some((bytes, next.map(|offset| self.cursor(offset))))
    }

    /// The tools of a part, to be found. Made at the first search of a catalog.
    pub fn index_of<'a>(&self, name: &str, part: &'a Part) -> &'a Index {
        part.index.get_or_init(|| match self.toolset(name) {
            Some(toolset) => Index::of(selected(toolset, self, List::Tools).map(Arc::clone)),
            None => Index::default(),
        })
    }

    fn part_of(&self, toolset: &Toolset, before: Option<&Part>) -> Part {
        let mut owners = BTreeSet::new();
        let mut pages = |list: List| {
            let shared = before.and_then(|before| before.pages.get(list as usize));
            if list == List::Tools && toolset.search != Search::Off {
                // What can be found are its tools all the same.
                owners.extend(selected(toolset, self, list).map(|entry| &entry.owner));
                return Pages::cut(search::definitions(toolset).into_iter(), shared);
            }
            let definitions = selected(toolset, self, list).map(|entry| {
                owners.insert(&entry.owner);
                Arc::clone(&entry.definition)
            });
            Pages::cut(definitions, shared)
        };
        let pages =
            [pages(List::Tools), pages(List::Prompts), pages(List::Resources), pages(List::Templates)];
        let voices = || self.voices.iter().filter(|voice| owners.contains(&voice.server));
        let instructions = match toolset.instructions.as_deref() {
            Some(own) => Some(Arc::from(own.trim())).filter(|text: &Arc<str>| !text.is_empty()),
            None => together(voices()),
        };
        let completions = voices().any(|voice| voice.completions);
        let subscribe = voices().any(|voice| voice.subscribe);
        let tasks = voices().any(|voice| voice.tasks);
        Part { instructions, completions, subscribe, tasks, pages, index: Arc::default() }
    }
}

impl Part {
    /// Whether somebody searched it before: the first search takes longer.
    pub fn is_indexed(&self) -> bool {
        self.index.get().is_some()
    }

    /// What a client sees differently here than in `before`.
    pub fn changed_since(&self, before: &Self) -> Changed {
        super::changed(&self.pages, &before.pages)
    }
}

/// The instructions of several servers, one after the other.
pub(super) fn together<'a>(voices: impl Iterator<Item = &'a Voice>) -> Option<Arc<str>> {
    let said: Vec<&str> = voices.filter_map(|voice| voice.instructions.as_deref()).collect();
    let all = said.join("\n\n");
    (!all.is_empty()).then(|| cut(&all, ALL_INSTRUCTIONS).into())
}
