//! From a snapshot to what is desired: read, parse, look up, resolve, compile the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::job::{self, Key};
use super::{Event, Reconciler, rehearse};
use crate::contract;
use crate::desired::{self, Desired, PolicyModule, PolicySource, Question};
use crate::manifest::{self, Manifest, Snapshot};
use crate::policy::{self, PolicySet};
use crate::ports::{PortError, PortResult};
use crate::reconcile::Cause;
use crate::resource::{Kind, Name, ResourceId};

/// Reads of one snapshot: each finds at least one more file, and ignore files nest no deeper.
const MAX_ROUNDS: usize = 32;
/// Where the store keeps the commits that refs of Git sources named.
const COMMITS: &str = "resolutions/git";

impl Reconciler {
    /// A fetch ended.
    pub(super) async fn fetched(&mut self, result: PortResult<Snapshot>) {
        let again = std::mem::take(&mut self.fetch_again);
        if let Ok(snapshot) = &result
            && !self.is_withdrawn(snapshot)
        {
            self.forget_withdrawn();
        }
        let read = match result {
            Ok(snapshot) if self.is_withdrawn(&snapshot) && self.stays_back().await => Ok(()),
            Ok(snapshot) if self.has_read(&snapshot) => Ok(()),
            Ok(snapshot) => match Box::pin(self.read(snapshot.clone())).await {
                Ok(()) => {
                    self.ask_questions();
                    self.publish().await;
                    Ok(())
                }
                Err(error) => {
                    Box::pin(self.fall_back(&snapshot)).await;
                    Err(error)
                }
            },
            Err(error) => {
                self.unverified = false;
                Err(error)
            }
        };
        match read {
            Ok(()) => self.source_error = None,
            Err(error) => {
                tracing::warn!(error = %error.chain(), hint = error.hint, "the source cannot be read; what is served stays");
                self.source_error = Some(error);
            }
        }
        self.look();
        self.stale = true;
        if again {
            self.take(Event::Fetch(Cause::Commit));
        }
    }

    /// Whether this very tree was read and taken before: then there is nothing to compare.
    fn has_read(&self, snapshot: &Snapshot) -> bool {
        self.source_error.is_none()
            && self.snapshot.as_ref().is_some_and(|old| {
                old.revision == snapshot.revision && Arc::ptr_eq(&old.files, &snapshot.files)
            })
    }

    pub(super) async fn read(&mut self, snapshot: Snapshot) -> PortResult<()> {
        let signature = self.verify(&snapshot).await?;
        is_there(&snapshot)?;
        let snapshot = Arc::new(snapshot);
        let mut manifest = self.manifest(&snapshot).await?;
        if let Some(only) = &self.only {
            let needed = rehearse::with_dependencies(only, &manifest);
            let runs = |id: &ResourceId| matches!(id.kind, Kind::Server | Kind::Tool);
            manifest.resources.retain(|id, _| !runs(id) || needed.contains(id));
        }
        let files: Vec<_> = desired::blobs(&manifest, &snapshot)
            .into_iter()
            .filter(|id| !self.resolutions.blobs.contains_key(id))
            .collect();
        self.resolutions.blobs.extend(job::read(&self.ports, &files).await?);
        self.questions = desired::questions(&manifest, &snapshot, &self.floor);
        self.manifest = Some(manifest);
        self.snapshot = Some(snapshot);
        self.signature = signature;
        self.resolve();
        self.unvouched.take().map_or(Ok(()), Err)
    }

    async fn manifest(&mut self, snapshot: &Snapshot) -> PortResult<Manifest> {
        let mut contents = BTreeMap::new();
        for _ in 0..MAX_ROUNDS {
            let wanted = manifest::wanted(snapshot, self.manifest.as_ref(), &contents);
            let missing: Vec<_> = wanted.into_iter().filter(|id| !contents.contains_key(id)).collect();
            if missing.is_empty() {
                break;
            }
            let read = job::read(&self.ports, &missing).await?;
            if read.is_empty() {
                break;
            }
            contents.extend(read);
        }
        let mut manifest = manifest::load(snapshot, self.manifest.as_ref(), &contents);
        self.narrow(&mut manifest);
        Ok(manifest)
    }

