//! `server.json` of the MCP registry (schema 2025-12-11), alone or as the registry's API answers it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::command::{self, Package};
use super::document::{Document, Draft, Need};
use super::environment::{self, Setting};
use super::fields::Fields;
use super::header::{self, Header};
use super::yaml::Map;
use super::{clients, docker, remote, shown};
use crate::resource::Kind;

pub(super) fn import(value: &Value, draft: &mut Draft<'_>) {
    let listed = value.get("servers").and_then(Value::as_array).or_else(|| value.as_array());
    let one = std::slice::from_ref(value);
    for (at, entry) in listed.map_or(one, Vec::as_slice).iter().enumerate() {
        let (entry, path) = match entry.get("server") {
            Some(server) => (server, "server"),
            None => (entry, ""),
        };
        let path = if listed.is_some() { format!("servers[{at}]") } else { path.to_owned() };
        if let Some(fields) = Fields::of(entry, path, &mut draft.problems) {
            server(fields, draft);
        }
    }
}

/// One way to have the server.
enum Way<'v> {
    Package(Fields<'v>),
    Remote(Fields<'v>),
}

fn server(mut fields: Fields<'_>, draft: &mut Draft<'_>) {
    fields.ignore(&["$schema", "_meta", "icons", "status"]);
    let hint = "name it as the registry does: `io.github.owner/name`";
    let Some(full) = fields.required("name", hint, &mut draft.problems) else { return };
    let own = full.rsplit('/').next().unwrap_or(&full).to_owned();
    let mut remarks = about(&mut fields, &full, draft);
    let mut ways = Vec::new();
    for (key, package) in [("packages", true), ("remotes", false)] {
        for (at, entry) in fields.list(key, &mut draft.problems).iter().enumerate() {
            let path = fields.place(&format!("{key}[{at}]"));
            if let Some(entry) = Fields::of(entry, path, &mut draft.problems) {
                ways.push(if package { Way::Package(entry) } else { Way::Remote(entry) });
            }
        }
    }
    let Some(at) = ways.iter().position(convertible) else {
        draft.skip(&full, "it is offered neither by PyPI, npm or an image registry, nor at an address");
        return;
    };
    let way = ways.remove(at);
    for other in &ways {
        remarks.push(format!("Also offered as {}.", told(other)));
    }
    let mut spec = Map::new();
    match way {
        Way::Package(package) => of_package(&full, package, &mut spec, draft),
        Way::Remote(entry) => of_remote(&full, entry, &mut spec, draft),
    }
    for (key, value) in fields.rest() {
        spec.remark(format!("`{key}` has no counterpart: {}", shown(key, value)));
    }
    let label = draft.name(Kind::Server, &own);
    let mut document = Document::new(Kind::Server, label, spec);
    document.remarks = remarks;
    draft.add(document);
}

/// What it is, as remarks.
fn about(fields: &mut Fields<'_>, full: &str, draft: &mut Draft<'_>) -> Vec<String> {
    let problems = &mut draft.problems;
    let title = fields.text("title", problems).unwrap_or_else(|| full.to_owned());
    let mut remarks = match fields.text("description", problems) {
        Some(description) => vec![format!("{title}: {}", description.trim())],
        None => vec![title],
    };
    let version = fields.text("version", problems).map(|version| format!(" {version}")).unwrap_or_default();
    remarks.push(format!("From {full}{version} of the MCP registry."));
    let repository = fields.object("repository", problems);
    let page = fields.text("websiteUrl", problems);
    let url = repository.and_then(|mut repository| repository.text("url", problems));
    if let Some(url) = url.filter(|url| !url.is_empty()).or(page) {
        remarks.push(format!("Source: {url}"));
    }
    remarks
}

fn field<'v>(entry: &mut Fields<'v>, key: &str) -> Option<&'v Value> {
    // Files of before September 2025 part words by `_`.
    let snake: String = key
        .chars()
        .flat_map(|c| if c.is_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] })
        .collect();
    entry.any(&[key, &snake])
}

fn text(entry: &mut Fields<'_>, key: &str) -> Option<String> {
    field(entry, key).and_then(super::fields::scalar)
}

fn peek(entry: &Fields<'_>, key: &str) -> String {
    let snake = key.replace("registryType", "registry_type");
    let found = entry.entries().find(|(name, _)| *name == key || *name == snake);
    found.and_then(|(_, value)| value.as_str()).unwrap_or_default().to_owned()
}

fn convertible(way: &Way<'_>) -> bool {
    match way {
        Way::Remote(_) => true,
        Way::Package(package) => match peek(package, "registryType").as_str() {
            "oci" => true,
            "npm" | "pypi" => command::exact(&peek(package, "version")).is_some(),
            _ => false,
        },
    }
}

