//! The immutable list of what the endpoint offers: names, routes, definitions as raw JSON.
//!
//! Input: what is desired and what servers offered. Output: [`Catalog`] and what could not be put in
//! it. Invariant: a published name never depends on what else is declared; lists are in one order;
//! nothing of a definition is lost; what did not change is shared with the catalog before.

mod compose;
mod definition;
mod edit;
mod header;
mod page;
mod part;
pub mod search;
mod settle;
mod template;
mod view;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::desired;
use crate::live::UpstreamKey;
use crate::resource::toolset::Access;
use crate::resource::{Labels, ResourceId, Revision};

pub use compose::{Input, Offered, Report, ReportKind, compose};
pub use header::ParamHeader;
use page::Pages;
pub use page::{Cursor, PAGE_ENTRIES};
pub use part::Part;
pub use view::View;

/// Calls that are answered later (SEP-2663): the name of the extension.
pub const TASKS: &str = "io.modelcontextprotocol/tasks";

/// One published state of the endpoint, known by (revision, generation).
#[derive(Clone, Debug)]
pub struct Catalog {
    pub revision: Revision,
    /// Counts every composition since the daemon started.
    pub generation: u64,
    /// By published name, which is also the order of lists.
    pub tools: BTreeMap<Arc<str>, Arc<Entry>>,
    pub prompts: BTreeMap<Arc<str>, Arc<Entry>>,
    /// By URI.
    pub resources: BTreeMap<Arc<str>, Arc<Entry>>,
    pub templates: BTreeMap<Arc<str>, Arc<Entry>>,
    /// Of all servers, each under its name; bounded.
    pub instructions: Option<Arc<str>>,
    /// Whether some server completes arguments.
    pub completions: bool,
    /// Whether some server tells of changes of its resources.
    pub subscribe: bool,
    /// Whether some server may answer calls with tasks.
    pub tasks: bool,
    /// Where resources are read that no list names, by what their URIs begin with.
    unlisted: Vec<(Box<str>, Arc<Entry>)>,
    /// In the order of servers.
    voices: Arc<[part::Voice]>,
    /// Who may use the endpoint for operators; none: who is local.
    pub operators: Option<Access>,
    /// Toolsets by name.
    parts: BTreeMap<Arc<str>, part::Division>,
    pages: [Pages; 4],
}

/// A tool that can be called now.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadyTool {
    pub tool: Arc<desired::Tool>,
    /// The absolute folder its command starts in; none in a container.
    pub folder: Option<Arc<str>>,
}

/// One of the four lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    Tools,
    Prompts,
    Resources,
    Templates,
}

/// One tool, prompt, resource or template.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The published name or URI.
    pub name: Arc<str>,
    /// The definition under that name, provenance in `_meta`, as it is sent.
    pub definition: Arc<str>,
    pub owner: ResourceId,
    pub route: Route,
    /// The revision that last changed what a client can see of it, or what runs behind it.
    pub revision: Arc<str>,
    /// Parameters that clients mirror into HTTP headers.
    pub headers: Arc<[ParamHeader]>,
    /// The definition as it was offered.
    source: Arc<str>,
    /// Where `inputSchema` stands in `definition`.
    schema: Option<Range<usize>>,
}

/// Where a call goes. Held by the call, so that a swap cannot change it under way.
#[derive(Clone, Debug)]
pub enum Route {
    /// Relayed to a server under the server's own name.
    Server { server: Arc<desired::Server>, upstream: UpstreamKey, name: Arc<str> },
    /// Run for each call.
    Tool(ReadyTool),
}

/// Which lists a client sees differently from one catalog to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    pub tools: bool,
    pub prompts: bool,
    /// Resources or templates.
    pub resources: bool,
}

impl Changed {
    pub fn any(self) -> bool {
        self.tools || self.prompts || self.resources
    }
}

impl Entry {
    /// The JSON Schema of the arguments, as text.
    pub fn input_schema(&self) -> Option<&str> {
        self.definition.get(self.schema.clone()?)
    }

    /// The labels of what stands behind it.
    pub fn labels(&self) -> &Labels {
        match &self.route {
            Route::Server { server, .. } => &server.labels,
            Route::Tool(ready) => &ready.tool.labels,
        }
    }

    /// The digests of what stands behind it.
    pub fn digests(&self) -> &desired::Digests {
        match &self.route {
            Route::Server { server, .. } => &server.digests,
            Route::Tool(ready) => &ready.tool.digests,
        }
    }
}

/// The entries of one list that a toolset selects, in the order of names.
pub fn selected<'a>(
    toolset: &'a desired::Toolset,
    catalog: &'a Catalog,
    list: List,
) -> impl Iterator<Item = &'a Arc<Entry>> {
    catalog.entries(list).values().filter(|entry| toolset.takes(&entry.owner, entry.labels(), &entry.name))
}

impl Catalog {
    /// What is served before anything is ready.
    pub fn empty(revision: Revision) -> Self {
        let input = Input { revision: &revision, servers: &[], tools: &[], previous: None };
        let (mut catalog, _) = compose(&input);
        catalog.generation = 0;
        catalog.revision = revision;
        catalog
    }

    /// How many entries there are in all four lists.
    pub fn len(&self) -> usize {
        self.tools.len() + self.prompts.len() + self.resources.len() + self.templates.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn entries(&self, list: List) -> &BTreeMap<Arc<str>, Arc<Entry>> {
        match list {
            List::Tools => &self.tools,
            List::Prompts => &self.prompts,
            List::Resources => &self.resources,
            List::Templates => &self.templates,
        }
    }

    /// The JSON array that begins at `offset`, and the cursor after it. None: no page begins there.
    /// Made at the first request, and shared with later catalogs while it is the same.
    pub fn page(&self, list: List, offset: usize) -> Option<(Bytes, Option<Cursor>)> {
        let (bytes, next) = self.pages.get(list as usize)?.at(offset)?;
        Some((bytes, next.map(|offset| self.cursor(offset))))
    }

    fn cursor(&self, offset: usize) -> Cursor {
        Cursor {
            revision: self.revision.short().to_owned(),
            generation: self.generation,
            offset,
            list: String::new(),
        }
    }

    /// Who answers for a resource: the entry of that URI, else the first template that fits, else the
    /// server whose prefix it has, or the only one without. With `toolset`, of what it takes.
    pub fn resource(&self, uri: &str, toolset: Option<&desired::Toolset>) -> Option<&Arc<Entry>> {
        let takes = |entry: &Entry, name: &str| {
            toolset.is_none_or(|toolset| toolset.takes(&entry.owner, entry.labels(), name))
        };
        if let Some(entry) = self.resources.get(uri) {
            return takes(entry, uri).then_some(entry);
        }
        let fits = |entry: &&Arc<Entry>| template::fits(&entry.name, uri) && takes(entry, &entry.name);
        let unlisted = || {
            let mut servers = self.unlisted.iter().filter(|(prefix, _)| uri.starts_with(&**prefix));
            servers.find(|(_, entry)| takes(entry, uri)).map(|(_, entry)| entry)
        };
        self.templates.values().find(fits).or_else(unlisted)
    }

    /// What a client sees differently here than in `before`.
    pub fn changed_since(&self, before: &Self) -> Changed {
        changed(&self.pages, &before.pages)
    }
}

fn changed(pages: &[Pages; 4], before: &[Pages; 4]) -> Changed {
    let [tools, prompts, resources, templates] = pages;
    let [old_tools, old_prompts, old_resources, old_templates] = before;
    Changed {
        tools: tools != old_tools,
        prompts: prompts != old_prompts,
        resources: resources != old_resources || templates != old_templates,
    }
}
