//! What a type cannot say of a single resource: exclusive fields, forms of names, and warnings.
//!
//! Not here: whatever needs another resource or the tree ([`crate::desired`]).

mod later;
mod lifecycle;
mod contract;
mod server;
mod tool;
mod toolset;
mod warn;
mod words;

use std::collections::BTreeSet;
use std::time::Duration;

use super::read::Fault;
use super::tree::Node;
use super::{Declared, Diagnostic};
use crate::resource::crib::CribSpec;
use crate::resource::integration::IntegrationSpec;
use crate::resource::policy::{OpaSource, Point, PolicySpec};
use crate::resource::runner::RunnerSpec;
use crate::resource::workload::{BuildSource, Egress, Security, Volumes};
use crate::resource::{EnvValue, SecretRef, Spec};

pub(super) use toolset::access_fails;
pub use warn::credential;

/// What works but should not stay.
pub(super) fn warnings(root: &Node<'_>, declared: &Declared) -> Vec<Diagnostic> {
    let mut found = warn::warnings(root, declared);
    found.extend(words::warnings(root, declared));
    found
}

/// Checks one resource, of which `root` is the document.
pub(super) fn spec(root: &Node<'_>, spec: &Spec, faults: &mut BTreeSet<Fault>) {
    let mut check = Check { root, faults };
    match spec {
        Spec::Crib(spec) => crib(&mut check, spec),
        Spec::Runner(spec) => runner(&mut check, spec),
        Spec::Policy(spec) => policy(&mut check, spec),
        Spec::Integration(spec) => integration(&mut check, spec),
        Spec::Server(spec) => server::server(&mut check, spec),
        Spec::Tool(spec) => tool::tool(&mut check, spec),
        Spec::Toolset(spec) => toolset::toolset(&mut check, spec),
    }
    later::refuse(&mut check, spec);
}

/// The faults of one document.
struct Check<'n, 'f> {
    root: &'n Node<'n>,
    faults: &'f mut BTreeSet<Fault>,
}

impl Check<'_, '_> {
    /// A fault of the field at `path` below `spec`.
    fn fault(&mut self, path: &[&str], code: &'static str, message: impl Into<String>, hint: &str) {
        let path: Vec<&str> = std::iter::once("spec").chain(path.iter().copied()).collect();
        let mark = self.root.locate(&path);
        self.faults.insert(Fault { mark, code, message: message.into(), hint: Some(hint.to_owned()) });
    }

    fn invalid(&mut self, path: &[&str], message: impl Into<String>, hint: &str) {
        self.fault(path, "invalid-value", message, hint);
    }

    /// A fault of the key itself.
    fn invalid_key(&mut self, path: &[&str], message: String, hint: &str) {
        let path: Vec<&str> = std::iter::once("spec").chain(path.iter().copied()).collect();
        let mark = self.root.locate_key(&path);
        self.faults.insert(Fault { mark, code: "invalid-value", message, hint: Some(hint.to_owned()) });
    }

