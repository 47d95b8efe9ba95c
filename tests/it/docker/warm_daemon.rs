//! Tools with containers that wait for calls, on the built daemon.

use std::collections::BTreeSet;

use serde_json::json;

use super::daemon::{Crib, STARTED};
use crate::follow::{call, text, wait_for_names};
use crate::support::{Daemon, wait_for};

const CANARY: &str = "canary-16180";

pub(super) const HEAD: &str =
    "apiVersion: toolcrib.dev/v1alpha1\nkind: Runner\nmetadata: {name: local}\nspec: {docker: {}}\n";

/// A tool of a shell.
pub(super) fn tool(name: &str, script: &str, more: &str) -> String {
    let script = json!(script);
    format!(
        "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Tool\nmetadata: {{name: {name}}}\nspec:\n  description: Runs.\n  image: 'toolcrib.test/busybox:1'\n  command: [sh, -c, {script}]\n{more}"
    )
}

pub(super) fn ids(crib: &Crib, role: &str) -> BTreeSet<String> {
    crib.of_role(role).into_iter().collect()
}

/// Waits until so many containers wait, as the daemon says; which.
pub(super) fn waiting(crib: &Crib, daemon: &Daemon, count: u64) -> BTreeSet<String> {
    wait_for(&format!("{count} containers that wait"), STARTED, || {
        let there = ids(crib, "warm");
        (daemon.metric("warm_containers") == count && there.len() as u64 == count).then_some(there)
    })
}

pub(super) fn commit(crib: &Crib, manifest: &str) {
    crib.env.repo().write("crib.yaml", manifest).commit("another");
}

/// What the records say that calls of a tool ran in, the newest first.
fn starts(crib: &Crib, daemon: &Daemon) -> Vec<String> {
    let said = crib.env.run(&["audit", "--admin", daemon.admin_address(), "--output", "json"]);
    assert_eq!(said.code, 0, "{}", said.all());
    let records = said.json();
    let records = records.as_array().unwrap_or_else(|| panic!("{records}")).clone();
    records.iter().map(|record| record["start"].as_str().unwrap_or("-").to_owned()).collect()
}

/// Says how many wait.
fn told(crib: &Crib, daemon: &Daemon) {
    let status = crib.env.run(&["status", "--admin", daemon.admin_address()]);
    assert!(
        status.stdout.contains("Tool/say: 2 of 2 wait for calls, 0 start, 0 serve one"),
        "{}",
        status.all()
    );
    let why = crib.env.run(&["why", "say", "--admin", daemon.admin_address()]);
    assert!(why.stdout.contains("its containers are started ahead: 2 of 2 wait"), "{}", why.all());
}

#[test]
fn calls_find_a_container_that_waits_and_another_takes_its_place() {
    let crib = Crib::new();
    let script = |word: &str| format!("echo {word} $(hostname) $TOKEN");
    let manifest = |word: &str, more: &str| {
        let secret = "  env: {TOKEN: {secret: {env: IT_TOKEN}}}\n";
        HEAD.to_owned()
            + &tool("say", &script(word), &format!("{secret}{more}"))
            + &tool("plain", "echo plain", "")
    };
    commit(&crib, &manifest("first", "  warm: 2\n"));
    let daemon = crib.daemon();
    wait_for_names(&daemon, &["plain", "say"]);
    let before = waiting(&crib, &daemon, 2);
    let said = |daemon: &Daemon| {
        let result = call(daemon, "say", json!({}));
        assert_eq!(result["isError"], false, "{result}");
        let words: Vec<String> = text(&result).split_whitespace().map(str::to_owned).collect();
        assert_eq!(words[2], "[secret]", "{result}");
        (words[0].clone(), words[1].clone())
    };
    told(&crib, &daemon);
    let (word, host) = said(&daemon);
    assert!(word == "first" && before.iter().any(|id| id.starts_with(&host)), "{host}: {before:?}");
    assert_eq!(text(&call(&daemon, "plain", json!({}))), "plain\n");
    let after = waiting(&crib, &daemon, 2);
    assert_eq!(after.intersection(&before).count(), 1, "{before:?} {after:?}");
    assert!(!after.iter().any(|id| id.starts_with(&host)));

    // More at once than there are: those that find none start their own.
    let hosts = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..5).map(|_| scope.spawn(|| said(&daemon).1)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect::<BTreeSet<String>>()
    });
    assert_eq!(hosts.len(), 5, "each has its own: {hosts:?}");
    let mut starts = starts(&crib, &daemon);
    starts.sort();
    let cold = starts.iter().filter(|start| *start == "cold").count();
    assert!(starts[0] == "-" && starts.len() == 7 && (1..=3).contains(&cold), "{starts:?}");

    // A container that dies is replaced.
    let before = waiting(&crib, &daemon, 2);
    let victim = before.iter().next().unwrap();
    crib.kill(victim);
    let after = wait_for("another in its place", STARTED, || {
        let now = ids(&crib, "warm");
        (now.len() == 2 && !now.contains(victim)).then_some(now)
    });
    assert_eq!(after.intersection(&before).count(), 1);

    // Another version: the former ones serve no call, and go.
    waiting(&crib, &daemon, 2);
    let former = ids(&crib, "warm");
    commit(&crib, &manifest("second", "  warm: 1\n"));
    wait_for("the new version", STARTED, || (said(&daemon).0 == "second").then_some(()));
    let now = waiting(&crib, &daemon, 1);
    assert!(now.is_disjoint(&former));
    assert_eq!(said(&daemon).0, "second");

    // Killed: they go by themselves or with the next start, which finds nothing declared.
    waiting(&crib, &daemon, 1);
    assert!(!daemon.log().contains(CANARY), "{}", daemon.log());
    daemon.kill();
    commit(&crib, &manifest("third", ""));
    let daemon = crib.daemon();
    wait_for_names(&daemon, &["plain", "say"]);
    wait_for("nothing that waits", STARTED, || ids(&crib, "warm").is_empty().then_some(()));
    assert_eq!(said(&daemon).0, "third");
    assert_eq!(daemon.metric("warm_containers"), 0);

    // After an end in order nothing is left at all.
    commit(&crib, &manifest("fourth", "  warm: 2\n"));
    wait_for("the new version", STARTED, || (said(&daemon).0 == "fourth").then_some(()));
    waiting(&crib, &daemon, 2);
    let (status, log) = daemon.terminate();
    assert!(status.success() && !log.contains(CANARY), "{log}");
    assert!(crib.seen().is_empty(), "{:?}", crib.seen());
}

