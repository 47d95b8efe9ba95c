//! Git: the followed repository and the repositories that sources name.
//!
//! Input: paths, addresses, refs. Output: [`Source`] and [`Lookup`]. Invariants: everything is read
//! from object databases by id (only [`Options::worktree`] reads a work tree); what comes over the
//! network is fetched by a child process of our own binary, with limits on time and memory, without
//! hooks and without anybody's Git configuration; no secret is in an argument, the environment, an
//! address or a message. Owner of git2 and notify. Not here: when to fetch, what files mean.

mod checkout;
mod listing;
mod local;
mod objects;
mod url;
mod watch;
mod worktree;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::manifest::{RepoPath, Snapshot};
use crate::ports::{PortError, PortResult, Secrets, Source};
use crate::resource::Revision;
use crate::resource::server::GitCredentials;

pub use url::{Allow, GitUrl, RefName, Refused};

/// How the followed repository is found and read.
pub struct Options {
    /// A path, or an https or ssh address.
    pub repo: String,
    /// A branch, tag or commit; none: the branch HEAD names at start.
    pub reference: Option<String>,
    /// The folder manifests are looked for in.
    pub path: RepoPath,
    /// Read the work tree with its uncommitted edits instead of commits. Local repositories only.
    pub worktree: bool,
    /// How to sign in to a remote repository.
    pub credentials: Option<GitCredentials>,
    pub network: Network,
}

/// How repositories elsewhere are reached: the operator's to say, never a repository's.
#[derive(Clone)]
pub struct Network {
    /// Where mirrors and checkouts are kept.
    pub state: PathBuf,
    /// The program that answers to `__git-fetch`: this one, except in tests.
    pub program: PathBuf,
    /// The host keys that ssh trusts, as `known_hosts` of OpenSSH has them. None: no ssh.
    pub known_hosts: Option<PathBuf>,
    /// Certificates trusted besides the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// An HTTP proxy.
    pub proxy: Option<String>,
    /// Of one fetch, all in all.
    pub timeout: Duration,
    pub allow: Allow,
    pub secrets: Arc<dyn Secrets>,
}

/// Of one fetch: a large repository over a slow line, not a server that says nothing.
pub const TIMEOUT: Duration = Duration::from_mins(5);

/// Opens the followed repository.
///
/// # Errors
/// When the address or ref is refused, or a local repository cannot be opened.
pub fn open(options: Options) -> PortResult<Arc<dyn Source>> {
    let Options { repo, reference, path, worktree, credentials: _, network } = options;
    let reference = reference.as_deref().map(RefName::parse).transpose().map_err(refused)?;
    if worktree {
        return Ok(Arc::new(worktree::WorktreeSource::open(PathBuf::from(repo), path)?));
    }
    let checkouts = checkout::Checkouts::new(&network.state);
    Ok(Arc::new(local::LocalSource::open(PathBuf::from(repo), reference, path, checkouts)?))
}

fn refused(why: Refused) -> PortError {
    let hint = why.hint();
    PortError::stalled("failed to understand where the repository is").caused_by(why).hint(hint)
}

/// Runs blocking work beside the executor and waits for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> PortResult<T> + Send + 'static) -> PortResult<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(PortError::retry("failed to finish work on a repository").caused_by(error)),
    }
}

fn snapshot_of(resolved: &objects::Resolved, path: &RepoPath, listing: &listing::Listing) -> Snapshot {
    Snapshot {
        revision: Revision {
            reference: resolved.label.clone(),
            commit: resolved.commit.to_string(),
            dirty: false,
        },
        path: path.clone(),
        files: Arc::clone(&listing.files),
    }
}
