//! What a workload takes from others: integrations, and servers that come first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::context::Context;
use super::place::Findings;
use super::toolset::unknown_server;
use crate::manifest::suggest::nearest;
use crate::manifest::{Declared, Diagnostic, Manifest, Place};
use crate::resource::server::Running;
use crate::resource::workload::Egress;
use crate::resource::{Digest, EnvValue, IntegrationSpec, Kind, Name, ResourceId, Spec};

/// Variables or files by name or path.
type Values = BTreeMap<String, EnvValue>;

/// Integrations by name, each with the digest of what it gives.
pub(super) struct Integrations<'a>(BTreeMap<&'a Name, (&'a Arc<Declared>, &'a IntegrationSpec, Digest)>);

impl<'a> Integrations<'a> {
    pub(super) fn of(manifest: &'a Manifest) -> Self {
        let one = |(id, declared): (&'a ResourceId, &'a Arc<Declared>)| match &declared.spec {
            Spec::Integration(spec) => {
                Some((&id.name, (declared, &**spec, Digest::of("integration", &**spec))))
            }
            _ => None,
        };
        Self(manifest.resources.iter().filter_map(one).collect())
    }

    /// The names of the variables that one gives; none when it is not there.
    pub(super) fn variables(&self, name: &Name) -> Option<impl Iterator<Item = &str>> {
        self.0.get(name).map(|(_, spec, _)| spec.env.keys().map(String::as_str))
    }

    /// What those who name it may reach.
    pub(super) fn egress(&self, name: &Name) -> &'a [Egress] {
        self.0.get(name).map_or(&[], |(_, spec, _)| &spec.egress)
    }

    /// Over what the named ones give.
    pub(super) fn digests(&self, names: &[Name]) -> Vec<Option<Digest>> {
        names.iter().map(|name| self.0.get(name).map(|(_, _, digest)| *digest)).collect()
    }
}

/// The environment and files of a workload with those of its integrations. What two sides say
/// differently is told at the place of the name of the second.
pub(super) fn merge(
    context: &Context<'_>,
    declared: &Arc<Declared>,
    names: &[Name],
    own: (&Values, &Values),
    findings: &mut Findings<'_>,
) -> (Values, Values) {
    let (mut env, mut files) = (own.0.clone(), own.1.clone());
    // Who gave a value first; what is not here the workload declares itself.
    let mut givers: BTreeMap<(&'static str, &str), &Arc<Declared>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (at, name) in names.iter().enumerate() {
        let path = ["integrations", &at.to_string()];
        if !seen.insert(name) {
            findings.error(&path, "duplicate-name", format!("`{name}` is named twice"), "remove one of them");
            continue;
        }
        let Some((giver, spec, _)) = context.integrations.0.get(name) else {
            unknown(context, &path, name, findings);
            continue;
        };
        for (field, given, values) in [("env", &spec.env, &mut env), ("files", &spec.files, &mut files)] {
            for (key, reference) in given {
                let value = EnvValue::from(reference);
                match values.get(key) {
                    Some(there) if *there == value => {}
                    Some(_) => {
                        let first = givers.get(&(field, key.as_str())).copied().unwrap_or(declared);
                        conflict(&path, (field, key), (giver, first), findings);
                    }
                    None => {
                        givers.insert((field, key), giver);
                        values.insert(key.clone(), value);
                    }
                }
            }
        }
    }
    (env, files)
}

fn conflict(
    path: &[&str],
    (field, key): (&str, &str),
    (giver, first): (&Arc<Declared>, &Arc<Declared>),
    findings: &mut Findings<'_>,
) {
    let what = if field == "env" { "variable" } else { "file" };
    let message = format!(
        "the {what} `{key}` is declared at {} and differently at {}",
        place(first, field, key),
        place(giver, field, key)
    );
    findings.error(
        path,
        "conflict",
        message,
        "give it once: remove one of them, or name only one of the two",
    );
}

fn place(declared: &Declared, field: &str, key: &str) -> Place {
    let found = declared.point(Diagnostic::error("conflict", ""), &["spec", field, key]);
    found.place.unwrap_or_else(|| declared.place.clone())
}

