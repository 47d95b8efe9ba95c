//! Servers over HTTP+SSE, as of MCP 2024-11-05: the Python SDK's, with clients of both eras in front.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::{Value, json};

use super::clients::venv;
use super::{SOON, call, greeter, resource, server, text, wait_for_names};
use crate::support::{Daemon, Port, TestEnv, wait_for};

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/older/server.py");
const NAMES: &[&str] =
    &["greet", "older_ask", "older_count", "older_echo", "older_sample", "older_wait", "older_word"];

/// A server that somebody else runs, until it is dropped.
struct Far {
    child: Child,
    said: BufReader<ChildStderr>,
}

impl Far {
    /// Returns when it listens.
    fn start(port: &Port, word: &str) -> Self {
        let mut command = Command::new(venv("python"));
        command
            .args(["-u", SERVER, &port.number().to_string(), word])
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        let mut far = Self { child, said };
        far.hear("running on");
        far
    }

    /// Reads what it says until that is said.
    fn hear(&mut self, wanted: &str) {
        let mut line = String::new();
        while !line.contains(wanted) {
            line.clear();
            assert!(self.said.read_line(&mut line).unwrap() > 0, "it ended before it said {wanted:?}");
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server at an address.
fn at(url: &str) -> String {
    format!(
        "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {{name: older}}\nspec:\n  source: {{url: \"{url}\"}}\n  sessions: perClient\n"
    )
}

/// A call of a modern client that can be asked for a colour and for what its model says; it answers once.
fn asked(daemon: &Daemon, tool: &str) -> Value {
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "sampling": {}}});
    let send = |more: Value| {
        let mut params = json!({"name": tool, "arguments": {}, "_meta": meta});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        super::post(&daemon.mcp, "tools/call", Some(tool.to_owned()), body.to_string())
    };
    let first = send(json!({}));
    assert_eq!(first["resultType"], "input_required", "{first}");
    let (key, request) = first["inputRequests"].as_object().unwrap().iter().next().unwrap();
    let answer = match request["method"].as_str().unwrap() {
        "elicitation/create" => json!({"action": "accept", "content": {"colour": "blue"}}),
        "sampling/createMessage" => {
            json!({"role": "assistant", "model": "none", "content": {"type": "text", "text": "anything"}})
        }
        other => panic!("{other} is asked"),
    };
    send(json!({"inputResponses": {key: answer}, "requestState": first["requestState"]}))
}

/// What both eras of clients get from it.
fn works(daemon: &Daemon) {
    assert_eq!(text(&call(daemon, "older_echo", json!({"text": "over events"}))), "over events");
    assert_eq!(text(&call(daemon, "older_count", json!({"steps": 3}))), "3 steps");
    assert_eq!(text(&asked(daemon, "older_ask")), "blue");
    assert_eq!(text(&asked(daemon, "older_sample")), "anything");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/clients/asked_client.py");
    let mut legacy = Command::new(venv("python"));
    legacy.args([script, &daemon.mcp, "older_word", "older_ask", "older_sample"]);
    let output = legacy.output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(said, json!(["first", "green", "something"]));
}

#[test]
fn a_declared_server_over_events_serves_clients_of_both_eras() {
    let env = TestEnv::new();
    let held = Port::new();
    let port = held.number();
    let more = format!("  transport: {{type: sse, port: {port}}}\n  sessions: perClient");
    let declared = server("older", &[&venv("python"), "-u", SERVER, &port.to_string()], &more);
    env.repo().write("crib.yaml", &(greeter("hello") + &declared)).commit("older");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, NAMES);
    works(&daemon);
}

#[test]
fn an_address_that_takes_no_post_is_tried_as_a_stream_of_events_and_survives_a_restart() {
    let env = TestEnv::new();
    let port = Port::new();
    let mut far = Far::start(&port, "first");
    let url = format!("http://{}/sse", port.address);
    env.repo().write("crib.yaml", &(greeter("hello") + &at(&url))).commit("older");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, NAMES);
    works(&daemon);

    // A call under way ends with the server, and so do those that come while it is away.
    let gone = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| call(&daemon, "older_wait", json!({})));
        far.hear("waiting");
        far.kill();
        waiting.join().unwrap()
    });
    assert!(gone["isError"] == true && text(&gone).contains("not there"), "{gone}");
    let away = call(&daemon, "older_word", json!({}));
    assert!(away["isError"] == true && text(&away).contains("cannot be reached"), "{away}");
    assert_eq!(text(&call(&daemon, "greet", json!({"name": "others"}))), "hello others\n");

    let _far = Far::start(&port, "second");
    wait_for("the server to be there again", SOON, || {
        let said = call(&daemon, "older_word", json!({}));
        (said["isError"] != true).then(|| assert_eq!(text(&said), "second"))
    });
    wait_for_names(&daemon, NAMES);
    assert_eq!(text(&asked(&daemon, "older_ask")), "blue");
}

#[test]
fn an_address_that_speaks_neither_way_is_told_with_what_it_answered() {
    let env = TestEnv::new();
    let port = Port::new();
    let _far = Far::start(&port, "first");
    let url = format!("http://{}/elsewhere", port.address);
    env.repo().write("crib.yaml", &(greeter("hello") + &at(&url))).commit("nowhere");
    let daemon = env.daemon(&[]);
    let shown = wait_for("the reason", SOON, || {
        let shown = resource(&env, &daemon, "Server/older").to_string();
        shown.contains("HTTP+SSE").then_some(shown)
    });
    let said = "HTTP 404 Not Found to a POST, and HTTP 404 Not Found to the GET of HTTP+SSE";
    assert!(shown.contains(said), "{shown}");
}