/// Toolcrib's own client, as whoever has the token.
fn call_as(crib: &Crib, daemon: &Daemon, token: &str, tool: &str) -> String {
    let mut command = crib.env.command(&["call", tool, "--url", &daemon.mcp]);
    let said = command.env("TOOLCRIB_TOKEN", token).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap()
}

#[test]
fn a_container_serves_again_whom_it_may_and_holds_nothing_of_before() {
    let crib = Crib::new();
    let script = "hostname; cat /tmp/left 2>/dev/null; ps -o comm | grep -c '^sleep'; echo of-before >/tmp/left; sleep 1000 & true";
    let secret = "  files: {/run/toolcrib/token: {secret: {env: IT_TOKEN}}}\n";
    let manifest = HEAD.to_owned()
        + &tool("mine", script, &format!("{secret}  warm: 1\n  isolation: principal\n"))
        + &tool("ours", script, "  warm: 1\n  isolation: tool\n");
    commit(&crib, &manifest);
    let made = |name: &str| {
        let said = crib.env.run(&["token", name, "--output", "json"]).json();
        (said["token"].as_str().unwrap().to_owned(), said["line"].as_str().unwrap().to_owned())
    };
    let ((ada, ada_line), (eve, eve_line)) = (made("ada"), made("eve"));
    let tokens = crib.env.home().join("tokens");
    std::fs::write(&tokens, format!("{ada_line}\n{eve_line}\n")).unwrap();
    let mut command = crib.command();
    command.args(["--tokens-file", tokens.to_str().unwrap()]);
    let daemon = Daemon::start(command);
    waiting(&crib, &daemon, 2);
    // Host, and whether anything of an earlier call was seen.
    let said = |token: &str, tool: &str| {
        let printed = call_as(&crib, &daemon, token, tool);
        assert!(!printed.contains("of-before") && !printed.contains(CANARY), "{printed}");
        let lines: Vec<&str> = printed.lines().collect();
        assert_eq!(*lines.last().unwrap(), "0", "{printed}");
        lines[0].to_owned()
    };
    // All may share one of a tool.
    let first = said(&ada, "ours");
    assert_eq!((said(&eve, "ours"), said(&ada, "ours")), (first.clone(), first));

    // Of a principal, only its own.
    let hers = said(&ada, "mine");
    waiting(&crib, &daemon, 3);
    let eves = said(&eve, "mine");
    assert_ne!(eves, hers);
    waiting(&crib, &daemon, 4);
    for _ in 0..3 {
        assert_eq!((said(&ada, "mine"), said(&eve, "mine")), (hers.clone(), eves.clone()));
        waiting(&crib, &daemon, 4);
    }

    // What was used goes when the rules are others than they were.
    let rules = "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Policy\nmetadata: {name: p}\nspec:\n  package: p\n  rego: |\n    package p\n    deny contains \"never\" if {\n      false\n    }\n";
    commit(&crib, &(manifest + rules));
    wait_for("another container", STARTED, || {
        let now = said(&ada, "mine");
        (now != hers && now != eves).then_some(())
    });
    let (status, log) = daemon.terminate();
    assert!(status.success() && !log.contains(CANARY), "{log}");
    assert!(crib.seen().is_empty(), "{:?}", crib.seen());
}
