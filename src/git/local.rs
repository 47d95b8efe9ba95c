//! A local repository, read in place: its object database, never its work tree.
//!
//! Input: a folder and perhaps a ref. Output: snapshots of the commit the ref names. Invariants: the
//! ref is resolved once for each fetch; an unmoved ref gives the same snapshot again at the price of
//! reading one file; nothing is written to the repository.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use git2::{Oid, Repository};

use super::blocking;
use super::checkout::Checkouts;
use super::committed::Committed;
use super::objects::{Head, Objects, Resolved, head, resolve};
use super::url::RefName;
use super::watch::{Changes, Target, Watched};
use crate::manifest::{BlobId, RepoPath, Snapshot};
use crate::ports::{PortResult, Source};
use crate::resource::Revision;
use crate::resource::signers::Signature;

/// What is followed.
#[derive(Clone, Debug)]
enum Followed {
    Ref(RefName),
    /// HEAD was detached at start: nothing can move.
    Commit(Oid),
}

/// A local repository as the followed source.
pub(super) struct LocalSource {
    inner: Arc<Inner>,
    committed: Committed,
    changes: Changes,
}

struct Inner {
    followed: Followed,
    committed: Committed,
}

impl LocalSource {
    /// Opens the repository and, without `reference`, notes which branch HEAD names now.
    pub(super) fn open(
        repo: PathBuf,
        reference: Option<RefName>,
        path: RepoPath,
        checkouts: Checkouts,
    ) -> PortResult<Self> {
        let objects = Arc::new(Objects::new(repo));
        let followed = match reference {
            Some(name) => {
                objects.with(|_| Ok(()))?;
                Followed::Ref(name)
            }
            None => match objects.with(head)? {
                Head::Branch(name) => Followed::Ref(name),
                Head::Detached(commit) => Followed::Commit(commit),
            },
        };
        let committed = Committed::new(objects, path, checkouts);
        let inner = Arc::new(Inner { followed, committed: committed.clone() });
        Ok(Self { inner, committed, changes: Changes::default() })
    }
}

impl Inner {
    fn resolve(&self, repo: &Repository) -> PortResult<Resolved> {
        match &self.followed {
            Followed::Ref(name) => resolve(repo, name),
            Followed::Commit(commit) => Ok(Resolved { label: "detached".to_owned(), commit: *commit }),
        }
    }

    fn fetch(&self) -> PortResult<Snapshot> {
        let objects = self.committed.objects();
        let now = objects.with(|repo| self.resolve(repo))?;
        self.committed.snapshot(now, |former, now| tell_rewritten(objects, former, now))
    }
}

impl Watched for Inner {
    fn targets(&self) -> PortResult<Vec<Target>> {
        self.committed.objects().with(|repo| {
            Ok(vec![Target::Refs {
                git_dir: repo.path().to_owned(),
                common_dir: repo.commondir().to_owned(),
            }])
        })
    }

    fn moved(&self) -> bool {
        let now = self.committed.objects().with(|repo| self.resolve(repo)).ok();
        now.is_some_and(|now| Some(now.commit) != self.committed.last())
    }
}

/// Commits looked at to find the former one: a push has fewer; beyond it, saying so is enough.
const ANCESTRY: usize = 256;

/// Says in the log when the new commit does not follow from the former one. It is accepted either way.
fn tell_rewritten(objects: &Objects, former: Oid, now: &Resolved) {
    let found = objects.with(|repo| {
        let failed = |error| super::objects::from_git("failed to walk the history", error);
        let mut walk = repo.revwalk().map_err(failed)?;
        walk.push(now.commit).map_err(failed)?;
        // A shallow clone ends before its history does: not finding the commit is no news then.
        Ok(repo.is_shallow() || walk.take(ANCESTRY).any(|id| id.is_ok_and(|id| id == former)))
    });
    if matches!(found, Ok(false)) {
        tracing::info!(
            reference = now.label,
            %former,
            commit = %now.commit,
            "the ref does not descend from the former commit: history was rewritten, or the branch went back"
        );
    }
}

#[async_trait]
impl Source for LocalSource {
    async fn fetch(&self) -> PortResult<Snapshot> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.fetch()).await
    }

    async fn sizes(&self, blobs: &[BlobId]) -> PortResult<Vec<u64>> {
        self.committed.sizes(blobs).await
    }

    async fn read(&self, blobs: &[BlobId], max: usize) -> PortResult<Vec<Bytes>> {
        self.committed.read(blobs, max).await
    }

    async fn changed(&self) {
        self.changes.next(&self.inner).await;
    }

    async fn signature(&self, snapshot: &Snapshot) -> PortResult<Signature> {
        self.committed.signature(snapshot).await
    }

    async fn recall(&self, revision: &Revision) -> PortResult<Option<Snapshot>> {
        self.committed.recall(revision).await.map(Some)
    }

    async fn checkout(&self, snapshot: &Snapshot) -> PortResult<Option<PathBuf>> {
        self.committed.checkout(snapshot).await
    }

    async fn checkout_dir(&self, snapshot: &Snapshot, dir: &RepoPath) -> PortResult<Option<PathBuf>> {
        self.committed.checkout_dir(snapshot, dir).await
    }

    async fn keep_checkouts(&self, in_use: &BTreeSet<PathBuf>) {
        self.committed.keep_checkouts(in_use).await;
    }
}
