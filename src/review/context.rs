//! What a revision takes of a model's context, in all and for each toolset, in estimated tokens.

use std::collections::{BTreeMap, BTreeSet};

use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::Serialize;

use super::offered::{Offers, definition};
use super::{Side, tokens};
use crate::catalog::Entry;
use crate::resource::toolset::{Selector, ToolsetSpec};
use crate::resource::{Kind, Name, Spec};

/// Tokens of what one toolset lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolsetContext {
    pub name: Name,
    /// None: there is no such toolset.
    pub before: Option<usize>,
    pub after: Option<usize>,
}

/// Estimated tokens of every tool's name, description and input schema, and of instructions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    pub before: usize,
    pub after: usize,
    /// How far from a count the estimate may be, in percent.
    pub error_percent: usize,
    pub toolsets: Vec<ToolsetContext>,
}

pub(super) fn compare(sides: (&Side<'_>, &Side<'_>), offers: (&Offers, &Offers)) -> Context {
    let (was, now) = (toolsets(sides.0, offers.0), toolsets(sides.1, offers.1));
    let names: BTreeSet<&Name> = was.keys().chain(now.keys()).collect();
    let toolsets = names.into_iter().map(|name| ToolsetContext {
        name: name.clone(),
        before: was.get(name).copied(),
        after: now.get(name).copied(),
    });
    Context {
        before: whole(offers.0),
        after: whole(offers.1),
        error_percent: tokens::ERROR_PERCENT,
        toolsets: toolsets.collect(),
    }
}

fn of_entry(entry: &Entry) -> usize {
    tokens::of_tool(&definition(entry))
}

fn whole(offers: &Offers) -> usize {
    let tools: usize = offers.catalog.tools.values().map(|entry| of_entry(entry)).sum();
    tools + offers.catalog.instructions.as_deref().map_or(0, tokens::estimate)
}

fn toolsets(side: &Side<'_>, offers: &Offers) -> BTreeMap<Name, usize> {
    let mut found = BTreeMap::new();
    for (id, declared) in side.manifest.resources.iter().filter(|(id, _)| id.kind == Kind::Toolset) {
        if let Spec::Toolset(spec) = &declared.spec {
            found.insert(id.name.clone(), of_toolset(spec, side, offers));
        }
    }
    found
}

fn of_toolset(spec: &ToolsetSpec, side: &Side<'_>, offers: &Offers) -> usize {
    let selectors: Vec<(&Selector, Option<GlobSet>)> =
        spec.select.iter().map(|selector| (selector, globs(&selector.names))).collect();
    let taken = |entry: &Entry| {
        selectors.iter().any(|(selector, names)| takes(selector, names.as_ref(), entry, side))
    };
    let entries = offers.catalog.tools.values().filter(|entry| taken(entry));
    let tools: usize = entries.map(|entry| of_entry(entry)).sum();
    tools + spec.instructions.as_deref().map_or(0, tokens::estimate)
}

/// Whether an entry fits all of what a selector says.
fn takes(selector: &Selector, names: Option<&GlobSet>, entry: &Entry, side: &Side<'_>) -> bool {
    let declared = side.manifest.resources.get(&entry.owner);
    let labelled = selector.match_labels.iter().all(|(key, value)| {
        declared.is_some_and(|declared| declared.metadata.labels.get(key) == Some(value))
    });
    let owned = selector.servers.is_empty()
        || entry.owner.kind == Kind::Server && selector.servers.contains(&entry.owner.name);
    let called = selector.names.is_empty() || names.is_some_and(|names| names.is_match(&*entry.name));
    labelled && owned && called
}

/// None: one of them is no pattern, which is told elsewhere.
fn globs(patterns: &[String]) -> Option<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).ok()?);
    }
    set.build().ok()
}
