//! Rego rules to decisions.
//!
//! Input: the modules of all `Policy` resources, and one document for each question. Output:
//! [`Decision`]. Each policy answers in its package: `allow`, `deny`, `visible`, `allowed_runners`,
//! `limits`, `recorded`. Invariant: any `deny` wins; if any policy defines `allow` for the point, one must hold;
//! undefined is no decision; an evaluation error refuses. Nothing here reads time, files or network,
//! and no rule can.
//!
//! Rules are interpreted. The compiled form of the same library is five times as fast, but turns
//! conflicts and errors into "undefined", which for a `deny` means to let through.

pub mod admit;
mod answer;
mod bound;
mod check;
mod compile;
pub mod limit;
mod depend;
mod hint;
mod input;
mod remote;
mod subject;
pub mod suite;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize as _, Serialize};
use serde_json::Value;

use crate::manifest::{Diagnostic, Place, RepoPath};
use crate::resource::policy::{Enforcement, OpaSource, Point, RegoVersion};
use crate::resource::{Name, ResourceId};

use answer::Round;
use compile::{Compiled, Worker};

pub use input::{EntryFacts, Input, Principal, RunnerFacts, ToolFacts};
pub use remote::Remote;
pub use subject::{Subject, SubjectKind, annotations, listed};

/// The rules of one `Policy`.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    pub id: ResourceId,
    /// Where the resource is declared.
    pub place: Place,
    /// The package whose rules decide, such as `kubiya.tools`.
    pub package: String,
    pub version: RegoVersion,
    pub modules: Vec<Module>,
    /// Where the rules are asked instead; there are no modules then.
    pub opa: Option<OpaSource>,
    pub points: Vec<Point>,
    pub enforcement: Enforcement,
}

/// One Rego module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    pub file: RepoPath,
    /// The line of `file` that `text` begins on: 1, unless it is written inside a manifest.
    pub line: u32,
    /// Characters by which the lines of `text` are indented there.
    pub indent: u32,
    pub text: Arc<str>,
}

/// All policies of one revision, compiled. Decisions run side by side.
#[derive(Default)]
pub struct PolicySet {
    policies: Vec<Compiled>,
    /// Those whose rules are asked elsewhere.
    remotes: Vec<Remote>,
    /// Interpreters that nobody uses now. Each has data of its own: shared, their reference counts
    /// would be what threads wait for.
    idle: Mutex<Vec<Worker>>,
}

/// Interpreters kept for later: as many as threads that decide at the same time, in a daemon of a
/// usual size. Above it they are made and thrown away.
const MAX_IDLE: usize = 16;

/// The answer to one question.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    pub allowed: bool,
    /// False when some `visible` is false.
    pub visible: bool,
    /// Why it is refused; empty when it is allowed. At most [`MAX_REFUSALS`].
    pub refusals: Vec<Refusal>,
    /// What policies with `enforcement: audit` would have refused.
    pub audited: Vec<Refusal>,
    /// Names of runners, when some policy says which: what all that say so agree on.
    pub allowed_runners: Option<BTreeSet<String>>,
    /// Limits by name ([`limit::LIMITS`]), the smallest number that any policy gives.
    pub limits: limit::Given,
    /// Which arguments the record of a call may hold: what all policies that say so agree on. None
    /// says so: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Recorded>,
}

/// Arguments that may be recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Recorded {
    All,
    Only(BTreeSet<String>),
}

impl Recorded {
    pub fn holds(&self, argument: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(argument),
        }
    }
}

impl Decision {
    /// Whether lists leave the entry out: some `visible` is false, or something other than a missing
    /// `allow` refuses (which may only wait for arguments).
    pub fn hides(&self) -> bool {
        !self.visible || self.refusals.iter().any(|refusal| refusal.cause != Cause::NotAllowed)
    }
}

/// One rule that refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    pub policy: ResourceId,
    /// `data.kubiya.tools.deny`
    pub rule: String,
    pub cause: Cause,
    /// What the rule says, when it is a message; at most [`MAX_MESSAGE`] characters.
    pub message: Option<String>,
}

impl fmt::Display for Refusal {
    /// In the words of the rule, with its name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{message} ({}, rule `{}`)", self.policy, self.rule),
            None => write!(f, "{}, rule `{}`", self.policy, self.rule),
        }
    }
}

/// What one rule answered, whatever became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    pub policy: ResourceId,
    /// `data.kubiya.tools.deny`
    pub rule: String,
    pub enforcement: Enforcement,
    /// Nothing when it is undefined. Sets are lists.
    pub value: Option<Value>,
    /// Why it could not be evaluated.
    pub error: Option<String>,
    /// What it said with `print`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub printed: Vec<String>,
}

/// Why a rule refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// A `deny` holds.
    Denied,
    /// There are `allow` rules, and none holds.
    NotAllowed,
    /// A rule could not be evaluated.
    Failed,
}

