//! Killed at any point of a deployment: the next start converges, nothing is there twice and nothing
//! is forgotten.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};

use super::daemon::{Crib, STARTED};
use crate::follow::{call, text, wait_for_names};
use crate::support::wait_for;

const SERVERS: [&str; 2] = ["spoken", "web"];

/// A server over each transport, in a version of its own.
fn manifest(version: usize) -> String {
    let server = |name: &str, more: &str| {
        format!(
            "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {{name: {name}}}\nspec:\n  source: {{image: 'toolcrib.test/fastmcp:1'}}\n  startupTimeout: 3m\n  tools: {{include: [environment]}}\n{more}\n"
        )
    };
    let runner =
        "apiVersion: toolcrib.dev/v1alpha1\nkind: Runner\nmetadata: {name: local}\nspec: {docker: {}}\n";
    let transport = "  transport: {type: streamable-http, port: 8000}\n";
    runner.to_owned()
        + &server(SERVERS[0], &format!("  env: {{VERSION: v{version}}}"))
        + &server(SERVERS[1], &format!("{transport}  env: {{VERSION: v{version}, MCP_TRANSPORT: http}}"))
}

/// A daemon that nobody waits for. Killed when dropped.
struct Doomed(Child);

impl Doomed {
    fn start(crib: &Crib) -> Self {
        let mut command = crib.command();
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// When a daemon that deploys a new version is killed.
#[derive(Clone, Copy, Debug)]
enum Point {
    /// Something new is there, running or not.
    Made,
    OneRuns,
    BothRun,
    /// The first of the version before is gone.
    Replaced,
}

impl Point {
    /// `before` and `now`: ids with whether they run.
    fn is_reached(self, before: &BTreeSet<(String, bool)>, now: &BTreeSet<(String, bool)>) -> bool {
        let ids = |all: &BTreeSet<(String, bool)>| -> BTreeSet<String> {
            all.iter().map(|(id, _)| id.clone()).collect()
        };
        let (old, there) = (ids(before), ids(now));
        let running = now.iter().filter(|(id, runs)| *runs && !old.contains(id)).count();
        match self {
            Self::Made => there.difference(&old).next().is_some(),
            Self::OneRuns => running >= 1,
            Self::BothRun => running >= 2,
            Self::Replaced => old.difference(&there).next().is_some(),
        }
    }
}

#[test]
fn a_daemon_killed_at_any_point_leaves_nothing_that_the_next_start_does_not_put_right() {
    let crib = Crib::new();
    let points = [Point::Made, Point::OneRuns, Point::BothRun, Point::Made, Point::Replaced, Point::OneRuns];
    for (version, point) in points.into_iter().enumerate() {
        crib.env.repo().write("crib.yaml", &manifest(version)).commit("another version");
        let before = crib.seen();
        let daemon = Doomed::start(&crib);
        wait_for(&format!("{point:?} of version {version}"), STARTED, || {
            point.is_reached(&before, &crib.seen()).then_some(())
        });
        drop(daemon);
    }
    let daemon = crib.daemon();
    wait_for_names(&daemon, &["spoken_environment", "web_environment"]);
    let version = || {
        ["spoken_environment", "web_environment"].map(|tool| {
            let result = call(&daemon, tool, serde_json::json!({"name": "VERSION"}));
            (result["isError"] != true).then(|| text(&result).to_owned())
        })
    };
    let last = Some(format!("v{}", points.len() - 1));
    wait_for("the last version", STARTED, || (version() == [last.clone(), last.clone()]).then_some(()));
    crib.settled(&daemon, &SERVERS);
    // Neither servers that nobody knows nor what they were made with.
    wait_for("nothing else", STARTED, || (crib.seen().len() == SERVERS.len()).then_some(()));
    let plan = crib.env.run(&["plan", "--admin", daemon.admin_address(), "--exit-code"]);
    assert_eq!((plan.code, plan.stdout.contains("held back")), (0, false), "{}", plan.all());
}
