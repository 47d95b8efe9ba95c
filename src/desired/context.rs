//! What all resources are resolved against: the Crib, the runners, the floor.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::needs::{Dependencies, Integrations};
use super::place::Findings;
use super::{Desired, Floor, Limits, Resolutions, Runner, files, signers};
use crate::manifest::suggest::nearest;
use crate::manifest::{Declared, Diagnostic, Manifest, RepoPath, Snapshot, TreeEntry};
use crate::resource::crib::CribSpec;
use crate::resource::runner::{Capacity, RunnerKind, RunnerSpec};
use crate::resource::signers::Signers;
use crate::resource::workload::{Resources, Security};
use crate::resource::{Digest, Kind, Memory, Name, Period, ResourceId, Spec};

/// Of one call, where nothing else is said.
const CALL_TIMEOUT: Duration = Duration::from_mins(5);

pub(super) struct Context<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) snapshot: &'a Snapshot,
    pub(super) resolutions: &'a Resolutions,
    pub(super) floor: &'a Floor,
    pub(super) crib: CribSpec,
    /// The confinement of what does not say its own, shared by all of them.
    security: Arc<Security>,
    pub(super) runners: BTreeMap<Name, Arc<Runner>>,
    /// The CA bundles of runners, as files of the snapshot.
    pub(super) bundles: BTreeMap<Name, TreeEntry>,
    pub(super) integrations: Integrations<'a>,
    pub(super) dependencies: Dependencies<'a>,
    /// Runners that are declared with a fault and have no earlier version.
    broken: BTreeSet<Name>,
    pub(super) signers: Option<Signers>,
    pub(super) digest: Digest,
    /// Digests of folders, computed once each.
    pub(super) folders: RefCell<BTreeMap<RepoPath, Digest>>,
}

impl<'a> Context<'a> {
    /// Also tells the faults of the Crib and of runners.
    pub(super) fn new(
        manifest: &'a Manifest,
        snapshot: &'a Snapshot,
        resolutions: &'a Resolutions,
        floor: &'a Floor,
        previous: Option<&Desired>,
    ) -> (Self, Vec<Diagnostic>, BTreeSet<ResourceId>) {
        let mut context = Self {
            manifest,
            snapshot,
            resolutions,
            floor,
            crib: CribSpec::default(),
            security: Arc::default(),
            runners: BTreeMap::new(),
            bundles: BTreeMap::new(),
            integrations: Integrations::of(manifest),
            dependencies: Dependencies::of(manifest),
            broken: BTreeSet::new(),
            signers: None,
            digest: Digest::of_bytes(&[]),
            folders: RefCell::default(),
        };
        let (mut diagnostics, mut faulty) = (Vec::new(), BTreeSet::new());
        for (id, declared) in manifest.resources.iter().filter(|(id, _)| id.kind == Kind::Runner) {
            let mut findings = Findings::new(declared);
            context.add_runner(declared, &mut findings);
            if findings.failed() {
                faulty.insert(id.clone());
                if let Some(runner) = previous.and_then(|previous| previous.runners.get(&id.name)) {
                    context.runners.insert(id.name.clone(), runner.clone());
                }
            }
            diagnostics.append(&mut findings.diagnostics);
        }
        let declared = manifest.faulty.iter().chain(&faulty).filter(|id| id.kind == Kind::Runner);
        context.broken =
            declared.map(|id| id.name.clone()).filter(|name| !context.runners.contains_key(name)).collect();
        for (id, declared) in manifest.resources.iter().take_while(|(id, _)| id.kind == Kind::Crib) {
            let mut findings = Findings::new(declared);
            if let Spec::Crib(spec) = &declared.spec {
                context.crib = (**spec).clone();
                if let Some(name) = &spec.defaults.runner {
                    context.exists(name, &["defaults", "runner"], &mut findings);
                }
                if let Some(verify) = &spec.verify {
                    context.signers = signers::read(&context, declared, verify, &mut findings);
                }
            }
            if findings.failed() {
                faulty.insert(id.clone());
            }
            diagnostics.append(&mut findings.diagnostics);
        }
        context.security = Arc::new(context.crib.defaults.security.clone().unwrap_or_default());
        let runners: Vec<&Runner> = context.runners.values().map(AsRef::as_ref).collect();
        context.digest =
            Digest::of("context", &(&context.crib, runners, &context.bundles, floor, &context.broken));
        (context, diagnostics, faulty)
    }

