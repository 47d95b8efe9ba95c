//! Names to the addresses that may be dialled.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::dns::Name;

use super::forbidden::forbidden;

/// A resolver that does not answer is tried again by whoever asked.
const LIMIT: Duration = Duration::from_secs(5);

/// An address that is never dialled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} is link-local or a metadata service of a cloud, and never asked")]
pub struct Forbidden {
    pub address: IpAddr,
}

/// Whether the host of an address is written as one that is never dialled. Names are judged when they are
/// resolved, by [`Resolver`].
///
/// # Errors
/// When it is.
pub fn check(uri: &Uri) -> Result<(), Forbidden> {
    literal(uri.host().unwrap_or_default())
}

/// The same of an address as reqwest reads it, which takes more than dotted decimals for numbers of hosts.
pub(super) fn check_url(url: &reqwest::Url) -> Result<(), Forbidden> {
    literal(url.host_str().unwrap_or_default())
}

fn literal(host: &str) -> Result<(), Forbidden> {
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match literal.parse() {
        Ok(address) if forbidden(address) => Err(Forbidden { address }),
        _ => Ok(()),
    }
}

/// Asks the system, and leaves out what is never dialled.
#[derive(Clone, Copy, Debug)]
pub struct Resolver;

impl Resolver {
    /// # Errors
    /// When the name is not known, or nothing it leads to may be dialled.
    async fn addresses(name: &str) -> io::Result<Vec<SocketAddr>> {
        let asked = tokio::time::timeout(LIMIT, tokio::net::lookup_host((name, 0)));
        let found: Vec<SocketAddr> = asked
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the name was not resolved in time"))??
            .collect();
        judged(found)
    }
}

fn judged(found: Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
    let (refused, allowed): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| forbidden(address.ip()));
    match (allowed.is_empty(), refused.first()) {
        (true, Some(first)) => Err(io::Error::other(Forbidden { address: first.ip() })),
        _ => Ok(allowed),
    }
}

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async move {
            let found = Self::addresses(name.as_str()).await?;
            Ok(Box::new(found.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

impl tower_service::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move { Ok(Self::addresses(name.as_str()).await?.into_iter()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn what_a_name_leads_to_is_judged() {
        let (public, metadata) = (address("192.0.2.1:0"), address("169.254.169.254:0"));
        assert_eq!(judged(vec![metadata, public]).expect("one is left"), [public]);
        let refused = judged(vec![metadata]).expect_err("nothing is left").to_string();
        assert_eq!(
            refused,
            "169.254.169.254 is link-local or a metadata service of a cloud, and never asked"
        );
        assert_eq!(judged(Vec::new()).expect("the connector says that there is none"), []);
    }

    #[tokio::test]
    async fn the_system_is_asked() {
        let found = Resolver::addresses("localhost").await.expect("every system knows it");
        assert!(!found.is_empty() && found.iter().all(|address| address.ip().is_loopback()), "{found:?}");
    }
}
