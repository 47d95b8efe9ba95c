//! What operators ask over MCP, answered from what the daemon knows.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};

use super::control::DaemonControl;
use crate::admin::Control as _;
use crate::admin::audit::AuditQuery;
use crate::admin::why::WhyQuery;
use crate::catalog::{Catalog, Entry, List, Route};
use crate::gateway::{Operations, Refused};
use crate::live::UpstreamKey;
use crate::ports::{Offer, PortError, Prober as _, Unmet};
use crate::probe::Probe;
use crate::reconcile::Event;
use crate::resource::{Kind, ResourceId};
use crate::status::{ConditionStatus, ConditionType, Status, get};

/// How long a server may take to list again what it has.
const PROBE: Duration = Duration::from_secs(20);
/// How long a server that does not run may take until it does.
const START: Duration = Duration::from_mins(2);
/// How long an answer may take that looks at the repository and asks every runner.
const PLAN: Duration = Duration::from_mins(2);
/// Records one answer holds: what a model reads.
const MAX_CALLS: usize = 1000;

/// Held by the gateway, which the daemon's control holds: hence weakly.
pub(super) struct Operating {
    pub(super) control: Weak<DaemonControl>,
    pub(super) probes: Arc<Probe>,
    pub(super) events: mpsc::Sender<Event>,
}

/// One answer.
struct Answer<'a> {
    control: Arc<DaemonControl>,
    probes: &'a Probe,
    events: &'a mpsc::Sender<Event>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfKind {
    kind: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfResource {
    resource: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Since {
    since: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfServer {
    server: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[async_trait]
impl Operations for Operating {
    async fn answer(&self, tool: &str, arguments: Map<String, Value>) -> Result<Value, Refused> {
        let ending = || Refused::Unavailable("the daemon is shutting down".to_owned());
        let control = self.control.upgrade().ok_or_else(ending)?;
        let answer = Answer { control, probes: &self.probes, events: &self.events };
        answer.to(tool, arguments).await
    }
}

impl Answer<'_> {
    async fn to(&self, tool: &str, arguments: Map<String, Value>) -> Result<Value, Refused> {
        match tool {
            "list_resources" => self.resources(&read(arguments)?),
            "get_resource" => self.resource(&read(arguments)?),
            "why_tool" => {
                let query: WhyQuery = read(arguments)?;
                Ok(json!(self.control.why(query).await.map_err(|error| unavailable(&error))?))
            }
            "what_changed" => self.changed(&read(arguments)?),
            "show_plan" => {
                let Nothing {} = read(arguments)?;
                let late = |_| Refused::Unavailable("the plan is not made within two minutes".to_owned());
                let plan = tokio::time::timeout(PLAN, self.control.plan()).await.map_err(late)?;
                let plan = plan.map_err(|error| unavailable(&error))?;
                Ok(json!({"revision": plan.revision, "changes": plan.changes, "text": plan.text}))
            }
            "recent_calls" => {
                let query: AuditQuery = read(arguments)?;
                if query.limit.is_some_and(|limit| limit > MAX_CALLS) {
                    return Err(Refused::Invalid(format!("`limit` is at most {MAX_CALLS}")));
                }
                let records = self.control.audit(query).await.map_err(|error| unavailable(&error))?;
                Ok(json!({"calls": records}))
            }
            "probe_server" => self.probe(&read(arguments)?).await,
            other => Err(Refused::Invalid(format!("there is no `{other}`"))),
        }
    }
}

fn read<T: DeserializeOwned>(arguments: Map<String, Value>) -> Result<T, Refused> {
    serde_json::from_value(Value::Object(arguments))
        .map_err(|error| Refused::Invalid(format!("the arguments do not fit: {error}")))
}

fn unavailable(error: &PortError) -> Refused {
    Refused::Unavailable(error.chain())
}

impl Answer<'_> {
    fn catalog(&self) -> Arc<Catalog> {
        self.control.published.gateway.catalogs.current()
    }

    fn resources(&self, OfKind { kind }: &OfKind) -> Result<Value, Refused> {
        let unknown = |text: &String| Refused::Invalid(format!("`{text}` is not a kind of resource"));
        let kind = kind.as_ref().map(|text| Kind::parse(text).ok_or_else(|| unknown(text))).transpose()?;
        let (status, catalog) = (self.control.status(), self.catalog());
        let wanted = status.resources.iter().filter(|(id, _)| kind.is_none_or(|kind| id.kind == kind));
        let resources = wanted.map(|(id, resource)| {
            let ready = get(&resource.conditions, ConditionType::Ready);
            let why = ready.filter(|ready| ready.status != ConditionStatus::True);
            json!({
                "resource": id,
                "ready": resource.ready(),
                "reason": why.map(|ready| &ready.reason),
                "message": why.map(|ready| &ready.message),
                "offers": resource.offers,
                "declared": resource.place,
            })
        });
        Ok(json!({
            "revision": catalog.revision.to_string(),
            "generation": catalog.generation,
            "toolsets": catalog.toolsets().map(|name| format!("/mcp/{name}")).collect::<Vec<_>>(),
            "resources": resources.collect::<Vec<_>>(),
        }))
    }

    fn resource(&self, OfResource { resource }: &OfResource) -> Result<Value, Refused> {
        let id = ResourceId::parse(resource).ok_or_else(|| {
            Refused::Invalid(format!("`{resource}` does not name a resource; write Kind/name"))
        })?;
        let status = self.control.status();
        let found = status.resources.get(&id);
        let found = found.ok_or_else(|| Refused::Unavailable(format!("there is no resource `{id}`")))?;
        Ok(json!({"resource": id, "status": found}))
    }

    fn changed(&self, Since { since }: &Since) -> Result<Value, Refused> {
        let after = self.catalog();
        let before = self.control.published.gateway.catalogs.before(since.as_deref());
        let before = before.map_err(Refused::Unavailable)?;
        let lists = [
            (List::Tools, "tools"),
            (List::Prompts, "prompts"),
            (List::Resources, "resources"),
            (List::Templates, "templates"),
        ];
        let mut answer = json!({"from": before.revision.to_string(), "to": after.revision.to_string()});
        for (list, key) in lists {
            answer[key] = difference(&before, &after, list);
        }
        Ok(answer)
    }

    /// Has a server started that does not run, for want of calls.
    async fn start(&self, any: &UpstreamKey) -> Result<(), Refused> {
        let (answer, started) = oneshot::channel();
        let event = Event::Demand { any: any.clone(), answer };
        let ends = || Refused::Unavailable("the daemon ends".to_owned());
        self.events.send(event).await.map_err(|_| ends())?;
        match tokio::time::timeout(START, started).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(Unmet::Failed(error)))) => Err(unavailable(&error)),
            Ok(Ok(Err(Unmet::Replaced))) => {
                Err(Refused::Unavailable("it has just been replaced; try again".to_owned()))
            }
            Ok(Err(_)) => Err(ends()),
            Err(_) => Err(Refused::Unavailable(format!("it was not there within {} s", START.as_secs()))),
        }
    }

    async fn probe(&self, OfServer { server }: &OfServer) -> Result<Value, Refused> {
        let catalog = self.catalog();
        let served = key_of(&catalog, server);
        if let Some(any) = served.as_ref().filter(|key| key.is_any()) {
            self.start(any).await?;
        }
        let connected = self.probes.connected();
        let key = served.filter(|key| connected.contains(key));
        let Some(key) = key.or_else(|| connected.iter().find(|key| key.server.as_str() == server).cloned())
        else {
            return Err(Refused::Unavailable(not_connected(server, &self.control.status())));
        };
        let offer = self.probes.refresh(&key, PROBE).await.map_err(|error| unavailable(&error))?;
        // The loop takes what changed, by the rules of the lock. It looks again by itself when it is busy.
        let _ = self.events.try_send(Event::Upstream(key));
        let Offer { tools, prompts, resources, templates, .. } = &offer;
        let names: BTreeSet<String> = tools.iter().filter_map(|text| own_name(text)).collect();
        let served: BTreeSet<String> =
            catalog.tools.values().filter_map(|entry| own(entry, server)).collect();
        Ok(json!({
            "server": server,
            "tools": names,
            "prompts": prompts.len(),
            "resources": resources.len(),
            "templates": templates.len(),
            "notServed": names.difference(&served).collect::<Vec<_>>(),
            "gone": served.difference(&names).collect::<Vec<_>>(),
        }))
    }
}

