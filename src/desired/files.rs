//! Files of the snapshot that resources refer to.
//!
//! What a command beside the daemon depends on is decided here: it runs in the folder that declares it,
//! so a `Tool` is looked at again when any file there changes, manifests aside, and a `Server` restarts
//! when a file changes in the folder of a path that its command names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::context::Context;
use super::place::Findings;
use crate::manifest::suggest::nearest;
use crate::manifest::{BlobId, Declared, Diagnostic, Manifest, Mode, RepoPath, Snapshot, TreeEntry};
use crate::resource::server::ServerSource;
use crate::resource::workload::BuildSource;
use crate::resource::{Digest, Spec};

/// The files whose contents [`super::resolve`] needs in [`super::Resolutions::blobs`]: policy modules,
/// allowed signers and ignore files of build contexts. Each is read up to [`crate::manifest::MAX_MANIFEST_BYTES`].
pub fn blobs(manifest: &Manifest, snapshot: &Snapshot) -> BTreeSet<BlobId> {
    let mut wanted = BTreeSet::new();
    for declared in manifest.resources.values() {
        let folder = || declared.place.file.parent();
        let paths: Vec<Option<RepoPath>> = match (&declared.spec, build_source(&declared.spec)) {
            (Spec::Crib(spec), _) => {
                spec.verify.iter().map(|verify| folder().join(&verify.allowed_signers)).collect()
            }
            (Spec::Policy(spec), _) => spec.modules.iter().map(|module| folder().join(module)).collect(),
            (_, Some(build)) => {
                vec![folder().join(&build.context).and_then(|context| context.join(".dockerignore"))]
            }
            _ => continue,
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
    let message = format!("there is no {what} `{path}` in this revision");
    findings.error(field, "no-such-file", message, &instead(snapshot, path));
}

/// What may have been meant by something that is not there.
fn instead(snapshot: &Snapshot, path: &RepoPath) -> String {
    let parent = path.parent();
    let depth = if parent.as_str().is_empty() { 0 } else { parent.as_str().len() + 1 };
    // A folder of any size is looked at, its names are kept once.
    let siblings: BTreeSet<&str> = snapshot
        .under(&parent)
        .filter_map(|(sibling, _)| sibling.as_str()[depth..].split('/').next())
        .take(MAX_SIBLINGS)
        .collect();
    let name = path.as_str().rsplit('/').next().unwrap_or_default();
    match nearest(name, siblings.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? Paths are relative to this file"),
        None => "add and commit it, or correct the path: it is relative to this file".to_owned(),
    }
}

/// Files of a folder that are compared with a name that is not there.
const MAX_SIBLINGS: usize = 10_000;

/// Over the files of a folder, manifests aside.
pub(super) fn contents(context: &Context<'_>, folder: &RepoPath) -> Digest {
    if let Some(known) = context.folders.borrow().get(folder) {
        return *known;
    }
    let files: Vec<_> =
        context.snapshot.under(folder).filter(|(path, _)| !context.manifest.declares(path)).collect();
    let digest = Digest::of("folder", &files);
    context.folders.borrow_mut().insert(folder.clone(), digest);
    digest
}

/// Endings of what an interpreter is given to run.
const SCRIPTS: [&str; 10] = ["cjs", "js", "lua", "mjs", "php", "pl", "py", "rb", "sh", "ts"];

/// Whether an argument names a program of this repository: `server.py`, and nothing filled in.
fn is_script(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    part.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_'))
        && part.chars().all(plain)
        && part.rsplit_once('.').is_some_and(|(name, end)| !name.is_empty() && SCRIPTS.contains(&end))
}

/// Over the files a command depends on; none when it names none of this repository. Also tells of a
/// program that is named by a path and is not there, and warns of a script that is not.
pub(super) fn of_command(
    context: &Context<'_>,
    declared: &Arc<Declared>,
    field: &[&str],
    argv: &[String],
    findings: &mut Findings<'_>,
) -> Option<Digest> {
    let folder = declared.place.file.parent();
    let snapshot = context.snapshot;
    if let Some(program) = argv.first().filter(|program| program.contains('/') && !program.starts_with('/')) {
        let at = [field, &["0"]].concat();
        let (path, entry) = file(snapshot, declared, &at, program, findings)?;
        if entry.mode != Mode::Executable {
            let hint = "make it so with `git update-index --chmod=+x`, or name the interpreter first";
            findings.error(&at, "not-executable", format!("`{path}` is not executable"), hint);
        }
    }
    for (at, part) in argv.iter().enumerate().skip(1).filter(|(_, part)| is_script(part)) {
        let there = |path: &RepoPath| snapshot.files.contains_key(path);
        if let Some(path) = folder.join(part).filter(|path| !there(path)) {
            let message = format!("there is no file `{path}` in this revision");
            let warning = Diagnostic::warning("no-such-file", message).hint(instead(snapshot, &path));
            findings.add(&[field, &[at.to_string().as_str()]].concat(), warning);
        }
    }
    let named = argv.iter().filter_map(|part| {
        let path = part.rsplit_once('=').map_or(part.as_str(), |(_, value)| value);
        let path = folder.join(path).filter(|_| !path.is_empty() && path != ".")?;
        let whole = || snapshot.under(&path).next().map(|_| path.clone());
        if snapshot.files.contains_key(&path) { Some(path.parent()) } else { whole() }
    });
    let digests: BTreeMap<RepoPath, Digest> =
        named.map(|path| (path.clone(), contents(context, &path))).collect();
    (!digests.is_empty()).then(|| Digest::of("command", &digests))
}
