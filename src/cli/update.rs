//! `update`: newer versions within the declared ranges, written with their locks.

mod find;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::index::IndexArgs;
use super::lock::{self, CommitArgs, survey, write};
use super::validate::{self, Loaded};
use crate::config::{Config, Repository, Settings};
use crate::daemon::update::Versions;
use crate::lock::Difference;
use crate::manifest::{RepoPath, parse_file};
use crate::resource::ResourceId;
use find::Written;

/// Move versions to the newest within their declared ranges.
///
/// Those of packages, Git tags and image tags.
///
/// The range is the annotation `toolcrib.dev/update` of a server or tool: "^1.2", "~1.2", ">=1, <3" or
/// "*". The version is replaced in the manifest of the work tree, comments and layout stay, and the lock
/// is written anew from what the new version offers: the difference is what a pull request is about.
/// Images are looked for on the engine, and at the registry that their name says (or --image-registry).
#[derive(Debug, clap::Args)]
#[command(mut_args(|arg| super::hide(arg, &["listen", "admin", "public_url", "interval", "name", "worktree", "reference", "state"])))]
#[command(after_help = "Examples:
  toolcrib update --dry-run                    what is newer
  toolcrib update weather                      one server, with its lock
  toolcrib update weather --range '^2'         beyond the declared range
  toolcrib update --commit --branch update --author 'Bot <bot@example.com>'
  toolcrib update --python-index https://index.example/simple")]
pub(super) struct Update {
    /// Servers and tools [default: all that declare a range].
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Say what is newer, and write and start nothing.
    #[arg(long, conflicts_with = "commit")]
    dry_run: bool,
    /// Range instead of the declared one.
    #[arg(long, value_name = "RANGE", requires = "names")]
    range: Option<String>,
    /// With --commit, nothing may be edited and not committed: it would be in what is asked.
    #[command(flatten)]
    commit: CommitArgs,
    #[command(flatten)]
    index: IndexArgs,
    #[command(flatten)]
    settings: Settings,
}

/// What became of one version.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    resource: ResourceId,
    /// Where the version is written.
    place: String,
    written: String,
    /// None: it is the newest.
    newest: Option<String>,
    /// Of the definitions, when the lock was written.
    differences: Vec<Difference>,
    /// Why nothing was done.
    why: Option<String>,
    failed: bool,
}

