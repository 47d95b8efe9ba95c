//! The protocol's own suite, against a fixture that offers what it names: directly, as the control, and
//! through the gateway, each era of the suite with each era of the fixture.

mod clients;
mod tasks;

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::docker::{count, forget};
use crate::follow::{call, names};
use crate::support::{Daemon, TestEnv, wait_for};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/conformance");
const MODERN: &str = "2026-07-28";
const LEGACY: &str = "2025-11-25";
/// Until a fixture is served: a container is built and started first.
const SERVED: Duration = Duration::from_mins(2);

/// The suite looks at what happens within fractions of a second: one run at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn installed(variable: &str) -> PathBuf {
    std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set: run `tests/run`")).into()
}

fn python() -> String {
    installed("TOOLCRIB_IT_VENV").join("bin/python").display().to_string()
}

/// The fixture at a port of its own, until it is dropped.
struct Direct {
    child: Child,
    url: String,
}

impl Direct {
    fn start(era: &str) -> Self {
        let mut command = Command::new(python());
        command.args(["-B", "-u", &format!("{FIXTURE}/server.py"), "--era", era, "--http", "0"]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut port).unwrap();
        Self { child, url: format!("http://localhost:{}/mcp", port.trim()) }
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs what a revision requires, and all else the suite has for it. Of a legacy fixture the scenarios of
/// extensions are left out: it has none, and each would wait for its time limit.
fn suite(url: &str, era: &str, revision: &str, folder: &Path) {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let modules = installed("TOOLCRIB_IT_CONFORMANCE").join("node_modules");
    let set: &[&str] = match era {
        "modern" => &["--requirements", revision],
        _ => &["--suite", "all", "--spec-version", revision],
    };
    let output = Command::new(modules.join("node/bin/node"))
        .arg(modules.join("@modelcontextprotocol/conformance/dist/index.js"))
        .args(["server", "--url", url])
        .args(set)
        .arg("-o")
        .arg(folder.join(format!("suite-{revision}")))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let summary = said.split_once("=== SUMMARY ===").map_or("", |(_, summary)| summary);
    let failed: Vec<&str> = summary
        .split("Total:")
        .next()
        .into_iter()
        .flat_map(str::lines)
        .filter_map(|line| line.strip_prefix("✗ "))
        .collect();
    let passed = summary.lines().filter(|line| line.starts_with("✓ ")).count();
    let why = || format!("{}\n{}", failures(&folder.join(format!("suite-{revision}"))), tail(&said));
    assert!(output.status.success() && failed.is_empty(), "{revision} at {url}: {failed:?}\n{}", why());
    assert!(passed >= 30, "{passed} scenarios passed:\n{}", why());
}

fn tail(text: &str) -> &str {
    text.get(text.floor_char_boundary(text.len().saturating_sub(4000))..).unwrap_or_default()
}

/// What the suite says of each failed check.
fn failures(folder: &Path) -> String {
    let mut all = String::new();
    for scenario in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(text) = std::fs::read_to_string(scenario.path().join("checks.json")) else { continue };
        let checks: Vec<Value> = serde_json::from_str(&text).unwrap();
        for check in checks.iter().filter(|check| check["status"] == "FAILURE") {
            writeln!(all, "{}: {}", check["id"], check["errorMessage"]).unwrap();
        }
    }
    all
}

fn both(url: &str, era: &str, folder: &Path) {
    let url = url.replace("127.0.0.1", "localhost");
    suite(&url, era, MODERN, folder);
    suite(&url, era, LEGACY, folder);
}

/// Where the fixture runs.
#[derive(Clone, Copy)]
enum Place {
    Process,
    Container,
    /// In a container, over HTTP.
    Port,
}

/// An environment with an owner of its own on the engine, where nothing of it is left.
struct Owned {
    env: TestEnv,
    owner: String,
    place: Place,
}

impl Owned {
    fn daemon(&self) -> Daemon {
        let daemon = self.env.daemon(&["--name", &self.owner]);
        let there = || names(&daemon).iter().any(|name| name == "test_simple_text").then_some(());
        wait_for("the fixture", SERVED, there);
        daemon
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if !matches!(self.place, Place::Process) {
            forget(&self.owner);
        }
    }
}

/// A daemon that serves the fixture under its own names.
fn serve(era: &str, place: Place, more: &str) -> (Owned, Daemon) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let owner = format!("it-conformance-{}-{count}", std::process::id());
    let env = TestEnv::new();
    let command = json!([python(), "-B", "-u", format!("{FIXTURE}/server.py"), "--era", era]);
    let runner = if matches!(place, Place::Process) { "process" } else { "docker" };
    let mut args = vec!["python3", "-B", "-u", "/srv/server.py", "--era", era];
    let source = match place {
        Place::Process => format!("  source: {{command: {command}}}\n"),
        Place::Container => "  source: {build: {context: .}}\n".to_owned(),
        Place::Port => {
            args.extend(["--http", "8000", "--any-host"]);
            "  source: {build: {context: .}}\n  transport: {type: streamable-http, port: 8000, path: /mcp}\n"
                .to_owned()
        }
    };
    for file in ["server.py", "offer.py", "tasks.py"] {
        env.repo().write(file, &std::fs::read_to_string(format!("{FIXTURE}/{file}")).unwrap());
    }
    let recipe = format!("FROM toolcrib.test/python:3.11\nCOPY *.py /srv/\nCMD {}\n", json!(args));
    env.repo().write("Dockerfile", &recipe).write(
        "crib.yaml",
        &format!(
            "apiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {{name: fixture}}\nspec:\n{source}  tools: {{prefix: \"\"}}\n{more}---\napiVersion: toolcrib.dev/v1alpha1\nkind: Runner\nmetadata: {{name: local}}\nspec: {{{runner}: {{}}}}\n"
        ),
    );
    env.repo().commit("the fixture");
    let fixture = Owned { env, owner, place };
    let daemon = fixture.daemon();
    (fixture, daemon)
}

