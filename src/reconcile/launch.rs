//! From a plan to jobs. Nothing is decided here: a step is launched when what it needs is done and
//! nothing else is under way on the same thing.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::job::{self, Key};
use super::{Reconciler, Running};
use crate::desired::Location;
use crate::live::{Entry, Fault, Observation};
use crate::plan::{self, Action, Plan, Step};
use crate::ports::{Identity, Material, SecretValue};
use crate::resource::EnvValue;

/// Builds side by side: each uses a core or more.
const MAX_BUILDS: usize = 2;
/// Starts side by side: bound by the engine, which starts about this many at once well.
const MAX_STARTS: usize = 8;

impl Reconciler {
    /// The plan for what is known now.
    pub(super) fn plan_now(&self) -> Plan {
        let Some(desired) = &self.desired else {
            return plan::empty();
        };
        let held = self.backoff.held(self.ports.clock.now());
        let mut connected = self.ports.prober.connected();
        // A connection that nothing is offered over proves nothing.
        connected.retain(|key| self.serves(key));
        let former = self.former();
        let demand = self.demand(&former);
        let ending = self.running.keys().filter_map(|key| match key {
            Key::Stop(name) => Some(name.clone()),
            _ => None,
        });
        plan::plan(&plan::Input {
            desired,
            live: &self.unlent(),
            inventory: &self.inventory,
            built: &self.built,
            connected: &connected,
            broken: &self.broken,
            demand: &demand,
            ending: &ending.collect(),
            former: &former,
            correct: &self.correct,
            routed: &self.routed(),
            held: &held,
            rebuild: &self.rebuild,
            approved: self.approved,
            errors: self.diagnostics.iter().any(crate::manifest::Diagnostic::is_error) || self.refused,
        })
    }

    /// Launches what the plan says and can begin now; cancels what nobody wants any more.
    pub(super) fn launch(&mut self, plan: &Plan) {
        self.cancel_unwanted(plan);
        for step in &plan.steps {
            // A step with needs comes up again, without them, when they are done.
            if step.needs.is_empty() {
                self.launch_step(step);
            }
        }
    }

    fn launch_step(&mut self, step: &Step) {
        let id = &step.resource;
        match &step.action {
            Action::Build { runner, build, rebuild } => {
                if self.count(Kind::Build) >= MAX_BUILDS {
                    return;
                }
                let ports = self.ports.clone();
                let key = Key::Build(runner.clone(), build.digest);
                let wanted = job::Wanted {
                    id: id.clone(),
                    runner: runner.clone(),
                    spec: Arc::clone(build),
                    rebuild: *rebuild,
                };
                self.spawn(key, Some(build.digest), |cancel| Box::pin(job::build(ports, wanted, cancel)));
            }
            Action::Start { server, name, .. } => self.start(server, name),
            Action::Adopt { server, instance } => {
                let (ports, server, instance) = (self.ports.clone(), Arc::clone(server), instance.clone());
                let digest = server.digests.workload;
                self.claim(&instance.name, &instance.runner, &server);
                let secrets = self.given(&server, &instance.name);
                self.spawn(Key::Resource(id.clone()), Some(digest), |cancel| {
                    Box::pin(job::adopt(ports, server, instance, secrets, cancel))
                });
            }
            Action::Reach { server, url } => {
                let (ports, server, url) = (self.ports.clone(), Arc::clone(server), url.clone());
                let digest = server.digests.workload;
                self.spawn(Key::Resource(id.clone()), Some(digest), |cancel| {
                    Box::pin(job::reach(ports, server, url, cancel))
                });
            }
            Action::Stop { instance, grace, .. } => {
                let (ports, instance, grace) = (self.ports.clone(), instance.clone(), *grace);
                self.spawn(Key::Stop(instance.name.clone()), None, |_| {
                    Box::pin(job::stop(ports, instance, grace))
                });
            }
        }
    }

    fn start(&mut self, server: &Arc<crate::desired::Server>, name: &str) {
        let key = Key::Resource(server.id.clone());
        let (Location::Runner(workload), Some(snapshot)) = (&server.location, &self.snapshot) else { return };
        if self.running.contains_key(&key) || self.count(Kind::Start) >= MAX_STARTS {
            return;
        }
        let identity = Identity {
            name: name.to_owned(),
            resource: server.id.clone(),
            digest: server.digests.workload,
            revision: snapshot.revision.to_string(),
        };
        let (ports, snapshot) = (self.ports.clone(), Arc::clone(snapshot));
        let (server, workload) = (Arc::clone(server), Arc::clone(workload));
        if !self.claim(name, &workload.runner, &server) {
            return;
        }
        self.rebuild.remove(&server.id);
        tracing::info!(resource = %server.id, instance = name, "starting");
        self.spawn(key, Some(server.digests.workload), |cancel| {
            Box::pin(job::start(ports, server, workload, identity, snapshot, cancel))
        });
    }

    /// Writes an instance into the inventory before it exists; without that it is not made.
    pub(super) fn claim(
        &mut self,
        name: &str,
        runner: &crate::resource::Name,
        server: &crate::desired::Server,
    ) -> bool {
        if let Location::Runner(workload) = &server.location
            && !self.claim_volumes(&workload.runner, &workload.volumes)
        {
            return false;
        }
        if self.inventory.entries.contains_key(name) {
            return true;
        }
        let entry = Entry {
            runner: runner.clone(),
            resource: server.id.clone(),
            digest: server.digests.workload,
            secrets: self.tag(server),
        };
        self.inventory.entries.insert(name.to_owned(), entry);
        self.save_inventory()
    }

