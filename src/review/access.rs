//! Who may call what: the declared roles, and the one user of a daemon without authentication.
//!
//! Rules are asked about each published tool without arguments, since a pull request has none: a refusal
//! that holds without them holds with any. Where rules that allow look at arguments and none holds
//! without, that is told as "with some arguments, if at all".

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

use super::offered::Offers;
use super::{Concern, Side};
use crate::catalog::{Entry, Route};
use crate::desired::Location;
use crate::policy::{self, Cause, Decision, Principal, Subject, SubjectKind};
use crate::resource::policy::Point;
use crate::resource::{Kind, Name, ResourceId, Spec};

/// Roles that are looked at, and questions that are asked of the rules of one side: some ten
/// microseconds each.
const MAX_ROLES: usize = 50;
const MAX_QUESTIONS: usize = 40_000;
/// Changes that are told.
const MAX_CHANGES: usize = 1_000;
/// The user everybody is to a daemon without authentication.
const LOCAL: &str = "local";

/// Whether somebody may call a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum May {
    /// There is no such tool.
    Absent,
    /// It is not in the lists, and a call is answered as if it was not there.
    Hidden,
    Refused,
    /// Rules that allow look at arguments.
    SomeArguments,
    Call,
}

impl May {
    pub fn told(self) -> &'static str {
        match self {
            Self::Absent => "not there",
            Self::Hidden => "hidden",
            Self::Refused => "refused",
            Self::SomeArguments => "with some arguments, if at all",
            Self::Call => "may call",
        }
    }
}

/// Somebody, for whom it is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Role {
    pub name: String,
    pub groups: Vec<String>,
}

/// One tool that a role may call now and could not, or could and may not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessChange {
    pub role: String,
    pub before: May,
    pub after: May,
    /// The published name.
    pub tool: String,
    /// Which rule refuses now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Who may call what, where it changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// The roles of the new revision.
    pub roles: Vec<Role>,
    pub changes: Vec<AccessChange>,
    /// Changes that are not told one by one.
    pub more: usize,
    /// Policies that a server elsewhere answers, which is not asked here: what it refuses is told as
    /// allowed.
    pub elsewhere: Vec<ResourceId>,
    /// Roles and tools that were not asked about, because they are too many.
    pub unasked: usize,
}

pub(super) fn compare((before, after): (&Side<'_>, &Side<'_>), offers: (&Offers, &Offers)) -> Access {
    let (was_roles, roles) = (roles(before), roles(after));
    let names: BTreeSet<&String> = was_roles.keys().chain(roles.keys()).collect();
    let mut access = Access {
        roles: roles
            .iter()
            .map(|(name, groups)| Role { name: name.clone(), groups: groups.clone() })
            .collect(),
        ..Access::default()
    };
    let elsewhere = after.desired.policies.values().filter(|policy| policy.opa.is_some());
    access.elsewhere = elsewhere.map(|policy| policy.id.clone()).collect();
    access.unasked += names.len().saturating_sub(MAX_ROLES);
    let (mut was, mut now) = (Asked::new(before, offers.0), Asked::new(after, offers.1));
    let tools: BTreeSet<&str> =
        was.tools.keys().chain(now.tools.keys()).map(|name| -> &str { name }).collect();
    let mut changes = Vec::new();
    for role in names.into_iter().take(MAX_ROLES) {
        // A role that is new had the rights of nobody in no group.
        let groups = |roles: &BTreeMap<String, Vec<String>>| roles.get(role).cloned().unwrap_or_default();
        let principal = |groups| Principal { name: role.clone(), groups, ..Principal::default() };
        let (old, new) = (principal(groups(&was_roles)), principal(groups(&roles)));
        for tool in &tools {
            let ((before, _), (after, why)) = (was.may(tool, &old), now.may(tool, &new));
            // That a tool is gone is told of the tool.
            if before != after && after != May::Absent {
                let tool = (*tool).to_owned();
                changes.push(AccessChange { role: role.clone(), before, after, tool, why });
            }
        }
    }
    access.unasked += was.unasked + now.unasked;
    access.more = changes.len().saturating_sub(MAX_CHANGES);
    changes.truncate(MAX_CHANGES);
    access.changes = changes;
    access
}

