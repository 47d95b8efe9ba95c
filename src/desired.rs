//! References, defaults and digests: what the revision asks for.
//!
//! Input: declared resources, the snapshot's listing, [`Resolutions`], the [`Floor`]. Output:
//! [`Desired`] and diagnostics. Invariant: unchanged inputs give pointer-equal parts, so that work
//! is decided by comparing digests. Not here: looking anything up.

pub mod argv;
mod context;
mod egress;
mod files;
mod limits;
mod names;
mod needs;
mod pin;
mod place;
pub mod remote;
mod policy;
mod resolve;
mod scale;
mod schema;
mod server;
mod signers;
mod tool;
mod toolset;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use crate::build::BuildSpec;
use crate::manifest::{BlobId, Declared, Diagnostic, Place, RepoPath};
use crate::resource::contract::ContractTest;
use crate::resource::crib::{Naming, Registration, Sync};
use crate::resource::policy::{Enforcement, OpaSource, Point, RegoVersion};
use crate::resource::runner::{BuildSettings, RunnerKind};
use crate::resource::server::{Instructions, Override, Sessions, Strategy, Transport, Trust, WhenDown};
use crate::resource::signers::Signers;
use crate::resource::tool::Isolation;
use crate::resource::toolset::Access;
use crate::resource::workload::{Egress, Mounts, Security};
use crate::resource::{Cpu, Digest, EnvValue, Labels, Memory, Name, ResourceId, Revision};

pub use files::blobs;
pub use names::Filter;
pub use pin::source_of;
pub use resolve::{questions, resolve};
pub use scale::Scale;
pub use toolset::{OPERATOR, Toolset};
pub use volumes::VolumeId;

/// Everything the revision asks for, resolved.
#[derive(Clone, Debug)]
pub struct Desired {
    pub revision: Revision,
    pub naming: Naming,
    pub sync: Sync,
    /// Whose commits are followed from this revision on; none: everybody's.
    pub signers: Option<Signers>,
    /// Outside registration APIs that are told of what is served.
    pub register: Arc<[Registration]>,
    /// Who may use the endpoint for operators; none: who is local.
    pub operators: Option<Access>,
    pub runners: BTreeMap<Name, Arc<Runner>>,
    pub servers: BTreeMap<Name, Arc<Server>>,
    pub tools: BTreeMap<Name, Arc<Tool>>,
    /// Rules, in the order of their names: what `policy` compiles.
    pub policies: BTreeMap<Name, Arc<PolicySource>>,
    pub toolsets: BTreeMap<Name, Arc<Toolset>>,
    /// Resources shown with an error: their previous version stays and they are never pruned.
    pub faulty: BTreeSet<ResourceId>,
    /// Resources that wait for an answer [`Resolutions`] does not hold yet. Not an error: their
    /// previous version stays meanwhile, and they are never pruned.
    pub pending: BTreeSet<ResourceId>,
    /// What each server and tool was resolved from, so that the next revision can tell that nothing
    /// changed.
    pub origins: Origins,
}

impl Desired {
    /// What is allowed to be reached from one runner, set by set.
    pub fn egress(&self, runner: &Name) -> BTreeSet<Arc<[Egress]>> {
        let tools = self.tools.values().map(|tool| (&tool.runner, &tool.egress));
        let servers = self.servers.values().filter_map(|server| match &server.location {
            Location::Runner(workload) => Some((&workload.runner, &workload.egress)),
            Location::Remote { .. } => None,
        });
        let here = |(on, egress): &(&Name, &Arc<[Egress]>)| *on == runner && !egress.is_empty();
        tools.chain(servers).filter(here).map(|(_, egress)| Arc::clone(egress)).collect()
    }
}

/// What was resolved from what, by resource.
#[derive(Clone, Debug, Default)]
pub struct Origins(BTreeMap<ResourceId, Origin>);

/// What a resource was resolved from. Equal origins give equal results.
#[derive(Clone, Debug)]
struct Origin {
    declared: Arc<Declared>,
    /// Over the Crib, the runners and the floor.
    context: Digest,
    /// Over the answers and the files it uses; none when it uses none.
    inputs: Option<Digest>,
    result: Outcome,
}

/// What became of it.
#[derive(Clone, Debug)]
enum Outcome {
    Policy(Arc<PolicySource>),
    Server(Arc<Server>),
    Tool(Arc<Tool>),
}