    /// What tells whether the server would get the same secrets again; none when it gets none, or
    /// when one is missing, which its start will say.
    fn tag(&self, server: &crate::desired::Server) -> Option<String> {
        self.material(server).map(|material| self.ports.secrets.tag(&material))
    }

    /// The secrets an instance was started with, when they are still the same.
    fn given(&self, server: &crate::desired::Server, instance: &str) -> Option<Vec<SecretValue>> {
        let then = self.inventory.entries.get(instance)?.secrets.as_ref()?;
        let material = self.material(server)?;
        (self.ports.secrets.tag(&material) == *then).then_some(material.secrets)
    }

    fn material(&self, server: &crate::desired::Server) -> Option<Material> {
        let Location::Runner(workload) = &server.location else { return None };
        let secret = |value: &EnvValue| matches!(value, EnvValue::Secret(_));
        if !workload.env.values().chain(workload.files.values()).any(secret) {
            return None;
        }
        Material::resolve(&*self.ports.secrets, &workload.env, &workload.files).ok()
    }

    /// Instances that were started with other secrets than there are now are replaced.
    pub(super) fn note_rotations(&mut self) {
        let mut rotated: Vec<crate::live::InstanceId> = Vec::new();
        for serving in self.serving.values() {
            let now = self.tag(&serving.server);
            for key in self.connections(serving) {
                let named = |name: &String| self.named(name) == Some(&key.instance);
                let entry = self.inventory.entries.iter().find(|(name, _)| named(name));
                let then = entry.and_then(|(_, entry)| entry.secrets.clone());
                if now.is_some() && then.is_some() && now != then {
                    rotated.push(key.instance.clone());
                }
            }
        }
        for instance in rotated {
            tracing::info!(%instance, "its secrets changed; it is replaced");
            self.broken.insert(instance, Fault::Rotated);
        }
    }

    /// The instance of this name, as it was last seen.
    fn named(&self, name: &str) -> Option<&crate::live::InstanceId> {
        let seen = self.live.runners.values().flat_map(|seen| match seen {
            Observation::Present(instances) => instances.as_slice(),
            Observation::Unknown(_) => &[],
        });
        seen.filter(|instance| instance.name == name).map(|instance| &instance.id).next()
    }

    /// Removes checkouts that nothing runs in: what is offered now, or was published before, stays.
    pub(super) fn keep_checkouts(&mut self) {
        let published = self.published.iter().flat_map(|published| &published.tools);
        let tools = self.tools.values().chain(published).filter_map(|ready| ready.folder.as_deref());
        let servers = self.folders.values().cloned();
        let in_use: BTreeSet<_> = tools.map(std::path::PathBuf::from).chain(servers).collect();
        let ports = self.ports.clone();
        self.spawn(Key::Checkouts, None, |_| Box::pin(job::keep_checkouts(ports, in_use)));
    }

    /// Removes images that nothing wants, when nothing else is to be done.
    pub(super) fn collect(&mut self) {
        let quiet = self.plan.as_ref().is_some_and(|plan| plan.is_empty() && plan.blocked.is_empty());
        let quiet = quiet && self.waits_for.is_empty();
        let sound = !self.refused && !self.diagnostics.iter().any(crate::manifest::Diagnostic::is_error);
        let Some(desired) = self.desired.clone().filter(|_| quiet && sound) else { return };
        let servers = desired.servers.values().filter_map(|server| server.digests.build);
        let tools = desired.tools.values().filter_map(|tool| tool.digests.build);
        let keep: BTreeSet<_> = servers.chain(tools).collect();
        for runner in self.runners.keys().cloned().collect::<Vec<_>>() {
            let (ports, keep) = (self.ports.clone(), keep.clone());
            let egress = desired.egress(&runner);
            self.spawn(Key::Collect(runner.clone()), None, |_| {
                Box::pin(job::collect(ports, runner, keep, egress))
            });
        }
    }

    pub(super) fn save_inventory(&self) -> bool {
        match self.ports.store.save_inventory(&self.inventory) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(error = %error.chain(), "the inventory cannot be written; nothing is started");
                false
            }
        }
    }

    fn count(&self, kind: Kind) -> usize {
        let is = |key: &&Key| match kind {
            Kind::Build => matches!(key, Key::Build(..)),
            Kind::Start => matches!(key, Key::Resource(_)),
        };
        self.running.keys().filter(is).count()
    }

    /// Whether anybody wants an image of this digest.
    pub(super) fn wants_build(&self, digest: crate::resource::Digest) -> bool {
        self.desired.as_ref().is_some_and(|desired| {
            let servers = desired.servers.values().map(|server| server.digests.build);
            let tools = desired.tools.values().map(|tool| tool.digests.build);
            servers.chain(tools).flatten().any(|wanted| wanted == digest)
        })
    }

    /// Ends waits for a version of a server that is not wanted any more. Builds go on while their
    /// digest is wanted by anybody.
    fn cancel_unwanted(&mut self, plan: &Plan) {
        let Some(desired) = &self.desired else { return };
        let wanted = |key: &Key, running: &Running| match key {
            Key::Resource(id) => {
                let now = desired.servers.get(&id.name).map(|server| server.digests.workload);
                let served = self.serving.get(&id.name).map(|serving| &serving.server);
                let called = served.filter(|server| server.scale.on_demand());
                let called = called.is_some_and(|server| running.digest == Some(server.digests.workload));
                now == running.digest || called || desired.pending.contains(id)
            }
            Key::Build(_, digest) => self.wants_build(*digest),
            _ => true,
        };
        for (key, running) in &self.running {
            if !wanted(key, running) {
                running.cancel.cancel();
            }
        }
        self.plan = Some(plan.clone());
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Build,
    Start,
}
