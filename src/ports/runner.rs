//! Places where things run: what they build, start, run once and tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Ahead, Channel, Material, PortError, PortResult, Prepared, SecretValue};
use crate::build::BuildSpec;
use crate::desired::{self, Limits, Program, Workload};
use crate::live::{Instance, InstanceId};
use crate::resource::workload::{Egress, Mounts, Security};
use crate::resource::{Digest, Name, ResourceId};

/// What an instance is called, and what is written on it, before it exists.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Unique: `<resource>-<digest>-<random>`; the inventory holds it first.
    pub name: String,
    pub resource: ResourceId,
    pub digest: Digest,
    pub revision: String,
}

/// Hears one line a step. A type of its own, because `async_trait` would give the line of an
/// inline `Fn(&str)` one fixed lifetime.
pub type Progress<'a> = &'a (dyn for<'b> Fn(&'b str) + Send + Sync + 'a);

/// The contents a build is made from.
#[derive(Clone, Debug, Default)]
pub struct BuildInput {
    pub files: BuildFiles,
    /// The contents of [`BuildSpec::ca`], exactly when that is given.
    pub ca: Option<Bytes>,
}

/// Contents in the shape the build's [`crate::build::Context`] asks for.
#[derive(Clone, Debug, Default)]
pub enum BuildFiles {
    /// Of `Context::Snapshot`: one each for its `files`, in their order.
    Snapshot(Vec<Bytes>),
    /// Of `Context::Git`: the uncompressed tar of [`super::Lookup::archive`].
    Archive(Bytes),
    /// Of `Context::Empty`.
    #[default]
    Empty,
}

/// One command to run once.
#[derive(Clone)]
pub struct Run {
    /// Unique name, as in [`Identity::name`].
    pub name: String,
    pub resource: ResourceId,
    pub revision: String,
    pub digest: Digest,
    pub program: Program,
    pub stdin: Option<Bytes>,
    pub material: Material,
    pub limits: Limits,
    pub security: Arc<Security>,
    pub volumes: Arc<Mounts>,
    /// As in [`Workload::egress`].
    pub egress: Arc<[Egress]>,
    pub timeout: Duration,
}

/// What a run says while it goes on; ends with `Exit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEvent {
    Stdout(Bytes),
    Stderr(Bytes),
    /// The exit code; negative: the signal that ended it.
    Exit(i64),
}

/// A run in progress. Dropping it ends the run and removes what it left.
pub struct Running {
    pub events: tokio::sync::mpsc::Receiver<PortResult<RunEvent>>,
    /// Cancels on drop.
    pub guard: tokio_util::sync::DropGuard,
}

/// A place where things run.
#[async_trait]
pub trait Runner: Send + Sync {
    /// All instances of ours, by label.
    async fn observe(&self) -> PortResult<Vec<Instance>>;
    /// The id of an image on this engine, pulled when it is not there. Process runners have none.
    async fn image(&self, reference: &str) -> PortResult<String>;
    /// Whether an image of that build digest is here, so that nothing need be read or fetched for
    /// [`Runner::build`]. Process runners build nothing.
    async fn built(&self, _build: &BuildSpec) -> PortResult<bool> {
        Ok(false)
    }
    /// Where a registry has that very image: `name@sha256:…`; none when it was made on the engine.
    async fn registry_digest(&self, _reference: &str) -> PortResult<Option<String>> {
        Ok(None)
    }
    /// Builds unless an image of that digest is there; `progress` hears one line a step.
    async fn build(
        &self,
        build: &BuildSpec,
        input: BuildInput,
        rebuild: bool,
        progress: Progress<'_>,
    ) -> PortResult<()>;
    /// Starts one instance; returns when it runs, not when it is healthy.
    async fn start(
        &self,
        identity: &Identity,
        workload: &Workload,
        material: Material,
    ) -> PortResult<Instance>;
    /// Says which secrets an instance that an earlier daemon started was given, so that its output
    /// can be kept without them. Without this nothing of it is kept.
    async fn reveal(&self, _instance: &InstanceId, _secrets: Vec<SecretValue>) {}
    /// Connects to a running instance.
    async fn connect(&self, instance: &InstanceId) -> PortResult<Channel>;
    /// Stops it (a polite signal, then an end after `grace`) and removes what it left.
    async fn stop(&self, instance: &InstanceId, grace: Duration) -> PortResult<()>;
    /// The last standard error of an instance, at most 64 KiB.
    async fn logs(&self, instance: &InstanceId) -> PortResult<String>;
    /// Runs a command once.
    async fn run(&self, run: Run) -> PortResult<Running>;
    /// Starts a container that waits for a run; returns when it does.
    ///
    /// # Errors
    /// When it did not start, or the runner starts nothing ahead.
    async fn prepare(&self, _ahead: Ahead) -> PortResult<Box<dyn Prepared>> {
        Err(PortError::stalled("this runner starts nothing ahead of calls"))
    }
    /// The digests of what was started ahead and is there, or is being made.
    async fn ahead(&self) -> PortResult<BTreeSet<Digest>> {
        Ok(BTreeSet::new())
    }
    /// Volumes of ours on it, by the names they have in the repository. Process runners have none.
    async fn volumes(&self) -> PortResult<BTreeSet<Name>> {
        Ok(BTreeSet::new())
    }
    /// Removes a volume with all it holds. One that is gone is removed.
    ///
    /// # Errors
    /// When something mounts it.
    async fn remove_volume(&self, _name: &Name) -> PortResult<()> {
        Ok(())
    }
    /// Whether the place can be used.
    async fn healthy(&self) -> PortResult<()>;
    /// Waits until something of ours died or appeared.
    async fn changed(&self);
    /// Removes what earlier runs left; those that go on are left alone.
    async fn sweep(&self) -> PortResult<()> {
        Ok(())
    }
    /// Removes images of ours whose build digest is not in `keep`.
    async fn collect(&self, _keep: &BTreeSet<Digest>) -> PortResult<()> {
        Ok(())
    }
    /// Removes the ways out of containers but those to one of these sets of places, and to what
    /// instances that run may reach.
    async fn keep_egress(&self, _wanted: &BTreeSet<Arc<[Egress]>>) -> PortResult<()> {
        Ok(())
    }
}

/// The runners there are now, by name.
pub trait Runners: Send + Sync {
    fn get(&self, name: &Name) -> Option<Arc<dyn Runner>>;
}

/// Runners as declared, by name.
pub type DeclaredRunners = BTreeMap<Name, Arc<desired::Runner>>;

/// Makes and drops adapters as the repository declares runners.
pub trait RunnerPool: Runners {
    /// From now on these and no others; adapters of unchanged runners stay.
    fn set(&self, runners: &DeclaredRunners);
}
