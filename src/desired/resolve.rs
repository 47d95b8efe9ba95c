//! All resources of a revision, each resolved once for each change of what it is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::context::Context;
use super::place::Findings;
use super::{Desired, Floor, Origin, Origins, Question, Resolutions, Resolved, files, policy, server, tool};
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
                ServerSource::Image(image) => (&image.reference, spec.runner.as_ref()),
                ServerSource::Git(git) => {
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
                Some(image) => (image, spec.runner.as_ref()),
                None => continue,
            },
            Spec::Crib(_) | Spec::Runner(_) | Spec::Policy(_) => continue,
        };
        let runner = context.runner(named, RunnerKind::Docker, &mut Findings::new(declared));
        if let Some(runner) = runner {
            questions.insert(Question::Image { runner: runner.name.clone(), reference: image.clone() });
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
    let desired = Desired {
        revision: snapshot.revision.clone(),
        naming: context.crib.naming.clone(),
        sync: context.crib.sync.clone(),
        runners: context.runners.clone(),
        servers: BTreeMap::new(),
        tools: BTreeMap::new(),
        policies: BTreeMap::new(),
        faulty,
        pending: BTreeSet::new(),
        origins: Origins::default(),
    };
    let mut pass = Pass { context: &context, previous, desired, diagnostics };
    for (id, declared) in &manifest.resources {
        pass.resource(id, declared);
    }
    pass.kept();
    let fatal = |id: &ResourceId| matches!(id.kind, Kind::Crib | Kind::Policy);
    let refused = pass.desired.faulty.iter().any(fatal);
    pass.diagnostics.sort();
    Resolved { desired: pass.desired, diagnostics: pass.diagnostics, refused }
}

struct Pass<'a> {
    context: &'a Context<'a>,
    previous: Option<&'a Desired>,
    desired: Desired,
    diagnostics: Vec<Diagnostic>,
}

impl Pass<'_> {
    fn resource(&mut self, id: &ResourceId, declared: &Arc<Declared>) {
        let inputs = inputs(self.context, declared);
        if self.reuse(id, declared, inputs) {
            return;
        }
        let mut findings = Findings::new(declared);
        let done = match &declared.spec {
            Spec::Crib(_) | Spec::Runner(_) => return,
            Spec::Policy(spec) => policy::policy(self.context, declared, spec, &mut findings)
                .map(|policy| _ = self.desired.policies.insert(id.name.clone(), Arc::new(policy))),
            Spec::Server(spec) => server::server(self.context, declared, spec, &mut findings)
                .map(|server| _ = self.desired.servers.insert(id.name.clone(), Arc::new(server))),
            Spec::Tool(spec) => tool::tool(self.context, declared, spec, &mut findings)
                .map(|tool| _ = self.desired.tools.insert(id.name.clone(), Arc::new(tool))),
        };
        if done.is_some() {
            // With warnings it is resolved anew each time, so that they are told each time.
            if findings.diagnostics.is_empty() && id.kind != Kind::Policy {
                let origin = Origin { declared: declared.clone(), context: self.context.digest, inputs };
                self.desired.origins.0.insert(id.clone(), origin);
            }
        } else if findings.failed() {
            self.desired.faulty.insert(id.clone());
        } else {
            self.desired.pending.insert(id.clone());
        }
        self.diagnostics.append(&mut findings.diagnostics);
    }

    /// Takes over what was resolved from the same before.
    fn reuse(&mut self, id: &ResourceId, declared: &Arc<Declared>, inputs: Option<Digest>) -> bool {
        let Some(previous) = self.previous else { return false };
        let Some(origin) = previous.origins.0.get(id) else { return false };
        let same = Arc::ptr_eq(&origin.declared, declared)
            && origin.context == self.context.digest
            && origin.inputs == inputs;
        if same && copy(id, previous, &mut self.desired) {
            self.desired.origins.0.insert(id.clone(), origin.clone());
            return true;
        }
        false
    }

    /// Takes over the previous version of everything that is faulty or pending now.
    fn kept(&mut self) {
        let Some(previous) = self.previous else { return };
        let ids: Vec<ResourceId> = self.desired.faulty.union(&self.desired.pending).cloned().collect();
        for id in ids {
            if !holds(&self.desired, &id) {
                copy(&id, previous, &mut self.desired);
            }
        }
    }
}

fn holds(desired: &Desired, id: &ResourceId) -> bool {
    let name = &id.name;
    match id.kind {
        Kind::Crib => true,
        Kind::Runner => desired.runners.contains_key(name),
        Kind::Policy => desired.policies.contains_key(name),
        Kind::Server => desired.servers.contains_key(name),
        Kind::Tool => desired.tools.contains_key(name),
    }
}

/// Copies one resource; whether it was there.
fn copy(id: &ResourceId, from: &Desired, to: &mut Desired) -> bool {
    fn one<T>(name: &Name, from: &BTreeMap<Name, Arc<T>>, to: &mut BTreeMap<Name, Arc<T>>) -> bool {
        from.get(name).map(|value| to.insert(name.clone(), value.clone())).is_some()
    }
    match id.kind {
        Kind::Crib => false,
        Kind::Runner => one(&id.name, &from.runners, &mut to.runners),
        Kind::Policy => one(&id.name, &from.policies, &mut to.policies),
        Kind::Server => one(&id.name, &from.servers, &mut to.servers),
        Kind::Tool => one(&id.name, &from.tools, &mut to.tools),
    }
}

/// The answers and files a resource is made of, beyond its own text.
fn inputs(context: &Context<'_>, declared: &Declared) -> Option<Digest> {
    let resolutions = context.resolutions;
    if let Some(build) = files::build_source(&declared.spec) {
        let folder = declared.place.file.parent().join(&build.context)?;
        let files: Vec<_> = context.snapshot.under(&folder).collect();
        return Some(Digest::of("folder", &files));
    }
    match &declared.spec {
        Spec::Server(spec) => match &spec.source {
            ServerSource::Git(git) => {
                let answer = resolutions.git.get(&(git.url.clone(), git.reference.clone()));
                Some(Digest::of("git", &answer))
            }
            ServerSource::Image(image) => Some(answers(context, &image.reference, spec.runner.as_ref())),
            _ => None,
        },
        Spec::Tool(spec) => Some(answers(context, spec.image.as_ref()?, spec.runner.as_ref())),
        Spec::Crib(_) | Spec::Runner(_) | Spec::Policy(_) => None,
    }
}

fn answers(context: &Context<'_>, reference: &str, named: Option<&Name>) -> Digest {
    let runners = context.runners.keys().filter(|name| named.is_none_or(|named| named == *name));
    let ids: Vec<_> =
        runners.map(|name| context.resolutions.images.get(&(name.clone(), reference.to_owned()))).collect();
    Digest::of("image", &ids)
}
