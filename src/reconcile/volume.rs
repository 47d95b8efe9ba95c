//! Volumes: written down before anything mounts them, and kept until somebody deletes them.
//!
//! No pass removes a volume, whatever is declared: what is in it cannot be made again from Git. The plan
//! tells which ones nothing declares.

use std::collections::BTreeSet;

use tokio::sync::oneshot;

use super::Reconciler;
use super::job::{self, Key};
use crate::desired::VolumeId;
use crate::ports::{PortError, PortResult};
use crate::resource::workload::Mounts;
use crate::resource::{Name, ResourceId};

/// A volume as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownVolume {
    pub id: VolumeId,
    /// What declares it.
    pub used_by: BTreeSet<ResourceId>,
}

/// Where the answer to a deletion goes.
pub type Answer = oneshot::Sender<PortResult<()>>;

impl Reconciler {
    /// Writes volumes into the inventory before they exist; without that nothing mounts them.
    pub(super) fn claim_volumes(&mut self, runner: &Name, mounts: &Mounts) -> bool {
        let wanted =
            mounts.values().map(|volume| VolumeId { runner: runner.clone(), name: volume.name.clone() });
        let fresh: Vec<VolumeId> = wanted.filter(|volume| !self.inventory.volumes.contains(volume)).collect();
        if fresh.is_empty() {
            return true;
        }
        self.inventory.volumes.extend(fresh.iter().cloned());
        let saved = self.save_inventory();
        if !saved {
            self.inventory.volumes.retain(|volume| !fresh.contains(volume));
        }
        saved
    }

    /// Drops volumes that are certainly gone and that nothing declares; whether there were any.
    pub(super) fn forget_volumes(&mut self) -> bool {
        let starts = |key: &Key| matches!(key, Key::Resource(_) | Key::Lend(_) | Key::Rehearsal(_));
        let Some(desired) = self.desired.as_ref().filter(|_| !self.running.keys().any(starts)) else {
            // What starts may be making one.
            return false;
        };
        let declared = desired.volumes();
        let before = self.inventory.volumes.len();
        let seen = &self.live.volumes;
        self.inventory.volumes.retain(|volume| {
            declared.contains_key(volume)
                || seen.get(&volume.runner).is_none_or(|seen| seen.contains(&volume.name))
        });
        self.inventory.volumes.len() != before
    }

    /// After a loss of the store the labels say which volumes are ours.
    pub(super) fn rebuild_volumes(&mut self) {
        let found = self.live.volumes.iter().flat_map(|(runner, names)| {
            names.iter().map(|name| VolumeId { runner: runner.clone(), name: name.clone() })
        });
        let before = self.inventory.volumes.len();
        self.inventory.volumes.extend(found);
        if self.inventory.volumes.len() != before {
            self.save_inventory();
        }
    }

    pub(super) fn known_volumes(&self) -> Vec<KnownVolume> {
        let mut declared = self.desired.as_ref().map(|desired| desired.volumes()).unwrap_or_default();
        let known = self
            .inventory
            .volumes
            .iter()
            .map(|id| KnownVolume { id: id.clone(), used_by: declared.remove(id).unwrap_or_default() });
        known.collect()
    }

    /// Removes a volume that nothing declares.
    pub(super) fn delete_volume(&mut self, id: VolumeId, answer: Answer) {
        if let Err(error) = self.may_delete(&id) {
            drop(answer.send(Err(error)));
            return;
        }
        let ports = self.ports.clone();
        let (asked, key) = (id.clone(), Key::Volume(id));
        if self.running.contains_key(&key) {
            let error = PortError::retry(format!("volume `{asked}` is being removed already"));
            drop(answer.send(Err(error)));
            return;
        }
        self.spawn(key, None, |_| Box::pin(job::delete_volume(ports, asked, answer)));
    }

    fn may_delete(&self, id: &VolumeId) -> PortResult<()> {
        let refused =
            |why: String| PortError::stalled(format!("volume `{id}` is not removed")).caused_by(why);
        if !self.inventory.volumes.contains(id) {
            return Err(refused("there is none of that name".to_owned())
                .hint("`toolcrib volumes list` shows which there are"));
        }
        let Some(desired) = &self.desired else {
            return Err(refused("no revision was read yet".to_owned()).hint("try again when there is one"));
        };
        if let Some(users) = desired.volumes().get(id) {
            let users: Vec<String> = users.iter().map(ToString::to_string).collect();
            return Err(refused(format!("it is declared by {}", users.join(", ")))
                .hint("remove it from there first, and commit that"));
        }
        if !desired.faulty.is_empty() || !desired.pending.is_empty() || self.refused {
            return Err(refused("the revision has errors, or is not looked up yet".to_owned())
                .hint("`toolcrib status` shows them: what is at fault may declare it"));
        }
        Ok(())
    }

    pub(super) fn volume_deleted(&mut self, id: &VolumeId, result: PortResult<()>, answer: Answer) {
        if result.is_ok() {
            tracing::info!(volume = %id, "removed with its data, as somebody asked");
            self.inventory.volumes.remove(id);
            self.save_inventory();
        }
        drop(answer.send(result));
        self.look();
    }
}
