//! TLS of a listener: handshakes, and a certificate that is read again when its files change.
//!
//! Input: two PEM files, connections. Output: encrypted connections. Invariants: TLS 1.2 or 1.3 and
//! HTTP/1.1, nothing else; a handshake ends within its time; files that cannot be used never take away a
//! certificate that can; no error or log holds a part of a key. Not here: certificates of clients.

mod certificate;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

pub use certificate::{Certificate, Files};

use super::stamp::Stamp;
use super::stream::{self, Stream};
use crate::ports::{PortError, PortResult};

/// From a connection to the end of its handshake: two round trips of a slow network, and signing.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often the files are looked at: so long the certificate of before is served.
const LOOK: Duration = Duration::from_secs(1);
/// A certificate that ends within this time is warned of: renewal is automatic a month before, mostly.
pub const SOON: Duration = Duration::from_hours(14 * 24);

/// The certificate of a listener.
pub struct Tls {
    files: Files,
    acceptor: TlsAcceptor,
    used: Arc<Used>,
    looked: Mutex<Looked>,
    state: watch::Sender<State>,
    /// [`HANDSHAKE`]; tests have less patience.
    handshake: Duration,
}

/// What is known of the certificate that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its last second, since the epoch.
    pub not_after: u64,
    /// Why files that changed are not used.
    pub problem: Option<String>,
}

struct Looked {
    stamp: [Stamp; 2],
    serving: Certificate,
    told: Age,
}

/// What was said of the end of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Good,
    Soon,
    Over,
}

#[derive(Debug)]
struct Used(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Used {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Tls {
    /// Blocks while it reads the files.
    ///
    /// # Errors
    /// When a file cannot be read or holds something else, or the key is that of another certificate.
    pub fn read(files: &Files) -> PortResult<Self> {
        let stamp = stamp(files);
        let (serving, key) = Certificate::read(files)?;
        let used = Arc::new(Used(ArcSwap::from_pointee(key)));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| PortError::stalled("failed to set up TLS").caused_by(error))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&used) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let state = State { not_after: serving.not_after, problem: None };
        let tls = Self {
            files: files.clone(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
            used,
            looked: Mutex::new(Looked { stamp, serving, told: Age::Good }),
            state: watch::Sender::new(state),
            handshake: HANDSHAKE,
        };
        tls.tell_age(certificate::now());
        Ok(tls)
    }

    /// What is served, from now on.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Looks at the files until `ended`.
    pub async fn follow(self: Arc<Self>, ended: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Cancel-safe: a token, and ticks that are not lost.
            tokio::select! {
                () = ended.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let tls = Arc::clone(&self);
            // Files can be on a network.
            drop(tokio::task::spawn_blocking(move || tls.look(certificate::now())).await);
        }
    }

    /// Reads the files again when they are others. Blocks.
    fn look(&self, now: u64) {
        let stamp = stamp(&self.files);
        if stamp != self.looked().stamp {
            let read = Certificate::read(&self.files);
            let mut looked = self.looked();
            looked.stamp = stamp;
            let before = looked.serving.not_after;
            let problem = match read {
                Ok((new, _)) if new.not_after <= now && before > now => {
                    Some(format!("the certificate in `{}` has expired", self.files.certificate.display()))
                }
                Ok((new, key)) => {
                    tracing::info!(certificate = %new, "the certificate was read again");
                    self.used.0.store(Arc::new(key));
                    (looked.serving, looked.told) = (new, Age::Good);
                    None
                }
                Err(error) => Some(error.chain()),
            };
            if let Some(error) = &problem {
                tracing::error!(error, "the certificate of before stays");
            }
            let state = State { not_after: looked.serving.not_after, problem };
            self.state.send_if_modified(|told| {
                let changed = *told != state;
                *told = state;
                changed
            });
        }
        self.tell_age(now);
    }

    /// Says once that the end is near, and once that it has come.
    fn tell_age(&self, now: u64) {
        let mut looked = self.looked();
        let age = match looked.serving.not_after.checked_sub(now) {
            Some(left) if left > SOON.as_secs() => Age::Good,
            Some(_) => Age::Soon,
            None => Age::Over,
        };
        if age != std::mem::replace(&mut looked.told, age) {
            match age {
                Age::Good => {}
                Age::Soon => tracing::warn!(certificate = %looked.serving, "the certificate expires soon"),
                Age::Over => tracing::error!(
                    certificate = %looked.serving,
                    "the certificate has expired: clients refuse it"
                ),
            }
        }
    }

    fn looked(&self) -> std::sync::MutexGuard<'_, Looked> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shakes hands. None when the client did not, or not in time.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
        ending: &CancellationToken,
    ) -> Option<TlsStream<Stream>> {
        let shaking = async {
            let mut first = [0];
            // The first byte of TLS is no letter, that of HTTP is one.
            let plainly = stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase();
            let stream = Stream::new(stream, ending.clone(), stream::LIMITS);
            if plainly {
                return plain(stream).await.map(|()| None);
            }
            self.acceptor.accept(stream).await.map(Some)
        };
        match tokio::time::timeout(self.handshake, shaking).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a client did not shake hands");
                None
            }
            Err(_) => {
                tracing::debug!(after = ?self.handshake, "a client did not shake hands in time");
                None
            }
        }
    }
}

fn stamp(files: &Files) -> [Stamp; 2] {
    [Stamp::of(&files.certificate), Stamp::of(&files.key)]
}

/// Answers a request that is not encrypted, with what to do.
async fn plain(mut stream: Stream) -> io::Result<()> {
    const BODY: &str = "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32600,\"message\":\"this address speaks TLS: write https:// instead of http://\"}}";
    let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n";
    let answer = format!("{head}Content-Length: {}\r\n\r\n{BODY}", BODY.len());
    stream.write_all(answer.as_bytes()).await?;
    // What still comes is read and dropped: the answer must not be lost on its way.
    stream.shutdown().await
}
