//! Ten thousand connections, and more than there is room for.

use futures::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::wire::{Asked, PATIENCE};
use super::{Bystander, World};
use crate::support::{raise_file_limit, wait_for};

/// Connections that are opened at a time: fewer than wait in the kernel's queue.
const AT_A_TIME: usize = 500;
/// Those that follow the lists, those that asked once and keep their connection, and those that never said
/// all of what they want.
const SUBSCRIBERS: usize = 4_000;
const IDLE: usize = 3_000;
const HALF: usize = 3_000;
/// As many as there is room for (`http::MAX_CONNECTIONS`).
const ROOM: usize = 12_000;
/// Memory of the daemon for each of them, in a build without optimisation. Measured in `tests/bench`.
const KIB_EACH: u64 = 64;

/// A connection on which so much was said, and what came until `until` did.
async fn said(host: &str, bytes: &[u8], until: &str) -> TcpStream {
    let mut stream = TcpStream::connect(host).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    if !until.is_empty() {
        hear(&mut stream, until).await;
    }
    stream
}

/// Reads until it is there.
async fn hear(stream: &mut TcpStream, what: &str) {
    let mut heard = Vec::new();
    let hearing = async {
        while !String::from_utf8_lossy(&heard).contains(what) {
            let more = stream.read_buf(&mut heard).await.unwrap();
            assert!(more > 0, "closed after {:?}", String::from_utf8_lossy(&heard));
        }
    };
    let late = tokio::time::timeout(PATIENCE, hearing).await.is_err();
    assert!(!late, "{what} is not in {:?}", String::from_utf8_lossy(&heard));
}

async fn open(count: usize, host: &str, bytes: &[u8], until: &str) -> Vec<TcpStream> {
    let mut open = Vec::with_capacity(count);
    while open.len() < count {
        let now = AT_A_TIME.min(count - open.len());
        open.extend(join_all((0..now).map(|_| said(host, bytes, until))).await);
    }
    open
}

#[test]
fn ten_thousand_connections_are_held_and_others_are_served() {
    raise_file_limit();
    let world = World::start(&[]);
    let host = &world.host;
    let mut bystander = Bystander::of(&world);
    let before = world.daemon.resident();
    let filter = json!({"notifications": {"toolsListChanged": true}});
    let listen = Asked::modern("subscriptions/listen", filter).bytes(host);
    let ask = Asked::modern("server/discover", json!({})).bytes(host);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    let mut subscribers = runtime.block_on(open(SUBSCRIBERS, host, &listen, "subscriptions/acknowledged"));
    let each = world.daemon.resident().saturating_sub(before) / SUBSCRIBERS as u64;
    assert!(each < KIB_EACH, "{each} KiB for each subscriber");
    bystander.is_served("the subscribers");
    let idle = runtime.block_on(open(IDLE, host, &ask, "supportedVersions"));
    let half = runtime.block_on(open(HALF, host, &ask[..ask.len() / 3], ""));
    bystander.is_served("ten thousand connections");

    // A change reaches all that follow.
    let greet = super::TOOLS.replace("Greets", "Welcomes").replace("FIFO", "x");
    world.env.repo().write("tools.yaml", &(greet + &world.upstream.declared("many", ""))).commit("changed");
    let heard = subscribers.iter_mut().map(|stream| hear(stream, "tools/list_changed"));
    runtime.block_on(join_all(heard));
    bystander.is_served("a change");

    // More than there is room for: the longest idle make it, who follows stays.
    let more = runtime.block_on(open(ROOM - SUBSCRIBERS, host, &ask, "supportedVersions"));
    let mut last = Bystander::of(&world);
    last.is_served("as many connections as there is room for");
    let closed = |streams: &[TcpStream]| streams.iter().filter(|stream| is_closed(stream)).count();
    assert!(
        closed(&half) > 0 && closed(&idle) + closed(&half) >= 5_000,
        "{} {}",
        closed(&half),
        closed(&idle)
    );
    assert_eq!(closed(&subscribers), 0, "none that is at work goes");
    world.env.repo().git(&["revert", "--no-edit", "HEAD"]);
    let heard = subscribers.iter_mut().map(|stream| hear(stream, "tools/list_changed"));
    runtime.block_on(join_all(heard));
    drop((more, half, idle, subscribers));
    last.is_served("all of them left");
}

fn is_closed(stream: &TcpStream) -> bool {
    loop {
        match stream.try_read(&mut [0; 1024]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// Calls that nobody waits for any more end, however many there were.
#[test]
fn calls_of_clients_that_left_end() {
    let world = World::start(&[]);
    let mut bystander = Bystander::of(&world);
    let stuck = Asked::modern("tools/call", json!({"name": "stuck", "arguments": {}})).bytes(&world.host);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The head of the answer comes when the call has been under way for a while, whether its program could be
    // started by then or not.
    let waiting = runtime.block_on(open(40, &world.host, &stuck, "text/event-stream"));
    let running = || world.daemon.children().len();
    wait_for("all to run", PATIENCE, || (running() >= 40).then_some(()));
    bystander.is_served("calls that take long");
    drop(waiting);
    wait_for("the calls to end", PATIENCE, || (running() == 0).then_some(()));
    bystander.is_served("calls of clients that left");
}
