//! The tree of a commit as a flat map, brought from one tree to the next by their difference.
//!
//! Input: the listing of an older tree and a newer tree. Output: the newer listing. Subtrees with
//! the same id are never opened, so a commit that touches one file among many costs the depth of
//! that file. Invariant: the result equals a listing from scratch.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use git2::{Oid, Repository};

use crate::manifest::{BlobId, MAX_FILES, Mode, RepoPath, TreeEntry};

/// Folders inside folders. Deeper trees are attacks on the stack: no path of 4096 bytes, which is
/// all Linux takes, needs more than a few.
const MAX_DEPTH: usize = 128;

/// Why a tree cannot be listed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListError {
    #[error("failed to read the tree `{path}`")]
    Read {
        path: String,
        #[source]
        source: git2::Error,
    },
    #[error("the tree holds an entry `{0}`, which no path may be called")]
    Name(String),
    #[error("the tree holds more than {MAX_FILES} files")]
    Files,
    #[error("the tree has folders more than {MAX_DEPTH} deep at `{0}`")]
    Depth(String),
}

/// The files of one tree, and which tree that was.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    pub(super) tree: Oid,
    pub(super) files: Arc<BTreeMap<RepoPath, TreeEntry>>,
}

impl Listing {
    /// Lists `tree`, from `before` where there is one.
    ///
    /// # Errors
    /// When a tree cannot be read or passes a bound.
    pub(super) fn of(repo: &Repository, tree: Oid, before: Option<&Self>) -> Result<Self, ListError> {
        if let Some(before) = before
            && before.tree == tree
        {
            return Ok(before.clone());
        }
        let old = before.map(|before| before.tree);
        let mut files = before.map_or_else(BTreeMap::new, |before| BTreeMap::clone(&before.files));
        Update { repo, files: &mut files }.folder("", old, Some(tree), 0)?;
        Ok(Self { tree, files: Arc::new(files) })
    }
}

struct Update<'a> {
    repo: &'a Repository,
    files: &'a mut BTreeMap<RepoPath, TreeEntry>,
}

impl Update<'_> {
    /// Brings the files below `path` from the tree `old` to the tree `new`.
    fn folder(
        &mut self,
        path: &str,
        old: Option<Oid>,
        new: Option<Oid>,
        depth: usize,
    ) -> Result<(), ListError> {
        if old == new {
            return Ok(());
        }
        if depth > MAX_DEPTH {
            return Err(ListError::Depth(path.to_owned()));
        }
        let repo = self.repo;
        let open =
            |id| repo.find_tree(id).map_err(|source| ListError::Read { path: path.to_owned(), source });
        let old = old.map(open).transpose()?;
        let new = new.map(open).transpose()?;
        // Names are matched rather than merged in order: a tree of somebody else's may be unsorted.
        let mut before: HashMap<Vec<u8>, (Oid, i32)> = HashMap::new();
        for entry in old.iter().flatten() {
            before.insert(entry.name_bytes().to_vec(), (entry.id(), entry.filemode_raw()));
        }
        for entry in new.iter().flatten() {
            let is = (entry.id(), entry.filemode_raw());
            let was = before.remove(entry.name_bytes());
            if was != Some(is) {
                self.entry(&joined(path, entry.name_bytes()), was, Some(is), depth)?;
            }
        }
        for (name, was) in before {
            self.entry(&joined(path, &name), Some(was), None, depth)?;
        }
        Ok(())
    }

    /// One name of a folder that is not what it was.
    fn entry(
        &mut self,
        place: &str,
        was: Option<(Oid, i32)>,
        is: Option<(Oid, i32)>,
        depth: usize,
    ) -> Result<(), ListError> {
        let tree = |entry: Option<(Oid, i32)>| entry.filter(|(_, mode)| *mode == FOLDER).map(|(id, _)| id);
        let file = |entry: Option<(Oid, i32)>| entry.filter(|(_, mode)| *mode != FOLDER);
        if file(was).is_some()
            && let Some(path) = RepoPath::parse(place)
        {
            self.files.remove(&path);
        }
        self.folder(place, tree(was), tree(is), depth + 1)?;
        if let Some((id, mode)) = file(is) {
            let path = RepoPath::parse(place).ok_or_else(|| ListError::Name(place.to_owned()))?;
            if self.files.len() >= MAX_FILES {
                return Err(ListError::Files);
            }
            self.files.insert(path, TreeEntry { mode: mode_of(mode), id: blob_id(id) });
        }
        Ok(())
    }
}

