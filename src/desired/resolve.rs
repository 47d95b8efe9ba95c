//! All resources of a revision, each resolved once for each change of what it is made of.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::iter::Peekable;
use std::sync::Arc;

use super::context::Context;
use super::place::Findings;
use super::{
    Desired, Floor, Origin, Origins, Outcome, PolicySource, Question, Resolutions, Resolved, Server, Tool,
    files, names, pin, policy, server, tool, toolset,
};
use crate::manifest::{Declared, Diagnostic, Manifest, Snapshot};
use crate::resource::runner::RunnerKind;
use crate::resource::server::ServerSource;
use crate::resource::{Digest, Kind, Name, ResourceId, Spec};

/// What must be looked up before [`resolve`].
pub fn questions(manifest: &Manifest, snapshot: &Snapshot, floor: &Floor) -> BTreeSet<Question> {
    let resolutions = Resolutions::default();
    let (context, _, _) = Context::new(manifest, snapshot, &resolutions, floor, None);
    let mut questions = BTreeSet::new();
    for declared in manifest.resources.values() {
        let (image, named) = match &declared.spec {
            Spec::Server(spec) => match &spec.source {
                ServerSource::Image(image) => (image.reference.clone(), spec.runner.as_ref()),
                ServerSource::Package(package) => match package.image() {
                    Some(image) => (image, spec.runner.as_ref()),
                    None => continue,
                },
                ServerSource::Git(git) => {
                    if pin::pinned(manifest, declared).is_some_and(|pin| pin.commit.is_some()) {
                        continue;
                    }
                    questions.insert(Question::Git {
                        url: git.url.clone(),
                        reference: git.reference.clone(),
                        credentials: git.credentials.clone(),
                    });
                    continue;
                }
                _ => continue,
            },
            Spec::Tool(spec) => match &spec.image {
                Some(image) => (image.clone(), spec.runner.as_ref()),
                None => continue,
            },
            _ => continue,
        };
        let runner = context.runner(named, RunnerKind::Docker, &mut Findings::new(declared));
        if let Some(runner) = runner {
            let reference = pin::image(manifest, declared, &image).to_owned();
            questions.insert(Question::Image { runner: runner.name.clone(), reference });
        }
    }
    questions
}

/// Joins everything. `previous` is what the last accepted revision asked for: a resource with a fault
/// keeps its version there, and one whose inputs are the same is reused as it is.
pub fn resolve(
    manifest: &Manifest,
    snapshot: &Snapshot,
    resolutions: &Resolutions,
    floor: &Floor,
    previous: Option<&Desired>,
) -> Resolved {
    let (context, diagnostics, mut faulty) = Context::new(manifest, snapshot, resolutions, floor, previous);
    faulty.extend(manifest.faulty.iter().cloned());
    let nothing = BTreeMap::new();
    let mut pass = Pass {
        context: &context,
        previous,
        before: previous.map_or(&nothing, |previous| &previous.origins.0).iter().peekable(),
        faulty,
        pending: BTreeSet::new(),
        policies: Vec::new(),
        servers: Vec::new(),
        tools: Vec::new(),
        origins: Vec::new(),
        diagnostics,
    };
    for (id, declared) in &manifest.resources {
        pass.resource(id, declared);
    }
    let mut desired = Desired {
        revision: snapshot.revision.clone(),
        naming: context.crib.naming.clone(),
        sync: context.crib.sync.clone(),
        signers: context.signers.clone(),
        register: context.crib.register.clone().into(),
        operators: context.crib.operators.clone(),
        runners: context.runners.clone(),
        servers: BTreeMap::new(),
        tools: BTreeMap::new(),
        policies: BTreeMap::new(),
        toolsets: BTreeMap::new(),
        faulty: BTreeSet::new(),
        pending: BTreeSet::new(),
        origins: Origins::default(),
    };
    let mut diagnostics = pass.finish(&mut desired);
    diagnostics.extend(toolset::all(manifest, &mut desired, previous));
    diagnostics.extend(names::collisions(manifest, &desired));
    diagnostics.sort();
    let fatal = |id: &ResourceId| matches!(id.kind, Kind::Crib | Kind::Policy);
    let refused = desired.faulty.iter().any(fatal) || !manifest.refusing.is_empty();
    Resolved { desired, diagnostics, refused }
}

