//! All files together: what to read, what to keep, what is declared twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::ignore::{self, Rules};
use super::layers;
use super::{
    BlobId, Declared, Diagnostic, MAX_MANIFEST_BYTES, Manifest, ParsedFile, RepoPath, Snapshot, below, lock,
    parse_file,
};
use crate::lock::Lock;
use crate::resource::{Kind, ResourceId};

/// The blobs that must be read before [`load`] can be called, beyond those in `contents`. Read them
/// (each at most [`super::MAX_MANIFEST_BYTES`] + 1 bytes), add them, and ask again until the answer is
/// empty: which files are ignored is known only once the ignore files are there.
pub fn wanted(
    snapshot: &Snapshot,
    previous: Option<&Manifest>,
    contents: &BTreeMap<BlobId, Bytes>,
) -> Vec<BlobId> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![snapshot.path.clone()]);
    let mut all = BTreeSet::new();
    while let Some(path) = open.pop() {
        if seen.len() < layers::MAX_FOLDERS && seen.insert(path.clone()) {
            let below = Snapshot { path, ..snapshot.clone() };
            all.extend(wanted_below(&below, previous, contents));
            open.extend(bases(&below, previous, contents));
        }
    }
    all.into_iter().collect()
}

/// A word of every `Crib` that builds on others.
const BASES: &[u8] = b"bases";

/// The folders that files below the snapshot's path build on, as far as these were read.
fn bases(
    snapshot: &Snapshot,
    previous: Option<&Manifest>,
    contents: &BTreeMap<BlobId, Bytes>,
) -> BTreeSet<RepoPath> {
    let rules = Rules::new(snapshot, contents);
    let mut folders = BTreeSet::new();
    for (path, id) in manifests(snapshot, &rules) {
        if let Some(file) = known(previous, path, id) {
            folders.extend(file.bases.iter().cloned());
        } else if let Some(bytes) = contents.get(&id)
            && (bytes.windows(BASES.len()).any(|word| word == BASES) || built(previous, path))
        {
            folders.extend(remembered(previous, path, parse_file(path, bytes)).bases);
        }
    }
    folders
}

fn wanted_below(
    snapshot: &Snapshot,
    previous: Option<&Manifest>,
    contents: &BTreeMap<BlobId, Bytes>,
) -> BTreeSet<BlobId> {
    let missing = |id: &BlobId| !contents.contains_key(id);
    let rules: BTreeSet<BlobId> = ignore::files(snapshot).map(|(_, id)| id).filter(missing).collect();
    if !rules.is_empty() {
        return rules;
    }
    let rules = Rules::new(snapshot, contents);
    let unread = manifests(snapshot, &rules)
        .filter(|(path, id)| known(previous, path, *id).is_none())
        .map(|(_, id)| id)
        .filter(missing);
    unread.collect()
}

/// The files that may hold resources.
fn manifests<'s>(snapshot: &'s Snapshot, rules: &'s Rules) -> impl Iterator<Item = (&'s RepoPath, BlobId)> {
    below(snapshot)
        .filter(|(path, _)| {
            let name = path.as_str().rsplit('/').next().unwrap_or_default();
            let extension = name.rsplit_once('.').map(|(_, extension)| extension);
            matches!(extension, Some("yaml" | "yml" | "json"))
        })
        .filter(|(path, _)| !rules.ignores(path))
        .map(|(path, entry)| (path, entry.id))
}

/// What this very blob said before.
fn known(previous: Option<&Manifest>, path: &RepoPath, id: BlobId) -> Option<Arc<ParsedFile>> {
    let (before, file) = previous?.files.get(path)?;
    (*before == id).then(|| file.clone())
}

/// Parses what changed since `previous` and puts everything together. A wanted blob that is missing
/// from `contents` is one that is too large to be read.
pub fn load(
    snapshot: &Snapshot,
    previous: Option<&Manifest>,
    contents: &BTreeMap<BlobId, Bytes>,
) -> Manifest {
    let files = files(snapshot, previous, contents);
    if layers::alone(&files) {
        return assemble(previous, files);
    }
    layers::assemble(snapshot, previous, contents, files)
}

/// What files say, by path, with the blob each was read from.
pub(super) type Files = BTreeMap<RepoPath, (BlobId, Arc<ParsedFile>)>;

/// The files below the snapshot's path; those that did not change are not parsed again.
pub(super) fn files(
    snapshot: &Snapshot,
    previous: Option<&Manifest>,
    contents: &BTreeMap<BlobId, Bytes>,
) -> Files {
    let rules = Rules::new(snapshot, contents);
    let files = manifests(snapshot, &rules).map(|(path, id)| {
        let file = known(previous, path, id).unwrap_or_else(|| {
            let owner = lock_of(snapshot, path);
            Arc::new(match (contents.get(&id), owner) {
                (Some(bytes), None) => remembered(previous, path, parse_file(path, bytes)),
                (Some(bytes), Some(owner)) => lock::parse(path, &owner, bytes),
                (None, lock_of) => ParsedFile { lock_of, ..too_large(path) },
            })
        });
        (path.clone(), (id, file))
    });
    files.collect()
}

