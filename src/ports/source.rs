//! The followed repository, and the repositories that sources name.

use std::collections::BTreeSet;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;

use super::PortResult;
use crate::manifest::{BlobId, RepoPath, Snapshot};
use crate::resource::Revision;
use crate::resource::server::GitCredentials;
use crate::resource::signers::Signature;

/// The repository that is followed.
#[async_trait]
pub trait Source: Send + Sync {
    /// Brings the ref up to date and lists the tree it names. Everything after speaks of that commit.
    async fn fetch(&self) -> PortResult<Snapshot>;
    /// The sizes in bytes of blobs of a snapshot fetched before, in order, without reading them:
    /// asked before [`Source::read`] where one file too large must not fail the others.
    async fn sizes(&self, blobs: &[BlobId]) -> PortResult<Vec<u64>> {
        let contents = self.read(blobs, usize::MAX).await?;
        Ok(contents.iter().map(|bytes| bytes.len() as u64).collect())
    }
    /// The contents of blobs of a snapshot fetched before, in order; each at most `max` bytes.
    ///
    /// # Errors
    /// When one of them is larger than `max`, or is not there.
    async fn read(&self, blobs: &[BlobId], max: usize) -> PortResult<Vec<Bytes>>;
    /// Waits until the ref may have moved (a watch; polling is the caller's). Safe to cancel: a
    /// change that was not returned yet is returned by the next call.
    async fn changed(&self);
    /// What the signature of a snapshot's commit proves: of that very commit, whatever the ref names by now.
    async fn signature(&self, snapshot: &Snapshot) -> PortResult<Signature>;
    /// A revision that was followed before. `None`: this source keeps none.
    ///
    /// # Errors
    /// When its commit is not there any more.
    async fn recall(&self, revision: &Revision) -> PortResult<Option<Snapshot>> {
        let _ = revision;
        Ok(None)
    }
    /// A folder that stands for the root of the repository and holds the files below
    /// `snapshot.path`, read-only; the work tree itself where that is followed. `None`: none can be had.
    async fn checkout(&self, snapshot: &Snapshot) -> PortResult<Option<PathBuf>>;
    /// A folder that holds what the snapshot has below `dir`, known by its contents: unchanged
    /// contents give the same folder at every revision. Where process runners start commands.
    async fn checkout_dir(&self, snapshot: &Snapshot, dir: &RepoPath) -> PortResult<Option<PathBuf>> {
        Ok(self.checkout(snapshot).await?.map(|root| root.join(dir.as_str())))
    }
    /// Removes checkouts made before that are not `in_use` and were not asked for lately.
    async fn keep_checkouts(&self, in_use: &BTreeSet<PathBuf>) {
        let _ = in_use;
    }
}

/// Other repositories and registries: what only the network knows.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// The commit a branch, tag or commit of a repository names now.
    async fn commit(
        &self,
        url: &str,
        reference: &str,
        credentials: Option<&GitCredentials>,
    ) -> PortResult<String>;
    /// The names of the tags of a repository.
    async fn tags(&self, url: &str, credentials: Option<&GitCredentials>) -> PortResult<Vec<String>>;
    /// The files of a commit below `subdir`, contents included, as an uncompressed tar.
    async fn archive(
        &self,
        url: &str,
        commit: &str,
        subdir: Option<&str>,
        credentials: Option<&GitCredentials>,
    ) -> PortResult<Bytes>;
}
