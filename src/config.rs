//! What was typed to what it means.
//!
//! Input: flags, `TOOLCRIB_…` variables and a YAML file, in that order of precedence
//! ([`raw::Settings`]). Output: [`Config`], checked and with every default filled in. Invariant: the
//! environment is read here, once, and passed down; nothing else asks for it. Not here: resources,
//! which come from the repository and can loosen nothing of this.

mod callers;
pub mod environment;
mod limits;
pub mod raw;
mod tls;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::desired::Floor;
use crate::manifest::RepoPath;
use crate::resource::server::GitCredentials;
use crate::resource::signers::Signers;
use crate::resource::{Digest, Name, Period, SecretRef};

pub use callers::{Callers, Oidc};
pub use environment::Environment;
pub use limits::Limits;
use raw::variable;
pub use raw::{ConfigError, Settings};
pub use tls::TlsFiles;

/// Where MCP is served unless said otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:7800";
/// Where admin reads are served unless said otherwise.
pub const DEFAULT_ADMIN: &str = "127.0.0.1:7801";
/// How often a remote repository is asked for news. Often enough to feel prompt, rare enough that a
/// forge does not mind; a local repository is watched, and asked as often in case a watch was lost.
pub const DEFAULT_INTERVAL: Duration = Duration::from_mins(1);
/// Below a second, asking would be a load on the forge.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// Containers that wait for calls unless said otherwise. Each holds some 10 MiB, most of it its engine's.
pub const DEFAULT_MAX_WARM: usize = 16;
/// How far apart daemons of the same interval drift, in percent of it.
pub const JITTER_PERCENT: u32 = 10;
/// The name of the socket that takes changes, inside the state directory.
pub const SOCKET: &str = "admin.sock";

/// All the daemon is told by whoever starts it.
#[derive(Clone, Debug)]
pub struct Config {
    pub repository: Repository,
    /// The branch or tag that is followed; none: the branch `HEAD` names at start.
    pub reference: Option<String>,
    /// The folder manifests are looked for in.
    pub path: RepoPath,
    /// Where MCP is served. Port 0: any free one.
    pub listen: SocketAddr,
    /// Where admin reads are served. Port 0: any free one.
    pub admin: SocketAddr,
    /// Everything the daemon keeps, mode 0700.
    pub state: PathBuf,
    pub interval: Duration,
    /// What is written in the ownership label. Derived from repository and path, never random.
    pub owner: Name,
    /// Uncommitted edits of the work tree are followed instead of commits.
    pub worktree: bool,
    pub floor: Floor,
    /// The address clients use, when a proxy stands before us.
    pub public_url: Option<String>,
    /// With which MCP is served encrypted; none: as plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Other origins whose pages may use MCP.
    pub origins: Vec<String>,
    /// Who may call; none: whoever reaches a loopback address.
    pub callers: Option<Callers>,
    /// How much each of them may use.
    pub limits: Limits,
    /// Containers that wait for calls, of all tools together, at most.
    pub max_warm: usize,
    pub git: GitAccess,
    pub environment: Environment,
    /// Our own binary, for the children that run in a process of their own.
    pub executable: PathBuf,
}

/// How repositories elsewhere are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitAccess {
    /// For the followed repository; references only.
    pub credentials: Option<GitCredentials>,
    /// The host keys that ssh trusts.
    pub known_hosts: Option<PathBuf>,
    /// Certificates trusted besides the system's, PEM.
    pub ca_file: Option<PathBuf>,
    pub proxy: Option<String>,
}

/// What is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repository {
    /// A folder inside a local repository, absolute.
    Local(PathBuf),
    /// An https or ssh address; the scp form too.
    Remote(String),
}

impl std::fmt::Display for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::Remote(url) => f.write_str(url),
        }
    }
}

impl Config {
    /// Where a running daemon of this configuration takes changes.
    pub fn socket(&self) -> PathBuf {
        self.state.join(SOCKET)
    }

