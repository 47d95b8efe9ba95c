//! The connection to one engine, and what its failures mean.
//!
//! Input: an address. Output: a client that speaks a version both know, and [`PortError`]s that
//! say what to do. Invariant: no request of ours waits without a limit.

use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};

use crate::ports::{PortError, PortResult};

/// Of everything that does not wait for a workload, a build or a registry. A loaded engine takes
/// seconds to create a container, hardly more than ten.
const QUICK: Duration = Duration::from_mins(1);
/// Of the question whether the engine is there.
const PING: Duration = Duration::from_secs(2);
/// Engine 20.10: the oldest this program is tested with.
const OLDEST: (usize, usize) = (1, 41);

/// An engine that is connected to when it is first needed, and again after it failed.
pub(super) struct Engine {
    host: String,
    client: tokio::sync::Mutex<Option<Docker>>,
}

impl Engine {
    pub(super) fn new(host: String) -> Self {
        Self { host, client: tokio::sync::Mutex::new(None) }
    }

    /// The client for requests that are answered quickly.
    pub(super) async fn client(&self) -> PortResult<Docker> {
        let mut client = self.client.lock().await;
        if let Some(docker) = &*client {
            return Ok(docker.clone());
        }
        let docker = self.connect().await?;
        *client = Some(docker.clone());
        Ok(docker)
    }

    /// A client for requests whose answer may take `limit` to begin.
    pub(super) async fn patient(&self, limit: Duration) -> PortResult<Docker> {
        Ok(self.client().await?.with_timeout(limit))
    }

    async fn connect(&self) -> PortResult<Docker> {
        let operation = || format!("failed to connect to the Docker engine at `{}`", self.host);
        let connected = match self.host.strip_prefix("tcp://") {
            Some(_) => Docker::connect_with_http(&self.host, QUICK.as_secs(), API_DEFAULT_VERSION),
            None => Docker::connect_with_unix(&self.host, QUICK.as_secs(), API_DEFAULT_VERSION),
        };
        let docker = connected.map_err(|error| fault(operation(), error))?;
        let docker = ask(operation, docker.negotiate_version()).await?;
        let ClientVersion { major_version, minor_version } = docker.client_version();
        if (major_version, minor_version) < OLDEST {
            return Err(PortError::stalled(operation())
                .caused_by(format!("its API is {major_version}.{minor_version}"))
                .hint("Docker 20.10 (API 1.41) or newer is needed"));
        }
        let version = ask(operation, docker.version()).await?;
        let (here, there) = (architecture(), version.arch.unwrap_or_default());
        if there != here {
            return Err(PortError::stalled(operation())
                .caused_by(format!("it runs on `{there}`, this program on `{here}`"))
                .hint("use an engine of the same architecture"));
        }
        Ok(docker)
    }

    /// Whether the engine answers.
    pub(super) async fn ping(&self) -> PortResult<()> {
        let operation = || format!("the Docker engine at `{}` does not answer", self.host);
        let asked = async {
            let docker = self.client().await?;
            docker.ping().await.map_err(|error| fault(operation(), error))
        };
        match tokio::time::timeout(PING, asked).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                // The next engine at this address may be of another version.
                *self.client.lock().await = None;
                Err(error)
            }
            Err(_) => Err(PortError::retry(operation()).caused_by("no answer within 2 s")),
        }
    }
}

/// As engines call it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Asks the engine something that is answered quickly.
pub(super) async fn ask<T>(
    operation: impl Fn() -> String,
    request: impl Future<Output = Result<T, Error>>,
) -> PortResult<T> {
    match tokio::time::timeout(QUICK, request).await {
        Ok(answer) => answer.map_err(|error| fault(operation(), error)),
        Err(_) => Err(PortError::retry(operation()).caused_by("the Docker engine did not answer in time")),
    }
}

/// `None` where the engine says that there is no such thing.
pub(super) fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if status(&error) == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The status code of the engine's refusal.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What a failed request means: refused as malformed stays refused; all else may change.
pub(super) fn fault(operation: String, error: Error) -> PortError {
    if let Error::DockerResponseServerError { status_code, message } = error {
        let failed =
            if status_code == 400 { PortError::stalled(operation) } else { PortError::retry(operation) };
        return failed.caused_by(message);
    }
    let hint = hint(&error);
    let failed = match error {
        Error::UnsupportedURISchemeError { .. } => PortError::stalled(operation).caused_by(error),
        Error::DockerStreamError { error } => PortError::retry(operation).caused_by(error),
        error => PortError::retry(operation).caused_by(error),
    };
    match hint {
        Some(hint) => failed.hint(hint),
        None => failed,
    }
}

fn hint(error: &Error) -> Option<&'static str> {
    const MISSING: &str = "is Docker running? start it, or say where it is with DOCKER_HOST";
    if matches!(error, Error::SocketNotFoundError(_)) {
        return Some(MISSING);
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        match inner.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
            Some(std::io::ErrorKind::PermissionDenied) => {
                return Some(
                    "may this user use the socket of the engine? (`usermod -aG docker USER`, or rootless Docker)",
                );
            }
            Some(std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused) => {
                return Some(MISSING);
            }
            _ => cause = inner.source(),
        }
    }
    None
}
