//! Drift: what runs differs from what was last applied, although the same is wanted.
//!
//! No drift are a first start, a new workload, a rebuild that was asked for and a rotated secret (each
//! is wanted), nor what the daemon brings about itself: processes end with it, and a stream that was
//! in use when it died cannot be taken over.

use super::Input;
use crate::desired::Server;
use crate::live::{Fault, Instance, InstanceState};

/// What differs, when no instance of `own` can be used as it is, and `there` others can.
pub(super) fn of(
    input: &Input<'_>,
    server: &Server,
    own: &[&Instance],
    there: usize,
) -> Option<&'static str> {
    // Nothing has to be there of what starts on demand.
    let applied = input.inventory.applied.get(&server.id.name).filter(|_| !server.scale.on_demand())?;
    // More than there were before is a wish; fewer than are wanted now is none.
    if there >= applied.instances.min(server.scale.min) as usize {
        return None;
    }
    if applied.digest != server.digests.workload || input.rebuild.contains(&server.id) {
        return None;
    }
    let mut found = "its instance is gone";
    for instance in own.iter().filter(|instance| instance.digest == applied.digest) {
        found = match (&instance.state, input.broken.get(&instance.id)) {
            (_, Some(Fault::Rotated)) | (InstanceState::Starting | InstanceState::Running, None) => {
                return None;
            }
            (InstanceState::Exited { .. }, _) => "its instance ended",
            (InstanceState::Paused, _) => "its instance is paused",
            (_, Some(Fault::Ended | Fault::Silent)) => "its instance does not answer",
        };
    }
    Some(found)
}
