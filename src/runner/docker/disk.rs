//! Limits of what a container writes to disk: its layer, where the root can be written.
//!
//! Engines hold a layer to a size only on some storage drivers, and some drop the wish silently. So the
//! engine is asked first, and what it cannot do is refused rather than run without a limit.

use bollard::Docker;

use super::engine::ask;
use crate::desired::Limits;
use crate::ports::{PortError, PortResult};
use crate::resource::workload::Security;

const OPERATION: &str = "failed to limit the disk space of the container";
const HINT: &str = "keep the root read-only (`readOnlyRoot`): then nothing but `security.tmpfs` and volumes is \
                    written; or remove `ephemeralStorage`";

/// The size of the container's own layer; none where it cannot be written, or has no limit.
pub(super) fn layer(limits: &Limits, security: &Security) -> Option<u64> {
    limits.ephemeral_storage.filter(|_| !security.read_only_root).map(|most| most.0)
}

/// Makes sure that the engine obeys [`layer`].
///
/// # Errors
/// When it does not.
pub(super) async fn check(docker: &Docker, limits: &Limits, security: &Security) -> PortResult<()> {
    if layer(limits, security).is_none() {
        return Ok(());
    }
    let info = ask(|| OPERATION.to_owned(), docker.info()).await?;
    let driver = info.driver.unwrap_or_default();
    let status = info.driver_status.unwrap_or_default();
    let below = status.iter().find_map(|row| match row.as_slice() {
        [key, value] if key == "Backing Filesystem" => Some(value.as_str()),
        _ => None,
    });
    let below = below.unwrap_or("an unknown file system");
    if able(&driver, below) {
        return Ok(());
    }
    let why = format!("the engine's storage driver `{driver}` on {below} cannot do that");
    Err(PortError::stalled(OPERATION).caused_by(why).hint(HINT))
}

/// As Docker documents `--storage-opt size`; overlay2 also needs project quotas, which the engine says itself.
fn able(driver: &str, below: &str) -> bool {
    matches!(driver, "btrfs" | "zfs" | "devicemapper") || driver == "overlay2" && below == "xfs"
}

/// What the engine says when the file system has no quotas.
pub(super) fn explained(error: PortError) -> PortError {
    if error.chain().contains("storage-opt") {
        PortError::stalled(OPERATION).caused_by(error).hint(HINT)
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_with_quotas_are_known() {
        for (driver, below, expected) in [
            ("overlay2", "extfs", false),
            ("overlay2", "xfs", true),
            ("overlayfs", "xfs", false),
            ("btrfs", "btrfs", true),
            ("zfs", "zfs", true),
            ("vfs", "extfs", false),
            ("", "", false),
        ] {
            assert_eq!(able(driver, below), expected, "{driver} on {below}");
        }
    }
}