    /// Resolves what was read with the answers there are, and takes it unless it is refused.
    pub(super) fn resolve(&mut self) {
        let (Some(snapshot), Some(manifest)) = (&self.snapshot, &self.manifest) else { return };
        let previous = self.desired.as_deref();
        let resolved = desired::resolve(manifest, snapshot, &self.resolutions, &self.floor, previous);
        self.diagnostics = manifest.diagnostics.clone();
        self.diagnostics.extend(resolved.diagnostics);
        let vouched = if resolved.refused { Ok(()) } else { self.vouched(&resolved.desired) };
        if let Err(error) = vouched {
            (self.refused, self.unverified, self.unvouched) = (true, true, Some(error));
            return;
        }
        let compiled = if resolved.refused { Err(Vec::new()) } else { self.rules(&resolved.desired) };
        match compiled {
            Ok(policies) => {
                let mut desired = resolved.desired;
                let found = self.admission.admit(&policies, manifest, &mut desired);
                self.diagnostics.extend(found);
                self.refused = false;
                self.policies = policies;
                self.accept(desired);
            }
            Err(diagnostics) => {
                self.refused = true;
                self.diagnostics.extend(diagnostics);
                tracing::error!(
                    revision = %snapshot.revision,
                    "refused: a fault in the Crib, a Policy or the access of a Toolset; what is served stays"
                );
            }
        }
        self.diagnostics.sort();
        self.diagnostics.dedup();
        for diagnostic in &self.diagnostics {
            tracing::debug!("{diagnostic}");
        }
    }

    fn accept(&mut self, desired: Desired) {
        let mut used: BTreeSet<&Name> = self.inventory.entries.values().map(|entry| &entry.runner).collect();
        used.extend(self.inventory.ahead.iter().map(|ahead| &ahead.runner));
        // Their tools may be called on until another catalog is served.
        used.extend(
            self.published.iter().flat_map(|published| &published.tools).map(|ready| &ready.tool.runner),
        );
        self.runners.retain(|name, _| used.contains(name));
        self.runners.extend(desired.runners.iter().map(|(name, runner)| (name.clone(), Arc::clone(runner))));
        self.ports.runners.set(&self.runners);
        let digests = |id: &ResourceId| match id.kind {
            Kind::Server => desired.servers.get(&id.name).map(|server| (server.digests, &server.tests)),
            _ => desired.tools.get(&id.name).map(|tool| (tool.digests, &tool.tests)),
        };
        self.backoff.keep(|id, failed| {
            digests(id).is_some_and(|(digests, tests)| {
                let built = digests.workload == failed || digests.build == Some(failed);
                built || contract::digest(&digests, tests) == failed
            })
        });
        let known = |name: &Name| {
            desired.servers.contains_key(name)
                || super::whole::waits(&desired, &ResourceId::new(Kind::Server, name.clone()))
        };
        let before = self.inventory.applied.len();
        self.inventory.applied.retain(|name, _| known(name));
        if self.trust(&desired) || self.inventory.applied.len() != before {
            self.save_inventory();
        }
        let before = self.desired.replace(Arc::new(desired));
        self.gate_revision(before.as_deref());
        self.accepted.clone_from(&self.snapshot);
        self.plan = None;
    }

    /// The rules of the revision; those of the one before when they are the same.
    fn rules(&self, desired: &Desired) -> Result<Arc<PolicySet>, Vec<crate::manifest::Diagnostic>> {
        let same = self.desired.as_ref().is_some_and(|old| {
            old.policies.len() == desired.policies.len()
                && old
                    .policies
                    .iter()
                    .zip(&desired.policies)
                    .all(|((a, old), (b, new))| a == b && old.digest == new.digest)
        });
        if same {
            return Ok(Arc::clone(&self.policies));
        }
        let sources = desired.policies.values().map(|source| rules_of(source)).collect();
        PolicySet::compile(sources).map(Arc::new)
    }

    /// Starts looking up what is not known yet.
    pub(super) fn ask_questions(&mut self) {
        let open: Vec<Question> =
            self.questions.iter().filter(|question| !self.answered(question)).cloned().collect();
        for question in open {
            if let Question::Git { url, reference, .. } = &question {
                self.recalled.remove(&(url.clone(), reference.clone()));
            }
            let ports = self.ports.clone();
            let asked = question.clone();
            self.spawn(Key::Lookup(question), None, |_| Box::pin(job::look_up(ports, asked)));
        }
    }

