//! Bodies: read whole under a bound, written as chunks or as a stream.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};

use super::Refusal;

/// Below this, parts of a response are joined: one copy costs less than several writes.
pub(super) const JOINED: usize = 16 << 10;

/// The body of a response.
#[derive(Default)]
pub enum Payload {
    #[default]
    Empty,
    /// In one piece.
    Whole(Bytes),
    /// Of known length; parts are sent as they are, without joining them.
    Parts(VecDeque<Bytes>),
    /// As it comes.
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

impl Payload {
    pub(super) fn full(text: impl Into<Bytes>) -> Self {
        Self::Whole(text.into())
    }

    /// Parts, which are joined when one copy costs less than several writes.
    pub(super) fn parts<const N: usize>(parts: [Bytes; N]) -> Self {
        let size: usize = parts.iter().map(Bytes::len).sum();
        if size > JOINED {
            return Self::Parts(parts.into());
        }
        let mut joined = Vec::with_capacity(size);
        for part in &parts {
            joined.extend_from_slice(part);
        }
        Self::full(joined)
    }

    /// Those of known length.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let (whole, parts) = match self {
            Self::Whole(whole) => (Some(whole), None),
            Self::Parts(parts) => (None, Some(parts)),
            Self::Empty | Self::Stream(_) => (None, None),
        };
        whole.into_iter().chain(parts.into_iter().flatten()).map(AsRef::as_ref)
    }

    pub(super) fn stream(stream: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self::Stream(Box::pin(stream))
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Whole(whole) => {
                let whole = std::mem::take(whole);
                Poll::Ready((!whole.is_empty()).then(|| Ok(Frame::data(whole))))
            }
            Self::Parts(parts) => Poll::Ready(parts.pop_front().map(|part| Ok(Frame::data(part)))),
            Self::Stream(stream) => {
                stream.as_mut().poll_next(context).map(|part| part.map(|part| Ok(Frame::data(part))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(whole) => whole.is_empty(),
            Self::Parts(parts) => parts.is_empty(),
            Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(whole) => SizeHint::with_exact(whole.len() as u64),
            Self::Parts(parts) => SizeHint::with_exact(parts.iter().map(|part| part.len() as u64).sum()),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// The whole body, when it has at most `max` bytes.
pub(super) async fn read<B>(headers: &HeaderMap, body: B, max: usize) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large =
        || Refusal::status(StatusCode::PAYLOAD_TOO_LARGE, &format!("the body has more than {max} bytes"));
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > max) {
        return Err(too_large());
    }
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let broken = |_| Refusal::status(StatusCode::BAD_REQUEST, "the body ended before its end");
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > max {
            return Err(too_large());
        }
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&std::mem::take(&mut first));
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}
