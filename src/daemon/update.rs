//! What newer versions there are, asked of indexes, engines and repositories.

use tokio::sync::OnceCell;

use super::world::DOCKER_SOCKET;
use crate::config::Config;
use crate::http::index::Index;
use crate::ports::{PortError, PortResult};
use crate::resource::Name;
use crate::resource::server::{GitCredentials, PackageRegistry};
use crate::runner::docker::{DockerRunner, Settings};

pub use crate::http::index::Releases;

/// Where the packages of Python are looked up, and where npm's. Named by whoever runs the program.
#[derive(Clone, Debug, Default)]
pub struct Indexes {
    /// A simple index (PEP 503) that answers in JSON (PEP 691).
    pub python: Option<String>,
    pub npm: Option<String>,
}

/// Answers about versions.
pub struct Versions<'a> {
    config: &'a Config,
    indexes: Indexes,
    index: OnceCell<Index>,
}

impl<'a> Versions<'a> {
    pub fn new(config: &'a Config, indexes: Indexes) -> Self {
        Self { config, indexes, index: OnceCell::new() }
    }

    /// Whether it is known where the packages of a registry are looked up.
    pub fn knows(&self, registry: PackageRegistry) -> bool {
        self.base(registry).is_some()
    }

    fn base(&self, registry: PackageRegistry) -> Option<&str> {
        match registry {
            PackageRegistry::Pypi => self.indexes.python.as_deref(),
            PackageRegistry::Npm => self.indexes.npm.as_deref(),
            PackageRegistry::Oci => None,
        }
    }

    /// The versions of a package.
    ///
    /// # Errors
    /// When no index is named for it, or it does not answer.
    pub async fn releases(&self, registry: PackageRegistry, name: &str) -> PortResult<Releases> {
        let Some(base) = self.base(registry) else {
            return Err(PortError::stalled(format!(
                "failed to look up the versions of `{name}`: no index is named"
            ))
            .hint("name it with --python-index or --npm-registry, or the variables of pip and npm"));
        };
        let git = &self.config.git;
        let make = async || Index::new(git.ca_file.as_deref(), git.proxy.as_deref());
        self.index.get_or_try_init(make).await?.releases(registry, base, name).await
    }

    /// The tags of a Git repository.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn tags(&self, url: &str, credentials: Option<&GitCredentials>) -> PortResult<Vec<String>> {
        crate::git::lookup(super::source::network(self.config)).tags(url, credentials).await
    }

    /// The tags of an image that are on the engine of a runner. What a registry has besides is not known.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn images(
        &self,
        runner: &Name,
        host: Option<&str>,
        repository: &str,
    ) -> PortResult<Vec<String>> {
        let host = host.or_else(|| self.config.environment.get("DOCKER_HOST")).unwrap_or(DOCKER_SOCKET);
        let runner = DockerRunner::new(Settings {
            name: runner.clone(),
            host: host.to_owned(),
            owner: format!("update-{}", std::process::id()),
            clean: false,
        });
        runner.tags(repository).await
    }
}
