//! From a moved ref to a served catalog: one loop, level-triggered.
//!
//! Input: events, which say when and never what. Output: a catalog and a status, published whenever
//! they change. The loop itself never waits for anything slow: fetching, looking up, observing,
//! building, starting and stopping are jobs ([`job`]), at most one for each thing, and each that ends
//! makes the loop look again. So a newer commit pre-empts at once, a build survives as long as it is
//! wanted, and whatever is ready is served while the rest is still on its way.
//!
//! ```text
//! ref moved -> fetch -> read (parse, resolve, admit) -> publish what is ready
//!                                   |
//!              observe -> plan -> jobs -> settle -> publish -> observe ...
//! ```
//!
//! Invariants: the plan is computed by [`crate::plan::plan`] and nothing else; the inventory is
//! written before an instance is made and after it is seen gone; an observation during which
//! something changed is thrown away; the last good catalog is served whatever fails.

mod ahead;
mod ask;
pub mod backoff;
mod demand;
mod down;
mod gate;
mod health;
pub mod job;
mod lend;
mod launch;
mod look;
mod read;
mod rehearse;
mod report;
mod rest;
mod running;
mod serve;
mod settle;
pub mod survey;
pub mod trigger;
mod trust;
mod verify;
pub mod volume;
mod wake;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::catalog::ReadyTool;
use crate::contract::Report;
use crate::desired::{self, Desired, Floor, Question, Resolutions};
use crate::live::{Fault, InstanceId, Inventory, Live, UpstreamKey};
use crate::manifest::{Diagnostic, Manifest, Snapshot};
use crate::plan::{Plan, PlanView};
use crate::policy::PolicySet;
use crate::policy::admit::Admission;
use crate::ports::{
    Clock, Identities, Lookup, PortError, Prober, Publisher, RunnerPool, Secrets, Source, Store, ToolExecutor,
};
use crate::resource::signers::Signature;
use crate::resource::{Digest, Name, ResourceId, Revision};
use crate::status::Status;
pub use ask::Ask;
use backoff::Backoff;
use job::{Done, Key};
pub use read::rules_of;
use rehearse::Rehearsal;
use running::{Jobs, Running};
use serve::Serving;
pub use trigger::Cause;

/// Everything the loop needs of the world.
#[derive(Clone)]
pub struct Ports {
    pub source: Arc<dyn Source>,
    pub lookup: Arc<dyn Lookup>,
    pub runners: Arc<dyn RunnerPool>,
    pub prober: Arc<dyn Prober>,
    pub secrets: Arc<dyn Secrets>,
    pub identities: Arc<dyn Identities>,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub publisher: Arc<dyn Publisher>,
    pub executor: Arc<dyn ToolExecutor>,
}

/// What wakes the loop.
pub enum Event {
    /// The ref may have moved, or it is time: fetch.
    Fetch(Cause),
    /// Something of ours died or appeared: look.
    Look(Cause),
    /// A server says that its list changed, or its connection closed.
    Upstream(UpstreamKey),
    /// A call found no instance of the version that this key leads to.
    Demand { any: UpstreamKey, answer: demand::Answer },
    /// A client needs an instance of its own.
    Lend { server: Arc<desired::Server>, answer: lend::Answer },
    /// A client needs its instance no more.
    Return(crate::live::Instance),
    /// A person asks.
    Ask(Ask),
}