const FOLDER: i32 = 0o040_000;

pub(super) fn mode_of(raw: i32) -> Mode {
    match raw & 0o170_000 {
        0o120_000 => Mode::Symlink,
        0o160_000 => Mode::Submodule,
        _ if raw & 0o100 != 0 => Mode::Executable,
        _ => Mode::File,
    }
}

/// Names that are not UTF-8 are shown with replacement characters: contents and ids stay true.
fn joined(folder: &str, name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    if folder.is_empty() { name.into_owned() } else { format!("{folder}/{name}") }
}

/// # Panics
/// Never: the object ids of this build are SHA-1, 20 bytes.
pub(super) fn blob_id(id: Oid) -> BlobId {
    let mut bytes = [0; 20];
    bytes.copy_from_slice(&id.as_bytes()[..20]);
    BlobId(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(repo: &Repository, files: &[(&str, &str, i32)]) -> Oid {
        let mut folders: BTreeMap<&str, Vec<(&str, &str, i32)>> = BTreeMap::new();
        let mut builder = repo.treebuilder(None).unwrap();
        for (path, text, mode) in files {
            if let Some((folder, rest)) = path.split_once('/') {
                folders.entry(folder).or_default().push((rest, text, *mode));
            } else {
                let blob = repo.blob(text.as_bytes()).unwrap();
                builder.insert(path, blob, *mode).unwrap();
            }
        }
        for (folder, files) in folders {
            builder.insert(folder, tree(repo, &files), FOLDER).unwrap();
        }
        builder.write().unwrap()
    }

    #[test]
    fn the_next_listing_equals_one_from_scratch() {
        let folder = tempfile::tempdir().unwrap();
        let repo = Repository::init_bare(folder.path()).unwrap();
        let file = 0o100_644;
        let states: &[&[(&str, &str, i32)]] = &[
            &[],
            &[("a", "1", file), ("b/c", "2", file), ("b/d/e", "3", 0o100_755)],
            &[("a", "1", 0o100_755), ("b/c", "2", file), ("b/d/e", "4", file), ("z", "5", 0o120_000)],
            &[("a/x", "1", file), ("b", "2", file), ("z/y/x", "5", file)],
            &[("a", "1", file), ("b/c", "2", file), ("b.c", "2", file)],
            &[],
        ];
        let mut last = Listing::of(&repo, tree(&repo, &[]), None).unwrap();
        for files in states {
            let tree = tree(&repo, files);
            let next = Listing::of(&repo, tree, Some(&last)).unwrap();
            let scratch = Listing::of(&repo, tree, None).unwrap();
            assert_eq!(next.files, scratch.files);
            let names: Vec<&str> = next.files.keys().map(RepoPath::as_str).collect();
            let mut expected: Vec<&str> = files.iter().map(|(path, ..)| *path).collect();
            expected.sort_unstable();
            assert_eq!(names, expected);
            for (path, text, mode) in *files {
                let entry = next.files[&RepoPath::parse(path).unwrap()];
                assert_eq!(entry.mode, mode_of(*mode), "{path}");
                let expected = Oid::hash_object(git2::ObjectType::Blob, text.as_bytes()).unwrap();
                assert_eq!(entry.id, blob_id(expected), "{path}");
            }
            last = next;
        }
        let same = Listing::of(&repo, last.tree, Some(&last)).unwrap();
        assert!(Arc::ptr_eq(&same.files, &last.files));
    }
}