    /// Asks everything again: refs and tags move, engines and registries come back.
    pub(super) fn ask_again(&mut self) {
        for question in self.questions.clone() {
            let ports = self.ports.clone();
            let asked = question.clone();
            self.spawn(Key::Lookup(question), None, |_| Box::pin(job::look_up(ports, asked)));
        }
    }

    fn answered(&self, question: &Question) -> bool {
        match question {
            Question::Git { url, reference, .. } => {
                let key = (url.clone(), reference.clone());
                self.resolutions.git.contains_key(&key) && !self.recalled.contains_key(&key)
            }
            Question::Image { runner, reference } => {
                self.resolutions.images.contains_key(&(runner.clone(), reference.clone()))
            }
        }
    }

    /// An answer came. A failed lookup never takes a good answer away.
    pub(super) async fn answer(&mut self, question: Question, answer: Result<String, String>) {
        if self.note_answer(question, answer) {
            self.resolve();
            self.publish().await;
            self.look();
            self.stale = true;
        }
    }

    /// Puts an answer in its place; whether that changed anything.
    pub(super) fn note_answer(&mut self, question: Question, answer: Result<String, String>) -> bool {
        match question {
            Question::Git { url, reference, .. } => {
                let changed = settle(&mut self.resolutions.git, (url, reference), answer);
                if changed {
                    self.remember_commits();
                }
                changed
            }
            Question::Image { runner, reference } => {
                settle(&mut self.resolutions.images, (runner, reference), answer)
            }
        }
    }

    /// Writes down which commits refs named, for a start when the network is away.
    fn remember_commits(&self) {
        let known =
            self.resolutions.git.iter().filter_map(|(key, answer)| Some((key, answer.as_ref().ok()?)));
        let written = serde_json::to_vec(&known.collect::<Vec<_>>());
        if let Some(Err(error)) = written.ok().map(|bytes| self.ports.store.put(COMMITS, &bytes)) {
            tracing::warn!(error = %error.chain(), "the commits of Git sources are not remembered");
        }
    }

    /// What refs named when somebody last asked. Each is asked again at once; until then, and while
    /// nobody answers, this holds.
    pub(super) fn recall_commits(&mut self) {
        let stored = self.ports.store.get(COMMITS).ok().flatten();
        let known: Option<Vec<((String, String), String)>> =
            stored.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        self.recalled = known.into_iter().flatten().collect();
        let answers = self.recalled.iter().map(|(key, commit)| (key.clone(), Ok(commit.clone())));
        self.resolutions.git.extend(answers);
    }

    pub(super) fn first_error(&self) -> Option<&PortError> {
        self.source_error.as_ref()
    }
}

/// A folder that is not there declares nothing, and is still not the wish to remove everything: it was
/// moved, or its name was mistyped.
fn is_there(snapshot: &Snapshot) -> PortResult<()> {
    let Snapshot { revision, path, .. } = snapshot;
    if path.as_str().is_empty() || snapshot.under(path).next().is_some() {
        return Ok(());
    }
    let hint = "`--path` names the folder that holds the manifests, as seen from the root of the repository";
    Err(PortError::stalled(format!("there is no folder `{path}` in {revision}")).hint(hint))
}

/// Puts an answer in its place; whether that changed anything.
fn settle<K: Ord>(
    answers: &mut BTreeMap<K, Result<String, String>>,
    key: K,
    answer: Result<String, String>,
) -> bool {
    let old = answers.get(&key);
    if old == Some(&answer) || (answer.is_err() && matches!(old, Some(Ok(_)))) {
        return false;
    }
    answers.insert(key, answer);
    true
}

/// The rules of one policy, as they are compiled.
pub fn rules_of(source: &PolicySource) -> policy::Source {
    let module = |module: &PolicyModule| policy::Module {
        file: module.file.clone(),
        line: module.line,
        indent: module.indent,
        text: Arc::clone(&module.text),
    };
    policy::Source {
        id: source.id.clone(),
        place: source.place.clone(),
        package: source.package.clone(),
        version: source.version,
        modules: source.modules.iter().map(module).collect(),
        opa: source.opa.clone(),
        points: source.points.clone(),
        enforcement: source.enforcement,
    }
}
