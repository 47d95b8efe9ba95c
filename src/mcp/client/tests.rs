//! The laws of a connection, against scripted servers in memory and on loopback.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::*;
use crate::ports::{CallEvent, telling};

const LONG: Duration = Duration::from_secs(30);

/// The server's end of a stdio connection.
struct Peer {
    lines: tokio::io::Lines<BufReader<ReadHalf<DuplexStream>>>,
    writer: WriteHalf<DuplexStream>,
}

impl Peer {
    fn pair() -> (Channel, Self) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (reader, writer) = tokio::io::split(ours);
        let (peer_reader, peer_writer) = tokio::io::split(theirs);
        let channel = Channel::Stdio { reader: Box::new(reader), writer: Box::new(writer) };
        (channel, Self { lines: BufReader::new(peer_reader).lines(), writer: peer_writer })
    }

    /// The next message of the client.
    async fn hear(&mut self) -> Value {
        let line = self.lines.next_line().await.expect("memory").expect("a message");
        serde_json::from_str(&line).expect("JSON")
    }

    async fn say(&mut self, line: impl std::fmt::Display) {
        self.writer.write_all(format!("{line}\n").as_bytes()).await.expect("memory");
    }

    async fn answer(&mut self, request: &Value, result: &str) {
        self.say(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, request["id"])).await;
    }

    async fn refuse(&mut self, request: &Value, code: i64) {
        self.say(json!({"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": "no"}}))
            .await;
    }
}

const DISCOVERED: &str = r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}}"#;
const INITIALIZED: &str = r#"{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"s","x":1.0},"instructions":"i"}"#;

/// A modern server and a connection to it.
async fn modern() -> (Arc<Upstream>, Peer) {
    let (channel, mut peer) = Peer::pair();
    let server = async {
        let discover = peer.hear().await;
        peer.answer(&discover, DISCOVERED).await;
    };
    let (upstream, ()) = tokio::join!(Upstream::connect(channel, Greeting::Unknown, LONG, || {}), server);
    (upstream.expect("greeted"), peer)
}

fn params(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("JSON")
}

async fn call(upstream: &Upstream, context: &CallContext) -> Result<String, CallError> {
    let params = params(&json!({"name": "t", "_meta": {"progressToken": "theirs", "traceparent": "00-1"}}));
    upstream
        .call("tools/call", Params::of(&params), LONG, context)
        .await
        .map(|result| result.get().to_owned())
}