    /// A fault unless `text` consists of what published names consist of.
    fn name_part(&mut self, path: &[&str], text: &str) {
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')) || text.len() > 64 {
            let message = format!("`{text}` cannot be part of a published name");
            self.invalid(path, message, "use at most 64 of a-z, A-Z, 0-9, `_` and `-`");
        }
    }

    fn env<'e>(&mut self, names: impl Iterator<Item = (&'e String, &'e EnvValue)>) {
        for (name, value) in names {
            self.variable(name);
            self.value(&["env", name], value);
        }
    }

    fn variable(&mut self, name: &str) {
        let fits =
            |(at, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit());
        if name.is_empty() || !name.chars().enumerate().all(fits) {
            let message = format!("`{name}` cannot name an environment variable");
            self.invalid_key(&["env", name], message, "use letters, digits and `_`, and begin with no digit");
        }
    }

    fn files<'e>(&mut self, paths: impl Iterator<Item = (&'e String, &'e EnvValue)>) {
        for (path, value) in paths {
            self.file(path);
            self.value(&["files", path], value);
        }
    }

    fn file(&mut self, path: &str) {
        if !absolute(path) {
            let message = format!("`{path}` is not the absolute path of a file");
            self.invalid_key(&["files", path], message, "begin with `/` and use no `.` or `..`");
        }
    }

    fn value(&mut self, path: &[&str], value: &EnvValue) {
        match value {
            EnvValue::Literal(text) if text.contains('\0') => {
                self.invalid(path, "the value holds a NUL", "remove it");
            }
            EnvValue::Secret(secret) => self.secret(path, secret),
            EnvValue::Literal(_) => {}
        }
    }

    fn secret(&mut self, path: &[&str], secret: &SecretRef) {
        match secret {
            SecretRef::File(file) if !file.starts_with('/') => self.invalid(
                path,
                format!("`{file}` is not an absolute path"),
                "name the file on the daemon's machine from `/` on; files of the repository are no secrets",
            ),
            SecretRef::Env(name) if name.is_empty() => {
                self.invalid(path, "the variable has no name", "write `secret: {env: NAME}`");
            }
            SecretRef::File(_) | SecretRef::Env(_) => {}
        }
    }

    /// Programs reach a host by its name, which leads to where its connections are taken from.
    fn egress(&mut self, egress: &[Egress]) {
        for (at, to) in egress.iter().enumerate() {
            let at = at.to_string();
            if to.is_address() {
                let message = format!("`{}` is an address, and hosts are reached by name", to.host);
                let hint =
                    "write the host's name, as the program has it; it is resolved outside of the container";
                self.invalid(&["egress", &at], message, hint);
            } else if to.is_local() {
                let message = format!("`{}` is the container itself", to.host);
                let hint = "the machine of the engine is `host.docker.internal`";
                self.invalid(&["egress", &at], message, hint);
            }
        }
    }

    fn volumes(&mut self, volumes: &Volumes) {
        for path in volumes.iter().flat_map(|volumes| volumes.keys()).filter(|path| !absolute(path)) {
            let message = format!("`{path}` is not the absolute path of a folder");
            self.invalid_key(&["volumes", path], message, "begin with `/` and use no `.` or `..`");
        }
    }

    fn concurrency(&mut self, limit: Option<u32>) {
        if limit == Some(0) {
            let message = "with no call at once nothing can be called";
            self.invalid(&["concurrency"], message, "write a number from 1 on, or remove the field");
        }
    }

    fn patterns(&mut self, path: &[&str], globs: &[String]) {
        for (at, glob) in globs.iter().enumerate() {
            if let Err(error) = globset::Glob::new(glob) {
                let message = format!("`{glob}` is not a pattern: {}", error.kind());
                let at = at.to_string();
                let path = [path, &[at.as_str()]].concat();
                self.invalid(&path, message, "`*` stands for any letters, `?` for one");
            }
        }
    }

    fn security(&mut self, security: Option<&Security>) {
        let Some(security) = security else { return };
        for path in security.tmpfs.keys().filter(|path| !absolute(path)) {
            let message = format!("`{path}` is not the absolute path of a folder");
            self.invalid_key(&["security", "tmpfs", path], message, "begin with `/` and use no `.` or `..`");
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-' | '.');
        if security.user.is_empty() || !security.user.chars().all(fits) {
            let message = format!("`{}` is not a user", security.user);
            self.invalid(&["security", "user"], message, "write a name, `uid` or `uid:gid`");
        }
    }

    fn build(&mut self, path: &[&str], build: &BuildSource) {
        let at = |field| [path, &[field]].concat();
        if build.dockerfile.is_empty() || build.dockerfile.starts_with('/') {
            self.invalid(
                &at("dockerfile"),
                "the Dockerfile is named relative to the context",
                "write `Dockerfile`",
            );
        }
        if build.context.starts_with('/') {
            let hint = "name the folder relative to this file, such as `.` or `./server`";
            self.invalid(&at("context"), "the context is a folder of this repository", hint);
        }
    }

    fn image(&mut self, path: &[&str], reference: &str) {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
        if reference.is_empty()
            || reference.len() > 512
            || !reference.chars().all(fits)
            || reference.starts_with('-')
        {
            let message = format!("`{reference}` is not a reference of an image");
            self.invalid(path, message, "write `registry/name:tag` or `registry/name@sha256:…`");
        }
    }
}

