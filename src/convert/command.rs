//! The commands by which clients start servers: what they install, and whether that is sure.

use super::docker;

/// What a command comes down to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Launch {
    Package(Package),
    Image(docker::Run),
    /// As it is; with the package it would be, if only a version were named.
    Command {
        argv: Vec<String>,
        unpinned: Option<Package>,
    },
}

/// A package of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    /// `npm` or `pypi`.
    pub(super) registry: &'static str,
    pub(super) name: String,
    /// Exact; empty while none is known.
    pub(super) version: String,
    /// The program, where it is not the package's own name.
    pub(super) bin: Option<String>,
    pub(super) args: Vec<String>,
}

/// Reads a command. What is not sure stays a command, which does what it did.
pub(super) fn launch(command: &str, args: &[String]) -> Launch {
    let program = command.rsplit(['/', '\\']).next().unwrap_or(command);
    let program = program.strip_suffix(".exe").or_else(|| program.strip_suffix(".cmd")).unwrap_or(program);
    let words = || std::iter::once(command.to_owned()).chain(args.iter().cloned()).collect();
    // Windows needs a shell to start npx.
    if program.eq_ignore_ascii_case("cmd") && args.first().is_some_and(|arg| arg.eq_ignore_ascii_case("/c")) {
        return match args.get(1) {
            Some(inner) => launch(inner, &args[2..]),
            None => Launch::Command { argv: words(), unpinned: None },
        };
    }
    let package = match program {
        "npx" | "bunx" => npx(args),
        "pnpm" if args.first().is_some_and(|arg| arg == "dlx") => npx(&args[1..]),
        "uvx" => uvx(args),
        "uv" if args.starts_with(&["tool".to_owned(), "run".to_owned()]) => uvx(&args[2..]),
        "pipx" if args.first().is_some_and(|arg| arg == "run") => uvx(&args[1..]),
        "docker" | "podman" => match docker::run(args) {
            Some(run) => return Launch::Image(run),
            None => None,
        },
        _ => None,
    };
    match package {
        Some(package) if !package.version.is_empty() => Launch::Package(package),
        unpinned => Launch::Command { argv: words(), unpinned },
    }
}

/// `npx [-y] [-p PACKAGE] PROGRAM arguments…`
fn npx(args: &[String]) -> Option<Package> {
    let (mut at, mut named) = (0, None);
    while let Some(arg) = args.get(at).filter(|arg| arg.starts_with('-')) {
        match arg.as_str() {
            "-y" | "--yes" | "-q" | "--quiet" | "--prefer-offline" | "--prefer-online" => {}
            "-p" | "--package" if named.is_none() => {
                at += 1;
                named = Some(args.get(at)?.clone());
            }
            "--" => {
                at += 1;
                break;
            }
            other => named = Some(other.strip_prefix("--package=").filter(|_| named.is_none())?.to_owned()),
        }
        at += 1;
    }
    let first = args.get(at)?;
    let spec = named.as_ref().unwrap_or(first);
    // A scope begins with `@`, a version is parted by it.
    let split = spec.get(1..).and_then(|rest| rest.find('@')).map(|found| found + 1);
    let (name, version) = split.map_or((spec.as_str(), ""), |found| (&spec[..found], &spec[found + 1..]));
    let bin =
        named.as_ref().map(|_| first.clone()).filter(|bin| Some(bin.as_str()) != name.rsplit('/').next());
    let scoped = match name.strip_prefix('@') {
        Some(rest) => rest.split_once('/').is_some_and(|(scope, name)| is_name(scope) && is_name(name)),
        None => is_name(name),
    };
    let version = exact(version).unwrap_or_default().to_owned();
    scoped.then(|| Package {
        registry: "npm",
        name: name.to_owned(),
        version,
        bin,
        args: args[at + 1..].to_vec(),
    })
}

