//! `sync.healthGate`: a revision that does not turn healthy in time is taken back as a whole.
//!
//! The last revision that was healthy is remembered, with who may sign the one after it. A newer one has the
//! declared time; then, if something of it is not ready that the revision before did not leave unready, the
//! one before is read again and served, and the newer commit is not tried until somebody asks or another
//! commit comes. What cannot be asked is not unhealthy: the gate waits for a runner that does not answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Reconciler;
use crate::desired::{Desired, Location};
use crate::live::{Proven, Trusted, Withdrawn};
use crate::manifest::Snapshot;
use crate::resource::{Digest, Kind, ResourceId, Revision};

/// How long a gate waits for runners that cannot be asked before it looks again.
const AGAIN: Duration = Duration::from_secs(30);

/// The version of something, as far as it has one.
type Version = Option<Digest>;

/// A revision that was not healthy as a whole yet.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    revision: Revision,
    /// When it is taken back; none: never.
    until: Option<Duration>,
    /// How long it had.
    limit: Duration,
    /// What the last healthy revision left unready, in which version: none of this one's faults.
    already: BTreeMap<String, Version>,
}

impl Reconciler {
    /// Another revision was taken, or the same one with more answers. `before`: what was wanted until now.
    pub(super) fn gate_revision(&mut self, before: Option<&Desired>) {
        let Some(desired) = &self.desired else { return };
        let revision = &desired.revision;
        let same = |other: &Revision| other.commit == revision.commit;
        let proven = self.inventory.proven.as_ref();
        if revision.dirty || proven.is_some_and(|proven| same(&proven.trusted.revision)) {
            self.gate = None;
            return;
        }
        if self.gate.as_ref().is_some_and(|gate| same(&gate.revision)) {
            return;
        }
        let limit = desired.sync.health_gate.or(proven.and_then(|proven| proven.gate));
        let limit = limit.filter(|_| proven.is_some()).map(|period| period.0);
        // What a revision that was not healthy itself left is no excuse. Faults that are told by now are of
        // the new one.
        let already = match &self.gate {
            Some(unhealthy) => unhealthy.already.clone(),
            None => before.map(|before| self.not_there(before).collect()).unwrap_or_default(),
        };
        self.gate = Some(Gate {
            revision: revision.clone(),
            until: limit.map(|limit| self.ports.clock.now() + limit),
            limit: limit.unwrap_or_default(),
            already,
        });
    }

    /// When a revision is taken back unless it turns healthy.
    pub(super) fn gate_closes(&self) -> Option<Duration> {
        self.gate.as_ref()?.until.filter(|_| !self.suspended)
    }

    /// Notes that the revision is healthy, when it is.
    pub(super) fn pass_gate(&mut self) {
        let (Some(gate), Some(desired)) = (&self.gate, &self.desired) else { return };
        if gate.revision.commit != desired.revision.commit || !self.unhealthy(gate, desired).is_empty() {
            return;
        }
        let trusted = Trusted { revision: desired.revision.clone(), signers: desired.signers.clone() };
        let gated = gate.until.is_some() || desired.sync.health_gate.is_some();
        self.inventory.proven = Some(Proven { trusted, gate: desired.sync.health_gate });
        self.gate = None;
        // Where nothing is ever taken back, the next write is soon enough.
        if gated {
            self.save_inventory();
        }
    }

