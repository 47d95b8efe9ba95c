//! Whether locks hold: from the repository alone, and by asking.

use std::collections::BTreeSet;

use super::{Outcome, Word, path_of};
use crate::admin::LockView;
use crate::cli::validate::Loaded;
use crate::config::Config;
use crate::desired::source_of;
use crate::lock::stale::Now;
use crate::lock::{Change, Difference, Resolved};
use crate::manifest::{RepoPath, parse_lock};
use crate::resource::server::{ServerSource, Trust};
use crate::resource::{Kind, ResourceId, Spec};

/// What the repository says of each lock. `named`: each of them has to have one.
pub(super) fn stale(
    config: &Config,
    loaded: &Loaded,
    chosen: &BTreeSet<ResourceId>,
    named: bool,
) -> Vec<Outcome> {
    chosen.iter().map(|id| one(config, loaded, id, named)).collect()
}

fn one(config: &Config, loaded: &Loaded, id: &ResourceId, named: bool) -> Outcome {
    let mut outcome = Outcome {
        resource: id.clone(),
        path: loaded
            .manifest
            .lock_file(&config.path, id)
            .map_or_else(|| path_of(config, id), ToString::to_string),
        state: Word::Fresh,
        differences: Vec::new(),
        why: Vec::new(),
    };
    let declared = loaded.manifest.resources.get(id);
    let trust = declared.and_then(|declared| match &declared.spec {
        Spec::Server(spec) => spec.tools.trust,
        _ => None,
    });
    if loaded.manifest.broken_locks.contains(id) {
        outcome.why.push("it cannot be read; `toolcrib validate` says why".to_owned());
    } else if let Some(lock) = loaded.manifest.locks.get(id) {
        if let Some(now) = now(loaded, id) {
            outcome.why = lock.stale(&now);
        } else {
            let fault = loaded.diagnostics.iter().find(|fault| fault.resource.as_ref() == Some(id));
            let why = fault.map_or("it cannot be resolved", |fault| &fault.message);
            outcome.why.push(why.to_owned());
        }
    } else if named || matches!(trust, Some(Trust::Locked | Trust::Reviewed)) {
        outcome.why.push("there is no lock".to_owned());
    } else {
        outcome.state = Word::Unlocked;
    }
    if !outcome.why.is_empty() {
        outcome.state = Word::Stale;
    }
    outcome
}

/// What a resource is made of, as far as the repository says.
fn now(loaded: &Loaded, id: &ResourceId) -> Option<Now> {
    let declared = loaded.manifest.resources.get(id)?;
    let mut resolved = Resolved::default();
    match id.kind {
        Kind::Server => {
            let server = loaded.desired.servers.get(&id.name)?;
            resolved.build = server.digests.build;
            resolved.files = server.files;
        }
        _ => resolved.build = loaded.desired.tools.get(&id.name)?.digests.build,
    }
    if let Spec::Server(spec) = &declared.spec
        && let ServerSource::Package(package) = &spec.source
    {
        resolved.version = Some(package.version.clone());
    }
    Some(Now { source: source_of(&declared.spec)?, resolved })
}

/// Adds what the servers said when they were asked.
pub(super) fn compare(outcomes: &mut [Outcome], loaded: &Loaded, found: Vec<LockView>) {
    for LockView { resource, lock, error } in found {
        let Some(outcome) = outcomes.iter_mut().find(|outcome| outcome.resource == resource) else {
            continue;
        };
        let read = lock.zip(RepoPath::parse(&outcome.path));
        let read = read.and_then(|(text, path)| parse_lock(&path, &resource, text.as_bytes()).lock);
        let old = loaded.manifest.locks.get(&resource);
        if let (Some(new), Some(old)) = (read, old) {
            outcome.differences = super::write::differences(old, &new);
            // Hashes are compared only where somebody knew them both times.
            let mut then = old.resolved.clone();
            if then.hashes.is_empty() || new.resolved.hashes.is_empty() {
                then.hashes.clone_from(&new.resolved.hashes);
            }
            if then != new.resolved {
                outcome.why.push("its source resolves to something else now".to_owned());
            }
        } else {
            outcome.why.push(error.unwrap_or_else(|| "it could not be asked".to_owned()));
        }
        if !(outcome.why.is_empty() && outcome.differences.is_empty()) {
            outcome.state = Word::Stale;
        }
    }
}

/// A difference for people, field by field.
pub(in crate::cli) fn lines(difference: &Difference) -> Vec<String> {
    let mut lines = vec![difference.to_string()];
    if let Change::Changed(fields) = &difference.change {
        lines.extend(fields.iter().map(|field| format!("  {field}")));
    }
    lines
}
