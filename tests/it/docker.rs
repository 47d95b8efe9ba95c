//! The Docker runner on a real engine: the one `DOCKER_HOST` names (`tests/run setup` starts it).
#![expect(clippy::unwrap_used, clippy::panic, reason = "what a test needs and does not get ends it")]

mod builds;
mod confinement;
mod daemon;
mod health;
mod egress;
mod killed;
mod lifecycle;
mod lock;
mod runs;
mod servers;
mod strangers;
mod update;
mod volumes;
mod warm;
mod warm_daemon;
mod warm_declared;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use tokio::io::{AsyncBufReadExt, BufReader};
use toolcrib::desired::{Limits, Program, Workload};
use toolcrib::live::Instance;
use toolcrib::ports::{Channel, Identity, Material, Run, RunEvent, Runner, Running, SecretValue};
use toolcrib::resource::server::Transport;
use toolcrib::resource::{Cpu, Digest, Kind, Memory, Name, ResourceId};
use toolcrib::runner::docker::{DockerRunner, Settings};

const BUSYBOX: &str = "toolcrib.test/busybox:1";
/// Of anything an engine does in these tests.
const PATIENCE: Duration = Duration::from_mins(1);

fn host() -> String {
    #[expect(clippy::disallowed_methods, reason = "tests are told by the environment where the engine is")]
    let host = std::env::var("DOCKER_HOST");
    host.expect("DOCKER_HOST names the engine of the tests: eval \"$(tests/run setup)\"")
}

/// Ends everything that an owner has on the engine, but its images.
pub(crate) fn forget(owner: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let runner = runner(owner, false);
        for instance in runner.observe().await.unwrap_or_default() {
            let _ = runner.stop(&instance.id, Duration::ZERO).await;
        }
        let _ = runner.sweep().await;
        let _ = runner.keep_egress(&BTreeSet::new()).await;
        runner.close().await;
    });
}

/// How many containers an owner has.
pub(crate) fn count(owner: &str) -> usize {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let runner = runner(owner, false);
        let seen = runner.observe().await.unwrap().len();
        runner.close().await;
        seen
    })
}

/// A runner with an owner of its own, so that tests do not see each other's containers.
struct Place {
    runner: DockerRunner,
    owner: String,
    engine: Docker,
}

impl Place {
    async fn new(test: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let owner = format!("it-{test}-{}-{count}", std::process::id());
        let engine = Docker::connect_with_unix(&host(), 60, API_DEFAULT_VERSION).unwrap();
        let engine = engine.negotiate_version().await.unwrap();
        Self { runner: runner(&owner, false), owner, engine }
    }

    /// Everything of this place goes.
    async fn finish(self) {
        for instance in self.runner.observe().await.unwrap() {
            self.runner.stop(&instance.id, Duration::ZERO).await.unwrap();
        }
        self.runner.close().await;
        let last = runner(&self.owner, false);
        last.sweep().await.unwrap();
        for volume in last.volumes().await.unwrap() {
            last.remove_volume(&volume).await.unwrap();
        }
        last.collect(&BTreeSet::new()).await.unwrap();
        last.keep_egress(&BTreeSet::new()).await.unwrap();
    }

    async fn start(&self, workload: &Workload, material: Material) -> Instance {
        let identity = identity(&format!("{}-{}", self.owner, workload.resource.name));
        within(self.runner.start(&identity, workload, material)).await.unwrap()
    }

    async fn run(&self, run: Run) -> Output {
        let running = within(self.runner.run(run)).await.unwrap();
        within(output(running)).await
    }

    fn name(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.owner)
    }
}

fn runner(owner: &str, clean: bool) -> DockerRunner {
    let name = Name::parse("local").unwrap();
    DockerRunner::new(Settings { name, host: host(), owner: owner.to_owned(), clean })
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("the engine did it in time")
}

fn identity(name: &str) -> Identity {
    Identity {
        name: name.to_owned(),
        resource: ResourceId::new(Kind::Server, Name::parse("server").unwrap()),
        digest: Digest::of_bytes(name.as_bytes()),
        revision: "main@sha1:0000".to_owned(),
    }
}

fn program(image: &str, command: &[&str]) -> Program {
    let command: Vec<_> = command.iter().map(|part| (*part).to_owned()).collect();
    Program::Image {
        reference: image.to_owned(),
        id: None,
        entrypoint: (!command.is_empty()).then_some(command),
        args: None,
    }
}

fn limits() -> Limits {
    Limits { memory: Memory(64 << 20), cpu: Cpu(500), pids: 32, ..Limits::default() }
}

fn workload(image: &str, command: &[&str], transport: Transport) -> Workload {
    Workload {
        resource: ResourceId::new(Kind::Server, Name::parse("server").unwrap()),
        runner: Name::parse("local").unwrap(),
        program: program(image, command),
        env: BTreeMap::new(),
        files: BTreeMap::new(),
        transport,
        limits: limits(),
        security: Arc::default(),
        volumes: BTreeMap::new(),
        egress: Arc::default(),
    }
}

fn http() -> Transport {
    Transport::StreamableHttp { port: 8000, path: "/mcp".to_owned() }
}

fn one_run(name: String, image: &str, command: &[&str]) -> Run {
    Run {
        name,
        resource: ResourceId::new(Kind::Tool, Name::parse("tool").unwrap()),
        revision: "main@sha1:0000".to_owned(),
        digest: Digest::of_bytes(b"run"),
        program: program(image, command),
        stdin: None,
        material: Material::default(),
        limits: limits(),
        security: Arc::default(),
        volumes: Arc::default(),
        egress: Arc::default(),
        timeout: PATIENCE,
    }
}

fn secret(text: &str) -> SecretValue {
    SecretValue::new(text.as_bytes())
}

/// What a run said.
#[derive(Debug, Default, PartialEq)]
struct Output {
    stdout: String,
    stderr: String,
    code: Option<i64>,
    error: Option<String>,
}

async fn output(mut running: Running) -> Output {
    let mut output = Output::default();
    while let Some(event) = running.events.recv().await {
        match event {
            Ok(RunEvent::Stdout(bytes)) => output.stdout.push_str(std::str::from_utf8(&bytes).unwrap()),
            Ok(RunEvent::Stderr(bytes)) => output.stderr.push_str(std::str::from_utf8(&bytes).unwrap()),
            Ok(RunEvent::Exit(code)) => output.code = Some(code),
            Err(error) => output.error = Some(error.chain()),
        }
    }
    output
}

/// The two ends of a stdio server.
struct Spoken {
    lines: tokio::io::Lines<BufReader<Box<dyn tokio::io::AsyncRead + Send + Unpin>>>,
    writer: Box<dyn tokio::io::AsyncWrite + Send + Unpin>,
}

impl Spoken {
    fn new(channel: Channel) -> Self {
        let Channel::Stdio { reader, writer } = channel else { panic!("a stdio server has streams") };
        Self { lines: BufReader::new(reader).lines(), writer }
    }

    async fn say(&mut self, text: &str) -> Option<String> {
        use tokio::io::AsyncWriteExt;
        self.writer.write_all(format!("{text}\n").as_bytes()).await.unwrap();
        self.writer.flush().await.unwrap();
        within(self.lines.next_line()).await.unwrap()
    }
}
