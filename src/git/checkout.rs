//! Files of a commit written out, for commands of process runners.
//!
//! Input: paths and ids. Output: a folder below the state directory, known by a digest of what it
//! holds, so that revisions with equal files share it. Invariants: a folder under its final name is
//! complete (it is filled elsewhere and renamed); files are read-only; symlinks and submodules are
//! left out. Not here: what runs in it.
#![expect(clippy::disallowed_methods, reason = "writes checkouts and knows when they were asked for")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::objects::Objects;
use crate::manifest::{Mode, RepoPath, Snapshot, TreeEntry};
use crate::ports::{PortError, PortResult};
use crate::resource::Digest;

/// Bytes of one checkout. Commands and their data have a few megabytes; a disk has an end.
const MAX_BYTES: u64 = 2 << 30;
/// Checkouts kept although nobody uses them: the last few revisions, for a revert.
const KEPT: usize = 8;
/// How long a checkout stays after it was asked for or last known to be in use: whoever asked may be
/// about to start something in it, and a call under way may still run there.
const GRACE: Duration = Duration::from_mins(10);

/// The checkouts of one source.
pub(super) struct Checkouts {
    root: PathBuf,
    /// When each was last asked for. `None`: nothing was asked for yet.
    asked: Mutex<Option<BTreeMap<PathBuf, Instant>>>,
}

impl Checkouts {
    pub(super) fn new(state: &Path) -> Self {
        Self { root: state.join("checkouts"), asked: Mutex::new(None) }
    }

    /// The files below `snapshot.path` under their paths in the repository.
    pub(super) fn whole(&self, objects: &Objects, snapshot: &Snapshot) -> PortResult<PathBuf> {
        let prefix =
            if snapshot.path.as_str().is_empty() { String::new() } else { format!("{}/", snapshot.path) };
        let files: Vec<_> = below(snapshot, &snapshot.path)
            .map(|(rest, entry)| (format!("{prefix}{rest}"), *entry))
            .collect();
        self.make(objects, &files)
    }

    /// The files below `dir` under their paths in it.
    pub(super) fn dir(&self, objects: &Objects, snapshot: &Snapshot, dir: &RepoPath) -> PortResult<PathBuf> {
        let files: Vec<_> = below(snapshot, dir).map(|(rest, entry)| (rest.to_owned(), *entry)).collect();
        self.make(objects, &files)
    }

    fn make(&self, objects: &Objects, files: &[(String, TreeEntry)]) -> PortResult<PathBuf> {
        let digest = Digest::of("checkout", files);
        let target = self.root.join(&digest.hex()[..32]);
        // Held while files are written: a second request for the same folder waits for it.
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error: std::io::Error| {
            PortError::retry(format!("failed to write the checkout `{}`", target.display())).caused_by(error)
        };
        if asked.is_none() {
            // What a former process left may be cut short by a crash, and nothing runs in it.
            match fs::remove_dir_all(&self.root) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
            fs::create_dir_all(&self.root).map_err(failed)?;
        }
        asked.get_or_insert_default().insert(target.clone(), Instant::now());
        if target.is_dir() {
            return Ok(target);
        }
        let fresh = self.root.join("new");
        let written =
            write_all(objects, &fresh, files).and_then(|()| fs::rename(&fresh, &target).map_err(failed));
        if written.is_err() {
            // The cause is reported; the next attempt starts by removing this again.
            let _ = fs::remove_dir_all(&fresh);
        }
        written.map(|()| target)
    }

    /// Removes what is neither in use, nor among the last few, nor asked for lately.
    pub(super) fn keep(&self, in_use: &BTreeSet<PathBuf>) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(asked) = asked.as_mut() else { return };
        let now = Instant::now();
        for at in asked.iter_mut().filter_map(|(path, at)| in_use.contains(path).then_some(at)) {
            *at = now;
        }
        let mut idle: Vec<(Instant, PathBuf)> = asked
            .iter()
            .filter(|(path, at)| !in_use.contains(*path) && now.duration_since(**at) >= GRACE)
            .map(|(path, at)| (*at, path.clone()))
            .collect();
        idle.sort_unstable_by(|a, b| b.cmp(a));
        for (_, path) in idle.into_iter().skip(KEPT) {
            match fs::remove_dir_all(&path) {
                Ok(()) => {
                    asked.remove(&path);
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "failed to remove an old checkout");
                }
            }
        }
    }
}

/// The entries below a folder, with their paths in it.
pub(super) fn below<'a>(
    snapshot: &'a Snapshot,
    dir: &RepoPath,
) -> impl Iterator<Item = (&'a str, &'a TreeEntry)> {
    let prefix = if dir.as_str().is_empty() { String::new() } else { format!("{dir}/") };
    // `a/` and what follows it sort after `a`, though not right after it: `a-b` comes between.
    snapshot
        .files
        .range(dir.clone()..)
        .take_while({
            let root = dir.as_str().to_owned();
            move |(path, _)| path.as_str().starts_with(&root)
        })
        .filter_map(move |(path, entry)| Some((path.as_str().strip_prefix(prefix.as_str())?, entry)))
}

fn write_all(objects: &Objects, folder: &Path, files: &[(String, TreeEntry)]) -> PortResult<()> {
    let failed = |path: &Path, error: std::io::Error| {
        PortError::retry(format!("failed to write `{}`", path.display())).caused_by(error)
    };
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(folder, error)),
        _ => {}
    }
    fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    let mut left = MAX_BYTES;
    for (path, entry) in files {
        let mode = match entry.mode {
            Mode::File => 0o444,
            Mode::Executable => 0o555,
            Mode::Symlink | Mode::Submodule => continue,
        };
        let content = objects.read(&[entry.id], usize::try_from(left).unwrap_or(usize::MAX))?;
        let place = folder.join(path);
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).map_err(|error| failed(parent, error))?;
        }
        for bytes in content {
            left = left.saturating_sub(bytes.len() as u64);
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&place)
                .and_then(|mut file| file.write_all(&bytes))
                .map_err(|error| failed(&place, error))?;
        }
    }
    Ok(())
}
