//! `lifecycle` on an engine: containers that are there when they are called, and no longer.

use serde_json::json;

use super::daemon::{Crib, STARTED};
use crate::follow::{call, text, wait_for_names};
use crate::support::{Daemon, wait_for};

const SERVERS: [&str; 2] = ["spoken", "web"];
const TOOLS: [&str; 4] = ["spoken_echo", "spoken_slow", "web_echo", "web_slow"];

/// A server over each transport.
fn manifest(lifecycle: &str) -> String {
    let server = |name: &str, more: &str| {
        format!(
            "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {{name: {name}}}\nspec:\n  source: {{image: 'toolcrib.test/fastmcp:1'}}\n  startupTimeout: 3m\n  tools: {{include: [echo, slow]}}\n{lifecycle}{more}\n"
        )
    };
    let runner =
        "apiVersion: toolcrib.dev/v1alpha1\nkind: Runner\nmetadata: {name: local}\nspec: {docker: {}}\n";
    let transport = "  transport: {type: streamable-http, port: 8000}\n  env: {MCP_TRANSPORT: http}\n";
    runner.to_owned() + &server(SERVERS[0], "") + &server(SERVERS[1], transport)
}

/// What both answer at the same time.
fn echoes(daemon: &Daemon, word: &str) -> Vec<String> {
    std::thread::scope(|scope| {
        let tools = ["spoken_echo", "web_echo"];
        let calls: Vec<_> = tools
            .map(|tool| scope.spawn(move || text(&call(daemon, tool, json!({"text": word}))).to_owned()))
            .into_iter()
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    })
}

#[test]
fn containers_come_with_calls_and_go_without_also_after_a_kill() {
    let crib = Crib::new();
    crib.env.repo().write("crib.yaml", &manifest("  lifecycle: {mode: on-demand, idleTimeout: 3s}\n"));
    crib.env.repo().commit("on demand");
    let none = || wait_for("no container", STARTED, || crib.seen().is_empty().then_some(()));
    let daemon = crib.daemon();
    wait_for_names(&daemon, &TOOLS);
    none();
    // One may have gone for want of calls before the other has come: both were there while they were called.
    let seen = std::thread::scope(|scope| {
        let calls = scope.spawn(|| echoes(&daemon, "up"));
        let mut seen = std::collections::BTreeSet::new();
        while !calls.is_finished() {
            seen.extend(crib.seen().into_iter().map(|(id, _)| id));
        }
        assert_eq!(calls.join().unwrap(), ["up", "up"], "{}", daemon.log());
        seen
    });
    assert_eq!(seen.len(), 2, "{seen:?}");
    // What it leaves is found by the next one: used again, or replaced.
    daemon.kill();
    let daemon = crib.daemon();
    wait_for_names(&daemon, &TOOLS);
    assert_eq!(echoes(&daemon, "again"), ["again", "again"], "{}", daemon.log());
    none();
    assert_eq!(echoes(&daemon, "and again"), ["and again", "and again"], "{}", daemon.log());

    // Killed while they are on their way, nothing stays.
    none();
    std::thread::scope(|scope| {
        let doomed = &daemon;
        scope.spawn(move || {
            // It has no answer: the daemon is killed.
            let _ = std::panic::catch_unwind(|| echoes(doomed, "never"));
        });
        wait_for("a container", STARTED, || (!crib.seen().is_empty()).then_some(()));
        daemon.signal(nix::sys::signal::Signal::SIGKILL);
    });
    drop(daemon);
    let daemon = crib.daemon();
    wait_for_names(&daemon, &TOOLS);
    none();
    let plan = crib.env.run(&["plan", "--admin", daemon.admin_address(), "--exit-code"]);
    assert_eq!((plan.code, plan.stdout.contains("held back")), (0, false), "{}", plan.all());
}

#[test]
fn several_containers_share_the_calls() {
    let crib = Crib::new();
    let lifecycle = "  concurrency: 1\n  lifecycle: {idleTimeout: 3s, replicas: {min: 1, max: 2}}\n";
    crib.env.repo().write("crib.yaml", &manifest(lifecycle)).commit("several");
    let daemon = crib.daemon();
    wait_for_names(&daemon, &TOOLS);
    wait_for("one each", STARTED, || (crib.seen().len() == 2).then_some(()));
    std::thread::scope(|scope| {
        let tools = ["spoken_slow", "web_slow"].into_iter().cycle().take(8);
        // For longer than another one takes to start.
        let calls: Vec<_> = tools
            .map(|tool| {
                let daemon = &daemon;
                scope.spawn(move || text(&call(daemon, tool, json!({"seconds": 10}))).to_owned())
            })
            .collect();
        wait_for("two each", STARTED, || (crib.seen().len() == 4).then_some(()));
        for call in calls {
            assert_eq!(call.join().unwrap(), "slept 10.0 s", "{}", daemon.log());
        }
    });
    wait_for("one each again", STARTED, || (crib.seen().len() == 2).then_some(()));
    assert_eq!(echoes(&daemon, "one"), ["one", "one"]);
}
