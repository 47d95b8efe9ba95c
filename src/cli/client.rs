//! HTTP to one daemon: over its socket or a TCP address.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use super::error::{CliError, CliResult};
use crate::admin::Failure;

/// A daemon is on this machine or near it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer from memory, of 10,000 tools at most.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of one answer: the catalog of 10,000 tools has about 20 MB.
const MAX_ANSWER: usize = 256 << 20;

/// Where a daemon is asked.
#[derive(Clone, Debug)]
pub(super) struct Client {
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Socket(PathBuf),
    Tcp(String),
}

/// An answer whose body is read as it comes, and the connection it comes over.
pub(super) struct Exchange {
    pub(super) response: Response<Incoming>,
    /// Drives the connection; ended when this is dropped.
    _connection: JoinSet<()>,
}

impl Client {
    pub(super) fn socket(path: &Path) -> Self {
        Self { place: Place::Socket(path.to_owned()) }
    }

    /// `address` is `host:port`, with or without `http://` before it.
    pub(super) fn tcp(address: &str) -> Self {
        let address = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
        Self { place: Place::Tcp(address.to_owned()) }
    }

    pub(super) fn is_socket(&self) -> bool {
        matches!(self.place, Place::Socket(_))
    }

    /// Whether somebody listens.
    pub(super) async fn answers(&self) -> bool {
        self.connect().await.is_ok()
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// When nobody answers in time.
    pub(super) async fn open(&self, request: Request<Full<Bytes>>, limit: Duration) -> CliResult<Exchange> {
        let (mut sender, connection) = self.connect().await?;
        let answer = tokio::time::timeout(limit, sender.send_request(request)).await;
        let response = answer
            .map_err(|_| self.late(limit))?
            .map_err(|error| CliError::failure(format!("{self} broke off")).caused_by(&error))?;
        Ok(Exchange { response, _connection: connection })
    }

    /// The JSON at `path`.
    ///
    /// # Errors
    /// When nobody answers, or the answer is a failure or no such JSON.
    pub(super) async fn get_json<T: DeserializeOwned>(&self, path: &str) -> CliResult<T> {
        self.json(Method::GET, path, Bytes::new(), READ_TIMEOUT).await
    }

    /// Sends a request and reads the JSON it is answered with.
    ///
    /// # Errors
    /// As [`Client::get_json`].
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: Duration,
    ) -> CliResult<T> {
        let bytes = self.bytes(method, path, body, limit).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            CliError::failure(format!("{self} answered with something else than expected"))
                .caused_by(&error)
                .hint("is it a Toolcrib of the same version? `toolcrib version` prints this one's")
        })
    }

    /// Sends a request and reads its whole answer.
    ///
    /// # Errors
    /// When nobody answers, or the answer is a failure.
    pub(super) async fn bytes(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: Duration,
    ) -> CliResult<Bytes> {
        let host = match &self.place {
            Place::Socket(_) => "localhost",
            Place::Tcp(address) => address,
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", host)
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| CliError::usage(format!("`{host}` is not an address")).caused_by(&error))?;
        let Exchange { response, _connection } = self.open(request, limit).await?;
        let status = response.status();
        let bytes = tokio::time::timeout(limit, whole(response)).await.map_err(|_| self.late(limit))??;
        if status.is_success() {
            return Ok(bytes);
        }
        let failure: Failure = serde_json::from_slice(&bytes).unwrap_or_default();
        let message =
            if failure.error.is_empty() { format!("{self} answered {status}") } else { failure.error };
        let error = CliError::failure(message).detail(failure.detail);
        Err(match failure.hint {
            Some(hint) => error.hint(hint),
            None => error,
        })
    }

    async fn connect(&self) -> CliResult<(SendRequest<Full<Bytes>>, JoinSet<()>)> {
        let mut tasks = JoinSet::new();
        let connecting = async {
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(match &self.place {
                Place::Socket(path) => {
                    let (sender, connection) =
                        handshake(TokioIo::new(UnixStream::connect(path).await?)).await?;
                    tasks.spawn(async { drop(connection.await) });
                    sender
                }
                Place::Tcp(address) => {
                    let stream = TcpStream::connect(address.as_str()).await?;
                    stream.set_nodelay(true)?;
                    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
                    tasks.spawn(async { drop(connection.await) });
                    sender
                }
            })
        };
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
        match connected {
            Ok(Ok(sender)) => Ok((sender, tasks)),
            Ok(Err(error)) => Err(self.absent().caused_by(&*error)),
            Err(_) => Err(self.absent().cause(format!("no connection within {CONNECT_TIMEOUT:?}"))),
        }
    }

    fn absent(&self) -> CliError {
        CliError::failure(format!("no daemon answers at {self}"))
            .hint("start one with `toolcrib run --repo PATH`, or name another with --admin or --state")
    }

    fn late(&self, limit: Duration) -> CliError {
        CliError::failure(format!("{self} gave no answer within {} s", limit.as_secs()))
            .hint("`toolcrib status` says what goes on")
    }
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.place {
            Place::Socket(path) => write!(f, "`{}`", path.display()),
            Place::Tcp(address) => write!(f, "http://{address}"),
        }
    }
}

/// The whole body of an answer, which has a bound.
///
/// # Errors
/// When the connection breaks or the bound is passed.
pub(super) async fn whole(response: Response<Incoming>) -> CliResult<Bytes> {
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    body.map(http_body_util::Collected::to_bytes)
        .map_err(|error| CliError::failure("failed to read the answer").caused_by(&*error))
}
