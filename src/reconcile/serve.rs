//! What is offered now: the newest version of everything that is ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Reconciler;
use super::job;
use super::whole::waits;
use crate::catalog::{self, Catalog, ReadyTool};
use crate::desired::{Location, Server, Tool};
use crate::live::UpstreamKey;
use crate::ports::Offer;
use crate::resource::server::Transport;
use crate::resource::{Kind, Name, ResourceId};

/// A server that is offered: its version, the instance that answers, and what that one lists.
pub(super) struct Serving {
    pub(super) server: Arc<Server>,
    pub(super) key: UpstreamKey,
    pub(super) offer: Arc<Offer>,
}

impl Serving {
    pub(super) fn over_stdio(&self) -> bool {
        matches!(&self.server.location, Location::Runner(workload) if workload.transport == Transport::Stdio)
    }
}

/// Folders of the repository and where they are checked out, each asked for once.
type Folders = BTreeMap<String, Arc<str>>;

impl Reconciler {
    /// Composes the catalog of what is ready and serves it, when it differs from what is served.
    pub(super) async fn publish(&mut self) {
        let Some(desired) = self.desired.clone() else { return };
        self.follow_servers(&desired);
        self.follow_checks();
        self.rehearse_again();
        self.follow_tools(&desired).await;
        let Some(published) = self.publishable(&desired) else { return };
        let previous = self.ports.publisher.current();
        let servers = self.shown(&published.servers);
        let input = catalog::Input {
            revision: &published.revision,
            servers: &servers,
            tools: &published.tools,
            previous: previous.as_deref(),
        };
        let (catalog, reports) = catalog::compose(&input);
        // A contested entry is offered: that is the newcomer's trouble.
        for report in reports.into_iter().filter(|report| report.kind != catalog::ReportKind::Contested) {
            let text = self.unoffered.entry(report.resource).or_default();
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(&report.message);
        }
        let mut catalog = catalog.divided(&desired.toolsets, previous.as_deref());
        catalog.operators.clone_from(&desired.operators);
        let catalog = Arc::new(catalog);
        self.tell(previous.as_deref(), &catalog);
        self.ports.publisher.register(&desired.register);
        self.ports.publisher.publish(catalog, Arc::clone(&self.policies), &desired.runners);
        self.keep_ahead(&published);
        self.published = Some(published);
        self.pass_gate();
    }

    /// Servers that are gone leave at once; those whose workload is the same take their new version.
    fn follow_servers(&mut self, desired: &crate::desired::Desired) {
        self.unoffered.clear();
        self.return_to_published(desired);
        self.serving.retain(|name, serving| {
            let Some(server) = desired.servers.get(name) else { return waits(desired, &serving.server.id) };
            if server.digests.workload == serving.server.digests.workload {
                serving.server = Arc::clone(server);
            }
            let moved = match &server.location {
                Location::Remote { url, .. } => {
                    serving.key.instance != crate::live::InstanceId::remote(url, &server.digests.workload)
                        && matches!(serving.server.location, Location::Remote { .. })
                }
                Location::Runner(_) => false,
            };
            !moved
        });
        self.follow_lifecycles(desired);
    }

    /// Where a revision goes back to what is still published, its instances serve on.
    fn return_to_published(&mut self, desired: &crate::desired::Desired) {
        let connected = self.ports.prober.connected();
        for offered in self.published.iter().flat_map(|published| &published.servers) {
            let (name, digest) = (&offered.server.id.name, offered.server.digests.workload);
            let wanted = desired.servers.get(name).is_some_and(|server| server.digests.workload == digest);
            if let Some(serving) = self.serving.get_mut(name)
                && wanted
                && serving.server.digests.workload != digest
                && (offered.upstream.is_any() || connected.contains(&offered.upstream))
            {
                *serving = Serving {
                    server: Arc::clone(&offered.server),
                    key: offered.upstream.clone(),
                    offer: Arc::clone(&offered.offer),
                };
            }
        }
    }

