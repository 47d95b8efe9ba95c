//! One repository on disk: refs to commits, commits to listings, ids to contents.
//!
//! Invariant: nothing here writes, and nothing reads a work tree. A handle that gave an error is
//! opened anew, so that a repository that was moved, repacked or cloned again is found again.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use bytes::Bytes;
use git2::{ErrorClass, ErrorCode, ObjectType, Oid, Repository, RepositoryOpenFlags};

use super::listing::{ListError, Listing};
use super::url::{RefName, short};
use crate::manifest::BlobId;
use crate::ports::{PortError, PortResult};

/// A repository, opened when first used. Its calls block: they belong into `spawn_blocking`.
pub(super) struct Objects {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    repo: Option<Repository>,
    /// The last listing, from which the next one is made.
    listing: Option<Listing>,
}

/// What a ref names now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// What people call it: `main`, or `detached`.
    pub(super) label: String,
    pub(super) commit: Oid,
}

impl Objects {
    /// `path` is the folder of the repository: bare, with a `.git` folder, or a linked work tree.
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        without_caching();
        Self { path: path.into(), state: Mutex::default() }
    }

    /// Runs `work` on the open repository; opens it first, and again after an error.
    pub(super) fn with<T>(&self, work: impl Fn(&Repository) -> PortResult<T>) -> PortResult<T> {
        self.with_state(|repo, _| work(repo))
    }

    fn with_state<T>(
        &self,
        work: impl Fn(&Repository, &mut Option<Listing>) -> PortResult<T>,
    ) -> PortResult<T> {
        let mut state = self.lock();
        let State { repo, listing } = &mut *state;
        if let Some(open) = repo.as_ref() {
            let first = work(open, listing);
            if first.is_ok() {
                return first;
            }
            *repo = None;
        }
        let open = open(&self.path)?;
        let result = work(&open, listing);
        if result.is_ok() {
            *repo = Some(open);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files of a commit; the same listing again when the tree is the same.
    pub(super) fn list(&self, commit: Oid) -> PortResult<Listing> {
        self.with_state(|repo, last| {
            let failed = || format!("failed to list the files of commit `{commit}`");
            let tree = repo
                .find_commit(commit)
                .and_then(|commit| commit.tree())
                .map_err(|error| from_git(failed(), error))?;
            let listing = Listing::of(repo, tree.id(), last.as_ref()).map_err(|error| match error {
                ListError::Read { source, .. } => from_git(failed(), source),
                bound => PortError::stalled(failed()).caused_by(bound),
            })?;
            *last = Some(listing.clone());
            Ok(listing)
        })
    }

    /// The contents of blobs, in order, each at most `max` bytes.
    pub(super) fn read(&self, blobs: &[BlobId], max: usize) -> PortResult<Vec<Bytes>> {
        self.with(|repo| {
            let odb = repo.odb().map_err(|error| from_git("failed to open the object database", error))?;
            blobs
                .iter()
                .map(|blob| {
                    let size = size(&odb, *blob)?;
                    if size > max as u64 {
                        return Err(too_large(*blob, size, max));
                    }
                    let object = odb.read(oid(*blob)).map_err(|error| unreadable(*blob, error))?;
                    Ok(Bytes::copy_from_slice(object.data()))
                })
                .collect()
        })
    }

    pub(super) fn sizes(&self, blobs: &[BlobId]) -> PortResult<Vec<u64>> {
        self.with(|repo| {
            let odb = repo.odb().map_err(|error| from_git("failed to open the object database", error))?;
            blobs.iter().map(|blob| size(&odb, *blob)).collect()
        })
    }
}

fn size(odb: &git2::Odb<'_>, blob: BlobId) -> PortResult<u64> {
    match odb.read_header(oid(blob)) {
        Ok((size, ObjectType::Blob)) => Ok(size as u64),
        Ok((_, kind)) => {
            Err(PortError::stalled(format!("failed to read blob `{blob:?}`: it is a {}", kind.str())))
        }
        Err(error) => Err(unreadable(blob, error)),
    }
}

fn unreadable(blob: BlobId, error: git2::Error) -> PortError {
    from_git(format!("failed to read blob `{blob:?}`"), error)
}

pub(super) fn too_large(blob: BlobId, size: u64, max: usize) -> PortError {
    PortError::stalled(format!("failed to read blob `{blob:?}`: it has {size} bytes, the limit is {max}"))
        .hint("take the file out of the repository, or do not refer to it")
}

pub(super) fn oid(blob: BlobId) -> Oid {
    Oid::from_bytes(&blob.0).unwrap_or(Oid::ZERO_SHA1)
}

/// libgit2 keeps every commit and tree it read, up to 256 MiB in a process, for as long as a repository is
/// open. Ours stay open, and what a revision needs of the one before is in its [`Listing`].
fn without_caching() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| git2::opts::enable_caching(false));
}