/// Why a server cannot be probed.
fn not_connected(server: &str, status: &Status) -> String {
    let resource =
        status.resources.iter().find(|(id, _)| id.kind == Kind::Server && id.name.as_str() == server);
    let Some((_, resource)) = resource else { return format!("there is no server `{server}`") };
    let why = get(&resource.conditions, ConditionType::Ready).map_or("", |ready| ready.message.as_str());
    format!("server `{server}` is not connected; it is started again by itself: {why}")
}

/// What the catalog leads to: an instance of a server, or any.
fn key_of(catalog: &Catalog, server: &str) -> Option<UpstreamKey> {
    let entries = [List::Tools, List::Prompts, List::Resources].map(|list| catalog.entries(list).values());
    entries.into_iter().flatten().find_map(|entry| match &entry.route {
        Route::Server { upstream, .. } if upstream.server.as_str() == server => Some(upstream.clone()),
        _ => None,
    })
}

/// The server's own name of an entry, when it is that server's.
fn own(entry: &Entry, server: &str) -> Option<String> {
    match &entry.route {
        Route::Server { upstream, name, .. } if upstream.server.as_str() == server => Some(name.to_string()),
        _ => None,
    }
}

fn own_name(definition: &str) -> Option<String> {
    let definition: Value = serde_json::from_str(definition).ok()?;
    Some(definition.get("name")?.as_str()?.to_owned())
}

/// What of a list came, went, or is another, and in which fields.
fn difference(before: &Catalog, after: &Catalog, list: List) -> Value {
    let (before, after) = (before.entries(list), after.entries(list));
    let added: Vec<_> = after.keys().filter(|name| !before.contains_key(*name)).collect();
    let removed: Vec<_> = before.keys().filter(|name| !after.contains_key(*name)).collect();
    let both = after.iter().filter_map(|(name, entry)| Some((name, before.get(name)?, entry)));
    let changed = both.filter(|(_, old, new)| !Arc::ptr_eq(old, new) && old.definition != new.definition);
    let changed: Vec<_> =
        changed.map(|(name, old, new)| json!({"name": name, "fields": fields(old, new)})).collect();
    json!({"added": added, "removed": removed, "changed": changed})
}

/// Members of two definitions that differ; of equal ones, what runs behind them does.
fn fields(old: &Entry, new: &Entry) -> Vec<String> {
    let read =
        |entry: &Entry| serde_json::from_str::<Map<String, Value>>(&entry.definition).unwrap_or_default();
    let (old, new) = (read(old), read(new));
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).filter(|key| *key != "_meta").collect();
    let differ: Vec<String> =
        keys.into_iter().filter(|key| old.get(*key) != new.get(*key)).cloned().collect();
    if differ.is_empty() { vec!["(what runs behind it)".to_owned()] } else { differ }
}
