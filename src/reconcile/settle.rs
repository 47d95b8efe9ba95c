//! What a job's end means for what we know.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::backoff::What;
use super::job::{Done, Failed, Proven};
use super::serve::Serving;
use super::{Reconciler, rehearse};
use crate::desired::{Location, Server};
use crate::live::{Applied, Entry, Fault, Instance, InstanceState, Live, Observation, UpstreamKey};
use crate::plan::Plan;
use crate::ports::{Disposition, Offer, PortError, PortResult};
use crate::resource::runner::RunnerKind;
use crate::resource::{Digest, Kind, Name, ResourceId};

impl Reconciler {
    pub(super) async fn settle(&mut self, done: Done) {
        if matches!(done, Done::Built { .. } | Done::Serving { .. } | Done::Stopped { .. }) {
            self.pass.steps += 1;
        }
        match done {
            Done::Fetched(result) => self.fetched(result).await,
            Done::Answered(question, answer) => self.answer(question, answer).await,
            Done::Observed { epoch, live, built } => self.observed(epoch, live, built).await,
            Done::Built { id, runner, digest, result } => self.built(&id, (runner, digest), result).await,
            Done::Collected => {}
            Done::LetGo => self.look(),
            Done::Serving { id, digest, result } => self.answered_or_not(&id, digest, result).await,
            Done::Rehearsed { id, digest, cancelled, result } => {
                self.rehearsal_ended(id, digest, cancelled, result).await;
            }
            Done::Refreshed { key, result } => self.refreshed(&key, result).await,
            Done::Lent { name, instance, unwanted } => self.lent(&name, instance, unwanted),
            Done::Stopped { instance, result } => self.stopped(&instance, result),
            Done::VolumeDeleted { id, result, answer } => self.volume_deleted(&id, result, answer),
        }
    }

    async fn observed(&mut self, epoch: u64, live: Live, built: BTreeSet<(Name, Digest)>) {
        let again = std::mem::take(&mut self.observe_again);
        if !built.is_empty() {
            self.built.extend(built);
            self.publish().await;
        }
        if epoch != self.epoch || again {
            return self.look();
        }
        self.live = live;
        if self.rehearsal_due() {
            self.publish().await;
        }
        self.rebuild_inventory();
        self.rebuild_volumes();
        self.note_crashes();
        self.follow_members();
        let gone = self.forget_gone() | self.forget_volumes() | self.forget_ahead();
        let plan = self.plan_for_drift();
        let guarded = plan.guard.is_some() && self.inventory.guard != plan.guard;
        if guarded {
            self.inventory.guard.clone_from(&plan.guard);
        }
        if gone || guarded {
            self.save_inventory();
        }
        self.launch(&plan);
        self.answer_calls(&plan);
        self.note_idle();
        self.stale = true;
    }

    /// The plan, with drift corrected where somebody asked for that, and told where not.
    fn plan_for_drift(&mut self) -> Plan {
        let mut plan = self.plan_now();
        if std::mem::take(&mut self.correct_next) && !plan.drift.is_empty() {
            for drift in &plan.drift {
                self.backoff.forgive(&drift.resource);
                self.correct.insert(drift.resource.clone());
            }
            plan = self.plan_now();
        }
        let drift = plan.drift.iter().map(|drift| (drift.resource.clone(), drift.reason.clone())).collect();
        for (id, what) in &drift {
            if self.drift.get(id) != Some(what) {
                tracing::warn!(resource = %id, "drift: {what}; it is left so, `toolcrib reconcile` corrects it");
            }
        }
        self.drift = drift;
        plan
    }

    /// After a loss of the store the labels say what is ours; prunes then ask for approval.
    fn rebuild_inventory(&mut self) {
        if std::mem::replace(&mut self.observed_before, true) || !self.inventory.entries.is_empty() {
            return;
        }
        for seen in self.live.runners.values() {
            let Observation::Present(instances) = seen else { continue };
            for instance in instances.iter().filter(|instance| instance.resource.kind == Kind::Server) {
                let entry = Entry {
                    runner: instance.runner.clone(),
                    resource: instance.resource.clone(),
                    digest: instance.digest,
                    secrets: None,
                };
                self.inventory.entries.insert(instance.name.clone(), entry);
            }
        }
        if !self.inventory.entries.is_empty() {
            tracing::warn!(
                instances = self.inventory.entries.len(),
                "the inventory was lost and is rebuilt from labels; prunes wait for approval"
            );
            self.inventory.rebuilt = true;
            self.save_inventory();
        }
    }