/// The loop and all it knows.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own: wishes to look again, what was refused, what is held"
)]
pub struct Reconciler {
    ports: Ports,
    floor: Floor,
    status: Status,
    snapshot: Option<Arc<Snapshot>>,
    /// The snapshot that `desired` is of: not the one above when that was refused.
    accepted: Option<Arc<Snapshot>>,
    manifest: Option<Manifest>,
    desired: Option<Arc<Desired>>,
    /// Every runner that is declared, or was and still holds something of ours.
    runners: BTreeMap<Name, Arc<desired::Runner>>,
    diagnostics: Vec<Diagnostic>,
    /// The errors among them that were logged.
    logged: Vec<Diagnostic>,
    source_error: Option<PortError>,
    /// What the signature of the newest revision proves.
    signature: Signature,
    /// Whether the newest revision is not taken for its signature.
    unverified: bool,
    /// Why the newest revision does not keep the rule it brings in itself.
    unvouched: Option<PortError>,
    /// Why the newest revision was refused as a whole.
    refused: bool,
    policies: Arc<PolicySet>,
    admission: Admission,
    questions: BTreeSet<Question>,
    resolutions: Resolutions,
    /// Commits of Git sources that the store knew and nobody asked for yet.
    recalled: BTreeMap<(String, String), String>,
    serving: BTreeMap<Name, Serving>,
    standing: BTreeMap<Name, trust::Standing>,
    /// Instances that answered, with the version that each is of.
    members: BTreeMap<UpstreamKey, Digest>,
    /// Connections to instances that are gone, until they are closed and forgotten.
    left: BTreeSet<UpstreamKey>,
    /// Calls that wait for an instance.
    wakes: Vec<(UpstreamKey, demand::Answer)>,
    /// What the store knows by now that servers list.
    remembered: BTreeMap<Name, Arc<crate::live::Offer>>,
    /// When the next instance may have been idle for long enough.
    idle_until: Option<Duration>,
    /// What workloads listed when they were first seen.
    first_seen: BTreeMap<Name, (Digest, Arc<crate::live::Offer>)>,
    tools: BTreeMap<Name, ReadyTool>,
    published: Option<whole::Published>,
    /// What the changes of the newest revision wait for before they are published together.
    waits_for: BTreeSet<String>,
    /// Why a tool or server is not offered, or not wholly.
    unoffered: BTreeMap<ResourceId, String>,
    /// Contract tests of tools, in the version that was tested last.
    rehearsals: BTreeMap<ResourceId, Rehearsal>,
    /// What contract tests came to, of those that ran.
    reports: BTreeMap<ResourceId, Vec<Report>>,
    /// The servers and tools that are wanted; none: all.
    only: Option<BTreeSet<ResourceId>>,
    live: Live,
    inventory: Inventory,
    built: BTreeSet<(Name, Digest)>,
    broken: BTreeMap<InstanceId, Fault>,
    /// Servers over HTTP that did not list again when they were asked.
    unanswered: down::Unanswered,
    /// Servers of which nothing is listed because they are down.
    hidden: BTreeSet<Name>,
    /// Instances that belong to one client each, by name.
    lent: BTreeSet<String>,
    /// What differs from what was last applied and is left so.
    drift: BTreeMap<ResourceId, String>,
    /// Resources whose drift somebody asked to correct: until they are proven.
    correct: BTreeSet<ResourceId>,
    /// Whether the drift that the next observation finds is to be corrected.
    correct_next: bool,
    rebuild: BTreeSet<ResourceId>,
    approved: Option<Digest>,
    /// Where instances that are commands run, by instance.
    folders: BTreeMap<InstanceId, std::path::PathBuf>,
    backoff: Backoff,
    checks: health::Checks,
    /// Whether the revision was healthy as a whole yet; none: it was.
    gate: Option<gate::Gate>,
    plan: Option<Plan>,
    jobs: Jobs,
    running: BTreeMap<Key, Running>,
    /// Counts what changed live, so that an observation made meanwhile is known to be stale.
    epoch: u64,
    fetch_again: bool,
    observe_again: bool,
    waiting: Vec<oneshot::Sender<Result<(), String>>>,
    pass: trigger::Pass,
    suspended: bool,
    /// What is surveyed, when this is a survey.
    surveys: Option<BTreeSet<ResourceId>>,
    /// Whether any observation was taken yet.
    observed_before: bool,
    /// Whether the published status is behind what is known.
    stale: bool,
    /// Whether containers are started ahead of calls: by whoever stays.
    ahead: bool,
}

impl Reconciler {
    /// # Errors
    /// When the inventory cannot be read.
    pub fn new(ports: Ports, floor: Floor, status: Status) -> Result<Self, PortError> {
        let mut inventory = ports.store.inventory()?;
        inventory.applied.retain(|_, applied| !applied.transient);
        let mut this = Self {
            ports,
            floor,
            status,
            snapshot: None,
            accepted: None,
            manifest: None,
            desired: None,
            runners: BTreeMap::new(),
            diagnostics: Vec::new(),
            logged: Vec::new(),
            source_error: None,
            signature: Signature::Absent,
            unverified: false,
            unvouched: None,
            refused: false,
            policies: Arc::default(),
            admission: Admission::default(),
            questions: BTreeSet::new(),
            resolutions: Resolutions::default(),
            recalled: BTreeMap::new(),
            serving: BTreeMap::new(),
            standing: BTreeMap::new(),
            members: BTreeMap::new(),
            left: BTreeSet::new(),
            wakes: Vec::new(),
            remembered: BTreeMap::new(),
            idle_until: None,
            first_seen: BTreeMap::new(),
            tools: BTreeMap::new(),
            published: None,
            waits_for: BTreeSet::new(),
            unoffered: BTreeMap::new(),
            rehearsals: BTreeMap::new(),
            reports: BTreeMap::new(),
            only: None,
            live: Live::default(),
            inventory,
            built: BTreeSet::new(),
            broken: BTreeMap::new(),
            unanswered: down::Unanswered::default(),
            hidden: BTreeSet::new(),
            lent: BTreeSet::new(),
            drift: BTreeMap::new(),
            correct: BTreeSet::new(),
            correct_next: false,
            rebuild: BTreeSet::new(),
            approved: None,
            folders: BTreeMap::new(),
            backoff: Backoff::default(),
            checks: health::Checks::default(),
            gate: None,
            plan: None,
            jobs: FuturesUnordered::new(),
            running: BTreeMap::new(),
            epoch: 0,
            fetch_again: false,
            observe_again: false,
            waiting: Vec::new(),
            pass: trigger::Pass::default(),
            suspended: false,
            surveys: None,
            observed_before: false,
            stale: true,
            ahead: false,
        };
        this.recall_commits();
        Ok(this)
    }