/// Characters of one message of a rule: it goes to clients and into the audit record.
pub const MAX_MESSAGE: usize = 500;
/// Refusals in one decision: a person reads the first few.
pub const MAX_REFUSALS: usize = 8;

impl PolicySet {
    /// # Errors
    /// Everything that is wrong with any module, by file, line and column.
    pub fn compile(sources: Vec<Source>) -> Result<Self, Vec<Diagnostic>> {
        let (mut policies, mut remotes) = (Vec::new(), Vec::new());
        let mut worker = Worker::default();
        let mut diagnostics = Vec::new();
        for source in sources {
            if let Some(opa) = source.opa {
                let Source { id, package, points, enforcement, .. } = source;
                remotes.push(Remote { id, package, points, enforcement, opa });
                continue;
            }
            match compile::compile(source) {
                Ok((compiled, engine)) => {
                    policies.push(compiled);
                    worker.engines.push(engine);
                }
                Err(found) => diagnostics.extend(found),
            }
        }
        if diagnostics.is_empty() {
            return Ok(Self { policies, remotes, idle: Mutex::new(vec![worker]) });
        }
        diagnostics.sort();
        Err(diagnostics)
    }

    /// Whether any policy is asked at this point.
    pub fn asks(&self, point: Point) -> bool {
        self.policies.iter().any(|policy| policy.asked_at(point)) || self.remotes(point).next().is_some()
    }

    /// The policies of the point that are answered elsewhere.
    pub fn remotes(&self, point: Point) -> impl Iterator<Item = &Remote> {
        self.remotes.iter().filter(move |remote| remote.points.contains(&point))
    }

    /// Asks every policy of the point. `input`: [`Input::document`]. Those that are answered elsewhere
    /// refuse, since nobody has asked them.
    pub fn decide(&self, point: Point, input: &Value) -> Decision {
        self.decide_with(point, input, &[])
    }

    /// With what [`PolicySet::remotes`] answered, in their order: a document each, or why there is none.
    pub fn decide_with(&self, point: Point, input: &Value, said: &[Result<Value, String>]) -> Decision {
        self.round(point, input, said, None)
    }

    /// The same decision, and what each rule answered.
    pub fn explain(
        &self,
        point: Point,
        input: &Value,
        said: &[Result<Value, String>],
    ) -> (Decision, Vec<Answer>) {
        let mut heard = Vec::new();
        (self.round(point, input, said, Some(&mut heard)), heard)
    }

    fn round(
        &self,
        point: Point,
        input: &Value,
        said: &[Result<Value, String>],
        heard: Option<&mut Vec<Answer>>,
    ) -> Decision {
        let mut round = Round::new(heard);
        for (at, remote) in self.remotes(point).enumerate() {
            remote.hear(said.get(at), &mut round);
        }
        if self.policies.iter().any(|policy| policy.asked_at(point)) {
            self.ask(point, input, &mut round);
        }
        round.settle()
    }

    fn ask(&self, point: Point, input: &Value, round: &mut Round<'_>) {
        // Every JSON document is a value of Rego; if one were not, rules would see nothing at all.
        let Ok(input) = regorus::Value::deserialize(input) else {
            let asked = self.policies.iter().find(|policy| policy.asked_at(point));
            if let Some(policy) = asked {
                round.fail(&policy.voice(), "input", "the input cannot be read");
            }
            return;
        };
        let mut worker = self.worker();
        for (policy, engine) in self.policies.iter().zip(&mut worker.engines) {
            if policy.asked_at(point) {
                answer::ask(policy, engine, &input, round);
            }
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(worker);
        }
    }

    /// The refusal of a runner that `allowed_runners` does not name.
    fn not_on(&self, point: Point, runner: &Name) -> Option<Refusal> {
        let says = |policy: &&Compiled| policy.asked_at(point) && policy.answers.contains(&"allowed_runners");
        let voice = self.policies.iter().find(says)?.voice();
        Some(Refusal {
            policy: voice.id.clone(),
            rule: voice.rule("allowed_runners"),
            cause: Cause::Denied,
            message: Some(format!("it may not run on runner `{runner}`")),
        })
    }

    /// The refusal of a resource that has more than `limits` gives.
    fn above(&self, point: Point, message: String) -> Option<Refusal> {
        let says = |policy: &&Compiled| policy.asked_at(point) && policy.answers.contains(&"limits");
        let voice = self.policies.iter().find(says)?.voice();
        Some(Refusal {
            policy: voice.id.clone(),
            rule: voice.rule("limits"),
            cause: Cause::Denied,
            message: Some(message),
        })
    }

    /// An interpreter of our own for the time of one decision.
    fn worker(&self) -> Worker {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| Worker { engines: self.policies.iter().map(Compiled::engine).collect() })
    }
}