/// One `Policy` with the text of its modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySource {
    pub id: ResourceId,
    pub place: Place,
    pub package: String,
    pub version: RegoVersion,
    pub points: Vec<Point>,
    pub enforcement: Enforcement,
    pub modules: Vec<PolicyModule>,
    /// Where the rules are asked instead.
    pub opa: Option<OpaSource>,
    /// Over all of the above but the places.
    pub digest: Digest,
}

/// One module of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyModule {
    /// Where it stands: for rules written in place, the manifest.
    pub file: RepoPath,
    /// The line of the file on which the text begins.
    pub line: u32,
    /// Characters by which its lines are indented there.
    pub indent: u32,
    pub text: Arc<str>,
}

/// The outcome of [`resolve`].
#[derive(Clone, Debug)]
pub struct Resolved {
    pub desired: Desired,
    /// Faults of resolving, in the order of places; those of parsing are the manifest's.
    pub diagnostics: Vec<Diagnostic>,
    /// A fault in a `Crib`, a `Policy` or the access of a `Toolset`: the whole revision is refused and the last good one stays.
    pub refused: bool,
}

/// What the operator fixed and no repository can loosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Floor {
    /// May `process` runners be used at all: a local `--repo` or `--allow-process`.
    pub process: bool,
    /// May containers run as root or add capabilities.
    pub privileges: bool,
    /// May Git sources be local paths (`file:` or absolute).
    pub local_git: bool,
    /// Who has to have signed each commit, whatever the repository says; none: it alone decides.
    pub signers: Option<Signers>,
}

/// What only the network knows, looked up before: inputs to resolving.
///
/// A missing answer makes a resource pending; an `Err` (the message) makes it faulty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolutions {
    /// (url, ref) to the commit in hex.
    pub git: BTreeMap<(String, String), Result<String, String>>,
    /// (runner, image reference as written) to the image's id on that engine.
    pub images: BTreeMap<(Name, String), Result<String, String>>,
    /// Contents of the files that [`blobs`] names.
    pub blobs: BTreeMap<BlobId, Bytes>,
}

/// An image id where nothing is looked up.
const ASSUMED: &str = "0000000000000000000000000000000000000000";

impl Resolutions {
    /// Answers as if everything that is asked for could be had: for checks without a network.
    pub fn assumed(questions: impl IntoIterator<Item = Question>) -> Self {
        let mut resolutions = Self::default();
        for question in questions {
            match question {
                Question::Git { url, reference, .. } => {
                    // Another ref is another commit.
                    let mut commit = Digest::of("assumed", &(&url, &reference)).hex();
                    commit.truncate(40);
                    resolutions.git.insert((url, reference), Ok(commit));
                }
                Question::Image { runner, reference } => {
                    resolutions.images.insert((runner, reference), Ok(ASSUMED.to_owned()));
                }
            }
        }
        resolutions
    }
}

/// A question whose answer [`Resolutions`] holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    Git { url: String, reference: String, credentials: Option<crate::resource::server::GitCredentials> },
    Image { runner: Name, reference: String },
}

/// A place where things run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Runner {
    pub name: Name,
    pub kind: RunnerKind,
    /// Of a Docker runner.
    pub host: Option<String>,
    pub attributes: serde_json::Map<String, serde_json::Value>,
    pub build: BuildSettings,
    /// Graphics processors it says it has.
    pub gpu: Option<u32>,
    /// Calls of tools that run on it at once; none: no limit.
    pub slots: Option<u32>,
}

/// The three digests of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Digests {
    /// What the image is made of; none when nothing is built.
    pub build: Option<Digest>,
    /// What must be restarted if it changes.
    pub workload: Digest,
    /// What clients see.
    pub offer: Digest,
}

/// An MCP server to run, or to reach.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub id: ResourceId,
    pub place: Place,
    pub labels: Labels,
    pub digests: Digests,
    pub build: Option<Arc<BuildSpec>>,
    pub location: Location,
    pub strategy: Strategy,
    /// Whether its tools are in the catalog.
    pub synced: bool,
    /// Before each of its tools' names: prefixes and separators already joined.
    pub prefix: String,
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    pub presented: Presented,
    /// Servers that must be ready before it starts.
    pub depends_on: Box<[Name]>,
    /// Whether clients share one instance.
    pub sessions: Sessions,
    /// Calls an instance works on at once; none: no limit.
    pub concurrency: Option<u32>,
    /// How many instances run, and when.
    pub scale: Scale,
    /// As declared; none: `reviewed` where a lock exists, else `live`.
    pub trust: Option<Trust>,
    /// Over the files of this repository that its command uses.
    pub files: Option<Digest>,
    /// How it is asked whether it is well; none: it is not asked.
    pub health: Option<HealthCheck>,
    pub startup_timeout: Duration,
    pub drain_timeout: Duration,
    pub timeout: Duration,
    /// What its tools have to answer before it is served.
    pub tests: Arc<[ContractTest]>,
}