    /// Runs until `shutdown`; jobs under way are then cancelled and awaited by their owners.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>, shutdown: CancellationToken) {
        self.ahead = true;
        loop {
            self.publish_status();
            let (wake, retry) = self.next_wake();
            tokio::select! {
                // Cancel-safe: a token.
                () = shutdown.cancelled() => break,
                // Cancel-safe: `recv` loses nothing.
                event = events.recv() => match event {
                    None => break,
                    Some(event) => {
                        self.take(event);
                        while let Ok(event) = events.try_recv() {
                            self.take(event);
                        }
                    }
                },
                // Cancel-safe: the jobs stay in their set.
                Some((key, done)) = self.jobs.next() => {
                    self.running.remove(&key);
                    self.settle(done).await;
                }
                () = tokio::time::sleep(wake) => self.woken(retry).await,
            }
            self.show_and_hide().await;
            self.rest();
        }
        for job in self.running.values() {
            job.cancel.cancel();
        }
        self.recall(&mut events).await;
    }

    /// Converges once: fetches, applies, and returns the status when nothing is left to do.
    pub async fn once(mut self) -> Status {
        self.forget_withdrawn();
        self.correct_next = true;
        self.converge().await;
        self.status
    }

    /// Fetches, and settles jobs until nothing is left to do.
    async fn converge(&mut self) {
        self.take(Event::Fetch(Cause::Start));
        while let Some((key, done)) = self.jobs.next().await {
            self.running.remove(&key);
            self.settle(done).await;
        }
        self.publish_status();
        self.rest();
    }

    /// [`Reconciler::once`] for these servers and tools alone, with what their contract tests came to.
    pub async fn test(mut self, only: BTreeSet<ResourceId>) -> (Status, Vec<Report>) {
        self.only = Some(only);
        self.correct_next = true;
        self.converge().await;
        (self.status, self.reports.into_values().flatten().collect())
    }

    /// The plan for the newest revision, computed from what runs now. Nothing is changed; questions
    /// are looked up, since a plan without their answers would not be the one that is applied.
    ///
    /// # Errors
    /// When the source cannot be read.
    pub async fn preview(mut self) -> Result<(PlanView, Option<Revision>), PortError> {
        let snapshot = self.ports.source.fetch().await?;
        self.read(snapshot).await?;
        self.ask_questions();
        while let Some((key, done)) = self.jobs.next().await {
            self.running.remove(&key);
            if let Done::Answered(question, answer) = done {
                self.note_answer(question, answer);
            }
        }
        self.resolve();
        if let Done::Observed { live, built, .. } = job::observe(self.ports.clone(), self.watched()).await {
            self.live = live;
            self.built.extend(built);
        }
        let revision = self.snapshot.as_ref().map(|snapshot| snapshot.revision.clone());
        Ok((self.plan_now().view(), revision))
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Fetch(cause) => {
                if cause == Cause::Timer {
                    self.ask_again();
                    self.note_rotations();
                    self.collect();
                    self.keep_checkouts();
                }
                self.fetch(cause);
            }
            Event::Look(cause) => {
                tracing::debug!(%cause, "looking");
                self.look();
            }
            Event::Upstream(key) => self.upstream_changed(key),
            Event::Demand { any, answer } => self.demanded(any, answer),
            Event::Lend { server, answer } => self.lend(&server, answer),
            Event::Return(instance) => self.take_back(instance),
            Event::Ask(ask) => self.asked(ask),
        }
    }
}
