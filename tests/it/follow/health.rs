//! Servers that stop answering and do not end: found out by `health`, told, and started anew.

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::json;

use super::sync::{gated, pids};
use super::{SOON, call, greeter, open_to_write, resource, text, wait_for_names, wait_for_reason};
use crate::support::{TestEnv, wait_for};

/// With time for an answer that a busy machine takes as well: who stands still gives none at all.
const OFTEN: &str = "health: {interval: 1s, timeout: 5s, failureThreshold: 2}";

/// A process group that stands still until this is dropped.
struct Frozen(i32);

impl Frozen {
    fn new(group: i32) -> Self {
        killpg(Pid::from_raw(group), Signal::SIGSTOP).unwrap();
        Self(group)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // It may be gone.
        let _ = killpg(Pid::from_raw(self.0), Signal::SIGCONT);
    }
}

#[test]
fn a_server_that_stands_still_is_told_and_started_anew() {
    let env = TestEnv::new();
    let pipe = env.home().join("gate");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let open = || {
        let mut opened = wait_for("the server to wait", SOON, || open_to_write(&pipe));
        std::io::Write::write_all(&mut opened, b"go\n").unwrap();
    };
    let manifest = greeter("hello") + &gated(pipe.to_str(), &format!("  {OFTEN}\n"));
    env.repo().write("crib.yaml", &manifest).commit("weather");
    let daemon = env.daemon(&[]);
    open();
    wait_for_names(&daemon, &["greet", "weather_echo"]);
    let first = wait_for("an instance", SOON, || pids(&env, &daemon).first().copied());

    let frozen = Frozen::new(first);
    // The next one waits to be let go on: until then its failure is told.
    let message = wait_for_reason(&env, &daemon, "Server/weather", "Unhealthy");
    assert!(message.starts_with("2 health checks in a row failed, the last one: "), "{message}");
    let status = resource(&env, &daemon, "Server/weather");
    let healthy = status["conditions"].as_array().unwrap().iter().find(|one| one["type"] == "Healthy");
    assert_eq!(
        (&healthy.unwrap()["status"], &healthy.unwrap()["reason"]),
        (&json!("False"), &json!("Unhealthy"))
    );
    assert_eq!(text(&call(&daemon, "greet", json!({"name": "you"}))), "hello you\n", "others go on");
    open();
    wait_for_reason(&env, &daemon, "Server/weather", "Served");
    assert_eq!(text(&call(&daemon, "weather_echo", json!({"text": "again"}))), "again");
    wait_for("the old one to go", SOON, || (!pids(&env, &daemon).contains(&first)).then_some(()));
    drop(frozen);
    let log = daemon.log();
    assert_eq!(log.matches("unhealthy: ").count(), 1, "{log}");
}

#[test]
fn a_server_elsewhere_that_stands_still_is_connected_to_again_when_it_goes_on() {
    let (far, near) = (TestEnv::new(), TestEnv::new());
    far.repo().write("tools.yaml", &greeter("hello")).commit("hello");
    let upstream = far.daemon(&[]);
    let manifest = format!(
        "apiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {{name: far}}\nspec:\n  source: {{url: \"{}\"}}\n  startupTimeout: 5s\n  {OFTEN}\n",
        upstream.mcp
    );
    near.repo().write("far.yaml", &manifest).commit("far");
    let daemon = near.daemon(&[]);
    wait_for_names(&daemon, &["far_greet"]);
    let pid = Pid::from_raw(upstream.pid());
    kill(pid, Signal::SIGSTOP).unwrap();
    let told = wait_for("the silence to be told", SOON, || {
        let status = resource(&near, &daemon, "Server/far");
        let healthy = status["conditions"].as_array()?.iter().find(|one| one["type"] == "Healthy")?.clone();
        (healthy["status"] == "False").then_some(healthy)
    });
    kill(pid, Signal::SIGCONT).unwrap();
    assert!(daemon.log().contains("unhealthy: 2 health checks in a row failed"), "{told}\n{}", daemon.log());
    let said = wait_for("an answer", SOON, || {
        let result = call(&daemon, "far_greet", json!({"name": "Ada"}));
        (result["isError"] != true && result["code"].is_null()).then(|| text(&result).to_owned())
    });
    assert_eq!(said, "hello Ada\n");
}
