//! Published names, as far as they are known before anything runs.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::{Desired, Server};
use crate::manifest::{Declared, Diagnostic, Manifest};
use crate::resource::{ResourceId, Spec};

/// `include` and `exclude` of a server, over its own names.
pub struct Filter {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Filter {
    /// # Errors
    /// When a pattern is none, which is checked when a manifest is read.
    pub fn of(server: &Server) -> Result<Self, String> {
        let include = if server.include.is_empty() { None } else { Some(globs(&server.include)?) };
        Ok(Self { include, exclude: globs(&server.exclude)? })
    }

    pub fn takes(&self, name: &str) -> bool {
        self.include.as_ref().is_none_or(|include| include.is_match(name)) && !self.exclude.is_match(name)
    }
}

fn globs(patterns: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(|error| format!("`{pattern}` is not a pattern: {error}"))?);
    }
    set.build().map_err(|error| format!("the patterns are too large: {error}"))
}

/// Names that several resources want, told at each of them. Who has a name keeps it at run time: no
/// resource is refused for it.
pub(super) fn collisions(manifest: &Manifest, desired: &Desired) -> Vec<Diagnostic> {
    let tools = desired.tools.values().map(|tool| (Cow::from(tool.published.as_str()), &tool.id));
    let mut owners: Vec<(Cow<'_, str>, &ResourceId)> = tools.collect();
    for server in desired.servers.values().filter(|server| server.synced) {
        owners.extend(known(manifest, server).into_iter().map(|name| (Cow::from(name), &server.id)));
    }
    owners.sort_unstable();
    let mut found = Vec::new();
    for same in owners.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
        for (at, (name, id)) in same.iter().enumerate() {
            let (_, other) = &same[usize::from(at == 0)];
            if let (Some(this), Some(other)) = (manifest.resources.get(*id), manifest.resources.get(*other)) {
                found.push(tell(name, this, other));
            }
        }
    }
    found
}

/// The names a server's tools would have, of those its lock or its overrides name.
fn known(manifest: &Manifest, server: &Server) -> BTreeSet<String> {
    let overrides = &server.presented.overrides;
    let Ok(filter) = Filter::of(server) else { return BTreeSet::new() };
    let lock = manifest.locks.get(&server.id).and_then(|lock| lock.offer.as_ref());
    let listed = lock.into_iter().flat_map(|offer| &offer.tools).map(|tool| &*tool.name);
    let renamed = overrides.iter().filter(|(_, change)| change.name.is_some()).map(|(own, _)| own.as_str());
    let offered = |own: &&str| filter.takes(own) && overrides.get(*own).is_none_or(|change| !change.hidden);
    listed.chain(renamed).filter(offered).map(|own| server.published(own)).collect()
}

fn tell(name: &str, this: &Arc<Declared>, other: &Arc<Declared>) -> Diagnostic {
    let (field, hint): (&[&str], _) = match &this.spec {
        Spec::Server(_) => {
            (&["spec", "tools"], "give one of them another prefix, or exclude or rename the tool in `tools`")
        }
        Spec::Tool(spec) if spec.publish_as.is_some() => {
            (&["spec", "publishAs"], "give one of them another name")
        }
        _ => (&["metadata", "name"], "give one of them another name with `publishAs`"),
    };
    let message = format!("`{name}` is also published by {} at {}", other.id(), other.place);
    this.point(Diagnostic::error("name-collision", message).hint(hint), field)
}
