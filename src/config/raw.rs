//! Settings as typed, and where they were typed.

#![expect(clippy::disallowed_methods, reason = "the configuration file is read here")]

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The variables of the environment that are read, by setting.
pub mod variable {
    pub const CONFIG: &str = "TOOLCRIB_CONFIG";
    pub const REPO: &str = "TOOLCRIB_REPO";
    pub const REF: &str = "TOOLCRIB_REF";
    pub const PATH: &str = "TOOLCRIB_PATH";
    pub const LISTEN: &str = "TOOLCRIB_LISTEN";
    pub const ADMIN: &str = "TOOLCRIB_ADMIN";
    pub const STATE: &str = "TOOLCRIB_STATE";
    pub const INTERVAL: &str = "TOOLCRIB_INTERVAL";
    pub const NAME: &str = "TOOLCRIB_NAME";
    pub const WORKTREE: &str = "TOOLCRIB_WORKTREE";
    pub const ALLOW_PROCESS: &str = "TOOLCRIB_ALLOW_PROCESS";
    pub const ALLOW_PRIVILEGES: &str = "TOOLCRIB_ALLOW_PRIVILEGES";
    pub const ALLOW_LOCAL_GIT: &str = "TOOLCRIB_ALLOW_LOCAL_GIT";
    pub const MAX_WARM: &str = "TOOLCRIB_MAX_WARM";
    pub const VERIFY_SIGNERS: &str = "TOOLCRIB_VERIFY_SIGNERS";
    pub const PUBLIC_URL: &str = "TOOLCRIB_PUBLIC_URL";
    pub const TLS_CERT: &str = "TOOLCRIB_TLS_CERT";
    pub const TLS_KEY: &str = "TOOLCRIB_TLS_KEY";
    pub const ALLOW_ORIGIN: &str = "TOOLCRIB_ALLOW_ORIGIN";
    pub const TOKENS_FILE: &str = "TOOLCRIB_TOKENS_FILE";
    pub const OIDC_ISSUER: &str = "TOOLCRIB_OIDC_ISSUER";
    pub const OIDC_AUDIENCE: &str = "TOOLCRIB_OIDC_AUDIENCE";
    pub const OIDC_NAME_CLAIM: &str = "TOOLCRIB_OIDC_NAME_CLAIM";
    pub const OIDC_GROUPS_CLAIM: &str = "TOOLCRIB_OIDC_GROUPS_CLAIM";
    pub const OIDC_SCOPES: &str = "TOOLCRIB_OIDC_SCOPES";
    pub const MAX_RATE: &str = "TOOLCRIB_MAX_RATE";
    pub const MAX_REQUESTS: &str = "TOOLCRIB_MAX_REQUESTS";
    pub const MAX_SESSIONS: &str = "TOOLCRIB_MAX_SESSIONS";
    pub const MAX_STREAMS: &str = "TOOLCRIB_MAX_STREAMS";
    pub const MAX_BODY: &str = "TOOLCRIB_MAX_BODY";
    pub const GIT_USERNAME: &str = "TOOLCRIB_GIT_USERNAME";
    /// The password or token itself: a secret, and therefore no flag.
    pub const GIT_PASSWORD: &str = "TOOLCRIB_GIT_PASSWORD";
    pub const GIT_PASSWORD_FILE: &str = "TOOLCRIB_GIT_PASSWORD_FILE";
    pub const GIT_SSH_KEY: &str = "TOOLCRIB_GIT_SSH_KEY";
    pub const KNOWN_HOSTS: &str = "TOOLCRIB_KNOWN_HOSTS";
    pub const CA_FILE: &str = "TOOLCRIB_CA_FILE";
    pub const PROXY: &str = "TOOLCRIB_PROXY";
    /// Level of the log: `error`, `warn`, `info`, `debug`, or a filter such as `info,toolcrib::git=debug`.
    pub const LOG: &str = "TOOLCRIB_LOG";
    /// `text` or `json`.
    pub const LOG_FORMAT: &str = "TOOLCRIB_LOG_FORMAT";
    /// `text` or `json`: the form of what commands print.
    pub const OUTPUT: &str = "TOOLCRIB_OUTPUT";
    /// The index Python packages are looked up at.
    pub const PYTHON_INDEX: &str = "TOOLCRIB_PYTHON_INDEX";
    /// The registry npm packages are looked up at.
    pub const NPM_REGISTRY: &str = "TOOLCRIB_NPM_REGISTRY";
    /// The registry of images whose names have no host.
    pub const IMAGE_REGISTRY: &str = "TOOLCRIB_IMAGE_REGISTRY";
    /// The MCP endpoint that `call` speaks to.
    pub const URL: &str = "TOOLCRIB_URL";
    /// The token that `call` and `stdio` show there: a secret, and therefore no flag.
    pub const TOKEN: &str = "TOOLCRIB_TOKEN";
}

