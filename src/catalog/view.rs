//! The part of a list that one principal sees.

use std::sync::Arc;

use bytes::Bytes;

use super::page::Pages;
use super::{Catalog, Cursor, Entry, List};

/// The entries of one list of a catalog that are not hidden, in pages of their own.
#[derive(Clone, Debug)]
pub struct View {
    revision: String,
    generation: u64,
    pages: Pages,
}

impl Catalog {
    /// The entries of a list that `sees` leaves in.
    pub fn view(&self, list: List, sees: impl Fn(&Entry) -> bool) -> View {
        let entries = self.entries(list).values();
        let left = entries.filter(|entry| sees(entry)).map(|entry| Arc::clone(&entry.definition));
        View {
            revision: self.revision.short().to_owned(),
            generation: self.generation,
            pages: Pages::cut(left, None),
        }
    }
}

impl View {
    /// As [`Catalog::page`].
    pub fn page(&self, offset: usize) -> Option<(Bytes, Option<Cursor>)> {
        let (bytes, next) = self.pages.at(offset)?;
        let cursor = |offset| Cursor {
            revision: self.revision.clone(),
            generation: self.generation,
            offset,
            list: String::new(),
        };
        Some((bytes, next.map(cursor)))
    }

    /// Whether a client sees the same list.
    pub fn shows_the_same(&self, other: &Self) -> bool {
        self.pages == other.pages
    }
}
