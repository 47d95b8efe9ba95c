//! Where what runs comes from: images, packages, other repositories, addresses, commands.

use super::{Grants, concern, ids};
use crate::lock::Lock;
use crate::manifest::Declared;
use crate::resource::server::ServerSource;
use crate::resource::{ResourceId, SecretRef, Spec};
use crate::review::{Concern, Side};

/// One thing that runs, or is built on.
struct Origin {
    /// What kind: another kind is another origin.
    kind: &'static str,
    /// Whose: another one is somebody else's.
    of: String,
    /// Which of it: another one is another version.
    version: String,
    field: Vec<&'static str>,
    /// Whether the same words may mean something else tomorrow.
    moves: bool,
}

impl Origin {
    fn told(&self) -> String {
        match self.version.as_str() {
            "" => self.of.clone(),
            version if version.starts_with('@') || version.starts_with(':') => {
                format!("{}{version}", self.of)
            }
            version => format!("{} {version}", self.of),
        }
    }
}

pub(super) fn compare(sides: (&Side<'_>, &Side<'_>)) -> Vec<Concern> {
    let mut concerns = Vec::new();
    for id in ids(sides) {
        let Some(declared) = sides.1.manifest.resources.get(&id) else { continue };
        let before = sides.0.manifest.resources.get(&id).map(|declared| origins(declared));
        concerns.extend(resolved(&id, declared, sides));
        for (at, now) in origins(declared).iter().enumerate() {
            let was = before.as_ref().and_then(|before| before.get(at));
            let place = Some(declared.place_of(&now.field));
            if let Some((widens, says)) = judged(was, now) {
                let told = match was {
                    Some(was) if was.kind != now.kind => {
                        let kind = |origin: &Origin| format!("{} {}", origin.kind, origin.told());
                        (Some(kind(was)), Some(kind(now)))
                    }
                    was => (was.map(Origin::told), Some(now.told())),
                };
                concerns.push(concern(&id, (widens, now.kind, says), told, place.clone()));
            }
            if now.moves && was.is_none_or(|was| !was.moves || was.told() != now.told()) {
                let says = "may run something else tomorrow under the same name:";
                concerns.push(concern(&id, (true, "unpinned", says), (None, Some(now.told())), place));
            }
        }
    }
    concerns
}

/// The same words that the lock found to mean something else.
fn resolved(id: &ResourceId, declared: &Declared, sides: (&Side<'_>, &Side<'_>)) -> Option<Concern> {
    let lock = |side: &Side<'_>| side.manifest.locks.get(id).cloned();
    let (was, now) = (lock(sides.0)?, lock(sides.1)?);
    let found = |lock: &Lock| {
        let resolved = &lock.resolved;
        let all = [&resolved.commit, &resolved.digest, &resolved.image, &resolved.version];
        all.into_iter().flatten().next().cloned()
    };
    let same = was.resolved.commit == now.resolved.commit
        && was.resolved.image == now.resolved.image
        && was.resolved.digest == now.resolved.digest
        && was.resolved.hashes == now.resolved.hashes;
    let says = "means something else than before, as its lock says:";
    let told = (found(&was), found(&now));
    (was.source == now.source && !same)
        .then(|| concern(id, (false, "resolved", says), told, Some(declared.place.clone())))
}

fn judged(was: Option<&Origin>, now: &Origin) -> Option<(bool, &'static str)> {
    let Some(was) = was else {
        return Some((
            false,
            match now.kind {
                "address" => "is new, and calls go to",
                "command" => "is new, and runs the command",
                _ => "is new, and runs",
            },
        ));
    };
    if was.kind != now.kind {
        return Some((true, "comes from another kind of source"));
    }
    if was.of != now.of {
        return Some(match now.kind {
            "command" => (false, "runs another command"),
            "address" => (true, "is reached at another address"),
            "image" => (true, "runs another image"),
            "package" => (true, "runs another package"),
            _ => (true, "comes from somewhere else"),
        });
    }
    (was.version != now.version).then_some((false, "runs another version"))
}

fn origins(declared: &Declared) -> Vec<Origin> {
    match &declared.spec {
        Spec::Tool(spec) => match (&spec.image, &spec.build) {
            (Some(reference), _) => vec![image(reference, vec!["spec", "image"])],
            (None, Some(build)) => vec![plain("build", &build.context, vec!["spec", "build", "context"])],
            (None, None) => vec![plain("command", &spec.command.join(" "), vec!["spec", "command"])],
        },
        Spec::Server(spec) => server(&spec.source),
        _ => Vec::new(),
    }
}

