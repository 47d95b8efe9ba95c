//! Desired resources and offers to a catalog, with what could not be put in it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::Deserialize;

use super::definition::Definition;
use super::edit::edits;
use super::page::Pages;
use super::part::{self, Voice};
use super::settle::{Candidate, settle};
use super::{Catalog, Entry, List, ReadyTool, Route, TASKS, header};
use crate::desired::{self, Filter, Location, Program};
use crate::live::{Offer, UpstreamKey};
use crate::resource::server::Instructions;
use crate::resource::{Kind, ResourceId, Revision};

/// Characters of a published name: what every API for models accepts.
const MAX_NAME: usize = 64;
/// Bytes of instructions of one server, and of all: a client puts them into every conversation.
const SERVER_INSTRUCTIONS: usize = 4 << 10;
pub(super) const ALL_INSTRUCTIONS: usize = 16 << 10;

/// All that a catalog is made of.
pub struct Input<'a> {
    pub revision: &'a Revision,
    /// Servers in the catalog that have an instance to call, each once.
    pub servers: &'a [Offered],
    pub tools: &'a [ReadyTool],
    /// The catalog before: incumbents keep their names, and what did not change is shared.
    pub previous: Option<&'a Catalog>,
}

/// A server, the instance of it that answers, and what that one offers.
#[derive(Clone)]
pub struct Offered {
    pub server: Arc<desired::Server>,
    pub upstream: UpstreamKey,
    pub offer: Arc<Offer>,
}

/// Something that is not offered, or not as its resource has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub resource: ResourceId,
    /// The name or URI it would have.
    pub entry: String,
    pub kind: ReportKind,
    /// Ends with the next step, where there is one.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportKind {
    /// It cannot be offered as it is.
    Hidden,
    /// Somebody else has its name.
    Quarantined,
    /// It is offered, and somebody else wants its name.
    Contested,
}

/// Makes the next catalog.
pub fn compose(input: &Input<'_>) -> (Catalog, Vec<Report>) {
    let mut reports = Vec::new();
    let tools = entries(input, List::Tools, &mut reports);
    let prompts = entries(input, List::Prompts, &mut reports);
    let resources = entries(input, List::Resources, &mut reports);
    let templates = entries(input, List::Templates, &mut reports);
    let pages = |entries: &BTreeMap<Arc<str>, Arc<Entry>>, list: List| {
        let before = input.previous.and_then(|previous| previous.pages.get(list as usize));
        Pages::cut(entries.values().map(|entry| Arc::clone(&entry.definition)), before)
    };
    let voices = voices(input);
    let catalog = Catalog {
        revision: input.revision.clone(),
        generation: input.previous.map_or(0, |previous| previous.generation) + 1,
        pages: [
            pages(&tools, List::Tools),
            pages(&prompts, List::Prompts),
            pages(&resources, List::Resources),
            pages(&templates, List::Templates),
        ],
        tools,
        prompts,
        resources,
        templates,
        instructions: part::together(voices.iter()),
        completions: voices.iter().any(|voice| voice.completions),
        subscribe: voices.iter().any(|voice| voice.subscribe),
        tasks: voices.iter().any(|voice| voice.tasks),
        voices,
        operators: None,
        parts: BTreeMap::new(),
        unlisted: unlisted(input),
    };
    (catalog, reports)
}

/// The servers whose entries are in the catalog, in the order of their ids.
fn published<'a>(input: &'a Input<'_>) -> impl Iterator<Item = &'a Offered> {
    let mut servers: Vec<_> = input.servers.iter().filter(|offered| offered.server.synced).collect();
    servers.sort_by(|a, b| a.server.id.cmp(&b.server.id));
    servers.into_iter()
}

