//! What a listener takes and how it ends, over real connections.

use std::num::NonZeroUsize;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;

use super::*;

const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

struct World {
    address: SocketAddr,
    shutdown: CancellationToken,
    serving: JoinSet<()>,
    begun: Arc<Notify>,
    go: Arc<Notify>,
}

/// `/wait` answers when it is let go, everything else at once.
fn world() -> World {
    world_of(MAX_CONNECTIONS)
}

fn world_of(most: usize) -> World {
    world_on(most, None)
}

/// `/lane` says which thread serves the connection.
fn world_on(most: usize, lanes: Option<&Arc<Lanes>>) -> World {
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
    let lane = || std::thread::current().name().unwrap_or_default().to_owned();
    let router = router.route("/lane", any(async move || lane()));
    let listener = bind(([127, 0, 0, 1], 0).into(), false).unwrap();
    let address = listener.local_addr().unwrap();
    let router = guard(router, Allowed::new(address, None));
    let shutdown = CancellationToken::new();
    let mut serving = JoinSet::new();
    let listener = Listener::from(listener);
    let listener = match lanes {
        Some(lanes) => listener.on(Arc::clone(lanes)),
        None => listener,
    };
    serving.spawn(serve_at_most(most, listener, router, shutdown.clone()));
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
        let error = bind(address.parse().unwrap(), false).unwrap_err();
        assert!(error.operation.contains("anybody") && error.hint.is_some(), "{address}: {error}");
    }
    let first = bind(([127, 0, 0, 1], 0).into(), false).unwrap();
    let error = bind(first.local_addr().unwrap(), false).unwrap_err();
    assert!(error.hint.unwrap().contains("--listen and --admin"));
}

#[tokio::test]
async fn requests_under_way_end_well_and_idle_connections_at_once() {
    let lanes = Arc::new(Lanes::start(TWO).unwrap());
    for lanes in [None, Some(&lanes)] {
        ends_well(world_on(MAX_CONNECTIONS, lanes)).await;
    }
}

async fn ends_well(mut world: World) {
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

/// Asks which thread serves, which each time has to be one of the lanes.
async fn lane(stream: &mut TcpStream, address: SocketAddr) -> char {
    say(stream, "/lane", address, "").await;
    let mut text = Vec::new();
    while !text.windows(13).any(|part| part == b"connections-0" || part == b"connections-1") {
        assert!(stream.read_buf(&mut text).await.unwrap() > 0, "{}", String::from_utf8_lossy(&text));
    }
    char::from(*text.last().unwrap())
}

#[tokio::test]
async fn connections_are_shared_among_lanes_and_stay_there() {
    let lanes = Arc::new(Lanes::start(TWO).unwrap());
    let world = world_on(MAX_CONNECTIONS, Some(&lanes));
    let mut open = Vec::new();
    for _ in 0..6 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let first = lane(&mut stream, world.address).await;
        open.push((stream, first));
    }
    assert_eq!(open.iter().filter(|(_, lane)| *lane == '0').count(), 3, "each has as many as the other");
    for (stream, first) in &mut open {
        assert_eq!(lane(stream, world.address).await, *first);
    }
    // The next two come where others went.
    open.retain(|(_, lane)| *lane == '0');
    while lanes.load().iter().sum::<usize>() > 3 {
        tokio::task::yield_now().await;
    }
    let mut next = TcpStream::connect(world.address).await.unwrap();
    assert_eq!(lane(&mut next, world.address).await, '1');
    // With the lanes their connections end.
    drop((world, lanes));
    assert_eq!(rest(&mut next).await, "");
}

