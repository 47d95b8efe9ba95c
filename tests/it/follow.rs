//! The whole loop on the built daemon: a commit is what clients see, whoever the client is.

mod access;
mod clients;
mod down;
mod elsewhere;
mod faults;
mod gate;
mod health;
mod lifecycle;
mod limits;
mod older;
mod personal;
mod restart;
mod signatures;
mod stdio;
mod sync;
mod tls;
mod types;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Daemon, TestEnv, seen_within, wait_for};

/// Until a change is seen: the machine is shared, Python starts slowly.
pub(crate) const SOON: Duration = Duration::from_mins(3);

/// A process runner and a tool that says `word`.
pub(crate) fn greeter(word: &str) -> String {
    format!(
        r#"
apiVersion: toolcrib.dev/v1alpha1
kind: Runner
metadata: {{name: local}}
spec: {{process: {{}}}}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata: {{name: greet}}
spec:
  description: Says {word}
  command: [echo, {word}]
  args: ["${{name}}"]
  parameters:
    name: {{type: string, description: Whom, required: true}}
"#
    )
}

/// A `Server` of a command.
pub(crate) fn server(name: &str, command: &[&str], more: &str) -> String {
    let command = json!(command);
    format!(
        "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {{name: {name}}}\nspec:\n  source: {{command: {command}}}\n{more}\n"
    )
}

/// One modern request over HTTP; the `result`, or the `error`.
pub(crate) fn ask(daemon: &Daemon, method: &str, params: Value) -> Value {
    ask_at(&daemon.mcp, method, params)
}

pub(crate) fn ask_at(url: &str, method: &str, mut params: Value) -> Value {
    params["_meta"] = meta();
    let name = params["name"].as_str().or(params["uri"].as_str()).map(str::to_owned);
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    post(url, method, name, body.to_string())
}

/// One call with arguments as they are spelled.
pub(crate) fn ask_raw(url: &str, tool: &str, arguments: &str) -> Value {
    let body = format!(
        r#"{{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {{"name": "{tool}", "arguments": {arguments}, "_meta": {}}}}}"#,
        meta()
    );
    post(url, "tools/call", Some(tool.to_owned()), body)
}

fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "it", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

fn post(url: &str, method: &str, name: Option<String>, body: String) -> Value {
    crate::support::tls();
    let request = reqwest::Client::new()
        .post(url)
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", method)
        .header("mcp-name", name.unwrap_or_default())
        .body(body);
    let text = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { request.send().await.unwrap().text().await.unwrap() });
    let answer: Value =
        serde_json::from_str(message(&text)).unwrap_or_else(|error| panic!("{error}: {text}"));
    if answer["error"].is_null() { answer["result"].clone() } else { answer["error"].clone() }
}

/// A call that takes a while is answered as a stream, whose last event is the answer.
fn message(text: &str) -> &str {
    text.lines().rev().find_map(|line| line.strip_prefix("data: ")).unwrap_or(text)
}

/// The published names.
pub(crate) fn names(daemon: &Daemon) -> Vec<String> {
    let tools = ask(daemon, "tools/list", json!({}));
    let name = |tool: &Value| tool["name"].as_str().unwrap().to_owned();
    tools["tools"].as_array().unwrap_or_else(|| panic!("{tools}")).iter().map(name).collect()
}

/// Waits until exactly these are published.
#[track_caller]
pub(crate) fn wait_for_names(daemon: &Daemon, expected: &[&str]) {
    let mut last = Vec::new();
    let seen = seen_within(SOON, || {
        last = names(daemon);
        (last == expected).then_some(())
    });
    assert!(seen.is_some(), "published: {last:?}, expected: {expected:?}\n{}", daemon.log());
}

pub(crate) fn call(daemon: &Daemon, tool: &str, arguments: Value) -> Value {
    ask(daemon, "tools/call", json!({"name": tool, "arguments": arguments}))
}

/// The text of a result's content.
pub(crate) fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {result}"))
}

/// One resource's status.
pub(crate) fn resource(env: &TestEnv, daemon: &Daemon, id: &str) -> Value {
    let said = env.run(&["status", "--admin", daemon.admin_address(), "--output", "json"]);
    said.json()["resources"][id].clone()
}

/// The message of a resource's `Ready`, once it is not ready for this reason.
#[track_caller]
pub(crate) fn wait_for_reason(env: &TestEnv, daemon: &Daemon, id: &str, reason: &str) -> String {
    wait_for(&format!("{id} to be {reason}"), SOON, || {
        let status = resource(env, daemon, id);
        let ready = status["conditions"].as_array()?.iter().find(|one| one["type"] == "Ready")?.clone();
        (ready["reason"] == reason).then(|| ready["message"].as_str().unwrap().to_owned())
    })
}