impl Update {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        if self.settings.reference.is_some() {
            return Err(CliError::usage("a work tree is updated, not a ref").hint("leave out --ref"));
        }
        let (config, loaded) = validate::open(self.settings.clone(), None, context).await?;
        let Repository::Local(root) = config.repository.clone() else {
            return Err(CliError::usage("versions are written into a local repository")
                .hint("clone it, and run this there"));
        };
        self.commit.author()?;
        if self.commit.commit && loaded.snapshot.revision.dirty {
            return Err(CliError::failure("something is edited and not committed, and would be asked too")
                .hint("commit or stash it, or leave out --commit"));
        }
        let chosen = lock::choose(&self.names, &loaded)?;
        let versions = Versions::new(&config, self.index.indexes(&context.environment));
        let mut outcomes = Vec::new();
        let mut moves = Vec::new();
        for id in &chosen {
            let Some(written) = find::written(&loaded, id) else { continue };
            let range = self.range.as_deref().or(written.range.as_deref());
            // What says nothing of updates is told of only when it was asked for.
            if range.is_none() && self.names.is_empty() {
                continue;
            }
            let mut outcome = written.outcome();
            match find::newest(&versions, &loaded, &written, range).await {
                Ok(newest) => outcome.newest = newest,
                Err(error) => (outcome.why, outcome.failed) = (Some(error), true),
            }
            if outcome.newest.is_some() {
                moves.push(written);
            }
            outcomes.push(outcome);
        }
        if !self.dry_run && !moves.is_empty() {
            let mut written = WorkTree::new(&root);
            apply(&config, &mut written, &loaded, &versions, &moves, &mut outcomes).await?;
            self.commit(written, &outcomes).await?;
        }
        context.out.print(&outcomes, || text(&outcomes, self.dry_run))?;
        Ok(if outcomes.iter().any(|outcome| outcome.failed) { Exit::Failure } else { Exit::Success })
    }

    /// Commits what was written, if that was asked for. With another branch than the one that is checked
    /// out, the work tree is as before.
    async fn commit(&self, written: WorkTree<'_>, outcomes: &[Outcome]) -> CliResult<()> {
        let WorkTree { root, before, now } = written;
        self.commit.apply(root, now.into_iter().collect(), message(outcomes)).await?;
        if self.commit.branch.is_some() {
            write::write(root, &before.into_iter().collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

/// What was written into a work tree.
struct WorkTree<'a> {
    root: &'a Path,
    /// What stood there before anything was written.
    before: BTreeMap<RepoPath, Option<Vec<u8>>>,
    now: BTreeMap<RepoPath, Option<Vec<u8>>>,
}

impl<'a> WorkTree<'a> {
    fn new(root: &'a Path) -> Self {
        Self { root, before: BTreeMap::new(), now: BTreeMap::new() }
    }

    fn write(&mut self, files: Vec<write::File>) -> CliResult<()> {
        for (path, old) in write::write(self.root, &files)? {
            self.before.entry(path).or_insert(old);
        }
        self.now.extend(files);
        Ok(())
    }

    fn manifests(&mut self, files: &Files) -> CliResult<()> {
        self.write(files.iter().map(|(path, text)| (path.clone(), Some(text.clone().into_bytes()))).collect())
    }
}

type Files = BTreeMap<RepoPath, String>;

/// Writes the new versions, asks what they offer, and takes back what does not work.
async fn apply(
    config: &Config,
    tree: &mut WorkTree<'_>,
    loaded: &Loaded,
    versions: &Versions<'_>,
    moves: &[Written],
    outcomes: &mut [Outcome],
) -> CliResult<()> {
    let mut files = Files::new();
    let mut changed = BTreeSet::new();
    for written in moves {
        let Some(outcome) = outcomes.iter_mut().find(|outcome| outcome.resource == written.id) else {
            continue;
        };
        let Some(newest) = outcome.newest.clone() else { continue };
        let declared = loaded.manifest.resources.get(&written.id);
        let Some(declared) = declared else { continue };
        let text = files.get(&written.file).map_or(&*declared.text, String::as_str).to_owned();
        if let Some(text) = edited(&text, written, &written.version, &newest) {
            files.insert(written.file.clone(), text);
            changed.insert(written.id.clone());
        } else {
            outcome.failed = true;
            outcome.why = Some(format!(
                "`{}` does not stand plainly at {}; write it there, or move it by hand",
                written.version, outcome.place
            ));
        }
    }
    tree.manifests(&files)?;
    let found = if changed.is_empty() { Ok(Vec::new()) } else { survey(config, &changed).await };
    let mut back: Vec<ResourceId> = Vec::new();
    match found {
        Ok(mut found) => {
            lock::hashes(versions, &mut found).await;
            let plan = write::plan(config, loaded, found);
            for locked in plan.outcomes {
                let Some(outcome) = outcomes.iter_mut().find(|outcome| outcome.resource == locked.resource)
                else {
                    continue;
                };
                if locked.state.bad() {
                    outcome.failed = true;
                    outcome.why = Some(format!(
                        "the new version does not work, and is taken back: {}",
                        locked.why.join("; ")
                    ));
                    back.push(locked.resource);
                } else {
                    outcome.differences = locked.differences;
                }
            }
            tree.write(plan.files)?;
        }
        Err(error) => {
            take_back(tree, &mut files, moves, outcomes, &changed.into_iter().collect::<Vec<_>>())?;
            return Err(error);
        }
    }
    take_back(tree, &mut files, moves, outcomes, &back)
}

/// The text with the version of one resource replaced.
fn edited(text: &str, written: &Written, old: &str, new: &str) -> Option<String> {
    let parsed = parse_file(&written.file, text.as_bytes());
    let declared = parsed.resources.iter().find(|declared| declared.id() == written.id)?;
    declared.replaced(&written.field, old, new)
}

fn take_back(
    tree: &mut WorkTree<'_>,
    files: &mut Files,
    moves: &[Written],
    outcomes: &[Outcome],
    back: &[ResourceId],
) -> CliResult<()> {
    for written in moves.iter().filter(|written| back.contains(&written.id)) {
        let newest = outcomes.iter().find(|outcome| outcome.resource == written.id);
        let (Some(newest), Some(text)) =
            (newest.and_then(|outcome| outcome.newest.as_deref()), files.get(&written.file))
        else {
            continue;
        };
        if let Some(text) = edited(text, written, newest, &written.version) {
            files.insert(written.file.clone(), text);
        }
    }
    tree.manifests(files)
}

/// The message of a commit: what moved, and what that changes of the definitions.
fn message(outcomes: &[Outcome]) -> String {
    let moved: Vec<&Outcome> =
        outcomes.iter().filter(|outcome| !outcome.failed && outcome.newest.is_some()).collect();
    let to = |outcome: &Outcome| outcome.newest.clone().unwrap_or_default();
    let first = match moved.as_slice() {
        [one] => format!("update: {} to {}", one.resource, to(one)),
        several => format!("update: {} versions", several.len()),
    };
    let mut text = first + "\n";
    for outcome in moved {
        let _ = writeln!(text, "\n{}: {} is now {}", outcome.resource, outcome.written, to(outcome));
        for line in outcome.differences.iter().flat_map(lock::lines) {
            let _ = writeln!(text, "  {}", line.replace('\n', "\n  "));
        }
    }
    super::render::harmless(&text)
}

fn text(outcomes: &[Outcome], dry_run: bool) -> String {
    let mut text = String::new();
    let mut line = |indent: &str, words: &str| {
        for part in words.lines() {
            text.push_str(indent);
            text.push_str(part);
            text.push('\n');
        }
    };
    if outcomes.is_empty() {
        line("", "Nothing declares a range: annotate a server with `toolcrib.dev/update: \"^1.2\"`.");
    }
    for Outcome { resource, place, written, newest, differences, why, failed: _ } in outcomes {
        let said = match (newest, why) {
            (_, Some(why)) => format!("{written} stays: {why}"),
            (Some(newest), None) if dry_run => format!("{written} could be {newest} ({place})"),
            (Some(newest), None) => format!("{written} is now {newest} ({place})"),
            (None, None) => format!("{written} is the newest"),
        };
        line("", &format!("{resource}: {said}"));
        for difference in differences.iter().flat_map(lock::lines) {
            line("  ", &difference);
        }
    }
    super::render::harmless(&text)
}