#[tokio::test]
async fn a_head_is_bounded_and_names_are_checked() {
    let world = world();
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

/// Asks for `/`, and whether it was answered.
async fn is_served(stream: &mut TcpStream, address: SocketAddr) -> bool {
    say(stream, "/", address, "").await;
    let mut text = Vec::new();
    while !text.ends_with(b"here") {
        if stream.read_buf(&mut text).await.unwrap_or(0) == 0 {
            return false;
        }
    }
    true
}

#[tokio::test]
async fn the_longest_idle_makes_room_and_who_is_at_work_stays() {
    let world = world_of(3);
    let open = async || TcpStream::connect(world.address).await.unwrap();
    let mut busy = open().await;
    say(&mut busy, "/wait", world.address, "").await;
    world.begun.notified().await;
    // One that says nothing, or not all of it, is idle as well.
    let mut silent = open().await;
    silent.write_all(b"GET / HT").await.unwrap();
    let mut polite = open().await;
    assert!(is_served(&mut polite, world.address).await);

    let mut next = open().await;
    assert!(is_served(&mut next, world.address).await, "the silent one went");
    assert_eq!(rest(&mut silent).await, "");
    assert!(is_served(&mut polite, world.address).await);
    let mut last = open().await;
    assert!(is_served(&mut last, world.address).await);
    assert_eq!(rest(&mut next).await, "", "it was idle for longer than the polite one");
    world.go.notify_one();
    assert!(is_served(&mut busy, world.address).await, "it was at work all the time");
}

#[tokio::test]
async fn when_all_are_at_work_whoever_comes_waits_for_the_first_that_is_done() {
    let world = world_of(1);
    let mut busy = TcpStream::connect(world.address).await.unwrap();
    say(&mut busy, "/wait", world.address, "").await;
    world.begun.notified().await;
    let mut next = TcpStream::connect(world.address).await.unwrap();
    let (served, said) = tokio::join!(is_served(&mut next, world.address), async {
        // Nothing is idle: it is let go only now.
        assert!(tokio::time::timeout(Duration::from_millis(300), busy.readable()).await.is_err());
        world.go.notify_one();
        rest(&mut busy).await
    });
    assert!(served && said.ends_with("waited"), "{said}");
}

/// A pair of connected streams, ours for `limits`.
async fn pair(limits: stream::Limits) -> (Stream, TcpStream) {
    let listener = bind(([127, 0, 0, 1], 0).into(), false).unwrap();
    let address = listener.local_addr().unwrap();
    let (theirs, ours) = tokio::join!(TcpStream::connect(address), listener.accept());
    (Stream::new(ours.unwrap().0, CancellationToken::new(), limits), theirs.unwrap())
}

#[tokio::test]
async fn who_reads_nothing_is_given_up_and_who_reads_slowly_is_not() {
    let limits = stream::Limits { stall: Duration::from_millis(200), ..stream::LIMITS };
    let (mut ours, theirs) = pair(limits).await;
    let error = loop {
        if let Err(error) = ours.write_all(&vec![0; 64 << 10]).await {
            break error;
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    drop(theirs);

    let limits = stream::Limits { stall: Duration::from_secs(30), ..stream::LIMITS };
    let (mut ours, mut theirs) = pair(limits).await;
    let (written, read) = tokio::join!(
        async {
            ours.write_all(&vec![0; 8 << 20]).await.unwrap();
            ours.shutdown().await
        },
        async {
            let mut read = 0;
            let mut part = vec![0; 10_000];
            loop {
                match theirs.read(&mut part).await.unwrap() {
                    0 => return read,
                    more => read += more,
                }
            }
        }
    );
    assert_eq!((written.is_ok(), read), (true, 8 << 20));
}

#[tokio::test]
async fn the_last_answer_arrives_although_more_was_sent() {
    // Longer than all of it takes to come, also on a busy machine: it is over when they close.
    let limits = stream::Limits { linger: Duration::from_secs(30), ..stream::LIMITS };
    let (mut ours, mut theirs) = pair(limits).await;
    let (ended, said) = tokio::join!(
        async {
            ours.write_all(b"413").await.unwrap();
            ours.shutdown().await.unwrap();
            drop(ours);
        },
        async move {
            // All of it is sent before anything is read.
            theirs.write_all(&vec![0; 6 << 20]).await.unwrap();
            let mut said = String::new();
            theirs.read_to_string(&mut said).await.map(|_| said)
        }
    );
    let () = ended;
    assert_eq!(said.unwrap(), "413");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_peer_that_vanished_is_noticed() {
    use nix::sys::socket::{getsockopt, sockopt};
    let (ours, _theirs) = pair(stream::LIMITS).await;
    assert!(getsockopt(ours.inner(), sockopt::KeepAlive).unwrap());
    assert_eq!(getsockopt(ours.inner(), sockopt::TcpUserTimeout).unwrap(), 60_000);
}
