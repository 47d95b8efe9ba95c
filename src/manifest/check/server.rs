//! Checks of a `Server`.

use std::time::Duration;

use super::Check;
use crate::resource::server::{
    GitSource, Health, PackageRegistry, PackageSource, ServerSource, ServerSpec, ServerTools, Transport,
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
    super::contract::tests(check, &spec.tests, true);
    check.env(spec.env.iter());
    check.files(spec.files.iter());
    check.security(spec.security.as_ref());
    check.volumes(&spec.volumes);
    check.egress(&spec.egress);
    check.concurrency(spec.concurrency);
    tools(check, &spec.tools);
    if let Some(text) = &spec.icon {
        icon(check, text);
    }
    if let Some(declared) = spec.health.as_deref() {
        health(check, declared);
    }
    prefix(check, spec);
    super::lifecycle::lifecycle(check, spec);
}

/// Between two checks of one server: what asks more often is a load, not a look.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);

fn health(check: &mut Check<'_, '_>, health: &Health) {
    if health.interval.0 < LEAST_INTERVAL {
        let message = "a server is asked at most once a second";
        check.invalid(&["health", "interval"], message, "write a length of time such as `30s`");
    }
    if health.timeout.is_some_and(|limit| limit.0.is_zero()) {
        let hint = "write a length of time such as `5s`";
        check.invalid(&["health", "timeout"], "nobody answers in no time", hint);
    }
    if health.failure_threshold == Some(0) {
        let message = "no server is given up before it failed";
        check.invalid(&["health", "failureThreshold"], message, "write a number from 1 on");
    }
}

/// What stands before URIs has to leave them URIs (RFC 3986, section 3.1).
fn prefix(check: &mut Check<'_, '_>, spec: &ServerSpec) {
    let Some(prefix) = &spec.resources_prefix else { return };
    let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.');
    let begins = prefix.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    if !begins || prefix.len() > 64 || !prefix.bytes().all(rest) {
        let message = format!("`{prefix}` cannot stand before the scheme of a URI");
        let hint =
            "begin with a letter, and use at most 64 of a-z, 0-9, `+`, `-` and `.`, such as `weather+`";
        check.invalid(&["resourcesPrefix"], message, hint);
    }
}

fn transport(check: &mut Check<'_, '_>, transport: &Transport) {
    if let Some((port, path)) = transport.endpoint() {
        if port == 0 {
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

fn tools(check: &mut Check<'_, '_>, tools: &ServerTools) {
    if let Some(prefix) = &tools.prefix {
        check.name_part(&["tools", "prefix"], prefix);
    }
    check.patterns(&["tools", "include"], &tools.include);
    check.patterns(&["tools", "exclude"], &tools.exclude);
    for (own, change) in &tools.overrides {
        let at = |field| ["tools", "overrides", own.as_str(), field];
        if let Some(name) = &change.name {
            check.name_part(&at("name"), name);
            if name.is_empty() {
                check.invalid(
                    &at("name"),
                    "the published name is empty",
                    "write a name, or remove the field",
                );
            }
        }
        if change.description.as_ref().is_some_and(|description| description.trim().is_empty()) {
            let hint = "say what the tool does and when to use it, or remove the field";
            check.invalid(&at("description"), "the description is empty", hint);
        }
    }
}

/// Bytes of an icon that is written out: each tool of the server carries it in every list.
const MAX_ICON: usize = 16 << 10;

fn icon(check: &mut Check<'_, '_>, icon: &str) {
    let written = |scheme: &str| icon.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty());
    if !["https://", "data:image/"].into_iter().any(written) {
        let message = "an icon is an https address or a `data:image/…` URI";
        check.invalid(&["icon"], message, "write `https://host/icon.png`");
    }
    if icon.len() > MAX_ICON {
        let message = format!("each tool carries the icon, and it has more than {} KiB", MAX_ICON >> 10);
        check.invalid(&["icon"], message, "make it smaller, or give its address");
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
    if package.registry == PackageRegistry::Oci {
        return image_package(check, package);
    }
    let named = match package.registry {
        PackageRegistry::Npm => match package.name.strip_prefix('@') {
            Some(scoped) => scoped.split_once('/').is_some_and(|(scope, name)| plain(scope) && plain(name)),
            None => plain(&package.name),
        },
        PackageRegistry::Pypi | PackageRegistry::Oci => plain(&package.name),
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
        let hint = "write the version itself, such as `1.4.2`: what runs is what was reviewed";
        check.invalid(&at("version"), message, hint);
    }
    if let Some(bin) = package.bin.as_deref().filter(|bin| !plain(bin)) {
        check.invalid(&at("bin"), format!("`{bin}` is not the name of a program"), "write the name alone");
    }
    if let Some(base) = &package.base {
        check.image(&at("base"), base);
    }
}

/// Letters and digits first, then also `.`, `_` and `-`.
fn plain(text: &str) -> bool {
    !text.is_empty()
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

fn image_package(check: &mut Check<'_, '_>, package: &PackageSource) {
    let at = |field| ["source", "package", field];
    check.image(&at("name"), &package.name);
    let last = package.name.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) {
        let message = format!("`{}` says a version already", package.name);
        check.invalid(&at("name"), message, "write the name alone, and the tag or digest in `version`");
    }
    let digest = package.version.strip_prefix("sha256:");
    let hex = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if !digest.map_or_else(|| plain(&package.version), hex) || package.version == "latest" {
        let message = format!("`{}` is not one exact version", package.version);
        check.invalid(&at("version"), message, "write a tag of one version, such as `1.4.2`, or `sha256:…`");
    }
    for (field, given) in [("base", package.base.is_some()), ("bin", package.bin.is_some())] {
        if given {
            let message = format!("an image is run as it is and takes no `{field}`");
            check.invalid(&at(field), message, "remove it, or use `source: {image: {ref, command}}`");
        }
    }
}
