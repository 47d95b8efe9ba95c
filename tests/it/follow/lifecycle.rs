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
        let script = format!("{before} echo start >> {}; exec {python} {fixture}", self.starts.display());
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

    /// Waits until the last commit is served.
    fn wait_for_commit(&self, daemon: &Daemon) {
        let commit = self.env.repo().git(&["rev-parse", "HEAD"]);
        wait_for("the commit to be served", SOON, || daemon.log().contains(&commit).then_some(()));
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

    // Calls that come together share one start, and are all answered. One of them takes longer than nobody may
    // be there, and keeps it.
    std::thread::scope(|scope| {
        let daemon = &daemon;
        let slow = scope.spawn(move || text(&call(daemon, "weather_slow", json!({"seconds": 5}))).to_owned());
        let calls: Vec<_> = (0..6)
            .map(|at| {
                scope.spawn(move || {
                    text(&call(daemon, "weather_echo", json!({"text": at.to_string()}))).to_owned()
                })
            })
            .collect();
        let said: Vec<String> = calls.into_iter().map(|call| call.join().unwrap()).collect();
        assert_eq!(said, ["0", "1", "2", "3", "4", "5"]);
        assert_eq!((noted.starts(), pids(&noted.env, daemon).len()), (2, 1), "{}", daemon.log());
        assert_eq!(slow.join().unwrap(), "slept 5.0 s");
    });
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

#[test]
fn prompts_and_resources_start_it_as_well() {
    let noted = Noted::new();
    noted.commit("", ON_DEMAND);
    let daemon = noted.env.daemon(&[]);
    wait_for_names(&daemon, &TOOLS);
    for (starts, (method, params)) in [
        ("prompts/get", json!({"name": "weather_packing", "arguments": {"city": "Oslo"}})),
        ("resources/read", json!({"uri": "weather://city/Oslo"})),
        ("completion/complete", json!({"ref": {"type": "ref/prompt", "name": "weather_packing"}, "argument": {"name": "city", "value": "O"}})),
    ]
    .into_iter()
    .enumerate()
    {
        noted.wait_for_rest(&daemon);
        assert_eq!(noted.starts(), starts + 1);
        let answer = super::ask(&daemon, method, params);
        assert!(answer.to_string().contains("Oslo") || method == "completion/complete", "{method}: {answer}");
        assert_eq!(noted.starts(), starts + 2, "{method}: {answer}");
    }
}

/// A call over a connection that is closed as soon as `gone` says so.
fn abandoned(daemon: &Daemon, tool: &str, gone: impl FnOnce()) {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": tool, "arguments": {"text": "x"}, "_meta": super::meta(),
    }});
    let body = body.to_string();
    let address = daemon.mcp.trim_start_matches("http://").trim_end_matches("/mcp");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: {tool}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    std::io::Write::write_all(&mut stream, (head + &body).as_bytes()).unwrap();
    gone();
}

#[test]
fn a_start_that_nobody_waits_for_any_more_leaves_nothing() {
    let noted = Noted::new();
    let gate = noted.env.home().join("gate");
    noted.commit(&format!("test -p {0} && read line < {0};", gate.display()), ON_DEMAND);
    let daemon = noted.env.daemon(&[]);
    wait_for_names(&daemon, &TOOLS);
    noted.wait_for_rest(&daemon);
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut opened = None;
    abandoned(&daemon, "weather_echo", || {
        opened = Some(wait_for("the server to wait", SOON, || super::open_to_write(&gate)));
    });
    std::io::Write::write_all(&mut opened.unwrap(), b"go\n").unwrap();
    wait_for("it to start all the same", SOON, || (noted.starts() == 2).then_some(()));
    noted.wait_for_rest(&daemon);
    assert_eq!(noted.starts(), 2, "{}", daemon.log());
    // It is at rest when it was told to end; its process is gone a moment later.
    wait_for("its process to be gone", SOON, || daemon.children().is_empty().then_some(()));
}

#[test]
fn a_server_that_does_not_come_up_says_why_at_once_and_is_tried_again_by_the_next_call() {
    let noted = Noted::new();
    let broken = noted.env.home().join("broken");
    noted.commit(&format!("test -e {} && {{ echo no licence >&2; exit 3; }};", broken.display()), ON_DEMAND);
    let daemon = noted.env.daemon(&[]);
    wait_for_names(&daemon, &TOOLS);
    noted.wait_for_rest(&daemon);
    std::fs::File::create(&broken).unwrap();
    let failed = call(&daemon, "weather_echo", json!({"text": "x"}));
    assert_eq!(failed["isError"], true, "{failed}");
    assert!(text(&failed).starts_with("server `weather`: it could not be started: "), "{failed}");
    assert!(text(&failed).contains("toolcrib logs server/weather"), "{failed}");
    wait_for_reason(&noted.env, &daemon, "Server/weather", "StartFailed");
    assert_eq!(text(&call(&daemon, "greet", json!({"name": "you"}))), "hello you\n");
    assert_eq!(names(&daemon), TOOLS, "it stays listed");
    let starts = noted.starts();
    std::fs::remove_file(&broken).unwrap();
    // Within its back-off a call is refused, and nobody starts it without one.
    wait_for("an answer", SOON, || {
        (text(&call(&daemon, "weather_echo", json!({"text": "again"}))) == "again").then_some(())
    });
    assert_eq!(noted.starts(), starts + 1, "{}", daemon.log());
    noted.wait_for_rest(&daemon);
}

