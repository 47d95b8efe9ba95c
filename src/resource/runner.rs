//! `Runner`: a place where containers or processes run.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cpu, Memory};

/// A place where containers or processes run: exactly one kind of place, and what policies may ask about it.
///
/// ```yaml
/// apiVersion: toolcrib.dev/v1alpha1
/// kind: Runner
/// metadata: {name: docker}
/// spec:
///   docker: {}
///   attributes: {environment: staging}
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("oneOf" = [
    {"required": ["docker"]},
    {"required": ["process"]},
    {"required": ["kubernetes"]},
    {"required": ["wasm"]},
    {"required": ["ecs"]},
    {"required": ["cloudRun"]},
    {"required": ["aci"]},
]))]
pub struct RunnerSpec {
    /// A Docker engine: `docker: {}` for the one of this machine.
    ///
    /// Example: `{host: "unix:///run/docker.sock"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<DockerRunner>,
    /// Processes beside the daemon: `process: {}`. For development and trusted servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessRunner>,
    /// A Kubernetes cluster. Not supported by this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<LaterRunner>,
    /// WebAssembly modules. Not supported by this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wasm: Option<LaterRunner>,
    /// AWS ECS and Fargate. Not supported by this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecs: Option<LaterRunner>,
    /// Google Cloud Run. Not supported by this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_run: Option<LaterRunner>,
    /// Azure Container Instances. Not supported by this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aci: Option<LaterRunner>,
    /// How much it has to give. Given to policies as `input.runner.capacity`: bytes of memory, thousandths of
    /// a core. Only `slots` is also a limit.
    ///
    /// Default: unknown. Example: `{memory: 16Gi, cpu: 4, slots: 8}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// Where it is. Given to policies as `input.runner.region`.
    ///
    /// Default: none. Example: `eu-central-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// What an hour of it costs, in a currency of your choice. Given to policies as `input.runner.cost`.
    ///
    /// Default: none. Example: `0.25`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// Anything else policies ask about. Given to them as `input.runner.attributes`.
    ///
    /// Default: none. Example: `{environment: production}`.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub attributes: serde_json::Map<String, serde_json::Value>,
    /// How images are built on it.
    #[serde(default)]
    pub build: BuildSettings,
}

/// Settings of a kind of runner that a later version has. They are read and refused.
pub type LaterRunner = serde_json::Map<String, serde_json::Value>;

/// How much a runner has to give.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Capacity {
    /// Memory for all it runs. Example: `16Gi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Processor time for all it runs. Example: `4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Graphics processors. Example: `1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<u32>,
    /// Calls of `Tool`s that run on it at once; further ones wait. Example: `8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
}

/// A Docker engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct DockerRunner {
    /// `unix:///path` or `tcp://host:port`.
    ///
    /// Default: what the daemon's `DOCKER_HOST` says, else the usual socket.
    /// Example: `unix:///run/docker.sock`.
    pub host: Option<String>,
}

/// Processes beside the daemon: for development and trusted servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ProcessRunner {}

/// How images are built on this runner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct BuildSettings {
    /// The network of build steps: `none`, `host`, or a network's name.
    ///
    /// Default: the engine's. Example: `none`.
    pub network: Option<String>,
    /// Build arguments for every build. Never a secret.
    ///
    /// Default: none. Example: `{HTTP_PROXY: "http://proxy:3128"}`.
    pub args: BTreeMap<String, String>,
    /// A CA bundle that builds trust: PEM, a path in the repository, relative to this file.
    ///
    /// Default: none. Example: `ca.pem`.
    pub ca: Option<String>,
}

/// Which kind of place, once exactly one was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunnerKind {
    Docker,
    Process,
}

impl RunnerKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Process => "process",
        }
    }
}

impl RunnerSpec {
    /// The kind, when exactly one is given.
    pub fn kind(&self) -> Option<RunnerKind> {
        match (&self.docker, &self.process, self.later().next()) {
            (Some(_), None, None) => Some(RunnerKind::Docker),
            (None, Some(_), None) => Some(RunnerKind::Process),
            _ => None,
        }
    }

    /// The fields it gives of kinds that this version does not have.
    pub fn later(&self) -> impl Iterator<Item = &'static str> {
        let kinds = [
            ("kubernetes", &self.kubernetes),
            ("wasm", &self.wasm),
            ("ecs", &self.ecs),
            ("cloudRun", &self.cloud_run),
            ("aci", &self.aci),
        ];
        kinds.into_iter().filter(|(_, given)| given.is_some()).map(|(name, _)| name)
    }
}
