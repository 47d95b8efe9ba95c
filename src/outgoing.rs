//! The way out: every HTTP request to another program, except to the engine of containers, is made by a
//! client from here.
//!
//! Invariants: a name is resolved once for a connection, and the address that was judged is the one that
//! is dialled, so no second answer of a DNS server can change it; addresses at which clouds hand out
//! credentials are never dialled, whether they come from a name or are written; a redirect is not
//! followed, or stays with scheme, host and port. What is local may be asked: that is where servers are.

mod forbidden;
mod resolver;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Method, Uri};
use reqwest::redirect::{Attempt, Policy};

use resolver::check_url;
pub use resolver::{Forbidden, Resolver, check};

use crate::ports::{PortError, PortResult};

/// Redirects followed at most, where they are.
const MAX_REDIRECTS: usize = 5;

/// What a client does when it is sent elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirects {
    /// The redirect is the answer.
    Refused,
    /// Followed to the same scheme, host and port.
    SameOrigin,
}

/// How a client differs from others.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    pub redirects: Redirects,
    /// Limit of a whole request, unless the request has its own.
    pub timeout: Option<Duration>,
    pub connect_timeout: Duration,
    /// A connection that is not used is closed after this.
    pub idle: Duration,
    /// Certificates (PEM) that are trusted besides the system's.
    pub authorities: &'a [u8],
    /// A proxy for everything, besides those of the environment.
    pub proxy: Option<&'a str>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            redirects: Redirects::Refused,
            timeout: None,
            connect_timeout: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            authorities: &[],
            proxy: None,
        }
    }
}

/// Whom every client of this process trusts besides the system's authorities.
static TRUSTED: OnceLock<Vec<reqwest::Certificate>> = OnceLock::new();

/// Has every client trust certificates (PEM) besides the system's. Said once, before any is used; what is
/// said later does not count.
///
/// # Errors
/// When they cannot be read.
pub fn trust(authorities: &[u8]) -> PortResult<()> {
    let certificates = reqwest::Certificate::from_pem_bundle(authorities).map_err(not_set_up)?;
    if certificates.is_empty() {
        return Err(PortError::stalled("there is no certificate in it"));
    }
    // An error means that it was said before.
    drop(TRUSTED.set(certificates));
    Ok(())
}

/// A client for requests to other programs. Clones share connections.
///
/// TLS and the certificates of the system are set up by the first request: most daemons make none.
#[derive(Clone, Debug)]
pub struct Client(Arc<Lazy>);

#[derive(Debug)]
struct Lazy {
    redirects: Redirects,
    timeout: Option<Duration>,
    connect_timeout: Duration,
    idle: Duration,
    made: OnceLock<reqwest::Client>,
}

impl Client {
    /// # Errors
    /// When a certificate or the proxy's address cannot be read.
    pub fn new(options: &Options<'_>) -> PortResult<Self> {
        let Options { redirects, timeout, connect_timeout, idle, authorities, proxy } = *options;
        let lazy = Lazy { redirects, timeout, connect_timeout, idle, made: OnceLock::new() };
        if !authorities.is_empty() || proxy.is_some() {
            let mut builder = lazy.builder();
            for certificate in reqwest::Certificate::from_pem_bundle(authorities).map_err(not_set_up)? {
                builder = builder.add_root_certificate(certificate);
            }
            if let Some(proxy) = proxy {
                builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(not_set_up)?);
            }
            // Nobody else has it yet.
            drop(lazy.made.set(builder.build().map_err(not_set_up)?));
        }
        Ok(Self(Arc::new(lazy)))
    }

    /// Begins a request.
    ///
    /// # Errors
    /// When the address is none or one that is never dialled, or there is no TLS.
    pub fn request(&self, method: Method, url: &str) -> PortResult<reqwest::RequestBuilder> {
        let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| {
            PortError::stalled("the address is none").caused_by(error)
        })?;
        // As it is dialled: `2852039166` and `0xa9.254.43518` are numbers of hosts as well (WHATWG URL).
        let url = reqwest::Url::parse(url)
            .map_err(|error| PortError::stalled("the address is none").caused_by(error))?;
        check(&uri)
            .and_then(|()| check_url(&url))
            .map_err(|forbidden| PortError::stalled("the request is not sent").caused_by(forbidden))?;
        Ok(self.0.get()?.request(method, url))
    }

    /// Sends a request that was made elsewhere.
    ///
    /// # Errors
    /// When there is no TLS, its address is never dialled, or what the exchange fails with.
    pub async fn execute(
        &self,
        request: http::Request<bytes::Bytes>,
    ) -> Result<reqwest::Response, ExecuteError> {
        let request = reqwest::Request::try_from(request)?;
        check_url(request.url())?;
        Ok(self.0.get()?.execute(request).await?)
    }
}