    /// Instances that ended by themselves count as failures of their server, once each. One that
    /// somebody started again is as good as before.
    fn note_crashes(&mut self) {
        let now = self.ports.clock.now();
        let exited = self.live.runners.values().flat_map(|seen| match seen {
            Observation::Present(instances) => instances.as_slice(),
            Observation::Unknown(_) => &[],
        });
        let again = exited.clone().filter(|instance| !matches!(instance.state, InstanceState::Exited { .. }));
        for instance in again {
            if self.broken.get(&instance.id) == Some(&Fault::Ended) {
                self.broken.remove(&instance.id);
            }
        }
        let ended: Vec<(Instance, String)> = exited
            .filter_map(|instance| match instance.state {
                InstanceState::Exited { code } => Some((instance.clone(), ended(code))),
                _ => None,
            })
            .collect();
        for (instance, text) in ended {
            let server = instance.resource.name.clone();
            let ours = self.serves(&UpstreamKey { server, instance: instance.id.clone() });
            let known = self.broken.contains_key(&instance.id);
            if ours && !known {
                self.broken.insert(instance.id.clone(), Fault::Ended);
                tracing::warn!(resource = %instance.resource, instance = instance.name, "{text}");
                self.backoff.crashed(&instance.resource, instance.digest, text, now);
            }
        }
    }

    /// Drops from the inventory what was claimed but is certainly not there, and not being made.
    fn forget_gone(&mut self) -> bool {
        let mut seen = BTreeSet::new();
        let mut known = BTreeSet::new();
        for (runner, observation) in &self.live.runners {
            if let Observation::Present(instances) = observation {
                known.insert(runner.clone());
                seen.extend(instances.iter().map(|instance| instance.name.clone()));
            }
        }
        let busy = |id: &ResourceId| self.running.contains_key(&super::Key::Resource(id.clone()));
        let before = self.inventory.entries.len();
        let mut entries = std::mem::take(&mut self.inventory.entries);
        entries.retain(|name, entry| {
            seen.contains(name)
                || !known.contains(&entry.runner)
                || busy(&entry.resource)
                || self.lent.contains(name)
        });
        self.inventory.entries = entries;
        self.inventory.entries.len() != before
    }

    async fn built(&mut self, id: &ResourceId, image: (Name, Digest), result: PortResult<()>) {
        let digest = image.1;
        match result {
            Ok(()) => {
                self.built.insert(image);
                self.backoff.succeeded(id);
                if id.kind == Kind::Tool && self.rebuild.remove(id) {
                    self.renew_ahead(id);
                }
                self.publish().await;
            }
            Err(error) if self.wants_build(digest) => self.failed(id, digest, What::Build, &error),
            Err(_) => {}
        }
        self.look();
        self.stale = true;
    }

    pub(super) fn failed(&mut self, id: &ResourceId, digest: Digest, what: What, error: &PortError) {
        tracing::warn!(resource = %id, error = %error.chain(), hint = error.hint, "not ready");
        if let Some(detail) = &error.detail {
            tracing::debug!(resource = %id, "{detail}");
        }
        self.pass.failed += 1;
        self.rebuild.remove(id);
        self.backoff.failed(id, digest, what, error, self.ports.clock.now());
        self.ports.publisher.failures(self.backoff.details());
    }