    fn add_runner(&mut self, declared: &Arc<Declared>, findings: &mut Findings<'_>) {
        let Spec::Runner(spec) = &declared.spec else { return };
        let Some(kind) = spec.kind() else { return };
        let name = declared.metadata.name.clone();
        if let Some(ca) = &spec.build.ca {
            let Some((_, entry)) = files::file(self.snapshot, declared, &["build", "ca"], ca, findings)
            else {
                return;
            };
            self.bundles.insert(name.clone(), entry);
        }
        let runner = Runner {
            name: name.clone(),
            kind,
            host: spec.docker.as_ref().and_then(|docker| docker.host.clone()),
            attributes: attributes(declared, spec),
            build: spec.build.clone(),
            gpu: spec.capacity.as_ref().and_then(|capacity| capacity.gpu),
            slots: spec.capacity.as_ref().and_then(|capacity| capacity.slots),
        };
        self.runners.insert(name, Arc::new(runner));
    }

    /// Whether a runner of that name is there; a fault when not.
    fn exists(&self, name: &Name, path: &[&str], findings: &mut Findings<'_>) -> Option<&Arc<Runner>> {
        let runner = self.runners.get(name);
        if runner.is_none() {
            let (code, message, hint) = if self.broken.contains(name) {
                let message = format!("the runner `{name}` is declared with a fault");
                ("faulty-reference", message, format!("correct `Runner/{name}` first"))
            } else {
                let known = self.runners.keys().map(Name::as_str);
                let hint = match nearest(name.as_str(), known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => self.candidates(),
                };
                ("unknown-runner", format!("there is no runner `{name}`"), hint)
            };
            findings.error(path, code, message, &hint);
        }
        runner
    }

    /// What to say to somebody who needs a runner.
    fn candidates(&self) -> String {
        if self.runners.is_empty() {
            return "declare one: `{apiVersion: toolcrib.dev/v1alpha1, kind: Runner, metadata: {name: local}, \
                    spec: {process: {}}}`, or `docker: {}` for containers"
                .to_owned();
        }
        let names: Vec<String> = self
            .runners
            .values()
            .map(|runner| format!("`{}` ({})", runner.name, runner.kind.as_str()))
            .collect();
        format!("the runners are {}", names.join(", "))
    }

    /// The runner of a resource that needs one of a kind: the one it names, else the Crib's if that
    /// can, else the only one that can.
    pub(super) fn runner(
        &self,
        named: Option<&Name>,
        kind: RunnerKind,
        findings: &mut Findings<'_>,
    ) -> Option<Arc<Runner>> {
        if let Some(name) = named {
            let runner = self.exists(name, &["runner"], findings)?;
            if runner.kind != kind {
                let message = format!(
                    "the runner `{name}` is a {} runner, and this needs a {} runner",
                    runner.kind.as_str(),
                    kind.as_str()
                );
                findings.error(&["runner"], "wrong-runner", message, &self.candidates());
                return None;
            }
            return self.allowed(runner, findings);
        }
        let default = self.crib.defaults.runner.as_ref().and_then(|name| self.runners.get(name));
        if let Some(runner) = default.filter(|runner| runner.kind == kind) {
            return self.allowed(runner, findings);
        }
        let able: Vec<&Arc<Runner>> = self.runners.values().filter(|runner| runner.kind == kind).collect();
        match able.as_slice() {
            [only] => self.allowed(only, findings),
            [] => {
                let message = format!("no {} runner is declared, and this needs one", kind.as_str());
                let hint = if self.broken.is_empty() {
                    let form = kind.as_str();
                    format!(
                        "declare one: `{{apiVersion: toolcrib.dev/v1alpha1, kind: Runner, metadata: {{name: local}}, \
                         spec: {{{form}: {{}}}}}}`"
                    )
                } else {
                    let faulty: Vec<String> =
                        self.broken.iter().map(|name| format!("`Runner/{name}`")).collect();
                    format!("correct {} first", faulty.join(" and "))
                };
                findings.error(&[], "no-runner", message, &hint);
                None
            }
            several => {
                let able: Vec<String> = several.iter().map(|runner| format!("`{}`", runner.name)).collect();
                let message = format!("more than one runner could run this: {}", able.join(", "));
                let hint = "name one in `spec.runner`, or in `defaults.runner` of the `Crib`";
                findings.error(&[], "which-runner", message, hint);
                None
            }
        }
    }