fn told(way: &Way<'_>) -> String {
    match way {
        Way::Remote(entry) => format!("a server at {}", peek(entry, "url")),
        Way::Package(entry) => {
            format!("{} package {}", peek(entry, "registryType"), peek(entry, "identifier"))
        }
    }
}

fn of_package(full: &str, mut package: Fields<'_>, spec: &mut Map, draft: &mut Draft<'_>) {
    let hint = "name the package or the image";
    let identifier = package.required("identifier", hint, &mut draft.problems).unwrap_or_default();
    let version = text(&mut package, "version").unwrap_or_default();
    let registry = text(&mut package, "registryType").unwrap_or_default();
    let base = text(&mut package, "registryBaseUrl").unwrap_or_default();
    package.ignore(&["fileSha256", "file_sha256", "runtimeHint", "runtime_hint"]);
    let args = arguments(full, field(&mut package, "packageArguments"), draft);
    let runtime = arguments(full, field(&mut package, "runtimeArguments"), draft);
    let mut settings = settings(full, field(&mut package, "environmentVariables"));
    let mut env = Map::new();
    if registry == "oci" {
        let image = image(&identifier, &version, &base);
        let words =
            ["run".to_owned()].into_iter().chain(runtime.values).chain([image.clone()]).chain(args.values);
        let words: Vec<String> = words.collect();
        if let Some(run) = docker::run(&words) {
            clients::image(full, run, &mut env, spec, draft);
        } else {
            let mut source = Map::new();
            source.put("image", image);
            spec.put("source", source);
            spec.remark("Its arguments for `docker run` were not understood.");
            draft.need(Need::Docker);
            draft.note(full, "its arguments for `docker run` were not understood and are left out");
        }
    } else {
        if !runtime.values.is_empty() {
            spec.remark(format!(
                "Arguments of the package runner have no counterpart: {}",
                runtime.values.join(" ")
            ));
        }
        let known = if registry == "pypi" { "pypi" } else { "npm" };
        let version = command::exact(&version).unwrap_or(&version).to_owned();
        let found = Package { registry: known, name: identifier, version, bin: None, args: args.values };
        clients::package(full, &found, spec, draft);
    }
    for remark in args.remarks.into_iter().chain(runtime.remarks) {
        spec.remark(remark);
    }
    transport(&mut package, spec, draft);
    for setting in settings.drain(..) {
        setting.put(&mut env, full, draft);
    }
    if !env.is_empty() {
        spec.put("env", env);
    }
}

/// An image by its parts: `docker.io` need not be said, a version may already be there.
fn image(identifier: &str, version: &str, base: &str) -> String {
    let host = base.split_once("://").map_or(base, |(_, host)| host).trim_end_matches('/');
    let prefix = if host.is_empty() || host == "docker.io" || identifier.starts_with(host) {
        String::new()
    } else {
        format!("{host}/")
    };
    let last = identifier.rsplit('/').next().unwrap_or(identifier);
    let tag =
        if version.is_empty() || last.contains([':', '@']) { String::new() } else { format!(":{version}") };
    format!("{prefix}{identifier}{tag}")
}

fn transport(package: &mut Fields<'_>, spec: &mut Map, draft: &mut Draft<'_>) {
    let Some(mut transport) = package.object("transport", &mut draft.problems) else { return };
    let kind = transport.text("type", &mut draft.problems).unwrap_or_default();
    let url = transport.text("url", &mut draft.problems).unwrap_or_default();
    match kind.as_str() {
        "" | "stdio" => {}
        "streamable-http" | "sse" => {
            let (port, path) = remote::local(&url);
            let mut map = Map::inline();
            map.put("type", kind.as_str());
            if let Some(port) = port {
                map.put("port", port);
            } else {
                spec.remark(format!("The port was part of {url}: write which one it listens on."));
            }
            let usual = if kind == "sse" { "/sse" } else { "/mcp" };
            if let Some(path) = path.filter(|path| path != usual) {
                map.put("path", path);
            }
            spec.put("transport", map);
        }
        other => {
            spec.remark(format!(
                "It speaks {other} at {url}; Toolcrib speaks stdio, streamable HTTP and HTTP+SSE."
            ));
            draft.note(&package.path, format!("its transport `{other}` has no counterpart"));
        }
    }
}

fn of_remote(full: &str, mut entry: Fields<'_>, spec: &mut Map, draft: &mut Draft<'_>) {
    let url =
        entry.required("url", "write the address of the server", &mut draft.problems).unwrap_or_default();
    let kind =
        entry.any(&["type", "transport_type", "transportType"]).and_then(Value::as_str).unwrap_or_default();
    let variables = variables(entry.get("variables"));
    let url = substitute(&url, &variables);
    remote::source(full, &url, kind == "sse", spec, draft);
    let headers = entry.list("headers", &mut draft.problems);
    let headers: Vec<Header<'_>> = headers.iter().filter_map(sent).collect();
    header::put(full, &headers, spec, draft);
}

