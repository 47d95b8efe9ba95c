//! What a server says of its own accord on the connection that belongs to one client
//! (`sessions: perClient`): requests outside of any call, and changes of its lists.

use serde_json::{Value, json};

use super::wire::{Asked, LEGACY, Wire};
use crate::follow::{SOON, greeter, names, server, wait_for_names};
use crate::support::{Daemon, TestEnv, wait_for};

/// A server of 2025-11-25. `later` answers, and asks when it has answered; what it is told goes to a file.
/// `elsewhere` asks for something that is done at an address, says when it is, and then answers; what it asks
/// for after `later` it says when it was answered.
/// `grow` makes every instance list one tool more, and says so on the connection of the call alone.
const SERVER: &str = r#"
elicited() { echo '{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":"e","x":1.0}}'; }
while read -r line; do
  id=${line#*\"id\":}; id=${id%%[,\}]*}
  more=
  [ -e 'HOME/grown' ] && more=',{"name":"more","inputSchema":{"type":"object"}}'
  done='{"jsonrpc":"2.0","id":'"$id"',"result":{"content":[]}}'
  case $line in
    *'"id":"q"'*) printf '%s\n' "$line" >> 'HOME/answers'; elicited ;;
    *'"id":"u"'*) elicited; echo "$called" ;;
    *server/discover*) echo '{"jsonrpc":"2.0","id":'"$id"',"error":{"code":-32601,"message":"no"}}' ;;
    *'"initialize"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"x","version":"1"}}}' ;;
    *tools/list*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"tools":[{"name":"later","inputSchema":{"type":"object"}},{"name":"grow","inputSchema":{"type":"object"}},{"name":"elsewhere","inputSchema":{"type":"object"}}'"$more"']}}' ;;
    *later*) echo "$done"; echo '{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"Who?","requestedSchema":{"type":"object","properties":{}}}}' ;;
    *elsewhere*) called=$done; echo '{"jsonrpc":"2.0","id":"u","method":"elicitation/create","params":{"mode":"url","message":"Go","url":"https://a.test/","elicitationId":"e"}}' ;;
    *grow*) : > 'HOME/grown'; echo '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'; echo "$done" ;;
  esac
done
"#;

struct World {
    env: TestEnv,
    daemon: Daemon,
    host: String,
}

impl World {
    fn start() -> Self {
        let env = TestEnv::new();
        env.repo().write("own.sh", &SERVER.replace("HOME", env.home().to_str().unwrap()));
        let own = server("own", &["sh", "./own.sh"], "  sessions: perClient");
        env.repo().write("crib.yaml", &(greeter("hello") + &own)).commit("own");
        let daemon = env.daemon(&[]);
        wait_for_names(&daemon, &["greet", "own_elsewhere", "own_grow", "own_later"]);
        let host = daemon.mcp.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
        Self { env, daemon, host }
    }

    fn ask(&self, asked: &Asked) -> super::wire::Answer {
        Wire::open(&self.host).ask(asked)
    }

    /// A session of a client that can be asked by form.
    fn session(&self) -> String {
        let client = json!({"name": "it", "version": "1"});
        let params =
            json!({"protocolVersion": LEGACY, "capabilities": {"elicitation": {}}, "clientInfo": client});
        let answer =
            self.ask(&Asked::initialize().body(
                json!({"jsonrpc": "2.0", "id": 7, "method": "initialize", "params": params}).to_string(),
            ));
        answer.header("mcp-session-id").unwrap().to_owned()
    }

    fn call(&self, session: &str, tool: &str) {
        let params = json!({"name": tool, "arguments": {}});
        let answer = self.ask(&Asked::legacy(session, "tools/call", params));
        assert!(answer.message()["result"]["isError"].is_null(), "{}", answer.shown());
    }

    /// The stream of a session, from its first event on.
    fn stream(&self, session: &str) -> Wire {
        let mut stream = Wire::open(&self.host);
        let get =
            Asked::new("GET", "/mcp").with("Accept", "text/event-stream").with("Mcp-Session-Id", session);
        stream.send(&get.bytes(&self.host));
        assert!(stream.head().unwrap().is_stream());
        stream.chunk().unwrap().unwrap();
        stream
    }