impl Lazy {
    fn get(&self) -> PortResult<&reqwest::Client> {
        if let Some(client) = self.made.get() {
            return Ok(client);
        }
        let client = self.builder().build().map_err(not_set_up)?;
        Ok(self.made.get_or_init(|| client))
    }

    fn builder(&self) -> reqwest::ClientBuilder {
        // reqwest wants one for the whole process; if there is one already, that one stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .dns_resolver(Arc::new(Resolver))
            .redirect(match self.redirects {
                Redirects::Refused => Policy::none(),
                Redirects::SameOrigin => Policy::custom(same_origin),
            })
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(self.idle)
            .tcp_nodelay(true);
        let trusted = TRUSTED.get().into_iter().flatten().cloned();
        let builder = trusted.fold(builder, reqwest::ClientBuilder::add_root_certificate);
        match self.timeout {
            Some(timeout) => builder.timeout(timeout),
            None => builder,
        }
    }
}

fn not_set_up(error: reqwest::Error) -> PortError {
    PortError::stalled("failed to set up a client of HTTP").caused_by(error.without_url())
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    #[error(transparent)]
    NotSetUp(#[from] PortError),
    #[error(transparent)]
    Failed(#[from] reqwest::Error),
}

fn same_origin(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let (to, from) = (attempt.url(), attempt.previous());
    let stays = from.first().is_some_and(|first| first.origin() == to.origin());
    if !stays {
        // The answer is then the redirect itself.
        return attempt.stop();
    }
    if from.len() > MAX_REDIRECTS { attempt.error("too many redirects") } else { attempt.follow() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn numbers_that_are_dialled_as_addresses_are_judged_as_these() {
        let client = Client::new(&Options::default()).expect("nothing is needed");
        for address in [
            "http://2852039166/latest/meta-data",
            "http://0xa9fea9fe/",
            "http://0xa9.254.43518/",
            "http://0251.0376.0251.0376/",
            "http://169.254.43518:80/",
            "http://169.254.169.254./",
        ] {
            let refused = client.request(Method::GET, address).expect_err(address).chain();
            assert!(refused.contains("169.254.169.254 is link-local"), "{address}: {refused}");
            let request = http::Request::get(address).body(bytes::Bytes::new()).expect("a request");
            let refused = client.execute(request).await.expect_err(address);
            assert!(matches!(refused, ExecuteError::Forbidden(_)), "{address}: {refused}");
        }
    }

    #[test]
    fn addresses_of_metadata_are_never_dialled_however_they_are_written() {
        for address in [
            "http://169.254.169.254/latest/meta-data",
            "http://169.254.170.2/",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[fd00:ec2::254]/",
            "https://100.100.100.200/",
            "http://168.63.129.16/",
            "http://224.0.0.1/",
        ] {
            let uri: Uri = address.parse().expect("an address");
            assert!(check(&uri).is_err(), "{address}");
        }
        for address in [
            "http://127.0.0.1:8080/mcp",
            "http://[::1]/",
            "http://10.0.0.8/",
            "http://172.17.0.2:80/",
            "http://a.example/",
        ] {
            let uri: Uri = address.parse().expect("an address");
            assert_eq!(check(&uri), Ok(()), "{address}");
        }
    }
}