/// A first call of a client that can be asked by its user. One scenario gives an answer 600 ms, which is
/// about as long as a container takes to start: that is for the benchmarks to judge.
fn greet(url: &str) {
    crate::support::tls();
    let meta = json!({"io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "test_simple_text", "arguments": {}, "_meta": meta}});
    let called =
        [("mcp-protocol-version", MODERN), ("mcp-method", "tools/call"), ("mcp-name", "test_simple_text")];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let said = runtime.block_on(async { Heard::answer(post(url, &called, &body)).await });
    assert_eq!(said["result"]["resultType"], "complete", "{said}");
}

fn through(era: &str, place: Place) {
    through_as(era, place, "", 1);
}

/// `left`: how many containers are there when the daemon has ended.
fn through_as(era: &str, place: Place, lifecycle: &str, left: usize) {
    let (owned, daemon) = serve(era, place, &format!("  sessions: perClient\n{lifecycle}"));
    greet(&daemon.mcp);
    both(&daemon.mcp, era, owned.env.home());
    let (ended, log) = daemon.terminate();
    assert!(ended.success(), "{log}");
    assert!(!log.contains("instances of clients are left"), "{log}");
    if !matches!(place, Place::Process) {
        assert_eq!(count(&owned.owner), left, "only what everybody shares is left:\n{log}");
    }
}

#[test]
fn the_fixture_itself_passes_in_either_era() {
    let folder = tempfile::tempdir().unwrap();
    suite(&Direct::start("modern").url, "modern", MODERN, folder.path());
    suite(&Direct::start("legacy").url, "legacy", LEGACY, folder.path());
}

#[test]
fn clients_of_both_eras_of_a_modern_process() {
    through("modern", Place::Process);
}

#[test]
fn clients_of_both_eras_of_a_legacy_process() {
    through("legacy", Place::Process);
}

#[test]
fn clients_of_both_eras_of_a_modern_process_that_runs_on_demand() {
    through_as("modern", Place::Process, "  lifecycle: {mode: on-demand, idleTimeout: 5s}\n", 1);
}

#[test]
fn clients_of_both_eras_of_a_legacy_process_that_runs_on_demand() {
    through_as("legacy", Place::Process, "  lifecycle: {mode: on-demand, idleTimeout: 5s}\n", 1);
}

#[test]
fn clients_of_both_eras_of_two_modern_containers() {
    through_as("modern", Place::Port, "  lifecycle: {replicas: {min: 2}}\n", 2);
}

#[test]
fn clients_of_both_eras_of_two_legacy_containers() {
    through_as("legacy", Place::Port, "  lifecycle: {replicas: {min: 2}}\n", 2);
}

#[test]
fn clients_of_both_eras_of_a_modern_container() {
    through("modern", Place::Container);
}

#[test]
fn clients_of_both_eras_of_a_legacy_container() {
    through("legacy", Place::Container);
}

#[test]
fn clients_of_both_eras_of_a_modern_container_over_http() {
    through("modern", Place::Port);
}

#[test]
fn clients_of_both_eras_of_a_legacy_container_over_http() {
    through("legacy", Place::Port);
}

#[test]
fn instances_of_clients_end_with_a_daemon_that_is_killed_at_the_next_start() {
    let (owned, first) = serve("legacy", Place::Container, "  sessions: perClient\n");
    let answer = |daemon: &Daemon| {
        let said = call(daemon, "test_simple_text", json!({}));
        assert!(said["content"][0]["text"].as_str().is_some_and(|text| text.contains("simple")), "{said}");
    };
    answer(&first);
    wait_for("an instance for the client", SERVED, || (count(&owned.owner) > 1).then_some(()));
    first.kill();
    assert!(count(&owned.owner) > 1);
    let second = owned.daemon();
    wait_for("one instance", SERVED, || (count(&owned.owner) == 1).then_some(()));
    answer(&second);
}

/// A stream of events that is read while it is open.
struct Heard {
    response: reqwest::Response,
    text: String,
}

impl Heard {
    async fn open(request: reqwest::RequestBuilder) -> Self {
        let request = request.header("accept", "application/json, text/event-stream");
        Self { response: request.send().await.unwrap(), text: String::new() }
    }

    /// The answer to a request, as JSON or at the end of a stream.
    async fn answer(request: reqwest::RequestBuilder) -> Value {
        let request = request.header("accept", "application/json, text/event-stream");
        let text = request.send().await.unwrap().text().await.unwrap();
        let last = text.lines().rev().find_map(|line| line.strip_prefix("data: ")).unwrap_or(&text);
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The next message that `is` takes.
    async fn next(&mut self, is: impl Fn(&Value) -> bool) -> Value {
        let heard = async {
            loop {
                while let Some(end) = self.text.find("\n\n") {
                    let event: String = self.text.drain(..end + 2).collect();
                    let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                    let message = data.and_then(|data| serde_json::from_str::<Value>(data).ok());
                    if let Some(message) = message.filter(&is) {
                        return message;
                    }
                }
                let chunk = self.response.chunk().await.unwrap().expect("the stream goes on");
                self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        };
        tokio::time::timeout(SERVED, heard).await.expect("a message")
    }
}

fn post(url: &str, headers: &[(&str, &str)], body: &Value) -> reqwest::RequestBuilder {
    let request = reqwest::Client::new().post(url).header("content-type", "application/json");
    headers.iter().fold(request, |request, (key, value)| request.header(*key, *value)).body(body.to_string())
}

const WATCHED: &str = "test://watched-resource";

fn updated(message: &Value) -> bool {
    message["method"] == "notifications/resources/updated" && message["params"]["uri"] == WATCHED
}

/// A subscription of a modern client, and one of a session.
async fn subscribed(url: &str) -> (Heard, Heard) {
    let meta = json!({"io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {}});
    let filter = json!({"resourceSubscriptions": [WATCHED]});
    let listen = json!({"jsonrpc": "2.0", "id": "l", "method": "subscriptions/listen",
        "params": {"_meta": meta.clone(), "notifications": filter}});
    let modern = [("mcp-protocol-version", MODERN), ("mcp-method", "subscriptions/listen")];
    let mut listener = Heard::open(post(url, &modern, &listen)).await;
    let acknowledged = listener.next(|_| true).await;
    assert_eq!(acknowledged["params"]["notifications"], json!({"resourceSubscriptions": [WATCHED]}));

    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "it", "version": "1"}}});
    let opened = post(url, &[], &hello).send().await.unwrap();
    let session = opened.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let said: Value = serde_json::from_str(&opened.text().await.unwrap()).unwrap();
    assert_eq!(said["result"]["capabilities"]["resources"]["subscribe"], true, "{said}");
    let legacy = [("mcp-protocol-version", LEGACY), ("mcp-session-id", session.as_str())];
    let stream = reqwest::Client::new().get(url).header("mcp-session-id", &session);
    let stream = Heard::open(stream.header("mcp-protocol-version", LEGACY)).await;
    let subscribe =
        json!({"jsonrpc": "2.0", "id": 2, "method": "resources/subscribe", "params": {"uri": WATCHED}});
    let said = post(url, &legacy, &subscribe).send().await.unwrap().text().await.unwrap();
    assert!(said.contains("\"result\":{}"), "{said}");

    // What crosses both ways: the trace in the request's `_meta`, and the result's.
    let echo = |id: u64, meta: Value| {
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": {"name": "test_echo_meta", "arguments": {}, "_meta": meta}})
    };
    let mut traced = meta;
    traced["traceparent"] = json!("00-1");
    let called =
        [("mcp-protocol-version", MODERN), ("mcp-method", "tools/call"), ("mcp-name", "test_echo_meta")];
    let requests =
        [post(url, &called, &echo(3, traced)), post(url, &legacy, &echo(3, json!({"traceparent": "00-1"})))];
    for request in requests {
        let said = Heard::answer(request).await;
        assert_eq!(said["result"]["_meta"]["example/seen"], "00-1", "{said}");
    }
    (listener, stream)
}

#[test]
fn resources_are_watched_and_traces_carried_across_the_eras() {
    crate::support::tls();
    for era in ["modern", "legacy"] {
        let (_owned, daemon) = serve(era, Place::Process, "");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (mut modern, mut session) = runtime.block_on(subscribed(&daemon.mcp));
        // Until the server has been told, it says nothing: it is let say so again.
        let (going, ended) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let daemon = &daemon;
            let updates = scope.spawn(move || {
                while ended.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                    call(daemon, "test_update_resource", json!({"uri": WATCHED}));
                }
            });
            runtime.block_on(async {
                modern.next(updated).await;
                session.next(updated).await;
            });
            drop(going);
            updates.join().unwrap();
        });
    }
}
