//! What works but should not stay: secrets in the clear, images that move.

use super::super::tree::Node;
use super::super::{Declared, Diagnostic};
use crate::manifest::document::{excerpt, placed};
use crate::resource::server::ServerSource;
use crate::resource::{EnvValue, Spec};

pub(in crate::manifest) fn warnings(root: &Node<'_>, declared: &Declared) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let (env, images) = match &declared.spec {
        Spec::Server(spec) => (Some(&spec.env), server_images(&spec.source)),
        Spec::Tool(spec) => (
            Some(&spec.env),
            spec.image.iter().map(|image| (vec!["spec", "image"], image.as_str())).collect(),
        ),
        Spec::Crib(_) | Spec::Runner(_) | Spec::Policy(_) | Spec::Integration(_) | Spec::Toolset(_) => {
            (None, Vec::new())
        }
    };
    for (name, value) in env.into_iter().flatten() {
        if matches!(value, EnvValue::Literal(text) if !text.is_empty()) && credential(name) {
            let warning = Diagnostic::warning(
                "secret-in-clear",
                format!("`{name}` looks like a credential written in the clear"),
            )
            .hint(format!("write `{name}: {{secret: {{env: {name}}}}}` and give the value to the daemon"));
            found.push(place(root, declared, warning, &["spec", "env", name]));
        }
    }
    if let Spec::Server(spec) = &declared.spec {
        for (name, _) in spec.headers.iter().filter(|(name, text)| {
            (name.eq_ignore_ascii_case("authorization") || credential(name)) && !text.contains("${")
        }) {
            let warning = Diagnostic::warning(
                "secret-in-clear",
                format!("`{name}` looks like a credential written in the clear"),
            )
            .hint("write `Bearer ${NAME}`, and `NAME: {secret: {env: NAME}}` in `env`");
            found.push(place(root, declared, warning, &["spec", "headers", name]));
        }
    }
    if let Some((path, program)) = program(&declared.spec)
        && program.trim().contains(char::is_whitespace)
        && !program.contains('/')
    {
        let words: Vec<&str> = program.split_whitespace().collect();
        let shell = words.iter().any(|word| matches!(*word, "|" | "||" | "&&" | "<" | ">" | ">>" | ";"));
        let hint = if shell {
            format!("there is no shell: for one write `[sh, -c, \"{program}\"]`")
        } else {
            format!("write each word for itself: `[{}]`", words.join(", "))
        };
        let message = format!("`{program}` is taken as the name of one program");
        let warning = Diagnostic::warning("shell-line", message).hint(hint);
        found.push(place(root, declared, warning, &path));
    }
    for (path, image) in images {
        if moves(image) {
            let warning =
                Diagnostic::warning("unpinned-image", format!("`{image}` may be another image tomorrow"))
                    .hint("name a version: `name:1.2.3`, or better `name@sha256:…`");
            found.push(place(root, declared, warning, &path));
        }
    }
    found
}

/// The program that a command of this machine starts, or a container.
fn program(spec: &Spec) -> Option<(Vec<&'static str>, &str)> {
    let (path, command) = match spec {
        Spec::Tool(spec) => (vec!["spec", "command", "0"], &spec.command),
        Spec::Server(spec) => match &spec.source {
            ServerSource::Command(command) => (vec!["spec", "source", "command", "0"], command),
            _ => return None,
        },
        _ => return None,
    };
    Some((path, command.first()?.as_str()))
}

pub(in crate::manifest) fn place(
    root: &Node<'_>,
    declared: &Declared,
    warning: Diagnostic,
    path: &[&str],
) -> Diagnostic {
    let (place, text) = placed(declared, root.locate(path), 0);
    let line = excerpt(text, place.line);
    warning.at(place, line).of(declared.id())
}

fn server_images(source: &ServerSource) -> Vec<(Vec<&'static str>, &str)> {
    let one = |path: &[&'static str], image| vec![([&["spec", "source"][..], path].concat(), image)];
    match source {
        ServerSource::Image(image) => one(&["image", "ref"], image.reference.as_str()),
        ServerSource::Git(git) => {
            git.base.iter().flat_map(|base| one(&["git", "base"], base.as_str())).collect()
        }
        ServerSource::Package(package) => {
            package.base.iter().flat_map(|base| one(&["package", "base"], base.as_str())).collect()
        }
        ServerSource::Build(_) | ServerSource::Command(_) | ServerSource::Url(_) => Vec::new(),
    }
}

/// Whether a variable of that name holds a credential by custom.
pub fn credential(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let mut words = name.split('_');
    words.any(|word| {
        matches!(
            word,
            "TOKEN"
                | "SECRET"
                | "PASSWORD"
                | "PASSWD"
                | "PASSPHRASE"
                | "KEY"
                | "APIKEY"
                | "CREDENTIAL"
                | "CREDENTIALS"
        )
    }) && !name.starts_with("PUBLIC_")
}

/// Whether a reference names a tag that moves, or none.
fn moves(reference: &str) -> bool {
    if reference.contains('@') {
        return false;
    }
    let name = reference.rsplit('/').next().unwrap_or(reference);
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}
