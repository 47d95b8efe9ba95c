//! `Integration`: credentials that tools and servers ask for by name.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::Reference;
use super::workload::Egress;

/// Credentials and settings that servers and tools ask for by name, in `integrations: [github]`.
///
/// What it declares is added to each workload that names it. Two that give different values to one
/// variable or file, or one that differs from what the workload declares itself, are an error: nothing
/// silently wins.
///
/// ```yaml
/// apiVersion: toolcrib.dev/v1alpha1
/// kind: Integration
/// metadata: {name: github}
/// spec:
///   env:
///     GITHUB_TOKEN: {secret: {env: GITHUB_TOKEN}}
///   files:
///     /run/toolcrib/github.pem: {secret: {file: /etc/toolcrib/github.pem}}
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct IntegrationSpec {
    /// Environment variables by name, each a reference to a secret.
    ///
    /// Default: none. Example: `GITHUB_TOKEN: {secret: {env: GITHUB_TOKEN}}`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Reference>,
    /// Files by absolute path, each a reference to a secret, placed as `files` of a workload are.
    ///
    /// Default: none. Example: `/run/toolcrib/key.pem: {secret: {file: /etc/toolcrib/key.pem}}`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, Reference>,
    /// Hosts that workloads with this integration may reach, besides their own, as `host` or `host:port`.
    ///
    /// Default: none. Example: `[api.github.com:443]`.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub egress: Box<[Egress]>,
}