struct Pass<'a> {
    context: &'a Context<'a>,
    previous: Option<&'a Desired>,
    /// The previous origins from the last one looked for on: resources come in the same order.
    before: Peekable<btree_map::Iter<'a, ResourceId, Origin>>,
    faulty: BTreeSet<ResourceId>,
    pending: BTreeSet<ResourceId>,
    policies: Vec<(Name, Arc<PolicySource>)>,
    servers: Vec<(Name, Arc<Server>)>,
    tools: Vec<(Name, Arc<Tool>)>,
    origins: Vec<(ResourceId, Origin)>,
    diagnostics: Vec<Diagnostic>,
}

impl Pass<'_> {
    fn resource(&mut self, id: &ResourceId, declared: &Arc<Declared>) {
        let inputs = inputs(self.context, declared);
        if self.reuse(id, declared, inputs) {
            return;
        }
        let mut findings = Findings::new(declared);
        let result = match &declared.spec {
            Spec::Crib(_) | Spec::Runner(_) | Spec::Integration(_) | Spec::Toolset(_) => return,
            Spec::Policy(spec) => policy::policy(self.context, declared, spec, &mut findings)
                .map(|policy| Outcome::Policy(Arc::new(policy))),
            Spec::Server(spec) => server::server(self.context, declared, spec, &mut findings)
                .map(|server| Outcome::Server(Arc::new(server))),
            Spec::Tool(spec) => tool::tool(self.context, declared, spec, &mut findings)
                .map(|tool| Outcome::Tool(Arc::new(tool))),
        };
        if let Some(result) = result {
            // With warnings it is resolved anew each time, so that they are told each time.
            if findings.diagnostics.is_empty() && id.kind != Kind::Policy {
                let (declared, context) = (declared.clone(), self.context.digest);
                self.origins.push((id.clone(), Origin { declared, context, inputs, result: result.clone() }));
            }
            self.put(id, result);
        } else if findings.failed() {
            self.faulty.insert(id.clone());
        } else {
            self.pending.insert(id.clone());
        }
        self.diagnostics.append(&mut findings.diagnostics);
    }

    fn put(&mut self, id: &ResourceId, result: Outcome) {
        let name = id.name.clone();
        match result {
            Outcome::Policy(policy) => self.policies.push((name, policy)),
            Outcome::Server(server) => self.servers.push((name, server)),
            Outcome::Tool(tool) => self.tools.push((name, tool)),
        }
    }

    /// Takes over what was resolved from the same before.
    fn reuse(&mut self, id: &ResourceId, declared: &Arc<Declared>, inputs: Option<Digest>) -> bool {
        while self.before.next_if(|(other, _)| *other < id).is_some() {}
        let Some((_, origin)) = self.before.next_if(|(other, _)| *other == id) else { return false };
        let same = Arc::ptr_eq(&origin.declared, declared)
            && origin.context == self.context.digest
            && origin.inputs == inputs;
        if same {
            self.origins.push((id.clone(), origin.clone()));
            self.put(id, origin.result.clone());
        }
        same
    }

    fn finish(self, desired: &mut Desired) -> Vec<Diagnostic> {
        desired.policies = self.policies.into_iter().collect();
        desired.servers = self.servers.into_iter().collect();
        desired.tools = self.tools.into_iter().collect();
        desired.origins = Origins(self.origins.into_iter().collect());
        desired.faulty = self.faulty;
        desired.pending = self.pending;
        if let Some(previous) = self.previous {
            keep(desired, previous);
        }
        self.diagnostics
    }
}

/// Takes over the previous version of everything that is faulty or pending now.
fn keep(desired: &mut Desired, previous: &Desired) {
    let ids: Vec<ResourceId> = desired.faulty.union(&desired.pending).cloned().collect();
    for id in ids {
        if !holds(desired, &id) {
            copy(&id, previous, desired);
        }
    }
}