fn entries(input: &Input<'_>, list: List, reports: &mut Vec<Report>) -> BTreeMap<Arc<str>, Arc<Entry>> {
    let previous = input.previous.map(|catalog| catalog.entries(list));
    let known = Known::of(previous);
    let mut candidates = Vec::new();
    for offered in published(input) {
        collect(offered, list, &known, &mut candidates, reports);
    }
    if list == List::Tools {
        candidates.extend(input.tools.iter().map(candidate_of_tool));
    }
    let revision: Arc<str> = input.revision.to_string().into();
    let settled = settle(candidates, list, previous, reports);
    let entry = |candidate: Candidate| {
        let before = previous.and_then(|entries| entries.get(candidate.name.as_str()));
        match publish(&candidate, list, before, &revision) {
            Ok(entry) => Some((Arc::clone(&entry.name), entry)),
            Err(reason) => {
                reports.push(hidden(&candidate.owner, list, &candidate.name, &reason));
                None
            }
        }
    };
    settled.into_iter().filter_map(entry).collect()
}

/// Servers' own names by definition, so that what was read once is not read again.
struct Known<'a>(HashMap<*const u8, &'a Arc<Entry>>);

impl<'a> Known<'a> {
    fn of(previous: Option<&'a BTreeMap<Arc<str>, Arc<Entry>>>) -> Self {
        let entries = previous.into_iter().flat_map(BTreeMap::values);
        Self(entries.map(|entry| (entry.source.as_ptr(), entry)).collect())
    }

    fn name(&self, source: &Arc<str>) -> Option<Arc<str>> {
        let entry = self.0.get(&source.as_ptr()).filter(|entry| Arc::ptr_eq(&entry.source, source))?;
        match &entry.route {
            Route::Server { name, .. } => Some(Arc::clone(name)),
            Route::Tool(_) => None,
        }
    }
}

/// What a server offers for one list, under the names it would have.
fn collect(
    offered: &Offered,
    list: List,
    known: &Known<'_>,
    candidates: &mut Vec<Candidate>,
    reports: &mut Vec<Report>,
) {
    let server = &offered.server;
    let filter = match Filter::of(server).map_err(|error| (list == List::Tools).then_some(error)) {
        Ok(filter) => filter,
        Err(reason) => {
            reports.extend(reason.map(|reason| hidden(&server.id, list, "*", &reason)));
            return;
        }
    };
    if list == List::Tools {
        reports.extend(stale_overrides(offered));
    }
    let image = image(server);
    for source in offered.definitions(list) {
        let read = || Definition::read(source, list).map(|definition| Arc::from(definition.name.as_ref()));
        let own: Arc<str> = match known.name(source).map_or_else(read, Ok) {
            Ok(name) => name,
            Err(reason) => {
                reports.push(hidden(&server.id, list, "?", &reason));
                continue;
            }
        };
        if list == List::Tools && !filter.takes(&own) {
            continue;
        }
        let prefixed = matches!(list, List::Tools | List::Prompts);
        let name = match list {
            List::Tools if server.presented.overrides.get(&*own).is_some_and(|change| change.hidden) => {
                continue;
            }
            List::Tools => server.published(&own),
            List::Prompts => format!("{}{own}", server.prefix),
            List::Resources | List::Templates => {
                format!("{}{own}", server.presented.resources_prefix.as_deref().unwrap_or_default())
            }
        };
        if prefixed && !publishable(&name) {
            let reason = format!(
                "a published name has 1 to {MAX_NAME} of A-Z, a-z, 0-9, `_` and `-`; change the server's prefix, or override its name, or exclude it"
            );
            reports.push(hidden(&server.id, list, &name, &reason));
            continue;
        }
        let route =
            Route::Server { server: Arc::clone(server), upstream: offered.upstream.clone(), name: own };
        let (owner, source) = (server.id.clone(), Arc::clone(source));
        candidates.push(Candidate { name, owner, route, source, image: image.clone() });
    }
}

/// Overrides of tools that the server does not have.
fn stale_overrides(offered: &Offered) -> Vec<Report> {
    let overrides = &offered.server.presented.overrides;
    if overrides.is_empty() {
        return Vec::new();
    }
    let read = |source: &Arc<str>| Some(Definition::read(source, List::Tools).ok()?.name.into_owned());
    let listed: BTreeSet<String> = offered.offer.tools.iter().filter_map(read).collect();
    let stale = overrides.keys().filter(|own| !listed.contains(*own));
    stale
        .map(|own| Report {
            resource: offered.server.id.clone(),
            entry: own.clone(),
            kind: ReportKind::Hidden,
            message: format!("the override of `{own}` changes nothing: the server lists no such tool; correct its name, or remove it"),
        })
        .collect()
}

