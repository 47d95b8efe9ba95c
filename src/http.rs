//! Listeners: where they may be, what they take, how they end. Owns axum.
//!
//! Input: an address, what answers, a token that says when to end. Output: served connections.
//! Invariants: without authentication nothing listens off loopback; connections, heads of requests,
//! handshakes and waiting are bounded; a connection that is at work is never ended for another, and one that is idle
//! makes room. Not here: any route.

pub mod access;
mod answer;
mod assertion;
pub mod discovery;
pub mod grants;
pub mod guard;
pub mod opa;
pub mod presented;
mod quiet;
pub mod index;
mod lanes;
pub mod registry;
mod room;
mod stamp;
mod stream;
pub mod tls;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::quiet::Quiet;
use self::room::{Given, Room, Seat};
use self::stream::Stream;
use crate::ports::{PortError, PortResult};

pub use access::{Access, Authenticated, authenticated};
pub use answer::{Answer, At};
pub use axum::Router;
pub use axum::body::Body;
pub use axum::routing::any;
pub use guard::{Allowed, Guarded, guard};
pub use lanes::Lanes;
pub use presented::Presented;
pub use tls::Tls;

/// Connections at a time: room for 10,000 streams and their calls. For one more the longest idle one
/// goes; where none is idle, it waits in the kernel's queue.
const MAX_CONNECTIONS: usize = 12_000;
/// Connections that wait in the kernel's queue until they are accepted. Linux has 4,096 at most, unless
/// told otherwise; whoever comes when it is full tries again a second later.
const BACKLOG: u32 = 4096;
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

/// Binds a listener, inside a runtime.
///
/// # Errors
/// When the address is not loopback and nobody has to say who they are, or it cannot be bound.
pub fn bind(address: SocketAddr, authenticated: bool) -> PortResult<TcpListener> {
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
            error.hint("`toolcrib status` shows a daemon that runs; name another port with --listen and --admin, or 0 for any that is free")
        } else {
            error
        }
    };
    listen(address).map_err(failed)
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A daemon that is started again finds its port free.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
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

/// Where connections come from.
pub struct Listener {
    tcp: TcpListener,
    tls: Option<Arc<Tls>>,
    lanes: Option<Arc<Lanes>>,
}

impl From<TcpListener> for Listener {
    fn from(tcp: TcpListener) -> Self {
        Self { tcp, tls: None, lanes: None }
    }
}

impl Listener {
    /// Encrypted, where there is a certificate.
    pub fn encrypted(tcp: TcpListener, tls: Option<Arc<Tls>>) -> Self {
        Self { tcp, tls, lanes: None }
    }

    /// Serves its connections there, instead of where it accepts them.
    #[must_use]
    pub fn on(mut self, lanes: Arc<Lanes>) -> Self {
        self.lanes = Some(lanes);
        self
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// Serves connections until `shutdown`; then requests under way get some seconds to end.
pub async fn serve(listener: impl Into<Listener>, answer: impl Answer, shutdown: CancellationToken) {
    serve_at_most(MAX_CONNECTIONS, listener.into(), answer, shutdown).await;
}

async fn serve_at_most(most: usize, listener: Listener, answer: impl Answer, shutdown: CancellationToken) {
    let answer = Arc::new(answer);
    let Listener { tcp: listener, tls, lanes } = listener;
    let room = Room::new(most);
    let mut connections = JoinSet::new();
    loop {
        // Cancel-safe: accepting and joining lose nothing.
        let stream = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            stream = accept(&listener) => stream,
        };
        let Some(stream) = stream else { continue };
        tokio::select! {
            // Whoever waits when the end comes is not served.
            () = shutdown.cancelled() => break,
            Some(permit) = room.permit() => {
                let seat = Arc::new(room.seat(permit, &shutdown));
                let (tls, answer) = (tls.clone(), Arc::clone(&answer));
                match &lanes {
                    Some(lanes) => lanes.serve(stream, &mut connections, |stream| connection(stream, tls, answer, seat)),
                    None => drop(connections.spawn(connection(stream, tls, answer, seat))),
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

async fn accept(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            tracing::warn!(%error, "failed to accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(stream: TcpStream, tls: Option<Arc<Tls>>, answer: Arc<impl Answer>, seat: Arc<Seat>) {
    // One that is gone already has none.
    let Ok(peer) = stream.peer_addr().map(|address| Peer(address.ip())) else { return };
    let Some(tls) = tls else {
        let stream = Stream::new(stream, seat.leave().clone(), stream::LIMITS);
        return requests(stream, peer, answer, seat).await;
    };
    // Cancel-safe: a handshake that is not over is given up.
    let shaken = tokio::select! {
        shaken = Box::pin(tls.accept(stream, seat.leave())) => shaken,
        () = seat.leave().cancelled() => None,
    };
    if let Some(stream) = shaken {
        // Apart, so that a connection that is not encrypted has no room for it.
        Box::pin(requests(stream, peer, answer, seat)).await;
    }
}

async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    answer: Arc<impl Answer>,
    seat: Arc<Seat>,
) {
    let at_work = Arc::clone(&seat);
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (answer, work) = (Arc::clone(&answer), at_work.work());
        // A connection keeps room for this as long as it lives: for some KiB, unless they are elsewhere.
        Box::pin(async move {
            let response = answer.answer(request.map(Body::new), peer).await;
            Ok::<_, Infallible>(response.map(|body| Given::new(body, work)))
        })
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(MAX_HEAD)
        .max_buf_size(2 * MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(Quiet::new(connection));
    // Cancel-safe: the connection is polled by reference.
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = seat.leave().cancelled() => {
            // There is nothing that could be answered.
            if !seat.is_used() {
                return;
            }
            connection.as_mut().inner().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests;
