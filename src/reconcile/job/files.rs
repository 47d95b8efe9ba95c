//! Files of a commit, as blobs and as folders on this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bytes::Bytes;

use super::Done;
use crate::desired::{Program, Workload};
use crate::manifest::{BlobId, MAX_MANIFEST_BYTES, RepoPath, Snapshot};
use crate::ports::{PortError, PortResult};
use crate::reconcile::Ports;

/// Removes checkouts that are not in use.
pub async fn keep_checkouts(ports: Ports, in_use: BTreeSet<PathBuf>) -> Done {
    ports.source.keep_checkouts(&in_use).await;
    Done::Collected
}

/// A command's folder as an absolute path, with the files of the commit in it.
pub(in crate::reconcile) async fn located(
    ports: &Ports,
    workload: &Workload,
    snapshot: &Snapshot,
) -> PortResult<Workload> {
    let mut workload = workload.clone();
    if let Program::Command { dir, .. } = &mut workload.program {
        *dir = folder(ports, snapshot, dir).await?;
    }
    Ok(workload)
}

/// The absolute path of a folder of the snapshot, its files checked out.
pub async fn folder(ports: &Ports, snapshot: &Snapshot, dir: &str) -> PortResult<String> {
    let Some(path) = RepoPath::parse(dir) else {
        return Err(PortError::stalled(format!("`{dir}` is not a folder of the repository")));
    };
    match ports.source.checkout_dir(snapshot, &path).await? {
        Some(folder) => Ok(folder.to_string_lossy().into_owned()),
        None => Err(PortError::stalled(format!("the source cannot check out `{dir}`"))),
    }
}

/// Reads blobs as a map; one that is larger than a manifest may be is left out.
pub async fn read(ports: &Ports, ids: &[BlobId]) -> PortResult<BTreeMap<BlobId, Bytes>> {
    let sizes = ports.source.sizes(ids).await?;
    let fits = |(id, size): (&BlobId, u64)| (size <= MAX_MANIFEST_BYTES as u64).then_some(*id);
    let ids: Vec<BlobId> = ids.iter().zip(sizes).filter_map(fits).collect();
    let bytes = ports.source.read(&ids, MAX_MANIFEST_BYTES).await?;
    Ok(ids.into_iter().zip(bytes).collect())
}