fn candidate_of_tool(ready: &ReadyTool) -> Candidate {
    let tool = &ready.tool;
    let image = tool.image.as_ref().map(|(reference, id)| named_image(reference, id.as_deref()));
    Candidate {
        name: tool.published.clone(),
        owner: tool.id.clone(),
        route: Route::Tool(ready.clone()),
        source: Arc::clone(&tool.definition),
        image,
    }
}

/// The entry of a candidate: the one before when a client can see no difference, or a new one.
fn publish(
    candidate: &Candidate,
    list: List,
    before: Option<&Arc<Entry>>,
    revision: &Arc<str>,
) -> Result<Arc<Entry>, String> {
    let digests = match &candidate.route {
        Route::Server { server, .. } => &server.digests,
        Route::Tool(ready) => &ready.tool.digests,
    };
    let same = |before: &&Arc<Entry>| {
        before.owner == candidate.owner && before.digests() == digests && before.source == candidate.source
    };
    if let Some(before) = before.filter(same) {
        if before.route.is(&candidate.route) {
            return Ok(Arc::clone(before));
        }
        return Ok(Arc::new(Entry { route: candidate.route.clone(), ..Entry::clone(before) }));
    }
    let definition = Definition::read(&candidate.source, list)?;
    let headers = match (list, definition.get("inputSchema")) {
        (List::Tools, Some(schema)) => header::read(schema)?,
        _ => Arc::default(),
    };
    let provenance = provenance(revision, &candidate.owner, digests, candidate.image.as_deref());
    let edits = match &candidate.route {
        Route::Server { server, name, .. } if list == List::Tools => {
            edits(&definition, &server.presented, name)
        }
        _ => Vec::new(),
    };
    let published = definition.publish(&candidate.name, &provenance, &edits);
    Ok(Arc::new(Entry {
        name: candidate.name.as_str().into(),
        definition: published.text.into(),
        owner: candidate.owner.clone(),
        route: candidate.route.clone(),
        revision: Arc::clone(revision),
        headers,
        source: Arc::clone(&candidate.source),
        schema: published.schema,
    }))
}

/// Members of `_meta`, as JSON without braces.
fn provenance(revision: &str, owner: &ResourceId, digests: &desired::Digests, image: Option<&str>) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut text = format!(
        "\"dev.toolcrib/revision\":{},\"dev.toolcrib/resource\":\"{owner}\",\"dev.toolcrib/digest\":\"{}\"",
        quoted(revision),
        digests.workload
    );
    if let Some(image) = image {
        text.push_str(",\"dev.toolcrib/image\":");
        text.push_str(&quoted(image));
    }
    text
}

fn image(server: &desired::Server) -> Option<Arc<str>> {
    match &server.location {
        Location::Runner(workload) => match &workload.program {
            Program::Image { reference, id, .. } => Some(named_image(reference, id.as_deref())),
            Program::Command { .. } => None,
        },
        Location::Remote { .. } => None,
    }
}

/// `reference@id`: what was asked for and what it was.
fn named_image(reference: &str, id: Option<&str>) -> Arc<str> {
    match id {
        Some(id) if !reference.contains('@') => format!("{reference}@{id}").into(),
        _ => reference.into(),
    }
}

/// `^[a-zA-Z0-9_-]{1,64}$`.
fn publishable(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn hidden(owner: &ResourceId, list: List, entry: &str, reason: &str) -> Report {
    Report {
        resource: owner.clone(),
        entry: entry.to_owned(),
        kind: ReportKind::Hidden,
        message: format!("{} `{entry}` is not offered: {reason}", list.noun()),
    }
}

impl Route {
    /// Whether it is the very same, not only an equal one.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tool(a), Self::Tool(b)) => Arc::ptr_eq(&a.tool, &b.tool) && a.folder == b.folder,
            (
                Self::Server { server, upstream, name },
                Self::Server { server: other, upstream: other_upstream, name: other_name },
            ) => Arc::ptr_eq(server, other) && upstream == other_upstream && name == other_name,
            _ => false,
        }
    }
}

