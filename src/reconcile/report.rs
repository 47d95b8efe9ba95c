//! What the loop knows, as status.

mod ready;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Reconciler;
use super::job::Key;
use crate::desired::{Digests, Location, Server};
use crate::live::{Fault, Instance, InstanceState, Observation};
use crate::lock::Verdict;
use crate::manifest::{Diagnostic, Place};
use crate::resource::{Kind, Name, ResourceId, Revision};
use crate::status::{
    self, Condition, ConditionStatus, ConditionType, Counts, DigestStatus, InstanceStatus, ResourceStatus,
    Timestamp, counted, reason,
};
use ready::{failed, fault_reason};

/// A statement on its way to being a condition.
type Finding = (ConditionStatus, &'static str, String);

/// Faults that one revision brings into the log: what a person reads there.
const MAX_LOGGED: usize = 20;

impl Reconciler {
    /// Publishes how everything is, when that changed since it was last said.
    pub(super) fn publish_status(&mut self) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        self.log_faults();
        let now = Timestamp(self.ports.clock.now().as_secs());
        let served = self.ports.publisher.current();
        let generation = served.as_ref().map_or(0, |catalog| catalog.generation);
        self.status.generation = generation;
        self.status.suspended = self.suspended;
        let withdrawn = self.inventory.withdrawn.as_ref().map(|withdrawn| &withdrawn.revision);
        let newest = withdrawn.or(self.snapshot.as_ref().map(|snapshot| &snapshot.revision));
        self.status.attempted = newest.cloned();
        self.status.skipped = self.manifest.as_ref().map_or(0, |manifest| manifest.skipped as u64);
        let mut offers: BTreeMap<ResourceId, Vec<Arc<str>>> = BTreeMap::new();
        if let Some(catalog) = &served {
            self.status.served = Some(catalog.revision.clone());
            self.status.catalog = Counts {
                tools: catalog.tools.len() as u64,
                prompts: catalog.prompts.len() as u64,
                resources: catalog.resources.len() as u64,
                templates: catalog.templates.len() as u64,
            };
            for entry in catalog.tools.values() {
                offers.entry(entry.owner.clone()).or_default().push(Arc::clone(&entry.name));
            }
        }
        let revision = self.desired.as_ref().map(|desired| Arc::new(desired.revision.clone()));
        let before = std::mem::take(&mut self.status.resources);
        let mut resources = BTreeMap::new();
        for id in self.known() {
            let old = before.get(&id);
            let mut status = self.resource(&id, revision.as_ref());
            status.offers = offers.remove(&id).unwrap_or_default();
            let mut conditions = old.map(|old| old.conditions.clone()).unwrap_or_default();
            for (kind, (value, reason, message)) in self.findings(&id) {
                let condition = Condition::new(kind, value, reason, message, now).observed(generation);
                status::set(&mut conditions, condition);
            }
            conditions.shrink_to_fit();
            status.conditions = conditions;
            resources.insert(id, Arc::new(status));
        }
        self.status.resources = resources;
        for (kind, (value, reason, message)) in self.daemon_findings() {
            let condition = Condition::new(kind, value, reason, message, now).observed(generation);
            status::set(&mut self.status.conditions, condition);
        }
        self.ports.publisher.status(Arc::new(self.status.clone()));
    }

    /// Logs the errors of the repository that were not logged yet.
    fn log_faults(&mut self) {
        let errors: Vec<Diagnostic> =
            self.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).cloned().collect();
        let new = errors.iter().filter(|error| self.logged.binary_search(error).is_err());
        for (n, Diagnostic { place, code, message, hint, resource, .. }) in new.enumerate() {
            if n == MAX_LOGGED {
                tracing::warn!("there are more faults: `toolcrib status` shows them");
                break;
            }
            let place = place.as_ref().map(tracing::field::display);
            let resource = resource.as_ref().map(tracing::field::display);
            tracing::warn!(resource, place, code, hint, "fault: {message}");
        }
        self.logged = errors;
    }

    /// Everything declared, and everything still served though its declaration is at fault.
    fn known(&self) -> Vec<ResourceId> {
        let mut ids: std::collections::BTreeSet<ResourceId> = std::collections::BTreeSet::new();
        if let Some(manifest) = &self.manifest {
            ids.extend(manifest.resources.keys().cloned());
            ids.extend(manifest.faulty.iter().cloned());
        }
        ids.extend(self.diagnostics.iter().filter_map(|diagnostic| diagnostic.resource.clone()));
        ids.into_iter().collect()
    }

    fn resource(&self, id: &ResourceId, revision: Option<&Arc<Revision>>) -> ResourceStatus {
        let mut status = ResourceStatus::default();
        let Some(desired) = &self.desired else { return status };
        let digests = |digests: &Digests| DigestStatus {
            build: digests.build,
            workload: Some(digests.workload),
            offer: Some(digests.offer),
        };
        let place = |place: &Place| Some(place.to_string());
        match id.kind {
            Kind::Server => {
                if let Some(server) = desired.servers.get(&id.name) {
                    status.digests = digests(&server.digests);
                    status.place = place(&server.place);
                    if let Location::Runner(workload) = &server.location {
                        status.runner = Some(workload.runner.clone());
                    }
                }
                status.instances = self.instances(&id.name).map(instance_status).collect();
            }
            Kind::Tool => {
                if let Some(tool) = desired.tools.get(&id.name) {
                    status.digests = digests(&tool.digests);
                    status.place = place(&tool.place);
                    status.runner = Some(tool.runner.clone());
                }
            }
            Kind::Crib | Kind::Runner | Kind::Policy | Kind::Integration | Kind::Toolset => {}
        }
        if status.place.is_none() {
            let declared = self.manifest.as_ref().and_then(|manifest| manifest.resources.get(id));
            status.place = declared.map(|declared| declared.place.to_string());
        }
        status.revision = revision.cloned();
        status
    }

    fn instances<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a Instance> {
        let present = |seen: &'a Observation| match seen {
            Observation::Present(instances) => instances.as_slice(),
            Observation::Unknown(_) => &[],
        };
        self.live
            .runners
            .values()
            .flat_map(present)
            .filter(move |instance| instance.resource.kind == Kind::Server && instance.resource.name == *name)
    }

    fn findings(&self, id: &ResourceId) -> Vec<(ConditionType, Finding)> {
        use ConditionStatus::{False, True};
        let busy = self.running.contains_key(&Key::Resource(id.clone()));
        let ready = self.ready_finding(id);
        let stalled = self.backoff.get(id).filter(|wait| wait.until.is_none());
        let left = self.drift.contains_key(id) || self.fault(id).is_some() || stalled.is_some();
        let moving = busy || (ready.0 == False && !left);
        let mut findings = vec![
            (
                ConditionType::Reconciling,
                if moving {
                    (True, reason::PROGRESSING, "work is under way".to_owned())
                } else {
                    (False, reason::IDLE, String::new())
                },
            ),
            (
                ConditionType::Stalled,
                match stalled {
                    Some(wait) => (True, failed(wait.what), wait.error.clone()),
                    None => (False, reason::IDLE, String::new()),
                },
            ),
        ];
        if id.kind == Kind::Server {
            findings.push((ConditionType::Healthy, self.healthy(id)));
            findings.extend(self.locked(id).map(|locked| (ConditionType::Locked, locked)));
        }
        findings.push((ConditionType::Ready, ready));
        findings
    }

    /// The first error a person made about this resource.
    fn fault(&self, id: &ResourceId) -> Option<&Diagnostic> {
        self.diagnostics
            .iter()
            .find(|diagnostic| diagnostic.is_error() && diagnostic.resource.as_ref() == Some(id))
    }

    /// How a server of the catalog stands to its lock.
    fn locked(&self, id: &ResourceId) -> Option<Finding> {
        let judged = &self.standing.get(&id.name)?.judged;
        let status = match judged.verdict {
            Verdict::Locked => ConditionStatus::True,
            Verdict::Unverified | Verdict::Waiting => ConditionStatus::Unknown,
            _ => ConditionStatus::False,
        };
        Some((status, judged.verdict.reason(), judged.message(id.name.as_str())))
    }

    fn healthy(&self, id: &ResourceId) -> Finding {
        if let Some(what) = self.drift.get(id) {
            return (ConditionStatus::False, reason::DRIFTED, (*what).clone());
        }
        if let Some(server) = self.resting(id) {
            return (ConditionStatus::True, reason::IDLE, self.why_idle(&server));
        }
        let Some(serving) = self.serving.get(&id.name) else {
            return (ConditionStatus::False, reason::STARTING, "no instance has answered yet".to_owned());
        };
        if let Some(why) = self.silent(id) {
            return (ConditionStatus::False, reason::UNHEALTHY, why);
        }
        if let Some(doubt) = self.connections(serving).into_iter().find_map(|key| self.checks.doubt(key)) {
            return (ConditionStatus::Unknown, reason::UNHEALTHY, doubt);
        }
        if self.is_down(&serving.key, &self.ports.prober.connected()) {
            (ConditionStatus::False, reason::CRASH_LOOP, "the instance does not answer".to_owned())
        } else {
            (ConditionStatus::True, reason::RUNNING, "the instance answers".to_owned())
        }
    }

    /// A server that is listed, and does not run because nobody uses it.
    fn resting(&self, id: &ResourceId) -> Option<Arc<Server>> {
        let wanted = self.desired.as_ref()?.servers.get(&id.name).filter(|server| self.rests(server))?;
        let listed = match self.serving.get(&id.name) {
            Some(serving) => serving.server.digests.workload == wanted.digests.workload,
            None => self.is_listed_by_its_lock(wanted),
        };
        let starts = self.running.contains_key(&Key::Resource(id.clone()));
        (listed && !starts && self.backoff.get(id).is_none()).then(|| Arc::clone(wanted))
    }

    fn why_idle(&self, server: &Server) -> String {
        match self.serving.get(&server.id.name) {
            Some(_) => "nobody uses it: it starts with the next call".to_owned(),
            None => "it has not run yet: it starts with the first call".to_owned(),
        }
    }

    /// Why the instance that is served counts as one that does not answer, when it does.
    fn silent(&self, id: &ResourceId) -> Option<String> {
        let instance = &self.serving.get(&id.name)?.key.instance;
        self.broken.get(instance).filter(|fault| **fault == Fault::Silent)?;
        let said = self.backoff.get(id).map(|wait| wait.error.clone());
        Some(said.unwrap_or_else(|| "the instance does not answer".to_owned()))
    }

    /// That the newest revision is served, and how much of it is not ready.
    fn served_but(&self) -> String {
        let resources = &self.status.resources;
        let waiting = resources.values().filter(|status| status.ready() == Some(false)).count();
        let but = match waiting {
            0 => String::new(),
            1 => "; 1 resource is not ready".to_owned(),
            several => format!("; {several} resources are not ready"),
        };
        format!("the newest revision is served{but}")
    }

    fn daemon_findings(&self) -> Vec<(ConditionType, Finding)> {
        use ConditionStatus::{False, True};
        let errors: Vec<&Diagnostic> =
            self.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).collect();
        let withdrawn = self.inventory.withdrawn.as_ref();
        let ready = match (self.first_error(), &self.desired) {
            (Some(error), _) if self.unverified => (False, reason::VERIFICATION_FAILED, error.chain()),
            (Some(error), _) => {
                let hint = error.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
                (False, reason::FETCH_FAILED, error.chain() + &hint)
            }
            (None, _) if self.refused => {
                let first = self.diagnostics.iter().find(|diagnostic| diagnostic.is_error());
                let message = first.map(|first| first.message.clone()).unwrap_or_default();
                (False, reason::REFUSED, format!("the revision is refused as a whole: {message}"))
            }
            (None, Some(desired)) if withdrawn.is_some() => {
                let why = withdrawn.map(|withdrawn| withdrawn.why.as_str()).unwrap_or_default();
                let next = "commit what is right, or try it again with `toolcrib reconcile`";
                (False, reason::HEALTH_GATE, format!("{why}; `{}` is served; {next}", desired.revision))
            }
            (None, None) => (False, reason::WAITING_FOR_SOURCE, "nothing was read yet".to_owned()),
            (None, Some(desired)) if !self.waits_for.is_empty() => {
                (False, reason::WAITING_FOR_OTHERS, format!("{} is {}", desired.revision, self.awaits()))
            }
            (None, Some(_)) if !errors.is_empty() => {
                // A mistake comes first: it waits for a person.
                let reasons = || errors.iter().map(|error| fault_reason(error));
                let mistake = reasons().find(|reason| *reason == reason::INVALID_MANIFEST);
                let reason = mistake.unwrap_or(reason::LOOKUP_FAILED);
                (False, reason, format!("{}; the rest is served", counted(errors.len(), "error")))
            }
            (None, Some(_)) => (True, reason::SERVED, self.served_but()),
        };
        let moving = if self.running.is_empty() {
            (False, reason::IDLE, String::new())
        } else {
            (True, reason::PROGRESSING, "work is under way".to_owned())
        };
        vec![(ConditionType::Ready, ready), (ConditionType::Reconciling, moving)]
    }
}

fn instance_status(instance: &Instance) -> InstanceStatus {
    let state = match instance.state {
        InstanceState::Starting => "starting",
        InstanceState::Running => "running",
        InstanceState::Paused => "paused",
        InstanceState::Exited { .. } => "exited",
    };
    InstanceStatus {
        id: instance.id.clone(),
        name: instance.name.clone(),
        state: state.to_owned(),
        digest: instance.digest,
    }
}