fn holds(desired: &Desired, id: &ResourceId) -> bool {
    let name = &id.name;
    match id.kind {
        // An integration's earlier version is in the manifest.
        Kind::Crib | Kind::Integration => true,
        Kind::Toolset => desired.toolsets.contains_key(name),
        Kind::Runner => desired.runners.contains_key(name),
        Kind::Policy => desired.policies.contains_key(name),
        Kind::Server => desired.servers.contains_key(name),
        Kind::Tool => desired.tools.contains_key(name),
    }
}

/// Copies one resource, if it was there.
fn copy(id: &ResourceId, from: &Desired, to: &mut Desired) {
    fn one<T>(name: &Name, from: &BTreeMap<Name, Arc<T>>, to: &mut BTreeMap<Name, Arc<T>>) {
        if let Some(value) = from.get(name) {
            to.insert(name.clone(), value.clone());
        }
    }
    match id.kind {
        Kind::Crib | Kind::Integration => {}
        Kind::Toolset => one(&id.name, &from.toolsets, &mut to.toolsets),
        Kind::Runner => one(&id.name, &from.runners, &mut to.runners),
        Kind::Policy => one(&id.name, &from.policies, &mut to.policies),
        Kind::Server => one(&id.name, &from.servers, &mut to.servers),
        Kind::Tool => one(&id.name, &from.tools, &mut to.tools),
    }
}

/// The answers and files a resource is made of, beyond its own text.
fn inputs(context: &Context<'_>, declared: &Declared) -> Option<Digest> {
    let own = answers_and_files(context, declared);
    let (integrations, waits) = match &declared.spec {
        Spec::Server(spec) => (&spec.integrations, !spec.depends_on.is_empty()),
        Spec::Tool(spec) => (&spec.integrations, false),
        _ => return own,
    };
    if integrations.is_empty() && !waits {
        return own;
    }
    let needs = waits.then(|| context.dependencies.inputs(context.manifest, &declared.metadata.name));
    Some(Digest::of("inputs", &(own, context.integrations.digests(integrations), needs)))
}

fn answers_and_files(context: &Context<'_>, declared: &Declared) -> Option<Digest> {
    let resolutions = context.resolutions;
    if let Some(build) = files::build_source(&declared.spec) {
        let folder = declared.place.file.parent().join(&build.context)?;
        let files: Vec<_> = context.snapshot.under(&folder).collect();
        return Some(Digest::of("context", &files));
    }
    match &declared.spec {
        Spec::Server(spec) => match &spec.source {
            ServerSource::Git(git) => {
                let answer = resolutions.git.get(&(git.url.clone(), git.reference.clone()));
                let pin = pin::pinned(context.manifest, declared).and_then(|pin| pin.commit.as_ref());
                Some(Digest::of("git", &(answer, pin)))
            }
            ServerSource::Command(_) => Some(files::contents(context, &declared.place.file.parent())),
            ServerSource::Image(image) => {
                let asked = pin::image(context.manifest, declared, &image.reference);
                Some(answers(context, asked, spec.runner.as_ref()))
            }
            ServerSource::Package(package) => package.image().map(|image| {
                answers(context, pin::image(context.manifest, declared, &image), spec.runner.as_ref())
            }),
            _ => None,
        },
        Spec::Tool(spec) => Some(match &spec.image {
            Some(image) => {
                let asked = pin::image(context.manifest, declared, image);
                answers(context, asked, spec.runner.as_ref())
            }
            None => files::contents(context, &declared.place.file.parent()),
        }),
        _ => None,
    }
}

fn answers(context: &Context<'_>, reference: &str, named: Option<&Name>) -> Digest {
    let runners = context.runners.keys().filter(|name| named.is_none_or(|named| named == *name));
    let ids: Vec<_> =
        runners.map(|name| context.resolutions.images.get(&(name.clone(), reference.to_owned()))).collect();
    Digest::of("image", &ids)
}
