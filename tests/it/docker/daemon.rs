//! The whole loop on the built daemon with containers: servers of every source, found again,
//! replaced and removed.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::follow::{call, names, resource, text};
use crate::git::repo::Repo;
use crate::support::{Daemon, TestEnv, wait_for};

/// Until everything is built the first time: packages come over the network.
const BUILT: Duration = Duration::from_mins(10);
/// Until everything is found again or replaced: six interpreters start on a shared machine.
pub(super) const STARTED: Duration = Duration::from_mins(3);
/// How the owners of this test begin.
const OWNERS: &str = "it-daemon-";
const CANARY: &str = "canary-16180";

const FIXTURE: &str = include_str!("../../fixtures/weather/server.py");

/// An environment with an owner of its own on the engine.
pub(super) struct Crib {
    pub(super) env: TestEnv,
    other: Repo,
    pub(super) owner: String,
    runtime: tokio::runtime::Runtime,
    engine: Docker,
}

impl Crib {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let engine = Docker::connect_with_unix(&host(), 60, API_DEFAULT_VERSION).unwrap();
        let engine = runtime.block_on(engine.negotiate_version()).unwrap();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let owner = format!("{OWNERS}{}-{count}", std::process::id());
        Self { env: TestEnv::new(), other: Repo::new(), owner, runtime, engine }
    }

    pub(super) fn daemon(&self) -> Daemon {
        Daemon::start(self.command())
    }

    /// `run`, with an owner of this test.
    pub(super) fn command(&self) -> std::process::Command {
        let state = self.env.state();
        let args = ["run", "--repo", ".", "--state", state.to_str().unwrap(), "--name", &self.owner];
        let more =
            ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--output", "json", "--allow-local-git"];
        let mut command = self.env.command(&[&args[..], &more[..]].concat());
        command.env("IT_TOKEN", CANARY);
        command
    }

    fn listed(&self) -> Vec<bollard::models::ContainerSummary> {
        let label = format!("dev.toolcrib/owner={}", self.owner);
        let filters = std::collections::HashMap::from([("label".to_owned(), vec![label])]);
        let options = bollard::query_parameters::ListContainersOptionsBuilder::default();
        let options = options.all(true).filters(&filters).build();
        self.runtime.block_on(self.engine.list_containers(Some(options))).unwrap()
    }

    /// The process id of a container's first process.
    pub(super) fn first_process(&self, container: &str) -> i64 {
        let none = None::<bollard::query_parameters::InspectContainerOptions>;
        let container = self.runtime.block_on(self.engine.inspect_container(container, none)).unwrap();
        container.state.unwrap().pid.unwrap()
    }

    /// Ends a container behind the daemon's back.
    pub(super) fn kill(&self, container: &str) {
        let none = None::<bollard::query_parameters::KillContainerOptions>;
        self.runtime.block_on(self.engine.kill_container(container, none)).unwrap();
    }

    /// Removes a container behind the daemon's back, running or not.
    pub(super) fn remove(&self, container: &str) {
        let force = bollard::query_parameters::RemoveContainerOptionsBuilder::default().force(true).build();
        self.runtime.block_on(self.engine.remove_container(container, Some(force))).unwrap();
    }

    /// How many volumes there are of owners whose names begin so.
    pub(super) fn volumes(&self, owners: &str) -> usize {
        let none = None::<bollard::query_parameters::ListVolumesOptions>;
        let listed =
            self.runtime.block_on(self.engine.list_volumes(none)).unwrap().volumes.unwrap_or_default();
        let ours = |volume: &&bollard::models::Volume| {
            volume.labels.get("dev.toolcrib/owner").is_some_and(|owner| owner.starts_with(owners))
        };
        listed.iter().filter(ours).count()
    }

    /// Everything of this owner, and whether it runs.
    pub(super) fn seen(&self) -> std::collections::BTreeSet<(String, bool)> {
        let running = Some(bollard::models::ContainerSummaryStateEnum::RUNNING);
        self.listed().into_iter().map(|one| (one.id.unwrap(), one.state == running)).collect()
    }

    /// Container ids of forwarders.
    pub(super) fn forwarders(&self) -> Vec<String> {
        self.of_role("egress")
    }

    /// Container ids of what has a role.
    pub(super) fn of_role(&self, wanted: &str) -> Vec<String> {
        let is = |one: &bollard::models::ContainerSummary| {
            let role = one.labels.as_ref().and_then(|labels| labels.get("dev.toolcrib/role"));
            role.is_some_and(|role| role == wanted)
        };
        self.listed().into_iter().filter(is).map(|one| one.id.unwrap()).collect()
    }

    /// Container ids by server, several where there are several.
    fn containers(&self) -> BTreeMap<String, Vec<String>> {
        let mut found = BTreeMap::<_, Vec<_>>::new();
        for container in self.listed() {
            let labels = container.labels.unwrap();
            if labels["dev.toolcrib/role"] == "server" {
                found.entry(labels["dev.toolcrib/name"].clone()).or_default().push(container.id.unwrap());
            }
        }
        found
    }

    /// Waits until every server of `expected` has exactly one container and nothing else has any.
    pub(super) fn settled(&self, daemon: &Daemon, expected: &[&str]) -> BTreeMap<String, Vec<String>> {
        let mut last = BTreeMap::new();
        let until = std::time::Instant::now() + STARTED;
        wait_for("containers to settle", STARTED * 2, || {
            last = self.containers();
            let settled = last.keys().eq(expected) && last.values().all(|ids| ids.len() == 1);
            let log = || daemon.log();
            assert!(
                settled || std::time::Instant::now() < until,
                "containers: {last:?}, expected one each of {expected:?}\n{}",
                log()
            );
            settled.then(|| last.clone())
        })
    }

    /// Images of earlier runs of this test. Those of this one stay: they hold the engine's cache of
    /// everything that was downloaded, so that the next run builds in seconds. Young ones may be those
    /// of a run beside this one.
    async fn forget_earlier_images(&self) {
        use bollard::query_parameters::{ListImagesOptions, RemoveImageOptions};
        let images = self.engine.list_images(None::<ListImagesOptions>).await.unwrap_or_default();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        for image in images {
            let owner = image.labels.get("dev.toolcrib/owner");
            let old = u64::try_from(image.created).is_ok_and(|created| created + 3600 < now);
            if old && owner.is_some_and(|owner| owner.starts_with(OWNERS) && *owner != self.owner) {
                for tag in &image.repo_tags {
                    let _ = self.engine.remove_image(tag, None::<RemoveImageOptions>, None).await;
                }
            }
        }
    }

    fn write(&self, servers: &[&str]) {
        let mut text = HEAD.to_owned();
        for (name, spec) in SERVERS {
            if servers.contains(&name) {
                let spec = spec.replace("OTHER", self.other.path().to_str().unwrap());
                let head = "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Server\n";
                text.extend([head, "metadata: {name: ", name, "}\nspec: ", &spec, "\n"]);
            }
        }
        self.env.repo().write("crib.yaml", &text);
    }
}