#[test]
fn a_version_that_cannot_be_had_leaves_the_one_before_to_be_called() {
    let noted = Noted::new();
    noted.commit("", ON_DEMAND);
    let daemon = noted.env.daemon(&[]);
    wait_for_names(&daemon, &TOOLS);
    noted.wait_for_rest(&daemon);
    noted.commit("exit 3;", ON_DEMAND);
    wait_for_reason(&noted.env, &daemon, "Server/weather", "StartFailed");
    assert_eq!(text(&call(&daemon, "weather_echo", json!({"text": "before"}))), "before");
    let none =
        || resource(&noted.env, &daemon, "Server/weather")["instances"].as_array().is_none_or(Vec::is_empty);
    wait_for("it to end", SOON, || none().then_some(()));
    // Nor does one that cannot be read.
    noted.env.repo().write("crib.yaml", &(greeter("hello") + &noted.server("", "  lifecycle: sometimes\n")));
    noted.env.repo().commit("a fault");
    wait_for_reason(&noted.env, &daemon, "Server/weather", "InvalidManifest");
    assert_eq!(text(&call(&daemon, "weather_echo", json!({"text": "still"}))), "still");
    // What comes back is known: it need not run for that.
    let starts = noted.starts();
    noted.commit("", ON_DEMAND);
    noted.wait_for_rest(&daemon);
    assert_eq!(noted.starts(), starts, "{}", daemon.log());
}

#[test]
fn a_lifecycle_changes_without_a_restart() {
    let noted = Noted::new();
    noted.commit("", "");
    let daemon = noted.env.daemon(&[]);
    wait_for_names(&daemon, &TOOLS);
    noted.commit("", ON_DEMAND);
    noted.wait_for_rest(&daemon);
    assert_eq!(noted.starts(), 1);
    // Longer than anything here takes: it does not rest before the next commit is served.
    noted.commit("", &ON_DEMAND.replace("1s", "10m"));
    noted.wait_for_commit(&daemon);
    assert_eq!(text(&call(&daemon, "weather_echo", json!({"text": "up"}))), "up");
    let running = pids(&noted.env, &daemon);
    noted.commit("", "");
    noted.wait_for_commit(&daemon);
    wait_for_reason(&noted.env, &daemon, "Server/weather", "Served");
    assert_eq!((pids(&noted.env, &daemon), noted.starts()), (running, 2), "{}", daemon.log());
    noted.commit("", ON_DEMAND);
    noted.wait_for_rest(&daemon);
    noted.commit("", "");
    wait_for("it to run again", SOON, || (pids(&noted.env, &daemon).len() == 1).then_some(()));
    assert_eq!(text(&call(&daemon, "weather_echo", json!({"text": "always"}))), "always");
}

#[test]
fn as_many_instances_run_as_calls_need() {
    let noted = Noted::new();
    noted.commit(
        "export SELF=$$;",
        "  concurrency: 1\n  lifecycle: {idleTimeout: 1s, replicas: {min: 1, max: 3}}\n",
    );
    let daemon = noted.env.daemon(&[]);
    wait_for_names(&daemon, &TOOLS);
    let first = wait_for("an instance", SOON, || pids(&noted.env, &daemon).first().copied());
    let own = || text(&call(&daemon, "weather_environment", json!({"name": "SELF"}))).parse::<i32>().unwrap();
    assert_eq!((own(), noted.starts()), (first, 1));
    std::thread::scope(|scope| {
        // For longer than two take to start.
        let calls: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| text(&call(&daemon, "weather_slow", json!({"seconds": 5}))).to_owned()))
            .collect();
        let all = wait_for("three to run", SOON, || {
            let all = pids(&noted.env, &daemon);
            (all.len() == 3).then_some(all)
        });
        assert!(all.contains(&first));
        for call in calls {
            assert_eq!(call.join().unwrap(), "slept 5.0 s", "{}", daemon.log());
        }
    });
    wait_for("one to be left", SOON, || (pids(&noted.env, &daemon).len() == 1).then_some(()));
    assert_eq!(noted.starts(), 3, "{}", daemon.log());
    assert_eq!(text(&call(&daemon, "weather_echo", json!({"text": "one"}))), "one");

    // One that ends is replaced; the others go on with the calls.
    let manifest = "  lifecycle: {replicas: {min: 2}}\n";
    noted.commit("export SELF=$$;", manifest);
    let two = wait_for("two to run", SOON, || {
        let all = pids(&noted.env, &daemon);
        (all.len() == 2).then_some(all)
    });
    wait_for("both to be called", SOON, || {
        let seen: std::collections::BTreeSet<i32> = std::thread::scope(|scope| {
            let calls: Vec<_> = (0..4).map(|_| scope.spawn(own)).collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        });
        (seen.into_iter().collect::<Vec<_>>() == sorted(&two)).then_some(())
    });
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(two[0]), nix::sys::signal::Signal::SIGKILL).unwrap();
    wait_for("another one", SOON, || {
        let all = pids(&noted.env, &daemon);
        (all.len() == 2 && !all.contains(&two[0])).then_some(())
    });
    assert_eq!(text(&call(&daemon, "weather_echo", json!({"text": "two"}))), "two");
}

fn sorted(pids: &[i32]) -> Vec<i32> {
    let mut pids = pids.to_vec();
    pids.sort_unstable();
    pids
}
