//! The work tree of a local repository, uncommitted edits included.
//!
//! Input: a folder with a work tree. Output: snapshots whose ids are Git's own, computed from the
//! files where they differ from the index. Invariants: ignored files and `.git` are not seen; a
//! symlink is a symlink, never what it points to; contents are verified against their id when they
//! are read. Nothing is written, the index neither. For development: `--worktree` only.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use git2::{ObjectType, Oid, Repository, Status, StatusOptions};
use nix::fcntl::OFlag;

use super::blocking;
use super::listing::{blob_id, mode_of};
use super::objects::{Head, Objects, from_git, head, oid, resolve, too_large};
use super::url::short;
use super::watch::{Changes, Target, Watched};
use crate::manifest::{BlobId, MAX_FILES, Mode, RepoPath, Snapshot, TreeEntry};
use crate::ports::{PortError, PortResult, Source};
use crate::resource::Revision;
use crate::resource::signers::Signature;

/// Bytes of one edited file. It is hashed whole; larger ones belong to no source.
const MAX_FILE: u64 = 1 << 30;

/// A work tree as the followed source.
pub(super) struct WorktreeSource {
    inner: Arc<Inner>,
    changes: Changes,
}

struct Inner {
    objects: Objects,
    root: PathBuf,
    path: RepoPath,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Files that differ from the index, and the stamp under which they were hashed.
    hashed: HashMap<RepoPath, (Stamp, TreeEntry)>,
    /// Where the content of an id is, when it is not in the object database.
    places: HashMap<BlobId, PathBuf>,
    last: Option<Snapshot>,
}

/// By which an unchanged file is known without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    size: u64,
    inode: u64,
    mode: u32,
}

impl WorktreeSource {
    pub(super) fn open(repo: PathBuf, path: RepoPath) -> PortResult<Self> {
        let objects = Objects::new(repo);
        let root = objects.with(|repo| {
            repo.workdir().map(Path::to_owned).ok_or_else(|| {
                PortError::stalled("failed to find a work tree: the repository is bare")
                    .hint("leave out --worktree, or name a clone with files in it")
            })
        })?;
        let inner = Inner { objects, root, path, seen: Mutex::default() };
        Ok(Self { inner: Arc::new(inner), changes: Changes::default() })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> PortResult<T> + Send + 'static,
    ) -> PortResult<T> {
        let inner = Arc::clone(&self.inner);
        blocking(move || work(&inner)).await
    }
}

impl Inner {
    fn fetch(&self) -> PortResult<Snapshot> {
        let (mut revision, mut files, differing) = self.objects.with(look)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hashed = HashMap::new();
        let mut places = HashMap::new();
        for path in differing {
            revision.dirty = true;
            files.remove(&path);
            let Some((stamp, entry)) = self.entry(&path, &seen.hashed)? else { continue };
            if matches!(entry.mode, Mode::File | Mode::Executable) {
                places.insert(entry.id, self.root.join(path.as_str()));
            }
            hashed.insert(path.clone(), (stamp, entry));
            files.insert(path, entry);
        }
        if files.len() > MAX_FILES {
            return Err(PortError::stalled(format!("the work tree holds more than {MAX_FILES} files")));
        }
        seen.hashed = hashed;
        seen.places = places;
        // Equal contents keep their identity: whoever compares pointers does no work.
        let files = match &seen.last {
            Some(last) if *last.files == files => Arc::clone(&last.files),
            _ => Arc::new(files),
        };
        let snapshot = Snapshot { revision, path: self.path.clone(), files };
        seen.last = Some(snapshot.clone());
        Ok(snapshot)
    }

    /// What is at `path` now; hashed only when its stamp is new. `None`: nothing a tree could hold.
    fn entry(
        &self,
        path: &RepoPath,
        known: &HashMap<RepoPath, (Stamp, TreeEntry)>,
    ) -> PortResult<Option<(Stamp, TreeEntry)>> {
        let place = self.root.join(path.as_str());
        let Ok(metadata) = fs::symlink_metadata(&place) else { return Ok(None) };
        let stamp = Stamp::of(&metadata);
        if let Some((before, entry)) = known.get(path)
            && *before == stamp
        {
            return Ok(Some((stamp, *entry)));
        }
        let failed = |error: git2::Error| from_git(format!("failed to hash `{path}`"), error);
        let unread = |error: std::io::Error| {
            PortError::retry(format!("failed to read `{}`", place.display())).caused_by(error)
        };
        let kind = metadata.file_type();
        let entry = if kind.is_symlink() {
            let target = fs::read_link(&place).map_err(unread)?;
            let bytes = target.as_os_str().as_encoded_bytes();
            let id = Oid::hash_object(ObjectType::Blob, bytes).map_err(failed)?;
            TreeEntry { mode: Mode::Symlink, id: blob_id(id) }
        } else if kind.is_file() {
            let content = read_file(&place, MAX_FILE).map_err(unread)?;
            let id = Oid::hash_object(ObjectType::Blob, &content).map_err(failed)?;
            let mode = if metadata.mode() & 0o100 != 0 { Mode::Executable } else { Mode::File };
            TreeEntry { mode, id: blob_id(id) }
        } else {
            return Ok(None);
        };
        Ok(Some((stamp, entry)))
    }