impl Offered {
    fn definitions(&self, list: List) -> &[Arc<str>] {
        match list {
            List::Tools => &self.offer.tools,
            List::Prompts => &self.offer.prompts,
            List::Resources => &self.offer.resources,
            List::Templates => &self.offer.templates,
        }
    }
}

/// Which of its capabilities decide where requests go. Their contents do not matter here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Capabilities {
    #[serde(deserialize_with = "given")]
    completions: bool,
    resources: Option<Resources>,
    /// By name (2026-07-28).
    extensions: BTreeMap<String, serde_json::Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resources {
    subscribe: bool,
}

fn given<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(from).map(|_| true)
}

fn has(offered: &Offered, which: impl Fn(&Capabilities) -> bool) -> bool {
    let text = offered.offer.capabilities.as_deref().unwrap_or("{}");
    serde_json::from_str(text).is_ok_and(|capabilities| which(&capabilities))
}

/// Whether a server may answer calls with tasks.
fn has_tasks(offered: &Offered) -> bool {
    offered.offer.protocol.starts_with("modern")
        && has(offered, |capabilities| capabilities.extensions.contains_key(TASKS))
}

/// Servers that may have more resources than they list, each with what all its URIs begin with: those
/// with a prefix of their own, and the only one without. The longest first.
fn unlisted(input: &Input<'_>) -> Vec<(Box<str>, Arc<Entry>)> {
    let servers =
        || published(input).filter(|offered| has(offered, |capabilities| capabilities.resources.is_some()));
    let prefix = |offered: &Offered| offered.server.presented.resources_prefix.clone().unwrap_or_default();
    let plain = servers().filter(|offered| prefix(offered).is_empty()).count();
    let only = servers().filter(|offered| !prefix(offered).is_empty() || plain == 1);
    let mut found: Vec<_> =
        only.map(|offered| (prefix(offered), nameless(offered, input.revision))).collect();
    found.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
    found
}

/// The entry of what a server has without listing it.
fn nameless(offered: &Offered, revision: &Revision) -> Arc<Entry> {
    let route = Route::Server {
        server: Arc::clone(&offered.server),
        upstream: offered.upstream.clone(),
        name: Arc::default(),
    };
    Arc::new(Entry {
        name: Arc::default(),
        definition: Arc::default(),
        owner: offered.server.id.clone(),
        route,
        revision: revision.to_string().into(),
        headers: Arc::default(),
        source: Arc::default(),
        schema: None,
    })
}

/// What is said about one server: its own words, or what is declared instead or beside.
fn instructions_of(offered: &Offered) -> Option<Cow<'_, str>> {
    let own = offered.offer.instructions.as_deref().map(str::trim).filter(|text| !text.is_empty());
    let said: Cow<'_, str> = match (offered.server.presented.instructions.as_deref(), own) {
        (None, own) => own?.into(),
        (Some(Instructions::Replace(text)), _) | (Some(Instructions::Append(text)), None) => {
            text.trim().into()
        }
        (Some(Instructions::Append(text)), Some(own)) => format!("{own}\n\n{}", text.trim()).into(),
    };
    (!said.is_empty()).then_some(said)
}

/// What each server says and can do, in the order of servers.
fn voices(input: &Input<'_>) -> Arc<[Voice]> {
    let voice = |offered: &Offered| {
        debug_assert_eq!(offered.server.id.kind, Kind::Server);
        let said = instructions_of(offered);
        let under_its_name =
            |text: &str| format!("# {}\n\n{}", offered.server.id.name, cut(text, SERVER_INSTRUCTIONS));
        Voice {
            server: offered.server.id.clone(),
            instructions: said.as_deref().map(under_its_name).map(Arc::from),
            completions: has(offered, |capabilities| capabilities.completions),
            subscribe: has(offered, |capabilities| {
                capabilities.resources.as_ref().is_some_and(|it| it.subscribe)
            }),
            tasks: has_tasks(offered),
        }
    };
    published(input).map(voice).collect()
}

/// The longest beginning of at most `max` bytes that is whole characters.
pub(super) fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}
