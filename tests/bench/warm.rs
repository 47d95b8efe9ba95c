//! A call of a tool on the real engine: in a container that waits, in one of its own, and what the engine
//! takes for the same container through its API. Needs `DOCKER_HOST`, and `toolcrib.test/busybox:1` there.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::models::{ContainerCreateBody, ContainerSummary};
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions, WaitContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures::StreamExt as _;
use serde_json::json;

use crate::client::{Client, Era};
use crate::daemon::Daemon;
use crate::fixture::Fixture;
use crate::report::{Report, Samples, times};

/// Calls in a container that waited: each waits until the pool is full again.
const WARM: usize = 100;
/// Calls in a container of their own, and containers through the API.
const COLD: usize = 20;
/// Calls in one container.
const AGAIN: usize = 500;
/// Containers that wait.
const POOL: usize = 4;
/// After the pool is full: until its processes have settled.
const SETTLE: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_mins(1);

struct Engine {
    docker: Docker,
    runtime: tokio::runtime::Runtime,
}

impl Engine {
    /// Containers of a role and a tool.
    fn of(&self, role: &str, tool: &str) -> Vec<ContainerSummary> {
        let labels = vec![format!("dev.toolcrib/role={role}"), format!("dev.toolcrib/name={tool}")];
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        self.runtime.block_on(self.docker.list_containers(Some(options))).unwrap()
    }

    fn wait(&self, role: &str, tool: &str, count: usize) {
        let began = Instant::now();
        while self.of(role, tool).len() != count {
            assert!(began.elapsed() < PATIENCE, "{count} containers of `{tool}` ({role})");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the container of a call is made from, with another command.
    fn body(&self, tool: &str) -> ContainerCreateBody {
        let id = self.of("run", tool).remove(0).id.unwrap();
        let look = self.docker.inspect_container(&id, None::<InspectContainerOptions>);
        let seen = self.runtime.block_on(look).unwrap();
        let config = serde_json::to_value(seen.config.unwrap()).unwrap();
        let body: ContainerCreateBody = serde_json::from_value(config).unwrap();
        ContainerCreateBody {
            hostname: None,
            cmd: Some(vec!["true".to_owned()]),
            labels: None,
            host_config: seen.host_config,
            ..body
        }
    }

    /// Create, start, wait and remove; how long it took without and with the last.
    fn bare(&self, body: &ContainerCreateBody) -> (Duration, Duration) {
        self.runtime.block_on(async {
            let began = Instant::now();
            let options = None::<CreateContainerOptions>;
            let id = self.docker.create_container(options, body.clone()).await.unwrap().id;
            self.docker.start_container(&id, None::<StartContainerOptions>).await.unwrap();
            let ended = self.docker.wait_container(&id, None::<WaitContainerOptions>).next().await;
            assert_eq!(ended.unwrap().unwrap().status_code, 0);
            let ran = began.elapsed();
            let force = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            self.docker.remove_container(&id, Some(force)).await.unwrap();
            (ran, began.elapsed())
        })
    }
}

fn call(client: &mut Client, tool: &str) -> Duration {
    let began = Instant::now();
    let params = json!({"name": tool, "arguments": {}});
    let answer = client.request("tools/call", Some(tool), params).unwrap();
    let time = began.elapsed();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("\"isError\":false"), "{answer}");
    time
}

fn manifest(waits: &str, again: &str, cold: &str, sleeps: &str) -> String {
    let tool = |name: &str, command: &str, more: &str| {
        format!(
            "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Tool\nmetadata: {{name: {name}}}\nspec: {{description: Runs., image: 'toolcrib.test/busybox:1', runner: engine, command: {command}{more}}}\n"
        )
    };
    "apiVersion: toolcrib.dev/v1alpha1\nkind: Runner\nmetadata: {name: engine}\nspec: {docker: {}}\n"
        .to_owned()
        + &tool(waits, "['true']", &format!(", warm: {POOL}"))
        + &tool(again, "['true']", ", warm: 1, isolation: tool")
        + &tool(cold, "['true']", "")
        + &tool(sleeps, "[sleep, '2']", "")
}

fn tell(report: &mut Report, [bare, removed, own, warm, used]: &[Samples; 5]) {
    let baseline = "the bare API";
    let more = format!("p99 {:?}; with removal {:?}", bare.p99(), removed.p50());
    report.time("container through the API: create, start, wait, p50", None, bare.p50(), more);
    let goal = bare.p50().mul_f64(1.15);
    let ratio = times(own.p50(), bare.p50(), baseline);
    report.time("call of a tool in a container of its own, p50", Some(goal), own.p50(), ratio);
    let ratio = times(warm.p50(), bare.p50(), baseline);
    let what = "call of a tool in a container that waits";
    report.time(&format!("{what}, p50"), Some(Duration::from_millis(4)), warm.p50(), ratio);
    let ratio = times(warm.p99(), bare.p99(), baseline);
    report.time(&format!("{what}, p99"), Some(Duration::from_millis(15)), warm.p99(), ratio);
    let ratio = times(used.p50(), bare.p50(), baseline);
    report.time(
        "the same in one that was used before, p50",
        Some(Duration::from_millis(4)),
        used.p50(),
        ratio,
    );
    let ratio = times(used.p99(), bare.p99(), baseline);
    report.time("the same, p99", Some(Duration::from_millis(15)), used.p99(), ratio);
}

pub(crate) fn measure(report: &mut Report) {
    let Ok(host) = std::env::var("DOCKER_HOST") else {
        println!("  left out: DOCKER_HOST names no engine");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let docker = Docker::connect_with_unix(&host, 60, API_DEFAULT_VERSION).unwrap();
    let docker = runtime.block_on(docker.negotiate_version()).unwrap();
    let engine = Engine { docker, runtime };
    let names = ["waits", "again", "cold", "sleeps"].map(|name| format!("{name}-{}", std::process::id()));
    let [waits, again, cold, sleeps] = names;
    let manifest = manifest(&waits, &again, &cold, &sleeps);
    let fixture = Fixture::new(1, &[("engine.yaml", &manifest)]);
    let daemon = Daemon::start(fixture.path(), 5);
    let mut client = daemon.client(Era::Modern);

    let body = std::thread::scope(|scope| {
        let sleeping = scope.spawn(|| call(&mut daemon.client(Era::Modern), &sleeps));
        engine.wait("run", &sleeps, 1);
        let body = engine.body(&sleeps);
        sleeping.join().unwrap();
        body
    });
    engine.wait("run", &sleeps, 0);
    let full = || {
        engine.wait("warm", &waits, POOL);
        engine.wait("warm", &again, 1);
        std::thread::sleep(SETTLE);
    };
    let (mut bare, mut removed, mut own, mut warm) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    full();
    for _ in 0..COLD {
        let (ran, gone) = engine.bare(&body);
        bare.push(ran);
        removed.push(gone);
        own.push(call(&mut client, &cold));
        engine.wait("run", &cold, 0);
    }
    for _ in 0..WARM {
        full();
        warm.push(call(&mut client, &waits));
    }
    full();
    let used = (0..AGAIN).map(|_| call(&mut client, &again)).collect();
    tell(report, &[bare, removed, own, warm, used].map(Samples::new));
    drop(daemon);
    engine.wait("warm", &waits, 0);
}
