//! HTTP itself: paths, framing, connections that are cut, slow, or full of requests.

use serde_json::json;

use super::wire::{Asked, Wire};
use super::{Bystander, World, greeting};

fn list() -> Asked {
    Asked::modern("tools/list", json!({}))
}

/// The target of a request, and the status it gets.
const TARGETS: &[(&str, u16)] = &[
    ("/mcp/", 200),
    ("/mcp?cursor=1", 200),
    ("/mcp?", 200),
    ("/mcp/few", 200),
    ("/mcp/few/", 200),
    ("http://{host}/mcp", 200),
    ("http://{host}/mcp/few", 200),
    ("http://evil.example.com/mcp", 403),
    ("/", 404),
    ("/MCP", 404),
    ("/mcp/few/x", 404),
    ("/mcp/few//", 404),
    ("/mcp//", 404),
    ("/mcp//few", 404),
    ("//mcp", 404),
    ("/mcp/..", 404),
    ("/mcp/../metrics", 404),
    ("/mcp/../../etc/passwd", 404),
    ("/mcp/./few", 404),
    ("/mcp/%2e%2e/metrics", 404),
    ("/mcp/%2E%2E%2Fmetrics", 404),
    ("/mcp%2ffew", 404),
    ("/m%63p", 404),
    ("/mcp/fe%77", 404),
    ("/mcp/few%00", 404),
    ("/mcp/few;x=1", 404),
    ("/mcp\\few", 404),
    ("/mcp@", 404),
    ("/mcp@0000000", 404),
    ("/mcp@main", 404),
    ("/mcp@../x", 404),
    ("/mcp/nothing", 404),
    ("/metrics", 404),
    ("/api/v1/status", 404),
    ("/livez", 404),
];

#[test]
fn a_path_leads_to_an_endpoint_or_nowhere() {
    let world = World::start(&[]);
    let mut bystander = Bystander::of(&world);
    let long = format!("/mcp/{}", "a".repeat(60_000));
    let longer = format!("/mcp/{}", "a".repeat(70_000));
    let longest = [(long.as_str(), 404), (longer.as_str(), 431)];
    for (target, status) in TARGETS.iter().copied().chain(longest) {
        let answer = world.ask(&list().target(target));
        assert_eq!(answer.status, status, "{target}: {}", answer.shown());
        if status != 431 {
            answer.check(target);
        }
        bystander.is_served(target);
    }
}

