//! A `Toolset` with its selectors compiled, checked against what there is to select.

use std::collections::BTreeMap;
use std::sync::Arc;

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::place::Findings;
use super::{Desired, Server};
use crate::manifest::suggest::nearest;
use crate::manifest::{Declared, Diagnostic, Manifest, Place};
use crate::resource::toolset::{Access, Search, Selector, ToolsetSpec};
use crate::resource::{Digest, Kind, Labels, Name, ResourceId, Spec};

/// A named part of the catalog.
#[derive(Clone, Debug)]
pub struct Toolset {
    pub id: ResourceId,
    pub place: Place,
    select: Vec<Selection>,
    pub search: Search,
    /// Replaces those of its servers.
    pub instructions: Option<String>,
    /// None: everybody who may use the daemon's endpoint.
    pub access: Option<Access>,
    /// Over all that is declared of it.
    pub digest: Digest,
}

/// One selector, compiled.
#[derive(Clone, Debug)]
struct Selection {
    labels: BTreeMap<String, String>,
    servers: Vec<Name>,
    /// None: every name.
    names: Option<GlobSet>,
}

impl Toolset {
    /// Whether the entry that `owner` (with these labels) publishes as `name` belongs to it.
    pub fn takes(&self, owner: &ResourceId, labels: &Labels, name: &str) -> bool {
        self.select.iter().any(|selection| {
            selection.owned(owner, labels)
                && selection.names.as_ref().is_none_or(|names| names.is_match(name))
        })
    }

    /// Whether its endpoint is for somebody, by their name and groups.
    pub fn names(&self, user: &str, groups: &[String]) -> bool {
        self.access.as_ref().is_none_or(|access| access.names(user, groups))
    }

    /// Whether somebody may use its endpoint, with a token of these scopes.
    pub fn admits(&self, user: &str, groups: &[String], scopes: &[String]) -> bool {
        self.names(user, groups) && self.access.as_ref().is_none_or(|access| access.is_within(scopes))
    }
}

impl Selection {
    fn of(selector: &Selector) -> Option<Self> {
        let Selector { match_labels, servers, names } = selector;
        let mut set = GlobSetBuilder::new();
        for name in names {
            set.add(Glob::new(name).ok()?);
        }
        let names = if names.is_empty() { None } else { Some(set.build().ok()?) };
        Some(Self { labels: match_labels.clone(), servers: servers.clone(), names })
    }