    fn allowed(&self, runner: &Arc<Runner>, findings: &mut Findings<'_>) -> Option<Arc<Runner>> {
        if runner.kind == RunnerKind::Process && !self.floor.process {
            let message = format!(
                "`{}` runs processes beside the daemon, which its operator does not allow",
                runner.name
            );
            let hint = "use a container runner, follow a local repository, or start the daemon with `--allow-process`";
            findings.error(&[], "floor-process", message, hint);
            return None;
        }
        Some(runner.clone())
    }

    pub(super) fn limits(&self, own: &Resources) -> Limits {
        let (crib, otherwise) = (&self.crib.defaults.resources, Limits::default());
        Limits {
            memory: own.memory.or(crib.memory).unwrap_or(otherwise.memory),
            cpu: own.cpu.or(crib.cpu).unwrap_or(otherwise.cpu),
            pids: own.pids.or(crib.pids).unwrap_or(otherwise.pids),
            ephemeral_storage: own.ephemeral_storage.or(crib.ephemeral_storage),
            gpu: own.gpu.or(crib.gpu).unwrap_or(otherwise.gpu),
        }
    }

    pub(super) fn timeout(&self, own: Option<Period>) -> Duration {
        own.or(self.crib.defaults.timeout).map_or(CALL_TIMEOUT, |period| period.0)
    }

    /// The confinement of a container, within the floor.
    pub(super) fn security(&self, own: Option<&Security>, findings: &mut Findings<'_>) -> Arc<Security> {
        let security = match own {
            Some(own) => Arc::new(own.clone()),
            None => Arc::clone(&self.security),
        };
        if self.floor.privileges {
            return security;
        }
        let hint = "remove it, or ask the operator to start the daemon with `--allow-privileges`";
        let user = security.user.split(':').next().unwrap_or_default();
        if user == "root" || user.parse() == Ok(0_u64) {
            let message = "the container would run as root, which the operator does not allow";
            findings.error(&["security", "user"], "floor-privileges", message, hint);
        }
        if let Some(first) = security.capabilities.first() {
            let message = format!("the capability `{first}` is asked for, which the operator does not allow");
            findings.error(&["security", "capabilities"], "floor-privileges", message, hint);
        }
        security
    }

    /// The id of an image on a runner.
    pub(super) fn image(
        &self,
        path: &[&str],
        runner: &Name,
        reference: &str,
        findings: &mut Findings<'_>,
    ) -> Option<String> {
        match self.resolutions.images.get(&(runner.clone(), reference.to_owned())) {
            None => {
                findings.pending = true;
                None
            }
            Some(Ok(id)) => Some(id.clone()),
            Some(Err(why)) => {
                let message = format!("the image `{reference}` cannot be had on runner `{runner}`: {why}");
                findings.error(
                    path,
                    "image-unavailable",
                    message,
                    "check the name and the tag, and that the registry can be reached",
                );
                None
            }
        }
    }
}

/// What policies may ask about a runner: its attributes, and beside them what has a field of its own.
fn attributes(declared: &Declared, spec: &RunnerSpec) -> Map<String, Value> {
    let mut all = spec.attributes.clone();
    if !declared.metadata.labels.is_empty() {
        all.insert("labels".to_owned(), json!(*declared.metadata.labels));
    }
    all.extend(spec.region.as_ref().map(|region| ("region".to_owned(), json!(region))));
    all.extend(spec.cost.map(|cost| ("cost".to_owned(), json!(cost))));
    if let Some(Capacity { memory, cpu, gpu, slots }) = &spec.capacity {
        let mut capacity = Map::new();
        capacity.extend(memory.map(|memory| ("memory".to_owned(), json!(memory.0))));
        capacity.extend(cpu.map(|cpu| ("cpu".to_owned(), json!(cpu.0))));
        capacity.extend(gpu.map(|gpu| ("gpu".to_owned(), json!(gpu))));
        capacity.extend(slots.map(|slots| ("slots".to_owned(), json!(slots))));
        all.insert("capacity".to_owned(), Value::Object(capacity));
    }
    all
}

/// The least memory a container can be given: less, and no engine starts it.
pub(super) const LEAST_MEMORY: Memory = Memory(6 << 20);