/// Opens exactly this folder: a repository above it is not what was asked for.
pub(super) fn open(path: &Path) -> PortResult<Repository> {
    let failed = || format!("failed to open the repository `{}`", path.display());
    Repository::open_ext(path, RepositoryOpenFlags::NO_SEARCH, std::iter::empty::<&Path>()).map_err(|error| {
        let hint = open_hint(path, &error);
        let mapped = from_git(failed(), error);
        match hint {
            Some(hint) => mapped.hint(hint),
            None => mapped,
        }
    })
}

fn open_hint(path: &Path, error: &git2::Error) -> Option<String> {
    let shown = path.display();
    if error.code() == ErrorCode::Owner {
        return Some(format!(
            "`{shown}` belongs to another user; if you trust it, run \
             `git config --global --add safe.directory {shown}` as the user of this daemon"
        ));
    }
    let message = error.message();
    if message.contains("refstorage") || message.contains("refStorage") {
        return Some(
            "run `git refs migrate --ref-format=files` in it: refs in a reftable are not read".into(),
        );
    }
    if message.contains("objectformat") || message.contains("sha256") {
        return Some("repositories with SHA-256 object ids are not read; use one with SHA-1 ids".into());
    }
    if message.contains("unsupported extension") {
        return Some("clone it without that extension, for instance without `--filter`".into());
    }
    if error.code() == ErrorCode::NotFound {
        return Some(match Repository::discover(path) {
            Ok(found) => {
                let root = found.workdir().unwrap_or_else(|| found.path());
                format!(
                    "the repository begins at `{}`; name that, and the folder with --path",
                    root.display()
                )
            }
            Err(_) => "name the root of a Git repository, or run `git init` and commit there".into(),
        });
    }
    None
}

/// What `wanted` names now. Branches come before tags; tags are peeled to their commit.
pub(super) fn resolve(repo: &Repository, wanted: &RefName) -> PortResult<Resolved> {
    let failed = || format!("failed to resolve the ref `{}`", wanted.as_str());
    for candidate in wanted.candidates() {
        match repo.find_reference(&candidate) {
            Ok(found) => {
                let commit = found.peel_to_commit().map_err(|error| from_git(failed(), error))?;
                return Ok(Resolved { label: short(&candidate).to_owned(), commit: commit.id() });
            }
            Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::InvalidSpec) => {}
            Err(error) => return Err(from_git(failed(), error)),
        }
    }
    // Seven digits are what Git itself shortens to; fewer are more likely a name.
    let digits = wanted.as_str();
    if (7..=40).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        match repo.find_object_by_prefix(digits, None).and_then(|object| object.peel_to_commit()) {
            Ok(commit) => return Ok(Resolved { label: "detached".to_owned(), commit: commit.id() }),
            Err(error) if error.code() == ErrorCode::NotFound => {}
            Err(error) => return Err(from_git(failed(), error)),
        }
    }
    Err(PortError::retry(failed()).hint(known_branches(repo)))
}

fn known_branches(repo: &Repository) -> String {
    /// Names in a hint: enough to see the one that was meant.
    const SHOWN: usize = 8;
    let names: Vec<String> = repo
        .references_glob("refs/heads/*")
        .map(|refs| {
            refs.flatten()
                .filter_map(|found| found.name().ok().map(|name| short(name).to_owned()))
                .take(SHOWN)
                .collect()
        })
        .unwrap_or_default();
    if names.is_empty() {
        return "there is no commit yet: commit something first".to_owned();
    }
    format!("there is no such branch, tag or commit; branches are {}", names.join(", "))
}

/// What HEAD names at this moment: a branch to follow (which may have no commit yet), or a commit.
pub(super) fn head(repo: &Repository) -> PortResult<Head> {
    let failed = "failed to read HEAD";
    let head = repo.find_reference("HEAD").map_err(|error| from_git(failed, error))?;
    if let Ok(Some(target)) = head.symbolic_target()
        && let Ok(name) = RefName::parse(target)
    {
        return Ok(Head::Branch(name));
    }
    let commit = head.peel_to_commit().map_err(|error| from_git(failed, error))?;
    Ok(Head::Detached(commit.id()))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Head {
    Branch(RefName),
    Detached(Oid),
}

/// A libgit2 error as one of ours: what is about the repository itself waits for a change of it,
/// all else is tried again.
pub(super) fn from_git(operation: impl Into<String>, error: git2::Error) -> PortError {
    let operation = operation.into();
    let owner = error.code() == ErrorCode::Owner;
    let invalid = matches!(error.class(), ErrorClass::Invalid | ErrorClass::Config);
    let made = if owner || invalid { PortError::stalled(operation) } else { PortError::retry(operation) };
    made.caused_by(Told(error))
}

/// What libgit2 says, without its own numbers of class and code, which tell a person nothing.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message())]
struct Told(git2::Error);
