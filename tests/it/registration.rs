//! Registration elsewhere: a real HTTP API, told what is served, through failures and restarts.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Daemon, TestEnv, wait_for};

/// The first retry comes after a second.
const SOON: Duration = Duration::from_mins(2);
const KEY: &str = "CANARY-REGISTRATION-KEY";

/// The API, and what it keeps. Ended when dropped.
struct Api {
    child: Child,
    folder: tempfile::TempDir,
    url: String,
}

impl Api {
    /// With a tool in it that is not ours.
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let theirs = json!({"id-theirs": {"id": "id-theirs", "name": "theirs", "managed_by": "others"}});
        std::fs::write(folder.path().join("tools.json"), theirs.to_string()).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/registration/api.py");
        let mut child =
            Command::new("python3").arg(script).arg(folder.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let url = format!("http://127.0.0.1:{}/api/v1/tools", port.trim());
        Self { child, folder, url }
    }

    fn fail(&self, statuses: &str) {
        std::fs::write(self.folder.path().join("failures"), statuses.replace(' ', "\n")).unwrap();
    }

    /// The tool of that name.
    fn tool(&self, name: &str) -> Option<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("tools.json")).unwrap();
        let tools: Value = serde_json::from_str(&text).unwrap();
        tools.as_object().unwrap().values().find(|tool| tool["name"] == name).cloned()
    }

    /// `POST /…`, one for each request.
    fn requests(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("requests.jsonl")).unwrap_or_default();
        let request = |line: &str| {
            let value: Value = serde_json::from_str(line).unwrap();
            let path = value["path"].as_str().unwrap().replace("/api/v1/tools", "");
            format!("{} {path}", value["method"].as_str().unwrap())
        };
        text.lines().map(request).collect()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn declare(env: &TestEnv, api: Option<&Api>, tools: &[(&str, &str)]) {
    let register = api.map_or_else(String::new, |api| {
        format!("register: [{{url: \"{}\", key: {{secret: {{env: REG_KEY}}}}}}]", api.url)
    });
    let mut text = format!(
        "apiVersion: toolcrib.dev/v1alpha1\nkind: Crib\nmetadata: {{name: crib}}\nspec: {{{register}}}\n---\n\
         apiVersion: toolcrib.dev/v1alpha1\nkind: Runner\nmetadata: {{name: here}}\nspec: {{process: {{}}}}\n"
    );
    for (name, description) in tools {
        let _ = write!(
            text,
            "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Tool\nmetadata: {{name: {name}}}\n\
             spec: {{description: \"{description}\", command: [echo]}}\n"
        );
    }
    env.repo().write("crib.yaml", &text).commit("declare");
}

fn daemon(env: &TestEnv) -> Daemon {
    let state = env.state();
    let args = ["run", "--repo", ".", "--state", state.to_str().unwrap(), "--output", "json"];
    let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--name", "tests"];
    let mut command = env.command(&[&args[..], &ports[..]].concat());
    command.env("REG_KEY", KEY);
    Daemon::start(command)
}

fn registrations(env: &TestEnv, daemon: &Daemon) -> Vec<Value> {
    let status = env.run(&["status", "--admin", daemon.admin_address(), "--output", "json"]).json();
    status["registrations"].as_array().cloned().unwrap_or_default()
}

/// Waits until the API is said to have that many of our tools.
fn in_step(env: &TestEnv, daemon: &Daemon, tools: u64) {
    wait_for("the registration to be in step", SOON, || {
        let all = registrations(env, daemon);
        all.iter().any(|one| one["ready"] == true && one["tools"] == tools).then_some(())
    });
}

