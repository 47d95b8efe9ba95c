//! How the live side follows: drift that is left or corrected, and revisions published as a whole.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{SOON, ask, call, greeter, names, resource, server, text, wait_for_names, wait_for_reason};
use crate::support::{Daemon, TestEnv, wait_for};

/// A server that lists `echo`, once somebody wrote into the pipe `gate` where there is one.
pub(super) fn gated(gate: Option<&str>, more: &str) -> String {
    let python = std::env::var_os("TOOLCRIB_IT_VENV").expect("TOOLCRIB_IT_VENV is not set: run `tests/run`");
    let python = std::path::PathBuf::from(python).join("bin/python").display().to_string();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/weather/server.py");
    let waits = gate.map(|gate| format!("read line < {gate}; ")).unwrap_or_default();
    let script = format!("{waits}exec {python} {fixture}");
    server("weather", &["sh", "-c", &script], &format!("  tools: {{include: [echo]}}\n{more}"))
}

pub(super) fn crib(sync: &str) -> String {
    format!(
        "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Crib\nmetadata: {{name: crib}}\nspec: {{sync: {{{sync}}}}}\n"
    )
}

pub(super) fn pids(env: &TestEnv, daemon: &Daemon) -> Vec<i32> {
    let status = resource(env, daemon, "Server/weather");
    let running = status["instances"].as_array().into_iter().flatten();
    let running = running.filter(|instance| instance["state"] == "running");
    running.filter_map(|instance| instance["id"].as_str()?.split('-').next()?.parse().ok()).collect()
}

fn end(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

#[test]
fn drift_is_told_and_left_until_somebody_asks_or_a_revision_wants_something_else() {
    let env = TestEnv::new();
    let manifest = |more: &str| greeter("hello") + &gated(None, more) + &crib("drift: report");
    env.repo().write("crib.yaml", &manifest("")).commit("weather");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["greet", "weather_echo"]);
    let first = wait_for("an instance", SOON, || pids(&env, &daemon).first().copied());
    end(first);
    let message = wait_for_reason(&env, &daemon, "Server/weather", "Drifted");
    assert!(message.contains("drift: its instance") && message.contains("toolcrib reconcile"), "{message}");
    let status = resource(&env, &daemon, "Server/weather");
    assert!(!status["conditions"].to_string().contains("Progressing"), "{status}");
    let plan = env.run(&["plan", "--admin", daemon.admin_address(), "--exit-code"]);
    assert_eq!(plan.code, 3, "{}", plan.all());
    assert!(plan.stdout.contains("drift: its instance"), "{}", plan.all());
    // It stays listed, says so when it is called, and a commit that does not concern it changes nothing.
    assert_eq!(call(&daemon, "weather_echo", json!({"text": "x"}))["isError"], true);
    env.repo().write("tools.yaml", "").commit("unrelated");
    let unrelated = env.repo().git(&["rev-parse", "HEAD"]);
    wait_for("the commit to be served", SOON, || daemon.log().contains(&unrelated).then_some(()));
    wait_for_reason(&env, &daemon, "Server/weather", "Drifted");
    assert_eq!(pids(&env, &daemon), Vec::<i32>::new());

    let said = env.run(&["reconcile", "--wait", "--state", env.state().to_str().unwrap()]);
    assert_eq!(said.code, 0, "{}\n{}", said.all(), daemon.log());
    assert_eq!(text(&call(&daemon, "weather_echo", json!({"text": "again"}))), "again");
    let plan = env.run(&["plan", "--admin", daemon.admin_address(), "--exit-code"]);
    assert_eq!(plan.code, 0, "{}", plan.all());

    end(pids(&env, &daemon)[0]);
    wait_for_reason(&env, &daemon, "Server/weather", "Drifted");
    env.repo().write("crib.yaml", &manifest("  env: {ANOTHER: one}")).commit("another workload");
    wait_for_reason(&env, &daemon, "Server/weather", "Served");
    assert_eq!(text(&call(&daemon, "weather_echo", json!({"text": "new"}))), "new");

    // Processes end with the daemon: that none runs at its next start is its own doing.
    let (status, log) = daemon.terminate();
    assert!(status.success(), "{log}");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["greet", "weather_echo"]);
}

/// What clients see of the parts of a revision: the description of `greet`, and who else is there.
pub(super) fn seen(daemon: &Daemon) -> (String, Vec<String>) {
    let tools = ask(daemon, "tools/list", json!({}));
    let greet = tools["tools"].as_array().unwrap().iter().find(|tool| tool["name"] == "greet");
    (greet.map(|tool| tool["description"].to_string()).unwrap_or_default(), names(daemon))
}

