//! Clients that only start commands: rmcp's over `toolcrib stdio`.

use std::sync::Arc;

use rmcp::model::CallToolRequestParams;
use rmcp::service::{ClientLifecycleMode, ClientServiceExt as _};
use rmcp::transport::TokioChildProcess;
use serde_json::json;

use super::clients::{Listener, modern};
use super::{SOON, greeter, text};
use crate::support::{Daemon, Port, TestEnv};

fn greet(name: &str) -> CallToolRequestParams {
    let arguments = json!({"name": name}).as_object().cloned().unwrap_or_default();
    CallToolRequestParams::new("greet").with_arguments(arguments)
}

/// A daemon at an address.
async fn daemon(env: &Arc<TestEnv>, port: &Port) -> Daemon {
    let (env, listen) = (Arc::clone(env), port.address.to_string());
    let start = move || env.daemon_at(&listen, &[]);
    tokio::task::spawn_blocking(start).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_over_stdio_goes_on_when_the_daemon_restarts() {
    for lifecycle in [ClientLifecycleMode::Initialize, modern()] {
        let era = format!("{lifecycle:?}");
        let is_modern = matches!(lifecycle, ClientLifecycleMode::Discover { .. });
        let env = Arc::new(TestEnv::new());
        env.repo().write("tools.yaml", &greeter("hello")).commit("hello");
        let port = Port::new();
        let first = daemon(&env, &port).await;
        let command = env.command(&["stdio", "--url", &first.mcp]);
        let transport = TokioChildProcess::new(tokio::process::Command::from(command)).unwrap();
        let listener = Listener::default();
        let client = listener.clone().serve_with_lifecycle(transport, lifecycle).await.unwrap();
        let mut subscription = if is_modern {
            let filter = serde_json::from_value(json!({"toolsListChanged": true})).unwrap();
            Some(client.listen(filter).await.unwrap())
        } else {
            None
        };
        let result = serde_json::to_value(client.call_tool(greet("Ada")).await.unwrap()).unwrap();
        assert_eq!(text(&result), "hello Ada\n", "{era}");

        tokio::task::spawn_blocking(move || first.kill()).await.unwrap();
        env.repo().write("tools.yaml", &greeter("good day")).commit("another word");
        // Asked while nobody is there.
        let asked = tokio::spawn({
            let peer = client.peer().clone();
            async move { peer.list_tools(None).await }
        });
        let second = daemon(&env, &port).await;
        let listed = tokio::time::timeout(SOON, asked).await.expect("an answer").unwrap().unwrap();
        assert_eq!(listed.tools.len(), 1, "{era}");
        let result = serde_json::to_value(client.call_tool(greet("Ada")).await.unwrap()).unwrap();
        assert_eq!(text(&result), "good day Ada\n", "{era}");
        match &mut subscription {
            Some(subscription) => {
                let heard = tokio::time::timeout(SOON, subscription.next()).await.expect("a notification");
                assert!(format!("{heard:?}").contains("ToolListChanged"), "{era}: {heard:?}");
            }
            None => tokio::time::timeout(SOON, listener.changed.notified()).await.expect("a notification"),
        }
        drop(subscription);
        client.cancel().await.unwrap();
        tokio::task::spawn_blocking(move || drop((second, env))).await.unwrap();
    }
}

#[test]
fn what_is_no_message_is_answered_and_the_end_of_input_is_the_end() {
    use std::io::Write as _;
    let env = TestEnv::new();
    env.repo().write("tools.yaml", &greeter("hello")).commit("hello");
    let daemon = env.daemon(&[]);
    let mut child = env
        .command(&["stdio", "--url", &daemon.mcp])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"nonsense\n{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}\n").unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let mut next = || -> serde_json::Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let mut answers = [next(), next()];
    answers.sort_by_key(|answer| answer["id"].as_u64());
    assert_eq!(answers[0]["error"]["code"], -32700, "{answers:?}");
    // The endpoint wants a session, or the `_meta` of 2026-07-28, and says so.
    assert_eq!(answers[1]["id"], 7, "{answers:?}");
    assert_eq!(answers[1]["error"]["code"], -32600, "{answers:?}");
    drop(input);
    assert!(child.wait().unwrap().success());
    assert!(lines.next().is_none());
}
