//! `lifecycle`: servers that run when somebody calls them, and as many as are called.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::sync::pids;
use super::{SOON, call, greeter, names, resource, server, text, wait_for_names, wait_for_reason};
use crate::support::{Daemon, TestEnv, wait_for};

/// An environment whose server `weather` notes each of its starts.
struct Noted {
    env: TestEnv,
    starts: PathBuf,
}

impl Noted {
    fn new() -> Self {
        let env = TestEnv::new();
        let starts = env.home().join("starts");
        Self { env, starts }
    }

    /// The server, with `more` of its spec; `before` is done by a shell before it starts.
    fn server(&self, before: &str, more: &str) -> String {
        let python =
            std::env::var_os("TOOLCRIB_IT_VENV").expect("TOOLCRIB_IT_VENV is not set: run `tests/run`");
        let python = Path::new(&python).join("bin/python").display().to_string();
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/weather/server.py");
        let script = format!("echo start >> {}; {before} exec {python} {fixture}", self.starts.display());
        server(
            "weather",
            &["sh", "-c", &script],
            &format!("  tools: {{include: [echo, slow, environment]}}\n{more}"),
        )
    }

    fn commit(&self, before: &str, more: &str) {
        let manifest = greeter("hello") + &self.server(before, more);
        self.env.repo().write("crib.yaml", &manifest).commit("weather");
    }

    #[expect(clippy::disallowed_methods, reason = "reads what the server noted")]
    fn starts(&self) -> usize {
        std::fs::read_to_string(&self.starts).map_or(0, |text| text.lines().count())
    }

    /// Waits until none of it runs, which is well.
    fn wait_for_rest(&self, daemon: &Daemon) {
        wait_for("the server to rest", SOON, || {
            let status = resource(&self.env, daemon, "Server/weather");
            let none = status["instances"].as_array().is_none_or(Vec::is_empty);
            (none && status.to_string().contains("\"Idle\"")).then_some(())
        });
        wait_for_reason(&self.env, daemon, "Server/weather", "Idle");
    }
}

const ON_DEMAND: &str = "  lifecycle: {mode: on-demand, idleTimeout: 1s}\n";
const TOOLS: [&str; 4] = ["greet", "weather_echo", "weather_environment", "weather_slow"];

#[test]
fn a_server_on_demand_runs_while_it_is_called() {
    let noted = Noted::new();
    noted.commit("", ON_DEMAND);
    let daemon = noted.env.daemon(&[]);
    // Nobody knows what it offers: it is asked once, and ends.
    wait_for_names(&daemon, &TOOLS);
    noted.wait_for_rest(&daemon);
    assert_eq!(noted.starts(), 1);
    let plan = noted.env.run(&["plan", "--admin", daemon.admin_address(), "--exit-code"]);
    assert_eq!((plan.code, plan.stdout.contains("drift")), (0, false), "{}", plan.all());

    // Calls that come together share one start, and are all answered.
    let said: Vec<String> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..6)
            .map(|at| {
                let daemon = &daemon;
                scope.spawn(move || {
                    text(&call(daemon, "weather_echo", json!({"text": at.to_string()}))).to_owned()
                })
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(said, ["0", "1", "2", "3", "4", "5"]);
    assert_eq!((noted.starts(), pids(&noted.env, &daemon).len()), (2, 1), "{}", daemon.log());
    // A call that takes longer than nobody may be there keeps it.
    assert_eq!(text(&call(&daemon, "weather_slow", json!({"seconds": 2.5}))), "slept 2.5 s");
    assert_eq!(noted.starts(), 2);
    noted.wait_for_rest(&daemon);
    assert_eq!(names(&daemon), TOOLS);

    // After a restart it is listed as it was, without running.
    let (status, log) = daemon.terminate();
    assert!(status.success(), "{log}");
    let daemon = noted.env.daemon(&[]);
    wait_for_names(&daemon, &TOOLS);
    noted.wait_for_rest(&daemon);
    assert_eq!(noted.starts(), 2, "{}", daemon.log());
    assert_eq!(text(&call(&daemon, "weather_echo", json!({"text": "again"}))), "again");
    assert_eq!(noted.starts(), 3);
}
