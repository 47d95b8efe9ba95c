//! Every command that speaks to a daemon, and a commit that becomes a tool.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Daemon, Said, TestEnv, wait_for};

const RUNNER: &str = "\
apiVersion: toolcrib.dev/v1alpha1
kind: Runner
metadata: {name: here}
spec: {process: {}}
";

fn tool(name: &str, text: &str) -> String {
    format!(
        "\
apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata: {{name: {name}}}
spec:
  description: Says {text}.
  command: [echo, {text}]
  args: [\"${{whom}}\"]
  parameters:
    whom: {{type: string, description: Whom to greet, required: true}}
"
    )
}

struct Scene {
    env: TestEnv,
    daemon: Daemon,
}

impl Scene {
    fn new() -> Self {
        let env = TestEnv::new();
        env.repo().write("runner.yaml", RUNNER).write("hello.yaml", &tool("hello", "hello")).commit("tools");
        let daemon = env.daemon(&[]);
        Self { env, daemon }
    }

    fn run(&self, args: &[&str]) -> Said {
        self.env.run(&[args, &["--admin", self.daemon.admin_address()]].concat())
    }

    /// The page at a path of the admin endpoint, over plain HTTP.
    fn get(&self, path: &str) -> String {
        use std::io::{Read as _, Write as _};
        let address = self.daemon.admin_address();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{head}");
        body.to_owned()
    }

    fn description(&self, tool: &str) -> Option<String> {
        let said = self.run(&["tools", tool, "--output", "json"]);
        (said.code == 0).then(|| said.json()["definition"]["description"].as_str().unwrap().to_owned())
    }
}

/// A commit is seen at once; this is for a machine that does much else.
const SEEN: Duration = Duration::from_mins(2);

#[test]
fn commands_show_and_call_what_a_daemon_serves() {
    let scene = Scene::new();
    assert_eq!(scene.daemon.banner["tools"], json!(["hello"]));
    let tools = scene.run(&["tools"]);
    insta::assert_snapshot!(tools.all(), @r"
    TOOL    FROM         DESCRIPTION
    hello   Tool/hello   Says hello.
    --- exit 0
    ");
    let one = scene.run(&["tools", "hello"]);
    assert!(one.stdout.contains("whom       string   yes        Whom to greet"), "{}", one.all());
    let called = scene.run(&["call", "hello", "whom=Ada"]);
    assert_eq!((called.code, called.stdout.as_str()), (0, "hello Ada\n"), "{}", called.all());
    let raw = scene.run(&["call", "hello", "--json", r#"{"whom": "Ada"}"#, "--output", "json"]);
    assert!(raw.json()["content"][0]["text"].as_str().unwrap().starts_with("hello Ada"), "{}", raw.all());
    let status = scene.run(&["status"]);
    for text in ["served      main@sha1:[COMMIT]", "1 tool,", "Tool/hello    True", "Ready         True"] {
        assert!(status.stdout.contains(text), "{text}: {}", status.stdout);
    }
    let get = scene.run(&["get", "runners", "--output", "json"]).json();
    assert_eq!(get.as_object().unwrap().keys().collect::<Vec<_>>(), ["Runner/here"]);
    let get = scene.run(&["get", "tool/hello"]);
    assert!(
        get.stdout.contains("declared   hello.yaml:1:1") && get.stdout.contains("Ready True"),
        "{}",
        get.all()
    );
    assert_eq!(scene.run(&["plan", "--exit-code"]).code, 0, "nothing is pending");
    let local = scene.env.run(&["plan", "--repo", ".", "--state", scene.env.state().to_str().unwrap()]);
    assert_eq!(local.code, 0, "the daemon of that state directory answers: {}", local.all());
}

#[test]
fn calls_are_counted_and_the_endpoint_can_be_probed() {
    let scene = Scene::new();
    assert_eq!(scene.run(&["call", "hello", "whom=Ada"]).code, 0);
    let page = scene.get("/metrics");
    for line in [
        r#"tool_executions_total{tool="hello",success="true"} 1"#,
        r#"container_starts_total{runner="here"} 1"#,
        r#"catalog_entries{kind="tool"} 1"#,
        r#"resources{kind="Tool",ready="true"} 1"#,
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
    assert!(page.contains(r#"runner_utilization{runner="here"} "#) && page.ends_with("# EOF\n"), "{page}");
    assert_eq!(scene.get("/livez"), "ok\n");
    let record = scene.env.run(&["probe", &scene.daemon.mcp, "--output", "json"]);
    let record = record.json();
    assert_eq!(
        (&record["discovery_method"], &record["tools"][0]["name"]),
        (&json!("http_mcp"), &json!("hello"))
    );
}

#[test]
fn plan_and_apply_need_no_daemon() {
    let env = TestEnv::new();
    let sleeper = "\
apiVersion: toolcrib.dev/v1alpha1
kind: Server
metadata: {name: sleeper}
spec: {source: {command: [sleep, \"1000\"]}, startupTimeout: 1s}
";
    env.repo().write("runner.yaml", RUNNER).write("sleeper.yaml", sleeper).commit("a server");
    let state = env.state();
    let follow = ["--repo", ".", "--state", state.to_str().unwrap()];
    let plan = env.run(&[&["plan", "--exit-code"], &follow[..]].concat());
    assert_eq!(plan.code, 3, "{}", plan.all());
    assert!(plan.stdout.contains("+ Server/sleeper") && plan.stdout.contains("1 to start"), "{}", plan.all());
    let json = env.run(&[&["plan", "--output", "json"], &follow[..]].concat());
    assert_eq!((json.code, &json.json()["changes"]), (0, &json!(1)));
    let apply = env.run(&[&["apply"], &follow[..]].concat());
    assert_eq!(apply.code, 1, "it is no MCP server: {}", apply.all());
    assert!(
        apply.stdout.contains("Server/sleeper   False") && apply.stderr.contains("hint:"),
        "{}",
        apply.all()
    );
    env.repo().git(&["rm", "-q", "sleeper.yaml"]);
    env.repo().write("hello.yaml", &tool("hello", "hello")).commit("a tool instead");
    let apply = env.run(&[&["apply"], &follow[..]].concat());
    assert_eq!(apply.code, 0, "{}", apply.all());
    assert_eq!(env.run(&[&["plan", "--exit-code"], &follow[..]].concat()).code, 0);
}

#[test]
fn mistakes_towards_a_daemon_say_what_next() {
    let scene = Scene::new();
    for (args, message, hint) in [
        (&["call", "hello"][..], "whom", "hint: "),
        (&["call", "nope"], "nope", "hint: `toolcrib tools"),
        (&["call", "nope", "a=b"], "there is no tool `nope`", "hint: `toolcrib tools` lists"),
        (&["get", "server/nope"], "there is no Server/nope", "hint: `toolcrib get server`"),
        (&["tools", "nope"], "there is no tool `nope`", "hint:"),
        (&["logs", "server/nope"], "Server/nope", ""),
        (&["reconcile", "--rebuild", "nope"], "nope", ""),
    ] {
        let said = scene.run(args);
        assert_eq!(said.code, 1, "{args:?}: {}", said.all());
        assert!(said.stderr.contains(message) && said.stderr.contains(hint), "{args:?}: {}", said.stderr);
    }
    let state = scene.env.state();
    let second = scene.env.run(&["run", "--repo", ".", "--state", state.to_str().unwrap()]);
    assert_eq!(second.code, 1);
    assert!(
        second.stderr.contains("error: another toolcrib uses this state directory: `[HOME]/state`"),
        "{}",
        second.stderr
    );
}

#[test]
fn a_commit_becomes_a_tool_and_a_revert_takes_it_back() {
    let scene = Scene::new();
    let first = scene.description("hello").unwrap();
    scene.env.repo().write("hello.yaml", &tool("hello", "goodbye")).write("new.yaml", &tool("new", "new"));
    scene.env.repo().commit("change");
    wait_for("the new tool", SEEN, || scene.description("new"));
    assert_eq!(scene.description("hello").unwrap(), "Says goodbye.");
    scene.env.repo().git(&["revert", "--no-edit", "HEAD"]);
    wait_for("the revert", SEEN, || scene.description("new").is_none().then_some(()));
    assert_eq!(scene.description("hello").unwrap(), first);
    scene.env.repo().write("hello.yaml", "kind: [").commit("broken");
    wait_for("the fault", SEEN, || scene.run(&["status"]).stdout.contains("InvalidManifest").then_some(()));
    assert_eq!(scene.description("hello").unwrap(), first, "the version before stays");
}

#[test]
fn reconcile_waits_and_passes_can_be_held_back() {
    let scene = Scene::new();
    let waited = scene.run(&["reconcile", "--wait"]);
    assert_eq!(waited.code, 0, "{}", waited.all());
    assert_eq!(scene.run(&["reconcile", "--suspend"]).code, 0);
    assert!(scene.run(&["status"]).stdout.contains("suspended"), "{}", scene.run(&["status"]).stdout);
    assert_eq!(scene.run(&["reconcile", "--resume"]).code, 0);
    assert!(!scene.run(&["status"]).stdout.contains("suspended"));
}

#[test]
fn a_daemon_ends_in_order_and_leaves_no_socket() {
    let scene = Scene::new();
    let socket = scene.env.state().join("admin.sock");
    assert!(socket.exists());
    let Scene { env, daemon } = scene;
    let (ended, log) = daemon.terminate();
    assert!(ended.success(), "{ended}: {log}");
    assert!(!socket.exists());
    let mut again = env.daemon(&[]);
    again.signal(Signal::SIGINT);
    let ended = wait_for("the end", SEEN, || again.ended());
    assert!(ended.success(), "{ended}: {}", again.log());
}