#[test]
fn a_commit_is_what_clients_see_and_a_revert_takes_it_back() {
    let env = TestEnv::new();
    env.repo().write("tools.yaml", &greeter("hello")).commit("hello");
    let daemon = env.daemon(&[]);
    let first = ask(&daemon, "tools/list", json!({}));
    assert_eq!(first["tools"][0]["description"], "Says hello");
    assert_eq!(first["cacheScope"], "public");
    assert!(first["ttlMs"].is_number());
    assert_eq!(text(&call(&daemon, "greet", json!({"name": "you"}))), "hello you\n");

    env.repo().write("tools.yaml", &greeter("goodbye")).commit("goodbye");
    wait_for("the new description", SOON, || {
        let listed = ask(&daemon, "tools/list", json!({}));
        (listed["tools"][0]["description"] == "Says goodbye").then_some(())
    });
    assert_eq!(text(&call(&daemon, "greet", json!({"name": "you"}))), "goodbye you\n");

    env.repo().git(&["revert", "--no-edit", "HEAD"]);
    let back = wait_for("the old description", SOON, || {
        let listed = ask(&daemon, "tools/list", json!({}));
        (listed["tools"][0]["description"] == "Says hello").then_some(listed)
    });
    let revision = env.repo().git(&["rev-parse", "HEAD"]);
    let meta = &back["tools"][0]["_meta"];
    assert_eq!(meta["dev.toolcrib/revision"], format!("main@sha1:{revision}"));
    assert_eq!(meta["dev.toolcrib/resource"], "Tool/greet");
    let log = daemon.log();
    assert!(log.contains(&revision) && log.contains("changed=greet"), "{log}");
}

#[test]
fn a_deletion_leaves_at_once_and_other_commits_change_nothing() {
    let env = TestEnv::new();
    env.repo().write("greet.yaml", &greeter("hello")).write("other.yaml", &other()).commit("two");
    let daemon = env.daemon(&[]);
    assert_eq!(names(&daemon), ["greet", "other"]);
    let before = ask(&daemon, "tools/list", json!({}));
    env.repo().write("README", "no manifest").commit("unrelated");
    let served = env.repo().git(&["rev-parse", "HEAD"]);
    wait_for("the commit to be served", SOON, || {
        let status = env.run(&["status", "--admin", daemon.admin_address(), "--output", "json"]).json();
        (status["served"]["commit"] == served.as_str() || status["served"]["commit"] == "[COMMIT]")
            .then_some(())
    });
    assert_eq!(ask(&daemon, "tools/list", json!({}))["tools"], before["tools"]);
    env.repo().git(&["rm", "-q", "other.yaml"]);
    env.repo().commit("one");
    wait_for_names(&daemon, &["greet"]);
    let gone = call(&daemon, "other", json!({}));
    assert_eq!(gone["code"], -32602, "{gone}");
}

fn other() -> String {
    greeter("other").split("---").nth(1).unwrap().replace("greet", "other")
}

#[test]
fn uncommitted_edits_show_only_where_they_are_asked_for() {
    let env = TestEnv::new();
    env.repo().write("tools.yaml", &greeter("hello")).commit("hello");
    let daemon = env.daemon(&["--worktree"]);
    env.repo().write("tools.yaml", &greeter("draft"));
    let listed = wait_for("the draft", SOON, || {
        let listed = ask(&daemon, "tools/list", json!({}));
        (listed["tools"][0]["description"] == "Says draft").then_some(listed)
    });
    let revision = listed["tools"][0]["_meta"]["dev.toolcrib/revision"].as_str().unwrap();
    assert!(revision.ends_with("+dirty"), "{revision}");
}

#[test]
fn calls_in_flight_finish_on_what_they_started_on() {
    let env = TestEnv::new();
    let slow = |word: &str| {
        let script = format!("read line < $0.fifo; echo {word}");
        env.repo().write("slow.sh", &script);
        greeter("x")
            .replace("command: [echo, x]", "command: [sh, ./slow.sh]")
            .replace("args: [\"${name}\"]", "args: []")
            .replace("    name: {type: string, description: Whom, required: true}\n", "    {}\n")
    };
    let manifest = slow("old");
    let fifo = env.home().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = |word: &str| format!("read line < '{}'; echo {word}", fifo.display());
    env.repo().write("slow.sh", &script("old")).write("tools.yaml", &manifest).commit("old");
    let daemon = env.daemon(&[]);
    let mcp = daemon.mcp.clone();
    let calling =
        std::thread::spawn(move || ask_at(&mcp, "tools/call", json!({"name": "greet", "arguments": {}})));
    // Nobody can write before the script reads: then the call has begun.
    let mut gate = wait_for("the call to begin", SOON, || open_to_write(&fifo));
    env.repo().write("slow.sh", &script("new")).write("tools.yaml", &greeter("other")).commit("new");
    wait_for("the switch", SOON, || {
        let listed = ask(&daemon, "tools/list", json!({}));
        (listed["tools"][0]["description"] == "Says other").then_some(())
    });
    std::io::Write::write_all(&mut gate, b"go\n").unwrap();
    assert_eq!(text(&calling.join().unwrap()), "old\n");
    assert_eq!(text(&call(&daemon, "greet", json!({"name": "now"}))), "other now\n");
}

/// The writing end of a pipe that somebody reads.
pub(crate) fn open_to_write(path: &std::path::Path) -> Option<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    std::fs::OpenOptions::new().write(true).custom_flags(flags).open(path).ok()
}