/// `uvx [--from PACKAGE] PROGRAM arguments…`
fn uvx(args: &[String]) -> Option<Package> {
    let (mut at, mut named) = (0, None);
    while let Some(arg) = args.get(at).filter(|arg| arg.starts_with('-')) {
        match arg.as_str() {
            "-q" | "--quiet" | "--isolated" | "--no-progress" => {}
            "--from" | "--spec" if named.is_none() => {
                at += 1;
                named = Some(args.get(at)?.clone());
            }
            // The version of Python is the image's; the server does not ask for more.
            "-p" | "--python" => {
                at += 1;
                args.get(at)?;
            }
            other => {
                let spec = other.strip_prefix("--from=").or_else(|| other.strip_prefix("--spec="));
                named = Some(spec.filter(|_| named.is_none())?.to_owned());
            }
        }
        at += 1;
    }
    let first = args.get(at)?;
    let spec = named.as_ref().unwrap_or(first);
    let (name, version) = spec.split_once("==").or_else(|| spec.split_once('@')).unwrap_or((spec, ""));
    let bin = named.as_ref().map(|_| first.clone()).filter(|bin| bin != name);
    let version = exact(version).unwrap_or_default().to_owned();
    is_name(name).then(|| Package {
        registry: "pypi",
        name: name.to_owned(),
        version,
        bin,
        args: args[at + 1..].to_vec(),
    })
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// A version that means one version: not `latest`, not `1.x`, not `1` of npm, which is a range.
pub(super) fn exact(version: &str) -> Option<&str> {
    let version = version.trim();
    let version = version.strip_prefix('v').unwrap_or(version);
    let plain =
        version.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '!' | '_'));
    let parts: Vec<&str> = version.split(['.', '-', '+']).collect();
    let numbered = parts.len() > 1
        && parts[..2].iter().all(|part| part.chars().all(|c| c.is_ascii_digit()) && !part.is_empty());
    (plain && numbered && !parts.contains(&"x")).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn check(line: &str, expected: &str) {
        let words = words(line);
        let said = match launch(&words[0], &words[1..]) {
            Launch::Package(Package { registry, name, version, bin, args }) => {
                format!("{registry} {name} {version} {bin:?} {args:?}")
            }
            Launch::Image(run) => format!("image {} {:?}", run.image, run.args),
            Launch::Command { argv, unpinned } => {
                format!("command {} {:?}", argv.join(" "), unpinned.map(|package| package.name))
            }
        };
        assert_eq!(said, expected, "{line}");
    }

    #[test]
    fn commands_become_packages_where_that_is_sure() {
        check("npx -y @acme/notes@1.2.3 /data", r#"npm @acme/notes 1.2.3 None ["/data"]"#);
        check("npx -y notes@2.0.0-beta.1", "npm notes 2.0.0-beta.1 None []");
        check(
            "npx --package=@acme/notes@1.2.3 run-notes -v",
            r#"npm @acme/notes 1.2.3 Some("run-notes") ["-v"]"#,
        );
        check("npx -p @acme/notes@1.2.3 notes", "npm @acme/notes 1.2.3 None []");
        check("cmd /c npx -y notes@1.0.0", "npm notes 1.0.0 None []");
        check("uvx mcp-time==2025.9.25 --tz UTC", r#"pypi mcp-time 2025.9.25 None ["--tz", "UTC"]"#);
        check("/usr/bin/uvx --from notes==1.0.0 serve", r#"pypi notes 1.0.0 Some("serve") []"#);
        check("pipx run --spec notes==1.0.0 notes", "pypi notes 1.0.0 None []");
        check("uvx --python 3.12 notes@1.0", "pypi notes 1.0 None []");
        check("docker run -i --rm acme/notes:1.0 serve", r#"image acme/notes:1.0 ["serve"]"#);
    }

    #[test]
    fn what_is_not_sure_stays_a_command() {
        check("npx -y @acme/notes", r#"command npx -y @acme/notes Some("@acme/notes")"#);
        check("npx -y notes@latest", r#"command npx -y notes@latest Some("notes")"#);
        check("npx -y notes@1.x", r#"command npx -y notes@1.x Some("notes")"#);
        check("npx -y notes@1", r#"command npx -y notes@1 Some("notes")"#);
        check("npx --registry x notes@1.0.0", "command npx --registry x notes@1.0.0 None");
        check("npx -y github:acme/notes", "command npx -y github:acme/notes None");
        check("uvx notes[all]==1.0.0", "command uvx notes[all]==1.0.0 None");
        check("uvx --from git+https://x/y.git notes", "command uvx --from git+https://x/y.git notes None");
        check("uv run server.py", "command uv run server.py None");
        check("node /srv/index.js", "command node /srv/index.js None");
        check("docker exec -i box serve", "command docker exec -i box serve None");
        check("npx", "command npx None");
    }
}