/// How a server is asked again and again whether it still answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// From one question to the next.
    pub interval: Duration,
    /// For the whole answer.
    pub timeout: Duration,
    /// So many in a row that failed, and it is started anew.
    pub failures: u32,
}

impl Server {
    /// The name under which one of its tools is published.
    pub fn published(&self, own: &str) -> String {
        let renamed = self.presented.overrides.get(own).and_then(|change| change.name.clone());
        renamed.unwrap_or_else(|| format!("{}{own}", self.prefix))
    }
}

/// How a server's tools are shown, beyond their names.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Presented {
    /// By the server's own name of a tool.
    pub overrides: BTreeMap<String, Override>,
    pub instructions: Option<Box<Instructions>>,
    /// For tools without icons.
    pub icon: Option<Box<str>>,
    /// Before the URIs of its resources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources_prefix: Option<Box<str>>,
    #[serde(skip_serializing_if = "WhenDown::is_listed")]
    pub when_down: WhenDown,
}

/// Where a server lives.
#[derive(Clone, Debug, PartialEq)]
pub enum Location {
    Runner(Arc<Workload>),
    /// Something else runs it.
    Remote {
        url: String,
        /// What it is shown; none when that is nothing.
        credentials: Option<Arc<remote::Credentials>>,
    },
}

/// All a runner needs to start one instance of a server.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    pub resource: ResourceId,
    pub runner: Name,
    pub program: Program,
    pub env: BTreeMap<String, EnvValue>,
    pub files: BTreeMap<String, EnvValue>,
    pub transport: Transport,
    pub limits: Limits,
    pub security: Arc<Security>,
    #[serde(skip_serializing_if = "Mounts::is_empty")]
    pub volumes: Mounts,
    /// What a container may reach, integrations included: in order, each once, in lower case.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub egress: Arc<[Egress]>,
}

/// What is executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Program {
    /// A container of an image: named by its tag and known by its id (or, for one of our builds, by
    /// the tag that holds the build digest).
    Image {
        reference: String,
        id: Option<String>,
        entrypoint: Option<Vec<String>>,
        args: Option<Vec<String>>,
    },
    /// A command beside the daemon; `dir` is the repository folder it is declared in.
    Command { argv: Vec<String>, dir: String },
}

/// Limits with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    pub memory: Memory,
    pub cpu: Cpu,
    pub pids: u32,
    /// Of what is written besides volumes; none: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<Memory>,
    /// Graphics processors.
    #[serde(skip_serializing_if = "is_zero")]
    pub gpu: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: Memory(512 << 20), cpu: Cpu(1000), pids: 256, ephemeral_storage: None, gpu: 0 }
    }
}

/// A command run for each call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    pub id: ResourceId,
    pub place: Place,
    pub labels: Labels,
    pub digests: Digests,
    pub build: Option<Arc<BuildSpec>>,
    pub runner: Name,
    /// The published name.
    pub published: String,
    /// The MCP definition under that name: `name`, `title`, `description`, `inputSchema`, …
    pub definition: Arc<str>,
    /// The image's reference and id, as [`Program::Image`] has them; none on a process runner.
    pub image: Option<(String, Option<String>)>,
    pub command: argv::Command,
    pub env: BTreeMap<String, EnvValue>,
    pub files: BTreeMap<String, EnvValue>,
    /// The repository folder it is declared in.
    pub dir: String,
    pub limits: Limits,
    pub security: Arc<Security>,
    pub volumes: Arc<Mounts>,
    /// As in [`Workload::egress`].
    pub egress: Arc<[Egress]>,
    pub timeout: Duration,
    /// Bytes of stdout and stderr each.
    pub max_output: u64,
    pub success_exit_codes: Vec<i64>,
    /// Calls that run at once; none: no limit.
    pub concurrency: Option<u32>,
    /// Containers that are started ahead of calls.
    pub warm: u32,
    /// How far one of these is used again.
    pub isolation: Isolation,
    /// What it has to answer before it is published.
    pub tests: Arc<[ContractTest]>,
}
