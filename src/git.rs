//! Git: the followed repository and the repositories that sources name.
//!
//! Input: paths, addresses, refs. Output: [`Source`] and [`Lookup`]. Invariants: everything is read
//! from object databases by id (only [`Options::worktree`] reads a work tree); what comes over the
//! network is fetched by a child process of our own binary, with limits on time and memory, without
//! hooks and without anybody's Git configuration; no secret is in an argument, the environment, an
//! address or a message. Owner of git2, notify and ssh-key. Not here: when to fetch, what files mean.

mod archive;
mod checkout;
mod committed;
mod create;
mod commit;
pub mod fetch;
mod history;
mod listing;
mod local;
mod lookup;
mod objects;
mod remote;
mod revision;
mod url;
mod verify;
mod watch;
mod worktree;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::manifest::{RepoPath, Snapshot};
use crate::ports::{Lookup, PortError, PortResult, Secrets, Source};
use crate::resource::Revision;
use crate::resource::server::GitCredentials;

pub use commit::{Author, Commit, Committed, write_commit};
pub use create::create;
pub use history::{Lines, Touched, last_change};
pub use revision::{commit, merge_base};
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
    /// The program that answers to [`fetch::SUBCOMMAND`]: this one, except in tests.
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
    let Options { repo, reference, path, worktree, credentials, network } = options;
    let reference = reference.as_deref().map(RefName::parse).transpose().map_err(refused)?;
    if worktree {
        return match reference {
            None => Ok(Arc::new(worktree::WorktreeSource::open(PathBuf::from(repo), path)?)),
            Some(_) => Err(PortError::stalled("failed to read a ref from a work tree")
                .hint("leave out --ref: a work tree holds what is checked out in it")),
        };
    }
    let checkouts = checkout::Checkouts::new(&network.state);
    let local = |folder: PathBuf, reference, checkouts| -> PortResult<Arc<dyn Source>> {
        Ok(Arc::new(local::LocalSource::open(folder, reference, path.clone(), checkouts)?))
    };
    // Every address has a colon; what has none can only be meant as a path.
    if !repo.contains(':') || PathBuf::from(&repo).exists() {
        return local(PathBuf::from(repo), reference, checkouts);
    }
    // Whoever starts the daemon may name any path.
    let allow = Allow { local: true, ..network.allow };
    match GitUrl::parse(&repo, allow).map_err(refused)? {
        GitUrl::Local(folder) => local(folder, reference, checkouts),
        url => {
            let mirror = remote::Mirror::new(url, credentials, network);
            Ok(Arc::new(remote::RemoteSource::new(mirror, reference, path, checkouts)))
        }
    }
}

/// Answers about the repositories that sources name.
pub fn lookup(network: Network) -> Arc<dyn Lookup> {
    Arc::new(lookup::GitLookup::new(network))
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
