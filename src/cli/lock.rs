//! `lock`: the definitions and resolutions a revision is reviewed with, written and checked.

mod check;
mod commit;
pub(super) mod write;

pub(super) use check::lines;
pub(super) use commit::CommitArgs;

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::index::IndexArgs;
use super::target::Target;
use super::validate::{self, Loaded};
use super::{Context, interrupt};
use crate::admin::LockView;
use crate::config::{Config, Repository, Settings};
use crate::daemon;
use crate::daemon::update::Versions;
use crate::desired::source_of;
use crate::lock::{Difference, Lock};
use crate::manifest::suggest::nearest;
use crate::manifest::{RepoPath, parse_lock};
use crate::resource::ResourceId;
use crate::resource::server::PackageSource;

/// Write the locks: what servers offer and what sources resolve to, for review.
///
/// Looks up, builds, starts and asks the servers of the work tree in a place of its own, writes one file
/// per resource below locks/, and leaves nothing running. A daemon then offers what the lock holds
/// (`tools.trust` of a server says how strictly).
#[derive(Debug, clap::Args)]
#[command(mut_args(|arg| super::hide(arg, &["listen", "public_url", "interval", "name", "worktree"])))]
#[command(after_help = "Examples:
  toolcrib lock                                   all servers, and tools with an image
  toolcrib lock weather                           one server
  toolcrib lock weather --from-daemon             as a running daemon sees it, for servers with secrets
  toolcrib lock --check                           in CI: fails when a lock is stale; starts nothing
  toolcrib lock --commit --branch locks --author 'Bot <bot@example.com>'")]
pub(super) struct LockCommand {
    /// Servers and tools [default: all].
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Take what a running daemon saw, which has the secrets that servers need.
    #[arg(long, conflicts_with = "check")]
    from_daemon: bool,
    /// Write nothing; fail when a lock is stale or missing where one is needed.
    #[arg(long, conflicts_with = "commit")]
    check: bool,
    /// With --check: ask the servers too, whether they list what their lock holds.
    #[arg(long, requires = "check")]
    probe: bool,
    /// With --commit, the locks are of what is committed.
    #[command(flatten)]
    commit: CommitArgs,
    #[command(flatten)]
    index: IndexArgs,
    #[command(flatten)]
    settings: Settings,
}

/// What became of one lock.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Outcome {
    pub(super) resource: ResourceId,
    /// In the repository.
    path: String,
    pub(super) state: Word,
    /// From the lock before to this one.
    pub(super) differences: Vec<Difference>,
    /// Why it failed or is stale.
    pub(super) why: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Word {
    Written,
    Unchanged,
    Removed,
    Fresh,
    Stale,
    /// There is none, and none is needed.
    Unlocked,
    Failed,
}

impl Word {
    pub(super) fn bad(self) -> bool {
        matches!(self, Self::Failed | Self::Stale)
    }
}

impl LockCommand {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let mut settings = self.settings.clone();
        if self.commit.commit && settings.reference.is_none() {
            // What is committed is locked, not what is being edited.
            settings.reference = Some("HEAD".to_owned());
        }
        let (config, loaded) = validate::open(settings, None, context).await?;
        let Repository::Local(root) = config.repository.clone() else {
            return Err(CliError::usage("locks are written into a local repository")
                .hint("clone it, and run this there"));
        };
        let chosen = choose(&self.names, &loaded)?;
        let outcomes = if self.check {
            self.check(&config, &loaded, &chosen).await?
        } else {
            let found = self.found(&config, &chosen, context).await?;
            let mut plan = write::plan(&config, &loaded, found);
            if self.names.is_empty() {
                plan.remove_strays(&config, &loaded);
            }
            self.write(&root, plan).await?
        };
        context.out.print(&outcomes, || text(&outcomes))?;
        Ok(if outcomes.iter().any(|outcome| outcome.state.bad()) { Exit::Failure } else { Exit::Success })
    }

    /// What the locks would hold.
    async fn found(
        &self,
        config: &Config,
        chosen: &BTreeSet<ResourceId>,
        context: &Context,
    ) -> CliResult<Vec<LockView>> {
        let mut found: Vec<LockView> = if self.from_daemon {
            let target = Target { admin: self.settings.admin.clone(), state: self.settings.state.clone() };
            target.changes(context).await?.get_json("/api/v1/locks").await?
        } else {
            survey(config, chosen).await?
        };
        hashes(&Versions::new(config, self.index.indexes(&context.environment)), &mut found).await;
        found.retain(|one| chosen.contains(&one.resource));
        for id in chosen {
            if !found.iter().any(|one| one.resource == *id) {
                let error = if self.from_daemon {
                    "the daemon does not have it; does it follow this repository and revision?"
                } else {
                    "it was not asked"
                };
                found.push(LockView { resource: id.clone(), lock: None, error: Some(error.to_owned()) });
            }
        }
        found.sort_by(|a, b| a.resource.cmp(&b.resource));
        Ok(found)
    }

    async fn check(
        &self,
        config: &Config,
        loaded: &Loaded,
        chosen: &BTreeSet<ResourceId>,
    ) -> CliResult<Vec<Outcome>> {
        let named = !self.names.is_empty();
        let mut outcomes = check::stale(config, loaded, chosen, named);
        if self.probe {
            let locked = outcomes.iter().filter(|one| one.state == Word::Fresh);
            let asked: BTreeSet<ResourceId> = locked.map(|one| one.resource.clone()).collect();
            let found = if asked.is_empty() { Vec::new() } else { survey(config, &asked).await? };
            check::compare(&mut outcomes, loaded, found);
        }
        Ok(outcomes)
    }

    async fn write(&self, root: &Path, plan: write::Plan) -> CliResult<Vec<Outcome>> {
        self.commit.author()?;
        if self.commit.branch.is_none() {
            write::write(root, &plan.files)?;
        }
        let message = "locks: as looked up, built and asked".to_owned();
        self.commit.apply(root, plan.files, message).await?;
        Ok(plan.outcomes)
    }
}

