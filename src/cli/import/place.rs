//! Where imported resources go: what is declared there, and the names of their files.

use std::collections::BTreeSet;
use std::path::Path;

use crate::cli::Context;
use crate::cli::files::Planned;
use crate::cli::validate;
use crate::config::{Config, Settings};
use crate::convert::{self, Document, Target};
use crate::daemon;
use crate::manifest::RepoPath;
use crate::reference;
use crate::resource::{Kind, ResourceId, Spec};

/// What is declared in a folder, in those above it in its repository, and below it. None when it is in
/// no repository, or that cannot be read: then nothing is there as far as is known.
pub(super) async fn target(folder: &Path, context: &Context) -> Option<Target> {
    let absolute = std::path::absolute(folder).ok()?;
    let there = absolute.ancestors().find(|parent| parent.is_dir())?;
    let (repo, inside) = validate::locate(there).ok()?;
    let rest = absolute.strip_prefix(there).ok()?.to_str()?.to_owned();
    let inside = RepoPath::parse(&inside)?.join(&rest)?;
    let settings = Settings { repo: Some(repo), worktree: Some(true), ..Settings::default() };
    let config = Config::new(&settings, context.environment.clone()).ok()?;
    let source = daemon::source::open(&config).ok()?;
    let snapshot = source.fetch().await.ok()?;
    let manifest = validate::load(&*source, &snapshot, None).await.ok()?;
    let mut target = Target::default();
    for (path, (_, file)) in &manifest.files {
        if near(&path.parent(), &inside) {
            file.resources.iter().for_each(|declared| add(&mut target, &declared.id(), &declared.spec));
        }
    }
    Some(target)
}

/// Whether one folder holds the other.
fn near(one: &RepoPath, other: &RepoPath) -> bool {
    let holds = |outer: &RepoPath, inner: &RepoPath| {
        outer.as_str().is_empty()
            || inner
                .as_str()
                .strip_prefix(outer.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    holds(one, other) || holds(other, one)
}

fn add(target: &mut Target, id: &ResourceId, spec: &Spec) {
    target.taken.insert(id.clone());
    match spec {
        Spec::Runner(runner) => target.runners.extend(runner.kind()),
        Spec::Crib(crib) => target.crib = Some(crib.defaults.images.clone()),
        _ => {}
    }
}

/// How deep a folder is below the one that has, or gets, the schema of documents; and the schema, where it is
/// not there yet. The root of the repository has it, unless a folder between has one of its own.
fn schema(folder: &Path) -> (usize, Option<Planned>) {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let has = |file: &str| absolute.ancestors().position(|parent| parent.join(file).exists());
    let git = has(".git");
    if let Some(depth) = has(convert::SCHEMA_FILE).filter(|depth| git.is_none_or(|git| *depth <= git)) {
        return (depth, None);
    }
    let depth = git.unwrap_or(0);
    let root = absolute.ancestors().nth(depth).unwrap_or(&absolute);
    let up = if depth == 0 { folder.to_owned() } else { root.to_owned() };
    let text = format!("{:#}\n", reference::any());
    let what = "for editors".to_owned();
    (depth, Some(Planned { path: up.join(convert::SCHEMA_FILE), what, text }))
}

/// A file for each document, named after it, and the schema that editors read.
pub(super) fn plan(folder: &Path, documents: &[Document]) -> Vec<Planned> {
    let (depth, schema) = schema(folder);
    let mut names = BTreeSet::new();
    let mut planned = Vec::new();
    for document in documents {
        let kind = document.kind.as_str().to_ascii_lowercase();
        let own = match document.kind {
            Kind::Crib => "crib".to_owned(),
            Kind::Server | Kind::Tool if !names.contains(document.name.as_str()) => document.name.to_string(),
            _ => format!("{kind}-{}", document.name),
        };
        planned.push(Planned {
            path: folder.join(format!("{own}.yaml")),
            what: document.id().to_string(),
            text: format!("{}\n{}", convert::schema_line(depth), document.text()),
        });
        names.insert(own);
    }
    planned.extend(schema);
    planned
}
