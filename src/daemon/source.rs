//! The followed repository of a configuration.

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
        secrets: Arc::new(LocalSecrets::new([0; 32])),
    }
}

/// Makes a repository of a folder of the user's, with a first commit; its id.
///
/// # Errors
/// When the folder cannot be written, or is a repository already.
pub fn create(folder: &std::path::Path, message: &str) -> PortResult<String> {
    git::create(folder, message)
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
