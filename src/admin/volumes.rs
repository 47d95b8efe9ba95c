//! Volumes, as they are asked of the daemon and told.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::desired::VolumeId;
use crate::resource::ResourceId;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum VolumeAsk {
    List,
    /// Removes a volume that nothing declares, with its data.
    Delete(VolumeId),
}

/// The answer: the volumes there are, after what was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VolumeReply {
    pub volumes: Vec<VolumeView>,
}

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeView {
    /// `runner/name`.
    pub volume: String,
    /// What declares it; nothing does where this is empty, and then it can be deleted.
    pub used_by: BTreeSet<ResourceId>,
}