#[test]
fn a_whole_revision_is_published_in_one_swap_and_removals_at_once() {
    let env = TestEnv::new();
    let pipe = env.home().join("gate");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let gate = pipe.to_str().unwrap();
    let extra = greeter("extra").split("---").nth(1).unwrap().replace("greet", "extra");
    let revision = |word: &str, server: String| greeter(word) + &server + &crib("publish: whole");
    let old = revision("old", gated(None, ""));
    env.repo().write("crib.yaml", &old).write("extra.yaml", &extra).commit("old");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["extra", "greet", "weather_echo"]);
    let before = wait_for("an instance", SOON, || pids(&env, &daemon).first().copied());

    let new = revision("new", gated(Some(gate), "  env: {VERSION: two}"))
        .replace("include: [echo]", "include: [echo, environment]");
    env.repo().write("crib.yaml", &new).git(&["rm", "-q", "extra.yaml"]);
    env.repo().commit("new");
    wait_for_names(&daemon, &["greet", "weather_echo"]);
    let message = wait_for_reason(&env, &daemon, "Tool/greet", "WaitingForOthers");
    assert!(message.contains("Server/weather"), "{message}");
    let status = env.run(&["status", "--admin", daemon.admin_address()]).stdout;
    assert!(
        status.contains("\nseen ") && status.contains("Ready         False    WaitingForOthers"),
        "{status}"
    );
    assert_eq!(seen(&daemon).0, "\"Says old\"");
    assert_eq!(text(&call(&daemon, "greet", json!({"name": "you"}))), "old you\n");
    assert_eq!(text(&call(&daemon, "weather_echo", json!({"text": "still"}))), "still");

    // Taken back before it was published: what serves goes on serving.
    env.repo().git(&["revert", "--no-edit", "HEAD"]);
    wait_for_names(&daemon, &["extra", "greet", "weather_echo"]);
    wait_for_reason(&env, &daemon, "Server/weather", "Served");
    assert!(pids(&env, &daemon).contains(&before), "{}", daemon.log());

    env.repo().git(&["revert", "--no-edit", "HEAD"]);
    wait_for_reason(&env, &daemon, "Tool/greet", "WaitingForOthers");
    let mut opened = wait_for("the server to wait", SOON, || super::open_to_write(&pipe));
    std::io::Write::write_all(&mut opened, b"go\n").unwrap();
    let new = (
        "\"Says new\"".to_owned(),
        ["greet", "weather_echo", "weather_environment"].map(str::to_owned).to_vec(),
    );
    wait_for("the new revision", SOON, || {
        let tools = ask(&daemon, "tools/list", json!({}));
        let all: Vec<&Value> = tools["tools"].as_array().unwrap().iter().collect();
        let is_new = all.iter().any(|tool| tool["description"] == "Says new");
        // Never a mixture of the two.
        assert_eq!(all.len(), if is_new { 3 } else { 2 }, "{tools}");
        is_new.then_some(())
    });
    assert_eq!(seen(&daemon), new);
    let version = call(&daemon, "weather_environment", json!({"name": "VERSION"}));
    assert_eq!(text(&version), "two");
    wait_for("the old instance to go", SOON, || (!pids(&env, &daemon).contains(&before)).then_some(()));
}

#[test]
fn a_commit_cannot_lift_the_protection_that_it_violates() {
    let env = TestEnv::new();
    let guarded = greeter("hello") + &gated(None, "") + &crib("protect: [Server]");
    env.repo().write("crib.yaml", &guarded).commit("protected");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["greet", "weather_echo"]);
    wait_for("the instance", SOON, || pids(&env, &daemon).first().copied());

    let gone = greeter("hello") + &crib("protect: []");
    env.repo().write("crib.yaml", &gone).commit("lifts the protection and removes the server");
    wait_for_names(&daemon, &["greet"]);
    let plan = || env.run(&["plan", "--admin", daemon.admin_address(), "--output", "json"]).json();
    let held = wait_for("the prune to be held", SOON, || {
        let plan = plan()["plan"].take();
        (!plan["approvable"].is_null()).then_some(plan)
    });
    assert!(held["blocked"].to_string().contains("the revision applied before protects"), "{held}");
    let state = env.state();
    let state = state.to_str().unwrap();
    let approve = held["approvable"].as_str().unwrap();
    let said = env.run(&["reconcile", "--wait", "--approve", approve, "--state", state]);
    assert_eq!(said.code, 0, "{}\n{}", said.all(), daemon.log());
    wait_for("the prune", SOON, || daemon.log().contains("stopped").then_some(()));

    // Lifted by a commit of its own, nothing is asked.
    env.repo().write("crib.yaml", &guarded).commit("protected again");
    wait_for_names(&daemon, &["greet", "weather_echo"]);
    let lifted = greeter("hello") + &gated(None, "") + &crib("protect: []");
    env.repo().write("crib.yaml", &lifted).commit("lifts the protection");
    let commit = env.repo().git(&["rev-parse", "HEAD"]);
    wait_for("the commit to be served", SOON, || daemon.log().contains(&commit).then_some(()));
    let said = env.run(&["reconcile", "--wait", "--state", state]);
    assert_eq!(said.code, 0, "{}\n{}", said.all(), daemon.log());
    env.repo().write("crib.yaml", &gone).commit("removes the server");
    wait_for_names(&daemon, &["greet"]);
    wait_for("the second prune", SOON, || (daemon.log().matches("stopped").count() == 2).then_some(()));
}
