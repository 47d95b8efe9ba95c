//! `Runner`: a place where containers or processes run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Exactly one of the kinds of place, and what policies may ask about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RunnerSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<DockerRunner>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessRunner>,
    /// Given to policies as `input.runner.attributes`.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub attributes: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    pub build: BuildSettings,
}

/// A Docker engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct DockerRunner {
    /// `unix:///path` or `tcp://host:port`. Default: what the daemon's `DOCKER_HOST` says, else the
    /// usual socket.
    pub host: Option<String>,
}

/// Processes beside the daemon: for development and trusted servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ProcessRunner {}

/// How images are built on this runner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct BuildSettings {
    /// The network of build steps: `none`, `host`, or a network's name. Default: the engine's.
    pub network: Option<String>,
    /// Build arguments for every build. Never a secret.
    pub args: BTreeMap<String, String>,
    /// A CA bundle (PEM, a path in the repository relative to the file that declares it) that builds trust.
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
        match (&self.docker, &self.process) {
            (Some(_), None) => Some(RunnerKind::Docker),
            (None, Some(_)) => Some(RunnerKind::Process),
            _ => None,
        }
    }
}