/// Bytes that are no request, or not quite, and the status they get; 0: the connection is closed at once.
fn broken() -> Vec<(&'static str, Vec<u8>, u16)> {
    let body = "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}";
    let post = |headers: &str, body: &str| {
        format!("POST /mcp HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\n{headers}\r\n{body}")
            .into_bytes()
    };
    vec![
        ("no HTTP", b"tools/list\r\n\r\n".to_vec(), 400),
        ("TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(), 400),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 0),
        ("HTTP/3.0", b"GET /mcp HTTP/3.0\r\n\r\n".to_vec(), 400),
        ("a header without a colon", post("Nonsense\r\n", ""), 400),
        ("a header's name with a blank", post("A b: c\r\n", ""), 400),
        ("a header that goes on", post("A: b\r\n c\r\n", ""), 400),
        ("a NUL in a header", post("A: \0\r\n", ""), 400),
        ("too many headers", post(&"A: b\r\n".repeat(200), ""), 431),
        ("a large header", post(&format!("A: {}\r\n", "b".repeat(70_000)), ""), 431),
        ("a length that is no number", post("Content-Length: x\r\n", body), 400),
        ("a length that no number holds", post("Content-Length: 18446744073709551615\r\n", body), 431),
        ("a negative length", post("Content-Length: -1\r\n", body), 400),
        ("a length with a sign", post("Content-Length: +40\r\n", body), 400),
        ("two lengths", post("Content-Length: 40\r\nContent-Length: 41\r\n", body), 400),
        ("an encoding that is none", post("Transfer-Encoding: identity\r\n", body), 400),
        (
            "a chunk's size that is no number",
            post("Transfer-Encoding: chunked\r\n", "x\r\n{}\r\n0\r\n\r\n"),
            400,
        ),
        (
            "a chunk's size that is too large",
            post("Transfer-Encoding: chunked\r\n", "ffffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
            400,
        ),
        (
            "chunks in HTTP/1.0",
            post("Transfer-Encoding: chunked\r\n", "0\r\n\r\n").replace("HTTP/1.1", "HTTP/1.0"),
            400,
        ),
        ("no Host in HTTP/1.0", b"GET /mcp HTTP/1.0\r\n\r\n".to_vec(), 403),
        ("no Host", b"GET /mcp HTTP/1.1\r\n\r\n".to_vec(), 400),
        ("a proxy's request", b"CONNECT example.com:443 HTTP/1.1\r\nHost: HOST\r\n\r\n".to_vec(), 403),
        ("everything", b"OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n".to_vec(), 404),
    ]
}

trait Replace {
    fn replace(&self, from: &str, to: &str) -> Self;
}

impl Replace for Vec<u8> {
    fn replace(&self, from: &str, to: &str) -> Self {
        match self.windows(from.len()).position(|window| window == from.as_bytes()) {
            Some(at) => [&self[..at], to.as_bytes(), &self[at + from.len()..]].concat(),
            None => self.clone(),
        }
    }
}

#[test]
fn what_is_no_request_is_refused_and_the_connection_closed() {
    let world = World::start(&[]);
    let mut bystander = Bystander::of(&world);
    let mut wrong = Vec::new();
    for (what, bytes, status) in broken() {
        let mut wire = world.wire();
        wire.send(&bytes.replace("HOST", &world.host));
        // The end of the connection would end a request that is whole before it is answered.
        let whole = matches!(what, "no Host" | "no Host in HTTP/1.0" | "a proxy's request" | "everything");
        if !whole {
            wire.finish();
        }
        let said = wire.answer().map_or(0, |answer| answer.status);
        if whole {
            wire.finish();
        }
        if said != status {
            wrong.push(format!("{what}: {status} expected: {said}"));
        }
        assert!(wire.is_closed(), "{what}");
        bystander.is_served(what);
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn an_older_client_is_answered_and_the_connection_closed() {
    let world = World::start(&[]);
    let mut wire = world.wire();
    let answer = wire.ask(&list().http("HTTP/1.0"));
    assert_eq!((answer.status, answer.header("transfer-encoding")), (200, None), "{}", answer.shown());
    answer.check("HTTP/1.0");
    assert!(wire.is_closed());
}

#[test]
fn requests_that_come_together_are_answered_one_after_the_other() {
    let world = World::start(&[]);
    let mut wire = world.wire();
    let names: Vec<String> = (0..50).map(|n| format!("n{n}")).collect();
    let mut bytes: Vec<u8> = names.iter().flat_map(|name| greeting(name).bytes(wire.host())).collect();
    // One in the middle that is refused, without harm to those behind it.
    bytes.extend(list().body("{").bytes(wire.host()));
    bytes.extend(greeting("last").bytes(wire.host()));
    wire.send(&bytes);
    for name in &names {
        let answer = wire.answer().unwrap();
        assert_eq!(answer.message()["result"]["content"][0]["text"], format!("hello {name}\n"));
    }
    assert_eq!(wire.answer().unwrap().status, 400);
    assert_eq!(wire.answer().unwrap().message()["result"]["content"][0]["text"], "hello last\n");
}

/// Everything but the end: heads and bodies that stop, connections that are cut, and half of a TLS handshake.
#[test]
fn whoever_is_slow_or_gone_keeps_nobody_waiting() {
    let world = World::start(&[]);
    let mut bystander = Bystander::of(&world);
    let bytes = greeting("you").bytes(&world.host);
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let stops = [0, 1, 20, head - 2, head, head + 1, bytes.len() - 1];
    let mut open: Vec<Wire> = Vec::new();
    for stop in stops {
        for cut in [false, true] {
            let mut wire = world.wire();
            wire.send(&bytes[..stop]);
            bystander.is_served(&format!("{stop} bytes of {}", bytes.len()));
            if cut {
                drop(wire);
            } else {
                open.push(wire);
            }
        }
    }
    // Byte by byte, with others served in between.
    let mut slow = world.wire();
    for (at, byte) in bytes.iter().enumerate() {
        slow.send(&[*byte]);
        if at % 100 == 0 {
            bystander.is_served("one byte more");
        }
    }
    assert_eq!(slow.answer().unwrap().message()["result"]["content"][0]["text"], "hello you\n");
    // Those that stopped go on where they were.
    for (wire, stop) in open.iter_mut().zip(stops) {
        wire.send(&bytes[stop..]);
        assert_eq!(wire.answer().unwrap().status, 200, "{stop}");
    }
    // A body that ends before its end.
    let mut short = world.wire();
    short.send(&bytes[..bytes.len() - 1]);
    short.finish();
    let said = short.answer();
    assert!(said.as_ref().map_or(true, |answer| answer.status == 400), "{said:?}");
    bystander.is_served("a body that ended early");
}

/// Lists of a few hundred KiB, asked for again and again by clients that read nothing of them.
#[test]
fn whoever_does_not_read_keeps_nobody_waiting_and_costs_little() {
    let world = World::start(&[]);
    let mut bystander = Bystander::of(&world);
    let page = world.ask(&list()).body.len();
    assert!(page > 200_000, "{page}");
    let before = world.daemon.resident();
    let asked = list().bytes(&world.host).repeat(50);
    let mut readers: Vec<Wire> = (0..50).map(|_| world.wire()).collect();
    for reader in &mut readers {
        reader.send(&asked);
        bystander.is_served("lists that nobody reads");
    }
    // Fifty lists for each of fifty clients are 600 MB.
    let grown = world.daemon.resident().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB more");
    for reader in &mut readers {
        let answer = reader.answer().unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, page));
    }
    drop(readers);
    bystander.is_served("lists that nobody read to the end");
}