fn unknown(context: &Context<'_>, path: &[&str], name: &Name, findings: &mut Findings<'_>) {
    let id = ResourceId::new(Kind::Integration, name.clone());
    if context.manifest.faulty.contains(&id) {
        let message = format!("the integration `{name}` is declared with a fault");
        findings.error(path, "faulty-reference", message, &format!("correct `{id}` first"));
        return;
    }
    let known = context.integrations.0.keys().map(|name| name.as_str());
    let hint = match nearest(name.as_str(), known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "declare it: `kind: Integration` with `env` or `files`".to_owned(),
    };
    findings.error(path, "unknown-integration", format!("there is no integration `{name}`"), &hint);
}

/// What servers wait for, as declared.
pub(super) struct Dependencies<'a>(BTreeMap<&'a Name, &'a [Name]>);

impl<'a> Dependencies<'a> {
    pub(super) fn of(manifest: &'a Manifest) -> Self {
        let one = |(id, declared): (&'a ResourceId, &'a Arc<Declared>)| match &declared.spec {
            Spec::Server(spec) if !spec.depends_on.is_empty() => Some((&id.name, &*spec.depends_on)),
            _ => None,
        };
        Self(manifest.resources.iter().filter_map(one).collect())
    }

    /// The shortest way from a server back to itself through its `at`th dependency, both ends included.
    fn cycle(&self, name: &'a Name, at: usize) -> Option<Vec<&'a Name>> {
        let first = self.0.get(name)?.get(at)?;
        let mut before: BTreeMap<&Name, &Name> = BTreeMap::from([(first, name)]);
        let mut open = std::collections::VecDeque::from([first]);
        while let Some(here) = open.pop_front() {
            if here == name {
                let mut path = vec![here];
                let mut at = before.get(here).copied()?;
                while at != name {
                    path.push(at);
                    at = before.get(at).copied()?;
                }
                path.push(name);
                path.reverse();
                return Some(path);
            }
            for next in self.0.get(here).copied().unwrap_or_default() {
                if !before.contains_key(next) {
                    before.insert(next, here);
                    open.push_back(next);
                }
            }
        }
        None
    }

    /// What resolving the dependencies of a server depends on beyond its own text.
    pub(super) fn inputs(&self, manifest: &Manifest, name: &Name) -> Digest {
        let Some((name, names)) = self.0.get_key_value(name) else { return Digest::of("needs", &()) };
        let known = |name| (is_server(manifest, name), on_demand(manifest, name));
        let known: Vec<(bool, bool)> = names.iter().map(known).collect();
        let cycles: Vec<_> = (0..names.len()).map(|at| self.cycle(name, at)).collect();
        Digest::of("needs", &(known, cycles))
    }
}

fn is_server(manifest: &Manifest, name: &Name) -> bool {
    let id = ResourceId::new(Kind::Server, name.clone());
    manifest.resources.contains_key(&id) || manifest.faulty.contains(&id)
}

/// Checks what a server waits for.
pub(super) fn dependencies(context: &Context<'_>, name: &Name, names: &[Name], findings: &mut Findings<'_>) {
    let Some((name, _)) = context.dependencies.0.get_key_value(name) else { return };
    for (at, needed) in names.iter().enumerate() {
        let step = at.to_string();
        let path = ["dependsOn", step.as_str()];
        if !is_server(context.manifest, needed) {
            unknown_server(context.manifest, &path, needed, findings);
        } else if let Some(cycle) = context.dependencies.cycle(name, at) {
            let cycle: Vec<String> = cycle.iter().map(|name| format!("`{name}`")).collect();
            let message = format!("servers wait for each other: {}", cycle.join(" -> "));
            findings.error(&path, "cycle", message, "remove one of these dependencies");
        } else if on_demand(context.manifest, needed) {
            let message = format!("`{needed}` starts on demand, so that nothing can wait until it runs");
            let hint = "let it run always (`lifecycle: always`), or remove the dependency";
            findings.error(&path, "conflict", message, hint);
        }
    }
}

fn on_demand(manifest: &Manifest, name: &Name) -> bool {
    let id = ResourceId::new(Kind::Server, name.clone());
    let lifecycle = match manifest.resources.get(&id).map(|declared| &declared.spec) {
        Some(Spec::Server(spec)) => spec.lifecycle.as_deref(),
        _ => None,
    };
    lifecycle.is_some_and(|lifecycle| lifecycle.mode == Running::OnDemand)
}