#[test]
fn an_outside_api_follows_what_is_served() {
    let (env, api) = (TestEnv::new(), Api::start());
    declare(&env, Some(&api), &[("one", "First."), ("two", "Second.")]);
    let running = daemon(&env);
    in_step(&env, &running, 2);
    let one = api.tool("one").unwrap();
    assert_eq!((&one["description"], &one["managed_by"]), (&json!("First."), &json!("toolcrib/tests")));
    assert_eq!(one["service"]["url"], running.mcp.as_str());
    assert_eq!(api.requests(), ["POST ", "POST "]);

    declare(&env, Some(&api), &[("one", "Changed."), ("three", "Third.")]);
    wait_for("the change", SOON, || {
        (api.tool("one")?["description"] == "Changed." && api.tool("two").is_none()).then_some(())
    });
    in_step(&env, &running, 2);
    assert_eq!(api.requests()[2..], ["PUT /id-one", "POST ", "DELETE /id-two"]);

    // A name that somebody else has there is left to them, and told.
    declare(&env, Some(&api), &[("one", "Changed."), ("theirs", "Mine.")]);
    let told = wait_for("the conflict", SOON, || {
        registrations(&env, &running).into_iter().find(|one| one["ready"] == false)
    });
    assert_eq!(told["message"], "`theirs`: it is registered there already, by somebody else");
    declare(&env, Some(&api), &[("one", "Changed.")]);
    in_step(&env, &running, 1);
    assert_eq!(api.tool("theirs").unwrap()["managed_by"], "others");

    // What is declared no more is taken out, and nothing else.
    declare(&env, None, &[("one", "Changed.")]);
    wait_for("the end of it", SOON, || api.tool("one").is_none().then_some(()));
    wait_for("it to be forgotten", SOON, || registrations(&env, &running).is_empty().then_some(()));
    assert_eq!(api.tool("theirs").unwrap()["managed_by"], "others");
}

#[test]
fn a_restart_creates_nothing_again() {
    let (env, api) = (TestEnv::new(), Api::start());
    declare(&env, Some(&api), &[("one", "First."), ("two", "Second.")]);
    let mut running = daemon(&env);
    in_step(&env, &running, 2);
    let before: Vec<String> = api.requests();
    running.kill();
    running = daemon(&env);
    // The address it is served at is another one now.
    wait_for("the new address", SOON, || {
        let served = |name| api.tool(name).is_some_and(|tool| tool["service"]["url"] == running.mcp.as_str());
        (served("one") && served("two")).then_some(())
    });
    in_step(&env, &running, 2);
    assert_eq!(api.requests()[before.len()..], ["PUT /id-one", "PUT /id-two"]);
    drop(running);

    // What changed while no daemon ran is made up for; and what an API forgot is made again.
    declare(&env, Some(&api), &[("two", "Second.")]);
    let text = std::fs::read_to_string(api.folder.path().join("tools.json")).unwrap();
    assert!(text.contains("id-two"));
    let running = daemon(&env);
    wait_for("the deletion", SOON, || api.tool("one").is_none().then_some(()));
    in_step(&env, &running, 1);
}

#[test]
fn failures_are_tried_again_and_the_key_is_nowhere() {
    let (env, api) = (TestEnv::new(), Api::start());
    // The second request comes through, and its answer does not: the retry finds its own.
    api.fail("503 500!");
    declare(&env, Some(&api), &[("one", "First.")]);
    let running = daemon(&env);
    let told = wait_for("the failure", SOON, || {
        registrations(&env, &running).into_iter().find(|one| one["ready"] == false)
    });
    let message = told["message"].as_str().unwrap();
    assert!(message.starts_with("`one`: failed to create it: it answered 50"), "{message}");
    in_step(&env, &running, 1);
    assert_eq!(api.requests(), ["POST ", "POST ", "POST ", "GET /one", "PUT /id-one"]);
    assert_eq!(api.tool("one").unwrap()["managed_by"], "toolcrib/tests");

    let status = env.run(&["status", "--admin", running.admin_address()]);
    assert!(status.stdout.contains("registered  1 tool at http://127.0.0.1:"), "{}", status.all());
    let log = running.log();
    assert!(log.contains("registration failed") && !log.contains(KEY), "{log}");
    for args in [&["status", "--output", "json"][..], &["get", "crib/crib", "--output", "json"], &["plan"]] {
        let said = env.run(&[args, &["--admin", running.admin_address()]].concat());
        assert!(!said.all().contains(KEY), "{}", said.all());
    }
    let (_, log) = running.terminate();
    assert!(!log.contains(KEY), "{log}");
    let mut files = vec![env.state()];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(KEY.len()).any(|part| part == KEY.as_bytes()), "{}", path.display());
        }
    }
}

#[test]
fn a_key_that_is_missing_is_told() {
    let (env, api) = (TestEnv::new(), Api::start());
    declare(&env, Some(&api), &[("one", "First.")]);
    // Without the variable.
    let running = env.daemon(&[]);
    let told = wait_for("the failure", SOON, || {
        registrations(&env, &running).into_iter().find(|one| one["ready"] == false)
    });
    assert!(told["message"].as_str().unwrap().contains("secret `env: REG_KEY` is not set"), "{told}");
    assert!(api.requests().is_empty());
    // What is served is served all the same.
    let said = env.run(&["call", "one", "--url", &running.mcp]);
    assert_eq!(said.code, 0, "{}", said.all());
}
