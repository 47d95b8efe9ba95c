//! Who depends on whom, as far as a repository says.
//!
//! Input: what is declared, what it resolves to, and a catalog (of a daemon, or [`offline`], of what
//! locks and tools publish). Output: [`Relation`]s. Not here: how anything is, which only a daemon knows.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use globset::Glob;
use serde::Serialize;

use crate::catalog::{self, Catalog, Input, Offered, ReadyTool};
use crate::desired::{Desired, Location};
use crate::live::{InstanceId, Offer, UpstreamKey};
use crate::manifest::Manifest;
use crate::resource::toolset::Selector;
use crate::resource::{Kind, Name, ResourceId, Spec};

/// A resource, or a tool under its published name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    Resource(ResourceId),
    Published(Arc<str>),
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resource(id) => id.fmt(f),
            Self::Published(name) => f.write_str(name),
        }
    }
}

impl Serialize for Node {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `from` cannot be what it is without `to`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Relation {
    pub from: Node,
    pub to: Node,
    /// One word: `runs-on`, `uses`, `waits-for`, `offered-by`, `decided-by`, `selects`, `defaults`.
    pub why: &'static str,
}

/// Every relation, in the order of names.
pub fn relations(manifest: &Manifest, desired: &Desired, catalog: &Catalog) -> BTreeSet<Relation> {
    let mut all = BTreeSet::new();
    let mut add = |from: &Node, to: Node, why| {
        all.insert(Relation { from: from.clone(), to, why });
    };
    let crib = manifest.resources.keys().find(|id| id.kind == Kind::Crib);
    let policies: Vec<&ResourceId> = manifest.resources.keys().filter(|id| id.kind == Kind::Policy).collect();
    let named = |kind, name: &Name| Node::Resource(ResourceId::new(kind, name.clone()));
    for (id, declared) in &manifest.resources {
        let node = Node::Resource(id.clone());
        let (integrations, runner) = match &declared.spec {
            Spec::Server(spec) => {
                for other in &spec.depends_on {
                    add(&node, named(Kind::Server, other), "waits-for");
                }
                let runner = desired.servers.get(&id.name).and_then(|server| match &server.location {
                    Location::Runner(workload) => Some(workload.runner.clone()),
                    Location::Remote { .. } => None,
                });
                (&spec.integrations, runner.or_else(|| spec.runner.clone()))
            }
            Spec::Tool(spec) => {
                let runner = desired.tools.get(&id.name).map(|tool| tool.runner.clone());
                (&spec.integrations, runner.or_else(|| spec.runner.clone()))
            }
            _ => continue,
        };
        for integration in integrations {
            add(&node, named(Kind::Integration, integration), "uses");
        }
        if let Some(runner) = runner {
            add(&node, named(Kind::Runner, &runner), "runs-on");
        }
        if let Some(crib) = crib {
            add(&node, Node::Resource(crib.clone()), "defaults");
        }
    }
    for entry in catalog.tools.values() {
        let published = Node::Published(Arc::clone(&entry.name));
        add(&published, Node::Resource(entry.owner.clone()), "offered-by");
        for policy in &policies {
            add(&published, Node::Resource((*policy).clone()), "decided-by");
        }
    }
    for (id, declared) in &manifest.resources {
        let Spec::Toolset(spec) = &declared.spec else { continue };
        for entry in catalog.tools.values() {
            let labels = manifest.resources.get(&entry.owner).map(|owner| &owner.metadata.labels);
            let takes = |selector: &Selector| {
                let label = |(key, value): (&String, &String)| {
                    labels.and_then(|labels| labels.get(key.as_str())).is_some_and(|found| **found == **value)
                };
                let server = entry.owner.kind == Kind::Server && selector.servers.contains(&entry.owner.name);
                let glob = |pattern: &String| {
                    Glob::new(pattern).is_ok_and(|glob| glob.compile_matcher().is_match(&*entry.name))
                };
                selector.match_labels.iter().all(label)
                    && (selector.servers.is_empty() || server)
                    && (selector.names.is_empty() || selector.names.iter().any(glob))
            };
            if spec.select.iter().any(takes) {
                add(&Node::Resource(id.clone()), Node::Published(Arc::clone(&entry.name)), "selects");
            }
        }
    }
    all
}

/// The catalog as far as the repository knows it: tools as declared, servers as in their locks.
pub fn offline(manifest: &Manifest, desired: &Desired) -> Catalog {
    let servers: Vec<Offered> = desired
        .servers
        .values()
        .filter(|server| server.synced)
        .filter_map(|server| {
            let offer = manifest.locks.get(&server.id)?.offer.as_ref()?;
            let tools = offer.tools.iter().map(|tool| Arc::clone(&tool.text)).collect();
            Some(Offered {
                server: Arc::clone(server),
                upstream: UpstreamKey {
                    server: server.id.name.clone(),
                    instance: InstanceId("locked".to_owned()),
                },
                offer: Arc::new(Offer { tools, ..Offer::default() }),
            })
        })
        .collect();
    let tools: Vec<ReadyTool> =
        desired.tools.values().map(|tool| ReadyTool { tool: Arc::clone(tool), folder: None }).collect();
    catalog::compose(&Input { revision: &desired.revision, servers: &servers, tools: &tools, previous: None })
        .0
}
