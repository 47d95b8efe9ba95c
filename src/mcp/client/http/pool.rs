//! Connections over HTTP/1.1 to one address, kept for the next request.
//!
//! A connection is driven by whoever waits for an answer over it, in the same task: a task of its own for
//! each connection costs a call two more switches, and a wake-up of another thread when that one is idle.
//! Invariants: nothing is sent to another address; a connection carries one request at a time; one whose
//! answer was not read to its end is closed, which tells the server that nobody waits.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Body as _, Frame, Incoming};
use hyper::client::conn::{TrySendError, http1};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::{self, Handle};
use tokio::time::Instant;
use tower_service::Service as _;

use crate::outgoing::Resolver;

/// Connections that wait for the next request: as many as calls to one server usually run at a time.
const MAX_IDLE: usize = 128;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Lost {
    /// Nothing was sent.
    Unreached(Box<dyn std::error::Error + Send + Sync>),
    Gone(hyper::Error),
}

/// The connections to one address.
pub(in crate::mcp::client) struct Pool {
    /// Scheme, host and port.
    address: Uri,
    host: HeaderValue,
    connector: HttpConnector<Resolver>,
    idle: Arc<Idle>,
}

/// Those that nobody uses.
struct Idle {
    waiting: Mutex<Waiting>,
    /// How long one is kept.
    limit: Duration,
}

#[derive(Default)]
struct Waiting {
    /// The one that was used last comes last, and is used next.
    connections: Vec<Kept>,
    /// Whether somebody closes those that are kept for too long.
    watched: bool,
}

/// A connection is used on the runtime that watches its socket: elsewhere each answer would wake two threads.
struct Kept {
    on: runtime::Id,
    since: Instant,
    connection: Box<Connection>,
}

/// Boxed wherever it is handed on: it has hundreds of bytes.
struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// None when it is over.
    driver: Option<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>,
}

type Message = Request<Full<Bytes>>;

impl Pool {
    /// To the host of `url`, whose connections are closed when they were idle for `idle`; none when it
    /// names no host that can be written in a header.
    pub(super) fn new(url: &Uri, connect: Duration, idle: Duration) -> Option<Self> {
        let authority = url.authority()?;
        let host = match authority.port_u16() {
            Some(port) if port != 80 => format!("{}:{port}", authority.host()),
            _ => authority.host().to_owned(),
        };
        let mut connector = HttpConnector::new_with_resolver(Resolver);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(connect));
        let idle = Idle { waiting: Mutex::default(), limit: idle };
        Some(Self {
            address: url.clone(),
            host: HeaderValue::try_from(host).ok()?,
            connector,
            idle: Arc::new(idle),
        })
    }

    /// Sends a request, of whose address only path and query count, and waits for the head of its answer.
    pub(super) async fn send(&self, request: Request<Bytes>) -> Result<Response<Answer>, Lost> {
        let mut request = request.map(Full::new);
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        request.headers_mut().insert(HOST, self.host.clone());
        loop {
            let kept = self.kept().await;
            let fresh = kept.is_none();
            let connection = match kept {
                Some(connection) => connection,
                None => Box::pin(self.connect()).await?,
            };
            match connection.exchange(request).await {
                Ok((response, connection)) => {
                    return Ok(response.map(|body| Answer {
                        body,
                        connection: Some(connection),
                        ended: false,
                        idle: Arc::clone(&self.idle),
                    }));
                }
                Err(mut error) => match error.take_message() {
                    // It was closed before anything was written to it.
                    Some(unsent) if !fresh => request = unsent,
                    _ => return Err(Lost::Gone(error.into_error())),
                },
            }
        }
    }

    /// The connection that was used last, if it is still there.
    async fn kept(&self) -> Option<Box<Connection>> {
        loop {
            let mut connection = self.idle.take()?;
            let ended = poll_fn(|context| Poll::Ready(connection.drive(context)));
            if ended.await.is_pending() && connection.sender.is_ready() {
                return Some(connection);
            }
        }
    }

    async fn connect(&self) -> Result<Box<Connection>, Lost> {
        let mut connector = self.connector.clone();
        let connecting = async {
            poll_fn(|context| connector.poll_ready(context)).await?;
            connector.call(self.address.clone()).await
        };
        let stream = connecting.await.map_err(|error| Lost::Unreached(error.into()))?;
        let (sender, driver) = http1::handshake(stream).await.map_err(Lost::Gone)?;
        Ok(Box::new(Connection { sender, driver: Some(driver) }))
    }
}

impl Connection {
    /// Reads and writes what can be; ready when it is over.
    fn drive(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(driver) = &mut self.driver else { return Poll::Ready(()) };
        // Why it is over is told to whoever waits for an answer; dropped, it gives back what was not sent.
        drop(ready!(Pin::new(driver).poll(context)));
        self.driver = None;
        Poll::Ready(())
    }

    async fn exchange(
        mut self: Box<Self>,
        request: Message,
    ) -> Result<(Response<Incoming>, Box<Self>), TrySendError<Message>> {
        let mut answered = pin!(self.sender.try_send_request(request));
        let outcome = poll_fn(|context| {
            let _ = self.drive(context);
            answered.as_mut().poll(context)
        });
        outcome.await.map(|response| (response, self))
    }
}

/// The body of an answer.
pub(in crate::mcp::client) struct Answer {
    body: Incoming,
    connection: Option<Box<Connection>>,
    ended: bool,
    idle: Arc<Idle>,
}

