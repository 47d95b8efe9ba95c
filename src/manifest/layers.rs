//! Bases and patches: a folder that builds on others, and changes what they declare.
//!
//! Input: the files below the manifest path and below every base. Output: one [`Manifest`], in which a
//! patched resource is read from its document with the patches merged in (RFC 7386), so that all checks
//! are those of any document. Invariants: every base is inside the repository; what is patched knows
//! which patch said what, so that a fault is shown there; unchanged inputs give the same pointers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::document::{self, Overlay, Overlays};
use super::load::{self, Files};
use super::suggest::nearest;
use super::{BlobId, Declared, Diagnostic, Manifest, ParsedFile, RepoPath, Snapshot};
use crate::resource::crib::CribSpec;
use crate::resource::{Kind, ResourceId, Spec};

/// Bases on bases: an environment on a region on a common base is three.
const MAX_DEPTH: usize = 16;
/// Folders in all: more than that is a mistake of generation.
pub(super) const MAX_FOLDERS: usize = 256;

/// The `Crib` of some files, the first by path.
fn crib(files: &Files) -> Option<&Arc<Declared>> {
    let resources = files.values().flat_map(|(_, file)| &file.resources);
    resources.into_iter().find(|declared| declared.spec.kind() == Kind::Crib)
}

fn spec(crib: &Declared) -> Option<&CribSpec> {
    match &crib.spec {
        Spec::Crib(spec) => Some(spec),
        _ => None,
    }
}

/// Whether files stand for themselves: no bases and no patches.
pub(super) fn alone(files: &Files) -> bool {
    let own = |spec: &CribSpec| spec.bases.is_empty() && spec.patches.is_empty();
    files.values().all(|(_, file)| file.bases.is_empty())
        && crib(files).and_then(|crib| spec(crib)).is_none_or(own)
}

/// A folder whose bases were found.
struct Layer {
    files: Files,
    crib: Option<Arc<Declared>>,
}

/// The search for bases.
struct Search<'a> {
    snapshot: &'a Snapshot,
    previous: Option<&'a Manifest>,
    contents: &'a BTreeMap<BlobId, Bytes>,
    /// From the manifest path to where the search is.
    open: Vec<RepoPath>,
    seen: BTreeSet<RepoPath>,
    /// Each after its bases.
    layers: Vec<Layer>,
    faults: Vec<(Arc<Declared>, Diagnostic)>,
}

impl Search<'_> {
    fn visit(&mut self, folder: RepoPath, files: Files) {
        let crib = crib(&files).cloned();
        self.open.push(folder);
        if crib.is_none() {
            // A Crib with a fault: what it builds on is read, and its own fault is told.
            for (_, file) in files.values().filter(|(_, file)| !file.bases.is_empty()) {
                file.bases.iter().for_each(|base| drop(self.folder(base)));
            }
        }
        if let Some(crib) = &crib {
            for (at, base) in spec(crib).into_iter().flat_map(|spec| &spec.bases).enumerate() {
                if let Err(fault) = self.base(crib, base) {
                    let fault = crib.point(*fault, &["spec", "bases", &at.to_string()]);
                    self.faults.push((Arc::clone(crib), fault));
                }
            }
        }
        self.open.pop();
        self.layers.push(Layer { files, crib });
    }

    fn base(&mut self, crib: &Declared, base: &str) -> Result<(), Box<Diagnostic>> {
        let Some(folder) = crib.place.file.parent().join(base) else {
            return Err(Box::new(
                Diagnostic::error("outside-repository", format!("`{base}` leaves the repository"))
                    .hint("name a folder of this repository, relative to this file"),
            ));
        };
        self.folder(&folder)
    }

    fn folder(&mut self, folder: &RepoPath) -> Result<(), Box<Diagnostic>> {
        if self.open.contains(folder) {
            let path = self.open.iter().skip_while(|open| *open != folder).chain([folder]);
            let path: Vec<String> = path.map(|folder| format!("`{}`", shown(folder))).collect();
            let message = format!("folders build on each other: {}", path.join(" -> "));
            return Err(Box::new(Diagnostic::error("cycle", message).hint("remove one of these bases")));
        }
        if let Some(open) = self.open.iter().find(|open| within(open, folder) || within(folder, open)) {
            let (folder, open) = (shown(folder), shown(open));
            let message =
                format!("the base `{folder}` and `{open}`, which builds on it, are inside each other");
            let hint = "put them side by side, such as `base` and `envs/prod`, and name the environment with `--path`";
            return Err(Box::new(Diagnostic::error("invalid-value", message).hint(hint)));
        }
        if self.snapshot.under(folder).next().is_none() {
            let message = format!("there is no folder `{folder}` in this revision");
            return Err(Box::new(
                Diagnostic::error("no-such-file", message)
                    .hint("add and commit it, or correct the path: it is relative to this file"),
            ));
        }
        if self.open.len() >= MAX_DEPTH || self.seen.len() >= MAX_FOLDERS {
            let message = format!("at most {MAX_FOLDERS} bases, {MAX_DEPTH} deep, are read");
            return Err(Box::new(Diagnostic::error("too-large", message).hint("join some of them")));
        }
        if self.seen.insert(folder.clone()) {
            let below = Snapshot { path: folder.clone(), ..self.snapshot.clone() };
            let files = load::files(&below, self.previous, self.contents);
            self.visit(folder.clone(), files);
        }
        Ok(())
    }
}

