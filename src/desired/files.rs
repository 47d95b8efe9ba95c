//! Files of the snapshot that resources refer to.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::place::Findings;
use crate::manifest::suggest::nearest;
use crate::manifest::{BlobId, Declared, Manifest, Mode, RepoPath, Snapshot, TreeEntry};
use crate::resource::Spec;
use crate::resource::server::ServerSource;
use crate::resource::workload::BuildSource;

/// The files whose contents [`super::resolve`] needs in [`super::Resolutions::blobs`]: policy modules
/// and ignore files of build contexts. Each is read up to [`crate::manifest::MAX_MANIFEST_BYTES`].
pub fn blobs(manifest: &Manifest, snapshot: &Snapshot) -> BTreeSet<BlobId> {
    let mut wanted = BTreeSet::new();
    for declared in manifest.resources.values() {
        let folder = declared.place.file.parent();
        let paths: Vec<Option<RepoPath>> = match &declared.spec {
            Spec::Policy(spec) => spec.modules.iter().map(|module| folder.join(module)).collect(),
            Spec::Server(_) | Spec::Tool(_) => build_source(&declared.spec)
                .map(|build| folder.join(&build.context).and_then(|context| context.join(".dockerignore")))
                .into_iter()
                .collect(),
            Spec::Crib(_) | Spec::Runner(_) => continue,
        };
        let entries = paths.into_iter().flatten().filter_map(|path| snapshot.files.get(&path));
        wanted.extend(entries.filter(|entry| regular(entry.mode)).map(|entry| entry.id));
    }
    wanted
}

/// The build of a resource from files of the snapshot, when it has one.
pub(super) fn build_source(spec: &Spec) -> Option<&BuildSource> {
    match spec {
        Spec::Server(spec) => match &spec.source {
            ServerSource::Build(build) => Some(build),
            _ => None,
        },
        Spec::Tool(spec) => spec.build.as_ref(),
        _ => None,
    }
}

pub(super) fn regular(mode: Mode) -> bool {
    matches!(mode, Mode::File | Mode::Executable)
}

/// A file named relative to the file that declares it; a fault unless it is there and a file.
pub(super) fn file(
    snapshot: &Snapshot,
    declared: &Arc<Declared>,
    field: &[&str],
    relative: &str,
    findings: &mut Findings<'_>,
) -> Option<(RepoPath, TreeEntry)> {
    let Some(path) = declared.place.file.parent().join(relative) else {
        let message = format!("`{relative}` leaves the repository");
        findings.error(
            field,
            "outside-repository",
            message,
            "name a file of this repository, relative to this file",
        );
        return None;
    };
    match snapshot.files.get(&path) {
        Some(entry) if regular(entry.mode) => Some((path, *entry)),
        Some(entry) => {
            special(field, &path, entry.mode, findings);
            None
        }
        None => {
            absent(snapshot, field, &path, "file", findings);
            None
        }
    }
}

/// Tells of something that is there but is never followed.
pub(super) fn special(field: &[&str], path: &RepoPath, mode: Mode, findings: &mut Findings<'_>) {
    let (code, what) = match mode {
        Mode::Symlink => ("symlink", "a symbolic link, which is not followed"),
        _ => ("submodule", "a submodule, whose files are not part of this repository"),
    };
    findings.error(
        field,
        code,
        format!("`{path}` is {what}"),
        "put the files themselves there, or name where they are",
    );
}

/// Tells of something that is not there, and of what is.
pub(super) fn absent(
    snapshot: &Snapshot,
    field: &[&str],
    path: &RepoPath,
    what: &str,
    findings: &mut Findings<'_>,
) {
    let parent = path.parent();
    let depth = if parent.as_str().is_empty() { 0 } else { parent.as_str().len() + 1 };
    // A folder of any size is looked at, its names are kept once.
    let siblings: BTreeSet<&str> = snapshot
        .under(&parent)
        .filter_map(|(sibling, _)| sibling.as_str()[depth..].split('/').next())
        .take(MAX_SIBLINGS)
        .collect();
    let name = path.as_str().rsplit('/').next().unwrap_or_default();
    let hint = match nearest(name, siblings.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? Paths are relative to this file"),
        None => "add and commit it, or correct the path: it is relative to this file".to_owned(),
    };
    let message = format!("there is no {what} `{path}` in this revision");
    findings.error(field, "no-such-file", message, &hint);
}

/// Files of a folder that are compared with a name that is not there.
const MAX_SIBLINGS: usize = 10_000;
