//! `Crib`: defaults for the repository. There is at most one.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::toolset::Access;
use super::value::Reference;
use super::workload::{Resources, Security};
use super::{Kind, Name, Period};

/// Defaults for the repository: names, runners, limits, and how what runs follows. There is at most one.
///
/// ```yaml
/// apiVersion: toolcrib.dev/v1alpha1
/// kind: Crib
/// metadata: {name: crib}
/// spec:
///   defaults: {runner: docker, images: {python: "python:3.12-slim"}}
///   sync: {pruneBudget: 10}
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct CribSpec {
    /// How published names are made.
    ///
    /// Default: the server's name, `_`, and the tool's own. Example: `{prefix: acme_}`.
    pub naming: Naming,
    /// What servers and tools have that say nothing else.
    ///
    /// Example: `{runner: docker, timeout: 60s}`.
    pub defaults: Defaults,
    /// Folders whose documents this one builds on, relative to this file and inside the repository.
    ///
    /// Their documents are read as if they stood here. Default: none. Example: `[../../base]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bases: Vec<String>,
    /// Changes of documents that the bases declare, in their order.
    ///
    /// Default: none. Example: `[{kind: Server, name: weather, patch: {spec: {env: {STAGE: prod}}}}]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<Patch>,
    /// Groups of people by the name of their role, for whom `diff` and `policy eval` tell what they may.
    ///
    /// They grant nothing. Default: none. Example: `{developer: {groups: [dev]}}`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<String, Role>,
    /// Who may use the endpoint for operators, `/mcp/operator`, which reads and changes nothing.
    ///
    /// Default: the group `local`, everybody on the daemon's machine. Example: `{groups: [oncall]}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operators: Option<Access>,
    /// Outside registration APIs that are told of every published tool.
    ///
    /// Default: none.
    /// Example: `[{url: https://api.example.com/tools, key: {secret: {env: API_KEY}}}]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub register: Vec<Registration>,
    /// Which commits are followed: those signed with one of these SSH keys.
    ///
    /// A commit that changes or removes this has to be signed by those that the revision before names; the
    /// commit that brings it in, by those that it names itself. What is not, is not served: the last revision
    /// that was stays. Default: every commit. Example: `{allowedSigners: allowed-signers}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// How what runs follows what is declared.
    pub sync: Sync,
}

/// A change of one document of a base: a JSON merge patch (RFC 7386).
///
/// Fields are set, mappings are merged, lists are replaced, and `null` removes a field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Patch {
    /// The kind of the document. Example: `Server`.
    pub kind: Kind,
    /// Its `metadata.name`. Example: `weather`.
    pub name: Name,
    /// What changes, from the top of the document on: `spec`, or `metadata` with labels.
    ///
    /// Example: `{spec: {resources: {memory: 1Gi}}}`.
    pub patch: Map<String, Value>,
}

/// A role, for telling who may do what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Role {
    /// The groups somebody in this role is in: `input.user.groups` of policies.
    ///
    /// Default: none. Example: `[dev, oncall]`.
    pub groups: Vec<String>,
}

/// An outside HTTP API that keeps a list of tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Registration {
    /// The address of its collection of tools, https, or http on this machine.
    ///
    /// Example: `https://api.example.com/v1/tools`.
    pub url: String,
    /// Sent as `Authorization: Bearer …`.
    ///
    /// Default: none. Example: `{secret: {env: API_KEY}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Reference>,
    /// How long one request may take. Default: 30 s. Example: `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
}

/// Which commits are followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Verify {
    /// A file of allowed signers, as Git and OpenSSH have them, relative to this file.
    ///
    /// One line for each key: `ada@example.com ssh-ed25519 AAAA…`. Of options `namespaces`, `valid-after` and
    /// `valid-before` are known, times in UTC (`20271231Z`) and compared with that of the commit.
    ///
    /// Example: `allowed-signers`.
    pub allowed_signers: String,
}

/// How published names are made: `prefix + server + separator + tool`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Naming {
    /// Before every published name. Default: none. Example: `acme_`.
    pub prefix: String,
    /// Between a server's name and its tool's. Default: `_`. Example: `-`.
    pub separator: String,
}

impl Default for Naming {
    fn default() -> Self {
        Self { prefix: String::new(), separator: "_".to_owned() }
    }
}

/// What servers and tools have that say nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Defaults {
    /// The runner of what names none, if it is of the kind that is needed.
    ///
    /// Default: the only runner of that kind. Example: `docker`.
    pub runner: Option<Name>,
    /// Limits of one instance, field by field. Example: `{memory: 256Mi}`.
    pub resources: Resources,
    /// How long one call may take. Default: 300 s. Example: `60s`.
    pub timeout: Option<Period>,
    /// The confinement of what declares none. Default: everything hardened.
    pub security: Option<Security>,
    /// Images that generated Dockerfiles build on. Example: `{python: "python:3.12-slim"}`.
    pub images: BaseImages,
}

/// Images that generated Dockerfiles build on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct BaseImages {
    /// For `git` sources and Python packages. Example: `python:3.12-slim`.
    pub python: Option<String>,
    /// For packages of npm. Example: `node:22-slim`.
    pub node: Option<String>,
}

/// How the live side follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Sync {
    /// How much of what runs one pass may prune without approval, in percent; five things always.
    ///
    /// The smaller of this and that of the revision applied before.
    ///
    /// Default: 30. Example: `10`.
    pub prune_budget: u8,
    /// What is done about a workload that differs from what was applied. Default: correct. Example: `report`.
    pub drift: Drift,
    /// When what is ready is shown to clients. Default: asReady. Example: `whole`.
    pub publish: Publish,
    /// Kinds whose instances are never pruned without approval.
    ///
    /// What the revision applied before protected is still protected while this one is applied: a commit
    /// cannot lift the protection and remove what it protected.
    ///
    /// Default: none. Example: `[Server]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protect: Vec<Kind>,
    /// How long a new revision may take to turn healthy before it is taken back as a whole.
    ///
    /// Healthy is a revision when all that it declares is ready, or was not ready in the revision before
    /// either. If it is not in time, the last revision that was healthy is served again, and the newer one is
    /// not tried until another commit comes or somebody says `toolcrib reconcile`. A runner that cannot be
    /// asked is waited for. What the revision before declared holds for this one, unless it says otherwise.
    /// Without it, each resource keeps its own previous version until the new one is healthy.
    ///
    /// Default: none. Example: `5m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_gate: Option<Period>,
}

impl Default for Sync {
    fn default() -> Self {
        Self {
            prune_budget: 30,
            drift: Drift::Correct,
            publish: Publish::AsReady,
            protect: Vec::new(),
            health_gate: None,
        }
    }
}

/// What is done about a workload that differs from what was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Drift {
    /// What died, was paused or removed by hand is started again.
    Correct,
    /// It is told, and left until somebody asks or its workload changes.
    Report,
}

/// When what is ready is shown to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Publish {
    /// Whatever is ready, as it turns ready.
    AsReady,
    /// All at once, when all is; removals and rules do not wait.
    Whole,
}