    async fn answered_or_not(
        &mut self,
        id: &ResourceId,
        digest: Digest,
        result: Result<Box<Proven>, Failed>,
    ) {
        self.epoch += 1;
        match result {
            Ok(mut proven) => {
                let reports = std::mem::take(&mut proven.reports);
                if !reports.is_empty() {
                    tracing::info!(resource = %id, tests = reports.len(), "passed its tests");
                    self.reports.insert(id.clone(), reports);
                }
                // Where it is the version before that was called, the wanted one is not any better for it.
                let wanted = self.desired.as_ref().and_then(|desired| desired.servers.get(&id.name));
                if wanted.is_none_or(|wanted| wanted.digests.workload == digest) {
                    self.backoff.succeeded(id);
                }
                self.broken.remove(&proven.key.instance);
                self.unanswered.answered(&proven.key);
                if let Some(folder) = proven.folder.clone() {
                    self.folders.insert(proven.key.instance.clone(), folder);
                }
                if let Some(server) = self.current(&id.name, digest) {
                    self.correct.remove(id);
                    self.drift.remove(id);
                    let key = proven.key;
                    self.members.insert(key.clone(), digest);
                    self.note_applied(&server);
                    let elastic = server.scale.is_elastic();
                    let led = if elastic { UpstreamKey::any_of(&server) } else { key.clone() };
                    let serving = Serving { server, key: led, offer: Arc::new(proven.offer) };
                    self.serving.insert(id.name.clone(), serving);
                    self.publish().await;
                    self.admit(&key);
                }
            }
            Err(Failed { cancelled: true, .. }) => {}
            // Nobody wants that version any more: what became of it says nothing of the one that is wanted.
            Err(Failed { instance, .. }) if self.current(&id.name, digest).is_none() => {
                self.broken.extend(instance.map(|instance| (instance.id, Fault::Silent)));
            }
            Err(Failed { error, instance, .. }) => {
                self.broken.extend(instance.map(|instance| (instance.id, Fault::Silent)));
                // Somebody may have removed the image: it is looked for again.
                let build =
                    self.desired.as_ref().and_then(|desired| desired.servers.get(&id.name)?.digests.build);
                self.built.retain(|(_, digest)| Some(*digest) != build);
                let tests = rehearse::failed(&error).map(|failed| failed.reports.clone());
                let what = if tests.is_some() { What::Tests } else { What::Start };
                self.reports.extend(tests.map(|reports| (id.clone(), reports)));
                self.refuse_calls(&id.name, digest, &error);
                self.failed(id, rehearse::digest(self.desired.as_deref(), id, digest, what), what, &error);
            }
        }
        self.look();
        self.stale = true;
    }

    /// The server in this version, where that is wanted, or served on demand until the wanted one is there.
    fn current(&self, name: &Name, digest: Digest) -> Option<Arc<Server>> {
        let wanted = self.desired.as_ref().and_then(|desired| desired.servers.get(name));
        let served = self.serving.get(name).map(|serving| &serving.server);
        let served = served.filter(|server| server.scale.on_demand());
        wanted.into_iter().chain(served).find(|server| server.digests.workload == digest).cloned()
    }

    /// From now on another state of this server is drift, until another one is wanted.
    fn note_applied(&mut self, server: &Server) {
        let Location::Runner(workload) = &server.location else { return };
        if server.scale.on_demand() || self.members(server).count() < server.scale.min as usize {
            return;
        }
        let kind = self.runners.get(&workload.runner).map(|runner| runner.kind);
        let applied = Applied {
            digest: server.digests.workload,
            transient: kind == Some(RunnerKind::Process),
            instances: server.scale.min,
        };
        if self.inventory.applied.insert(server.id.name.clone(), applied) != Some(applied) {
            self.save_inventory();
        }
    }

    async fn refreshed(&mut self, key: &UpstreamKey, result: PortResult<Offer>) {
        if !self.serves(key) {
            return;
        }
        if result.is_ok() && self.unanswered.answered(key) {
            tracing::info!(server = %key.server, "the server answers again");
            self.stale = true;
        }
        match result {
            Ok(offer) => {
                let Some(serving) = self.serving.get_mut(&key.server) else { return };
                let same = *serving.offer == offer;
                self.stale |= self.checks.answered(key) || !same;
                if !same {
                    serving.offer = Arc::new(offer);
                    self.publish().await;
                }
            }
            Err(error) => {
                // Over stdio the end of the connection says so; and a list that cannot be used is an answer.
                let stdio = self.serving.get(&key.server).is_some_and(Serving::over_stdio);
                if !stdio && error.disposition == Disposition::Retry {
                    self.unanswered.failed(key, self.ports.clock.now());
                }
                self.did_not_answer(key, &error);
            }
        }
    }

    fn stopped(&mut self, instance: &Instance, result: PortResult<()>) {
        self.epoch += 1;
        match result {
            Ok(()) => {
                self.broken.remove(&instance.id);
                self.folders.remove(&instance.id);
                self.lent.remove(&instance.name);
                self.inventory.entries.remove(&instance.name);
                self.save_inventory();
                tracing::info!(resource = %instance.resource, instance = instance.name, "stopped");
            }
            Err(error) => {
                tracing::warn!(instance = instance.name, error = %error.chain(), "not stopped; tried again later");
                // What was lent is not any more, and the plan ends it.
                if !self.lent.remove(&instance.name) {
                    self.failed(&instance.resource, instance.digest, What::Start, &error);
                }
            }
        }
        self.look();
    }
}

fn ended(code: Option<i64>) -> String {
    match code {
        Some(code) => format!("the instance ended by itself with code {code}"),
        None => "the instance ended by itself".to_owned(),
    }
}
