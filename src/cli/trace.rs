//! `trace`: from a published tool back to the line and the commit it comes from.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::render::harmless;
use super::target::Target;
use super::tree::following;
use super::validate::{self, Loaded};
use crate::config::{Config, Repository, Settings};
use crate::daemon::history::{Lines, Touched, last_change};
use crate::desired::{Location, Program, source_of};
use crate::manifest::suggest::nearest;
use crate::manifest::{BlobId, RepoPath};
use crate::relation::offline;
use crate::resource::{Kind, ResourceId, Spec};
use crate::status::{self, ConditionType, Timestamp};

/// Show where a tool comes from: resource, file, line, commit, author, image, lock.
///
/// From the repository alone for tools and for servers with a lock; where a daemon follows this
/// repository, with what is served and how it stands to its lock.
#[derive(Debug, clap::Args)]
#[command(mut_args(|arg| super::hide(arg, &["listen", "public_url", "interval", "name", "worktree"])))]
#[command(after_help = "Examples:
  toolcrib trace weather_forecast
  toolcrib trace weather_forecast --ref v1.2        as of a tag
  toolcrib trace weather_forecast --output json | jq -r .commit.author")]
pub(super) struct Trace {
    /// Published name of a tool.
    #[arg(value_name = "TOOL")]
    tool: String,
    /// Folder of manifests inside a Git repository [default: this folder].
    #[arg(long, value_name = "DIR", conflicts_with_all = ["repo", "path"])]
    folder: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// What a daemon says of a tool.
struct Served {
    owner: ResourceId,
    revision: String,
    /// Of the owner.
    locked: Option<String>,
    /// Provenance in `_meta`.
    meta: Value,
}

impl Trace {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let target = Target { admin: self.settings.admin.clone(), state: self.settings.state.clone() };
        let (config, loaded) = validate::open(self.settings, self.folder.as_deref(), context).await?;
        let served = served(&self.tool, &target, &config, context).await;
        let owner = owner(&self.tool, &loaded, served.as_ref())?;
        let value = trace(&self.tool, &owner, &config, &loaded, served.as_ref()).await?;
        context.out.print(&value, || text(&value))?;
        Ok(Exit::Success)
    }
}

async fn served(tool: &str, target: &Target, config: &Config, context: &Context) -> Option<Served> {
    let status = following(target, config, context).await?;
    let catalog: Value = target.reads(context).get_json("/api/v1/catalog").await.ok()?;
    let entry = catalog["tools"].as_array()?.iter().find(|entry| entry["name"] == *tool)?;
    let owner = ResourceId::parse(entry["owner"].as_str()?)?;
    let resource = status.resources.get(&owner);
    let locked = resource.and_then(|one| status::get(&one.conditions, ConditionType::Locked));
    Some(Served {
        revision: catalog["revision"].as_str()?.to_owned(),
        locked: locked.map(|locked| format!("{}: {}", locked.reason, locked.message)),
        meta: entry["definition"]["_meta"].clone(),
        owner,
    })
}

/// Whose tool it is: as served, as locked, or by the prefix of a server nobody locked.
fn owner(tool: &str, loaded: &Loaded, served: Option<&Served>) -> CliResult<ResourceId> {
    let catalog = offline(&loaded.manifest, &loaded.desired);
    if let Some(owner) =
        served.map(|served| &served.owner).or(catalog.tools.get(tool).map(|entry| &entry.owner))
    {
        return Ok(owner.clone());
    }
    let unlocked = loaded.desired.servers.values().filter(|server| {
        server.synced
            && !server.prefix.is_empty()
            && tool.starts_with(&server.prefix)
            && !loaded.manifest.locks.contains_key(&server.id)
    });
    let longest = unlocked.max_by_key(|server| server.prefix.len());
    longest.map(|server| server.id.clone()).ok_or_else(|| {
        let error = CliError::failure(format!("no tool `{tool}` is published"));
        match nearest(tool, catalog.tools.keys().map(AsRef::as_ref)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(
                "tools of servers are known from their locks (`toolcrib lock`), or from a daemon that follows this folder (`--folder DIR` names another)",
            ),
        }
    })
}