    /// What the server was answered, the newest of so many answers.
    fn answered(&self, count: usize) -> Value {
        wait_for("the server's answer", SOON, || {
            let text = std::fs::read_to_string(self.env.home().join("answers")).ok()?;
            let line = text.lines().nth(count - 1)?;
            serde_json::from_str(line).ok()
        })
    }
}

/// The next message of a stream.
fn event(stream: &mut Wire) -> Value {
    loop {
        let chunk = String::from_utf8(stream.chunk().unwrap().expect("the stream goes on")).unwrap();
        if let Some(data) = chunk.lines().find_map(|line| line.strip_prefix("data: ")) {
            return serde_json::from_str(data).unwrap();
        }
    }
}

#[test]
fn what_is_asked_outside_of_calls_goes_to_the_stream_of_the_session_or_is_refused_at_once() {
    let world = World::start();
    let session = world.session();
    world.call(&session, "own_later");
    let refused = world.answered(1);
    assert_eq!(refused["error"]["code"], -32603, "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("no stream open"), "{refused}");

    let mut stream = world.stream(&session);
    world.call(&session, "own_later");
    let asked = event(&mut stream);
    assert_eq!(
        (&asked["method"], &asked["params"]["message"]),
        (&json!("elicitation/create"), &json!("Who?"))
    );
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "decline"}});
    assert_eq!(world.ask(&Asked::said(&session, &answer)).status, 202);
    assert_eq!(world.answered(2)["result"], json!({"action": "decline"}));
    assert_eq!(event(&mut stream), elicited());

    // A client without sessions has no stream, and one that cannot be asked is not.
    world.ask(&Asked::modern("tools/call", json!({"name": "own_later", "arguments": {}})));
    assert_eq!(world.answered(3)["error"]["code"], -32601, "it offers nothing");
    drop(stream);
    wait_for("the stream to end", SOON, || (world.daemon.metric("mcp_streams") == 0).then_some(()));
    world.call(&session, "own_later");
    assert_eq!(world.answered(4)["error"]["code"], -32603);
}

fn elicited() -> Value {
    let params = json!({"elicitationId": "e", "x": 1.0});
    json!({"jsonrpc": "2.0", "method": "notifications/elicitation/complete", "params": params})
}

#[test]
fn that_what_was_asked_for_is_done_elsewhere_is_told_on_the_call_of_who_was_asked() {
    let world = World::start();
    let [one, other] = [world.session(), world.session()];
    let mut other = world.stream(&other);
    let mut call = Wire::open(&world.host);
    let params = json!({"name": "own_elsewhere", "arguments": {}});
    call.send(&Asked::legacy(&one, "tools/call", params).bytes(&world.host));
    assert!(call.head().unwrap().is_stream());
    let asked = event(&mut call);
    assert_eq!(asked["params"]["elicitationId"], "e", "{asked}");
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "accept"}});
    assert_eq!(world.ask(&Asked::said(&one, &answer)).status, 202);
    assert_eq!(event(&mut call), elicited());
    assert!(event(&mut call)["result"].is_object());
    // What everybody is told comes first to who was not asked.
    world.call(&one, "own_grow");
    assert_eq!(event(&mut other)["method"], "notifications/tools/list_changed");
}

#[test]
fn a_list_that_changes_in_a_clients_own_instance_is_asked_for_again_and_every_client_is_told() {
    let world = World::start();
    let (one, other) = (world.session(), world.session());
    let mut streams = [world.stream(&one), world.stream(&other)];
    world.call(&one, "own_grow");
    wait_for_names(&world.daemon, &["greet", "own_elsewhere", "own_grow", "own_later", "own_more"]);
    for stream in &mut streams {
        assert_eq!(event(stream)["method"], "notifications/tools/list_changed");
    }
    assert_eq!(names(&world.daemon).len(), 5);
}
