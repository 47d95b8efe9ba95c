//! Listeners: where they may be, what they take, how they end. Owns axum.
//!
//! Input: an address, a router, a token that says when to end. Output: served connections.
//! Invariants: without authentication nothing listens off loopback; connections, heads of requests
//! and waiting are bounded. Not here: any route.

pub mod access;
pub mod discovery;
pub mod guard;
pub mod opa;
pub mod presented;
pub mod index;
pub mod registry;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::ports::{PortError, PortResult};

pub use access::{Access, authenticated};
pub use axum::Router;
pub use axum::body::Body;
pub use axum::routing::any;
pub use guard::{Allowed, guard};
pub use presented::Presented;

/// Connections at a time; more wait in the kernel's queue. Room for 10,000 streams and their calls.
const MAX_CONNECTIONS: usize = 12_000;
/// Open files that are asked for: a connection is one, and a call to a server is another.
const FILES: u64 = 4 * MAX_CONNECTIONS as u64;
/// Bytes of the head of a request: what other servers take, and room for mirrored parameters.
const MAX_HEAD: usize = 64 << 10;
/// From the end of one request to the head of the next. Longer than clients keep idle connections
/// (90 s is common), so that it is they who close and no request meets a closed connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(100);
/// After the end was asked for, requests under way may go on for so long.
const GRACE: Duration = Duration::from_secs(10);
/// Before accepting is tried again after it failed, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds a listener.
///
/// # Errors
/// When the address is not loopback and nobody has to say who they are, or it cannot be bound.
pub async fn bind(address: SocketAddr, authenticated: bool) -> PortResult<TcpListener> {
    if !address.ip().is_loopback() && !authenticated {
        return Err(PortError::stalled(format!("refused to listen on `{address}`: anybody could use it"))
            .hint(
                "listen on 127.0.0.1 or [::1], or name who may use it with --tokens-file or --oidc-issuer",
            ));
    }
    raise_file_limit();
    let failed = |cause: std::io::Error| {
        let in_use = cause.kind() == std::io::ErrorKind::AddrInUse;
        let error = PortError::stalled(format!("failed to listen on `{address}`")).caused_by(cause);
        if in_use {
            error.hint("is another daemon running? choose another port, or 0 for any that is free")
        } else {
            error
        }
    };
    TcpListener::bind(address).await.map_err(failed)
}

/// Many systems allow 1,024 open files unless a process asks for more.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = FILES.min(hard);
        if soft < wanted { setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        tracing::debug!(%error, "failed to raise the limit of open files");
    }
}

/// Serves connections until `shutdown`; then requests under way get some seconds to end.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // Cancel-safe: accepting and joining lose nothing, a permit that is not used is returned.
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = accept(&listener, &room) => {
                if let Some((stream, permit)) = accepted {
                    let (router, shutdown) = (router.clone(), shutdown.clone());
                    connections.spawn(async move {
                        connection(stream, router, shutdown).await;
                        drop(permit);
                    });
                }
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        tracing::warn!(after_s = GRACE.as_secs(), "ended connections that were still busy");
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    // Never closed.
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are written whole: waiting for more to send would only delay them.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "failed to set TCP_NODELAY");
            }
            Some((stream, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "failed to accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(stream: TcpStream, router: Router, shutdown: CancellationToken) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(MAX_HEAD)
        .max_buf_size(2 * MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    // Cancel-safe: the connection is polled by reference.
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests;
