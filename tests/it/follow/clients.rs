//! Clients and servers that others wrote, with the daemon between them.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rmcp::model::{CallToolRequestParams, ProtocolVersion};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt as _, NotificationContext, RoleClient};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientHandler, ServiceExt as _};
use serde_json::{Value, json};

use super::{SOON, greeter, names, server, text, wait_for_names};
use crate::support::{Daemon, TestEnv};

fn installed(variable: &str) -> PathBuf {
    std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set: run `tests/run`")).into()
}

pub(super) fn venv(program: &str) -> String {
    installed("TOOLCRIB_IT_VENV").join("bin").join(program).display().to_string()
}

fn everything() -> Vec<String> {
    let bin = installed("TOOLCRIB_IT_NODE").join("bin");
    vec![bin.join("mcp-server-everything").display().to_string(), "stdio".to_owned()]
}

/// Real servers of both eras as processes: FastMCP, the Python SDK's two, the TypeScript SDK's.
fn crib() -> (TestEnv, Daemon) {
    let env = TestEnv::new();
    let weather = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/weather/server.py");
    let everything = everything();
    let everything: Vec<&str> = everything.iter().map(String::as_str).collect();
    let repository = env.repo().path().display().to_string();
    let manifest = [
        greeter("hello"),
        server("weather", &[&venv("python"), weather], ""),
        server("time", &[&venv("mcp-server-time")], ""),
        server(
            "git",
            &[&venv("mcp-server-git"), "--repository", &repository],
            "  tools: {include: [git_log, git_status]}",
        ),
        server("everything", &everything, "  tools: {include: [echo, get-sum]}"),
    ];
    env.repo().write("crib.yaml", &manifest.concat()).commit("servers");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, NAMES);
    (env, daemon)
}

const NAMES: &[&str] = &[
    "everything_echo",
    "everything_get-sum",
    "git_git_log",
    "git_git_status",
    "greet",
    "time_convert_time",
    "time_get_current_time",
    "weather_echo",
    "weather_environment",
    "weather_fail",
    "weather_forecast",
    "weather_slow",
];

/// A client that counts what it hears.
#[derive(Clone, Default)]
pub(super) struct Listener {
    pub(super) changed: Arc<tokio::sync::Notify>,
}

impl ClientHandler for Listener {
    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }
}

pub(super) fn modern() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::LATEST] }
}

fn params(name: &'static str, arguments: &Value) -> CallToolRequestParams {
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    CallToolRequestParams::new(name).with_arguments(arguments)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_either_era_reach_servers_of_either_era() {
    let (_env, daemon) = tokio::task::spawn_blocking(crib).await.unwrap();
    crate::support::tls();
    for lifecycle in [ClientLifecycleMode::Initialize, modern()] {
        let transport = StreamableHttpClientTransport::from_uri(daemon.mcp.as_str());
        let client = Listener::default().serve_with_lifecycle(transport, lifecycle).await.unwrap();
        let listed: Vec<String> =
            client.list_all_tools().await.unwrap().iter().map(|tool| tool.name.to_string()).collect();
        assert_eq!(listed, NAMES);
        for (tool, arguments, expected) in [
            ("greet", json!({"name": "rmcp"}), "hello rmcp\n"),
            ("weather_echo", json!({"text": "modern server"}), "modern server"),
            ("everything_echo", json!({"message": "legacy server"}), "Echo: legacy server"),
            ("everything_get-sum", json!({"a": 2, "b": 3}), "The sum of 2 and 3 is 5."),
        ] {
            let result = client.call_tool(params(tool, &arguments)).await.unwrap();
            let result = serde_json::to_value(&result).unwrap();
            assert_eq!(text(&result), expected, "{tool}");
        }
        client.cancel().await.unwrap();
    }
    tokio::task::spawn_blocking(move || drop(daemon)).await.unwrap();
}

#[test]
fn pythons_clients_reach_everything() {
    let (_env, daemon) = crib();
    for script in ["fastmcp_client.py", "mcp_client.py"] {
        let script = format!("{}/tests/fixtures/clients/{script}", env!("CARGO_MANIFEST_DIR"));
        let output = Command::new(venv("python"))
            .args([&script, &daemon.mcp, "weather_echo", r#"{"text": "from Python"}"#])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let last = said.lines().last().unwrap_or_default();
        let said: Value = serde_json::from_str(last)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(said["tools"], json!(NAMES), "{script}");
        assert_eq!(said["text"], "from Python", "{script}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_eras_hear_that_the_list_changed() {
    let env = TestEnv::new();
    env.repo().write("tools.yaml", &greeter("hello")).commit("hello");
    let (env, daemon) = tokio::task::spawn_blocking(move || {
        let daemon = env.daemon(&[]);
        (env, daemon)
    })
    .await
    .unwrap();
    crate::support::tls();
    let legacy = Listener::default();
    let transport = StreamableHttpClientTransport::from_uri(daemon.mcp.as_str());
    let legacy_client = legacy.clone().serve(transport).await.unwrap();
    legacy_client.list_all_tools().await.unwrap();
    let transport = StreamableHttpClientTransport::from_uri(daemon.mcp.as_str());
    let modern_client = Listener::default().serve_with_lifecycle(transport, modern()).await.unwrap();
    let mut subscription = modern_client
        .listen(serde_json::from_value(json!({"toolsListChanged": true})).unwrap())
        .await
        .unwrap();
    // Sessions and subscriptions are there before the commit: both calls above were answered.
    env.repo().write("tools.yaml", &greeter("changed")).commit("changed");
    tokio::time::timeout(SOON, legacy.changed.notified()).await.expect("the legacy client hears of it");
    let heard = tokio::time::timeout(SOON, subscription.next()).await.expect("the modern client hears of it");
    let heard = format!("{heard:?}");
    assert!(heard.contains("ToolListChanged"), "{heard}");
    drop(subscription);
    tokio::task::spawn_blocking(move || drop((daemon, env))).await.unwrap();
}

#[test]
fn a_server_that_changes_its_list_changes_the_catalog() {
    let env = TestEnv::new();
    let notes = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/notes/server.mjs");
    let node = installed("TOOLCRIB_IT_NODE").join("bin/node").display().to_string();
    let manifest = greeter("hello") + &server("notes", &[&node, notes], "");
    env.repo().write("crib.yaml", &manifest).commit("notes");
    let daemon = env.daemon(&[]);
    let before = crate::support::wait_for("the server", SOON, || {
        let names = names(&daemon);
        (names.len() > 1).then_some(names)
    });
    let listed = super::ask(&daemon, "tools/list", json!({}));
    let notes = listed["tools"].as_array().unwrap().iter().find(|tool| tool["name"] != "greet").unwrap();
    assert!(!notes["x-note"].is_null(), "fields nobody knows arrive: {notes}");
    let offered = super::call(&daemon, "notes_offer", json!({"name": "extra"}));
    assert_ne!(offered["isError"], true, "{offered}");
    crate::support::wait_for("the new tool", SOON, || {
        (names(&daemon).len() == before.len() + 1).then_some(())
    });
}
