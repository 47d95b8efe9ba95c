//! What a legacy server was told is told again to the session after a lost one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::*;
use crate::live::{InstanceId, UpstreamKey};
use crate::ports::{Channel, Greeting, Logs, Severity};

const LONG: Duration = Duration::from_secs(30);

/// A scripted legacy server on loopback, which can forget its session.
struct Forgetful {
    /// The number of the session it knows.
    session: AtomicU64,
    /// What it was asked: the session, the method, the parameters.
    asked: mpsc::UnboundedSender<(u64, String, Value)>,
}

impl Forgetful {
    async fn start() -> (Arc<Self>, String, mpsc::UnboundedReceiver<(u64, String, Value)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let url = format!("http://{}/mcp", listener.local_addr().expect("bound"));
        let (asked, heard) = mpsc::unbounded_channel();
        let server = Arc::new(Self { session: AtomicU64::new(1), asked });
        let accepting = Arc::clone(&server);
        let tasks = TaskTracker::new();
        let connections = tasks.clone();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = Arc::clone(&accepting);
                connections.spawn(async move { server.serve(BufReader::new(stream)).await });
            }
        });
        (server, url, heard)
    }

    async fn serve(&self, mut stream: BufReader<TcpStream>) {
        while let Some((post, session, body)) = read(&mut stream).await {
            let (status, header, body) = self.answer(post, session, &body);
            let length = body.len();
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{header}content-length: ");
            let response = format!("{head}{length}\r\n\r\n{body}");
            if stream.get_mut().write_all(response.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, post: bool, session: Option<u64>, body: &[u8]) -> (&'static str, String, String) {
        if !post {
            return ("405 Method Not Allowed", String::new(), String::new());
        }
        let message: Value = serde_json::from_slice(body).expect("JSON");
        let method = message["method"].as_str().unwrap_or_default().to_owned();
        let result = |result: Value| json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
        let known = self.session.load(Ordering::SeqCst);
        match (method.as_str(), session) {
            ("server/discover", _) => ("400 Bad Request", String::new(), String::new()),
            ("initialize", _) => {
                let capabilities = json!({"resources": {"subscribe": true}, "logging": {}});
                let greeted = result(json!({"protocolVersion": "2025-11-25", "capabilities": capabilities}));
                ("200 OK", format!("mcp-session-id: {known}\r\n"), greeted.to_string())
            }
            (_, Some(session)) if session == known => {
                // Without a receiver the test is over.
                drop(self.asked.send((session, method, message["params"].clone())));
                match message.get("id") {
                    Some(_) => ("200 OK", String::new(), result(json!({})).to_string()),
                    None => ("202 Accepted", String::new(), String::new()),
                }
            }
            _ => ("404 Not Found", String::new(), String::new()),
        }
    }
}

/// Whether it is a POST, its session, its body; none at the end.
async fn read(stream: &mut BufReader<TcpStream>) -> Option<(bool, Option<u64>, Vec<u8>)> {
    let (mut post, mut session, mut length) = (None, None, 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let Some(_) = post else {
            post = Some(line.starts_with("POST"));
            continue;
        };
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "mcp-session-id" => session = value.trim().parse().ok(),
            "content-length" => length = value.trim().parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((post?, session, body))
}

#[tokio::test]
async fn the_session_after_a_lost_one_is_told_what_the_lost_one_was() {
    let (server, url, mut heard) = Forgetful::start().await;
    let upstreams = Upstreams::default();
    let channel = Channel::Http { url };
    let upstream = Upstream::connect(channel, Greeting::Unknown, LONG, || {}).await.expect("greeted");
    let name = Name::parse("s").expect("a name");
    let key = UpstreamKey { server: name.clone(), instance: InstanceId("i".to_owned()) };
    upstreams.insert(key, Arc::clone(&upstream));
    let mut updates = upstreams.updates();
    let watch = upstreams.watch(&name, "note://1").expect("room");
    let mut next = async |wanted: &str| loop {
        let next = tokio::time::timeout(LONG, heard.recv()).await.expect("in time").expect("asked");
        if next.1 == wanted {
            return (next.0, next.2);
        }
    };
    let subscription = json!({"uri": "note://1"});
    assert_eq!(next("resources/subscribe").await, (1, subscription.clone()));

    let context = CallContext { logs: Some(Logs::From(Severity::Info)), ..CallContext::default() };
    let params = raw::into_raw("{}".to_owned()).expect("JSON");
    upstream.call("tools/call", Params::of(&params), LONG, &context).await.expect("answered");
    assert_eq!(next("logging/setLevel").await, (1, json!({"level": "info"})));
    assert_eq!(next("tools/call").await.0, 1);

    server.session.store(2, Ordering::SeqCst);
    upstream
        .call("tools/call", Params::of(&params), LONG, &context)
        .await
        .expect("answered in a new session");
    let (mut again, mut told_again) = (Vec::new(), Vec::new());
    while again.len() < 3 {
        let next = tokio::time::timeout(LONG, heard.recv()).await.expect("in time").expect("asked");
        if next.1 != "notifications/initialized" {
            assert_eq!(next.0, 2, "{next:?}");
            again.push(next.1);
            told_again.push(next.2);
        }
    }
    let at = |wanted: &str| again.iter().position(|method| method == wanted).expect("it is told again");
    assert_eq!(told_again[at("resources/subscribe")], subscription);
    assert_eq!(told_again[at("logging/setLevel")], json!({"level": "info"}));
    assert!(at("logging/setLevel") < at("tools/call"), "before the call: {again:?}");
    // What changed while there was no session was not heard: it may have.
    let update = tokio::time::timeout(LONG, updates.recv()).await.expect("in time").expect("told");
    assert_eq!(update, watch.resource);
}
