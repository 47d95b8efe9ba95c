//! `validate`: what manifests say, and what is wrong with them.

mod github;
mod sarif;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use super::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::render::Format;
use crate::config::{Config, Repository, Settings};
use crate::contract;
use crate::daemon;
use crate::desired::{self, Desired, Resolutions};
use crate::manifest::code::{CODES, find};
use crate::manifest::diagnostic::Severity;
use crate::manifest::suggest::nearest;
use crate::manifest::{self, BlobId, Diagnostic, MAX_MANIFEST_BYTES, Manifest, Snapshot};
use crate::policy::PolicySet;
use crate::policy::admit::Admission;
use crate::ports::{PortResult, Source};
use crate::reconcile::rules_of;
use crate::resource::Revision;
use crate::status::counted;

/// Rounds of reading: each finds at least one more ignore file, and folders nest no deeper.
const MAX_ROUNDS: usize = 32;

/// The forms in which faults are printed.
pub(super) const FORMATS: &[Format] = &[Format::Text, Format::Json, Format::Sarif, Format::Github];

/// Check manifests; start nothing and ask no network.
///
/// Reads the work tree, uncommitted edits included, or with --ref the files of a commit. Every mistake is
/// shown with its place, not only the first. Output can be text, json, sarif (for code scanning) or github
/// (annotations in a job of GitHub Actions).
#[derive(Debug, clap::Args)]
#[command(mut_args(|arg| super::hide(arg, &["listen", "admin", "public_url", "state", "interval", "name", "worktree"])))]
#[command(after_help = "Examples:
  toolcrib validate                          this folder
  toolcrib validate examples/quickstart
  toolcrib validate --ref main tools         as committed
  toolcrib validate --error unpinned-image   a warning that is to fail the check
  toolcrib validate --output sarif > toolcrib.sarif
  toolcrib validate --output github          in a job of GitHub Actions
  toolcrib validate --output json | jq '.diagnostics[].message'")]
pub(super) struct Validate {
    /// Folder of manifests inside a Git repository [default: this folder].
    #[arg(value_name = "PATH", conflicts_with_all = ["repo", "path"])]
    folder: Option<PathBuf>,
    /// Treat every warning as an error.
    #[arg(long)]
    deny_warnings: bool,
    /// Treat warnings with this code as errors; can be given more than once.
    #[arg(long = "error", value_name = "CODE")]
    denied: Vec<String>,
    #[command(flatten)]
    settings: Settings,
}

/// What was found.
struct Found {
    revision: Revision,
    resources: usize,
    skipped: usize,
    diagnostics: Vec<Diagnostic>,
}

impl Validate {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let (config, loaded) = open(self.settings, self.folder.as_deref(), context).await?;
        let mut found = check(loaded);
        found.deny(self.deny_warnings, &self.denied)?;
        let (errors, warnings) = found.counts();
        match context.out.format() {
            Format::Sarif => context.out.json(&sarif::log(&found.diagnostics))?,
            Format::Github => context.out.text(&github::annotations(&found.diagnostics))?,
            Format::Text | Format::Json | Format::Markdown | Format::Junit => {
                let value = json!({
                    "revision": found.revision.to_string(),
                    "worktree": config.worktree,
                    "resources": found.resources,
                    "skipped": found.skipped,
                    "errors": errors,
                    "warnings": warnings,
                    "diagnostics": found.diagnostics,
                });
                context.out.print(&value, || found.text(config.worktree))?;
            }
        }
        Ok(if errors == 0 { Exit::Success } else { Exit::Failure })
    }
}