    /// Tools whose image is there, with their folder checked out; others keep the version before.
    async fn follow_tools(&mut self, desired: &Arc<crate::desired::Desired>) {
        let mut before = std::mem::take(&mut self.tools);
        let mut folders = Folders::new();
        let mut now: BTreeMap<Name, ReadyTool> = BTreeMap::new();
        for (name, tool) in &desired.tools {
            let old = before.remove(name);
            if let Some(old) = old.as_ref().filter(|old| Arc::ptr_eq(&old.tool, tool)) {
                now.insert(name.clone(), old.clone());
                continue;
            }
            let ready = self.ready(tool, &mut folders).await;
            match ready.and_then(|ready| self.rehearsed(&ready).map(|()| ready)) {
                Ok(ready) => {
                    now.insert(name.clone(), ready);
                }
                Err(why) => {
                    self.unoffered.insert(tool.id.clone(), why);
                    if let Some(old) = old {
                        now.insert(name.clone(), old);
                    }
                }
            }
        }
        let kept =
            before.into_iter().filter(|(name, _)| waits(desired, &ResourceId::new(Kind::Tool, name.clone())));
        now.extend(kept);
        self.tools = now;
    }

    /// The tool as it is run, or why it cannot be yet.
    async fn ready(&mut self, tool: &Arc<Tool>, folders: &mut Folders) -> Result<ReadyTool, String> {
        if let Some(build) = &tool.build
            && !self.built.contains(&(tool.runner.clone(), build.digest))
        {
            return Err(format!("its image `{}` is not built yet", build.tag));
        }
        if !self.claim_volumes(&tool.runner, &tool.volumes) {
            return Err("its volumes cannot be written into the inventory".to_owned());
        }
        if tool.image.is_some() {
            return Ok(ReadyTool { tool: Arc::clone(tool), folder: None });
        }
        let Some(snapshot) = &self.snapshot else { return Err("there is no snapshot".to_owned()) };
        if !folders.contains_key(&tool.dir) {
            let folder = job::folder(&self.ports, snapshot, &tool.dir).await;
            folders.insert(tool.dir.clone(), folder.map_err(|error| error.chain())?.into());
        }
        Ok(ReadyTool { tool: Arc::clone(tool), folder: folders.get(&tool.dir).cloned() })
    }

    /// One line for each swap: the commit, what changed, how long it took.
    fn tell(&mut self, previous: Option<&Catalog>, catalog: &Catalog) {
        let moved = previous.is_none_or(|previous| previous.revision != catalog.revision);
        let changed = previous.is_none_or(|previous| catalog.changed_since(previous).any());
        if !moved && !changed {
            return;
        }
        let (added, changed, removed) = difference(previous, catalog);
        let (took, cause) = self.pass.elapsed(&*self.ports.clock).unzip();
        tracing::info!(
            revision = %catalog.revision,
            generation = catalog.generation,
            tools = catalog.tools.len(),
            added = %listed(&added),
            changed = %listed(&changed),
            removed = %listed(&removed),
            cause = cause.map(ToString::to_string),
            took_ms = took.map(|took| took.as_millis()),
            "serving"
        );
    }
}

/// Names a log line holds before it says how many more there are.
const LISTED: usize = 8;

/// Names in one line.
pub(super) fn listed(names: &[&str]) -> String {
    match names.len() {
        0 => "-".to_owned(),
        count if count <= LISTED => names.join(","),
        count => format!("{} and {} more", names[..LISTED].join(","), count - LISTED),
    }
}

/// Names of tools that came, changed and went.
fn difference<'a>(
    before: Option<&'a Catalog>,
    after: &'a Catalog,
) -> (Vec<&'a str>, Vec<&'a str>, Vec<&'a str>) {
    let (mut added, mut changed, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for (name, entry) in &after.tools {
        match before.and_then(|before| before.tools.get(name)) {
            None => added.push(&**name),
            Some(old) if !Arc::ptr_eq(old, entry) && old.definition != entry.definition => {
                changed.push(&**name);
            }
            Some(_) => {}
        }
    }
    for name in before.iter().flat_map(|before| before.tools.keys()) {
        if !after.tools.contains_key(name) {
            removed.push(&**name);
        }
    }
    (added, changed, removed)
}
