//! The Dockerfiles we write, from the templates beside.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Ecosystem, GitRecipe, PackageRecipe};
use crate::resource::server::{PackageSource, Transport};

const GIT: &str = include_str!("dockerfiles/git.Dockerfile");
const PYPI: &str = include_str!("dockerfiles/pypi.Dockerfile");
const NPM: &str = include_str!("dockerfiles/npm.Dockerfile");
const INSTALL: &str = include_str!("dockerfiles/install.sh");
const LAUNCH: &str = include_str!("dockerfiles/launch.py");

/// What the Dockerfile of a Git source runs.
pub(super) fn helpers() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([("install.sh", INSTALL), ("launch.py", LAUNCH)])
}

pub(super) fn git(recipe: &GitRecipe<'_>, args: &BTreeMap<String, String>) -> String {
    let GitRecipe { source, commit: _, base, transport } = recipe;
    let mut entrypoint: Vec<String> =
        ["/opt/venv/bin/python", "/opt/toolcrib/launch.py", &source.file, &source.instance]
            .map(str::to_owned)
            .into();
    match transport {
        Transport::Stdio => entrypoint.push("stdio".to_owned()),
        Transport::StreamableHttp { port, path } => {
            entrypoint.extend(["streamable-http".to_owned(), port.to_string(), path.clone()]);
        }
        Transport::Sse { port, path } => {
            entrypoint.extend(["sse".to_owned(), port.to_string(), path.clone()]);
        }
    }
    fill(GIT, &[("base", base), ("args", &declarations(args)), ("entrypoint", &exec(&entrypoint))])
}

pub(super) fn package(recipe: &PackageRecipe<'_>, args: &BTreeMap<String, String>) -> String {
    let PackageRecipe { source, ecosystem, base } = recipe;
    let PackageSource { registry: _, name, version, bin, args: own, base: _ } = source;
    let (template, package, folder) = match ecosystem {
        Ecosystem::Python => (PYPI, format!("{name}=={version}"), "/opt/venv/bin"),
        Ecosystem::Node => (NPM, format!("{name}@{version}"), "/opt/package/bin"),
    };
    let own_name = name.rsplit('/').next().unwrap_or(name);
    let link =
        if bin.is_none() && *ecosystem == Ecosystem::Node { only_program(own_name) } else { String::new() };
    let bin = bin.as_deref().unwrap_or(own_name);
    let mut entrypoint = vec![format!("{folder}/{bin}")];
    entrypoint.extend(own.iter().cloned());
    let values = [
        ("base", base.as_str()),
        ("args", &declarations(args)),
        ("package", &word(&package)),
        ("link", &link),
        ("entrypoint", &exec(&entrypoint)),
    ];
    fill(template, &values)
}

/// A further step of a shell: a package whose only program has another name is started by that, as npx does.
fn only_program(name: &str) -> String {
    let program = word(&format!("/opt/package/bin/{name}"));
    format!(
        " \\\n && if [ ! -e {program} ]; then \\\n      set -- /opt/package/bin/*; \\\n      \
         if [ \"$#\" -eq 1 ] && [ -e \"$1\" ]; then ln -s \"$1\" {program}; fi; \\\n    fi"
    )
}

/// A word of a shell. Names and versions are checked to need no quotes; these are for the next one.
fn word(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The exec form: a JSON list, which no shell reads.
fn exec(argv: &[String]) -> String {
    serde_json::Value::from(argv).to_string()
}

/// The build arguments, declared so that steps see them.
fn declarations(args: &BTreeMap<String, String>) -> String {
    args.keys().fold(String::new(), |mut text, name| {
        let _ = writeln!(text, "ARG {name}");
        text
    })
}

/// Puts values in place of `{{name}}`, in one pass: a value is never looked into.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, behind)) = after.split_once("}}") else { break };
        text.push_str(before);
        text.push_str(values.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value));
        rest = behind;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::server::GitSource;

    #[test]
    fn a_git_source_is_launched_by_file_and_instance() {
        let source: GitSource = serde_json::from_value(serde_json::json!({
            "url": "https://example.org/a.git", "ref": "v1", "file": "src/server.py", "instance": "app",
        }))
        .unwrap();
        let transport = Transport::StreamableHttp { port: 8000, path: "/mcp".to_owned() };
        let recipe = GitRecipe {
            source: &source,
            commit: "0".repeat(40),
            base: "python:3.12".to_owned(),
            transport: &transport,
        };
        let args = BTreeMap::from([("PIP_INDEX_URL".to_owned(), "x".to_owned())]);
        let text = git(&recipe, &args);
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines[..3], ["FROM python:3.12", "USER 0:0", "ARG PIP_INDEX_URL"]);
        let entrypoint = r#"ENTRYPOINT ["/opt/venv/bin/python","/opt/toolcrib/launch.py","src/server.py","app","streamable-http","8000","/mcp"]"#;
        assert!(lines.contains(&entrypoint), "{text}");
        assert!(!text.contains("{{"), "{text}");
        assert_eq!(text, git(&recipe, &args));
    }

    #[test]
    fn packages_are_installed_at_their_version() {
        let package_of = |value| {
            let source: PackageSource = serde_json::from_value(value).unwrap();
            let ecosystem = Ecosystem::of(source.registry).unwrap();
            package(
                &PackageRecipe { source: &source, ecosystem, base: "base:1".to_owned() },
                &BTreeMap::new(),
            )
        };
        let pypi = package_of(serde_json::json!({
            "registry": "pypi", "name": "mcp-server-time", "version": "1.2.3", "args": ["--local-timezone", "UTC"],
        }));
        assert!(pypi.contains("'mcp-server-time==1.2.3'"), "{pypi}");
        assert!(pypi.contains(r#"["/opt/venv/bin/mcp-server-time","--local-timezone","UTC"]"#), "{pypi}");
        let npm = package_of(serde_json::json!({
            "registry": "npm", "name": "@modelcontextprotocol/server-everything", "version": "2026.8.31",
            "bin": "mcp-server-everything",
        }));
        assert!(npm.contains("'@modelcontextprotocol/server-everything@2026.8.31'"), "{npm}");
        assert!(npm.contains(r#"["/opt/package/bin/mcp-server-everything"]"#), "{npm}");
        assert!(!npm.contains("ln -s"), "its program is named: {npm}");
        let npm =
            package_of(serde_json::json!({"registry": "npm", "name": "@acme/notes", "version": "1.0.0"}));
        assert!(npm.contains(r#"["/opt/package/bin/notes"]"#), "{npm}");
        let step = "--force \\\n && if [ ! -e '/opt/package/bin/notes' ]; then \\\n      set -- /opt/package/bin/*; \\\n      \
                    if [ \"$#\" -eq 1 ] && [ -e \"$1\" ]; then ln -s \"$1\" '/opt/package/bin/notes'; fi; \\\n    fi\nWORKDIR";
        assert!(npm.contains(step), "{npm}");
    }
}
