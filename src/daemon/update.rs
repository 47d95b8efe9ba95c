//! What newer versions there are, asked of indexes, engines and repositories.

use tokio::sync::OnceCell;

use super::world::DOCKER_SOCKET;
use crate::config::Config;
use crate::http::index::Index;
use crate::http::registry::{Registry, Repository};
use crate::ports::{PortError, PortResult};
use crate::resource::Name;
use crate::resource::server::{GitCredentials, PackageRegistry};
use crate::runner::docker::{DockerRunner, Settings};

pub use crate::http::index::Releases;

/// Where packages of Python and npm and images are looked up. Named by whoever runs the program.
#[derive(Clone, Debug, Default)]
pub struct Indexes {
    /// A simple index (PEP 503) that answers in JSON (PEP 691).
    pub python: Option<String>,
    pub npm: Option<String>,
    /// Of images whose names have no host.
    pub images: Option<String>,
}

/// The tags of an image.
#[derive(Debug)]
pub struct Tags {
    pub known: Vec<String>,
    /// Why there may be more: its registry could not be asked.
    pub unsure: Option<PortError>,
}

/// Answers about versions.
pub struct Versions<'a> {
    config: &'a Config,
    indexes: Indexes,
    index: OnceCell<Index>,
    registry: OnceCell<Registry>,
}

impl<'a> Versions<'a> {
    pub fn new(config: &'a Config, indexes: Indexes) -> Self {
        Self { config, indexes, index: OnceCell::new(), registry: OnceCell::new() }
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

    /// The tags of an image that are on the engine of a runner, and those at its registry as far as it is
    /// known which that is.
    ///
    /// # Errors
    /// When neither answers.
    pub async fn images(&self, runner: &Name, host: Option<&str>, name: &str) -> PortResult<Tags> {
        let here = self.on_engine(runner, host, name).await;
        let there = match Repository::of_image(name, self.indexes.images.as_deref()) {
            Some(repository) => self.at_registry(&repository).await,
            None => Ok(Vec::new()),
        };
        match (here, there) {
            (Ok(here), Ok(there)) => Ok(Tags { known: [here, there].concat(), unsure: None }),
            (Ok(known), Err(error)) => Ok(Tags { known, unsure: Some(error) }),
            (Err(_), Ok(known)) if !known.is_empty() => Ok(Tags { known, unsure: None }),
            (Err(error), _) => Err(error),
        }
    }

    async fn at_registry(&self, repository: &Repository) -> PortResult<Vec<String>> {
        let git = &self.config.git;
        let make = async || Registry::new(git.ca_file.as_deref(), git.proxy.as_deref());
        self.registry.get_or_try_init(make).await?.tags(repository).await
    }

    async fn on_engine(&self, runner: &Name, host: Option<&str>, name: &str) -> PortResult<Vec<String>> {
        let host = host.or_else(|| self.config.environment.get("DOCKER_HOST")).unwrap_or(DOCKER_SOCKET);
        let runner = DockerRunner::new(Settings {
            name: runner.clone(),
            host: host.to_owned(),
            owner: format!("update-{}", std::process::id()),
            clean: false,
        });
        runner.tags(name).await
    }
}
