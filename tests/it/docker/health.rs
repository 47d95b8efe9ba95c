//! `health` on an engine: a container that stands still is replaced.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::daemon::{Crib, STARTED};
use crate::follow::{call, names, text, wait_for_reason};
use crate::support::wait_for;

const MANIFEST: &str = r#"
apiVersion: toolcrib.dev/v1alpha1
kind: Runner
metadata: {name: local}
spec: {docker: {}}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Server
metadata: {name: web}
spec:
  source: {image: "toolcrib.test/fastmcp:1"}
  transport: {type: streamable-http, port: 8000}
  env: {MCP_TRANSPORT: http}
  tools: {include: [echo]}
  startupTimeout: 3m
  health: {interval: 2s, timeout: 5s, failureThreshold: 2}
"#;

/// The processes of a container but its first.
#[expect(clippy::disallowed_methods, reason = "looks for the processes of a container")]
fn processes(first: i64) -> Vec<i32> {
    let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn of_a_container_that_somebody_removed_no_connection_is_kept() {
    let crib = Crib::new();
    // Nobody asks it: the engine alone tells that it has gone.
    crib.env.repo().write("crib.yaml", &MANIFEST.replace("interval: 2s", "interval: 10m")).commit("web");
    let daemon = crib.daemon();
    let ready = || names(&daemon).contains(&"web_echo".to_owned()).then_some(());
    wait_for("the server", STARTED, ready);
    for round in ["first", "second"] {
        let before = crib.settled(&daemon, &["web"])["web"][0].clone();
        crib.remove(&before);
        wait_for("another container", STARTED, || {
            (crib.settled(&daemon, &["web"])["web"][0] != before).then_some(())
        });
        wait_for("an answer", STARTED, || {
            (call(&daemon, "web_echo", json!({"text": round}))["isError"] == false).then_some(())
        });
        wait_for("one connection", STARTED, || (daemon.metric("server_connections") == 1).then_some(()));
    }
}

#[test]
fn a_container_that_stands_still_is_replaced() {
    let crib = Crib::new();
    crib.env.repo().write("crib.yaml", MANIFEST).commit("web");
    let daemon = crib.daemon();
    let ready = || names(&daemon).contains(&"web_echo".to_owned()).then_some(());
    wait_for("the server", STARTED, ready);
    let first = crib.settled(&daemon, &["web"])["web"][0].clone();
    for pid in processes(crib.first_process(&first)) {
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    }
    wait_for("another container", STARTED, || {
        let now = crib.settled(&daemon, &["web"]);
        (now["web"][0] != first).then_some(())
    });
    assert_eq!(text(&call(&daemon, "web_echo", json!({"text": "again"}))), "again");
    let log = daemon.log();
    assert!(log.contains("unhealthy: 2 health checks in a row failed"), "{log}");
}

#[test]
fn a_container_that_ends_before_it_answers_is_not_waited_for() {
    let crib = Crib::new();
    let ends = MANIFEST.replace(
        "{image: \"toolcrib.test/fastmcp:1\"}",
        "{image: {ref: \"toolcrib.test/busybox:1\", command: [sh, -c, echo no licence >&2; exit 7]}}",
    );
    // Longer than the test waits.
    crib.env
        .repo()
        .write("crib.yaml", &ends.replace("startupTimeout: 3m", "startupTimeout: 30m"))
        .commit("web");
    let daemon = crib.daemon();
    let message = wait_for_reason(&crib.env, &daemon, "Server/web", "StartFailed");
    assert!(message.contains("the instance ended with code 7 before it answered"), "{message}");
    let said = crib.env.run(&["logs", "web", "--admin", daemon.admin_address()]);
    assert!(said.stdout.contains("no licence"), "{}", said.all());
}
