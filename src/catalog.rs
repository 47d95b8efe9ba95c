//! The immutable list of what the endpoint offers: names, routes, definitions as raw JSON.
//!
//! Input: what is desired and what servers offered. Output: [`Catalog`]. Invariant: a published name
//! never depends on what else is declared; lists are in one order; nothing of a definition is lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::desired;
use crate::live::UpstreamKey;
use crate::resource::{ResourceId, Revision};

/// One published state of the endpoint, known by (revision, generation).
#[derive(Clone, Debug)]
pub struct Catalog {
    pub revision: Revision,
    /// Counts every swap since the daemon started.
    pub generation: u64,
    /// By published name, which is also the order of lists.
    pub tools: BTreeMap<Arc<str>, Arc<Entry>>,
    pub prompts: BTreeMap<Arc<str>, Arc<Entry>>,
    /// By URI.
    pub resources: BTreeMap<Arc<str>, Arc<Entry>>,
    pub templates: BTreeMap<Arc<str>, Arc<Entry>>,
    pub instructions: Option<Arc<str>>,
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
}

/// Where a call goes. Held by the call, so that a swap cannot change it under way.
#[derive(Clone, Debug)]
pub enum Route {
    /// Relayed to a server under the server's own name.
    Server { server: Arc<desired::Server>, upstream: UpstreamKey, name: Arc<str> },
    /// Run for each call.
    Tool(Arc<desired::Tool>),
}