#[tokio::test]
async fn answers_reach_their_calls_in_any_order_and_byte_for_byte() {
    let (upstream, mut peer) = modern().await;
    let context = CallContext::default();
    let server = async {
        let (first, second) = (peer.hear().await, peer.hear().await);
        assert_eq!(first["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        assert_eq!(first["params"]["_meta"]["traceparent"], "00-1");
        assert!(first["params"]["_meta"].get("progressToken").is_none());
        peer.say(r#"{"jsonrpc":"2.0","id":999,"result":{"nobody":"asked"}}"#).await;
        peer.answer(&second, r#"{"second": 1.50e2}"#).await;
        peer.answer(&first, r#"{ "first":"\u00e9" }"#).await;
    };
    let (first, second, ()) = tokio::join!(call(&upstream, &context), call(&upstream, &context), server);
    assert_eq!(first.expect("answered"), r#"{ "first":"\u00e9" }"#);
    assert_eq!(second.expect("answered"), r#"{"second": 1.50e2}"#);
    assert_eq!(upstream.in_flight(), 0);
}

#[tokio::test]
async fn progress_and_logs_reach_the_call_they_belong_to() {
    let (upstream, mut peer) = modern().await;
    let (teller, mut heard) = telling();
    let context = CallContext { events: Some(teller), progress: true, ..CallContext::default() };
    let server = async {
        let request = peer.hear().await;
        let token = &request["params"]["_meta"]["progressToken"];
        assert_eq!(token, &request["id"]);
        let progress = |token: &Value| {
            json!({"jsonrpc": "2.0", "method": "notifications/progress",
                "params": {"progressToken": token, "progress": 1, "total": 2.0, "message": "half"}})
        };
        peer.say(progress(&json!("another"))).await;
        peer.say(progress(token)).await;
        peer.say(r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info", "data":1}}"#)
            .await;
        peer.answer(&request, "{}").await;
    };
    let (outcome, ()) = tokio::join!(call(&upstream, &context), server);
    outcome.expect("answered");
    let Some(CallEvent::Progress { progress, total, message }) = heard.now() else {
        panic!("progress comes first")
    };
    assert_eq!((progress, total, message.as_deref()), (1.0, Some(2.0), Some("half")));
    let Some(CallEvent::Log(log)) = heard.now() else { panic!("then the log") };
    assert_eq!(&*log, r#"{"level":"info", "data":1}"#);
}

#[tokio::test]
async fn a_call_that_goes_away_is_told_to_the_server_and_its_late_answer_dropped() {
    let (upstream, mut peer) = modern().await;
    let cancelled = CallContext::default();
    cancelled.cancel.cancel();
    let never = CallContext::default();
    let limit = Duration::from_millis(20);
    for kind in ["cancelled", "late", "dropped"] {
        let call = upstream.call("tools/call", Params::of(RawValue::TRUE), limit, &never);
        assert!(matches!(call.await, Err(CallError::Server(_))), "parameters must be an object");
        let empty = params(&json!({}));
        let server = async {
            let request = peer.hear().await;
            let told = peer.hear().await;
            assert_eq!(told["method"], "notifications/cancelled");
            assert_eq!(told["params"]["requestId"], request["id"]);
            peer.answer(&request, "{}").await;
        };
        let client = async {
            match kind {
                "cancelled" => {
                    let token = tokio_util::sync::CancellationToken::new();
                    let context = CallContext { cancel: token.clone(), ..CallContext::default() };
                    let call = upstream.call("tools/call", Params::of(&empty), LONG, &context);
                    let (outcome, ()) = tokio::join!(call, async {
                        tokio::task::yield_now().await;
                        token.cancel();
                    });
                    assert!(matches!(outcome, Err(CallError::Cancelled)));
                }
                "late" => {
                    let outcome = upstream.call("tools/call", Params::of(&empty), limit, &never).await;
                    assert!(matches!(outcome, Err(CallError::Timeout(_))));
                }
                _ => {
                    let call = upstream.call("tools/call", Params::of(&empty), LONG, &never);
                    assert!(tokio::time::timeout(limit, call).await.is_err());
                }
            }
        };
        tokio::join!(server, client);
    }
    // The connection is as good as before.
    let server = async {
        let request = peer.hear().await;
        peer.answer(&request, "{}").await;
    };
    let (outcome, ()) = tokio::join!(call(&upstream, &never), server);
    assert_eq!(outcome.expect("answered"), "{}");
}

#[tokio::test]
async fn requests_of_the_server_are_answered() {
    let (_upstream, mut peer) = modern().await;
    peer.say(r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#).await;
    assert_eq!(peer.hear().await, json!({"jsonrpc": "2.0", "id": "p", "result": {}}));
    peer.say(r#"{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{}}"#).await;
    assert_eq!(peer.hear().await["error"]["code"], -32601);
}

#[tokio::test]
async fn garbage_is_skipped_until_there_is_too_much_of_it() {
    let (upstream, mut peer) = modern().await;
    let context = CallContext::default();
    let server = async {
        let request = peer.hear().await;
        for _ in 0..99 {
            peer.say("Starting server on stdio…").await;
        }
        peer.answer(&request, "{}").await;
        let _unanswered = peer.hear().await;
        for _ in 0..100 {
            peer.say("\u{1b}[1mnonsense").await;
        }
    };
    let client = async {
        assert_eq!(call(&upstream, &context).await.expect("answered"), "{}");
        let Err(CallError::Gone(reason)) = call(&upstream, &context).await else { panic!("closed") };
        assert!(reason.contains("is not MCP"), "{reason}");
        upstream.closed().await;
        assert!(matches!(call(&upstream, &context).await, Err(CallError::Gone(_))));
    };
    tokio::join!(server, client);
}

#[tokio::test]
async fn an_answer_that_is_too_long_fails_its_call_alone() {
    let (upstream, mut peer) = modern().await;
    let context = CallContext::default();
    let server = async {
        let request = peer.hear().await;
        peer.answer(&request, &format!("{{\"text\":\"{}\"}}", "x".repeat(wire::MAX_MESSAGE))).await;
        let request = peer.hear().await;
        peer.answer(&request, "{}").await;
    };
    let client = async {
        assert!(matches!(call(&upstream, &context).await, Err(CallError::TooLong(wire::MAX_MESSAGE))));
        assert_eq!(call(&upstream, &context).await.expect("answered"), "{}");
    };
    tokio::join!(server, client);
}

#[tokio::test]
async fn the_end_of_a_server_ends_its_calls_and_is_told_once() {
    let (channel, mut peer) = Peer::pair();
    let (told, mut changes) = mpsc::channel(4);
    let tell = move || {
        let _ = told.try_send(());
    };
    let server = async {
        let request = peer.hear().await;
        peer.answer(&request, INITIALIZED).await;
        assert_eq!(peer.hear().await["method"], "notifications/initialized");
        peer.say(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#).await;
        let request = peer.hear().await;
        assert!(request["params"].get("_meta").is_none_or(|meta| meta.get("progressToken").is_none()));
        drop(peer);
    };
    let client = async {
        let greeting = Greeting::Known("legacy 2025-06-18");
        let upstream = Upstream::connect(channel, greeting, LONG, tell).await.expect("greeted");
        let mut notices = upstream.notices();
        changes.recv().await.expect("the list changed");
        let outcome = call(&upstream, &CallContext::default()).await;
        assert!(matches!(outcome, Err(CallError::Gone(_))));
        changes.recv().await.expect("it ended");
        assert!(notices.try_recv().is_ok_and(|notice| notice.is_list_changed()) || notices.is_empty());
        upstream.close().await;
        assert!(changes.try_recv().is_err(), "told once");
    };
    tokio::join!(server, client);
}

/// A pipe to a server that has ended breaks, and one from it ends: which is met first is chance.
#[tokio::test]
async fn a_server_that_has_ended_is_told_by_its_end_and_not_by_its_input() {
    let (reader, output) = tokio::io::duplex(64);
    let (writer, input) = tokio::io::duplex(64);
    let channel = Channel::Stdio { reader: Box::new(reader), writer: Box::new(writer) };
    drop((input, output));
    let error = Upstream::connect(channel, Greeting::Known("legacy 2025-06-18"), LONG, || {}).await;
    let Err(error) = error.map(drop) else { panic!("nobody is there") };
    assert!(error.to_string().contains("it ended"), "{error}");
}

#[tokio::test]
async fn draining_lets_calls_finish_and_then_closes_the_input() {
    let (upstream, mut peer) = modern().await;
    let context = CallContext::default();
    let server = async {
        let request = peer.hear().await;
        peer.answer(&request, "{}").await;
        assert!(peer.lines.next_line().await.expect("memory").is_none(), "the input is closed");
    };
    let client = async {
        let call = call(&upstream, &context);
        let drain = async {
            while upstream.in_flight() == 0 {
                tokio::task::yield_now().await;
            }
            upstream.drain(LONG).await;
        };
        let (outcome, ()) = tokio::join!(call, drain);
        assert_eq!(outcome.expect("answered"), "{}");
        assert!(upstream.is_closed());
    };
    tokio::join!(server, client);
}

/// How a server behaves when it is greeted, and what that makes of it.
#[tokio::test]
async fn the_era_is_found_out() {
    let cases = [
        ("modern", Ok("modern 2026-07-28")),
        ("legacy refuses", Ok("legacy 2025-06-18")),
        ("legacy is silent", Ok("legacy 2025-06-18")),
        ("modern is slow", Ok("modern 2026-07-28")),
        ("both are slow", Ok("modern 2026-07-28")),
        ("legacy by version", Ok("legacy 2025-06-18")),
        ("legacy dies", Err("greeted the legacy way next")),
        ("too new", Err("speaks only 2027-01-01")),
        ("never answers", Err("did not answer the handshake within 3.0s, but wrote 2 lines")),
    ];
    // Side by side, as three of them take as long as a silence does.
    futures::future::join_all(cases.map(async |(kind, expected)| {
        let (channel, peer) = Peer::pair();
        // Only one of them is too late.
        let deadline = if kind == "never answers" { Duration::from_secs(3) } else { LONG };
        let greeted = Upstream::connect(channel, Greeting::Unknown, deadline, || {});
        let (greeted, _peer) = tokio::join!(greeted, behave(kind, peer));
        match (greeted, expected) {
            (Ok(upstream), Ok(protocol)) => assert_eq!(upstream.handshake().protocol, protocol, "{kind}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{kind}: {error}"),
            (Ok(_), Err(_)) => panic!("{kind}: greeted"),
            (Err(error), Ok(_)) => panic!("{kind}: {error}"),
        }
    }))
    .await;
}

async fn behave(kind: &str, mut peer: Peer) -> Option<Peer> {
    let discover = peer.hear().await;
    assert_eq!(discover["method"], "server/discover");
    match kind {
        "modern" => peer.answer(&discover, DISCOVERED).await,
        "legacy refuses" => peer.refuse(&discover, -32601).await,
        "legacy by version" => {
            peer.answer(&discover, r#"{"supportedVersions":["2025-06-18"],"capabilities":{}}"#).await;
        }
        "too new" => {
            peer.answer(&discover, r#"{"supportedVersions":["2027-01-01"],"capabilities":{}}"#).await;
            return Some(peer);
        }
        "legacy dies" => return None,
        _ => {}
    }
    if kind == "modern" {
        return Some(peer);
    }
    let initialize = peer.hear().await;
    assert_eq!(initialize["method"], "initialize", "{kind}");
    match kind {
        "never answers" => peer.say("Serving on\nstdio").await,
        "modern is slow" => {
            peer.refuse(&initialize, -32022).await;
            peer.answer(&discover, DISCOVERED).await;
        }
        // In one piece, as who was asked while it started says it.
        "both are slow" => {
            let answer =
                |id: &Value, result: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
            let modern = answer(&discover["id"], DISCOVERED);
            peer.say(format!("{modern}\n{}", answer(&initialize["id"], INITIALIZED))).await;
        }
        _ => peer.answer(&initialize, INITIALIZED).await,
    }
    Some(peer)
}

#[tokio::test]
async fn a_server_taken_over_is_not_greeted_again() {
    let (channel, mut peer) = Peer::pair();
    let handshake = Handshake {
        protocol: "legacy 2025-11-25".to_owned(),
        server_info: None,
        capabilities: Some("{}".into()),
        instructions: None,
    };
    let greeting = Greeting::Resumed(&handshake);
    let upstream = Upstream::connect(channel, greeting, LONG, || {}).await.expect("resumed");
    let context = CallContext::default();
    let server = async {
        let request = peer.hear().await;
        assert_eq!(request["method"], "tools/call");
        peer.answer(&request, "{}").await;
    };
    let (outcome, ()) = tokio::join!(call(&upstream, &context), server);
    assert_eq!(outcome.expect("answered"), "{}");
}

#[tokio::test]
async fn what_was_remembered_of_the_era_can_be_wrong() {
    let (channel, mut peer) = Peer::pair();
    let server = async {
        let initialize = peer.hear().await;
        assert_eq!(initialize["method"], "initialize");
        peer.refuse(&initialize, -32022).await;
        let discover = peer.hear().await;
        peer.answer(&discover, DISCOVERED).await;
    };
    let greeted = Upstream::connect(channel, Greeting::Known("legacy"), LONG, || {});
    let (upstream, ()) = tokio::join!(greeted, server);
    assert_eq!(upstream.expect("greeted").era(), Era::Modern);
}

#[tokio::test]
async fn whoever_holds_a_connection_is_waited_for() {
    let (upstream, mut peer) = modern().await;
    let upstreams = Upstreams::default();
    let key = crate::live::UpstreamKey {
        server: crate::resource::Name::parse("s").expect("a name"),
        instance: crate::live::InstanceId("i".to_owned()),
    };
    upstreams.insert(key.clone(), upstream);
    let held = upstreams.hold(&key).expect("there");
    let removed = upstreams.remove(&key).expect("there");
    assert!(upstreams.hold(&key).is_none());
    let client = async {
        let outcome = call(&held, &CallContext::default()).await;
        drop(held);
        outcome
    };
    let server = async {
        let request = peer.hear().await;
        peer.answer(&request, "{}").await;
    };
    let (outcome, (), ()) = tokio::join!(client, server, removed.drain(LONG));
    assert_eq!(outcome.expect("answered"), "{}");
}

#[tokio::test]
async fn a_listener_hears_of_its_tasks_until_it_is_dropped_or_the_server_does_not_tell() {
    let (upstream, mut peer) = modern().await;
    let listener = || upstream.hear(["a".into(), "b".into()].into(), r#"{"extensions":{}}"#.into());
    let mut hearing = listener().expect("a place");
    let asked = peer.hear().await;
    assert_eq!(asked["method"], "subscriptions/listen");
    assert_eq!(asked["params"]["notifications"], json!({"taskIds": ["a", "b"]}));
    let meta = &asked["params"]["_meta"];
    assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], json!({"extensions": {}}));
    let tell = |id: &Value, method: &str, mut params: Value| {
        params["_meta"] = json!({"io.modelcontextprotocol/subscriptionId": id});
        json!({"jsonrpc": "2.0", "method": method, "params": params})
    };
    let (own, other) = (&asked["id"], json!("other"));
    let acknowledged = json!({"notifications": {"taskIds": ["b"]}});
    peer.say(tell(own, "notifications/subscriptions/acknowledged", acknowledged)).await;
    let news = hearing.next().await;
    assert!(matches!(&news, Some(TaskNews::Served(ids)) if ids.iter().eq([&Arc::from("b")])), "{news:?}");
    peer.say(tell(&other, "notifications/tasks", json!({"taskId": "b", "status": "failed"}))).await;
    peer.say(tell(own, "notifications/tasks", json!({"taskId": "b", "status": "working"}))).await;
    let news = hearing.next().await;
    let Some(TaskNews::State(id, state)) = news else { panic!("{news:?}") };
    assert!(&*id == "b" && state.get().contains("working"), "{state}");
    drop(hearing);
    let cancelled = peer.hear().await;
    assert_eq!(cancelled["method"], "notifications/cancelled");
    assert_eq!(&cancelled["params"]["requestId"], own);

    let mut hearing = listener().expect("a place");
    let asked = peer.hear().await;
    peer.refuse(&asked, -32601).await;
    assert!(hearing.next().await.is_none());
    let listening: Vec<_> = (1..task::MAX_LISTENERS).filter_map(|_| listener()).collect();
    assert!(listening.len() == task::MAX_LISTENERS - 1 && listener().is_none());
    drop(hearing);
    assert!(listener().is_some());
}
