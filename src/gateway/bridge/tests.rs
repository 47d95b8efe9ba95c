//! Calls that have to ask, with scripted servers behind real connections.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::catalog::tests::{offered as offered_by, revision, server, tools};
use crate::catalog::{Catalog, Input, ReadyTool, compose};
use crate::live::{Instance, InstanceId, InstanceState};
use crate::mcp::client::Upstreams;
use crate::mcp::server::{Handler as _, Meta, Reply, SessionOf};
use crate::mcp::wire::Id;
use crate::policy::Principal;
use crate::ports::{Channel, Executed, Greeting, Lent, PortResult, ToolCall, ToolExecutor};
use crate::resource::{Digest, Name};

const LONG: Duration = Duration::from_secs(30);

struct Nothing;

#[async_trait]
impl ToolExecutor for Nothing {
    async fn execute(&self, _: &ReadyTool, _: ToolCall<'_>, _: &CallContext) -> Executed {
        Executed::default()
    }
}

/// A client that is asked during its calls alone.
struct Nobody;

impl crate::ports::ClientLine for Nobody {
    fn ask(&self, _: ClientRequest) -> bool {
        false
    }

    fn tell(&self, _: &str, _: &str) {}
}

/// Starts servers in this process.
#[derive(Default)]
struct Local {
    servers: Mutex<JoinSet<()>>,
    lent: AtomicUsize,
    back: Arc<AtomicUsize>,
}

#[async_trait]
impl Lender for Local {
    async fn lend(&self, server: &Arc<Server>) -> PortResult<Lent> {
        let n = self.lent.fetch_add(1, Ordering::SeqCst);
        let instance = Instance {
            id: InstanceId(n.to_string()),
            name: n.to_string(),
            runner: Name::parse("local").expect("a name"),
            resource: server.id.clone(),
            digest: Digest::of_bytes(b""),
            revision: String::new(),
            state: InstanceState::Running,
            adoptable: true,
        };
        Ok(Lent { channel: self.channel(), instance })
    }

    fn give_back(&self, _: Instance) {
        self.back.fetch_add(1, Ordering::SeqCst);
    }
}

impl Local {
    fn channel(&self) -> Channel {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (reader, writer) = tokio::io::split(ours);
        self.servers.lock().expect("unpoisoned").spawn(legacy(theirs));
        Channel::Stdio { reader: Box::new(reader), writer: Box::new(writer) }
    }
}

