//! What clients would be offered at a revision: its catalog, made as the daemon makes it, of its tools
//! and of what the locks of its servers say.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::Side;
use crate::catalog::{self, Catalog, Entry, List, ReadyTool, Route, compose};
use crate::live::{InstanceId, Offer, UpstreamKey};
use crate::lock::Definition;
use crate::resource::{Kind, ResourceId};

/// The catalog of a revision.
pub(super) struct Offers {
    pub(super) catalog: Catalog,
    /// Resources whose offer is known: tools, and servers with a lock.
    known: BTreeSet<ResourceId>,
}

/// Ours in `_meta`: it says which revision an entry is of, and differs in each.
const NAMESPACE: &str = "dev.toolcrib/";

impl Offers {
    pub(super) fn known(&self, id: &ResourceId) -> bool {
        self.known.contains(id)
    }

    /// Every entry with its list, in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (List, &Arc<Entry>)> {
        let lists = [List::Tools, List::Prompts, List::Resources, List::Templates];
        lists.into_iter().flat_map(|list| self.catalog.entries(list).values().map(move |entry| (list, entry)))
    }
}

pub(super) fn offered(side: &Side<'_>) -> Offers {
    let mut known: BTreeSet<ResourceId> = BTreeSet::new();
    let mut servers = Vec::new();
    for (name, server) in &side.desired.servers {
        let lock = side.manifest.locks.get(&server.id).and_then(|lock| lock.offer.as_ref());
        let Some(locked) = lock else { continue };
        known.insert(server.id.clone());
        let texts =
            |list: &[Definition]| list.iter().map(|definition| Arc::clone(&definition.text)).collect();
        let offer = Offer {
            instructions: locked.instructions.clone(),
            tools: texts(&locked.tools),
            prompts: texts(&locked.prompts),
            resources: texts(&locked.resources),
            templates: texts(&locked.templates),
            ..Offer::default()
        };
        let upstream = UpstreamKey { server: name.clone(), instance: InstanceId("review".to_owned()) };
        servers.push(catalog::Offered { server: Arc::clone(server), upstream, offer: Arc::new(offer) });
    }
    let ready = |tool: &Arc<crate::desired::Tool>| ReadyTool { tool: Arc::clone(tool), folder: None };
    let tools: Vec<ReadyTool> = side.desired.tools.values().map(ready).collect();
    known.extend(side.desired.tools.keys().map(|name| ResourceId::new(Kind::Tool, name.clone())));
    let input = compose_input(side, &servers, &tools);
    let (catalog, _) = compose(&input);
    Offers { catalog, known }
}

fn compose_input<'a>(
    side: &'a Side<'_>,
    servers: &'a [catalog::Offered],
    tools: &'a [ReadyTool],
) -> catalog::Input<'a> {
    catalog::Input { revision: &side.snapshot.revision, servers, tools, previous: None }
}

/// The definition as a client reads it, without what tells one revision from another.
pub(super) fn definition(entry: &Entry) -> Value {
    let mut definition: Value = serde_json::from_str(&entry.definition).unwrap_or_default();
    if let Some(members) = definition.as_object_mut()
        && let Some(Value::Object(meta)) = members.get_mut("_meta")
    {
        meta.retain(|key, _| !key.starts_with(NAMESPACE));
        if meta.is_empty() {
            members.shift_remove("_meta");
        }
    }
    definition
}

/// What an entry is called where it comes from: the same before and after a prefix changed.
pub(super) fn own_name(entry: &Entry) -> &str {
    match &entry.route {
        Route::Server { name, .. } => name,
        Route::Tool(_) => "",
    }
}
