//! Where packages are looked up: flags, and the variables that pip and npm have for it.

use crate::config::Environment;
use crate::config::raw::variable;
use crate::daemon::update::Indexes;

/// Where newer versions are looked up.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Indexes and registries")]
pub(super) struct IndexArgs {
    /// Simple index of Python packages that answers in JSON [default: `PIP_INDEX_URL`].
    #[arg(long, value_name = "URL", env = variable::PYTHON_INDEX, hide_env_values = true)]
    python_index: Option<String>,
    /// Registry of npm packages [default: `NPM_CONFIG_REGISTRY`].
    #[arg(long, value_name = "URL", env = variable::NPM_REGISTRY, hide_env_values = true)]
    npm_registry: Option<String>,
    /// Registry of images whose names have no host; one that is named in an image's name is asked itself.
    #[arg(long, value_name = "URL", env = variable::IMAGE_REGISTRY, hide_env_values = true)]
    image_registry: Option<String>,
}

impl IndexArgs {
    pub(super) fn indexes(&self, environment: &Environment) -> Indexes {
        let named = |names: [&str; 2]| names.iter().find_map(|name| environment.get(name)).map(str::to_owned);
        Indexes {
            python: self.python_index.clone().or_else(|| named(["PIP_INDEX_URL", "UV_DEFAULT_INDEX"])),
            images: self.image_registry.clone(),
            npm: self.npm_registry.clone().or_else(|| named(["NPM_CONFIG_REGISTRY", "npm_config_registry"])),
        }
    }
}