    /// Takes the revision back when its time is over.
    pub(super) async fn close_gate(&mut self) {
        let now = self.ports.clock.now();
        if self.gate_closes().is_none_or(|until| until > now) {
            return;
        }
        let (Some(gate), Some(desired)) = (self.gate.clone(), self.desired.clone()) else { return };
        let unhealthy = self.unhealthy(&gate, &desired);
        if unhealthy.is_empty() {
            return self.pass_gate();
        }
        let ids = || unhealthy.iter().filter_map(|what| ResourceId::parse(what));
        if ids().any(|id| self.unknown_runner(&id).is_some()) {
            let later = Gate { until: Some(now + AGAIN.min(gate.limit)), ..gate };
            tracing::warn!(revision = %desired.revision, "not judged while a runner cannot be asked");
            self.gate = Some(later);
            return;
        }
        self.gate = None;
        let Some(proven) = self.inventory.proven.clone() else { return };
        let first = ids()
            .next()
            .map(|id| format!("{id}: {}", self.ready_finding(&id).2.lines().next().unwrap_or_default()));
        let first = first.or_else(|| unhealthy.first().cloned()).unwrap_or_default();
        let more = match unhealthy.len() {
            0 | 1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        let why = format!(
            "`{}` did not turn healthy within {} s (`sync.healthGate`): {first}{more}",
            gate.revision,
            gate.limit.as_secs()
        );
        tracing::error!(served = %proven.trusted.revision, "{why}");
        self.inventory.withdrawn = Some(Withdrawn { revision: gate.revision, why });
        // What is taken back changes nothing: nor who may sign.
        self.inventory.trusted = Some(proven.trusted);
        self.save_inventory();
        self.stale = true;
        self.go_back().await;
        self.look();
    }

    /// Reads the last healthy revision again; whether it is what is wanted now.
    pub(super) async fn go_back(&mut self) -> bool {
        let Some(proven) = self.inventory.proven.clone() else { return false };
        let revision = &proven.trusted.revision;
        let read = match self.ports.source.recall(revision).await {
            Ok(Some(snapshot)) => Box::pin(self.read(snapshot)).await,
            Ok(None) => return false,
            Err(error) => Err(error),
        };
        if let Err(error) = read {
            tracing::error!(%revision, error = %error.chain(), "the last healthy revision cannot be read any more");
            return false;
        }
        self.ask_questions();
        self.publish().await;
        true
    }

    /// After a start with a commit that was taken back: reads the healthy one instead. Whether that is, or
    /// was, what is wanted; if it is not there any more, the commit gets another try.
    pub(super) async fn stays_back(&mut self) -> bool {
        if self.snapshot.is_some() || self.go_back().await {
            return true;
        }
        self.forget_withdrawn();
        false
    }

    /// Whether this is the commit that was taken back.
    pub(super) fn is_withdrawn(&self, snapshot: &Snapshot) -> bool {
        let withdrawn = self.inventory.withdrawn.as_ref();
        withdrawn.is_some_and(|withdrawn| withdrawn.revision.commit == snapshot.revision.commit)
    }

    /// Gives the commit that was taken back another try, or forgets it.
    pub(super) fn forget_withdrawn(&mut self) {
        if self.inventory.withdrawn.take().is_some() {
            self.stale = true;
            self.save_inventory();
        }
    }

    /// What is not ready of the revision, and was not left so by the one before.
    fn unhealthy(&self, gate: &Gate, desired: &Desired) -> Vec<String> {
        let unready = self.unready(desired).into_iter();
        let left = |(what, version): &(String, Version)| gate.already.get(what) == Some(version);
        let person = |what: &str| ResourceId::parse(what).is_some_and(|id| waits_for_a_person(desired, &id));
        unready.filter(|one| !left(one) && !person(&one.0)).map(|(what, _)| what).collect()
    }

    /// What is not ready of what is wanted, and what is declared with a fault, by resource or place.
    pub(super) fn unready(&self, desired: &Desired) -> BTreeMap<String, Version> {
        let errors = self.diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
        let errors = errors.filter_map(|error| match (&error.resource, &error.place) {
            (Some(resource), _) => Some((resource.to_string(), None)),
            (None, place) => Some((place.as_ref()?.to_string(), None)),
        });
        self.not_there(desired).chain(errors).collect()
    }

    /// What is wanted and not offered in that version.
    fn not_there<'a>(&'a self, desired: &'a Desired) -> impl Iterator<Item = (String, Version)> + 'a {
        let servers = desired.servers.iter().filter(|(name, server)| {
            let serving = self.serving.get(*name);
            let rests = serving.is_none() && server.scale.on_demand() && self.is_listed_by_its_lock(server);
            !rests && serving.is_none_or(|it| it.server.digests.workload != server.digests.workload)
        });
        let tools = desired
            .tools
            .iter()
            .filter(|(name, tool)| self.tools.get(*name).is_none_or(|ready| !Arc::ptr_eq(&ready.tool, tool)));
        let servers = servers.map(|(_, server)| (server.id.to_string(), Some(server.digests.workload)));
        let tools = tools.map(|(_, tool)| (tool.id.to_string(), Some(tool.digests.workload)));
        let waiting = desired.pending.iter().chain(&desired.faulty).map(|id| (id.to_string(), None));
        servers.chain(tools).chain(waiting)
    }
}

/// A server at which users authorize for themselves is ready when one has: no commit can do that.
fn waits_for_a_person(desired: &Desired, id: &ResourceId) -> bool {
    let server = desired.servers.get(&id.name).filter(|_| id.kind == Kind::Server);
    server.is_some_and(|server| match &server.location {
        Location::Remote { credentials, .. } => {
            credentials.as_ref().is_some_and(|credentials| credentials.user.is_some())
        }
        Location::Runner(_) => false,
    })
}
