//! Requests with what the server is to be shown, and to no other host than was declared.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};

use super::sender::{Body, Sender};
use crate::mcp::client::Failure;
use crate::ports::{Credentials, Refusal};

/// Moves of the endpoint (`/mcp` to `/mcp/`) that are followed.
const REDIRECTS: usize = 2;

#[derive(Clone)]
pub(in crate::mcp::client) struct Requests {
    sender: Arc<Sender>,
    /// Of a server elsewhere.
    credentials: Option<Arc<dyn Credentials>>,
}

impl Requests {
    /// The way to an address.
    pub(in crate::mcp::client) fn to(
        url: &str,
        credentials: Option<Arc<dyn Credentials>>,
    ) -> Result<(Uri, Self), Failure> {
        let url: Uri = url.parse().map_err(|error| Failure::Unreached(format!("its address: {error}")))?;
        let sender = Arc::new(Sender::new(&url, &[])?);
        Ok((url, Self { sender, credentials }))
    }

    pub(in crate::mcp::client) fn credentials(&self) -> Option<Arc<dyn Credentials>> {
        self.credentials.clone()
    }

    /// Sends a request to `url`, which is changed to where it moved on the same host. Returns the answer,
    /// and whether it moved.
    pub(in crate::mcp::client) async fn send(
        &self,
        url: &mut Uri,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(Response<Body>, bool), Failure> {
        let (mut followed, mut shown_again) = (0, false);
        loop {
            let mut request = Request::new(body.clone());
            *request.method_mut() = method.clone();
            *request.uri_mut() = url.clone();
            // Only after a move or a refusal, which are rare, are they needed again.
            *request.headers_mut() = headers.clone();
            let shown = self.shown().await?;
            request.headers_mut().extend(shown.clone());
            let response = self.sender.send(request).await?;
            match response.status() {
                StatusCode::UNAUTHORIZED if !shown_again && self.refused(&shown).await => shown_again = true,
                StatusCode::UNAUTHORIZED => {
                    let reason = "Unauthorized: it wants other credentials; see `headers`, `oauth` and `userOAuth` of the server";
                    return Err(Failure::Status(401, reason.to_owned()));
                }
                StatusCode::FORBIDDEN if self.credentials.is_some() => {
                    self.forbidden(response.headers())?;
                    return Ok((response, followed > 0));
                }
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT if followed < REDIRECTS => {
                    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                    let Some(new) = location.and_then(|location| on_host(url, location)) else {
                        let reason = "it redirects to another host, which is not followed".to_owned();
                        return Err(Failure::Status(response.status().as_u16(), reason));
                    };
                    *url = new;
                    followed += 1;
                }
                _ => return Ok((response, followed > 0)),
            }
        }
    }

    /// What a server elsewhere is shown.
    async fn shown(&self) -> Result<HeaderMap, Failure> {
        let Some(credentials) = &self.credentials else { return Ok(HeaderMap::new()) };
        credentials.headers().await.map_err(|error| Failure::Credentials(error.chain()))
    }

    /// Fails when it wants a token with more scopes.
    fn forbidden(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let Some(credentials) = &self.credentials else { return Ok(()) };
        let said = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        match credentials.forbidden(&said.collect::<Vec<_>>().join(", ")) {
            Refusal::Other => Ok(()),
            Refusal::Ask(why) => Err(Failure::Lacks(why)),
            Refusal::Final(why) => Err(Failure::Credentials(why)),
        }
    }

    /// Whether it may be shown something else.
    async fn refused(&self, shown: &HeaderMap) -> bool {
        match &self.credentials {
            Some(credentials) => credentials.refused(shown).await,
            None => false,
        }
    }
}

/// What a server at `from` means by a reference, when that is at the same scheme, host and port. A path
/// without a slash in front stands beside the last part of the path (RFC 3986, section 5).
pub(in crate::mcp::client) fn on_host(from: &Uri, reference: &str) -> Option<Uri> {
    if reference.contains("://") {
        let to: Uri = reference.parse().ok()?;
        return (to.scheme() == from.scheme() && place(&to) == place(from)).then_some(to);
    }
    let path = match reference.strip_prefix('/') {
        Some(rest) if rest.starts_with('/') => return None,
        Some(_) => reference.to_owned(),
        None if reference.starts_with('?') => format!("{}{reference}", from.path()),
        None => format!("{}/{reference}", from.path().rsplit_once('/').map_or("", |(folder, _)| folder)),
    };
    let mut parts = from.clone().into_parts();
    parts.path_and_query = Some(path.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// Host and port, which may be left out; nobody's name and password.
fn place(url: &Uri) -> Option<(String, u16)> {
    let authority = url.authority().filter(|authority| !authority.as_str().contains('@'))?;
    let usual = if url.scheme_str() == Some("https") { 443 } else { 80 };
    Some((authority.host().to_ascii_lowercase(), authority.port_u16().unwrap_or(usual)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_refers_to_stays_on_its_host() {
        let from: Uri = "http://a:1/v/sse?x=1".parse().expect("a URL");
        let cases = [
            ("/mcp/", Some("http://a:1/mcp/")),
            ("http://a:1/mcp/", Some("http://a:1/mcp/")),
            ("http://A:1/mcp/", Some("http://A:1/mcp/")),
            ("/messages/?session_id=0a", Some("http://a:1/messages/?session_id=0a")),
            ("messages?s=1", Some("http://a:1/v/messages?s=1")),
            ("?s=1", Some("http://a:1/v/sse?s=1")),
            ("http://b:1/mcp/", None),
            ("http://a:2/mcp", None),
            ("http://a/mcp", None),
            ("https://a:1/mcp", None),
            ("http://me:pw@a:1/mcp", None),
            ("//b/mcp", None),
            ("/a b", None),
        ];
        for (reference, expected) in cases {
            let expected = expected.map(|url| url.parse().expect("a URL"));
            assert_eq!(on_host(&from, reference), expected, "{reference}");
        }
        let usual: Uri = "https://a/sse".parse().expect("a URL");
        assert!(on_host(&usual, "https://a:443/m").is_some());
    }
}
