//! `Crib`: defaults for the repository. There is at most one.

use serde::{Deserialize, Serialize};

use super::workload::{Resources, Security};
use super::{Name, Period};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct CribSpec {
    pub naming: Naming,
    pub defaults: Defaults,
    pub sync: Sync,
}

/// How published names are made: `prefix + server + separator + tool`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Naming {
    /// Before every published name. Default none.
    pub prefix: String,
    /// Between a server's name and its tool's. Default `_`.
    pub separator: String,
}

impl Default for Naming {
    fn default() -> Self {
        Self { prefix: String::new(), separator: "_".to_owned() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Defaults {
    pub runner: Option<Name>,
    pub resources: Resources,
    /// Of one call.
    pub timeout: Option<Period>,
    pub security: Option<Security>,
    pub images: BaseImages,
}

/// Images that generated Dockerfiles build on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct BaseImages {
    pub python: Option<String>,
    pub node: Option<String>,
}

/// How the live side follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Sync {
    /// How much of what runs one pass may prune without approval, in percent; five things always.
    pub prune_budget: u8,
    pub drift: Drift,
    pub publish: Publish,
}

impl Default for Sync {
    fn default() -> Self {
        Self { prune_budget: 30, drift: Drift::Correct, publish: Publish::AsReady }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Drift {
    /// What died, was paused or removed by hand is started again.
    Correct,
    /// It is told, and left until somebody asks or its workload changes.
    Report,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Publish {
    /// Whatever is ready, as it turns ready.
    AsReady,
    /// All at once, when all is; removals and rules do not wait.
    Whole,
}