/// Groups by role: those of the Crib, and `local`.
fn roles(side: &Side<'_>) -> BTreeMap<String, Vec<String>> {
    let mut roles = BTreeMap::from([(LOCAL.to_owned(), vec![LOCAL.to_owned()])]);
    for (id, declared) in &side.manifest.resources {
        if id.kind == Kind::Crib
            && let Spec::Crib(spec) = &declared.spec
        {
            roles.extend(spec.roles.iter().map(|(name, role)| (name.clone(), role.groups.clone())));
        }
    }
    roles
}

/// The rules of one side, asked about its tools.
struct Asked<'a> {
    side: &'a Side<'a>,
    tools: &'a BTreeMap<std::sync::Arc<str>, std::sync::Arc<Entry>>,
    /// Whether some rule looks at arguments.
    by_arguments: bool,
    questions: usize,
    unasked: usize,
}

impl<'a> Asked<'a> {
    fn new(side: &'a Side<'a>, offers: &'a Offers) -> Self {
        let looks = |text: &str| ["args", "argv"].iter().any(|word| text.contains(&format!("tool.{word}")));
        let modules = side.desired.policies.values().flat_map(|policy| &policy.modules);
        let by_arguments =
            modules.into_iter().any(|module| looks(&module.text) || module.text.contains("tool["));
        Self { side, tools: &offers.catalog.tools, by_arguments, questions: 0, unasked: 0 }
    }

    fn may(&mut self, tool: &str, who: &Principal) -> (May, Option<String>) {
        let Some(entry) = self.tools.get(tool) else { return (May::Absent, None) };
        let Some(policies) = self.side.policies else { return (May::Refused, None) };
        if self.side.desired.policies.is_empty() {
            return (May::Call, None);
        }
        if self.questions >= MAX_QUESTIONS {
            self.unasked += 1;
            return (May::Call, None);
        }
        self.questions += 1;
        let annotations = policy::annotations(&entry.definition);
        let resource = entry.owner.to_string();
        let runner = runner_of(entry).and_then(|name| self.side.desired.runners.get(name));
        let subject = Subject {
            name: tool,
            resource: &resource,
            kind: match &entry.route {
                Route::Tool(ready) => SubjectKind::Tool(&ready.tool),
                Route::Server { server, .. } => SubjectKind::Server(server),
            },
            annotations: annotations.as_ref(),
            runner: runner.map(|runner| &**runner),
        };
        if policies.decide(Point::List, &subject.listed(who)).hides() {
            return (May::Hidden, None);
        }
        let mut input = subject.called(who, &Map::new());
        // Not known is not the same as none.
        if let Some(tool) = input.get_mut("tool").and_then(Value::as_object_mut) {
            tool.shift_remove("args");
            tool.shift_remove("argv");
        }
        self.judge(&policies.decide(Point::Call, &input), runner_of(entry))
    }

    fn judge(&self, decision: &Decision, runner: Option<&Name>) -> (May, Option<String>) {
        if !decision.visible {
            return (May::Hidden, None);
        }
        if let Some(refusal) = decision.refusals.first() {
            let waits = decision.refusals.iter().all(|refusal| refusal.cause == Cause::NotAllowed);
            let may = if waits && self.by_arguments { May::SomeArguments } else { May::Refused };
            return (may, Some(refusal.to_string()));
        }
        match (&decision.allowed_runners, runner) {
            (Some(allowed), Some(runner)) if !allowed.contains(runner.as_str()) => {
                (May::Refused, Some(format!("it may not run on runner `{runner}`")))
            }
            _ => (May::Call, None),
        }
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

/// Tools that were there and may be called by more than before.
pub(super) fn concerns(access: &Access, after: &Side<'_>, offers: &Offers) -> Vec<Concern> {
    let rules = after.manifest.resources.iter().find(|(id, _)| matches!(id.kind, Kind::Policy | Kind::Crib));
    let place = rules.map(|(_, declared)| declared.place.clone());
    let gained =
        access.changes.iter().filter(|change| change.before != May::Absent && change.before < change.after);
    let concern = |change: &AccessChange| {
        let entry = offers.catalog.tools.get(change.tool.as_str())?;
        Some(Concern {
            widens: true,
            resource: entry.owner.clone(),
            code: "access",
            says: format!("was {} to somebody, and now is open to:", change.before.told()),
            before: None,
            after: Some(format!("{}: {} {}", change.role, change.after.told(), change.tool)),
            place: place.clone(),
        })
    };
    gained.filter_map(concern).collect()
}