impl Answer {
    /// The next part of it; none at the end.
    pub(super) async fn frame(&mut self) -> Option<hyper::Result<Frame<Bytes>>> {
        poll_fn(|context| self.poll_frame(context)).await
    }

    /// Whether it is known that nothing more comes.
    pub(super) fn is_end(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        // Asked first: the connection reads only what somebody wants.
        let mut frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_pending() {
            let _ = self.connection.as_mut().map(|connection| connection.drive(context));
            frame = Pin::new(&mut self.body).poll_frame(context);
        }
        self.ended |= matches!(frame, Poll::Ready(None));
        frame
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.is_end()
            && let Some(connection) = self.connection.take()
        {
            self.idle.keep(connection);
        }
    }
}

impl Idle {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection of this runtime that was used last.
    fn take(&self) -> Option<Box<Connection>> {
        let here = Handle::current().id();
        let mut waiting = self.waiting();
        let at = waiting.connections.iter().rposition(|kept| kept.on == here)?;
        let kept = waiting.connections.remove(at);
        (kept.since.elapsed() < self.limit).then_some(kept.connection)
    }

    fn keep(self: &Arc<Self>, connection: Box<Connection>) {
        // Without a runtime nobody would close it.
        let Ok(runtime) = Handle::try_current() else { return };
        let mut waiting = self.waiting();
        if connection.driver.is_none() || waiting.connections.len() >= MAX_IDLE {
            return;
        }
        waiting.connections.push(Kept { on: runtime.id(), since: Instant::now(), connection });
        if !std::mem::replace(&mut waiting.watched, true) {
            runtime.spawn(close_late(Arc::downgrade(self), self.limit));
        }
    }
}

/// Closes what nobody uses any more, until nothing is left.
async fn close_late(idle: Weak<Idle>, limit: Duration) {
    loop {
        tokio::time::sleep(limit).await;
        let Some(idle) = idle.upgrade() else { return };
        let mut waiting = idle.waiting();
        waiting.connections.retain(|kept| kept.since.elapsed() < limit);
        if waiting.connections.is_empty() {
            waiting.watched = false;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    async fn pool() -> (TcpListener, Arc<Pool>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let url = format!("http://{}/mcp", listener.local_addr().expect("bound"));
        let pool = Pool::new(&url.parse().expect("a URL"), LONG, LONG).expect("a host");
        (listener, Arc::new(pool))
    }

    /// Reads a request and answers it.
    async fn answer(stream: &mut TcpStream, text: &str) {
        let mut seen = Vec::new();
        while !seen.ends_with(b"ping") {
            assert!(stream.read_buf(&mut seen).await.expect("a request") > 0);
        }
        assert!(seen.starts_with(b"POST /mcp?a=1 HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&seen));
        stream.write_all(text.as_bytes()).await.expect("somebody reads");
    }

    async fn asked(pool: &Pool) -> Response<Answer> {
        let request = Request::post("/mcp?a=1").body(Bytes::from_static(b"ping")).expect("a request");
        pool.send(request).await.expect("an answer")
    }

    async fn text(mut answer: Response<Answer>) -> Bytes {
        let frame = answer.body_mut().frame().await.expect("a frame").expect("whole");
        frame.into_data().expect("data")
    }

    const WHOLE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npong";
    const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npong";

    #[tokio::test]
    async fn a_connection_is_used_again_and_one_that_was_closed_is_not() {
        let (listener, pool) = pool().await;
        let server = async {
            let (mut first, _) = listener.accept().await.expect("a connection");
            answer(&mut first, WHOLE).await;
            answer(&mut first, WHOLE).await;
            first.shutdown().await.expect("open");
            // The other side closes as well when it notices.
            let (mut second, _) = listener.accept().await.expect("another connection");
            answer(&mut second, WHOLE).await;
        };
        let client = async {
            for _ in 0..2 {
                assert_eq!(text(asked(&pool).await).await, "pong");
            }
            // Until what the server did arrives here.
            while let Some(open) = pool.kept().await {
                pool.idle.keep(open);
                tokio::task::yield_now().await;
            }
            assert_eq!(text(asked(&pool).await).await, "pong");
        };
        tokio::join!(server, client);
    }

    #[tokio::test]
    async fn a_connection_is_not_used_on_another_runtime() {
        let (listener, pool) = pool().await;
        let server = async {
            let (mut first, _) = listener.accept().await.expect("a connection");
            answer(&mut first, WHOLE).await;
            let (mut second, _) = listener.accept().await.expect("another connection");
            answer(&mut second, WHOLE).await;
            answer(&mut first, WHOLE).await;
        };
        let client = async {
            assert_eq!(text(asked(&pool).await).await, "pong");
            tokio::task::spawn_blocking({
                let pool = Arc::clone(&pool);
                move || {
                    let other =
                        runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                    other.block_on(async { assert_eq!(text(asked(&pool).await).await, "pong") });
                }
            })
            .await
            .expect("no panic");
            assert_eq!(text(asked(&pool).await).await, "pong");
        };
        tokio::join!(server, client);
    }

    #[tokio::test]
    async fn an_answer_that_is_given_up_closes_its_connection() {
        let (listener, pool) = pool().await;
        let server = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            answer(&mut stream, HALF).await;
            assert_eq!(stream.read(&mut [0]).await.expect("no reset"), 0);
        };
        let client = async {
            assert_eq!(text(asked(&pool).await).await, "pong");
            assert!(pool.idle.waiting().connections.is_empty());
        };
        tokio::join!(server, client);
    }
}