/// Whether a file built on others before.
fn built(previous: Option<&Manifest>, path: &RepoPath) -> bool {
    previous.and_then(|previous| previous.files.get(path)).is_some_and(|(_, file)| !file.bases.is_empty())
}

/// A file that cannot be read builds on what it did before, as far as it does not say otherwise.
fn remembered(previous: Option<&Manifest>, path: &RepoPath, mut file: ParsedFile) -> ParsedFile {
    if file.broken && file.bases.is_empty() {
        let before = previous.and_then(|previous| previous.files.get(path));
        file.bases = before.map(|(_, before)| before.bases.clone()).unwrap_or_default();
    }
    file
}

/// Whose lock a file is.
fn lock_of(snapshot: &Snapshot, path: &RepoPath) -> Option<ResourceId> {
    let folder = snapshot.path.as_str();
    let below = path.as_str().strip_prefix(folder)?;
    Lock::owner(if folder.is_empty() { below } else { below.strip_prefix('/')? })
}

fn too_large(path: &RepoPath) -> ParsedFile {
    let place = super::Place { file: path.clone(), line: 1, column: 1 };
    let message = format!("the file has more than {} MiB", MAX_MANIFEST_BYTES >> 20);
    let fault = Diagnostic::error("too-large", message).hint("split it, or name it in `.toolcribignore`");
    ParsedFile { diagnostics: vec![fault.at(place, None)], broken: true, ours: true, ..ParsedFile::default() }
}

/// What changes when nothing was or is wrong: the files that changed, and nothing else.
fn amend(previous: &Manifest, files: &BTreeMap<RepoPath, (BlobId, Arc<ParsedFile>)>) -> Option<Manifest> {
    let sound = |file: &ParsedFile| file.diagnostics.is_empty() && file.faulty.is_empty() && !file.broken;
    // What was laid over documents is not looked through here.
    if !layers::alone(&previous.files) {
        return None;
    }
    if !previous.diagnostics.is_empty() || !previous.faulty.is_empty() {
        return None;
    }
    let same = |path, file| files.get(path).is_some_and(|(_, now)| Arc::ptr_eq(now, file));
    let gone = previous.files.iter().filter(|(path, (_, file))| !same(path, file));
    let known = |path, file| previous.files.get(path).is_some_and(|(_, before)| Arc::ptr_eq(before, file));
    let fresh = files.iter().filter(|(path, (_, file))| !known(path, file));
    let mut manifest = Manifest {
        resources: previous.resources.clone(),
        locks: previous.locks.clone(),
        skipped: previous.skipped,
        files: files.clone(),
        ..Manifest::default()
    };
    for (_, (_, file)) in gone {
        manifest.skipped -= file.skipped;
        for declared in &file.resources {
            manifest.resources.remove(&declared.id());
        }
        if let Some(owner) = &file.lock_of {
            manifest.locks.remove(owner);
        }
    }
    for (_, (_, file)) in fresh {
        manifest.skipped += file.skipped;
        if let (Some(owner), Some(lock)) = (&file.lock_of, &file.lock) {
            manifest.locks.insert(owner.clone(), Arc::clone(lock));
        }
        for declared in &file.resources {
            let twice = manifest.resources.insert(declared.id(), declared.clone()).is_some();
            let crib = declared.spec.kind() == Kind::Crib;
            if twice || crib || !sound(file) {
                return None;
            }
        }
        if !sound(file) {
            return None;
        }
    }
    // A lock without a resource is told of below.
    manifest.locks.keys().all(|id| manifest.resources.contains_key(id)).then_some(manifest)
}

/// Joins what the files say with what is kept of `previous`.
pub fn assemble(
    previous: Option<&Manifest>,
    files: BTreeMap<RepoPath, (BlobId, Arc<ParsedFile>)>,
) -> Manifest {
    if let Some(manifest) = previous.and_then(|previous| amend(previous, &files)) {
        return manifest;
    }
    join(previous, files)
}