/// Bytes of a configuration file. A full one has less than 2 KiB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Every setting, optional as typed. The keys of the file are the names of the flags.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// Repository to follow: a local path, or an https or ssh URL.
    #[arg(long, value_name = "PATH|URL", env = variable::REPO, hide_env_values = true)]
    pub repo: Option<String>,
    /// Branch or tag to follow [default: the branch HEAD names at start].
    #[arg(long = "ref", value_name = "REF", env = variable::REF, hide_env_values = true)]
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// Folder of the repository that holds the manifests [default: its root].
    #[arg(long, value_name = "DIR", env = variable::PATH, hide_env_values = true)]
    pub path: Option<String>,
    /// Follow uncommitted edits of the work tree too.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", env = variable::WORKTREE, hide_env_values = true)]
    pub worktree: Option<bool>,
    /// Where MCP is served [default: 127.0.0.1:7800].
    #[arg(long, value_name = "ADDR", env = variable::LISTEN, hide_env_values = true, help_heading = "Endpoints")]
    pub listen: Option<String>,
    /// Where admin reads are served [default: 127.0.0.1:7801].
    #[arg(long, value_name = "ADDR", env = variable::ADMIN, hide_env_values = true, help_heading = "Endpoints")]
    pub admin: Option<String>,
    /// The address clients use, when a proxy stands before Toolcrib.
    #[arg(long, value_name = "URL", env = variable::PUBLIC_URL, hide_env_values = true, help_heading = "Endpoints")]
    pub public_url: Option<String>,
    /// Certificate (PEM) with which MCP is served over TLS, and those between it and its authority.
    #[arg(long, value_name = "FILE", env = variable::TLS_CERT, hide_env_values = true, help_heading = "Endpoints")]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) of that certificate. Both files are read again when they change.
    #[arg(long, value_name = "FILE", env = variable::TLS_KEY, hide_env_values = true, help_heading = "Endpoints")]
    pub tls_key: Option<PathBuf>,
    /// Web origin whose pages may use MCP (CORS), such as `https://app.example.org`; can be repeated.
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',', env = variable::ALLOW_ORIGIN, hide_env_values = true, help_heading = "Endpoints")]
    pub allow_origin: Option<Vec<String>>,
    /// File with the hashes of tokens that callers may show; `toolcrib token` writes its lines.
    #[arg(long, value_name = "FILE", env = variable::TOKENS_FILE, hide_env_values = true, help_heading = "Who may call")]
    pub tokens_file: Option<PathBuf>,
    /// Identity provider (OIDC) whose tokens callers may show.
    #[arg(long, value_name = "URL", env = variable::OIDC_ISSUER, hide_env_values = true, help_heading = "Who may call")]
    pub oidc_issuer: Option<String>,
    /// The audience that tokens have to name [default: the public address of `/mcp`].
    #[arg(long, value_name = "AUDIENCE", env = variable::OIDC_AUDIENCE, hide_env_values = true, help_heading = "Who may call")]
    pub oidc_audience: Option<String>,
    /// The claim that is a caller's name [default: sub].
    #[arg(long, value_name = "CLAIM", env = variable::OIDC_NAME_CLAIM, hide_env_values = true, help_heading = "Who may call")]
    pub oidc_name_claim: Option<String>,
    /// The claim that lists a caller's groups [default: groups].
    #[arg(long, value_name = "CLAIM", env = variable::OIDC_GROUPS_CLAIM, hide_env_values = true, help_heading = "Who may call")]
    pub oidc_groups_claim: Option<String>,
    /// Scopes that its tokens must have, all of them, separated by spaces.
    #[arg(long, value_name = "SCOPES", env = variable::OIDC_SCOPES, hide_env_values = true, help_heading = "Who may call")]
    pub oidc_scopes: Option<String>,
    /// Requests per second of one caller, twice as many at once; 0: no limit [default: 100].
    #[arg(long, value_name = "N", env = variable::MAX_RATE, hide_env_values = true, help_heading = "How much a caller may use")]
    pub max_rate: Option<u32>,
    /// Requests of one caller that are worked on at a time; 0: no limit [default: 64].
    #[arg(long, value_name = "N", env = variable::MAX_REQUESTS, hide_env_values = true, help_heading = "How much a caller may use")]
    pub max_requests: Option<u32>,
    /// Sessions of one caller; 0: no limit [default: 100].
    #[arg(long, value_name = "N", env = variable::MAX_SESSIONS, hide_env_values = true, help_heading = "How much a caller may use")]
    pub max_sessions: Option<u32>,
    /// Streams of one caller that tell of changes; 0: no limit [default: 100].
    #[arg(long, value_name = "N", env = variable::MAX_STREAMS, hide_env_values = true, help_heading = "How much a caller may use")]
    pub max_streams: Option<u32>,
    /// Size of one request [default: 4Mi].
    #[arg(long, value_name = "SIZE", env = variable::MAX_BODY, hide_env_values = true, help_heading = "How much a caller may use")]
    pub max_body: Option<String>,
    /// Folder for everything that is kept [default: ~/.local/state/toolcrib/NAME].
    #[arg(long, value_name = "DIR", env = variable::STATE, hide_env_values = true, help_heading = "Daemon")]
    pub state: Option<PathBuf>,
    /// How often the repository is asked for news [default: 60s].
    #[arg(long, value_name = "PERIOD", env = variable::INTERVAL, hide_env_values = true, help_heading = "Daemon")]
    pub interval: Option<String>,
    /// What marks things as ours [default: from repository and path].
    #[arg(long, value_name = "NAME", env = variable::NAME, hide_env_values = true, help_heading = "Daemon")]
    pub name: Option<String>,
    /// Allow `process` runners: commands on this machine [default: true for a local repository].
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", env = variable::ALLOW_PROCESS, hide_env_values = true, help_heading = "What a repository may do")]
    pub allow_process: Option<bool>,
    /// Allow containers to run as root or with capabilities.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", env = variable::ALLOW_PRIVILEGES, hide_env_values = true, help_heading = "What a repository may do")]
    pub allow_privileges: Option<bool>,
    /// Allow Git sources that are local paths.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", env = variable::ALLOW_LOCAL_GIT, hide_env_values = true, help_heading = "What a repository may do")]
    pub allow_local_git: Option<bool>,
    /// Containers that may wait for calls, of all tools together; 0: none is started ahead [default: 16].
    #[arg(long, value_name = "N", env = variable::MAX_WARM, hide_env_values = true, help_heading = "What a repository may do")]
    pub max_warm: Option<u16>,
    /// Follow only commits signed with a key of this file of allowed signers, whatever the repository says.
    #[arg(long, value_name = "FILE", env = variable::VERIFY_SIGNERS, hide_env_values = true, help_heading = "What a repository may do")]
    pub verify_signers: Option<PathBuf>,
    /// User name for an https repository.
    #[arg(long, value_name = "NAME", env = variable::GIT_USERNAME, hide_env_values = true, help_heading = "Remote repositories")]
    pub git_username: Option<String>,
    /// File with the password or token; or set `TOOLCRIB_GIT_PASSWORD`.
    #[arg(long, value_name = "FILE", env = variable::GIT_PASSWORD_FILE, hide_env_values = true, help_heading = "Remote repositories")]
    pub git_password_file: Option<PathBuf>,
    /// Private key for an ssh repository.
    #[arg(long, value_name = "FILE", env = variable::GIT_SSH_KEY, hide_env_values = true, help_heading = "Remote repositories")]
    pub git_ssh_key: Option<PathBuf>,
    /// Host keys ssh trusts [default: `~/.ssh/known_hosts`].
    #[arg(long, value_name = "FILE", env = variable::KNOWN_HOSTS, hide_env_values = true, help_heading = "Remote repositories")]
    pub known_hosts: Option<PathBuf>,
    /// Certificates trusted besides the system's (PEM): by repositories, servers elsewhere, and all else
    /// that is asked over HTTPS.
    #[arg(long, value_name = "FILE", env = variable::CA_FILE, hide_env_values = true, help_heading = "Remote repositories")]
    pub ca_file: Option<PathBuf>,
    /// HTTP proxy [default: what `HTTPS_PROXY` says].
    #[arg(long, value_name = "URL", env = variable::PROXY, hide_env_values = true, help_heading = "Remote repositories")]
    pub proxy: Option<String>,
    /// What is logged; a flag of every command.
    #[arg(skip)]
    pub log: Option<String>,
    /// Form of the log; a flag of every command.
    #[arg(skip)]
    pub log_format: Option<String>,
}

