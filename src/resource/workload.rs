//! What servers and tools share: how much they may use and how they are confined.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Cpu, Memory};

/// Limits of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Resources {
    /// Default 512Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Default 1 core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Processes and threads. Default 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
}

/// Confinement. Everything starts hardened; each field loosens one thing, within the floor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Security {
    /// `uid`, `uid:gid` or a name of the image. Default `65534:65534`. Root needs the floor's leave.
    pub user: String,
    /// Default true.
    pub read_only_root: bool,
    /// Linux capabilities added to none, such as `NET_BIND_SERVICE`; needs the floor's leave.
    pub capabilities: Vec<String>,
    /// Writable memory file systems by path, with their size. Default `/tmp: 64Mi`.
    pub tmpfs: BTreeMap<String, Memory>,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            user: "65534:65534".to_owned(),
            read_only_root: true,
            capabilities: Vec::new(),
            tmpfs: BTreeMap::from([("/tmp".to_owned(), Memory(64 << 20))]),
        }
    }
}

/// A build from files of this repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BuildSource {
    /// The context folder, relative to the file that declares it.
    pub context: String,
    /// Relative to the context.
    #[serde(default = "dockerfile")]
    pub dockerfile: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Build arguments. They stay in the image's history: never a secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
}

fn dockerfile() -> String {
    "Dockerfile".to_owned()
}
