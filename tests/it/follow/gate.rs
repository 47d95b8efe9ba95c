//! `sync.healthGate`: a revision that does not turn healthy in time is taken back as a whole.

use serde_json::{Value, json};

use super::sync::{crib, gated, seen};
use super::{SOON, call, greeter, text, wait_for_names};
use crate::support::{Daemon, TestEnv, wait_for};

/// The status of the daemon, as JSON.
fn status(env: &TestEnv, daemon: &Daemon) -> Value {
    env.run(&["status", "--admin", daemon.admin_address(), "--output", "json"]).json()
}

/// The message of the daemon's `Ready`, once it has this reason.
fn ready(env: &TestEnv, daemon: &Daemon, reason: &str) -> String {
    wait_for(&format!("the daemon to be {reason}"), SOON, || {
        let status = status(env, daemon);
        let ready = status["conditions"].as_array()?.iter().find(|one| one["type"] == "Ready")?.clone();
        (ready["reason"] == reason).then(|| ready["message"].as_str().unwrap_or_default().to_owned())
    })
}

fn says(daemon: &Daemon, word: &str) {
    wait_for(word, SOON, || (seen(daemon).0 == format!("\"Says {word}\"")).then_some(()));
}

#[test]
fn a_revision_that_is_not_healthy_in_time_is_taken_back_as_a_whole() {
    let env = TestEnv::new();
    let pipe = env.home().join("gate");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Waits for a word that nobody says.
    let mute = gated(pipe.to_str(), "");
    let gate = crib("healthGate: 3s");

    // There is nothing to go back to yet.
    env.repo().write("crib.yaml", &(greeter("first") + &mute + &gate)).commit("never healthy");
    let daemon = env.daemon(&[]);
    says(&daemon, "first");
    env.repo().write("crib.yaml", &(greeter("good") + &gated(None, "") + &gate)).commit("good");
    wait_for_names(&daemon, &["greet", "weather_echo"]);
    says(&daemon, "good");
    let good = env.repo().git(&["rev-parse", "HEAD"]);

    env.repo().write("crib.yaml", &(greeter("bad") + &mute + &gate)).commit("bad");
    says(&daemon, "bad");
    // Another commit that leaves it as it is gets time of its own, and is no better for that.
    env.repo().write("crib.yaml", &(greeter("worse") + &mute + &gate)).commit("worse");
    let bad = env.repo().git(&["rev-parse", "HEAD"]);
    says(&daemon, "worse");
    let message = ready(&env, &daemon, "HealthGate");
    for part in
        ["did not turn healthy within 3 s (`sync.healthGate`): Server/weather: ", "toolcrib reconcile"]
    {
        assert!(message.contains(part), "{message}");
    }
    says(&daemon, "good");
    assert_eq!(text(&call(&daemon, "weather_echo", json!({"text": "still"}))), "still");
    let raw = status(&env, &daemon);
    let commit = |which: &str| raw[which]["commit"].as_str().unwrap().to_owned();
    let expected = |commit: &str| ["[COMMIT]".to_owned(), commit.to_owned()];
    assert!(
        expected(&good).contains(&commit("served")) && expected(&bad).contains(&commit("attempted")),
        "{raw}"
    );

    // It stays so, also after a restart, until somebody asks for another try.
    let (ended, log) = daemon.terminate();
    assert!(ended.success() && log.contains("did not turn healthy"), "{log}");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["greet", "weather_echo"]);
    says(&daemon, "good");
    ready(&env, &daemon, "HealthGate");
    let state = env.state();
    let asked = env.run(&["reconcile", "--state", state.to_str().unwrap()]);
    assert_eq!(asked.code, 0, "{}", asked.all());
    says(&daemon, "worse");
    ready(&env, &daemon, "HealthGate");
    says(&daemon, "good");

    // The gate of the revision that was healthy holds for one that lifts it, and a fault is not healthy.
    let lifted = greeter("lifted")
        + "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Tool\nmetadata: {name: x}\nspec: {nonsense: 1}\n";
    env.repo().write("crib.yaml", &(lifted + &gated(None, ""))).commit("lifts the gate, with a fault");
    says(&daemon, "lifted");
    let message = ready(&env, &daemon, "HealthGate");
    assert!(message.contains("Tool/x"), "{message}");
    says(&daemon, "good");

    env.repo().write("crib.yaml", &(greeter("better") + &gated(None, ""))).commit("better");
    says(&daemon, "better");
    ready(&env, &daemon, "Served");
    let log = daemon.log();
    assert_eq!(log.matches("did not turn healthy").count(), 2, "{log}");
}
