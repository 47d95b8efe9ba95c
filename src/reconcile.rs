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
pub mod backoff;
mod demand;
mod down;
mod gate;
mod health;
pub mod job;
mod lend;
mod launch;
mod read;
mod rehearse;
mod report;
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
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

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
use crate::status::{PassStatus, Status, Timestamp};
use crate::telemetry::progress;
use backoff::Backoff;
use job::{Done, Key};
pub use read::rules_of;
use rehearse::Rehearsal;
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

/// What a person may ask of the loop, and where the answer goes.
pub enum Ask {
    /// Fetch and converge now; `rebuild` forces one resource's build and restart. Answered at once,
    /// or with `wait` when nothing is left to do.
    Reconcile {
        rebuild: Option<ResourceId>,
        wait: bool,
        answer: oneshot::Sender<Result<(), String>>,
    },
    /// The plan as the next step would apply it.
    Plan(oneshot::Sender<PlanView>),
    /// Lets the plan with this hash prune above the budget.
    Approve(Digest),
    Suspend(bool),
    /// The volumes there are, and what declares them.
    Volumes(oneshot::Sender<Vec<volume::KnownVolume>>),
    /// Removes a volume that nothing declares, with its data.
    DeleteVolume(desired::VolumeId, volume::Answer),
    /// What the locks of everything that is served would hold, without what registries know.
    Survey(oneshot::Sender<Vec<survey::Surveyed>>),
}

type Jobs = FuturesUnordered<Pin<Box<dyn Future<Output = (Key, Done)> + Send>>>;

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

/// A job under way.
struct Running {
    cancel: CancellationToken,
    /// The digest it works for, when it works for one.
    digest: Option<Digest>,
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

    fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Reconcile { rebuild, wait, answer } => {
                if let Some(id) = rebuild {
                    self.backoff.forgive(&id);
                    self.rehearsals.remove(&id);
                    self.rebuild.insert(id);
                }
                self.correct_next = true;
                self.forget_withdrawn();
                self.fetch(Cause::Asked);
                if wait {
                    self.waiting.push(answer);
                } else {
                    drop(answer.send(Ok(())));
                }
            }
            Ask::Plan(answer) => {
                let plan = self.plan.as_ref().map_or_else(|| self.plan_now().view(), Plan::view);
                drop(answer.send(plan));
            }
            Ask::Volumes(answer) => drop(answer.send(self.known_volumes())),
            Ask::DeleteVolume(id, answer) => self.delete_volume(id, answer),
            Ask::Survey(answer) => drop(answer.send(self.surveyed())),
            Ask::Approve(hash) => {
                self.approved = Some(hash);
                self.inventory.rebuilt = false;
                self.look();
            }
            Ask::Suspend(suspended) => {
                self.suspended = suspended;
                if !suspended {
                    self.fetch(Cause::Asked);
                }
                self.stale = true;
            }
        }
    }

    /// When nothing is left to do: the pass ends, and those who wait for that are answered.
    fn rest(&mut self) {
        if !self.jobs.is_empty() {
            return;
        }
        self.pass_gate();
        self.publish_status();
        let failed: Vec<String> = self
            .status
            .resources
            .iter()
            .filter(|(_, status)| status.ready() == Some(false))
            .map(|(id, _)| id.to_string())
            .collect();
        if let Some((took, steps, failures)) = self.pass.end(&*self.ports.clock) {
            let result = match (self.source_error.is_some() || failures > 0, steps) {
                (true, _) => "failed",
                (false, 0) => "unchanged",
                (false, _) => "applied",
            };
            tracing::debug!(result, steps, took_ms = took.as_millis(), "pass ended");
            self.status.last_pass = Some(PassStatus {
                revision: self.status.attempted.clone(),
                finished: Timestamp(self.ports.clock.now().as_secs()),
                milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                result: result.to_owned(),
                steps,
                failed: failures,
            });
            self.stale = true;
            self.ports.publisher.quiet(Some((result, took)));
        }
        for waiting in self.waiting.drain(..) {
            let answer = match (&self.source_error, failed.is_empty()) {
                (Some(error), _) => Err(error.chain()),
                (None, true) => Ok(()),
                (None, false) => Err(format!("not ready: {}", failed.join(", "))),
            };
            drop(waiting.send(answer));
        }
    }

    /// Starts a job unless one with this key is under way.
    fn spawn(
        &mut self,
        key: Key,
        digest: Option<Digest>,
        job: impl FnOnce(CancellationToken) -> Pin<Box<dyn Future<Output = Done> + Send>>,
    ) -> bool {
        if self.running.contains_key(&key) {
            return false;
        }
        let cancel = CancellationToken::new();
        let shown = key.told().map(progress::work);
        let work = job(cancel.clone());
        self.running.insert(key.clone(), Running { cancel, digest });
        self.jobs.push(match shown {
            Some(shown) => Box::pin(async move { (key, work.await) }.instrument(shown)),
            None => Box::pin(async move { (key, work.await) }),
        });
        true
    }

    fn fetch(&mut self, cause: Cause) {
        if self.suspended && cause != Cause::Asked {
            return;
        }
        tracing::debug!(%cause, "fetching");
        self.pass.begin(&*self.ports.clock, cause);
        let ports = self.ports.clone();
        if !self.spawn(Key::Fetch, None, |_| Box::pin(job::fetch(ports))) {
            self.fetch_again = true;
        }
    }

    /// Observes, and then plans and applies.
    fn look(&mut self) {
        if self.desired.is_none() || self.suspended {
            return;
        }
        let (ports, watched) = (self.ports.clone(), self.watched());
        if !self.spawn(Key::Observe, None, |_| Box::pin(job::observe(ports, watched))) {
            self.observe_again = true;
        }
    }

    /// What an observation asks: also runners that are no longer declared, until nothing of ours is
    /// left on them.
    fn watched(&self) -> job::Watched {
        let former = self.inventory.entries.values().map(|entry| &entry.runner);
        let former = former.chain(self.inventory.ahead.iter().map(|ahead| &ahead.runner));
        let runners = self.runners.keys().chain(former).cloned().collect();
        let desired = self.desired.as_deref();
        let servers = desired.into_iter().flat_map(|desired| desired.servers.values());
        let servers = servers.filter_map(|server| match &server.location {
            desired::Location::Runner(workload) => {
                Some((workload.runner.clone(), Arc::clone(server.build.as_ref()?)))
            }
            desired::Location::Remote { .. } => None,
        });
        let tools = desired.into_iter().flat_map(|desired| desired.tools.values());
        let tools = tools.filter_map(|tool| Some((tool.runner.clone(), Arc::clone(tool.build.as_ref()?))));
        let builds = servers
            .chain(tools)
            .filter(|(runner, build)| !self.built.contains(&(runner.clone(), build.digest)))
            .collect();
        let volumes = !self.observed_before || !self.inventory.volumes.is_empty();
        let ahead = !self.inventory.ahead.is_empty();
        job::Watched { runners, builds, volumes, ahead, epoch: self.epoch }
    }

    /// A server said that a list changed, or its connection closed.
    fn upstream_changed(&mut self, key: UpstreamKey) {
        let serving = self.serving.get(&key.server);
        let Some(serving) = serving.filter(|_| self.serves(&key)) else {
            return self.look();
        };
        if !self.ports.prober.connected().contains(&key) {
            // A stream is there once: an instance that closed it is of no more use.
            if serving.over_stdio() && !self.broken.contains_key(&key.instance) {
                self.broken.insert(key.instance.clone(), Fault::Silent);
                let (id, digest) = (serving.server.id.clone(), serving.server.digests.workload);
                let text = "the instance closed its connection".to_owned();
                tracing::warn!(resource = %id, instance = %key.instance, "{text}");
                self.backoff.crashed(&id, digest, text, self.ports.clock.now());
            }
            self.stale = true;
            return self.look();
        }
        self.refresh(key);
    }

    /// Has a server list again.
    fn refresh(&mut self, key: UpstreamKey) {
        let Some(serving) = self.serving.get(&key.server) else { return };
        let (ports, deadline) = (self.ports.clone(), serving.server.startup_timeout);
        self.spawn(Key::Refresh(key.clone()), None, |_| Box::pin(job::refresh(ports, key, deadline)));
    }
}
