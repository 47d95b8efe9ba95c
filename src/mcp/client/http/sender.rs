//! Requests over HTTP/1.1 to one address: plain ones with hyper, encrypted ones with reqwest.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use super::pool::{Answer, Lost, Pool};
use crate::mcp::client::Failure;
use crate::outgoing::{self, ExecuteError, Options};

/// Long enough for a slow network, short enough to try again within a start.
const CONNECT: Duration = Duration::from_secs(5);

/// Uvicorn and Node drop idle connections after 5 s; ours are dropped before, so that no request is
/// written to one that is just being closed.
const IDLE: Duration = Duration::from_secs(4);

pub(in crate::mcp::client) enum Sender {
    Plain(Pool),
    Tls(outgoing::Client),
}

impl Sender {
    /// `authorities` are certificates (PEM) that are trusted besides the system's.
    pub(in crate::mcp::client) fn new(url: &Uri, authorities: &[u8]) -> Result<Self, Failure> {
        match url.scheme_str() {
            Some("http") => {
                outgoing::check(url).map_err(|error| Failure::Unreached(error.to_string()))?;
                let pool = Pool::new(url, CONNECT, IDLE);
                pool.map(Self::Plain)
                    .ok_or_else(|| Failure::Unreached("its address names no host".to_owned()))
            }
            Some("https") => {
                let options =
                    Options { connect_timeout: CONNECT, idle: IDLE, authorities, ..Options::default() };
                outgoing::Client::new(&options)
                    .map(Self::Tls)
                    .map_err(|error| Failure::Unreached(chain(&error)))
            }
            _ => Err(Failure::Unreached("its address begins neither with http:// nor https://".to_owned())),
        }
    }

    pub(in crate::mcp::client) async fn send(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, Failure> {
        match self {
            Self::Plain(pool) => match pool.send(request).await {
                Ok(response) => Ok(response.map(Body::Plain)),
                Err(Lost::Unreached(error)) => Err(Failure::Unreached(chain(&*error))),
                Err(Lost::Gone(error)) => Err(Failure::Gone(chain(&error))),
            },
            Self::Tls(client) => match client.execute(request).await {
                Ok(response) => Ok(Response::from(response).map(Body::Tls)),
                Err(ExecuteError::Failed(error)) if !error.is_connect() => Err(Failure::Gone(chain(&error))),
                Err(error) => Err(Failure::Unreached(chain(&error))),
            },
        }
    }
}

pub(in crate::mcp::client) enum Body {
    Plain(Answer),
    Tls(reqwest::Body),
}

impl Body {
    /// The next bytes; none at the end.
    pub(in crate::mcp::client) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = match self {
                Self::Plain(answer) => answer.frame().await.transpose().map_err(|error| chain(&error)),
                Self::Tls(body) => body.frame().await.transpose().map_err(|error| chain(&error)),
            };
            match frame.map_err(Failure::Gone)? {
                Some(frame) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    _ => {}
                },
                None => return Ok(None),
            }
        }
    }

    /// Whether it is known that nothing more comes.
    fn is_end(&self) -> bool {
        match self {
            Self::Plain(answer) => answer.is_end(),
            Self::Tls(body) => body.is_end_stream(),
        }
    }

    /// Everything, when it is at most `max` bytes.
    pub(in crate::mcp::client) async fn all(mut self, max: usize) -> Result<Bytes, Failure> {
        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        // An answer of one chunk, which is most of them, is not copied, and its end not waited for.
        if self.is_end() {
            return Ok(first);
        }
        let Some(second) = self.chunk().await? else { return Ok(first) };
        let mut all = BytesMut::from(first.as_ref());
        let mut next = Some(second);
        while let Some(chunk) = next {
            if all.len() + chunk.len() > max {
                return Err(Failure::TooLong(max));
            }
            all.extend_from_slice(&chunk);
            next = self.chunk().await?;
        }
        Ok(all.freeze())
    }
}

/// An error and its causes. Addresses are left out: they can hold credentials.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        next = error.source();
        let part = match error.downcast_ref::<reqwest::Error>() {
            Some(error) if error.is_connect() => "cannot connect".to_owned(),
            Some(error) if error.is_timeout() => "no answer in time".to_owned(),
            Some(_) => "the request failed".to_owned(),
            None => error.to_string(),
        };
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&part);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_at_an_address_of_metadata_is_not_asked() {
        let failure = Sender::new(&Uri::from_static("http://169.254.169.254/mcp"), &[]).err();
        assert!(matches!(&failure, Some(Failure::Unreached(reason)) if reason.contains("never asked")));
    }
}
