//! Who may call what: the facts of a call to the policies, and their answer to the caller.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::catalog::{Entry, Route};
use crate::desired::{self, Location, Program, argv};
use crate::policy::{Decision, Input, PolicySet, Principal, RunnerFacts, ToolFacts};
use crate::resource::Name;
use crate::resource::policy::Point;

/// The policies of a revision, and the runners they are asked about.
#[derive(Default)]
pub struct Rules {
    pub policies: Arc<PolicySet>,
    pub runners: BTreeMap<Name, Arc<desired::Runner>>,
}

/// What a call may do.
pub(super) enum Verdict {
    Allowed,
    /// To this principal there is no such tool.
    Hidden,
    /// Why not, and by which rule.
    Refused(String),
}

/// Everybody who reaches a loopback listener.
pub(super) fn local() -> Principal {
    Principal { name: "local".to_owned(), groups: vec!["local".to_owned()] }
}

impl Rules {
    /// Whether lists differ by who asks.
    pub(super) fn asks_of_lists(&self) -> bool {
        self.policies.asks(Point::List)
    }

    /// Whether this principal does not see the tool at all: neither arguments nor runner are known.
    pub(super) fn hides(&self, entry: &Entry, user: &Principal) -> bool {
        if !self.asks_of_lists() {
            return false;
        }
        let annotations = annotations(entry);
        let resource = entry.owner.to_string();
        let input = Input {
            tool: Some(facts(entry, &resource, annotations.as_ref())),
            user: Some(user),
            runner: None,
        };
        self.policies.decide(Point::List, &input.document()).hides()
    }

    /// Whether arguments have to be known before a call is let through.
    pub(super) fn asks(&self) -> bool {
        self.policies.asks(Point::Call)
    }

    pub(super) fn decide(&self, entry: &Entry, user: &Principal, given: &Map<String, Value>) -> Verdict {
        if self.hides(entry, user) {
            return Verdict::Hidden;
        }
        if !self.asks() {
            return Verdict::Allowed;
        }
        let annotations = annotations(entry);
        let argv = match &entry.route {
            Route::Tool(ready) => argv::fill(&ready.tool.command, given).ok().map(|filled| filled.argv),
            Route::Server { .. } => None,
        };
        let runner = runner_of(entry);
        let where_it_runs = runner.and_then(|name| self.runners.get(name)).map(|runner| RunnerFacts {
            name: runner.name.as_str(),
            kind: runner.kind.as_str(),
            attributes: &runner.attributes,
        });
        let resource = entry.owner.to_string();
        let known = facts(entry, &resource, annotations.as_ref());
        let tool = ToolFacts { args: Some(given), argv: argv.as_deref(), ..known };
        let input = Input { tool: Some(tool), user: Some(user), runner: where_it_runs };
        verdict(&self.policies.decide(Point::Call, &input.document()), runner)
    }
}

/// What is known of a tool before it is called.
fn facts<'a>(
    entry: &'a Entry,
    resource: &'a str,
    annotations: Option<&'a Map<String, Value>>,
) -> ToolFacts<'a> {
    ToolFacts {
        name: &entry.name,
        resource,
        server: matches!(entry.route, Route::Server { .. }).then(|| entry.owner.name.as_str()),
        image: image_of(entry),
        annotations,
        args: None,
        argv: None,
    }
}

fn verdict(decision: &Decision, runner: Option<&Name>) -> Verdict {
    for refusal in &decision.audited {
        tracing::info!(target: "toolcrib::audit", policy = %refusal.policy, rule = refusal.rule, "would be refused");
    }
    if !decision.visible {
        return Verdict::Hidden;
    }
    if !decision.allowed {
        let reasons: Vec<_> = decision
            .refusals
            .iter()
            .map(|refusal| match &refusal.message {
                Some(message) => format!("{message} ({}, rule `{}`)", refusal.policy, refusal.rule),
                None => format!("{}, rule `{}`", refusal.policy, refusal.rule),
            })
            .collect();
        return Verdict::Refused(if reasons.is_empty() {
            "no rule allows it".to_owned()
        } else {
            reasons.join("; ")
        });
    }
    match (&decision.allowed_runners, runner) {
        (Some(allowed), Some(runner)) if !allowed.contains(runner.as_str()) => {
            Verdict::Refused(format!("it may not run on runner `{runner}` (rule `allowed_runners`)"))
        }
        _ => Verdict::Allowed,
    }
}

fn runner_of(entry: &Entry) -> Option<&Name> {
    match &entry.route {
        Route::Tool(ready) => Some(&ready.tool.runner),
        Route::Server { server, .. } => match &server.location {
            Location::Runner(workload) => Some(&workload.runner),
            Location::Remote { .. } => None,
        },
    }
}

fn image_of(entry: &Entry) -> Option<&str> {
    match &entry.route {
        Route::Tool(ready) => ready.tool.image.as_ref().map(|(reference, _)| reference.as_str()),
        Route::Server { server, .. } => match &server.location {
            Location::Runner(workload) => match &workload.program {
                Program::Image { reference, .. } => Some(reference),
                Program::Command { .. } => None,
            },
            Location::Remote { .. } => None,
        },
    }
}

fn annotations(entry: &Entry) -> Option<Map<String, Value>> {
    #[derive(serde::Deserialize)]
    struct Annotated {
        annotations: Option<Map<String, Value>>,
    }
    serde_json::from_str::<Annotated>(&entry.definition).ok()?.annotations
}
