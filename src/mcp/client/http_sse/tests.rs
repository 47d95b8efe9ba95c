//! What is no server over HTTP+SSE. What is one is tried with real ones in `tests/it/follow/older.rs`.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::mcp::client::Upstream;
use crate::ports::{Channel, Greeting};

/// The address of a server that answers each request with this, as long as `tasks` lives.
async fn answering(answer: String, tasks: &mut JoinSet<()>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let url = format!("http://{}/sse", listener.local_addr().expect("bound"));
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            if matches!(stream.read(&mut request).await, Ok(1..)) {
                // Who does not read any more has heard enough.
                drop(stream.write_all(answer.as_bytes()).await);
            }
        }
    });
    url
}

#[tokio::test]
async fn a_stream_that_does_not_begin_as_it_should_is_refused_at_once() {
    let events = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    let json = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    let cases = [
        (format!("{events}event: endpoint\ndata: http://127.0.0.2/m\n\n"), "another host"),
        (format!("{events}event: endpoint\ndata: //elsewhere.example/m\n\n"), "another host"),
        (format!("{events}data: {{}}\n\n"), "does not begin with `endpoint`"),
        (json.to_owned(), "answered with something else"),
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".to_owned(), "HTTP 403 Forbidden"),
    ];
    let mut tasks = JoinSet::new();
    for (answer, expected) in cases {
        let url = answering(answer.clone(), &mut tasks).await;
        let channel = Channel::Sse { url, credentials: None };
        let greeted = Upstream::connect(channel, Greeting::Unknown, Duration::from_secs(30), || {}).await;
        let said = greeted.err().expect("refused").to_string();
        assert!(said.contains(expected), "{answer:?}: {said}");
    }
}