/// Joins everything anew.
pub(super) fn join(previous: Option<&Manifest>, files: Files) -> Manifest {
    let mut manifest = Manifest { files, ..Manifest::default() };
    let mut places: BTreeMap<ResourceId, Vec<Arc<Declared>>> = BTreeMap::new();
    for (_, file) in manifest.files.values() {
        manifest.skipped += file.skipped;
        manifest.faulty.extend(file.faulty.iter().cloned());
        match (&file.lock_of, &file.lock) {
            (Some(owner), Some(lock)) => {
                manifest.locks.insert(owner.clone(), Arc::clone(lock));
            }
            (Some(owner), None) => {
                manifest.broken_locks.insert(owner.clone());
            }
            (None, _) => {}
        }
        manifest.refusing.extend(file.refusing.iter().cloned());
        for declared in &file.resources {
            match manifest.resources.entry(declared.id()) {
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(declared.clone());
                }
                std::collections::btree_map::Entry::Occupied(entry) => {
                    let all = places.entry(entry.key().clone()).or_insert_with(|| vec![entry.get().clone()]);
                    all.push(declared.clone());
                }
            }
        }
    }
    for (id, declared) in &places {
        manifest.diagnostics.extend(twice(id, declared));
        manifest.faulty.insert(id.clone());
    }
    one_crib(&mut manifest);
    for id in &manifest.faulty {
        // Also one that reads well in one place and badly in another: which is meant is not known.
        manifest.resources.remove(id);
    }
    keep(&mut manifest, previous);
    stray_locks(&mut manifest);
    let said = manifest.files.values().filter(|(_, file)| file.ours || keeps(previous, file));
    manifest.diagnostics.extend(said.flat_map(|(_, file)| file.diagnostics.iter().cloned()));
    manifest.diagnostics.sort();
    manifest
}

fn twice(id: &ResourceId, declared: &[Arc<Declared>]) -> Vec<Diagnostic> {
    let tell = |(at, this): (usize, &Arc<Declared>)| {
        let other = &declared[usize::from(at == 0)];
        let fault =
            Diagnostic::error("duplicate-name", format!("`{id}` is also declared at {}", other.place))
                .hint("rename one of them or remove it");
        this.point(fault, &["metadata", "name"])
    };
    declared.iter().enumerate().map(tell).collect()
}

fn one_crib(manifest: &mut Manifest) {
    let cribs: Vec<Arc<Declared>> = manifest
        .resources
        .values()
        .take_while(|declared| declared.spec.kind() == Kind::Crib)
        .cloned()
        .collect();
    let Some((first, others @ [_, ..])) = cribs.split_first() else { return };
    for crib in others {
        let message = format!("there can be one `Crib`, and `{}` is declared at {}", first.id(), first.place);
        let fault = Diagnostic::error("second-crib", message).hint("move what it says into the first one");
        manifest.diagnostics.push(crib.point(fault, &["kind"]));
        manifest.faulty.insert(crib.id());
    }
}

/// Tells of locks whose resource is not declared; a broken file may declare it.
fn stray_locks(manifest: &mut Manifest) {
    if manifest.files.values().any(|(_, file)| file.broken) {
        return;
    }
    for (path, (_, file)) in &manifest.files {
        let declared = |id| manifest.resources.contains_key(id) || manifest.faulty.contains(id);
        if let Some(owner) = file.lock_of.as_ref().filter(|owner| !declared(owner)) {
            let place = super::Place { file: path.clone(), line: 1, column: 1 };
            let fault =
                Diagnostic::warning("stray-lock", format!("`{owner}` is not declared, and this is its lock"))
                    .hint(format!("remove it with `git rm {path}`"));
            manifest.diagnostics.push(fault.at(place, None));
        }
    }
}

/// Puts back what was last read of faulty resources and of broken files.
fn keep(manifest: &mut Manifest, previous: Option<&Manifest>) {
    let Some(previous) = previous else { return };
    for id in &manifest.faulty {
        if let Some(declared) = previous.resources.get(id) {
            manifest.resources.insert(id.clone(), declared.clone());
        }
    }
    for id in &manifest.broken_locks {
        if let Some(lock) = previous.locks.get(id) {
            manifest.locks.insert(id.clone(), lock.clone());
        }
    }
    let broken: BTreeSet<&RepoPath> =
        manifest.files.iter().filter(|(_, (_, file))| file.broken).map(|(path, _)| path).collect();
    if broken.is_empty() {
        return;
    }
    for (id, declared) in &previous.resources {
        if broken.contains(&declared.place.file) && !manifest.resources.contains_key(id) {
            manifest.resources.insert(id.clone(), declared.clone());
            manifest.faulty.insert(id.clone());
        }
    }
}

/// Whether a file that does not look like ours held resources before: then its faults matter.
fn keeps(previous: Option<&Manifest>, file: &ParsedFile) -> bool {
    let Some(path) = file.diagnostics.iter().find_map(|fault| fault.place.as_ref()).map(|place| &place.file)
    else {
        return false;
    };
    previous.is_some_and(|previous| previous.resources.values().any(|declared| declared.place.file == *path))
}