/// Something typed that has no meaning.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    message: String,
    hint: Option<String>,
    #[source]
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ConfigError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, cause: None }
    }

    pub(crate) fn setting(name: &str, error: &dyn std::fmt::Display) -> Self {
        Self::new(format!("`{name}`: {error}"))
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub(crate) fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The next step.
    pub fn next_step(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// The keys of the file, which are the flags of the same name.
const KEYS: [&str; 37] = [
    "repo",
    "ref",
    "path",
    "worktree",
    "listen",
    "admin",
    "public-url",
    "tls-cert",
    "tls-key",
    "allow-origin",
    "tokens-file",
    "oidc-issuer",
    "oidc-audience",
    "oidc-name-claim",
    "oidc-groups-claim",
    "oidc-scopes",
    "max-rate",
    "max-requests",
    "max-sessions",
    "max-streams",
    "max-body",
    "state",
    "interval",
    "name",
    "allow-process",
    "allow-privileges",
    "allow-local-git",
    "max-warm",
    "verify-signers",
    "git-username",
    "git-password-file",
    "git-ssh-key",
    "known-hosts",
    "ca-file",
    "proxy",
    "log",
    "log-format",
];

impl Settings {
    /// From a configuration file.
    ///
    /// # Errors
    /// When the file cannot be read, is no YAML, or holds a key that is no setting.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let failed = || ConfigError::new(format!("failed to read configuration file `{}`", file.display()));
        let text = read(file).map_err(|error| failed().caused_by(error))?;
        Self::parse(&text).map_err(|error| ConfigError {
            message: format!("`{}`: {}", file.display(), error.message),
            ..error
        })
    }

    /// From the text of a configuration file; an empty one sets nothing.
    ///
    /// # Errors
    /// As [`Settings::read`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let keys: Option<serde_yaml::Mapping> = serde_yaml::from_str(text).map_err(|error| {
            ConfigError::setting("configuration", &error).hint("write one `setting: value` on each line")
        })?;
        let Some(keys) = keys else { return Ok(Self::default()) };
        let known = |key: &serde_yaml::Value| key.as_str().is_some_and(|key| KEYS.contains(&key));
        if let Some(key) = keys.keys().find(|key| !known(key)) {
            let typed = key.as_str().unwrap_or("(not a string)");
            return Err(ConfigError::new(format!("unknown setting `{typed}`")).hint(suggestion(typed)));
        }
        serde_yaml::from_str(text).map_err(|error| {
            ConfigError::setting("configuration", &error)
                .hint("settings are strings, but for allow-origin, a list, numbers (max-*), and worktree and the other allow-*, \
                     which are true or false")
        })
    }

    /// These settings, and those of `under` where nothing is said here.
    #[must_use]
    pub fn over(self, under: Self) -> Self {
        Self {
            repo: self.repo.or(under.repo),
            reference: self.reference.or(under.reference),
            path: self.path.or(under.path),
            worktree: self.worktree.or(under.worktree),
            listen: self.listen.or(under.listen),
            admin: self.admin.or(under.admin),
            public_url: self.public_url.or(under.public_url),
            tls_cert: self.tls_cert.or(under.tls_cert),
            tls_key: self.tls_key.or(under.tls_key),
            allow_origin: self.allow_origin.or(under.allow_origin),
            tokens_file: self.tokens_file.or(under.tokens_file),
            oidc_issuer: self.oidc_issuer.or(under.oidc_issuer),
            oidc_audience: self.oidc_audience.or(under.oidc_audience),
            oidc_name_claim: self.oidc_name_claim.or(under.oidc_name_claim),
            oidc_groups_claim: self.oidc_groups_claim.or(under.oidc_groups_claim),
            oidc_scopes: self.oidc_scopes.or(under.oidc_scopes),
            max_rate: self.max_rate.or(under.max_rate),
            max_requests: self.max_requests.or(under.max_requests),
            max_sessions: self.max_sessions.or(under.max_sessions),
            max_streams: self.max_streams.or(under.max_streams),
            max_body: self.max_body.or(under.max_body),
            state: self.state.or(under.state),
            interval: self.interval.or(under.interval),
            name: self.name.or(under.name),
            allow_process: self.allow_process.or(under.allow_process),
            allow_privileges: self.allow_privileges.or(under.allow_privileges),
            allow_local_git: self.allow_local_git.or(under.allow_local_git),
            max_warm: self.max_warm.or(under.max_warm),
            verify_signers: self.verify_signers.or(under.verify_signers),
            git_username: self.git_username.or(under.git_username),
            git_password_file: self.git_password_file.or(under.git_password_file),
            git_ssh_key: self.git_ssh_key.or(under.git_ssh_key),
            known_hosts: self.known_hosts.or(under.known_hosts),
            ca_file: self.ca_file.or(under.ca_file),
            proxy: self.proxy.or(under.proxy),
            log: self.log.or(under.log),
            log_format: self.log_format.or(under.log_format),
        }
    }
}

/// The text of a file of the operator's.
pub(super) fn read(file: &Path) -> std::io::Result<String> {
    if std::fs::metadata(file)?.len() > MAX_FILE_BYTES {
        return Err(std::io::Error::other("it has more than 1 MiB"));
    }
    std::fs::read_to_string(file)
}

/// What to write instead of a key that is not one.
fn suggestion(typed: &str) -> String {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    match KEYS.iter().find(|key| plain(key) == plain(typed)) {
        Some(key) => format!("write `{key}`"),
        None => format!("the settings are {}", KEYS.join(", ")),
    }
}