/// A legacy server. Of each call it asks the user, by the id `who`, and tells what was said.
async fn legacy(stream: tokio::io::DuplexStream) {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut lines = BufReader::new(reader).lines();
    let (mut capabilities, mut call) = (Value::Null, Value::Null);
    while let Ok(Some(line)) = lines.next_line().await {
        let message: Value = serde_json::from_str(&line).expect("JSON");
        let said = match message["method"].as_str() {
            Some("initialize") => {
                capabilities = message["params"]["capabilities"].clone();
                json!({"id": message["id"], "result": {"protocolVersion": "2025-11-25",
                    "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}}})
            }
            Some("tools/call") => {
                assert!(message["params"].get("requestState").is_none(), "{message}");
                call = message["id"].clone();
                json!({"id": "who", "method": "elicitation/create", "params": {"message": "Who?"}})
            }
            None if message["id"] == "who" => json!({"id": call,
                "result": {"said": message["result"], "error": message["error"], "offered": capabilities}}),
            _ => continue,
        };
        let mut said = said;
        said["jsonrpc"] = json!("2.0");
        if writer.write_all(format!("{said}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

struct World {
    gateway: Arc<Gateway>,
    lender: Arc<Local>,
}

const FORM: &str = r#"{"elicitation":{"form":{}},"roots":{"listChanged":true},"experimental":{}}"#;

impl World {
    async fn new() -> Self {
        let upstreams = Arc::new(Upstreams::default());
        let first = Catalog::empty(revision(0));
        let gateway = Gateway::new(first, Arc::clone(&upstreams), Arc::new(Nothing), Arc::new(|_| {}));
        let lender = Arc::new(Local::default());
        gateway.bridge(Arc::clone(&lender) as _, &[7; 32]);
        let asks = Server { sessions: Sessions::PerClient, timeout: LONG, ..server("s") };
        let asks = offered_by(asks, tools(&["ask", "other"]));
        let known = Greeting::Known("legacy");
        let main = Upstream::connect(lender.channel(), known, LONG, || {}).await.expect("greeted");
        upstreams.insert(asks.upstream.clone(), main);
        let (revision, servers) = (revision(1), [asks]);
        let input = Input { revision: &revision, servers: &servers, tools: &[], previous: None };
        gateway.catalogs.swap(Arc::new(compose(&input).0));
        Self { gateway, lender }
    }

    fn request(user: &str, era: Era, params: &Value) -> Request {
        let params = raw::into_raw(params.to_string()).expect("JSON");
        Request {
            era,
            id: Id::number(1),
            method: Method::ToolsCall,
            name: raw::get_str(&params, "name").map(Cow::into_owned),
            cursor: None,
            principal: Arc::new(Principal { name: user.to_owned(), ..Principal::default() }),
            params: Some(params),
            meta: Meta { client_capabilities: raw::into_raw(FORM.to_owned()).ok(), ..Meta::default() },
            session: None,
            held: crate::mcp::server::Held::default(),
            scope: crate::mcp::server::Scope::All,
        }
    }

    async fn call(&self, user: &str, params: Value) -> Result<Value, ErrorObject> {
        let request = Self::request(user, Era::Modern, &params);
        match self.gateway.request(&request, &CallContext::default()).await? {
            Reply::Whole(text) => Ok(serde_json::from_str(&text).expect("JSON")),
            other => panic!("{other:?}"),
        }
    }

    async fn all_back(&self, expected: usize) {
        let back = async {
            while self.lender.back.load(Ordering::SeqCst) < expected {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, back).await.expect("instances go back");
    }

    /// A call that was asked something, and the state to come back with.
    async fn asked(&self, user: &str) -> String {
        let asked = self.call(user, json!({"name": "s_ask"})).await.expect("a result");
        assert_eq!(asked["resultType"], "input_required");
        let wanted = json!({"who": {"method": "elicitation/create", "params": {"message": "Who?"}}});
        assert_eq!(asked["inputRequests"], wanted);
        asked["requestState"].as_str().expect("a state").to_owned()
    }
}

fn back(name: &str, state: &str) -> Value {
    json!({"name": name, "requestState": state, "inputResponses": {"who": {"action": "accept"}}})
}

#[tokio::test]
async fn a_modern_client_comes_back_to_the_call_that_asked_and_nobody_else_does() {
    let world = World::new().await;
    let state = world.asked("ada").await;
    let forged = state.replace(&state[4..6], if &state[4..6] == "AA" { "BB" } else { "AA" });
    for (user, params) in [
        ("eve", back("s_ask", &state)),
        ("ada", back("s_other", &state)),
        ("ada", back("s_ask", &forged)),
        ("ada", back("s_ask", "-TAMPERED")),
        ("ada", json!({"name": "s_ask", "requestState": 7})),
    ] {
        let error = world.call(user, params.clone()).await.expect_err("refused");
        assert_eq!(error.code, code::INVALID_PARAMS, "{user} {params}");
    }
    // An answer that is none is asked for again, under a new state.
    let asked = json!({"name": "s_ask", "requestState": state, "inputResponses": {"who": 7}});
    let again = world.call("ada", asked).await.expect("a result");
    let newer = again["requestState"].as_str().expect("a state").to_owned();
    assert_ne!(newer, state);
    assert!(world.call("ada", back("s_ask", &state)).await.is_err(), "a state is good once");

    let result = world.call("ada", back("s_ask", &newer)).await.expect("a result");
    assert_eq!(result["said"], json!({"action": "accept"}));
    assert_eq!(result["offered"], json!({"roots": {}, "elicitation": {"form": {}}}));
    assert!(world.call("ada", back("s_ask", &newer)).await.is_err(), "the call is over");
    // What is known beforehand need not be asked; the connection is the same.
    let result = world.call("ada", json!({"name": "s_ask", "inputResponses": {"who": {"a": 1}}})).await;
    assert_eq!(result.expect("a result")["said"], json!({"a": 1}));
    assert!(world.lender.lent.load(Ordering::SeqCst) <= 2, "one, and one for the next client");
}

#[tokio::test]
async fn connections_of_clients_are_bounded_and_calls_nobody_comes_back_to_end() {
    let world = World::new().await;
    let mut states = Vec::new();
    for n in 0..32 {
        states.push(world.asked(&format!("user{n}")).await);
    }
    let full = world.call("one too many", json!({"name": "s_ask"})).await.expect("a result");
    assert!(full["content"][0]["text"].as_str().is_some_and(|text| text.contains("32 clients")), "{full}");
    world.call("user7", back("s_ask", &states[7])).await.expect("a result");
    // The connection that user 7 needs no more makes room.
    world.asked("one too many").await;
    world.gateway.let_go();
    world.all_back(33).await;
    assert!(world.call("user8", back("s_ask", &states[8])).await.is_err(), "it was given up");
}

#[tokio::test]
async fn a_session_has_one_connection_until_it_ends_and_is_asked_itself() {
    let world = World::new().await;
    let ended = CancellationToken::new();
    let (requests, mut asked) = tokio::sync::mpsc::channel(4);
    let session = SessionOf { id: "session".into(), ended: ended.clone(), line: Arc::new(Nobody) };
    let mut request = World::request("ada", Era::Legacy, &json!({"name": "s_ask"}));
    request.session = Some(session);
    let context = CallContext { requests: Some(requests), ..CallContext::default() };
    for n in 0..2 {
        let client = async {
            let question = asked.recv().await.expect("a question");
            assert_eq!((&*question.method, &*question.id), ("elicitation/create", "who"));
            question.answer.send(Ok(format!("{{\"n\":{n}}}"))).expect("somebody waits");
        };
        let (reply, ()) = tokio::join!(world.gateway.request(&request, &context), client);
        let Ok(Reply::Whole(text)) = reply else { panic!("{reply:?}") };
        assert!(text.contains(&format!("\"said\":{{\"n\":{n}}}")), "{text}");
    }
    assert!(world.lender.lent.load(Ordering::SeqCst) <= 2, "one, and one for the next client");
    ended.cancel();
    world.all_back(1).await;
}