impl Found {
    /// Makes errors of warnings: of all, or of those with these codes.
    fn deny(&mut self, all: bool, codes: &[String]) -> CliResult<()> {
        if let Some(unknown) = codes.iter().find(|code| find(code).is_none()) {
            let near = nearest(unknown, CODES.iter().map(|code| code.id));
            let hint = near.map_or_else(
                || "codes stand in brackets in front of each message".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            return Err(CliError::usage(format!("`{unknown}` is not the code of a warning")).hint(hint));
        }
        for said in &mut self.diagnostics {
            if all || codes.iter().any(|code| code == said.code) {
                said.severity = Severity::Error;
            }
        }
        Ok(())
    }

    /// Errors and warnings.
    fn counts(&self) -> (usize, usize) {
        let errors = self.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
        (errors, self.diagnostics.len() - errors)
    }

    fn text(&self, worktree: bool) -> String {
        let (errors, warnings) = self.counts();
        let mut text = String::new();
        for diagnostic in &self.diagnostics {
            let _ = writeln!(text, "{diagnostic}\n");
        }
        let revision = match &self.revision {
            unborn if unborn.commit.bytes().all(|digit| digit == b'0') => {
                format!("{}, which has no commit yet,", unborn.reference)
            }
            revision => revision.to_string(),
        };
        let next = match (errors, self.resources) {
            (0, 0) => "\nhint: `toolcrib init DIR` makes a repository to begin with",
            _ => "",
        };
        let judged = match (errors, self.resources) {
            (0, 0) => "no resources".to_owned(),
            (0, resources) => format!("{} valid", counted(resources, "resource")),
            (errors, _) => counted(errors, "error"),
        };
        let warned =
            if warnings == 0 { String::new() } else { format!(", {}", counted(warnings, "warning")) };
        let marked = if worktree { " worktree" } else { "" };
        text + &format!("{judged}{warned} in {revision}{marked}{next}\n")
    }
}

/// The repository around a folder, and the folder inside it.
pub(super) fn locate(folder: &Path) -> CliResult<(String, String)> {
    let found = folder.canonicalize().map_err(|error| {
        CliError::usage(format!("there is no folder `{}`", folder.display())).caused_by(&error)
    })?;
    if !found.is_dir() {
        return Err(CliError::usage(format!("`{}` is not a folder", folder.display()))
            .hint("name the folder that holds the manifest"));
    }
    let root = found.ancestors().find(|parent| parent.join(".git").exists()).ok_or_else(|| {
        CliError::failure(format!("`{}` is not in a Git repository", folder.display()))
            .hint("run `git init` in it, or name another folder")
    })?;
    let inside = found.strip_prefix(root).unwrap_or(Path::new(""));
    match (root.to_str(), inside.to_str()) {
        (Some(root), Some(inside)) => Ok((root.to_owned(), inside.to_owned())),
        _ => Err(CliError::failure(format!("the path `{}` is not UTF-8", found.display()))),
    }
}

/// The manifests of a revision, resolved as far as that goes without the network.
pub(super) struct Loaded {
    pub(super) snapshot: Snapshot,
    pub(super) manifest: Manifest,
    pub(super) desired: Desired,
    /// Of parsing and of resolving.
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// Opens the repository of the settings, else the one around `folder`: its work tree, or the commit
/// of `--ref`. What only the network knows is assumed to be there.
pub(super) async fn open(
    mut settings: Settings,
    folder: Option<&Path>,
    context: &Context,
) -> CliResult<(Config, Loaded)> {
    if settings.repo.is_none() {
        let (repo, path) = locate(folder.unwrap_or(Path::new(".")))?;
        settings.repo = Some(repo);
        settings.path = settings.path.filter(|_| folder.is_none()).or(Some(path));
    }
    settings.worktree = Some(settings.reference.is_none());
    let mut settings = settings.over(context.file.clone());
    if settings.worktree == Some(true) {
        settings.reference = None;
    }
    let mut config = Config::new(&settings, context.environment.clone())?;
    if let (Repository::Local(path), Some(text)) = (&config.repository, &config.reference)
        && (text.starts_with("HEAD") || text.contains(['~', '^', '{']))
    {
        // Nothing to follow, and good enough to look at once.
        config.reference = Some(daemon::source::commit(path, text)?);
    }
    let source = daemon::source::open(&config)?;
    let snapshot = source.fetch().await?;
    let manifest = load(&*source, &snapshot, None).await?;
    let mut resolutions = Resolutions::assumed(desired::questions(&manifest, &snapshot, &config.floor));
    let wanted: Vec<BlobId> = desired::blobs(&manifest, &snapshot).into_iter().collect();
    resolutions.blobs.extend(read(&*source, &wanted).await?);
    let resolved = desired::resolve(&manifest, &snapshot, &resolutions, &config.floor, None);
    let mut diagnostics = manifest.diagnostics.clone();
    diagnostics.extend(resolved.diagnostics);
    Ok((config, Loaded { snapshot, manifest, desired: resolved.desired, diagnostics }))
}

fn check(loaded: Loaded) -> Found {
    let Loaded { snapshot, manifest, mut desired, mut diagnostics } = loaded;
    let rules = desired.policies.values().map(|source| rules_of(source)).collect();
    match PolicySet::compile(rules) {
        Ok(rules) => {
            diagnostics.extend(Admission::default().admit(&Arc::new(rules), &manifest, &mut desired));
        }
        Err(found) => diagnostics.extend(found),
    }
    diagnostics.extend(contract::check(&manifest, &desired));
    diagnostics.sort();
    diagnostics.dedup();
    Found {
        revision: snapshot.revision,
        resources: manifest.resources.len(),
        skipped: manifest.skipped,
        diagnostics,
    }
}

/// Reads a revision; `previous`: the manifest of the one before, whose version stays of what is faulty.
pub(super) async fn load(
    source: &dyn Source,
    snapshot: &Snapshot,
    previous: Option<&Manifest>,
) -> PortResult<Manifest> {
    let mut contents = BTreeMap::new();
    for _ in 0..MAX_ROUNDS {
        let mut wanted = manifest::wanted(snapshot, previous, &contents);
        wanted.retain(|id| !contents.contains_key(id));
        if wanted.is_empty() {
            break;
        }
        let read = read(source, &wanted).await?;
        if read.is_empty() {
            break;
        }
        contents.extend(read);
    }
    Ok(manifest::load(snapshot, previous, &contents))
}

/// The contents of blobs; those that are too large are left out, and are then a diagnostic.
pub(super) async fn read(source: &dyn Source, ids: &[BlobId]) -> PortResult<BTreeMap<BlobId, Bytes>> {
    let sizes = source.sizes(ids).await?;
    let fits = |(id, size): (&BlobId, u64)| (size <= MAX_MANIFEST_BYTES as u64).then_some(*id);
    let ids: Vec<BlobId> = ids.iter().zip(sizes).filter_map(fits).collect();
    let contents = source.read(&ids, MAX_MANIFEST_BYTES).await?;
    Ok(ids.into_iter().zip(contents).collect())
}
