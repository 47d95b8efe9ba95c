//! A snapshot's files to typed resources and diagnostics.

pub mod diagnostic;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::resource::{Metadata, ResourceId, Revision, Spec};

pub use diagnostic::{Diagnostic, Severity};

/// A path inside a repository: relative, `/` between parts, no `.`, `..`, empty part or NUL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RepoPath(Arc<str>);

impl RepoPath {
    /// `None` when `text` is not such a path. The empty path is the root.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = text.is_empty()
            || text
                .split('/')
                .all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains('\0'));
        fits.then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder that holds it; the root's is the root.
    pub fn parent(&self) -> Self {
        Self(self.0.rsplit_once('/').map_or("", |(parent, _)| parent).into())
    }

    /// Resolves `relative` (which may begin with `./` and hold `..`) against this folder; `None`
    /// when it leaves the repository.
    pub fn join(&self, relative: &str) -> Option<Self> {
        let mut parts: Vec<&str> = if self.0.is_empty() { Vec::new() } else { self.0.split('/').collect() };
        for part in relative.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop()?;
                }
                part if part.contains('\0') => return None,
                part => parts.push(part),
            }
        }
        (!relative.starts_with('/')).then(|| Self(parts.join("/").into()))
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The object id of a blob. For work trees it is computed the same way, so equal files are equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlobId(#[serde(with = "hex::serde")] pub [u8; 20]);

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// What a tree says of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TreeEntry {
    pub mode: Mode,
    pub id: BlobId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    File,
    Executable,
    /// Never followed: a reference to one is a diagnostic.
    Symlink,
    /// Likewise.
    Submodule,
}

/// The tree of one revision below `--path`: names and object ids, no contents.
///
/// Paths are relative to the root of the repository, not to `--path`.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub revision: Revision,
    /// The folder manifests are looked for in; the root when empty.
    pub path: RepoPath,
    /// Every file of the repository's tree (at most [`MAX_FILES`]).
    pub files: Arc<BTreeMap<RepoPath, TreeEntry>>,
}

/// Entries of one tree. Monorepos of this size exist; beyond it, memory is at risk.
pub const MAX_FILES: usize = 1_000_000;
/// Bytes of one manifest file. A file of 10,000 small resources has about 3 MB.
pub const MAX_MANIFEST_BYTES: usize = 8 << 20;

/// A resource as declared, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    pub metadata: Metadata,
    pub spec: Spec,
    pub place: Place,
}

impl Declared {
    pub fn id(&self) -> ResourceId {
        ResourceId::new(self.spec.kind(), self.metadata.name.clone())
    }
}

/// A place in a file. Lines and columns count from 1; columns count characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    pub file: RepoPath,
    pub line: u32,
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}
