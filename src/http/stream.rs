//! The stream below HTTP: it is given up when the other side takes nothing, and closed so that the last
//! answer arrives.
//!
//! A peer that stops reading would hold a connection, and what is written to it, for ever: keep-alive
//! comments disappear in buffers. A socket that is closed while there is something to read is reset, and
//! the reset destroys answers that the peer has not read yet (RFC 9112 section 9.6): after the last
//! answer what still comes is read and dropped for a moment.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;

/// The bounds of a [`Stream`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long a peer may take nothing of what is there for it. Nobody reads so slowly on purpose.
    pub(super) stall: Duration,
    /// How long what still comes is dropped after the last answer, and how many bytes: a request that
    /// is refused for its size is on its way with all of it.
    pub(super) linger: Duration,
    pub(super) dropped: usize,
}

pub(super) const LIMITS: Limits =
    Limits { stall: Duration::from_mins(1), linger: Duration::from_secs(1), dropped: 16 << 20 };

/// A peer that does not answer at all for so long is gone: it lost power, or the way to it did.
#[cfg(target_os = "linux")]
const SILENT: Duration = Duration::from_mins(1);

pub(super) struct Stream {
    inner: TcpStream,
    limits: Limits,
    /// Since the peer took nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Since the last answer.
    lingering: Option<Pin<Box<Sleep>>>,
    dropped: usize,
    /// It has to go: nothing is waited for.
    ending: CancellationToken,
}

impl Stream {
    pub(super) fn new(inner: TcpStream, ending: CancellationToken, limits: Limits) -> Self {
        if let Err(error) = prepare(&inner) {
            tracing::debug!(%error, "failed to set the options of a connection");
        }
        Self { inner, limits, stalled: None, lingering: None, dropped: 0, ending }
    }

    #[cfg(test)]
    pub(super) fn inner(&self) -> &TcpStream {
        &self.inner
    }

    /// What became of a write: a peer that takes nothing for too long is an error.
    fn took(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stall = self.limits.stall;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(stall)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer reads nothing")))
    }
}

/// Answers are written whole: waiting for more to send would only delay them. A peer that vanished is
/// noticed also while there is nothing to say to it.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        use nix::sys::socket::{setsockopt, sockopt};
        let seconds = u32::try_from(SILENT.as_secs()).unwrap_or(u32::MAX);
        setsockopt(stream, sockopt::KeepAlive, &true)?;
        setsockopt(stream, sockopt::TcpKeepIdle, &seconds)?;
        setsockopt(stream, sockopt::TcpKeepInterval, &10)?;
        // Also ends it when the probes of before are not answered, or what was sent is not taken.
        setsockopt(stream, sockopt::TcpUserTimeout, &(seconds * 1000))?;
    }
    Ok(())
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.took(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, parts);
        self.took(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.inner).poll_shutdown(context))?;
            self.lingering = Some(Box::pin(sleep(self.limits.linger)));
        }
        let mut scratch = [0; 8 << 10];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.inner).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() && self.dropped < self.limits.dropped => {
                    self.dropped += buffer.filled().len();
                }
                Poll::Pending if !self.ending.is_cancelled() => break,
                Poll::Ready(_) | Poll::Pending => return Poll::Ready(Ok(())),
            }
        }
        let over = self.lingering.as_mut().map(|lingering| lingering.as_mut().poll(context));
        if over == Some(Poll::Pending) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}