async fn trace(
    tool: &str,
    owner: &ResourceId,
    config: &Config,
    loaded: &Loaded,
    served: Option<&Served>,
) -> CliResult<Value> {
    let manifest = &loaded.manifest;
    let Some(declared) = manifest.resources.get(owner) else {
        return Err(CliError::failure(format!("`{owner}` is served, and not declared in this revision"))
            .hint("look at the revision that is served: `toolcrib trace --ref …`"));
    };
    let file = &declared.place.file;
    let starts = manifest.files.get(file).map(|(_, parsed)| &parsed.resources);
    let starts = starts.into_iter().flatten().map(|other| other.place.line);
    let all = u32::try_from(declared.text.lines().count()).unwrap_or(u32::MAX);
    let last = starts.filter(|line| *line > declared.place.line).min().map_or(all, |next| next - 1);
    let commit = touched(config, loaded, file, (declared.place.line, last)).await?;
    let lock_file = manifest.lock_file(&config.path, owner).cloned();
    let lock = manifest.locks.get(owner);
    let locked = match (&lock_file, lock) {
        (Some(path), Some(lock)) => {
            let lines = u32::try_from(lock.write().lines().count()).unwrap_or(u32::MAX);
            json!({
                "file": path,
                "signer": match &lock.signer { crate::lock::Signer::By(name) => name, crate::lock::Signer::Unsigned => "unsigned" },
                "resolved": lock.resolved,
                "commit": touched(config, loaded, path, (1, lines)).await?,
            })
        }
        _ => Value::Null,
    };
    let (image, build) = made_of(loaded, owner);
    Ok(json!({
        "tool": tool,
        "resource": owner,
        "revision": loaded.snapshot.revision.to_string(),
        "declared": declared.place.to_string(),
        "source": source_of(&declared.spec).or_else(|| match &declared.spec {
            Spec::Tool(spec) => Some(json!({"command": spec.command})),
            _ => None,
        }),
        "commit": commit,
        "image": served.and_then(|served| served.meta["dev.toolcrib/image"].as_str().map(str::to_owned)).or(image),
        "build": build,
        "lock": locked,
        "served": served.map(|served| json!({
            "revision": served.revision,
            "changed": served.meta["dev.toolcrib/revision"],
            "lock": served.locked,
        })),
    }))
}

/// Who last touched lines of a file of a local repository; none for edits that are not committed.
async fn touched(
    config: &Config,
    loaded: &Loaded,
    path: &RepoPath,
    (first, last): (u32, u32),
) -> CliResult<Option<Touched>> {
    let Repository::Local(root) = &config.repository else { return Ok(None) };
    let blob: Option<BlobId> = loaded.snapshot.files.get(path).map(|entry| entry.id);
    let Some(blob) = blob else { return Ok(None) };
    let commit = loaded.snapshot.revision.commit.clone();
    Ok(last_change(root, Lines { path: path.clone(), blob, commit, first, last }).await?)
}

/// The image and the build digest, as far as the repository and the lock know them.
fn made_of(loaded: &Loaded, owner: &ResourceId) -> (Option<String>, Option<String>) {
    let (image, build) = if owner.kind == Kind::Server {
        let Some(server) = loaded.desired.servers.get(&owner.name) else { return (None, None) };
        let image = match &server.location {
            Location::Runner(workload) => match &workload.program {
                Program::Image { reference, .. } => Some(reference.clone()),
                Program::Command { .. } => None,
            },
            Location::Remote { .. } => None,
        };
        (image, server.digests.build)
    } else {
        let Some(tool) = loaded.desired.tools.get(&owner.name) else { return (None, None) };
        (tool.image.as_ref().map(|(reference, _)| reference.clone()), tool.digests.build)
    };
    (image, build.map(|digest| digest.to_string()))
}

fn text(value: &Value) -> String {
    let mut text = format!("{}\n", value["tool"].as_str().unwrap_or_default());
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() && value != "null" {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {name:<10}{value}");
        }
    };
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let touched = |commit: &Value| {
        let time = commit["time"].as_i64().and_then(|time| u64::try_from(time).ok()).map(Timestamp);
        let short = commit["commit"].as_str().and_then(|id| id.get(..12)).unwrap_or_default();
        let time = time.map(|time| time.to_string()).unwrap_or_default();
        format!("{short} {time} {}: {}", word(&commit["author"]), word(&commit["summary"]))
    };
    line("resource", &word(&value["resource"]));
    line("declared", &word(&value["declared"]));
    line("revision", &word(&value["revision"]));
    let uncommitted = "not committed like this".to_owned();
    line("commit", &if value["commit"].is_null() { uncommitted } else { touched(&value["commit"]) });
    line("source", &value["source"].to_string());
    line("image", &word(&value["image"]));
    line("build", &word(&value["build"]));
    if value["lock"].is_null() {
        line("lock", "none");
    } else {
        let lock = &value["lock"];
        line("lock", &format!("{} ({})", word(&lock["file"]), word(&lock["signer"])));
        let by = &lock["commit"];
        line("reviewed", &if by.is_null() { "not committed like this".to_owned() } else { touched(by) });
        line("resolved", &lock["resolved"].to_string().replace("{}", ""));
    }
    if !value["served"].is_null() {
        line("served", &word(&value["served"]["revision"]));
        line("changed", &word(&value["served"]["changed"]));
        line("stands", &word(&value["served"]["lock"]));
    }
    harmless(&text)
}