    /// # Errors
    /// When something typed has no meaning; each names the setting and a hint.
    pub fn new(settings: &Settings, environment: Environment) -> Result<Self, ConfigError> {
        let typed = settings.repo.as_deref().ok_or_else(|| {
            ConfigError::new("no repository is named")
                .hint("pass --repo PATH or --repo URL, or set TOOLCRIB_REPO; `--repo .` follows this folder")
        })?;
        let repository = repository(typed)?;
        let path = repo_path(settings.path.as_deref().unwrap_or(""))?;
        let owner = match settings.name.as_deref() {
            Some(name) => Name::parse(name).map_err(|error| ConfigError::setting("name", &error))?,
            None => owner(&repository, &path)?,
        };
        let worktree = settings.worktree.unwrap_or(false);
        let local = matches!(repository, Repository::Local(_));
        if worktree && !local {
            return Err(ConfigError::new("`worktree` needs a local repository")
                .hint("clone the repository and pass its path to --repo"));
        }
        if worktree && settings.reference.is_some() {
            return Err(ConfigError::new("`worktree` and `ref` exclude each other")
                .hint("a work tree has the branch that is checked out: leave out --ref"));
        }
        let public_url = settings.public_url.as_deref().map(public_url).transpose()?;
        let listen = address("listen", settings.listen.as_deref().unwrap_or(DEFAULT_LISTEN))?;
        let tls = tls::files(settings, public_url.as_deref())?;
        let callers = callers::callers(settings, listen, public_url.as_deref())?;
        let state = match &settings.state {
            Some(state) => {
                std::path::absolute(state).map_err(|error| ConfigError::setting("state", &error))?
            }
            None => environment.state_home().join(owner.as_str()),
        };
        Ok(Self {
            reference: settings.reference.clone(),
            listen,
            admin: address("admin", settings.admin.as_deref().unwrap_or(DEFAULT_ADMIN))?,
            interval: interval(settings.interval.as_deref())?,
            floor: Floor {
                process: settings.allow_process.unwrap_or(local),
                privileges: settings.allow_privileges.unwrap_or(false),
                local_git: settings.allow_local_git.unwrap_or(false),
                signers: settings
                    .verify_signers
                    .as_deref()
                    .map(|file| signers(file, worktree))
                    .transpose()?,
            },
            public_url,
            tls,
            origins: settings
                .allow_origin
                .iter()
                .flatten()
                .map(|text| tls::origin(text))
                .collect::<Result<_, _>>()?,
            limits: limits::limits(settings, callers.is_some())?,
            max_warm: settings.max_warm.map_or(DEFAULT_MAX_WARM, usize::from),
            callers,
            git: git_access(settings, &environment)?,
            executable: std::env::current_exe()
                .map_err(|error| ConfigError::new("failed to find our own binary").caused_by(error))?,
            repository,
            path,
            state,
            owner,
            worktree,
            environment,
        })
    }
}

/// Who has to have signed each commit.
fn signers(file: &Path, worktree: bool) -> Result<Signers, ConfigError> {
    if worktree {
        return Err(ConfigError::new("`worktree` and `verify-signers` exclude each other")
            .hint("nobody signed what is not committed: leave out --worktree"));
    }
    let text = raw::read(file).map_err(|error| {
        ConfigError::new(format!("`verify-signers`: failed to read `{}`", file.display()))
            .caused_by(error)
            .hint("name a file of allowed signers, as `ssh-keygen` and Git use it")
    })?;
    Signers::parse(&text).map_err(|fault| {
        ConfigError::new(format!("`verify-signers`: `{}`, {fault}", file.display()))
            .hint("write a line `name@example.com ssh-ed25519 AAAA…` for everybody who signs")
    })
}

/// A path when it is one, else an address.
fn repository(text: &str) -> Result<Repository, ConfigError> {
    if text.is_empty() {
        return Err(ConfigError::new("`repo` is empty").hint("pass a path or a URL; `.` is this folder"));
    }
    if let Some(path) = text.strip_prefix("file://") {
        return local(path);
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        // The scp form has a colon before the first slash, and no such folder is there.
        let host = text.split('/').next().unwrap_or_default();
        let scp = host.contains(':') && !Path::new(text).exists();
        return if scp { Ok(Repository::Remote(text.to_owned())) } else { local(text) };
    };
    if !["https", "http", "ssh"].contains(&scheme) {
        return Err(ConfigError::new(format!("`repo`: addresses of scheme `{scheme}` are not followed"))
            .hint("use https://, ssh:// or user@host:path, or a local path"));
    }
    let authority = rest.split('/').next().unwrap_or_default();
    // A user name alone may be a token too; ssh has names that are none.
    let secret = authority.rsplit_once('@').is_some_and(|(user, _)| scheme != "ssh" || user.contains(':'));
    if secret {
        return Err(ConfigError::new("`repo`: the address contains a user name or password").hint(
            "other users of this machine see command lines: use --git-username, and --git-password-file or \
             the variable TOOLCRIB_GIT_PASSWORD",
        ));
    }
    Ok(Repository::Remote(text.to_owned()))
}

fn local(path: &str) -> Result<Repository, ConfigError> {
    let found = std::fs::canonicalize(path).map_err(|error| {
        ConfigError::new(format!("`repo`: there is no folder `{path}`"))
            .caused_by(error)
            .hint("pass the path of a Git repository, or a URL such as https://host/owner/name")
    })?;
    Ok(Repository::Local(found))
}

fn repo_path(text: &str) -> Result<RepoPath, ConfigError> {
    let trimmed = text.trim_start_matches("./").trim_end_matches('/');
    let trimmed = if trimmed == "." { "" } else { trimmed };
    RepoPath::parse(trimmed).ok_or_else(|| {
        ConfigError::new(format!("`path`: `{text}` is not a folder inside the repository"))
            .hint("give it relative to the root of the repository, without `..`")
    })
}

fn address(setting: &str, text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|error: std::net::AddrParseError| {
        ConfigError::setting(setting, &error)
            .hint("write ADDRESS:PORT, such as 127.0.0.1:7800; port 0 takes any free one")
    })
}

