//! What a resource may reach, and what of that is more than before: shown first.
//!
//! Each resource holds grants; what it holds now and did not hold before widens, also when the resource
//! is new. Where things come from, how far they are believed and which rules hold are compared by
//! themselves (`reach/origin.rs`, `reach/rules.rs`).

mod origin;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Concern, Side};
use crate::desired::remote::Credentials;
use crate::desired::{Location, Workload};
use crate::manifest::{Declared, Place};
use crate::resource::runner::RunnerKind;
use crate::resource::workload::Security;
use crate::resource::{EnvValue, Kind, Name, ResourceId, SecretRef, Spec};

/// What a grant is known by: its code, and the repository's words for what is granted.
type Key = (&'static str, String);

/// What one resource holds.
#[derive(Default)]
struct Grants(BTreeMap<Key, Grant>);

struct Grant {
    says: &'static str,
    /// Where it is said: the steps of a field.
    field: Vec<String>,
}

impl Grants {
    fn add(&mut self, code: &'static str, what: impl Into<String>, says: &'static str, field: &[&str]) {
        let field = field.iter().map(|step| (*step).to_owned()).collect();
        self.0.entry((code, what.into())).or_insert(Grant { says, field });
    }
}

/// Everything that needs a careful look.
pub(super) fn compare(sides: (&Side<'_>, &Side<'_>)) -> Vec<Concern> {
    let (before, after) = sides;
    let mut concerns = Vec::new();
    for (id, declared) in &after.manifest.resources {
        let held = before.manifest.resources.get(id).map(|declared| grants(id, declared, before));
        for ((code, what), grant) in grants(id, declared, after).0 {
            let held = held.as_ref().is_some_and(|held| held.0.contains_key(&(code, what.clone())));
            if !held {
                let field: Vec<&str> = grant.field.iter().map(String::as_str).collect();
                concerns.push(Concern {
                    widens: true,
                    resource: id.clone(),
                    code,
                    says: grant.says.to_owned(),
                    before: None,
                    after: Some(what).filter(|what| !what.is_empty()),
                    place: Some(declared.place_of(&field)),
                });
            }
        }
    }
    concerns.extend(origin::compare(sides));
    concerns.extend(rules::compare(sides));
    concerns
}

fn grants(id: &ResourceId, declared: &Declared, side: &Side<'_>) -> Grants {
    let mut grants = Grants::default();
    match id.kind {
        Kind::Server | Kind::Tool => {
            workload(id, side, &mut grants);
            listed(&spec_of(declared), &mut grants);
        }
        Kind::Runner => runner(&spec_of(declared), &mut grants),
        Kind::Crib => crib(&spec_of(declared), &mut grants),
        Kind::Policy => {}
        _ => {
            references(&spec_of(declared), &mut grants);
            listed(&spec_of(declared), &mut grants);
        }
    }
    if let Spec::Server(spec) = &declared.spec {
        origin::credentials(&spec.source, &mut grants);
    }
    grants
}

/// The declared part as a value, with the names of the file.
fn spec_of(declared: &Declared) -> Value {
    let value = match &declared.spec {
        Spec::Crib(spec) => serde_json::to_value(spec),
        Spec::Runner(spec) => serde_json::to_value(spec),
        Spec::Policy(spec) => serde_json::to_value(spec),
        Spec::Integration(spec) => serde_json::to_value(spec),
        Spec::Server(spec) => serde_json::to_value(spec),
        Spec::Tool(spec) => serde_json::to_value(spec),
        Spec::Toolset(spec) => serde_json::to_value(spec),
    };
    value.unwrap_or_default()
}

/// What was resolved for a server or a tool: with the defaults of the Crib and what integrations give.
fn workload(id: &ResourceId, side: &Side<'_>, grants: &mut Grants) {
    let process = |runner: &Name| {
        side.desired.runners.get(runner).is_some_and(|runner| runner.kind == RunnerKind::Process)
    };
    let found = if id.kind == Kind::Server {
        side.desired.servers.get(&id.name).and_then(|server| match &server.location {
            Location::Runner(workload) => {
                let Workload { runner, security, env, files, egress, .. } = &**workload;
                Some((runner, &**security, env, files, egress))
            }
            Location::Remote { url, credentials } => {
                if let Some(credentials) = credentials {
                    shown(url, credentials, grants);
                }
                None
            }
        })
    } else {
        let tool = side.desired.tools.get(&id.name);
        tool.map(|tool| (&tool.runner, &*tool.security, &tool.env, &tool.files, &tool.egress))
    };
    let Some((runner, security, env, files, egress)) = found else { return };
    for to in egress.iter() {
        grants.add("egress", to.to_string(), "may reach", &["spec", "egress"]);
    }
    secrets(env, "env", grants);
    secrets(files, "files", grants);
    if process(runner) {
        let says = "runs beside the daemon, not in a container, on the runner";
        return grants.add("process", runner.as_str(), says, &["spec", "runner"]);
    }
    confinement(security, grants);
}

/// Secrets that leave for a server elsewhere, each with where it goes: another address is another grant.
fn shown(url: &str, credentials: &Credentials, grants: &mut Grants) {
    let says = "sends elsewhere the secret";
    for (name, value) in &credentials.env {
        if let EnvValue::Secret(reference) = value {
            let what = format!("{} to {url}", told_secret(reference));
            grants.add("secret", what, says, &["spec", "env", name]);
        }
    }
    if let Some(user) = &credentials.user {
        let field = ["spec", "userOAuth"];
        grants.add("token", format!("each user's own token to {url}"), "sends elsewhere", &field);
        if let Some(secret) = &user.client_secret {
            let to = user.provider.as_ref().map_or(url, |provider| &provider.token_url);
            let what = format!("{} to {to}", told_secret(&secret.secret));
            grants.add("secret", what, says, &["spec", "userOAuth", "clientSecret"]);
        }
    }
    if let Some(oauth) = &credentials.oauth {
        if let Some(secret) = &oauth.client_secret {
            let what = format!("{} to {}", told_secret(&secret.secret), oauth.token_url);
            grants.add("secret", what, says, &["spec", "oauth", "clientSecret"]);
        }
        if let Some(key) = &oauth.client_key {
            let what = format!("{} to {}", told_secret(&key.private_key.secret), oauth.token_url);
            grants.add("key", what, "proves who it is with", &["spec", "oauth", "clientKey"]);
        }
        let what = format!("a token of {} to {url}", oauth.token_url);
        grants.add("token", what, "sends elsewhere", &["spec", "oauth"]);
    }
}

fn confinement(security: &Security, grants: &mut Grants) {
    let user = security.user.split(':').next().unwrap_or_default();
    if user == "root" || user.parse() == Ok(0_u64) {
        grants.add("root", "", "runs as root", &["spec", "security", "user"]);
    }
    if !security.read_only_root {
        let says = "may write to its whole file system";
        grants.add("writable-root", "", says, &["spec", "security", "readOnlyRoot"]);
    }
    for capability in &security.capabilities {
        let says = "has the capability";
        grants.add("capability", capability.as_str(), says, &["spec", "security", "capabilities"]);
    }
}

fn secrets(values: &BTreeMap<String, EnvValue>, field: &str, grants: &mut Grants) {
    for (name, value) in values {
        if let EnvValue::Secret(reference) = value {
            let says = "is given the secret";
            grants.add("secret", told_secret(reference), says, &["spec", field, name]);
        }
    }
}

/// `env NAME`, `file /path`: where it comes from, which is all that is known of it here.
fn told_secret(reference: &SecretRef) -> String {
    told_reference(&serde_json::to_value(reference).unwrap_or_default())
}

fn told_reference(reference: &Value) -> String {
    let parts = reference.as_object().into_iter().flatten();
    let parts: Vec<String> = parts.map(|(kind, value)| format!("{kind} {}", plain(value))).collect();
    parts.join(", ")
}

/// A value without the quotes of text.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Volumes and integrations, as a spec lists them.
fn listed(spec: &Value, grants: &mut Grants) {
    for item in spec.get("integrations").and_then(Value::as_array).into_iter().flatten() {
        let says = "is given what the integration holds:";
        grants.add("integration", plain(item), says, &["spec", "integrations"]);
    }
    for (path, volume) in spec.get("volumes").and_then(Value::as_object).into_iter().flatten() {
        let name = volume.get("name").map(plain).unwrap_or_default();
        let reads = volume.get("readOnly").and_then(Value::as_bool) == Some(true);
        let (code, says) =
            if reads { ("volume-read", "reads the volume") } else { ("volume", "writes the volume") };
        grants.add(code, format!("{name} at {path}"), says, &["spec", "volumes", path]);
    }
}

/// Secrets of a resource that others ask for by name, and where those may reach.
fn references(spec: &Value, grants: &mut Grants) {
    for item in spec.get("egress").and_then(Value::as_array).into_iter().flatten() {
        grants.add("egress", plain(item), "lets whoever names it reach", &["spec", "egress"]);
    }
    for field in ["env", "files"] {
        for (name, value) in spec.get(field).and_then(Value::as_object).into_iter().flatten() {
            if let Some(reference) = value.get("secret") {
                let says = "gives whoever names it the secret";
                grants.add("secret", told_reference(reference), says, &["spec", field, name]);
            }
        }
    }
}

fn runner(spec: &Value, grants: &mut Grants) {
    let kinds = ["attributes", "build", "capacity", "region", "cost", "labels"];
    for (kind, value) in
        spec.as_object().into_iter().flatten().filter(|(kind, _)| !kinds.contains(&kind.as_str()))
    {
        if kind == "process" {
            grants.add("process", "", "runs commands beside the daemon", &["spec", "process"]);
        }
        if let Some(host) = value.get("host").and_then(Value::as_str) {
            grants.add("engine", host, "runs things on the engine", &["spec", kind, "host"]);
        }
    }
    if let Some(network) =
        spec.pointer("/build/network").and_then(Value::as_str).filter(|network| *network != "none")
    {
        grants.add("build-network", network, "lets builds use the network", &["spec", "build", "network"]);
    }
    if let Some(ca) = spec.pointer("/build/ca").and_then(Value::as_str) {
        grants.add("build-ca", ca, "lets builds trust the certificates in", &["spec", "build", "ca"]);
    }
}

fn crib(spec: &Value, grants: &mut Grants) {
    for registration in spec.get("register").and_then(Value::as_array).into_iter().flatten() {
        let says = "tells another place of every tool:";
        let url = registration.get("url").map(plain).unwrap_or_default();
        grants.add("registration", url, says, &["spec", "register"]);
        if let Some(reference) = registration.pointer("/key/secret") {
            grants.add(
                "secret",
                told_reference(reference),
                "sends elsewhere the secret",
                &["spec", "register"],
            );
        }
    }
    for base in spec.get("bases").and_then(Value::as_array).into_iter().flatten() {
        grants.add("base", plain(base), "builds on the documents in", &["spec", "bases"]);
    }
}

/// A concern of a resource that was there before.
fn concern(
    id: &ResourceId,
    (widens, code, says): (bool, &'static str, &str),
    (before, after): (Option<String>, Option<String>),
    place: Option<Place>,
) -> Concern {
    Concern { widens, resource: id.clone(), code, says: says.to_owned(), before, after, place }
}

/// The ids of resources of both sides that are declared on either.
fn ids(sides: (&Side<'_>, &Side<'_>)) -> BTreeSet<ResourceId> {
    sides.0.manifest.resources.keys().chain(sides.1.manifest.resources.keys()).cloned().collect()
}
