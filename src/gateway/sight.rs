//! What can be reached at an endpoint: a catalog, or the part of it that a toolset selects.

use std::sync::Arc;

use bytes::Bytes;

use crate::catalog::{Catalog, Cursor, Entry, List, Route};
use crate::desired::Toolset;
use crate::mcp::server::{About, Scope};
use crate::resource::toolset::Search;

/// A catalog as one endpoint shows it, whoever looks.
#[derive(Clone)]
pub(super) struct Sight {
    pub(super) catalog: Arc<Catalog>,
    pub(super) toolset: Option<Arc<Toolset>>,
}

impl Sight {
    /// None: there is no such toolset in this catalog.
    pub(super) fn of(catalog: Arc<Catalog>, scope: &Scope) -> Option<Self> {
        let toolset = match scope {
            Scope::Toolset(name) => Some(Arc::clone(catalog.toolset(name)?)),
            Scope::All | Scope::Revision(_) => None,
        };
        Some(Self { catalog, toolset })
    }

    /// Whether it is the very same.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.catalog, &other.catalog)
            && self.toolset.as_ref().map(Arc::as_ptr) == other.toolset.as_ref().map(Arc::as_ptr)
    }

    /// Whether its tools are found by searching, not listed.
    pub(super) fn is_searched(&self) -> bool {
        self.toolset.as_ref().is_some_and(|toolset| toolset.search != Search::Off)
    }

    pub(super) fn shows(&self, entry: &Entry) -> bool {
        self.toolset.as_ref().is_none_or(|toolset| toolset.takes(&entry.owner, entry.labels(), &entry.name))
    }

    /// The page of a list that begins at `offset`, as everybody may see it.
    pub(super) fn page(&self, list: List, offset: usize) -> Option<(Bytes, Option<Cursor>)> {
        match &self.toolset {
            Some(toolset) => {
                let part = self.catalog.part(toolset.id.name.as_str())?;
                self.catalog.page_of(part, list, offset)
            }
            None => self.catalog.page(list, offset),
        }
    }

    /// The entry of that name, or URI, in a list.
    pub(super) fn get(&self, list: List, name: &str) -> Option<&Arc<Entry>> {
        self.catalog.entries(list).get(name).filter(|entry| self.shows(entry))
    }

    /// The tool that a server calls so.
    pub(super) fn own(&self, server: &str, name: &str) -> Option<&Arc<Entry>> {
        let is = |entry: &Entry| match &entry.route {
            Route::Server { server: of, name: own, .. } => of.id.name.as_str() == server && **own == *name,
            Route::Tool(_) => false,
        };
        let mut tools = self.catalog.entries(List::Tools).values();
        tools.find(|entry| is(entry)).filter(|entry| self.shows(entry))
    }

    /// Who answers for a resource.
    pub(super) fn resource(&self, uri: &str) -> Option<&Arc<Entry>> {
        self.catalog.resource(uri, self.toolset.as_deref())
    }

    pub(super) fn about(&self) -> About {
        let name = self.toolset.as_ref().map(|toolset| toolset.id.name.as_str());
        match name.and_then(|name| self.catalog.part(name)) {
            Some(part) => About {
                instructions: part.instructions.clone(),
                completions: part.completions,
                subscribe: part.subscribe,
                tasks: part.tasks,
            },
            None => About {
                instructions: self.catalog.instructions.clone(),
                completions: self.catalog.completions,
                subscribe: self.catalog.subscribe,
                tasks: self.catalog.tasks,
            },
        }
    }
}