/// A header of the registry: what it holds, or that somebody has to say it.
fn sent(value: &Value) -> Option<Header<'_>> {
    let text = |key: &str| value.get(key).and_then(super::fields::scalar);
    let known = variables(value.get("variables"));
    Some(Header {
        name: value.get("name")?.as_str()?,
        value: text("value").or_else(|| text("default")).map(|text| header::registry(&text, &known)),
        secret: value.get("isSecret").and_then(Value::as_bool) == Some(true),
    })
}

/// Arguments as they can be written, and what has to be said about them.
#[derive(Default)]
struct Arguments {
    values: Vec<String>,
    remarks: Vec<String>,
}

fn arguments(full: &str, list: Option<&Value>, draft: &mut Draft<'_>) -> Arguments {
    let mut found = Arguments::default();
    for argument in list.and_then(Value::as_array).into_iter().flatten() {
        let mut fields = match argument.as_object() {
            Some(map) => Fields::new(map, ""),
            None => continue,
        };
        let name = text(&mut fields, "name").filter(|name| !name.is_empty());
        let hint = text(&mut fields, "valueHint").or_else(|| name.clone()).unwrap_or_default();
        let required = field(&mut fields, "isRequired").and_then(Value::as_bool) == Some(true);
        let known = text(&mut fields, "value").or_else(|| text(&mut fields, "default"));
        let known = known.map(|value| substitute(&value, &variables(fields.get("variables"))));
        let about =
            text(&mut fields, "description").map(|about| format!(": {}", about.trim())).unwrap_or_default();
        let value = match known {
            Some(value) => Some(value),
            // A flag alone has neither value nor default.
            None if name.is_some()
                && !required
                && field(&mut fields, "format").is_none()
                && !about.is_empty() =>
            {
                found.remarks.push(format!("It also takes `{hint}`{about}"));
                continue;
            }
            None if required => {
                found.remarks.push(format!("It needs `{hint}`{about}"));
                draft.note(full, format!("write the argument `{hint}` in place of CHANGE-ME"));
                Some("CHANGE-ME".to_owned())
            }
            None => {
                found.remarks.push(format!("It also takes `{hint}`{about}"));
                continue;
            }
        };
        found.values.extend(name);
        found.values.extend(value.filter(|value| !value.is_empty()));
    }
    found
}

/// Values of `{curly_braces}` by name: fixed ones and defaults.
fn variables(value: Option<&Value>) -> BTreeMap<String, String> {
    let fields = value.and_then(Value::as_object).into_iter().flatten();
    let known =
        |input: &Value| input.get("value").or_else(|| input.get("default")).and_then(super::fields::scalar);
    fields.filter_map(|(name, input)| Some((name.clone(), known(input)?))).collect()
}

fn substitute(text: &str, variables: &BTreeMap<String, String>) -> String {
    variables.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

/// A variable of the environment, as the registry has it.
struct Declared {
    name: String,
    value: Option<String>,
    secret: bool,
    required: bool,
    about: Option<String>,
}

impl Declared {
    fn put(&self, env: &mut Map, full: &str, draft: &mut Draft<'_>) {
        let Self { name, value, secret, required, about } = self;
        if value.is_none() && !required && !secret {
            let about = about.as_deref().unwrap_or("not required");
            env.remark(format!("{name}: {about}"));
            return;
        }
        let setting = Setting {
            name,
            value: value.as_deref().filter(|_| !secret),
            secret: *secret,
            about: about.clone(),
        };
        environment::put(env, full, &setting, draft);
    }
}

fn settings(full: &str, list: Option<&Value>) -> Vec<Declared> {
    let mut found = Vec::new();
    for entry in list.and_then(Value::as_array).into_iter().flatten() {
        let Some(map) = entry.as_object() else { continue };
        let mut fields = Fields::new(map, "");
        let Some(name) = text(&mut fields, "name") else { continue };
        let value = text(&mut fields, "value").or_else(|| text(&mut fields, "default"));
        let is =
            |fields: &mut Fields<'_>, key: &str| field(fields, key).and_then(Value::as_bool) == Some(true);
        let choices = fields.get("choices").and_then(Value::as_array);
        let choices: Vec<&str> = choices.into_iter().flatten().filter_map(Value::as_str).collect();
        let mut about = text(&mut fields, "description").map(|about| about.trim().to_owned());
        if !choices.is_empty() {
            about = Some(format!(
                "{}One of {}.",
                about.map(|about| format!("{about} ")).unwrap_or_default(),
                choices.join(", ")
            ));
        }
        let value = value.map(|value| substitute(&value, &variables(fields.get("variables"))));
        let name = remote::variable(full, &name);
        found.push(Declared {
            name,
            value,
            secret: is(&mut fields, "isSecret"),
            required: is(&mut fields, "isRequired"),
            about,
        });
    }
    found
}