fn absolute(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| {
        rest.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains('\0'))
    })
}

fn crib(check: &mut Check<'_, '_>, spec: &CribSpec) {
    check.name_part(&["naming", "prefix"], &spec.naming.prefix);
    check.name_part(&["naming", "separator"], &spec.naming.separator);
    if spec.sync.prune_budget > 100 {
        let message = format!("a budget of {} percent is more than everything", spec.sync.prune_budget);
        check.invalid(&["sync", "pruneBudget"], message, "write a number from 0 to 100");
    }
    if spec.sync.health_gate.is_some_and(|limit| limit.0.is_zero()) {
        let hint = "write a length of time such as `5m`, or remove the field";
        check.invalid(&["sync", "healthGate"], "nothing turns healthy in no time", hint);
    }
    if let Some(operators) = &spec.operators {
        toolset::access(check, "operators", operators);
    }
    let images = &spec.defaults.images;
    for (field, image) in [("python", &images.python), ("node", &images.node)] {
        if let Some(image) = image {
            check.image(&["defaults", "images", field], image);
        }
    }
    for (at, base) in spec.bases.iter().enumerate() {
        if base.is_empty() || base.starts_with('/') {
            let hint = "name the folder relative to this file, such as `../../base`";
            check.invalid(&["bases", &at.to_string()], "a base is a folder of this repository", hint);
        }
    }
    for (at, registration) in spec.register.iter().enumerate() {
        let at = at.to_string();
        web_address(check, &["register", &at, "url"], &registration.url);
        if let Some(key) = &registration.key {
            check.secret(&["register", &at, "key", "secret"], &key.secret);
        }
    }
}

fn web_address(check: &mut Check<'_, '_>, path: &[&str], url: &str) {
    let host = ["http://", "https://"].iter().find_map(|scheme| url.strip_prefix(scheme)).unwrap_or_default();
    if host.is_empty() || url.contains(char::is_whitespace) {
        check.invalid(path, format!("`{url}` is not an address"), "write `https://host/path`");
    }
    if host.split('/').next().unwrap_or_default().contains('@') {
        check.fault(
            path,
            "secret-in-clear",
            "the address holds credentials",
            "name the secret's place in `key`",
        );
    }
}

fn integration(check: &mut Check<'_, '_>, spec: &IntegrationSpec) {
    for (name, value) in &spec.env {
        check.variable(name);
        check.secret(&["env", name, "secret"], &value.secret);
    }
    for (path, value) in &spec.files {
        check.file(path);
        check.secret(&["files", path, "secret"], &value.secret);
    }
    check.egress(&spec.egress);
}

fn runner(check: &mut Check<'_, '_>, spec: &RunnerSpec) {
    let given: Vec<&str> = [("docker", spec.docker.is_some()), ("process", spec.process.is_some())]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .chain(spec.later())
        .collect();
    match given.as_slice() {
        [_] => {}
        [] => {
            let message = "the runner does not say what it is";
            check.fault(&[], "not-exactly-one", message, "write `docker: {}` or `process: {}`");
        }
        several => {
            let several: Vec<String> = several.iter().map(|name| format!("`{name}`")).collect();
            let message = format!("a runner is one place, but this one is {}", several.join(" and "));
            check.fault(&[], "not-exactly-one", message, "declare two runners");
        }
    }
    if spec.cost.is_some_and(|cost| cost < 0.0) {
        check.invalid(&["cost"], "a runner costs nothing or more", "write a number from 0 on");
    }
    if spec.capacity.as_ref().is_some_and(|capacity| capacity.slots == Some(0)) {
        let message = "with no slot nothing can be called on it";
        check.invalid(&["capacity", "slots"], message, "write a number from 1 on, or remove the field");
    }
    let host = spec.docker.as_ref().and_then(|docker| docker.host.as_deref());
    if let Some(host) =
        host.filter(|host| !["unix:///", "tcp://"].iter().any(|scheme| host.starts_with(scheme)))
    {
        let hint = "write `unix:///path/to/docker.sock` or `tcp://host:port`";
        check.invalid(&["docker", "host"], format!("`{host}` is not the address of an engine"), hint);
    }
}

