//! A `Server` of ours as a `server.json`, for whoever wants to run or reach it without us.
//!
//! Input: what is declared, and its lock. Output: [`ServerJson`] and notes of what has no counterpart; for
//! a server that is made of this repository, why there is none. Invariant: no literal that looks like a
//! secret is written, and a reference to one is never more than the name of a variable.

use std::collections::{BTreeMap, BTreeSet};

use super::document::Note;
use super::secrets;
use super::server_json::{self, Argument, Input, Named, Package, ServerJson, Transport, Word};
use crate::lock::Lock;
use crate::resource::server::{
    ImageSource, Instructions, Mode, PackageRegistry, PackageSource, ServerSource, ServerSpec,
    Transport as Spoken,
};
use crate::resource::{EnvValue, Name};

/// A server to be told of.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    pub name: &'a Name,
    pub spec: &'a ServerSpec,
    /// Its variables, those of its integrations included.
    pub env: &'a BTreeMap<String, EnvValue>,
    pub lock: Option<&'a Lock>,
}

/// How it is to be called.
#[derive(Clone, Copy, Debug)]
pub struct As<'a> {
    /// Reverse DNS: `io.github.owner`.
    pub namespace: &'a str,
    /// Of what has no version of its own.
    pub version: &'a str,
}

/// The `server.json` of a server, and what could not be said in it.
///
/// # Errors
/// Why there is none: a sentence without its full stop.
pub fn publish(server: &Server<'_>, called: As<'_>) -> Result<(ServerJson, Vec<Note>), String> {
    let mut writer = Writer { server, notes: Vec::new() };
    let name = format!("{}/{}", called.namespace, server.name);
    let mut out = ServerJson::new(name, &description(server), called.version);
    match &server.spec.source {
        ServerSource::Package(package) => {
            let (one, version) = writer.package(package);
            out.version = version.unwrap_or(out.version);
            out.packages.push(one);
        }
        ServerSource::Image(image) => {
            let (one, version) = writer.image(image);
            out.version = version.unwrap_or(out.version);
            out.packages.push(one);
        }
        ServerSource::Url(url) => out.remotes.push(writer.remote(url)),
        ServerSource::Build(_) => return Err(made_of("a folder of this repository")),
        ServerSource::Git(_) => return Err(made_of("another repository")),
        ServerSource::Command(_) => return Err(made_of("a command of this machine")),
    }
    out.icons.extend(server.spec.icon.as_deref().and_then(server_json::icon));
    writer.rest();
    Ok((out, writer.notes))
}

fn made_of(what: &str) -> String {
    format!("it is made of {what}, and the registry knows packages, images and addresses only")
}

/// What a model is told of it, or that it is there: the registry asks for some text.
fn description(server: &Server<'_>) -> String {
    let own = match server.spec.instructions.as_deref() {
        Some(Instructions::Replace(text)) => Some(text.as_str()),
        Some(Instructions::Append(_)) | None => None,
    };
    let offered = server.lock.and_then(|lock| lock.offer.as_ref()?.instructions.as_deref());
    let text = own.or(offered).unwrap_or_default().trim();
    let first = text.split("\n\n").next().unwrap_or_default();
    if first.is_empty() { format!("The MCP server {}", server.name) } else { first.to_owned() }
}

struct Writer<'w> {
    server: &'w Server<'w>,
    notes: Vec<Note>,
}

