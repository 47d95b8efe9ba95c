//! Commits of one object database as snapshots: what local and remote sources have in common.
//!
//! Input: a commit that a ref was resolved to. Output: its snapshot, the contents of its blobs, its
//! files in folders. Invariant: a commit that was listed last is not listed again. Not here: how the
//! ref is resolved, and when.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use git2::Oid;

use super::checkout::Checkouts;
use super::objects::{Objects, Resolved};
use super::{blocking, snapshot_of, verify};
use crate::manifest::{BlobId, RepoPath, Snapshot};
use crate::ports::PortResult;
use crate::resource::Revision;
use crate::resource::signers::Signature;

/// Shared by whoever asks and by the threads that do the work.
#[derive(Clone)]
pub(super) struct Committed(Arc<Inner>);

struct Inner {
    objects: Arc<Objects>,
    path: RepoPath,
    checkouts: Checkouts,
    last: Mutex<Option<(Resolved, Snapshot)>>,
}

impl Committed {
    pub(super) fn new(objects: Arc<Objects>, path: RepoPath, checkouts: Checkouts) -> Self {
        Self(Arc::new(Inner { objects, path, checkouts, last: Mutex::new(None) }))
    }

    pub(super) fn objects(&self) -> &Objects {
        &self.0.objects
    }

    /// The commit that was listed last.
    pub(super) fn last(&self) -> Option<Oid> {
        let last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|(resolved, _)| resolved.commit)
    }

    /// The snapshot of a commit. `moved` hears of the former one, when it is another. Blocks.
    pub(super) fn snapshot(&self, now: Resolved, moved: impl FnOnce(Oid, &Resolved)) -> PortResult<Snapshot> {
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((resolved, snapshot)) = last.as_ref() {
            if *resolved == now {
                return Ok(snapshot.clone());
            }
            moved(resolved.commit, &now);
        }
        let listing = self.0.objects.list(now.commit)?;
        let snapshot = snapshot_of(&now, &self.0.path, &listing);
        *last = Some((now, snapshot.clone()));
        Ok(snapshot)
    }

    /// What the signature of a snapshot's commit proves.
    pub(super) async fn signature(&self, snapshot: &Snapshot) -> PortResult<Signature> {
        let commit = snapshot.revision.commit.clone();
        self.work(move |inner| inner.objects.with(|repo| verify::signature(repo, parse(&commit)?))).await
    }

    /// A commit that was followed before, if it is still there.
    pub(super) async fn recall(&self, revision: &Revision) -> PortResult<Snapshot> {
        let (label, commit) = (revision.reference.clone(), revision.commit.clone());
        self.work(move |inner| {
            let resolved = Resolved { label: label.clone(), commit: parse(&commit)? };
            let listing = inner.objects.list(resolved.commit)?;
            Ok(snapshot_of(&resolved, &inner.path, &listing))
        })
        .await
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> PortResult<T> + Send + 'static,
    ) -> PortResult<T> {
        let inner = Arc::clone(&self.0);
        blocking(move || work(&inner)).await
    }

    pub(super) async fn sizes(&self, blobs: &[BlobId]) -> PortResult<Vec<u64>> {
        let blobs = blobs.to_vec();
        self.work(move |inner| inner.objects.sizes(&blobs)).await
    }

    pub(super) async fn read(&self, blobs: &[BlobId], max: usize) -> PortResult<Vec<Bytes>> {
        let blobs = blobs.to_vec();
        self.work(move |inner| inner.objects.read(&blobs, max)).await
    }

    pub(super) async fn checkout(&self, snapshot: &Snapshot) -> PortResult<Option<PathBuf>> {
        let snapshot = snapshot.clone();
        self.work(move |inner| inner.checkouts.whole(&inner.objects, &snapshot).map(Some)).await
    }

    pub(super) async fn checkout_dir(
        &self,
        snapshot: &Snapshot,
        dir: &RepoPath,
    ) -> PortResult<Option<PathBuf>> {
        let (snapshot, dir) = (snapshot.clone(), dir.clone());
        self.work(move |inner| inner.checkouts.dir(&inner.objects, &snapshot, &dir).map(Some)).await
    }

    pub(super) async fn keep_checkouts(&self, in_use: &BTreeSet<PathBuf>) {
        let in_use = in_use.clone();
        let kept = self.work(move |inner| {
            inner.checkouts.keep(&in_use);
            Ok(())
        });
        // It logs what goes wrong.
        let _ = kept.await;
    }
}

fn parse(commit: &str) -> PortResult<Oid> {
    Oid::from_str(commit)
        .map_err(|error| super::objects::from_git(format!("failed to find commit `{commit}`"), error))
}
