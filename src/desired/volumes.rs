//! What a container mounts, where it can be mounted, and what must not lie there.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::place::Findings;
use super::{Desired, Location};
use crate::resource::runner::RunnerKind;
use crate::resource::server::Strategy;
use crate::resource::workload::{Mounts, Security, Volumes};
use crate::resource::{EnvValue, Name, ResourceId};

/// Paths that are the system's or ours: with all below them no volume is mounted there.
const RESERVED: [&str; 5] = ["/.toolcrib", "/dev", "/proc", "/run/toolcrib", "/sys"];

/// A volume: a runner, and the name it has in this repository. Written `runner/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VolumeId {
    pub runner: Name,
    pub name: Name,
}

impl VolumeId {
    /// Reads `runner/name`.
    pub fn parse(text: &str) -> Option<Self> {
        let (runner, name) = text.split_once('/')?;
        Some(Self { runner: Name::parse(runner).ok()?, name: Name::parse(name).ok()? })
    }
}

impl std::fmt::Display for VolumeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.runner, self.name)
    }
}

impl Desired {
    /// The volumes that anything mounts, with what mounts them.
    pub fn volumes(&self) -> BTreeMap<VolumeId, BTreeSet<ResourceId>> {
        let servers = self.servers.values().filter_map(|server| match &server.location {
            Location::Runner(workload) => Some((&server.id, &workload.runner, &workload.volumes)),
            Location::Remote { .. } => None,
        });
        let tools = self.tools.values().map(|tool| (&tool.id, &tool.runner, &*tool.volumes));
        let mut all: BTreeMap<VolumeId, BTreeSet<ResourceId>> = BTreeMap::new();
        for (id, runner, mounts) in servers.chain(tools) {
            for volume in mounts.values() {
                let volume = VolumeId { runner: runner.clone(), name: volume.name.clone() };
                all.entry(volume).or_default().insert(id.clone());
            }
        }
        all
    }
}

/// The volumes of a container, checked against what else is mounted in it.
pub(super) fn mounts(
    declared: &Volumes,
    kind: RunnerKind,
    security: &Security,
    files: &BTreeMap<String, EnvValue>,
    findings: &mut Findings<'_>,
) -> Mounts {
    let Some(declared) = declared.as_deref().filter(|declared| !declared.is_empty()) else {
        return Mounts::new();
    };
    if kind != RunnerKind::Docker {
        let message = format!("a {} runner has no volumes", kind.as_str());
        let hint = "remove them and give the program a folder of this machine, or run it in a container";
        findings.error(&["volumes"], "not-supported", message, hint);
        return Mounts::new();
    }
    for path in declared.keys() {
        let at = ["volumes", path.as_str()];
        if let Some(reserved) = RESERVED.into_iter().find(|reserved| below(path, reserved)) {
            let message = format!("`{reserved}` is the system's: no volume can be mounted at `{path}`");
            findings.error(&at, "conflict", message, "mount it elsewhere, such as at `/data`");
        }
        if security.tmpfs.keys().any(|tmpfs| tmpfs.trim_end_matches('/') == path) {
            let message = format!("`{path}` is a volume and a file system in memory at once");
            findings.error(&at, "conflict", message, "remove one of them, here or in `security.tmpfs`");
        }
        if let Some(file) = files.keys().find(|file| below(file, path)) {
            let message =
                format!("the file `{file}` would be written to the volume at `{path}` and stay there");
            let hint = "put the file below `/run/toolcrib`, which is in memory and ends with the container";
            findings.error(&at, "conflict", message, hint);
        }
    }
    declared.clone()
}

/// What happens when an instance is replaced, where nothing is said: two instances never write one volume.
pub(super) fn strategy(declared: Option<Strategy>, mounts: &Mounts) -> Strategy {
    let writes = mounts.values().any(|volume| !volume.read_only);
    declared.unwrap_or(if writes { Strategy::Recreate } else { Strategy::Surge })
}

fn below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