impl Drop for Crib {
    fn drop(&mut self) {
        self.runtime.block_on(async {
            let runner = |name: &str| {
                let name = Name::parse(name).unwrap();
                DockerRunner::new(Settings { name, host: host(), owner: self.owner.clone(), clean: false })
            };
            let runner = runner("local");
            for instance in runner.observe().await.unwrap_or_default() {
                let _ = runner.stop(&instance.id, Duration::ZERO).await;
            }
            let _ = runner.sweep().await;
            for volume in runner.volumes().await.unwrap_or_default() {
                let _ = runner.remove_volume(&volume).await;
            }
            let _ = runner.keep_egress(&BTreeSet::new()).await;
            self.forget_earlier_images().await;
        });
    }
}

const HEAD: &str = r#"
apiVersion: toolcrib.dev/v1alpha1
kind: Crib
metadata: {name: crib}
spec: {defaults: {images: {python: "toolcrib.test/python:3.11", node: "toolcrib.test/node:20"}}}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Runner
metadata: {name: local}
spec: {docker: {}, build: {network: host}}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata: {name: hello}
spec:
  description: Says hello
  image: "toolcrib.test/busybox:1"
  command: [echo, hello]
  args: ["${name}"]
  parameters: {name: {type: string, required: true}}
"#;

const SERVERS: [(&str, &str); 6] = [
    ("built", "{source: {build: {context: context}}, startupTimeout: 3m}"),
    (
        "clock",
        "{source: {package: {registry: pypi, name: mcp-server-time, version: 2026.10.19}}, startupTimeout: 3m}",
    ),
    (
        "everything",
        "{source: {package: {registry: npm, name: '@modelcontextprotocol/server-everything', \
         version: 2026.8.31, bin: mcp-server-everything}}, startupTimeout: 3m}",
    ),
    ("fromgit", "{source: {git: {url: OTHER, ref: main, file: server.py}}, startupTimeout: 3m}"),
    ("image", "{source: {image: 'toolcrib.test/fastmcp:1'}, startupTimeout: 3m}"),
    (
        "web",
        "{source: {image: 'toolcrib.test/fastmcp:1'}, transport: {type: streamable-http, port: 8000}, \
         env: {MCP_TRANSPORT: http, TOKEN: {secret: {env: IT_TOKEN}}}, startupTimeout: 3m}",
    ),
];
const ALL: [&str; 6] = ["built", "clock", "everything", "fromgit", "image", "web"];

