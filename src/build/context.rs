//! The files of a build context, `.dockerignore` applied.

use std::collections::BTreeMap;

use super::patterns::Patterns;
use crate::manifest::{Mode, RepoPath, Snapshot, TreeEntry};

/// What is sent, and what cannot be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// By path inside the context.
    pub files: BTreeMap<RepoPath, TreeEntry>,
    /// Links and submodules, by path in the repository: a build with any is refused, for what they
    /// stand for would be missing.
    pub refused: Vec<(RepoPath, Mode)>,
}

/// Lists a folder. `ignored` is the text of its `.dockerignore`; the Dockerfile is sent in any case.
pub fn list(snapshot: &Snapshot, folder: &RepoPath, ignored: Option<&str>, dockerfile: &RepoPath) -> Listing {
    let patterns = Patterns::parse(ignored.unwrap_or_default());
    let start = if folder.as_str().is_empty() { 0 } else { folder.as_str().len() + 1 };
    let mut listing = Listing::default();
    for (path, entry) in snapshot.under(folder) {
        let Some(inside) = path.as_str().get(start..).and_then(RepoPath::parse) else { continue };
        if inside != *dockerfile && patterns.ignores(inside.as_str()) {
            continue;
        }
        match entry.mode {
            Mode::File | Mode::Executable => {
                listing.files.insert(inside, *entry);
            }
            Mode::Symlink | Mode::Submodule => listing.refused.push((path.clone(), entry.mode)),
        }
    }
    listing
}
