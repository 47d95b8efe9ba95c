//! What the servers of a revision turn out to be: the contents of their locks.
//!
//! The same fetching, building, starting and asking as in every pass; only that locks do not pin
//! anything, since they are what is being made.

use std::collections::BTreeSet;

use super::Reconciler;
use crate::desired::{self, Location, Program};
use crate::lock::{Lock, Resolved, Signer};
use crate::manifest::{Declared, Manifest};
use crate::ports::Runners;
use crate::resource::server::ServerSource;
use crate::resource::{Kind, Name, ResourceId, Spec};
use crate::status::reason;

/// One resource that can have a lock.
#[derive(Clone, Debug)]
pub struct Surveyed {
    pub id: ResourceId,
    /// Its lock, or why there is none: a sentence with the next step.
    pub lock: Result<Lock, String>,
    /// The image as the runner knows it, of which a registry may know the digest.
    image: Option<(Name, String)>,
}

impl Reconciler {
    /// Looks up, builds, starts and asks the resources in `only`, and says what their locks hold. What was started goes on running: its owner stops it.
    pub async fn survey(mut self, only: BTreeSet<ResourceId>) -> Vec<Surveyed> {
        self.surveys = Some(only);
        self.converge().await;
        if let Some(error) = &self.source_error {
            tracing::error!(error = %error.chain(), hint = error.hint, "the repository cannot be read");
        }
        let found = self.surveyed();
        complete(found, &*self.ports.runners).await
    }

    /// What the locks of everything that is served would hold.
    pub(super) fn surveyed(&self) -> Vec<Surveyed> {
        let Some(manifest) = &self.manifest else { return Vec::new() };
        let lockable = manifest
            .resources
            .values()
            .filter_map(|declared| desired::source_of(&declared.spec).map(|source| (declared, source)));
        let found = lockable.map(|(declared, source)| self.one(declared, source));
        let faulty = |id: &&ResourceId| {
            matches!(id.kind, Kind::Server | Kind::Tool) && !manifest.resources.contains_key(*id)
        };
        let faulty = manifest.faulty.iter().filter(faulty).map(|id| Surveyed {
            id: id.clone(),
            lock: Err(self.why_not(id)),
            image: None,
        });
        found.chain(faulty).collect()
    }

    fn one(&self, declared: &Declared, source: serde_json::Value) -> Surveyed {
        let id = declared.id();
        let desired = self.desired.as_ref();
        let mut image = None;
        let resolved = match id.kind {
            Kind::Server => desired.and_then(|desired| desired.servers.get(&id.name)).map(|server| {
                if let Location::Runner(workload) = &server.location
                    && let Program::Image { id: Some(id), .. } = &workload.program
                {
                    image = Some((workload.runner.clone(), id.clone()));
                }
                resolved(declared, server)
            }),
            _ => desired.and_then(|desired| desired.tools.get(&id.name)).map(|tool| {
                let known = tool.image.as_ref().and_then(|(_, id)| id.clone());
                image = known.clone().map(|id| (tool.runner.clone(), id));
                Resolved { image: known, build: tool.digests.build, ..Resolved::default() }
            }),
        };
        let faulty = desired.is_none_or(|desired| desired.faulty.contains(&id));
        let offer = match id.kind {
            Kind::Server => {
                let wanted = desired.and_then(|desired| desired.servers.get(&id.name));
                let serving = self.serving.get(&id.name).filter(|serving| {
                    wanted.is_some_and(|wanted| wanted.digests.workload == serving.server.digests.workload)
                });
                serving.map(|serving| Some(serving.offer.definitions().sorted()))
            }
            _ => Some(None),
        };
        let lock = match (resolved, offer) {
            (Some(resolved), Some(offer)) if !faulty => {
                Ok(Lock { resource: id.clone(), source, resolved, signer: Signer::Unsigned, offer })
            }
            _ => Err(self.why_not(&id)),
        };
        Surveyed { id, lock, image }
    }

    fn why_not(&self, id: &ResourceId) -> String {
        let (_, why, message) = self.ready_finding(id);
        if why == reason::SERVED { "it did not answer".to_owned() } else { message }
    }

    /// Leaves in a manifest what is surveyed, and no lock.
    pub(super) fn narrow(&self, manifest: &mut Manifest) {
        let Some(only) = &self.surveys else { return };
        manifest.locks.clear();
        manifest.broken_locks.clear();
        manifest.resources.retain(|id, _| match id.kind {
            Kind::Server | Kind::Tool => only.contains(id),
            _ => true,
        });
    }
}

fn resolved(declared: &Declared, server: &desired::Server) -> Resolved {
    let mut resolved = Resolved { build: server.digests.build, files: server.files, ..Resolved::default() };
    if let Location::Runner(workload) = &server.location
        && let Program::Image { id, .. } = &workload.program
    {
        resolved.image.clone_from(id);
    }
    if let Some(build) = &server.build
        && let crate::build::Context::Git { commit, .. } = &build.context
    {
        resolved.commit = Some(commit.clone());
    }
    if let Spec::Server(spec) = &declared.spec
        && let ServerSource::Package(package) = &spec.source
    {
        resolved.version = Some(package.version.clone());
    }
    resolved
}

/// Adds what registries call the images.
pub async fn complete(mut found: Vec<Surveyed>, runners: &(impl Runners + ?Sized)) -> Vec<Surveyed> {
    for one in &mut found {
        let (Ok(lock), Some((runner, image))) = (&mut one.lock, &one.image) else { continue };
        let Some(runner) = runners.get(runner) else { continue };
        match runner.registry_digest(image).await {
            Ok(digest) => lock.resolved.digest = digest,
            Err(error) => {
                tracing::warn!(resource = %one.id, error = %error.chain(), "no digest of a registry");
            }
        }
    }
    found
}
