//! Servers that are down: what is listed of them, and what becomes of calls.

use std::fs::{remove_file, write};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rmcp::ServiceExt as _;
use rmcp::transport::StreamableHttpClientTransport;
use serde_json::json;

use super::clients::Listener;
use super::{SOON, call, greeter, names, resource, server, text, wait_for_names};
use crate::hostile::upstream::Upstream;
use crate::support::{Daemon, Port, TestEnv, wait_for};

/// A server over stdio with one tool that says its process id. It does not start while `gate` is not there.
fn script(gate: &str) -> String {
    let answers = r#"
while read -r line; do
  id=${line#*\"id\":}; id=${id%%[,\}]*}
  case $line in
    *server/discover*) echo '{"jsonrpc":"2.0","id":'"$id"',"error":{"code":-32601,"message":"no"}}' ;;
    *'"initialize"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"}}}' ;;
    *tools/list*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"tools":[{"name":"pid","inputSchema":{"type":"object"}}]}}' ;;
    *tools/call*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"content":[{"type":"text","text":"'$$'"}]}}' ;;
  esac
done
"#;
    format!("[ -e '{gate}' ] || exit 3\n{answers}")
}

/// Waits until a call has this in its answer, and returns how long the call took.
fn wait_for_answer(daemon: &Daemon, tool: &str, part: &str) -> std::time::Duration {
    wait_for(&format!("{tool} to answer {part}"), SOON, || {
        let began = Instant::now();
        let answer = call(daemon, tool, json!({})).to_string();
        answer.contains(part).then(|| began.elapsed())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_lists_stays_or_goes_while_it_is_down_as_it_declares() {
    let env = TestEnv::new();
    let gate = env.home().join("gate");
    write(&gate, "").unwrap();
    let body = script(gate.to_str().unwrap());
    env.repo().write("pid.sh", &body);
    let command = ["sh", "./pid.sh"];
    let manifest = [
        greeter("hello"),
        server("kept", &command, ""),
        server("shy", &command, "  tools: {whenDown: hidden}"),
    ];
    env.repo().write("crib.yaml", &manifest.concat()).commit("servers");
    let (env, daemon) = tokio::task::spawn_blocking(move || {
        let daemon = env.daemon(&[]);
        wait_for_names(&daemon, &["greet", "kept_pid", "shy_pid"]);
        (env, daemon)
    })
    .await
    .unwrap();
    let listener = Listener::default();
    let heard = std::sync::Arc::clone(&listener.changed);
    let transport = StreamableHttpClientTransport::from_uri(daemon.mcp.as_str());
    let client = listener.serve(transport).await.unwrap();

    let daemon = tokio::task::spawn_blocking(move || {
        remove_file(&gate).unwrap();
        for tool in ["kept_pid", "shy_pid"] {
            let pid: i32 = text(&call(&daemon, tool, json!({}))).parse().unwrap();
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        }
        wait_for_names(&daemon, &["greet", "kept_pid"]);
        // One that is listed says why it does not answer, and at once.
        let took = wait_for_answer(&daemon, "kept_pid", "server `kept` cannot be reached");
        assert!(took.as_secs() < 5, "{took:?}");
        let unknown = call(&daemon, "shy_pid", json!({}));
        assert_eq!(unknown["code"], -32602, "{unknown}");
        let why = env.run(&["why", "shy_pid", "--admin", daemon.admin_address()]);
        assert!(why.stdout.contains("Server/shy"), "{}", why.all());

        write(&gate, "").unwrap();
        wait_for_names(&daemon, &["greet", "kept_pid", "shy_pid"]);
        for tool in ["kept_pid", "shy_pid"] {
            wait_for(&format!("{tool} to answer again"), SOON, || {
                let said = call(&daemon, tool, json!({}));
                said["isError"].is_null().then(|| text(&said).parse::<i32>().unwrap())
            });
        }
        daemon
    })
    .await
    .unwrap();
    tokio::time::timeout(SOON, heard.notified()).await.expect("the client hears that lists changed");
    client.cancel().await.unwrap();
    tokio::task::spawn_blocking(move || drop(daemon)).await.unwrap();
}

#[test]
fn a_server_elsewhere_that_does_not_answer_is_down_until_it_does() {
    let env = TestEnv::new();
    let (kept_at, shy_at) = (Port::new(), Port::new());
    let (kept, shy) = (Upstream::start_at(kept_at.address, 1, 1), Upstream::start_at(shy_at.address, 1, 1));
    let declared =
        [greeter("hello"), kept.declared("kept", ""), shy.declared("shy", "  tools: {whenDown: hidden}")];
    env.repo().write("crib.yaml", &declared.concat()).commit("servers");
    let daemon = env.daemon(&[]);
    let all = ["greet", "kept_t0000", "shy_t0000"];
    wait_for_names(&daemon, &all);

    drop((kept, shy));
    wait_for_answer(&daemon, "kept_t0000", "server `kept` cannot be reached");
    // The call that could not be sent is what tells: then it is left out.
    wait_for("the other one to be hidden", SOON, || {
        call(&daemon, "shy_t0000", json!({}));
        (names(&daemon) == all[..2]).then_some(())
    });
    let shown = resource(&env, &daemon, "Server/shy").to_string();
    assert!(shown.contains("whenDown: hidden"), "{shown}");

    let _back = (Upstream::start_at(kept_at.address, 1, 1), Upstream::start_at(shy_at.address, 1, 1));
    wait_for_names(&daemon, &all);
    for tool in &all[1..] {
        let said = call(&daemon, tool, json!({"text": "back"}));
        assert_eq!(text(&said), "back");
    }
}

#[test]
fn a_server_that_goes_away_while_nobody_calls_it_is_noticed() {
    let env = TestEnv::new();
    let at = Port::new();
    let quiet = Upstream::start_at(at.address, 1, 1);
    let declared = [greeter("hello"), quiet.declared("quiet", "  tools: {whenDown: hidden}")];
    env.repo().write("crib.yaml", &declared.concat()).commit("servers");
    let daemon = env.daemon(&[]);
    let all = ["greet", "quiet_t0000"];
    wait_for_names(&daemon, &all);
    drop(quiet);
    // Lists are answered from memory, so that asking for them tells the daemon nothing.
    wait_for("it to be hidden", SOON * 2, || (names(&daemon) == all[..1]).then_some(()));
    let _back = Upstream::start_at(at.address, 1, 1);
    wait_for_names(&daemon, &all);
}
