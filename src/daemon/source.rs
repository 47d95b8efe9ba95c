//! The followed repository of a configuration.

use std::path::Path;
use std::sync::Arc;

use crate::config::{Config, Repository};
use crate::git::{self, Allow, Network, Options};
use crate::ports::{PortResult, Source};
use crate::secret::LocalSecrets;

/// How repositories are reached: the followed one, and those that sources name.
pub fn network(config: &Config) -> Network {
    Network {
        state: config.state.clone(),
        program: config.executable.clone(),
        known_hosts: config.git.known_hosts.clone(),
        ca_file: config.git.ca_file.clone(),
        proxy: config.git.proxy.clone(),
        timeout: git::TIMEOUT,
        allow: Allow { local: config.floor.local_git, http: false },
        // Only resolves: nothing is told apart by tags where repositories are fetched.
        secrets: Arc::new(LocalSecrets::new([0; 32], config.environment.lookup())),
    }
}

/// Makes a repository of a folder of the user's, with a first commit; its id.
///
/// # Errors
/// When the folder cannot be written, or is a repository already.
pub fn create(folder: &std::path::Path, message: &str) -> PortResult<String> {
    git::create(folder, message)
}

/// The commit that a revision of a local repository names, in any spelling that Git knows.
///
/// # Errors
/// When nothing is called so.
pub fn commit(repository: &Path, revision: &str) -> PortResult<String> {
    git::commit(repository, revision)
}

/// The commit where two revisions of a local repository parted.
///
/// # Errors
/// When one of them is not there, or they share nothing.
pub fn merge_base(repository: &Path, one: &str, other: &str) -> PortResult<String> {
    git::merge_base(repository, one, other)
}

/// Opens the followed repository.
///
/// # Errors
/// When the address or ref is refused, or a local repository cannot be opened.
pub fn open(config: &Config) -> PortResult<Arc<dyn Source>> {
    let repo = match &config.repository {
        Repository::Local(path) => path.to_string_lossy().into_owned(),
        Repository::Remote(url) => url.clone(),
    };
    git::open(Options {
        repo,
        reference: config.reference.clone(),
        path: config.path.clone(),
        worktree: config.worktree,
        credentials: config.git.credentials.clone(),
        network: network(config),
    })
}