    fn read(&self, blobs: &[BlobId], max: usize) -> PortResult<Vec<Bytes>> {
        let places: Vec<Option<PathBuf>> = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            blobs.iter().map(|blob| seen.places.get(blob).cloned()).collect()
        };
        let mut contents = Vec::with_capacity(blobs.len());
        for (blob, place) in blobs.iter().zip(places) {
            match place {
                Some(place) => contents.push(verified(*blob, &place, max)?),
                None => contents.append(&mut self.objects.read(&[*blob], max)?),
            }
        }
        Ok(contents)
    }

    fn sizes(&self, blobs: &[BlobId]) -> PortResult<Vec<u64>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sizes = Vec::with_capacity(blobs.len());
        for blob in blobs {
            match seen.places.get(blob).and_then(|place| fs::symlink_metadata(place).ok()) {
                Some(metadata) => sizes.push(metadata.len()),
                None => sizes.append(&mut self.objects.sizes(&[*blob])?),
            }
        }
        Ok(sizes)
    }
}

impl Watched for Inner {
    fn targets(&self) -> PortResult<Vec<Target>> {
        self.objects.with(|repo| {
            Ok(vec![
                Target::Refs { git_dir: repo.path().to_owned(), common_dir: repo.commondir().to_owned() },
                Target::Tree(self.root.join(self.path.as_str())),
            ])
        })
    }

    fn moved(&self) -> bool {
        let before = self.seen.lock().unwrap_or_else(PoisonError::into_inner).last.clone();
        let now = self.fetch();
        // The look must not pass for one of the caller's.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).last.clone_from(&before);
        match (now, before) {
            (Ok(now), Some(before)) => now.revision != before.revision || now.files != before.files,
            (now, _) => now.is_ok(),
        }
    }
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            size: metadata.len(),
            inode: metadata.ino(),
            mode: metadata.mode(),
        }
    }
}

type Look = (Revision, BTreeMap<RepoPath, TreeEntry>, Vec<RepoPath>);

/// HEAD, the files of the index, and the paths where the work tree or HEAD differs from it.
fn look(repo: &Repository) -> PortResult<Look> {
    let failed = |error| from_git("failed to compare the work tree with the index", error);
    let revision = match head(repo)? {
        Head::Branch(name) => Revision {
            reference: short(name.as_str()).to_owned(),
            // A branch without a commit: all zeros, as Git writes it.
            commit: resolve(repo, &name).map_or(Oid::ZERO_SHA1, |found| found.commit).to_string(),
            dirty: false,
        },
        Head::Detached(commit) => {
            Revision { reference: "detached".to_owned(), commit: commit.to_string(), dirty: false }
        }
    };
    let mut index = repo.index().map_err(failed)?;
    index.read(false).map_err(failed)?;
    let mut files = BTreeMap::new();
    for entry in index.iter() {
        if let Some(path) = RepoPath::parse(&String::from_utf8_lossy(&entry.path)) {
            let mode = mode_of(i32::try_from(entry.mode).unwrap_or_default());
            files.insert(path, TreeEntry { mode, id: blob_id(entry.id) });
        }
    }
    let mut options = StatusOptions::new();
    options.include_untracked(true).recurse_untracked_dirs(true).exclude_submodules(true);
    options.include_ignored(false).include_unmodified(false).no_refresh(false);
    let statuses = repo.statuses(Some(&mut options)).map_err(failed)?;
    let paths = statuses.iter().filter(|entry| !entry.status().contains(Status::IGNORED));
    let differing =
        paths.filter_map(|entry| RepoPath::parse(&String::from_utf8_lossy(entry.path_bytes()))).collect();
    Ok((revision, files, differing))
}

/// Reads a regular file of at most `max` bytes, following no symlink and waiting for no pipe.
fn read_file(place: &Path, max: u64) -> std::io::Result<Vec<u8>> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(place)?;
    let mut content = Vec::new();
    file.take(max + 1).read_to_end(&mut content)?;
    if content.len() as u64 > max {
        return Err(std::io::Error::other(format!("the file has more than {max} bytes")));
    }
    Ok(content)
}

fn verified(blob: BlobId, place: &Path, max: usize) -> PortResult<Bytes> {
    let changed =
        || PortError::retry(format!("failed to read `{}`: it changed after it was listed", place.display()));
    let size = fs::symlink_metadata(place).map_err(|error| changed().caused_by(error))?.len();
    if size > max as u64 {
        return Err(too_large(blob, size, max));
    }
    let content = read_file(place, max as u64).map_err(|error| changed().caused_by(error))?;
    let id = Oid::hash_object(ObjectType::Blob, &content)
        .map_err(|error| from_git(format!("failed to hash `{}`", place.display()), error))?;
    if id == oid(blob) { Ok(content.into()) } else { Err(changed()) }
}

#[async_trait]
impl Source for WorktreeSource {
    async fn fetch(&self) -> PortResult<Snapshot> {
        self.blocking(Inner::fetch).await
    }

    async fn sizes(&self, blobs: &[BlobId]) -> PortResult<Vec<u64>> {
        let blobs = blobs.to_vec();
        self.blocking(move |inner| inner.sizes(&blobs)).await
    }

    async fn read(&self, blobs: &[BlobId], max: usize) -> PortResult<Vec<Bytes>> {
        let blobs = blobs.to_vec();
        self.blocking(move |inner| inner.read(&blobs, max)).await
    }

    async fn changed(&self) {
        self.changes.next(&self.inner).await;
    }

    async fn signature(&self, _: &Snapshot) -> PortResult<Signature> {
        Ok(Signature::Uncommitted)
    }

    async fn checkout(&self, _snapshot: &Snapshot) -> PortResult<Option<PathBuf>> {
        Ok(Some(self.inner.root.clone()))
    }
}
