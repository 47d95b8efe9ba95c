//! Checks of a `Server`.

use super::Check;
use crate::resource::server::{
    GitSource, PackageRegistry, PackageSource, ServerSource, ServerSpec, ServerTools, Transport,
};

pub(super) fn server(check: &mut Check<'_, '_>, spec: &ServerSpec) {
    match &spec.source {
        ServerSource::Image(image) => {
            let written = [&["source", "image"][..], &["source", "image", "ref"][..]];
            check.image(written[1], &image.reference);
            if image.command.as_ref().is_some_and(Vec::is_empty) {
                check.invalid(
                    &["source", "image", "command"],
                    "the command is empty",
                    "remove it, or name the program",
                );
            }
        }
        ServerSource::Build(build) => check.build(&["source", "build"], build),
        ServerSource::Git(git) => git_source(check, git),
        ServerSource::Package(package) => package_source(check, package),
        ServerSource::Command(argv) => {
            if argv.first().is_none_or(String::is_empty) {
                check.invalid(
                    &["source", "command"],
                    "the command is empty",
                    "write `[program, argument, …]`",
                );
            }
            for (at, _) in argv.iter().enumerate().filter(|(_, part)| part.contains('\0')) {
                check.invalid(
                    &["source", "command", &at.to_string()],
                    "the argument holds a NUL",
                    "remove it",
                );
            }
        }
        ServerSource::Url(url) => {
            if !["http://", "https://"]
                .iter()
                .any(|scheme| url.len() > scheme.len() && url.starts_with(scheme))
            {
                let message = format!("`{url}` is not the address of a server");
                check.invalid(&["source", "url"], message, "write `https://host/path`");
            }
        }
    }
    transport(check, &spec.transport);
    check.env(spec.env.iter());
    check.files(spec.files.iter());
    check.security(spec.security.as_ref());
    if let Some(prefix) = &spec.tools.prefix {
        check.name_part(&["tools", "prefix"], prefix);
    }
    globs(check, &spec.tools);
}

fn transport(check: &mut Check<'_, '_>, transport: &Transport) {
    if let Transport::StreamableHttp { port, path } = transport {
        if *port == 0 {
            check.invalid(&["transport", "port"], "0 is not a port", "write the port the server listens on");
        }
        if !path.starts_with('/') || path.contains(char::is_whitespace) {
            check.invalid(
                &["transport", "path"],
                format!("`{path}` is not a path"),
                "begin with `/`, such as `/mcp`",
            );
        }
    }
}

fn globs(check: &mut Check<'_, '_>, tools: &ServerTools) {
    for (field, globs) in [("include", &tools.include), ("exclude", &tools.exclude)] {
        for (at, glob) in globs.iter().enumerate() {
            if let Err(error) = globset::Glob::new(glob) {
                let message = format!("`{glob}` is not a pattern: {}", error.kind());
                check.invalid(
                    &["tools", field, &at.to_string()],
                    message,
                    "`*` stands for any letters, `?` for one",
                );
            }
        }
    }
}

/// Git's rules for names of refs, as far as they keep a name from being taken for something else.
fn reference(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(['-', '/', '.'])
        && !text.ends_with(['/', '.'])
        && !text.contains("..")
        && !text.contains("//")
        && !text.contains("@{")
        && text.rsplit_once('.').is_none_or(|(_, end)| end != "lock")
        && !text.chars().any(|c| c.is_control() || " ~^:?*[\\".contains(c))
}

/// Whether a path stays below where it begins.
fn inside(path: &str) -> bool {
    !path.starts_with('/') && !path.contains('\0') && !path.split('/').any(|part| part == "..")
}

fn git_source(check: &mut Check<'_, '_>, git: &GitSource) {
    let at = |field| ["source", "git", field];
    if !reference(&git.reference) {
        let message = format!("`{}` is not a branch, tag or commit", git.reference);
        check.invalid(&at("ref"), message, "write a branch, a tag or a commit, such as `v1.2.0`");
    }
    if git.url.is_empty() || git.url.starts_with('-') || git.url.contains(char::is_whitespace) {
        let message = format!("`{}` is not the address of a repository", git.url);
        check.invalid(&at("url"), message, "write `https://host/path.git` or `git@host:path.git`");
    }
    let host = git.url.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
    if host.split_once('@').is_some_and(|(user, _)| user.contains(':')) {
        let hint = "name the user and the secret's place in `credentials`";
        check.fault(&at("url"), "secret-in-clear", "the address holds a password", hint);
    }
    for (field, path) in [("subdir", git.subdir.as_deref()), ("file", Some(git.file.as_str()))] {
        if let Some(path) = path.filter(|path| !inside(path) || path.is_empty() || path.starts_with('-')) {
            let message = format!("`{path}` is not a path inside that repository");
            check.invalid(
                &at(field),
                message,
                "name it from the repository's root (or `subdir`) on, without `..`",
            );
        }
    }
    let word = |(at, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit());
    if git.instance.is_empty() || !git.instance.chars().enumerate().all(word) {
        let message = format!("`{}` is not the name of a Python variable", git.instance);
        check.invalid(
            &at("instance"),
            message,
            "name the variable that holds the FastMCP server, such as `mcp`",
        );
    }
    if let Some(base) = &git.base {
        check.image(&at("base"), base);
    }
}

fn package_source(check: &mut Check<'_, '_>, package: &PackageSource) {
    let at = |field| ["source", "package", field];
    let plain = |text: &str| {
        !text.is_empty()
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    let named = match package.registry {
        PackageRegistry::Pypi => plain(&package.name),
        PackageRegistry::Npm => match package.name.strip_prefix('@') {
            Some(scoped) => scoped.split_once('/').is_some_and(|(scope, name)| plain(scope) && plain(name)),
            None => plain(&package.name),
        },
    };
    if !named {
        let message = format!("`{}` is not the name of a package", package.name);
        check.invalid(&at("name"), message, "write the name alone, without version or extras");
    }
    let version = &package.version;
    let exact = version.starts_with(|c: char| c.is_ascii_digit())
        && version.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '!' | '_'));
    if !exact {
        let message = format!("`{version}` is not one exact version");
        check.invalid(
            &at("version"),
            message,
            "write the version itself, such as `1.4.2`: what runs is what was reviewed",
        );
    }
    if let Some(bin) = package.bin.as_deref().filter(|bin| !plain(bin)) {
        check.invalid(&at("bin"), format!("`{bin}` is not the name of a program"), "write the name alone");
    }
    if let Some(base) = &package.base {
        check.image(&at("base"), base);
    }
}
