//! What a listener takes and how it ends, over real connections.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;

use super::*;

struct World {
    address: SocketAddr,
    shutdown: CancellationToken,
    serving: JoinSet<()>,
    begun: Arc<Notify>,
    go: Arc<Notify>,
}

/// `/wait` answers when it is let go, everything else at once.
async fn world() -> World {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, goes) = (Arc::clone(&begun), Arc::clone(&go));
    let wait = move || {
        let (begun, go) = (Arc::clone(&begins), Arc::clone(&goes));
        async move {
            begun.notify_one();
            go.notified().await;
            "waited"
        }
    };
    let router = Router::new().route("/wait", any(wait)).route("/", any(async || "here"));
    let listener = bind(([127, 0, 0, 1], 0).into(), false).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = guard(router, Allowed::new(address, None));
    let shutdown = CancellationToken::new();
    let mut serving = JoinSet::new();
    serving.spawn(serve(listener, router, shutdown.clone()));
    World { address, shutdown, serving, begun, go }
}

async fn say(stream: &mut TcpStream, path: &str, address: SocketAddr, more: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// Everything until the other side closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn nothing_listens_off_loopback() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let error = bind(address.parse().unwrap(), false).await.unwrap_err();
        assert!(error.operation.contains("anybody") && error.hint.is_some(), "{address}: {error}");
    }
    let first = bind(([127, 0, 0, 1], 0).into(), false).await.unwrap();
    let error = bind(first.local_addr().unwrap(), false).await.unwrap_err();
    assert!(error.hint.unwrap().contains("another daemon"));
}

#[tokio::test]
async fn requests_under_way_end_well_and_idle_connections_at_once() {
    let mut world = world().await;
    let mut idle = TcpStream::connect(world.address).await.unwrap();
    say(&mut idle, "/", world.address, "").await;
    let mut head = [0; 15];
    idle.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    let mut busy = TcpStream::connect(world.address).await.unwrap();
    say(&mut busy, "/wait", world.address, "").await;
    world.begun.notified().await;
    world.shutdown.cancel();
    assert!(rest(&mut idle).await.ends_with("here"));
    world.go.notify_one();
    assert!(rest(&mut busy).await.ends_with("waited"));
    world.serving.join_next().await.unwrap().unwrap();
    assert!(TcpStream::connect(world.address).await.is_err());
}

#[tokio::test]
async fn a_head_is_bounded_and_names_are_checked() {
    let world = world().await;
    let mut large = TcpStream::connect(world.address).await.unwrap();
    let header = format!("X-Large: {}\r\n", "x".repeat(MAX_HEAD));
    // It may be refused before all of it was sent.
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{header}\r\n", world.address);
    let _ = large.write_all(request.as_bytes()).await;
    let refused = rest(&mut large).await;
    assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 431"), "{refused}");
    let mut foreign = TcpStream::connect(world.address).await.unwrap();
    foreign
        .write_all(b"GET / HTTP/1.1\r\nHost: evil.example.com\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(rest(&mut foreign).await.starts_with("HTTP/1.1 403"));
}
