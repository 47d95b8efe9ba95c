//! Who may call what: the facts of a call to the policies, and their answer to the caller.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::catalog::{Catalog, Entry, List, Route};
use crate::desired::{self, Location};
use crate::policy::limit::{self, Given};
use crate::policy::{self, Decision, EntryFacts, PolicySet, Principal, Recorded, Subject, SubjectKind};
use crate::ports::{Judge, judged};
use crate::resource::Name;
use crate::resource::policy::Point;

/// The policies of a revision, and the runners they are asked about.
#[derive(Default)]
pub struct Rules {
    pub policies: Arc<PolicySet>,
    pub runners: BTreeMap<Name, Arc<desired::Runner>>,
    /// Who asks policies that are answered elsewhere; without, they refuse.
    pub judge: Option<Arc<dyn Judge>>,
}

/// What a call may do.
pub(super) enum Verdict {
    Allowed,
    /// To this principal there is no such tool.
    Hidden,
    /// Why not, and by which rule.
    Refused(String),
}

/// What rules said of a call.
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    /// What policies with `enforcement: audit` would have refused.
    pub(super) audited: Vec<String>,
    /// What the call is lowered to.
    pub(super) limits: Given,
    /// Which arguments may be recorded.
    pub(super) recorded: Option<Recorded>,
}

impl From<Verdict> for Judged {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, audited: Vec::new(), limits: Given::new(), recorded: None }
    }
}

/// Everybody who reaches a loopback listener.
pub(super) fn local() -> Principal {
    Principal { name: "local".to_owned(), groups: vec!["local".to_owned()], ..Principal::default() }
}

impl Rules {
    /// Whether lists differ by who asks.
    pub(super) fn asks_of_lists(&self) -> bool {
        self.policies.asks(Point::List)
    }

    /// Whether this principal does not see the entry at all: neither arguments nor runner are known.
    pub(super) fn hides(&self, list: List, entry: &Entry, user: &Principal) -> bool {
        match list {
            _ if !self.asks_of_lists() => false,
            List::Tools => self.about(entry, |subject| self.hidden(&subject.listed(user))),
            List::Prompts => self.hides_named("prompt", &entry.name, entry, user),
            List::Resources => self.hides_named("resource", &entry.name, entry, user),
            List::Templates => self.hides_named("template", &entry.name, entry, user),
        }
    }

    /// Whether to this principal there is no such resource: that URI is hidden, or the template that
    /// it is read by.
    pub(super) fn hides_uri(&self, catalog: &Catalog, uri: &str, entry: &Entry, user: &Principal) -> bool {
        let template = catalog.templates.contains_key(&entry.name);
        self.asks_of_lists()
            && (self.hides_named("resource", uri, entry, user)
                || (template && self.hides(List::Templates, entry, user)))
    }

    fn hides_named(&self, kind: &str, name: &str, entry: &Entry, user: &Principal) -> bool {
        let resource = entry.owner.to_string();
        let server = matches!(entry.route, Route::Server { .. }).then(|| entry.owner.name.as_str());
        self.hidden(&policy::listed(EntryFacts { kind, name, resource: &resource, server }, user))
    }

    fn hidden(&self, question: &Value) -> bool {
        self.policies.decide(Point::List, question).hides()
    }

    /// Whether arguments have to be known before a call is let through.
    pub(super) fn asks(&self) -> bool {
        self.policies.asks(Point::Call)
    }

    /// What rules say of a tool in lists. None: none is asked.
    pub(super) fn listed(&self, entry: &Entry, user: &Principal) -> Option<Decision> {
        let question = self.asks_of_lists().then(|| self.about(entry, |subject| subject.listed(user)))?;
        Some(self.policies.decide(Point::List, &question))
    }

    pub(super) async fn decide(&self, entry: &Entry, user: &Principal, given: &Map<String, Value>) -> Judged {
        if self.hides(List::Tools, entry, user) {
            return Verdict::Hidden.into();
        }
        let (judged, decision) = self.judge(entry, user, given).await;
        for refusal in decision.iter().flat_map(|decision| &decision.audited) {
            tracing::info!(target: "toolcrib::audit", policy = %refusal.policy, rule = refusal.rule, "would be refused");
        }
        judged
    }

    /// What rules say of a call, whether lists hold the tool or not. No decision: none is asked.
    pub(super) async fn judge(
        &self,
        entry: &Entry,
        user: &Principal,
        given: &Map<String, Value>,
    ) -> (Judged, Option<Decision>) {
        if !self.asks() {
            return (Verdict::Allowed.into(), None);
        }
        let question = self.about(entry, |subject| subject.called(user, given));
        let said = match &self.judge {
            Some(judge) if self.policies.remotes(Point::Call).next().is_some() => {
                judged(&**judge, &self.policies, Point::Call, &question).await
            }
            _ => Vec::new(),
        };
        let decision = self.policies.decide_with(Point::Call, &question, &said);
        let judged = Judged {
            verdict: match verdict(&decision, runner_of(entry)) {
                Verdict::Allowed => within(entry, &decision.limits),
                refused => refused,
            },
            limits: decision.limits.clone(),
            audited: decision.audited.iter().map(ToString::to_string).collect(),
            recorded: decision.recorded.clone(),
        };
        (judged, Some(decision))
    }

    /// Asks `question` about an entry.
    fn about<T>(&self, entry: &Entry, question: impl FnOnce(&Subject<'_>) -> T) -> T {
        let annotations = policy::annotations(&entry.definition);
        let resource = entry.owner.to_string();
        question(&Subject {
            name: &entry.name,
            resource: &resource,
            kind: match &entry.route {
                Route::Tool(ready) => SubjectKind::Tool(&ready.tool),
                Route::Server { server, .. } => SubjectKind::Server(server),
            },
            annotations: annotations.as_ref(),
            runner: runner_of(entry).and_then(|name| self.runners.get(name)).map(|runner| &**runner),
        })
    }
}

fn verdict(decision: &Decision, runner: Option<&Name>) -> Verdict {
    if !decision.visible {
        return Verdict::Hidden;
    }
    if !decision.allowed {
        let reasons: Vec<_> = decision.refusals.iter().map(ToString::to_string).collect();
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

/// A server that runs with more than a call may have is not called.
fn within(entry: &Entry, limits: &Given) -> Verdict {
    let above = match &entry.route {
        Route::Server { server, .. } => limit::server_above(server, limits),
        Route::Tool(_) => None,
    };
    above.map_or(Verdict::Allowed, |above| Verdict::Refused(format!("{above} (rule `limits`)")))
}

/// The runner a call goes to, when it goes to one.
pub(super) fn runner_of(entry: &Entry) -> Option<&Name> {
    match &entry.route {
        Route::Tool(ready) => Some(&ready.tool.runner),
        Route::Server { server, .. } => match &server.location {
            Location::Runner(workload) => Some(&workload.runner),
            Location::Remote { .. } => None,
        },
    }
}
