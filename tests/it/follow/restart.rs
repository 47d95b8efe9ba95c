//! Ends and beginnings: in order, or killed at any point.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{SOON, call, greeter, server, text, wait_for_names};
use crate::support::{TestEnv, wait_for};

fn weather() -> String {
    let python = std::env::var_os("TOOLCRIB_IT_VENV").expect("TOOLCRIB_IT_VENV is not set: run `tests/run`");
    let python = std::path::PathBuf::from(python).join("bin/python").display().to_string();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/weather/server.py");
    greeter("hello") + &server("weather", &[&python, script], "  tools: {include: [echo]}")
}

/// The instances of `Server/weather`, as process ids.
fn instances(env: &TestEnv, daemon: &crate::support::Daemon) -> Vec<i32> {
    let status = super::resource(env, daemon, "Server/weather");
    let id = |instance: &Value| instance["id"].as_str()?.split('-').next()?.parse().ok();
    status["instances"].as_array().into_iter().flatten().filter_map(id).collect()
}

fn alive(pid: i32) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_ok()
}

#[test]
fn what_dies_is_started_again() {
    let env = TestEnv::new();
    env.repo().write("crib.yaml", &weather()).commit("weather");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["greet", "weather_echo"]);
    let first = wait_for("an instance", SOON, || instances(&env, &daemon).first().copied());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), Signal::SIGKILL).unwrap();
    let second = wait_for("another instance", SOON, || {
        instances(&env, &daemon).into_iter().find(|pid| *pid != first && alive(*pid))
    });
    wait_for("an answer", SOON, || {
        let result = call(&daemon, "weather_echo", json!({"text": "again"}));
        (result["isError"] != true && text(&result) == "again").then_some(())
    });
    assert_ne!(first, second);
    wait_for("the old one to be gone", SOON, || (!alive(first)).then_some(()));
}

#[test]
fn the_next_start_after_any_end_leaves_one_of_everything() {
    let env = TestEnv::new();
    env.repo().write("crib.yaml", &weather()).commit("weather");
    let mut before = Vec::new();
    for end in ["in order", "killed", "in order"] {
        let daemon = env.daemon(&[]);
        wait_for_names(&daemon, &["greet", "weather_echo"]);
        let now = wait_for("an instance", SOON, || {
            let now = instances(&env, &daemon);
            (now.len() == 1).then_some(now)
        });
        for old in &before {
            wait_for("what an earlier daemon started to be gone", SOON, || (!alive(*old)).then_some(()));
        }
        assert_eq!(text(&call(&daemon, "weather_echo", json!({"text": end}))), end);
        if end == "killed" {
            daemon.kill();
        } else {
            let (status, log) = daemon.terminate();
            assert!(status.success(), "{log}");
        }
        before = now;
    }
    wait_for("the last one to be gone", SOON, || (!before.iter().copied().any(alive)).then_some(()));
}

#[test]
fn two_daemons_do_not_share_a_state_directory() {
    let env = TestEnv::new();
    env.repo().write("tools.yaml", &greeter("hello")).commit("hello");
    let daemon = env.daemon(&[]);
    let state = env.state();
    let said = env.run(&[
        "run",
        "--repo",
        ".",
        "--state",
        state.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ]);
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("another"), "{}", said.all());
    assert!(said.stderr.contains("hint:"), "{}", said.all());
    drop(daemon);
}

#[test]
fn a_rotated_secret_restarts_what_uses_it_and_shows_nowhere_else() {
    let env = TestEnv::new();
    let secret = env.home().join("token");
    std::fs::write(&secret, "canary-one").unwrap();
    let declared = format!("  env: {{TOKEN: {{secret: {{file: {}}}}}}}\n", secret.display());
    let manifest = weather().replace("  tools: {include: [echo]}", "  tools: {include: [environment]}");
    env.repo().write("crib.yaml", &(manifest + &declared)).commit("weather");
    let daemon = env.daemon(&["--interval", "1s", "--log", "debug"]);
    wait_for_names(&daemon, &["greet", "weather_environment"]);
    let token = || {
        let result = call(&daemon, "weather_environment", json!({"name": "TOKEN"}));
        (result["isError"] != true).then(|| text(&result).to_owned())
    };
    assert_eq!(token().unwrap(), "canary-one");
    std::fs::write(&secret, "canary-two").unwrap();
    wait_for("the new secret", SOON, || (token()? == "canary-two").then_some(()));
    let status = env.run(&["status", "--admin", daemon.admin_address(), "--output", "json"]);
    let plan = env.run(&["plan", "--admin", daemon.admin_address()]);
    let (_, log) = daemon.terminate();
    let store = String::from_utf8_lossy(&std::fs::read(env.state().join("state.redb")).unwrap()).into_owned();
    for (what, text) in [("log", log), ("status", status.all()), ("plan", plan.all()), ("store", store)] {
        assert!(!text.contains("canary-"), "{what}");
    }
}
