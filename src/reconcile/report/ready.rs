//! Whether a resource is ready, and if not, why: the first thing that a person has to know.

use super::Finding;
use crate::desired::Location;
use crate::live::Observation;
use crate::manifest::Diagnostic;
use crate::reconcile::Reconciler;
use crate::reconcile::backoff::What;
use crate::reconcile::job::Key;
use crate::resource::{Kind, ResourceId};
use crate::status::{ConditionStatus, counted, reason};

impl Reconciler {
    pub(in crate::reconcile) fn ready_finding(&self, id: &ResourceId) -> Finding {
        use ConditionStatus::{False, True};
        if let Some(fault) = self.fault(id) {
            let place = fault.place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
            let hint = fault.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
            let before = self.meanwhile(id);
            return (False, fault_reason(fault), format!("{place}{}{hint}{before}", fault.message));
        }
        if let Some(blocked) = self.unknown_runner(id) {
            return (False, reason::RUNNER_UNREACHABLE, blocked);
        }
        if let Some(what) = self.drift.get(id) {
            let message = format!(
                "drift: {what}; it is left so (`sync.drift: report`), `toolcrib reconcile` corrects it"
            );
            return (False, reason::DRIFTED, message);
        }
        if let Some(wait) = self.backoff.get(id).filter(|wait| wait.what != What::Crash) {
            let hint = wait.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
            let detail = wait.detail.as_ref().map(|detail| format!("\n{}", tail(detail))).unwrap_or_default();
            let before = self.meanwhile(id);
            return (False, failed(wait.what), format!("{}{hint}{before}{detail}", wait.error));
        }
        let desired = self.desired.as_ref();
        if desired.is_some_and(|desired| desired.pending.contains(id)) {
            return (False, reason::PROGRESSING, "its image or commit is being looked up".to_owned());
        }
        if self.running.contains_key(&Key::Rehearsal(id.clone())) {
            return (False, reason::PROGRESSING, "its tests run".to_owned());
        }
        match id.kind {
            Kind::Server => self.server_ready(id),
            Kind::Tool => match (self.unoffered.get(id), self.tools.contains_key(&id.name)) {
                (Some(why), offered) => {
                    let reason = if offered { reason::NAME_COLLISION } else { reason::BUILDING };
                    (False, reason, why.clone())
                }
                (None, true) if self.is_held(id) => (False, reason::WAITING_FOR_OTHERS, self.awaits()),
                (None, true) => (True, reason::SERVED, "offered".to_owned()),
                (None, false) => (False, reason::PROGRESSING, "not offered yet".to_owned()),
            },
            Kind::Crib | Kind::Runner | Kind::Policy | Kind::Integration | Kind::Toolset => {
                (True, reason::SERVED, "in force".to_owned())
            }
        }
    }

    /// What is added to a failure of a version, where one before it is served.
    fn meanwhile(&self, id: &ResourceId) -> &'static str {
        let served = match id.kind {
            Kind::Server => self.serving.contains_key(&id.name),
            Kind::Tool => self.tools.contains_key(&id.name),
            Kind::Crib | Kind::Runner | Kind::Policy | Kind::Integration | Kind::Toolset => false,
        };
        if served { " (the version before is served)" } else { "" }
    }

    fn server_ready(&self, id: &ResourceId) -> Finding {
        use ConditionStatus::{False, True};
        let wanted = self.desired.as_ref().and_then(|desired| desired.servers.get(&id.name));
        match (self.serving.get(&id.name), wanted) {
            (Some(serving), Some(server)) if serving.server.digests == server.digests => {
                if let Some(wait) = self.backoff.get(id).filter(|wait| wait.failures > 1) {
                    return (False, reason::CRASH_LOOP, wait.error.clone());
                }
                if let Some(why) = self.silent(id) {
                    return (False, reason::UNHEALTHY, why);
                }
                if self.is_held(id) && !self.unoffered.contains_key(id) {
                    return (False, reason::WAITING_FOR_OTHERS, self.awaits());
                }
                let judged = self.standing.get(&id.name).map(|standing| &standing.judged);
                if let Some(judged) = judged.filter(|judged| judged.verdict.withholds()) {
                    return (False, judged.verdict.reason(), judged.message(id.name.as_str()));
                }
                if self.hidden.contains(&id.name) {
                    let message =
                        "it is down, and nothing of it is listed meanwhile (`tools.whenDown: hidden`)";
                    return (False, reason::CRASH_LOOP, message.to_owned());
                }
                let differs = judged.filter(|judged| judged.verdict.alarms());
                let resting = self.resting(id);
                let reason = if resting.is_some() { reason::IDLE } else { reason::SERVED };
                match (self.unoffered.get(id), differs) {
                    (Some(why), _) => (False, reason::UNPUBLISHABLE, why.clone()),
                    (None, Some(judged)) => (True, reason, judged.message(id.name.as_str())),
                    (None, None) => {
                        let listed = format!("{} listed", counted(serving.offer.tools.len(), "tool"));
                        let why = resting.map(|server| format!("; {}", self.why_idle(&server)));
                        (True, reason, listed + why.as_deref().unwrap_or_default())
                    }
                }
            }
            (None, Some(server)) if self.resting(id).is_some() => {
                let judged = self.standing.get(&id.name).map(|standing| &standing.judged);
                match judged.filter(|judged| judged.verdict.withholds()) {
                    Some(judged) => (False, judged.verdict.reason(), judged.message(id.name.as_str())),
                    None => (True, reason::IDLE, self.why_idle(server)),
                }
            }
            (Some(_), _) => {
                (False, reason::STARTING, "the version before is served while this one starts".to_owned())
            }
            (None, Some(server)) => {
                let missing = |digest| !self.built.iter().any(|(_, built)| *built == digest);
                let building = server.digests.build.is_some_and(missing);
                let reason = if building { reason::BUILDING } else { reason::STARTING };
                (False, reason, "no instance has answered yet".to_owned())
            }
            (None, None) => (False, reason::INVALID_MANIFEST, "there is no version to serve".to_owned()),
        }
    }

    pub(in crate::reconcile) fn unknown_runner(&self, id: &ResourceId) -> Option<String> {
        let desired = self.desired.as_ref()?;
        let runner = match id.kind {
            Kind::Server => match &desired.servers.get(&id.name)?.location {
                Location::Runner(workload) => &workload.runner,
                Location::Remote { .. } => return None,
            },
            Kind::Runner => &id.name,
            _ => return None,
        };
        match self.live.runners.get(runner)? {
            Observation::Unknown(why) => Some(format!("runner `{runner}` cannot be asked: {why}")),
            Observation::Present(_) => None,
        }
    }
}

/// The reason for an error of the repository: what the network does not answer is nobody's mistake there.
pub(super) fn fault_reason(fault: &Diagnostic) -> &'static str {
    match fault.code {
        "image-unavailable" | "git-unavailable" => reason::LOOKUP_FAILED,
        _ => reason::INVALID_MANIFEST,
    }
}

/// The last lines of a log: what a condition can hold.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

pub(super) fn failed(what: What) -> &'static str {
    match what {
        What::Build => reason::BUILD_FAILED,
        What::Start => reason::START_FAILED,
        What::Crash => reason::CRASH_LOOP,
        What::Tests => reason::TESTS_FAILED,
    }
}
