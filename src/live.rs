//! What runs, as runners report it, and what we know we made.
//!
//! Invariant: unknown is never absent. A runner that cannot be reached gives
//! [`Observation::Unknown`] for everything on it, and nothing is created or pruned from that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::desired::{Server, VolumeId};
use crate::lock::{Definition, Definitions, Section};
use crate::resource::crib::Sync;
use crate::resource::signers::Signers;
use crate::resource::{Digest, Kind, Name, Period, ResourceId, Revision};

/// What a runner calls one running thing: a container id, or a process group's own id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(pub String);

impl InstanceId {
    /// The one "instance" of a server that runs elsewhere, by what it is shown.
    pub fn remote(url: &str, server: &Digest) -> Self {
        Self(format!("remote {url} {}", server.short()))
    }
}

impl std::fmt::Display for InstanceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One instance of a server, read back from its labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    pub id: InstanceId,
    /// The name it was given before it existed: the inventory's key.
    pub name: String,
    pub runner: Name,
    pub resource: ResourceId,
    /// The workload digest it was started for.
    pub digest: Digest,
    /// The revision that created it; shown, never compared.
    pub revision: String,
    pub state: InstanceState,
    /// Whether this daemon may go on using it: an HTTP server, a stdio server after a clean stop,
    /// or one this process started itself.
    pub adoptable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum InstanceState {
    Starting,
    Running,
    /// Somebody holds it: it answers nothing until it is let go on.
    Paused,
    Exited {
        code: Option<i64>,
    },
}

/// What one runner reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Observation {
    /// It could not be asked; the message says why.
    Unknown(String),
    /// All instances of ours on it; empty: certainly none.
    Present(Vec<Instance>),
}

/// What all runners report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Live {
    pub runners: BTreeMap<Name, Observation>,
    /// Volumes of ours, by the runners that were asked for them and answered.
    pub volumes: BTreeMap<Name, BTreeSet<Name>>,
    /// Workloads of what was started ahead of calls, by the runners that were asked for them and answered.
    pub ahead: BTreeMap<Name, BTreeSet<Digest>>,
}

/// What Toolcrib made: written before it is made, dropped after it is seen gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// By instance name, which is decided before the instance exists.
    pub entries: BTreeMap<String, Entry>,
    /// What each server was last brought to: what differs from that now, though the same is wanted,
    /// is drift.
    pub applied: BTreeMap<Name, Applied>,
    /// Volumes: kept until somebody deletes them, whatever is declared.
    pub volumes: BTreeSet<VolumeId>,
    /// What containers are started ahead of calls for: of each, any number.
    pub ahead: BTreeSet<AheadId>,
    /// What guarded prunes in the revision applied last; none before there was one.
    pub guard: Option<Guard>,
    /// The revision that was taken last, and who has to sign the next one.
    pub trusted: Option<Trusted>,
    /// The revision that was healthy as a whole last.
    pub proven: Option<Proven>,
    /// The newer one that was not in time, and is not tried again by itself.
    pub withdrawn: Option<Withdrawn>,
    /// Rebuilt from labels after a loss: prunes ask for approval.
    pub rebuilt: bool,
}

/// What containers are started ahead of calls for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AheadId {
    pub runner: Name,
    pub resource: ResourceId,
    /// Of its workload.
    pub digest: Digest,
}

/// What a repository says against its own prunes. A revision that lifts it is held to it until it
/// is applied, so that no commit removes a guard and what it guarded at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Guard {
    pub protect: Vec<Kind>,
    /// In percent of what runs.
    pub budget: u8,
}

impl Guard {
    pub fn of(sync: &Sync) -> Self {
        Self { protect: sync.protect.clone(), budget: sync.prune_budget }
    }
}

/// A revision that was taken, with whose signatures count from it on. A revision that changes them is held
/// to those of the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trusted {
    pub revision: Revision,
    /// None: everybody's commits are followed.
    pub signers: Option<Signers>,
}

/// A revision that was healthy as a whole: what is served again when a later one does not turn healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    pub trusted: Trusted,
    /// Its `sync.healthGate`, which holds for the next revision where that declares none.
    pub gate: Option<Period>,
}

/// A revision that was taken back for not turning healthy in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawn {
    pub revision: Revision,
    /// A sentence.
    pub why: String,
}

/// The state a server was last proven in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Of its workload.
    pub digest: Digest,
    /// Whether its instances end with the daemon: that none is there at the next start is no drift.
    pub transient: bool,
    /// How many of it were there at least.
    #[serde(default = "one")]
    pub instances: u32,
}

fn one() -> u32 {
    1
}

/// Why an instance is of no more use, whatever its runner says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It ended by itself. Somebody may start it again.
    Ended,
    /// It was tried, or its stream closed, and it does not answer.
    Silent,
    /// It was started with other secrets than there are now.
    Rotated,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub runner: Name,
    pub resource: ResourceId,
    pub digest: Digest,
    /// HMAC over the secrets it was started with, under the installation's random key.
    pub secrets: Option<String>,
}

/// What a connection to a server is known by: its resource and its instance (or `remote`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamKey {
    pub server: Name,
    pub instance: InstanceId,
}

/// How much the instances of one version of a server are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Calls that wait for one of them.
    pub waiting: u32,
    /// Calls under way.
    pub calls: u32,
    /// Whether some client wants to hear of changes of the server's resources.
    pub watched: bool,
    /// Of those that take calls, how long nobody has used each; next to nothing while somebody does.
    pub idle: BTreeMap<InstanceId, Duration>,
}

/// How keys of this kind begin: an instance is called by its runner, and no runner says this.
const ANY: &str = "any of ";

impl UpstreamKey {
    /// Whatever instance of this version of a server takes the next call: what a catalog leads to where their
    /// number changes. Nothing is connected under this key.
    pub fn any_of(server: &Server) -> Self {
        let instance = InstanceId(format!("{ANY}{}", server.digests.workload.hex()));
        Self { server: server.id.name.clone(), instance }
    }

    pub fn is_any(&self) -> bool {
        self.instance.0.starts_with(ANY)
    }
}

/// What a server offers, as it said it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offer {
    /// `modern` or `legacy`, and the protocol version that was agreed: `modern 2026-07-28`.
    pub protocol: String,
    pub server_info: Option<Arc<str>>,
    pub capabilities: Option<Arc<str>>,
    pub instructions: Option<String>,
    /// Raw JSON of each definition, in the server's order.
    pub tools: Vec<Arc<str>>,
    pub prompts: Vec<Arc<str>>,
    pub resources: Vec<Arc<str>>,
    pub templates: Vec<Arc<str>>,
}

impl Offer {
    /// What of it a lock holds, in the server's order.
    pub fn definitions(&self) -> Definitions {
        let named =
            |section, list: &[Arc<str>]| list.iter().map(|text| Definition::new(section, text)).collect();
        Definitions {
            instructions: self.instructions.clone(),
            tools: named(Section::Tools, &self.tools),
            prompts: named(Section::Prompts, &self.prompts),
            resources: named(Section::Resources, &self.resources),
            templates: named(Section::Templates, &self.templates),
        }
    }
}
