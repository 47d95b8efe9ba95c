//! Locks of what runs in containers: they pin, and making them leaves nothing behind.

use serde_json::json;

use super::*;
use crate::follow::{ask, names};
use crate::git::repo::Repo;
use crate::support::{TestEnv, wait_for};

/// Until it is built: its packages come over the network.
const BUILT: Duration = Duration::from_mins(10);

const HEAD: &str = r#"
apiVersion: toolcrib.dev/v1alpha1
kind: Runner
metadata: {name: local}
spec: {docker: {}, build: {network: host}}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata: {name: hello}
spec: {description: Says hello, image: "toolcrib.test/busybox:1", command: [echo, hello]}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Server
metadata: {name: fromgit}
spec:
  source: {git: {url: OTHER, ref: main, file: server.py, base: "toolcrib.test/fastmcp:1"}}
  startupTimeout: 3m
"#;

const SERVER: &str = r#"
from fastmcp import FastMCP

mcp = FastMCP(name="fromgit", version="1.0.0")


@mcp.tool
def hello() -> str:
    """Says hello."""
    return "hello"
"#;

#[test]
fn a_lock_pins_the_commit_it_was_made_with_and_making_it_leaves_nothing() {
    let (env, other) = (TestEnv::new(), Repo::new());
    other.write("server.py", SERVER).write("requirements.txt", "").commit("first");
    let first = other.git(&["rev-parse", "HEAD"]);
    env.repo().write("crib.yaml", &HEAD.replace("OTHER", other.path().to_str().unwrap())).commit("servers");
    let said = env.run(&["lock", "--allow-local-git"]);
    assert_eq!(said.code, 0, "{}", said.all());
    let locked = |file: &str| std::fs::read_to_string(env.repo().path().join(file)).unwrap();
    assert!(locked("locks/server/fromgit.yaml").contains(first.trim()), "{}", said.all());
    assert!(locked("locks/tool/hello.yaml").contains("image: \"sha256:"), "{}", said.all());
    env.repo().commit("locked");

    // The branch moves on: what was reviewed is served all the same.
    other.write("server.py", &SERVER.replace("Says hello.", "Says something else.")).commit("second");
    let check = ["lock", "--check", "--allow-local-git"];
    assert_eq!(env.run(&check).code, 0);
    let moved = env.run(&[&check[..], &["--probe", "fromgit"]].concat());
    assert_eq!(moved.code, 1, "{}", moved.all());
    assert!(moved.stdout.contains("Says something else."), "{}", moved.all());
    let name = format!("it-lock-{}", std::process::id());
    let daemon = env.daemon(&["--name", &name, "--allow-local-git"]);
    wait_for("what is locked to be built and served", BUILT, || {
        (names(&daemon) == ["fromgit_hello", "hello"]).then_some(())
    });
    let listed = ask(&daemon, "tools/list", json!({}));
    assert_eq!(listed["tools"][0]["description"], "Says hello.", "{listed}");
    let (ended, log) = daemon.terminate();
    assert!(ended.success(), "{log}");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let local = Name::parse("local").unwrap();
        let settings = Settings { name: local, host: host(), owner: name, clean: false };
        let runner = DockerRunner::new(settings);
        for instance in runner.observe().await.unwrap() {
            runner.stop(&instance.id, Duration::ZERO).await.unwrap();
        }
        runner.collect(&BTreeSet::new()).await.unwrap();
        let engine = Docker::connect_with_unix(&host(), 60, API_DEFAULT_VERSION).unwrap();
        let options = bollard::query_parameters::ListContainersOptionsBuilder::default().all(true).build();
        let left = engine.list_containers(Some(options)).await.unwrap();
        let ours = |labels: &std::collections::HashMap<String, String>| {
            labels.get("dev.toolcrib/name").is_some_and(|name| name == "fromgit")
                && labels["dev.toolcrib/owner"].starts_with("lock-")
        };
        assert!(!left.iter().filter_map(|one| one.labels.as_ref()).any(ours), "{left:?}");
    });
}