    fn owned(&self, owner: &ResourceId, labels: &Labels) -> bool {
        let listed = owner.kind == Kind::Server && self.servers.contains(&owner.name);
        (self.servers.is_empty() || listed)
            && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// Resolves every toolset; one with a fault keeps its version in `previous`.
pub(super) fn all(manifest: &Manifest, desired: &mut Desired, previous: Option<&Desired>) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let mut toolsets = BTreeMap::new();
    for (id, declared) in manifest.resources.iter().rev().take_while(|(id, _)| id.kind == Kind::Toolset) {
        let Spec::Toolset(spec) = &declared.spec else { continue };
        let before = previous.and_then(|previous| previous.toolsets.get(&id.name));
        let mut findings = Findings::new(declared);
        if id.name.as_str() == OPERATOR {
            let message = "`operator` is the name of the endpoint for operators";
            findings.error(&[], "invalid-value", message, "call the toolset something else");
        }
        if id.name.as_str() == SERVER_CARD {
            let message = "`server-card` is where the card of an endpoint is";
            findings.error(&[], "invalid-value", message, "call the toolset something else");
        }
        possible(manifest, desired, spec, &mut findings);
        if findings.failed() {
            desired.faulty.insert(id.clone());
            toolsets.extend(before.map(|before| (id.name.clone(), Arc::clone(before))));
        } else {
            let resolved = one(declared, spec);
            let same =
                before.filter(|before| before.digest == resolved.digest && before.place == resolved.place);
            toolsets.insert(id.name.clone(), same.map_or_else(|| Arc::new(resolved), Arc::clone));
        }
        diagnostics.append(&mut findings.diagnostics);
    }
    desired.toolsets = toolsets;
    diagnostics
}

fn one(declared: &Declared, spec: &ToolsetSpec) -> Toolset {
    let id = declared.id();
    Toolset {
        digest: Digest::of("toolset", &(&id, spec)),
        id,
        place: declared.place.clone(),
        // Patterns were checked when they were read.
        select: spec.select.iter().filter_map(Selection::of).collect(),
        search: spec.search,
        instructions: spec.instructions.clone(),
        access: spec.access.clone(),
    }
}

/// The endpoint of a toolset of that name is the one for operators.
pub const OPERATOR: &str = "operator";
/// At the endpoint of a toolset of that name would be the card of everything.
const SERVER_CARD: &str = "server-card";

/// Tells of selectors that nothing declared can fit.
fn possible(manifest: &Manifest, desired: &Desired, spec: &ToolsetSpec, findings: &mut Findings<'_>) {
    for (at, selector) in spec.select.iter().enumerate() {
        let at = at.to_string();
        let mut complete = true;
        for (nth, name) in selector.servers.iter().enumerate() {
            let id = ResourceId::new(Kind::Server, name.clone());
            if !manifest.resources.contains_key(&id) && !manifest.faulty.contains(&id) {
                complete = false;
                unknown_server(manifest, &["select", &at, "servers", &nth.to_string()], name, findings);
            }
        }
        // What is faulty or waits may be what is meant.
        let kinds = |id: &ResourceId| matches!(id.kind, Kind::Server | Kind::Tool);
        let settled = !desired.faulty.iter().chain(&desired.pending).any(kinds);
        if complete && settled && !fits(desired, selector) {
            let warning =
                Diagnostic::warning("impossible-selector", "nothing that is declared fits this selector")
                    .hint("check the spelling of labels and names; all that one selector says has to fit");
            findings.add(&["select", &at], warning);
        }
    }
}

/// A server that is named and not declared.
pub(super) fn unknown_server(manifest: &Manifest, path: &[&str], name: &Name, findings: &mut Findings<'_>) {
    let known = manifest.resources.keys().filter(|id| id.kind == Kind::Server).map(|id| id.name.as_str());
    let hint = match nearest(name.as_str(), known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "declare it, or remove the name".to_owned(),
    };
    findings.error(path, "unknown-server", format!("there is no server `{name}`"), &hint);
}

fn fits(desired: &Desired, selector: &Selector) -> bool {
    let Some(selection) = Selection::of(selector) else { return true };
    let named = |name: &str| selection.names.as_ref().is_none_or(|names| names.is_match(name));
    let tool = || {
        desired.tools.values().any(|tool| selection.owned(&tool.id, &tool.labels) && named(&tool.published))
    };
    let server = |server: &Arc<Server>| {
        server.synced && selection.owned(&server.id, &server.labels) && reaches(server, &selector.names)
    };
    tool() || desired.servers.values().any(server)
}

/// Whether some tool of the server could have a name that fits one of the patterns: what a server lists
/// is not known before it runs, what stands before its names is.
fn reaches(server: &Server, patterns: &[String]) -> bool {
    let fixed = |pattern: &String| {
        let end = pattern.find(['*', '?', '[', '{', '\\']).unwrap_or(pattern.len());
        let (fixed, whole) = (&pattern[..end], end == pattern.len());
        let prefix = server.prefix.as_str();
        fixed.starts_with(prefix) || (!whole && prefix.starts_with(fixed))
    };
    let renamed = |pattern: &String| {
        let names = server.presented.overrides.values().filter_map(|change| change.name.as_deref());
        Glob::new(pattern).is_ok_and(|glob| {
            let glob = glob.compile_matcher();
            names.into_iter().any(|name| glob.is_match(name))
        })
    };
    patterns.is_empty() || patterns.iter().any(|pattern| fixed(pattern) || renamed(pattern))
}