fn interval(text: Option<&str>) -> Result<Duration, ConfigError> {
    let Some(text) = text else { return Ok(DEFAULT_INTERVAL) };
    let Period(period) = Period::parse(text).map_err(|error| ConfigError::setting("interval", &error))?;
    if period < MIN_INTERVAL {
        return Err(ConfigError::new(format!("`interval`: `{text}` is too short"))
            .hint("a second is the least; a local repository is watched and needs no short interval"));
    }
    Ok(period)
}

fn git_access(settings: &Settings, environment: &Environment) -> Result<GitAccess, ConfigError> {
    let file = |name: &str, path: Option<&PathBuf>| -> Result<Option<PathBuf>, ConfigError> {
        let Some(path) = path else { return Ok(None) };
        match std::fs::canonicalize(path) {
            Ok(found) => Ok(Some(found)),
            Err(error) => Err(ConfigError::new(format!("`{name}`: there is no file `{}`", path.display()))
                .caused_by(error)
                .hint("give the path of a file that this user can read")),
        }
    };
    let secret = |path: PathBuf| SecretRef::File(path.to_string_lossy().into_owned());
    let password = match file("git-password-file", settings.git_password_file.as_ref())? {
        Some(path) => Some(secret(path)),
        None => {
            environment.get(variable::GIT_PASSWORD).map(|_| SecretRef::Env(variable::GIT_PASSWORD.to_owned()))
        }
    };
    let ssh_key = file("git-ssh-key", settings.git_ssh_key.as_ref())?.map(secret);
    let username = settings.git_username.clone();
    let any = username.is_some() || password.is_some() || ssh_key.is_some();
    let usual_hosts =
        || environment.home().map(|home| home.join(".ssh/known_hosts")).filter(|file| file.is_file());
    let proxy = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let proxy = proxy.into_iter().filter_map(|name| environment.get(name)).find(|value| !value.is_empty());
    Ok(GitAccess {
        credentials: any.then_some(GitCredentials { username, password, ssh_key }),
        known_hosts: file("known-hosts", settings.known_hosts.as_ref())?.or_else(usual_hosts),
        ca_file: file("ca-file", settings.ca_file.as_ref())?,
        proxy: settings.proxy.clone().or_else(|| proxy.map(str::to_owned)),
    })
}

impl Config {
    /// The address of the MCP endpoint that others are told, where the listener has this one.
    ///
    /// A certificate is for a name: where we encrypt ourselves, the public address is the one whose
    /// certificate holds.
    pub fn endpoint(&self, listening: SocketAddr) -> String {
        let base = match (&self.public_url, &self.tls) {
            (Some(url), Some(_)) => url.clone(),
            (_, Some(_)) => format!("https://{listening}"),
            (_, None) => format!("http://{listening}"),
        };
        endpoint_below(&base)
    }

    /// The same, for those who may be elsewhere: the public address, where there is one.
    pub fn public_endpoint(&self, listening: SocketAddr) -> String {
        self.public_url.as_deref().map_or_else(|| self.endpoint(listening), endpoint_below)
    }
}

/// The endpoint of a daemon with the settings of this file and environment, for clients on its machine that
/// are told no other.
pub fn usual_endpoint(file: &Settings, environment: &Environment) -> String {
    let set = |name: &str, own: Option<&String>| {
        environment.get(name).or(own.map(String::as_str)).map(str::to_owned)
    };
    let encrypted = environment.get(variable::TLS_CERT).is_some() || file.tls_cert.is_some();
    let public = set(variable::PUBLIC_URL, file.public_url.as_ref()).filter(|_| encrypted);
    if let Some(url) = public {
        return endpoint_below(url.trim_end_matches('/'));
    }
    let listen = set(variable::LISTEN, file.listen.as_ref()).and_then(|text| text.parse::<SocketAddr>().ok());
    let listen = listen.filter(|address| address.port() != 0).map(|mut address| {
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        address.to_string()
    });
    let address = listen.as_deref().unwrap_or(DEFAULT_LISTEN);
    endpoint_below(&format!("{}://{address}", if encrypted { "https" } else { "http" }))
}

fn endpoint_below(base: &str) -> String {
    if base.ends_with("/mcp") { base.to_owned() } else { format!("{base}/mcp") }
}

fn public_url(text: &str) -> Result<String, ConfigError> {
    let fits = text
        .parse::<http::Uri>()
        .is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some());
    if fits {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err(ConfigError::new(format!("`public-url`: `{text}` is not an http or https address"))
            .hint("write what clients use, such as https://tools.example.org"))
    }
}

/// Names one followed folder of one repository, the same at every start.
fn owner(repository: &Repository, path: &RepoPath) -> Result<Name, ConfigError> {
    let text = repository.to_string();
    let base = text.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
    let base = base.strip_suffix(".git").unwrap_or(base).to_ascii_lowercase();
    let kept: String =
        base.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    let kept = kept.trim_matches('-');
    let digest = Digest::of("toolcrib.owner", &[text.as_str(), path.as_str()]).short();
    let name = if kept.is_empty() { digest } else { format!("{kept}-{digest}") };
    Name::parse(&name).map_err(|error| ConfigError::setting("name", &error))
}

#[cfg(test)]
mod tests;
