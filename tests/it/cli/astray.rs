//! What goes wrong in the first hour, and whether what is said then leads on.

use crate::support::{Daemon, Said, TestEnv};

const TOOLS: &str = "\
apiVersion: toolcrib.dev/v1alpha1
kind: Runner
metadata: {name: here}
spec: {process: {}}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata: {name: hello}
spec:
  description: Says hello.
  command: [echo, hello]
";

const SERVER: &str = "\
apiVersion: toolcrib.dev/v1alpha1
kind: Server
metadata: {name: broken}
spec:
  source: {command: [sh, -c, echo it has no key >&2; exit 3]}
";

struct Scene {
    env: TestEnv,
    daemon: Daemon,
}

impl Scene {
    fn new() -> Self {
        let env = TestEnv::new();
        env.repo().write("tools/all.yaml", TOOLS).commit("tools");
        let daemon = env.daemon(&["--path", "tools"]);
        Self { env, daemon }
    }

    fn run(&self, args: &[&str]) -> Said {
        self.env.run(&[args, &["--state", self.env.state().to_str().unwrap()]].concat())
    }

    /// Commits, and waits until nothing is left to do.
    fn commit(&self, file: &str, text: &str) -> Said {
        self.env.repo().write(file, text).commit("a change");
        self.run(&["reconcile", "--wait"])
    }
}

#[test]
fn a_folder_that_is_not_there_any_more_removes_nothing() {
    let scene = Scene::new();
    let root = scene.env.repo().path();
    std::fs::rename(root.join("tools"), root.join("moved")).unwrap();
    scene.env.repo().commit("moved");
    let said = scene.run(&["reconcile", "--wait"]);
    assert_eq!(said.code, 1, "{}", said.all());
    let status = scene.run(&["status"]).stdout;
    assert!(
        status.contains("FetchFailed") && status.contains("there is no folder `tools` in main@"),
        "{status}"
    );
    assert!(status.contains("`--path` names the folder"), "{status}");
    assert!(scene.run(&["call", "hello"]).stdout.contains("hello"));
    std::fs::rename(root.join("moved"), root.join("tools")).unwrap();
    scene.env.repo().commit("back");
    assert_eq!(scene.run(&["reconcile", "--wait"]).code, 0);
    // Without a daemon it is the same.
    let state = scene.env.home().join("other");
    let plan = ["plan", "--repo", ".", "--path", "nowhere", "--state", state.to_str().unwrap()];
    let said = scene.env.run(&plan);
    assert!(said.code == 1 && said.stderr.contains("there is no folder `nowhere`"), "{}", said.all());
}

#[test]
fn a_fault_is_in_the_log_once_and_it_is_said_what_is_served_meanwhile() {
    let scene = Scene::new();
    let said = scene.commit("tools/all.yaml", &TOOLS.replace("  command:", "  comand:"));
    assert_eq!(said.code, 1, "{}", said.all());
    scene.run(&["reconcile", "--wait"]);
    let tool = scene.run(&["get", "tool", "hello"]).stdout;
    assert!(tool.contains("did you mean `command`? (the version before is served)"), "{tool}");
    let log = scene.daemon.log();
    let why = scene.run(&["why", "hello", "loud=yes"]).stdout;
    assert!(why.contains("these arguments do not fit") && why.contains("'loud' was unexpected"), "{why}");
    let told: Vec<&str> = log.lines().filter(|line| line.contains("fault: there is no field")).collect();
    assert!(told.len() == 1 && told[0].contains("place=tools/all.yaml:11:3"), "{log}");
    // One that never had a version has none before.
    scene.commit("tools/all.yaml", TOOLS);
    scene.commit(
        "tools/new.yaml",
        &TOOLS[TOOLS.find("---").unwrap()..].replace("hello", "new").replace("spec:", "spek:"),
    );
    let tool = scene.run(&["get", "tool", "new"]).stdout;
    assert!(tool.contains("InvalidManifest") && !tool.contains("the version before"), "{tool}");
}

#[test]
fn the_hint_of_a_server_that_does_not_start_shows_what_it_said() {
    let scene = Scene::new();
    let said = scene.commit("tools/server.yaml", SERVER);
    assert_eq!(said.code, 1, "{}", said.all());
    let status = scene.run(&["get", "server/broken"]).stdout;
    let (_, hint) = status.split_once("see `toolcrib ").unwrap_or_else(|| panic!("no hint in\n{status}"));
    let command: Vec<&str> = hint.split_once('`').unwrap().0.split_whitespace().collect();
    let said = scene.run(&command);
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (0, "==> what failed last\nit has no key\n"),
        "{}",
        said.all()
    );
    assert_eq!(scene.run(&["logs", "broken"]).stdout, said.stdout, "a bare name is a server's");
    let all = scene.run(&["status"]).stdout;
    assert!(all.contains("the newest revision is served; 1 resource is not ready"), "{all}");
    let log = scene.daemon.log();
    assert!(log.contains("starting resource=Server/broken") && !log.contains("work{"), "{log}");
}

#[test]
fn what_the_network_does_not_answer_is_no_mistake_in_a_manifest() {
    let scene = Scene::new();
    let elsewhere = SERVER.replace(
        "{command: [sh, -c, echo it has no key >&2; exit 3]}",
        "{git: {url: \"https://127.0.0.1:1/x.git\", ref: main, file: server.py, base: x}}",
    );
    scene.commit("tools/server.yaml", &elsewhere.replace("broken", "far"));
    scene.commit(
        "tools/runner.yaml",
        &TOOLS[..TOOLS.find("---").unwrap()].replace("here", "engine").replace("process", "docker"),
    );
    let server = scene.run(&["get", "server/far"]).stdout;
    assert!(server.contains("Ready False (LookupFailed)"), "{server}");
    let status = scene.run(&["status"]).stdout;
    assert!(status.contains("False    LookupFailed"), "{status}");
    scene.commit("tools/all.yaml", &TOOLS.replace("  command:", "  comand:"));
    let status = scene.run(&["status", "-o", "json"]).json();
    let ready = status["conditions"].as_array().unwrap().iter().find(|it| it["type"] == "Ready").unwrap();
    assert_eq!(ready["reason"], "InvalidManifest", "a mistake comes first: {status}");
}

#[test]
fn who_stands_in_the_way_is_named() {
    let scene = Scene::new();
    let admin = scene.daemon.admin_address();
    let mine = scene.env.home().join("mine");
    let args = ["--listen", "127.0.0.1:0", "--admin", admin, "--state", mine.to_str().unwrap()];
    let said = scene.env.run(&[&["doctor"][..], &args].concat());
    let named = "is served by another daemon, which follows [REPO] tools";
    assert!(said.code == 1 && said.stdout.contains(named), "{}", said.all());
    let said = scene.env.run(&[&["run", "--repo", "."][..], &args].concat());
    assert!(
        said.code == 1 && said.stderr.contains("name another port with --listen and --admin"),
        "{}",
        said.all()
    );
    let said = scene.run(&["apply", "--repo", ".", "--path", "tools"]);
    assert!(said.code == 1 && said.stderr.contains("`toolcrib reconcile --wait`"), "{}", said.all());
}

#[test]
fn before_anything_was_read_nothing_is_said_of_it() {
    let env = TestEnv::new();
    let said = env.run(&["validate"]);
    let text = "no resources in main, which has no commit yet, worktree\nhint: `toolcrib init DIR`";
    assert!(said.code == 0 && said.stdout.starts_with(text), "{}", said.all());
}
