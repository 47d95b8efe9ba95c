//! The catalog as JSON for people and programs: names, owners and definitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::catalog::{Catalog, Entry};
use crate::resource::ResourceId;
use crate::status::Counts;

/// The body of `/api/v1/catalog`.
#[derive(Debug, Serialize)]
pub struct CatalogView<'a> {
    /// `main@sha1:<commit>`.
    pub revision: String,
    pub generation: u64,
    pub tools: Vec<EntryView<'a>>,
    pub prompts: Vec<EntryView<'a>>,
    pub resources: Vec<EntryView<'a>>,
    pub templates: Vec<EntryView<'a>>,
}

/// One entry.
#[derive(Debug, Serialize)]
pub struct EntryView<'a> {
    /// The published name or URI.
    pub name: &'a str,
    pub owner: &'a ResourceId,
    /// As clients get it.
    pub definition: &'a RawValue,
}

/// What a catalog offers, in the order in which it is listed. Entries whose definition is no JSON,
/// which composing rules out, are left out.
pub fn view(catalog: &Catalog) -> CatalogView<'_> {
    CatalogView {
        revision: catalog.revision.to_string(),
        generation: catalog.generation,
        tools: entries(&catalog.tools),
        prompts: entries(&catalog.prompts),
        resources: entries(&catalog.resources),
        templates: entries(&catalog.templates),
    }
}

fn entries(map: &BTreeMap<Arc<str>, Arc<Entry>>) -> Vec<EntryView<'_>> {
    map.values().filter_map(|shared| entry(shared)).collect()
}

fn entry(entry: &Entry) -> Option<EntryView<'_>> {
    let Entry { name, definition, owner, .. } = entry;
    let definition = serde_json::from_str::<&RawValue>(definition).ok()?;
    Some(EntryView { name, owner, definition })
}

/// How many entries a catalog has.
pub fn counts(catalog: &Catalog) -> Counts {
    let count = |map: &BTreeMap<Arc<str>, Arc<Entry>>| map.len() as u64;
    Counts {
        tools: count(&catalog.tools),
        prompts: count(&catalog.prompts),
        resources: count(&catalog.resources),
        templates: count(&catalog.templates),
    }
}