fn policy(check: &mut Check<'_, '_>, spec: &PolicySpec) {
    let sources =
        [(!spec.modules.is_empty(), "modules"), (spec.rego.is_some(), "rego"), (spec.opa.is_some(), "opa")];
    let named: Vec<&str> = sources.iter().filter(|(there, _)| *there).map(|(_, name)| *name).collect();
    match named.as_slice() {
        [] => check.fault(
            &[],
            "not-exactly-one",
            "the policy has no rules",
            "name Rego files in `modules`, write rules below `rego: |`, or name a server in `opa`",
        ),
        [_] => {}
        [first, others @ ..] => {
            let others = others.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
            let message = format!("the policy has both `{first}` and {others}");
            check.fault(&[named[1]], "not-exactly-one", &message, "keep one of them");
        }
    }
    if let Some(opa) = &spec.opa {
        opa_source(check, opa, &spec.points);
    }
    let word = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if !spec.package.split('.').all(word) {
        let hint = "write the words of the modules' `package` line, such as `crib.tools`";
        check.invalid(&["package"], format!("`{}` is not a package of Rego", spec.package), hint);
    }
    if spec.points.is_empty() {
        check.invalid(&["points"], "the policy is asked nowhere", "name `admission`, `list` or `call`");
    }
}

/// The longest that a question may take: a call waits for it.
const LONGEST_QUESTION: Duration = Duration::from_secs(30);

fn opa_source(check: &mut Check<'_, '_>, opa: &OpaSource, points: &[Point]) {
    let rest = opa.url.strip_prefix("https://").or_else(|| opa.url.strip_prefix("http://"));
    let host = rest.map_or("", |rest| rest.split('/').next().unwrap_or_default());
    if host.contains('@') {
        let hint = "name the place of a token in `opa.token`";
        check.fault(&["opa", "url"], "secret-in-clear", "the address holds credentials", hint);
    } else if host.is_empty() || opa.url.contains(|c: char| c.is_whitespace() || matches!(c, '?' | '#')) {
        let message = format!("`{}` is not the address of a policy server", opa.url);
        check.invalid(&["opa", "url"], message, "write `https://host:8181`, without query");
    }
    let name = host.strip_prefix('[').map_or_else(
        || host.split(':').next().unwrap_or_default(),
        |rest| rest.split(']').next().unwrap_or_default(),
    );
    let here = matches!(name, "localhost" | "::1") || name.starts_with("127.");
    if opa.token.is_some() && opa.url.starts_with("http://") && !here {
        let hint = "use https, or a server on this machine";
        check.invalid(&["opa", "token"], "the token would go over the network in the clear", hint);
    }
    if let Some(SecretRef::File(file)) = opa.token.as_ref().map(|token| &token.secret)
        && !file.starts_with('/')
    {
        let message = format!("`{file}` is not an absolute path");
        check.invalid(&["opa", "token"], message, "name the file on the daemon's machine from `/` on");
    }
    if opa.limit() > LONGEST_QUESTION || opa.limit().is_zero() {
        let message = "every call waits for the answer: at most 30 s";
        check.invalid(&["opa", "timeout"], message, "write `1s` or the like");
    }
    if opa.answers.is_empty() {
        let message = "the policy server decides nothing";
        check.invalid(&["opa", "answers"], message, "write `[deny]`, `[allow]` or both");
    }
    if points.iter().any(|point| *point != Point::Call) {
        let message = "a policy server is asked for calls alone: a list would ask it once for each entry";
        let hint = "leave `points` out, and write rules for lists and admission in `modules`";
        check.invalid(&["points"], message, hint);
    }
}
