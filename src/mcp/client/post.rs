//! Requests to an endpoint by those who write the messages themselves: our own commands.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri};

use super::http::sender::{Body, Sender};
use super::{CallError, Failure};

/// One endpoint over HTTP, encrypted or not.
pub struct Poster(Sender);

/// An answer whose body is read as it comes.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Body,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// Nothing was sent.
    #[error("{0}")]
    Unreached(String),
    #[error(transparent)]
    Failed(CallError),
}

impl From<Failure> for PostError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreached(reason) => Self::Unreached(reason),
            failure => Self::Failed(failure.into()),
        }
    }
}

impl Poster {
    /// `authorities` are certificates (PEM) that are trusted besides the system's.
    ///
    /// # Errors
    /// When the address is none that can be asked, or the certificates cannot be read.
    pub fn new(url: &Uri, authorities: &[u8]) -> Result<Self, PostError> {
        Ok(Self(Sender::new(url, authorities)?))
    }

    /// Sends a request, whose address is absolute.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Answer, PostError> {
        let (parts, body) = self.0.send(request).await?.into_parts();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }
}

impl Answer {
    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, PostError> {
        Ok(self.body.chunk().await?)
    }

    /// Everything, when it is at most `max` bytes.
    ///
    /// # Errors
    /// When it is more, or the connection breaks.
    pub async fn all(self, max: usize) -> Result<Bytes, PostError> {
        Ok(self.body.all(max).await?)
    }
}