fn shown(folder: &RepoPath) -> &str {
    if folder.as_str().is_empty() { "." } else { folder.as_str() }
}

/// Whether a folder is inside another one.
fn within(inner: &RepoPath, outer: &RepoPath) -> bool {
    let outer = outer.as_str();
    outer.is_empty() || inner.as_str().strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
}

/// Joins the files of the manifest path with those of its bases, and applies the patches.
pub(super) fn assemble(
    snapshot: &Snapshot,
    previous: Option<&Manifest>,
    contents: &BTreeMap<BlobId, Bytes>,
    files: Files,
) -> Manifest {
    let (open, seen) = (Vec::new(), BTreeSet::from([snapshot.path.clone()]));
    let mut search =
        Search { snapshot, previous, contents, open, seen, layers: Vec::new(), faults: Vec::new() };
    search.visit(snapshot.path.clone(), files);
    let Search { layers, faults, .. } = search;
    let cribs: Vec<Arc<Declared>> = layers.iter().filter_map(|layer| layer.crib.clone()).collect();
    let locks = in_force(&layers);
    let all: Files = layers.into_iter().flat_map(|layer| layer.files).collect();
    let mut joined = without(&all, &cribs);
    joined.retain(|path, (_, file)| {
        file.lock_of.as_ref().is_none_or(|owner| locks.get(owner).is_none_or(|one| one == path))
    });
    let mut manifest = load::join(previous, joined);
    manifest.files = all;
    for (crib, fault) in faults {
        manifest.faulty.insert(crib.id());
        manifest.diagnostics.push(fault);
    }
    let mut patches = BTreeMap::new();
    for crib in &cribs {
        collect(&mut manifest, crib, &mut patches);
    }
    for (id, overlays) in patches {
        if let Some(base) = manifest.resources.get(&id).cloned() {
            patch(&mut manifest, previous, &id, base, overlays);
        }
    }
    one_crib(&mut manifest, previous, &cribs);
    manifest.diagnostics.sort();
    manifest.diagnostics.dedup();
    manifest
}

/// The locks that hold: where several folders have one of a resource, that of the last, which builds on the
/// others and may have changed what they declare.
fn in_force(layers: &[Layer]) -> BTreeMap<ResourceId, RepoPath> {
    let files = layers.iter().flat_map(|layer| &layer.files);
    files.filter_map(|(path, (_, file))| Some((file.lock_of.clone()?, path.clone()))).collect()
}

/// The files without the Cribs, which are joined to one.
fn without(files: &Files, cribs: &[Arc<Declared>]) -> Files {
    let is = |declared: &Arc<Declared>| cribs.iter().any(|crib| Arc::ptr_eq(crib, declared));
    let strip = |file: &Arc<ParsedFile>| {
        if !file.resources.iter().any(is) {
            return Arc::clone(file);
        }
        let mut stripped = ParsedFile::clone(file);
        stripped.resources.retain(|declared| !is(declared));
        Arc::new(stripped)
    };
    files.iter().map(|(path, (id, file))| (path.clone(), (*id, strip(file)))).collect()
}

