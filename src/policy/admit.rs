//! Admission: rules decide whether a resource is run and offered at all.
//!
//! Input: what a revision asks for, and what its documents say. Output: what was refused, as
//! diagnostics; the [`Desired`] without it. Invariants: nothing stays in the desired state that the
//! rules of that same revision refuse; a refused version leaves the one before in its place if that
//! is still admitted, as any other fault does. Unchanged resources and rules ask nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Decision, PolicySet, Refusal, RunnerFacts, limit};
use crate::desired::{Desired, Location, Program, Server, Tool};
use crate::manifest::{Declared, Diagnostic, Manifest};
use crate::resource::policy::Point;
use crate::resource::{Kind, Name, ResourceId, Spec};

/// Remembers what was asked, from one revision to the next.
#[derive(Default)]
pub struct Admission {
    /// The rules that were asked.
    rules: Option<Arc<PolicySet>>,
    seen: BTreeMap<ResourceId, Seen>,
}

/// The version of a resource that was admitted last.
#[derive(Clone)]
struct Seen {
    version: Version,
    document: Arc<Value>,
    audited: Arc<[Refusal]>,
}

#[derive(Clone)]
enum Version {
    Server(Arc<Server>),
    Tool(Arc<Tool>),
}

impl Version {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Server(one), Self::Server(other)) => Arc::ptr_eq(one, other),
            (Self::Tool(one), Self::Tool(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    fn runner(&self) -> Option<&Name> {
        match self {
            Self::Server(server) => match &server.location {
                Location::Runner(workload) => Some(&workload.runner),
                Location::Remote { .. } => None,
            },
            Self::Tool(tool) => Some(&tool.runner),
        }
    }
}

impl Admission {
    /// Takes out of `desired` what the rules refuse.
    pub fn admit(
        &mut self,
        rules: &Arc<PolicySet>,
        manifest: &Manifest,
        desired: &mut Desired,
    ) -> Vec<Diagnostic> {
        if !rules.asks(Point::Admission) {
            *self = Self::default();
            return Vec::new();
        }
        let same = self.rules.replace(Arc::clone(rules)).is_some_and(|old| Arc::ptr_eq(&old, rules));
        let servers =
            desired.servers.values().map(|server| (&server.id, Version::Server(Arc::clone(server))));
        let tools = desired.tools.values().map(|tool| (&tool.id, Version::Tool(Arc::clone(tool))));
        let versions: Vec<(ResourceId, Version)> =
            servers.chain(tools).map(|(id, version)| (id.clone(), version)).collect();
        let mut before = std::mem::take(&mut self.seen);
        let mut diagnostics = Vec::new();
        for (id, version) in versions {
            let Some(declared) = manifest.resources.get(&id) else { continue };
            let old = before.remove(&id);
            let known = old.as_ref().filter(|old| old.version.is(&version));
            if let Some(known) = known.filter(|_| same) {
                diagnostics.extend(known.audited.iter().map(|refusal| audited(declared, refusal)));
                self.seen.insert(id, known.clone());
                continue;
            }
            let document = known.map_or_else(
                || Arc::new(document(declared, desired, &version)),
                |known| Arc::clone(&known.document),
            );
            let decision = decide(rules, &document, &version);
            if decision.allowed {
                diagnostics.extend(decision.audited.iter().map(|refusal| audited(declared, refusal)));
                self.seen.insert(id, Seen { version, document, audited: decision.audited.into() });
                continue;
            }
            diagnostics.extend(decision.refusals.iter().map(|refusal| refused(declared, refusal)));
            let kept = old.filter(|old| {
                !old.version.is(&version) && decide(rules, &old.document, &old.version).allowed
            });
            put(desired, &id, kept.as_ref());
            if let Some(kept) = kept {
                self.seen.insert(id, kept);
            }
        }
        diagnostics
    }
}

/// What rules are asked about a server or tool of a revision; none when it is not there.
pub fn question(id: &ResourceId, manifest: &Manifest, desired: &Desired) -> Option<Value> {
    let declared = manifest.resources.get(id)?;
    let version = match id.kind {
        Kind::Server => Version::Server(Arc::clone(desired.servers.get(&id.name)?)),
        Kind::Tool => Version::Tool(Arc::clone(desired.tools.get(&id.name)?)),
        _ => return None,
    };
    Some(document(declared, desired, &version))
}

/// Puts the version before in the place of a refused one, or nothing.
fn put(desired: &mut Desired, id: &ResourceId, kept: Option<&Seen>) {
    match kept.map(|kept| kept.version.clone()) {
        Some(Version::Server(server)) => drop(desired.servers.insert(id.name.clone(), server)),
        Some(Version::Tool(tool)) => drop(desired.tools.insert(id.name.clone(), tool)),
        None if id.kind == Kind::Server => drop(desired.servers.remove(&id.name)),
        None => drop(desired.tools.remove(&id.name)),
    }
    if kept.is_some() {
        desired.faulty.insert(id.clone());
    } else {
        desired.faulty.remove(id);
    }
}

fn decide(rules: &PolicySet, document: &Value, version: &Version) -> Decision {
    let mut decision = rules.decide(Point::Admission, document);
    let more = match version {
        Version::Server(server) => limit::server_declares_more(server, &decision.limits),
        Version::Tool(tool) => limit::tool_declares_more(tool, &decision.limits),
    };
    if let Some(refusal) = more.and_then(|more| rules.above(Point::Admission, more)) {
        decision.allowed = false;
        decision.refusals.push(refusal);
    }
    if let (Some(allowed), Some(runner)) = (&decision.allowed_runners, version.runner())
        && !allowed.contains(runner.as_str())
        && let Some(refusal) = rules.not_on(Point::Admission, runner)
    {
        decision.allowed = false;
        decision.refusals.push(refusal);
    }
    decision
}

/// What rules see of a resource: `input.resource`, and the runner it is for.
///
/// `images` are those it runs or, where Toolcrib writes the Dockerfile, is built on; `egress` what it
/// may reach, its integrations' included.
fn document(declared: &Declared, desired: &Desired, version: &Version) -> Value {
    let mut resource = Map::new();
    resource.insert("kind".to_owned(), declared.spec.kind().as_str().into());
    resource.insert("name".to_owned(), declared.metadata.name.as_str().into());
    resource.insert("labels".to_owned(), json!(declared.metadata.labels));
    resource.insert("file".to_owned(), declared.place.file.as_str().into());
    let spec = match &declared.spec {
        Spec::Server(spec) => serde_json::to_value(spec),
        Spec::Tool(spec) => serde_json::to_value(spec),
        _ => Ok(Value::Null),
    };
    // The types serialise as JSON whatever they hold: a rule that finds nothing here must not let through
    // what it would refuse, and `null` is what no `spec` ever is.
    let spec = spec.unwrap_or(Value::Null);
    let egress = match version {
        Version::Tool(tool) => &*tool.egress,
        Version::Server(server) => match &server.location {
            Location::Runner(workload) => &*workload.egress,
            Location::Remote { .. } => &[],
        },
    };
    let egress: Vec<_> = egress.iter().map(|to| json!({"host": to.host, "port": to.port})).collect();
    resource.insert("egress".to_owned(), json!(egress));
    resource.insert("spec".to_owned(), spec);
    resource.insert("images".to_owned(), json!(images(version)));
    let runner = version.runner().and_then(|name| desired.runners.get(name)).map(|runner| {
        let attributes = &runner.attributes;
        RunnerFacts { name: runner.name.as_str(), kind: runner.kind.as_str(), attributes }.document()
    });
    let mut document = Map::from_iter([("resource".to_owned(), Value::Object(resource))]);
    document.extend(runner.map(|runner| ("runner".to_owned(), runner)));
    Value::Object(document)
}

fn images(version: &Version) -> Vec<String> {
    let (build, image) = match version {
        Version::Tool(tool) => (&tool.build, tool.image.as_ref().map(|(reference, _)| reference)),
        Version::Server(server) => {
            let image = match &server.location {
                Location::Runner(workload) => match &workload.program {
                    Program::Image { reference, .. } => Some(reference),
                    Program::Command { .. } => None,
                },
                Location::Remote { .. } => None,
            };
            (&server.build, image)
        }
    };
    match build {
        Some(build) => build.bases(),
        None => image.into_iter().cloned().collect(),
    }
}

fn said(refusal: &Refusal) -> String {
    refusal.message.clone().unwrap_or_else(|| "no reason is given".to_owned())
}

fn refused(declared: &Declared, refusal: &Refusal) -> Diagnostic {
    let message = format!("refused by {}: {}", refusal.policy, said(refusal));
    let hint = format!("change what the rule `{}` asks about, or the rule", refusal.rule);
    declared.point(Diagnostic::error("policy-refused", message).hint(hint), &["metadata", "name"])
}

fn audited(declared: &Declared, refusal: &Refusal) -> Diagnostic {
    let message = format!("{} would refuse it: {}", refusal.policy, said(refusal));
    let hint = format!("the policy only audits; change what the rule `{}` asks about", refusal.rule);
    declared.point(Diagnostic::warning("policy-audit", message).hint(hint), &["metadata", "name"])
}