pub(super) async fn survey(config: &Config, chosen: &BTreeSet<ResourceId>) -> CliResult<Vec<LockView>> {
    let cancel = CancellationToken::new();
    let asking = daemon::lock::survey(config, chosen.clone(), cancel.clone());
    Ok(Box::pin(interrupt::until_done(&cancel, asking)).await??)
}

/// Adds the hashes of packages, where it is known who has them.
pub(super) async fn hashes(versions: &Versions<'_>, found: &mut [LockView]) {
    for view in found {
        let Some(text) = &view.lock else { continue };
        let place = RepoPath::parse(&Lock::path(&view.resource));
        let read = place.and_then(|place| parse_lock(&place, &view.resource, text.as_bytes()).lock);
        let Some(read) = read else { continue };
        let package = serde_json::from_value::<PackageSource>(read.source["package"].clone()).ok();
        let Some(package) = package.filter(|package| versions.knows(package.registry)) else { continue };
        match versions.releases(package.registry, &package.name).await {
            Ok(mut releases) => {
                let mut lock = Lock::clone(&read);
                lock.resolved.hashes = releases.remove(&package.version).unwrap_or_default();
                view.lock = Some(lock.write());
            }
            Err(error) => {
                tracing::warn!(resource = %view.resource, error = %error.chain(), "the lock has no hashes");
            }
        }
    }
}

/// The resources that are meant: all that can have a lock, or those of these names.
pub(super) fn choose(names: &[String], loaded: &Loaded) -> CliResult<BTreeSet<ResourceId>> {
    let resources = &loaded.manifest.resources;
    let lockable = resources.iter().filter(|(_, declared)| source_of(&declared.spec).is_some());
    let lockable: BTreeSet<ResourceId> = lockable.map(|(id, _)| id.clone()).collect();
    if names.is_empty() {
        return Ok(lockable);
    }
    let mut chosen = BTreeSet::new();
    for name in names {
        let meant: Vec<&ResourceId> = match ResourceId::parse(name) {
            Some(id) => lockable.iter().filter(|known| **known == id).collect(),
            None => lockable.iter().filter(|known| known.name.as_str() == name).collect(),
        };
        if meant.is_empty() {
            let known = lockable.iter().map(|id| id.name.as_str());
            let hint = match nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    "servers can be locked, and tools with an image; `toolcrib tree` lists them".to_owned()
                }
            };
            return Err(CliError::usage(format!("`{name}` is nothing that can be locked")).hint(hint));
        }
        chosen.extend(meant.into_iter().cloned());
    }
    Ok(chosen)
}

fn text(outcomes: &[Outcome]) -> String {
    if outcomes.is_empty() {
        return "Nothing to lock: no server, and no tool with an image.\n".to_owned();
    }
    let mut text = String::new();
    for Outcome { resource, path, state, differences, why } in outcomes {
        let said = match state {
            Word::Written => format!("{resource}: written to {path}"),
            Word::Unchanged => format!("{resource}: unchanged"),
            Word::Removed => format!("{resource}: not declared; {path} is removed"),
            Word::Fresh => format!("{resource}: fresh"),
            Word::Stale => format!("{resource}: stale; write it anew with `toolcrib lock {}`", resource.name),
            Word::Unlocked => format!("{resource}: not locked"),
            Word::Failed => format!("{resource}: failed"),
        };
        text.push_str(&said);
        text.push('\n');
        let lines = differences.iter().flat_map(check::lines).chain(why.iter().cloned());
        for line in lines {
            for line in line.lines() {
                text.push_str("  ");
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    super::render::harmless(&text)
}

/// Where the lock of a resource stands in the repository.
fn path_of(config: &Config, id: &ResourceId) -> String {
    let below = Lock::path(id);
    match config.path.as_str() {
        "" => below,
        folder => format!("{folder}/{below}"),
    }
}