/// The patches of one Crib, by what they change; a patch of nothing is a fault of the Crib.
fn collect(manifest: &mut Manifest, crib: &Arc<Declared>, patches: &mut BTreeMap<ResourceId, Vec<Overlay>>) {
    for (at, patch) in spec(crib).into_iter().flat_map(|spec| &spec.patches).enumerate() {
        let id = ResourceId::new(patch.kind, patch.name.clone());
        let at = at.to_string();
        if manifest.resources.contains_key(&id) && id.kind != Kind::Crib {
            let path = ["spec", "patches", &at, "patch"].map(str::to_owned).into();
            patches.entry(id).or_default().push(Overlay { crib: Arc::clone(crib), path });
        } else if !manifest.faulty.contains(&id) {
            let (field, fault) = nothing(manifest, &id);
            manifest.diagnostics.push(crib.point(fault, &["spec", "patches", &at, field]));
            manifest.faulty.insert(crib.id());
        }
    }
}

fn nothing(manifest: &Manifest, id: &ResourceId) -> (&'static str, Diagnostic) {
    if id.kind == Kind::Crib {
        let fault = Diagnostic::error("patch-of-nothing", "a `Crib` is not changed by a patch")
            .hint("write its fields in this `Crib`: they stand over those of the base");
        return ("kind", fault);
    }
    let known = manifest.resources.keys().filter(|other| other.kind == id.kind);
    let hint = match nearest(id.name.as_str(), known.map(|other| other.name.as_str())) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "correct the name, or remove the patch".to_owned(),
    };
    let message = format!("the patch changes nothing: no base declares `{id}`");
    ("name", Diagnostic::error("patch-of-nothing", message).hint(hint))
}

/// Puts the patched version of a resource in the place of the one of its base.
fn patch(
    manifest: &mut Manifest,
    previous: Option<&Manifest>,
    id: &ResourceId,
    base: Arc<Declared>,
    overlays: Vec<Overlay>,
) {
    let before = previous.and_then(|previous| previous.resources.get(id));
    let overlays = Arc::new(Overlays { base, overlays });
    let same = before.filter(|before| before.overlays.as_deref() == Some(&*overlays));
    match document::patched(&overlays) {
        Ok((patched, warnings)) => {
            // What was said of the base alone does not count.
            manifest.diagnostics.retain(|said| said.is_error() || said.resource.as_ref() != Some(id));
            manifest.diagnostics.extend(warnings);
            manifest.resources.insert(id.clone(), same.map_or_else(|| Arc::new(patched), Arc::clone));
        }
        Err(refused) => {
            manifest.diagnostics.extend(refused.diagnostics);
            manifest.faulty.insert(id.clone());
            if refused.refusing {
                manifest.refusing.insert(id.clone());
            }
            manifest.resources.remove(id);
            manifest.resources.extend(before.map(|before| (id.clone(), Arc::clone(before))));
        }
    }
}

/// The Crib of the manifest path over those of its bases.
fn one_crib(manifest: &mut Manifest, previous: Option<&Manifest>, cribs: &[Arc<Declared>]) {
    let Some((last, bases)) = cribs.split_last() else { return };
    let id = last.id();
    match bases.split_first() {
        None => {
            manifest.resources.insert(id.clone(), Arc::clone(last));
        }
        Some((base, others)) => {
            let over = |crib: &Arc<Declared>| Overlay { crib: Arc::clone(crib), path: Vec::new() };
            let overlays = others.iter().chain([last]).map(over).collect();
            manifest.resources.insert(id.clone(), Arc::clone(last));
            patch(manifest, previous, &id, Arc::clone(base), overlays);
        }
    }
    let second = manifest.resources.keys().find(|other| other.kind == Kind::Crib && **other != id);
    // One with a fault is kept from before, and refuses the revision by itself.
    let second = second.filter(|second| !manifest.faulty.contains(second)).cloned();
    if let Some(declared) = second.and_then(|second| manifest.resources.remove(&second)) {
        let message =
            format!("there can be one `Crib` in a folder, and `{id}` is declared at {}", last.place);
        let fault = Diagnostic::error("second-crib", message).hint("move what it says into the first one");
        manifest.diagnostics.push(declared.point(fault, &["kind"]));
        manifest.faulty.insert(declared.id());
    }
}
