//! A snapshot's files to typed resources and diagnostics.
//!
//! Input: the listing of a [`Snapshot`], contents of the blobs that [`wanted`] names, and the
//! [`Manifest`] of the revision before. Output: [`Manifest`]. Invariants: a file is parsed once for
//! each blob id; what cannot be read keeps what was last read from it; nothing in a file can make this
//! panic or run without bound. Not here: references between resources ([`crate::desired`]), reading
//! blobs.

pub mod diagnostic;
pub mod code;
mod tree;
mod read;
mod document;
mod edit;
mod fields;
mod check;
mod ignore;
mod layers;
mod load;
mod lock;
pub mod schema;
pub mod suggest;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::lock::Lock;
use crate::resource::{Metadata, ResourceId, Revision, Spec};

pub use check::credential;
pub use diagnostic::{Diagnostic, Severity};
pub use document::parse_file;
pub use fields::Field;
pub use load::{assemble, load, wanted};
pub use lock::parse as parse_lock;

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
    #[must_use]
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

impl Snapshot {
    /// What the tree holds below a folder, in the order of paths.
    pub fn under<'s>(
        &'s self,
        folder: &RepoPath,
    ) -> impl Iterator<Item = (&'s RepoPath, &'s TreeEntry)> + use<'s> {
        let root = folder.as_str().is_empty();
        let start = if root { String::new() } else { format!("{folder}/") };
        let from = RepoPath(start.as_str().into());
        self.files.range(from..).take_while(move |(path, _)| path.as_str().starts_with(&start))
    }
}

/// Entries of one tree. Monorepos of this size exist; beyond it, memory is at risk.
pub const MAX_FILES: usize = 1_000_000;
/// Bytes of one manifest file. A file of 10,000 small resources has about 3 MB.
pub const MAX_MANIFEST_BYTES: usize = 8 << 20;

/// A resource as declared, and where.
#[derive(Clone, Debug)]
pub struct Declared {
    pub metadata: Metadata,
    pub spec: Spec,
    /// Where its document begins.
    pub place: Place,
    /// The file's text, shared by all resources of the file, from which is read
    /// where a field stands when a diagnostic needs it.
    pub text: Arc<str>,
    /// Which document of the file, from 0.
    pub document: usize,
    /// What environments lay over it; most have none.
    overlays: Option<Arc<document::Overlays>>,
}

impl Declared {
    pub fn id(&self) -> ResourceId {
        ResourceId::new(self.spec.kind(), self.metadata.name.clone())
    }

    /// Whether something was laid over its document.
    pub fn is_patched(&self) -> bool {
        self.overlays.is_some()
    }

    /// The line on which the text of a field begins, the next one for a block (`|`), and how many characters
    /// its lines are indented by there.
    pub fn text_start(&self, path: &[&str]) -> (u32, u32) {
        let (place, text) = document::field_of(self, path);
        let rest = document::excerpt(text, place.line).unwrap_or_default();
        let mut marks = rest.chars().skip(place.column.saturating_sub(1) as usize);
        if !matches!(marks.next(), Some('|' | '>')) {
            let before = place.column.saturating_sub(1);
            let alone = rest.chars().take(before as usize).all(|c| c == ' ');
            return (place.line, if alone { before } else { 0 });
        }
        // YAML takes the indentation of the first line that is not empty.
        let first = text.lines().skip(place.line as usize).find(|line| !line.trim().is_empty());
        let indent = first.map_or(0, |line| line.len() - line.trim_start_matches(' ').len());
        (place.line + 1, u32::try_from(indent).unwrap_or(0))
    }

    /// Gives a diagnostic the place of a field of this resource, or of the nearest field above that
    /// is there: `["spec", "args", "2"]`.
    pub fn point(&self, diagnostic: Diagnostic, path: &[&str]) -> Diagnostic {
        let (place, text) = document::field_of(self, path);
        let line = document::excerpt(text, place.line);
        diagnostic.at(place, line).of(self.id())
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

/// What one file says.
#[derive(Clone, Debug, Default)]
pub struct ParsedFile {
    pub resources: Vec<Arc<Declared>>,
    pub diagnostics: Vec<Diagnostic>,
    /// Documents of other API groups, or of none.
    pub skipped: usize,
    /// Resources that are declared here with an error.
    pub faulty: BTreeSet<ResourceId>,
    /// Those of them whose fault refuses the whole revision, although others of their kind would not: a
    /// `Toolset` of which nobody can tell who may use it.
    pub refusing: BTreeSet<ResourceId>,
    /// Some part could not even be told to belong to a resource: everything last read from this file
    /// is kept.
    pub broken: bool,
    /// It names our API group somewhere. A broken file of others is none of our business, unless
    /// resources were read from it before.
    pub ours: bool,
    /// The folders that a `Crib` in it builds on, as far as they are inside the repository; also of one with
    /// a fault, so that what is declared there does not seem to be gone.
    pub bases: Vec<RepoPath>,
    /// The file is the lock of this resource, and nothing else.
    pub lock_of: Option<ResourceId>,
    /// The lock, when it could be read.
    pub lock: Option<Arc<Lock>>,
}

/// What all files say together.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// By id. For a faulty resource this is what was last read of it.
    pub resources: BTreeMap<ResourceId, Arc<Declared>>,
    /// In the order of files and lines.
    pub diagnostics: Vec<Diagnostic>,
    /// Resources declared with an error, whether an earlier version is kept or there is none.
    pub faulty: BTreeSet<ResourceId>,
    /// Those of them whose fault refuses the whole revision: see [`ParsedFile::refusing`].
    pub refusing: BTreeSet<ResourceId>,
    /// Documents of other API groups, or of none.
    pub skipped: usize,
    /// The locks, by the resource they are of; of one that cannot be read, what was last read of it.
    pub locks: BTreeMap<ResourceId, Arc<Lock>>,
    /// Resources whose lock cannot be read.
    pub broken_locks: BTreeSet<ResourceId>,
    /// What each file said, by the blob it was read from.
    pub files: BTreeMap<RepoPath, (BlobId, Arc<ParsedFile>)>,
}

impl Manifest {
    /// Whether a file declares resources, or is a lock.
    pub fn declares(&self, path: &RepoPath) -> bool {
        self.files.get(path).is_some_and(|(_, file)| {
            !file.resources.is_empty() || !file.faulty.is_empty() || file.lock_of.is_some()
        })
    }

    /// The file of the lock that holds for a resource, where there is one: that of the folder itself stands
    /// over those of its bases.
    pub fn lock_file(&self, below: &RepoPath, id: &ResourceId) -> Option<&RepoPath> {
        let own = below.join(&Lock::path(id));
        let own = own.and_then(|own| self.files.get_key_value(&own)).map(|(path, _)| path);
        let held = self.locks.get(id);
        let of = |file: &ParsedFile| file.lock.as_ref().zip(held).is_some_and(|(a, b)| Arc::ptr_eq(a, b));
        own.or_else(|| self.files.iter().find(|(_, (_, file))| of(file)).map(|(path, _)| path))
    }

    /// Whether a file is a lock.
    pub fn is_lock(&self, path: &RepoPath) -> bool {
        self.files.get(path).is_some_and(|(_, file)| file.lock_of.is_some())
    }
}

/// The files of a snapshot below its path.
fn below(snapshot: &Snapshot) -> impl Iterator<Item = (&RepoPath, &TreeEntry)> {
    snapshot.under(&snapshot.path).filter(|(_, entry)| matches!(entry.mode, Mode::File | Mode::Executable))
}
