//! `doctor`: whether everything that is needed is there.

mod certificate;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::Serialize;
use tokio::net::TcpListener;

use super::client::Client;
use super::error::CliResult;
use super::exit::Exit;
use super::render::{Table, harmless};
use super::{Context, validate};
use crate::config::{Config, Environment, Settings};
use crate::daemon;
use crate::ports::PortError;
use crate::status::{Status, Timestamp};

/// An engine on this machine answers at once.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(5);
/// A fetch of what is not there yet.
const FETCH_TIMEOUT: Duration = Duration::from_mins(2);
/// The day before this code was written: a clock that shows less is wrong, and with it no certificate
/// is valid.
const EARLIEST: &str = "2026-11-19T00:00:00Z";
/// Where engines listen unless `DOCKER_HOST` says otherwise.
const ENGINE_SOCKET: &str = "/var/run/docker.sock";

/// Check what Toolcrib needs: repository, engine, ports, state, clock, certificate.
#[derive(Debug, clap::Args)]
#[command(mut_args(|arg| super::hide(arg, &["interval", "name", "worktree"])))]
#[command(after_help = "Examples:
  toolcrib doctor
  toolcrib doctor --repo https://github.com/team/tools
  toolcrib doctor --output json")]
pub(super) struct Doctor {
    #[command(flatten)]
    settings: Settings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// Something does without it.
    Warning,
    Failure,
}

#[derive(Debug, Serialize)]
struct Check {
    #[serde(rename = "check")]
    subject: &'static str,
    verdict: Verdict,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Check {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { subject: check, verdict: Verdict::Ok, message: message.into(), hint: None }
    }

    fn bad(check: &'static str, verdict: Verdict, message: impl Into<String>, hint: &str) -> Self {
        Self { subject: check, verdict, message: message.into(), hint: Some(hint.to_owned()) }
    }

    fn refused(check: &'static str, error: &PortError) -> Self {
        let hint = error.hint.clone();
        Self { subject: check, verdict: Verdict::Failure, message: error.chain(), hint }
    }
}

impl Doctor {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let mut settings = self.settings.over(context.file.clone());
        if settings.repo.is_none() {
            let (repo, path) = validate::locate(Path::new("."))?;
            settings.repo = Some(repo);
            settings.path.get_or_insert(path);
        }
        let config = Config::new(&settings, context.environment.clone())?;
        let mut checks = vec![repository(&config).await, engine(&config.environment).await];
        for (name, address) in [("MCP port", config.listen), ("admin port", config.admin)] {
            checks.push(port(name, address, &config).await);
        }
        checks.push(state(&config.state));
        let now = now();
        checks.push(clock(now));
        checks.extend(certificate::certificate(&config, now.0));
        context.out.print(&checks, || text(&checks))?;
        let failed = checks.iter().any(|check| check.verdict == Verdict::Failure);
        Ok(if failed { Exit::Failure } else { Exit::Success })
    }
}

fn text(checks: &[Check]) -> String {
    let mut table = Table::new(["CHECK", "RESULT", "DETAIL"]);
    for check in checks {
        let word = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failure => "FAILED",
        };
        table.row([check.subject, word, &check.message]);
    }
    let mut text = table.text();
    for check in checks {
        if let Some(hint) = &check.hint {
            let _ = writeln!(text, "hint ({}): {}", check.subject, harmless(hint));
        }
    }
    text
}

async fn repository(config: &Config) -> Check {
    const NAME: &str = "repository";
    let source = match daemon::source::open(config) {
        Ok(source) => source,
        Err(error) => return Check::refused(NAME, &error),
    };
    match tokio::time::timeout(FETCH_TIMEOUT, source.fetch()).await {
        Ok(Ok(snapshot)) => {
            Check::ok(NAME, format!("{} with {} files", snapshot.revision, snapshot.files.len()))
        }
        Ok(Err(error)) => Check::refused(NAME, &error),
        Err(_) => {
            Check::bad(NAME, Verdict::Failure, "no answer in time", "look at the network and at --proxy")
        }
    }
}

async fn engine(environment: &Environment) -> Check {
    const NAME: &str = "engine";
    const HINT: &str =
        "containers need a Docker engine: start one, or set DOCKER_HOST; process runners do without";
    let host = environment.get("DOCKER_HOST").filter(|host| !host.is_empty());
    let client = match host {
        None => Client::socket(Path::new(ENGINE_SOCKET)),
        Some(host) => match host.split_once("://") {
            Some(("unix", path)) => Client::socket(Path::new(path)),
            Some(("tcp" | "http", address)) => Client::tcp(address),
            _ => {
                return Check::bad(
                    NAME,
                    Verdict::Warning,
                    format!("DOCKER_HOST is `{host}`"),
                    "use unix:// or tcp://",
                );
            }
        },
    };
    match client.bytes(Method::GET, "/version", Bytes::new(), ENGINE_TIMEOUT).await {
        Ok(answer) => {
            let version = serde_json::from_slice::<serde_json::Value>(&answer).unwrap_or_default();
            Check::ok(NAME, format!("{client}, version {}", version["Version"].as_str().unwrap_or("unknown")))
        }
        Err(_) => Check::bad(NAME, Verdict::Warning, format!("no engine answers at {client}"), HINT),
    }
}

async fn port(name: &'static str, address: SocketAddr, config: &Config) -> Check {
    let Err(error) = TcpListener::bind(address).await else {
        return Check::ok(name, format!("{address} is free"));
    };
    let daemon = Client::socket(&config.socket()).get_json::<Status>("/api/v1/status").await;
    if daemon.is_ok_and(|status| {
        let named = [&status.daemon.mcp, &status.daemon.admin];
        named.iter().any(|url| url.contains(&address.to_string()))
            // Where we encrypt ourselves, it is told by its public name.
            || (address == config.listen && status.daemon.mcp == config.endpoint(address))
    }) {
        return Check::ok(name, format!("{address} is served by the daemon of this repository"));
    }
    let hint = "end what listens there, or choose others with --listen and --admin";
    let other = Client::tcp(&config.admin.to_string()).get_json::<Status>("/api/v1/status").await;
    let message = match other {
        Ok(Status { source, .. }) if address == config.admin => {
            let followed = format!("{} {}", source.repo, source.path);
            format!("{address} is served by another daemon, which follows {}", followed.trim_end())
        }
        Ok(_) | Err(_) => format!("{address} cannot be used: {error}"),
    };
    Check::bad(name, Verdict::Failure, message, hint)
}

fn state(state: &Path) -> Check {
    const NAME: &str = "state";
    // The nearest folder that exists is the one that has to let us in.
    let Some(nearest) = state.ancestors().find(|folder| folder.is_dir()) else {
        return Check::bad(NAME, Verdict::Failure, "no such folder", "name a state directory with --state");
    };
    match nix::unistd::access(nearest, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK) {
        Ok(()) => Check::ok(NAME, format!("{} can be written", PathBuf::from(state).display())),
        Err(error) => Check::bad(
            NAME,
            Verdict::Failure,
            format!("{} cannot be written: {error}", nearest.display()),
            "name another folder with --state",
        ),
    }
}

#[expect(clippy::disallowed_methods, reason = "the clock itself is looked at")]
fn now() -> Timestamp {
    Timestamp::from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default())
}

fn clock(now: Timestamp) -> Check {
    if Timestamp::parse(EARLIEST).is_some_and(|earliest| now >= earliest) {
        Check::ok("clock", now.to_string())
    } else {
        Check::bad(
            "clock",
            Verdict::Failure,
            format!("it shows {now}"),
            "set the clock: with it, no certificate is valid",
        )
    }
}
