//! `verify`: what nobody signed who may is not served, whatever it says of itself.

use serde_json::{Value, json};

use super::{SOON, ask, greeter, names, wait_for_names};
use crate::git::signed::Key;
use crate::support::{Daemon, TestEnv, wait_for};

const VERIFY: &str = "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Crib\nmetadata: {name: crib}\nspec: {verify: {allowedSigners: signers}}\n";

fn status(env: &TestEnv, daemon: &Daemon) -> Value {
    env.run(&["status", "--admin", daemon.admin_address(), "--output", "json"]).json()
}

fn ready(status: &Value) -> (&str, &str) {
    let conditions = status["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
    (ready["reason"].as_str().unwrap(), ready["message"].as_str().unwrap())
}

/// Waits until the daemon as a whole is so, for a reason that says this.
#[track_caller]
fn wait_for_ready(env: &TestEnv, daemon: &Daemon, reason: &str, says: &str) -> Value {
    wait_for(&format!("{reason}: {says}"), SOON, || {
        let status = status(env, daemon);
        let (now, message) = ready(&status);
        (now == reason && message.contains(says)).then_some(status)
    })
}

/// What the only tool says, by its description.
fn word(daemon: &Daemon) -> String {
    ask(daemon, "tools/list", json!({}))["tools"][0]["description"].as_str().unwrap().to_owned()
}

#[track_caller]
fn wait_for_word(daemon: &Daemon, expected: &str) {
    wait_for(expected, SOON, || (word(daemon) == format!("Says {expected}")).then_some(()));
}

#[test]
fn only_signed_revisions_are_served() {
    let env = TestEnv::new();
    let (ada, eve) = (Key::new(env.home(), "ed25519"), Key::new(env.home(), "ed25519"));
    let repo = env.repo();
    repo.write("crib.yaml", VERIFY).write("signers", &ada.allowed("ada@example.com"));
    repo.write("tools.yaml", &greeter("one"));
    ada.commit(repo, "signed");
    let daemon = env.daemon(&[]);
    assert_eq!(word(&daemon), "Says one");
    let now = wait_for_ready(&env, &daemon, "Served", "");
    assert!(now["signedBy"].as_str().unwrap().starts_with("ada@example.com (SHA256:"), "{now}");

    // By nobody, by a stranger, without the rule itself, with a stranger among those who may.
    repo.write("tools.yaml", &greeter("two")).commit("unsigned");
    wait_for_ready(&env, &daemon, "VerificationFailed", "is not signed");
    eve.commit(repo, "by a stranger");
    wait_for_ready(&env, &daemon, "VerificationFailed", "nobody's who may sign");
    repo.write("crib.yaml", "").commit("unsigned, and no rule any more");
    wait_for_ready(&env, &daemon, "VerificationFailed", "is not signed");
    repo.write("crib.yaml", VERIFY).write("signers", &eve.allowed("eve@example.com"));
    eve.commit(repo, "a stranger lets herself in");
    let now = wait_for_ready(&env, &daemon, "VerificationFailed", "nobody's who may sign");
    assert_eq!(word(&daemon), "Says one");
    assert!(now["signedBy"].as_str().unwrap().starts_with("ada@"), "{now}");

    // After a start it is still the last good one, and the rule is known.
    let (ended, _) = daemon.terminate();
    assert!(ended.success());
    let daemon = env.daemon(&[]);
    assert_eq!(word(&daemon), "Says one");
    wait_for_ready(&env, &daemon, "VerificationFailed", "nobody's who may sign");

    // One who may hands over; from then on the other signs.
    ada.commit(repo, "ada lets eve sign");
    wait_for_word(&daemon, "two");
    repo.write("tools.yaml", &greeter("three"));
    ada.commit(repo, "ada may not any more");
    wait_for_ready(&env, &daemon, "VerificationFailed", "nobody's who may sign");
    eve.commit(repo, "eve may");
    wait_for_word(&daemon, "three");
    // And one who may ends it.
    repo.write("crib.yaml", "");
    eve.commit(repo, "no rule any more");
    wait_for_ready(&env, &daemon, "Served", "");
    repo.write("tools.yaml", &greeter("four")).commit("unsigned");
    wait_for_word(&daemon, "four");
}

#[test]
fn the_commit_that_brings_the_rule_keeps_it() {
    let env = TestEnv::new();
    let ada = Key::new(env.home(), "ed25519");
    let repo = env.repo();
    repo.write("tools.yaml", &greeter("one")).commit("no rule");
    let daemon = env.daemon(&[]);
    repo.write("crib.yaml", VERIFY).write("signers", &ada.allowed("ada@example.com"));
    repo.write("tools.yaml", &greeter("two")).commit("a rule, unsigned");
    wait_for_ready(&env, &daemon, "VerificationFailed", "brings `verify` in");
    assert_eq!(word(&daemon), "Says one");
    ada.commit(repo, "signed");
    wait_for_word(&daemon, "two");
}

#[test]
fn no_repository_loosens_the_signers_of_the_operator() {
    let env = TestEnv::new();
    let (ada, eve) = (Key::new(env.home(), "ed25519"), Key::new(env.home(), "ed25519"));
    let floor = env.home().join("signers");
    std::fs::write(&floor, ada.allowed("ada@example.com")).unwrap();
    let repo = env.repo();
    repo.write("tools.yaml", &greeter("one"));
    ada.commit(repo, "signed");
    let flags = ["--verify-signers", floor.to_str().unwrap()];
    let daemon = env.daemon(&flags);
    assert_eq!(word(&daemon), "Says one");
    repo.write("crib.yaml", VERIFY).write("signers", &eve.allowed("eve@example.com"));
    repo.write("tools.yaml", &greeter("two"));
    eve.commit(repo, "with signers of its own");
    wait_for_ready(&env, &daemon, "VerificationFailed", "--verify-signers");
    let plan = env.run(&[&["plan", "--repo", ".", "--state", "elsewhere"], flags.as_slice()].concat());
    assert_ne!(plan.code, 0, "{}", plan.all());
    assert!(plan.stderr.contains("is not followed"), "{}", plan.all());
    assert_eq!(names(&daemon), ["greet"]);
    repo.git(&["rm", "-q", "crib.yaml", "signers"]);
    ada.commit(repo, "signed");
    wait_for_word(&daemon, "two");
    wait_for_names(&daemon, &["greet"]);

    std::fs::write(&floor, "ada@example.com cert-authority ssh-ed25519 AAAA").unwrap();
    let refused = env.run(&[&["run", "--repo", "."], flags.as_slice()].concat());
    assert!(refused.stderr.contains("certificates are not supported"), "{}", refused.all());
}