fn server(source: &ServerSource) -> Vec<Origin> {
    let at = |steps: &[&'static str]| [&["spec", "source"][..], steps].concat();
    let base = |base: &Option<String>, steps: &[&'static str]| {
        base.as_deref().map(|reference| image(reference, at(steps)))
    };
    match source {
        ServerSource::Image(source) => vec![image(&source.reference, at(&["image"]))],
        ServerSource::Build(build) => vec![plain("build", &build.context, at(&["build", "context"]))],
        ServerSource::Command(argv) => vec![plain("command", &argv.join(" "), at(&["command"]))],
        ServerSource::Url(url) => vec![plain("address", url, at(&["url"]))],
        ServerSource::Package(package) => {
            let registry = serde_json::to_value(package.registry).unwrap_or_default();
            let of = format!("{} {}", registry.as_str().unwrap_or_default(), package.name);
            let version = package.version.clone();
            let field = at(&["package", "version"]);
            let own = Origin { kind: "package", of, version, field, moves: false };
            std::iter::once(own).chain(base(&package.base, &["package", "base"])).collect()
        }
        ServerSource::Git(git) => {
            let fixed =
                git.reference.len() == 40 && git.reference.bytes().all(|byte| byte.is_ascii_hexdigit());
            let own = Origin {
                kind: "git",
                of: without_user(&git.url),
                version: git.reference.clone(),
                field: at(&["git", "ref"]),
                moves: !fixed,
            };
            std::iter::once(own).chain(base(&git.base, &["git", "base"])).collect()
        }
    }
}

fn plain(kind: &'static str, of: &str, field: Vec<&'static str>) -> Origin {
    Origin { kind, of: without_user(of), version: String::new(), field, moves: false }
}

/// An address without what may be a password in it.
fn without_user(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            let slash = if rest.contains('/') { "/" } else { "" };
            format!("{scheme}://{host}{slash}{path}")
        }
        None => text.to_owned(),
    }
}

/// `registry:5000/name:tag@sha256:…` in its name and the rest.
fn image(reference: &str, field: Vec<&'static str>) -> Origin {
    let (name, digest) = reference.split_once('@').unwrap_or((reference, ""));
    let last = name.rfind('/').map_or(0, |at| at + 1);
    let tag = name.get(last..).and_then(|name| name.find(':')).map(|at| last + at);
    let (of, tag) = name.split_at(tag.unwrap_or(name.len()));
    let version = if digest.is_empty() { tag.to_owned() } else { format!("{tag}@{digest}") };
    let moves = digest.is_empty() && matches!(tag, "" | ":latest");
    Origin { kind: "image", of: of.to_owned(), version, field, moves }
}

/// What a Git source signs in with.
pub(super) fn credentials(source: &ServerSource, grants: &mut Grants) {
    let ServerSource::Git(git) = source else { return };
    let Some(credentials) = &git.credentials else { return };
    let references: [(&str, &Option<SecretRef>); 2] =
        [("password", &credentials.password), ("sshKey", &credentials.ssh_key)];
    for (name, reference) in references {
        if let Some(reference) = reference {
            let what = super::told_secret(reference);
            let field = ["spec", "source", "git", "credentials", name];
            grants.add("secret", what, "signs in elsewhere with the secret", &field);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_taken_apart() {
        for (reference, of, version, moves) in [
            ("a", "a", "", true),
            ("a:latest", "a", ":latest", true),
            ("a:1.2", "a", ":1.2", false),
            ("r:5000/b/a", "r:5000/b/a", "", true),
            ("r:5000/b/a:1", "r:5000/b/a", ":1", false),
            ("a@sha256:00", "a", "@sha256:00", false),
            ("a:latest@sha256:00", "a", ":latest@sha256:00", false),
        ] {
            let origin = image(reference, Vec::new());
            let found = (origin.of.as_str(), origin.version.as_str(), origin.moves);
            assert_eq!(found, (of, version, moves), "{reference}");
            assert_eq!(origin.told(), reference);
        }
        assert_eq!(without_user("https://me:secret@host/a@b"), "https://host/a@b");
        assert_eq!(without_user("git@host:a.git"), "git@host:a.git");
    }
}
