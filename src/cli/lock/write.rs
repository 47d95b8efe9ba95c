//! Which files change, and writing them into the work tree.

#![expect(clippy::disallowed_methods, reason = "locks are files of the work tree")]

use std::path::Path;

use super::{Outcome, Word, path_of};
use crate::admin::LockView;
use crate::cli::error::{CliError, CliResult};
use crate::cli::validate::Loaded;
use crate::config::Config;
use crate::lock::{Definitions, Difference, Lock, compare};
use crate::manifest::{MAX_MANIFEST_BYTES, RepoPath, parse_lock};

/// A file of the repository; none: it is removed, or was not there.
pub(in crate::cli) type File = (RepoPath, Option<Vec<u8>>);

/// What is to be written.
pub(in crate::cli) struct Plan {
    pub(in crate::cli) outcomes: Vec<Outcome>,
    pub(in crate::cli) files: Vec<File>,
}

/// What was found, beside what stands in the repository.
pub(in crate::cli) fn plan(config: &Config, loaded: &Loaded, found: Vec<LockView>) -> Plan {
    let mut plan = Plan { outcomes: Vec::new(), files: Vec::new() };
    for LockView { resource, lock, error } in found {
        let path = path_of(config, &resource);
        let old = loaded.manifest.locks.get(&resource).map(AsRef::as_ref);
        let mut outcome = Outcome {
            resource: resource.clone(),
            path: path.clone(),
            state: Word::Failed,
            differences: Vec::new(),
            why: error.into_iter().collect(),
        };
        let place = RepoPath::parse(&path);
        if let (Some(text), Some(place)) = (lock, place) {
            let read = parse_lock(&place, &resource, text.as_bytes());
            if text.len() > MAX_MANIFEST_BYTES {
                outcome.why.push(format!("its lock would have more than {} MiB", MAX_MANIFEST_BYTES >> 20));
            } else if let Some(new) = read.lock {
                let same = old.is_some_and(|old| old.write() == text);
                outcome.state = if same { Word::Unchanged } else { Word::Written };
                outcome.differences = old.map(|old| differences(old, &new)).unwrap_or_default();
                // A lock that says the same in another spelling is written anew too; that of a base is left to
                // hold for it.
                if !same || loaded.manifest.files.contains_key(&place) {
                    plan.files.push((place, Some(text.into_bytes())));
                }
            } else {
                outcome.why.extend(read.diagnostics.iter().map(ToString::to_string));
            }
        }
        plan.outcomes.push(outcome);
    }
    plan
}

/// From one lock to another.
pub(super) fn differences(old: &Lock, new: &Lock) -> Vec<Difference> {
    let nothing = Definitions::default();
    compare(old.offer.as_ref().unwrap_or(&nothing), new.offer.as_ref().unwrap_or(&nothing))
}

impl Plan {
    /// Locks of what is not declared go.
    pub(super) fn remove_strays(&mut self, config: &Config, loaded: &Loaded) {
        let manifest = &loaded.manifest;
        for (path, (_, file)) in &manifest.files {
            let Some(owner) = &file.lock_of else { continue };
            // A file that cannot be read may declare it.
            let broken = manifest.files.values().any(|(_, file)| file.broken);
            if broken || manifest.resources.contains_key(owner) || manifest.faulty.contains(owner) {
                continue;
            }
            self.files.push((path.clone(), None));
            self.outcomes.push(Outcome {
                resource: owner.clone(),
                path: path_of(config, owner),
                state: Word::Removed,
                differences: Vec::new(),
                why: Vec::new(),
            });
        }
    }
}

/// Writes into the work tree whose root is `root`, never through a symbolic link.
/// What stood there before is given back.
pub(in crate::cli) fn write(root: &Path, files: &[File]) -> CliResult<Vec<File>> {
    let mut before = Vec::new();
    let root = root.ancestors().find(|folder| folder.join(".git").exists()).unwrap_or(root);
    for (path, text) in files {
        let file = root.join(path.as_str());
        let failed =
            |error: std::io::Error| CliError::failure(format!("failed to write `{path}`")).caused_by(&error);
        let folder = path.parent();
        let mut inside = root.to_owned();
        for part in folder.as_str().split('/').filter(|part| !part.is_empty()) {
            inside.push(part);
            if inside.is_symlink() {
                return Err(CliError::failure(format!("`{folder}` leads through a symbolic link"))
                    .hint("locks are written into folders of the repository only"));
            }
        }
        let old = std::fs::read(&file).ok();
        if old == *text {
            continue;
        }
        before.push((path.clone(), old));
        match text {
            Some(text) => {
                std::fs::create_dir_all(&inside).map_err(failed)?;
                // Whole or not at all: written beside, then moved into its place.
                let beside = inside.join(format!(".lock-{}", std::process::id()));
                std::fs::write(&beside, text).map_err(failed)?;
                std::fs::rename(&beside, &file).map_err(failed)?;
            }
            None => match std::fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            },
        }
    }
    Ok(before)
}