impl Writer<'_> {
    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(Note { subject: self.server.name.to_string(), text: text.into() });
    }

    fn package(&mut self, source: &PackageSource) -> (Package, Option<String>) {
        if let Some(image) = source.image() {
            if source.bin.is_some() {
                self.note("`bin` is left out: the image starts what it starts");
            }
            return self.container(&image, None, &source.args);
        }
        let registry_type = if source.registry == PackageRegistry::Npm { "npm" } else { "pypi" };
        let own = source.name.rsplit('/').next().unwrap_or(&source.name);
        if let Some(bin) = source.bin.as_deref().filter(|bin| *bin != own) {
            self.note(format!("`bin` has no counterpart: clients start `{own}` instead of `{bin}`"));
        }
        let package = Package {
            registry_type,
            identifier: source.name.clone(),
            version: Some(source.version.clone()),
            runtime_hint: Some(if registry_type == "npm" { "npx" } else { "uvx" }),
            transport: self.transport(),
            runtime_arguments: Vec::new(),
            package_arguments: self.words(&source.args),
            environment_variables: self.variables(),
        };
        (package, Some(source.version.clone()))
    }

    fn image(&mut self, source: &ImageSource) -> (Package, Option<String>) {
        let (mut entrypoint, mut args) = (None, Vec::new());
        if let Some([first, more @ ..]) = source.command.as_deref() {
            entrypoint = Some(first.clone());
            args.extend_from_slice(more);
        }
        args.extend(source.args.iter().flatten().cloned());
        self.container(&source.reference, entrypoint, &args)
    }

    fn container(
        &mut self,
        image: &str,
        entrypoint: Option<String>,
        args: &[String],
    ) -> (Package, Option<String>) {
        let locked = self.server.lock.and_then(|lock| lock.resolved.digest.as_deref());
        let digest = locked.and_then(|digest| digest.split_once('@')).filter(|_| !image.contains('@'));
        if digest.is_none() && !image.contains('@') {
            self.note(format!("`{image}` has no digest: `toolcrib lock` finds it, and then it is written"));
        }
        let identifier = digest.map_or_else(|| image.to_owned(), |(_, digest)| format!("{image}@{digest}"));
        let entry = entrypoint.map(|value| Argument::Named { name: "--entrypoint", value });
        let package = Package {
            registry_type: "oci",
            identifier,
            version: None,
            runtime_hint: Some("docker"),
            transport: self.transport(),
            runtime_arguments: entry.into_iter().collect(),
            package_arguments: self.words(args),
            environment_variables: self.variables(),
        };
        (package, tag(image))
    }

    fn transport(&self) -> Transport {
        match &self.server.spec.transport {
            Spoken::Stdio => Transport::Stdio,
            Spoken::StreamableHttp { port, path } => Transport::StreamableHttp {
                url: format!("http://localhost:{port}{path}"),
                headers: Vec::new(),
            },
            Spoken::Sse { port, path } => Transport::Sse { url: format!("http://localhost:{port}{path}") },
        }
    }

    fn words(&mut self, args: &[String]) -> Vec<Argument> {
        let mut words = Vec::new();
        let mut before: Option<&str> = None;
        for (at, argument) in args.iter().enumerate() {
            let word = if secrets::in_argument(before, argument) {
                self.note("an argument looks like a secret and is asked for instead");
                Word { value_hint: Some(format!("argument-{}", at + 1)), input: Input::secret() }
            } else {
                let input = Input { value: Some(argument.clone()), ..Input::default() };
                Word { value_hint: None, input }
            };
            words.push(Argument::Positional(word));
            before = Some(argument);
        }
        words
    }

    fn variables(&mut self) -> Vec<Named> {
        let server = self.server;
        let named = |(name, value): (&String, &EnvValue)| Named {
            name: name.clone(),
            input: given(name, value),
            variables: BTreeMap::new(),
        };
        let hidden = |(name, value): &(&String, &EnvValue)| {
            matches!(value, EnvValue::Literal(_)) && given(name, value).is_secret
        };
        for (name, _) in server.env.iter().filter(hidden) {
            self.note(format!("the value of `{name}` looks like a secret and is asked for instead"));
        }
        server.env.iter().map(named).collect()
    }

    fn remote(&mut self, url: &str) -> Transport {
        let (url, left_out) = super::remote::without_secrets(url);
        if left_out {
            self.note("the address holds a secret, which is left out");
        }
        if self.server.spec.oauth.is_some() {
            self.note("`oauth` has no counterpart: clients find out themselves how they get a token");
        }
        let server = self.server;
        let headers = server.spec.headers.iter().map(|(name, text)| self.header(name, text)).collect();
        Transport::StreamableHttp { url, headers }
    }

    /// `Bearer ${TOKEN}` as `Bearer {TOKEN}`, with what it stands for.
    fn header(&mut self, name: &str, text: &str) -> Named {
        let mut variables = BTreeMap::new();
        let filled = template::fill(text, |variable| {
            let value = self.server.env.get(variable);
            variables.insert(
                variable.to_owned(),
                value.map_or_else(Input::secret, |value| given(variable, value)),
            );
        });
        let mut input = Input { is_required: true, ..Input::default() };
        if variables.is_empty() && secrets::is_secret(name, &filled) {
            self.note(format!("the header `{name}` looks like a secret and is asked for instead"));
            input.is_secret = true;
        } else {
            input.is_secret = variables.values().any(|variable| variable.is_secret);
            input.value = Some(filled);
        }
        Named { name: name.to_owned(), input, variables }
    }

    /// What else is declared and is lost.
    fn rest(&mut self) {
        let spec = self.server.spec;
        let tools = &spec.tools;
        let lost: BTreeSet<&str> = [
            ("files", !spec.files.is_empty()),
            ("volumes", spec.volumes.is_some()),
            ("egress", !spec.egress.is_empty()),
            ("tools", !(tools.include.is_empty() && tools.exclude.is_empty() && tools.overrides.is_empty())),
            ("resourcesPrefix", spec.resources_prefix.is_some()),
            ("dependsOn", !spec.depends_on.is_empty()),
        ]
        .into_iter()
        .filter_map(|(field, given)| given.then_some(field))
        .collect();
        if !lost.is_empty() {
            let fields: Vec<String> = lost.into_iter().map(|field| format!("`{field}`")).collect();
            self.note(format!("without a counterpart: {}", fields.join(", ")));
        }
        if spec.mode == Mode::Deploy {
            self.note("it only runs here (`mode: deploy`): its tools are in no catalog");
        }
    }
}

/// A variable: the text it has unless somebody says otherwise, or a secret that is asked for.
fn given(name: &str, value: &EnvValue) -> Input {
    match value {
        EnvValue::Literal(text) if !secrets::is_secret(name, text) => {
            Input { default: Some(text.clone()), ..Input::default() }
        }
        EnvValue::Literal(_) | EnvValue::Secret(_) => Input::secret(),
    }
}

/// The version that the tag of an image is.
fn tag(image: &str) -> Option<String> {
    let named = image.split('@').next().unwrap_or(image);
    let (_, tag) = named.rsplit('/').next()?.split_once(':')?;
    (tag != "latest").then(|| tag.to_owned())
}

/// Placeholders of ours as those of the registry.
mod template {
    /// `${NAME}` becomes `{NAME}`, `$${` becomes `${`; `seen` is told of each name. What was declared was
    /// checked, so that each placeholder has an end.
    pub(super) fn fill(text: &str, mut seen: impl FnMut(&str)) -> String {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, from)) = rest.split_once("${") {
            if let Some(escaped) = before.strip_suffix('$') {
                out.push_str(escaped);
                out.push_str("${");
                rest = from;
                continue;
            }
            let Some((name, after)) = from.split_once('}') else { break };
            out.push_str(before);
            out.push('{');
            out.push_str(name);
            out.push('}');
            seen(name);
            rest = after;
        }
        out + rest
    }
}

#[cfg(test)]
mod tests;