/// Waits until every server answers a call, and the tool.
fn all_answer(crib: &Crib, daemon: &Daemon, limit: Duration) {
    let until = std::time::Instant::now() + limit;
    for (tool, arguments, part) in [
        ("hello", json!({"name": "you"}), "hello you"),
        ("image_echo", json!({"text": "an image"}), "an image"),
        ("web_environment", json!({"name": "TOKEN"}), CANARY),
        ("built_echo", json!({"text": "a build"}), "a build"),
        ("fromgit_echo", json!({"text": "a repository"}), "a repository"),
        ("clock_get_current_time", json!({"timezone": "UTC"}), "UTC"),
        ("everything_echo", json!({"message": "a package"}), "a package"),
    ] {
        wait_for(tool, limit * 2, || {
            let there = names(daemon).iter().any(|name| name == tool);
            let server = tool.split('_').next().unwrap();
            let status = || resource(&crib.env, daemon, &format!("Server/{server}"));
            assert!(there || std::time::Instant::now() < until, "{tool}: {}\n{}", status(), daemon.log());
            there.then_some(())
        });
        let result = call(daemon, tool, arguments);
        assert!(result["isError"] != true && text(&result).contains(part), "{tool}: {result}");
    }
}

#[test]
fn servers_of_every_source_are_served_found_again_replaced_and_removed() {
    let crib = Crib::new();
    crib.other.write("server.py", FIXTURE).write("requirements.txt", "fastmcp==4.1.2\n").commit("server");
    let dockerfile = "FROM toolcrib.test/fastmcp:1\nCOPY server.py /app/server.py\n";
    crib.env.repo().write("context/Dockerfile", dockerfile).write("context/server.py", FIXTURE);
    crib.write(&ALL);
    crib.env.repo().commit("all");

    let daemon = crib.daemon();
    all_answer(&crib, &daemon, BUILT);
    let first = crib.settled(&daemon, &ALL);
    let (status, log) = daemon.terminate();
    assert!(status.success() && !log.contains(CANARY), "{log}");
    assert_eq!(crib.containers(), first, "containers go on without the daemon");

    // After an end in order all are found again, and nothing is built.
    let daemon = crib.daemon();
    all_answer(&crib, &daemon, STARTED);
    assert_eq!(crib.settled(&daemon, &ALL), first);
    assert!(!daemon.log().contains("building"), "{}", daemon.log());
    daemon.kill();

    // After a kill only servers over HTTP are: a late answer could come out of the others.
    let daemon = crib.daemon();
    all_answer(&crib, &daemon, STARTED);
    let replaced = wait_for("the others to be replaced", STARTED, || {
        let now = crib.settled(&daemon, &ALL);
        now.iter().all(|(name, ids)| (*ids == first[name]) == (name == "web")).then_some(now)
    });
    assert!(!daemon.log().contains("building"), "{}", daemon.log());

    // One file of a context: one image, one server. Others stay as they are.
    let changed = FIXTURE.replace("def echo(", "def repeat(");
    assert_ne!(changed, FIXTURE);
    crib.env.repo().write("context/server.py", &changed).commit("another name");
    wait_for("the new name", STARTED, || names(&daemon).contains(&"built_repeat".to_owned()).then_some(()));
    let result = call(&daemon, "built_repeat", json!({"text": "anew"}));
    assert_eq!(text(&result), "anew", "{result}");
    wait_for("the old container to go", STARTED, || {
        let now = crib.settled(&daemon, &ALL);
        now.iter().all(|(name, ids)| (*ids != replaced[name]) == (name == "built")).then_some(())
    });

    crib.write(&["image", "web"]);
    crib.env.repo().commit("fewer");
    let left = crib.settled(&daemon, &["image", "web"]);
    assert_eq!(left["web"], first["web"]);
    secret_is_nowhere(&crib, &left["web"][0]);
    let (status, log) = daemon.terminate();
    assert!(status.success() && !log.contains(CANARY), "{log}");
}

/// Neither in the state directory nor with the engine.
fn secret_is_nowhere(crib: &Crib, container: &str) {
    let holds = |bytes: &[u8]| bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
    for file in std::fs::read_dir(crib.env.state()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            assert!(!holds(&std::fs::read(&path).unwrap()), "{}", path.display());
        }
    }
    let none = None::<bollard::query_parameters::InspectContainerOptions>;
    let inspected = crib.runtime.block_on(crib.engine.inspect_container(container, none)).unwrap();
    assert!(!format!("{inspected:?}").contains(CANARY));
}
