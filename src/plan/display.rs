//! The plan as people and programs read it: the same value that is applied.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Action, Blocked, Change, Plan, Step};
use crate::resource::{Digest, ResourceId};

/// One step in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    /// `build`, `start`, `adopt`, `reach` or `stop`.
    pub action: String,
    /// `create`, `replace`, `restart`, `rebuild`, `adopt` or `prune`.
    pub change: String,
    pub resource: ResourceId,
    /// The runner, or nothing for a server elsewhere.
    pub runner: Option<String>,
    /// What it acts on: an image's tag, an instance's name, an address.
    pub subject: String,
    pub digest: Option<Digest>,
    pub reason: String,
    /// Indices of the steps that come first.
    pub needs: Vec<usize>,
}

/// A whole plan in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanView {
    pub steps: Vec<StepView>,
    pub blocked: Vec<Blocked>,
    /// What differs from what was last applied and is left so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<Blocked>,
    /// Volumes that nothing declares any more: `runner/name`. They are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
    pub hash: Digest,
    /// Where prunes wait for approval: the hash to approve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvable: Option<Digest>,
}

impl Plan {
    pub fn view(&self) -> PlanView {
        let steps = self.steps.iter().map(view).collect();
        let (blocked, drift) = (self.blocked.clone(), self.drift.clone());
        let kept = self.kept.iter().map(ToString::to_string).collect();
        PlanView { steps, blocked, drift, kept, hash: self.hash, approvable: self.approvable }
    }
}

/// Over the ordered steps.
pub(super) fn hash(steps: &[Step]) -> Digest {
    let views: Vec<StepView> = steps.iter().map(view).collect();
    Digest::of("toolcrib/plan/v1", &views)
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Create => "create",
        Change::Replace => "replace",
        Change::Restart => "restart",
        Change::Prune => "prune",
    }
}

fn view(step: &Step) -> StepView {
    let (action, change, runner, subject, digest) = match &step.action {
        Action::Build { runner, build, rebuild } => {
            let change = if *rebuild { "rebuild" } else { "create" };
            ("build", change, Some(runner), &build.tag, Some(build.digest))
        }
        Action::Start { runner, server, name, change } => {
            ("start", word(*change), Some(runner), name, Some(server.digests.workload))
        }
        Action::Adopt { server, instance } => {
            ("adopt", "adopt", Some(&instance.runner), &instance.name, Some(server.digests.workload))
        }
        Action::Reach { url, .. } => ("reach", "create", None, url, None),
        Action::Stop { instance, change, .. } => {
            ("stop", word(*change), Some(&instance.runner), &instance.name, Some(instance.digest))
        }
    };
    StepView {
        action: action.to_owned(),
        change: change.to_owned(),
        resource: step.resource.clone(),
        runner: runner.map(ToString::to_string),
        subject: subject.clone(),
        digest,
        reason: step.reason.clone(),
        needs: step.needs.clone(),
    }
}

impl fmt::Display for StepView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.change.as_str() {
            "create" => '+',
            "prune" => '-',
            "adopt" => '=',
            _ => '~',
        };
        write!(f, "{sign} {:<24} {:<6} {}", self.resource.to_string(), self.action, self.subject)?;
        if let Some(runner) = &self.runner {
            write!(f, " on {runner}")?;
        }
        write!(f, " ({}", self.reason)?;
        if !self.needs.is_empty() {
            let needs: Vec<String> = self.needs.iter().map(|step| (step + 1).to_string()).collect();
            write!(f, "; after {}", needs.join(", "))?;
        }
        f.write_str(")")
    }
}

impl PlanView {
    fn volumes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for volume in &self.kept {
            writeln!(
                f,
                "Volume {volume} is kept with its data, though nothing declares it: `toolcrib volumes delete {volume}` removes it."
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for PlanView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.is_empty() && self.blocked.is_empty() && self.drift.is_empty() {
            f.write_str("Nothing to do: what runs is what is declared.\n")?;
            return self.volumes(f);
        }
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(f, "{:>3}  {step}", index + 1)?;
        }
        for blocked in &self.blocked {
            writeln!(f, "  !  {:<24} held back: {}", blocked.resource.to_string(), blocked.reason)?;
        }
        for drift in &self.drift {
            writeln!(f, "  !  {:<24} drift: {}", drift.resource.to_string(), drift.reason)?;
        }
        let count = |action: &str| self.steps.iter().filter(|step| step.action == action).count();
        writeln!(
            f,
            "Plan: {} to build, {} to start, {} to adopt, {} to reach, {} to stop. Hash {}.",
            count("build"),
            count("start"),
            count("adopt"),
            count("reach"),
            count("stop"),
            self.hash.short()
        )?;
        if !self.drift.is_empty() {
            writeln!(
                f,
                "Drift is left as it is (`sync.drift: report`). To correct it: toolcrib reconcile, or apply without a daemon"
            )?;
        }
        self.volumes(f)?;
        match &self.approvable {
            Some(hash) => writeln!(f, "To prune what is held back: toolcrib reconcile --approve {hash}"),
            None => Ok(()),
        }
    }
}
