//! Servers as processes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use toolcrib::desired::{Limits, Workload};
use toolcrib::live::{Instance, InstanceState};
use toolcrib::ports::{Channel, Identity, Material, PortResult, Runner as _, SecretValue};
use toolcrib::resource::server::Transport;
use toolcrib::resource::{Digest, Kind, Name, ResourceId};

use super::bench::Bench;

const LONG: Duration = Duration::from_mins(1);

async fn start(
    bench: &Bench,
    script: &str,
    transport: Transport,
    material: Material,
) -> PortResult<Instance> {
    let resource = ResourceId::new(Kind::Server, Name::parse("weather").unwrap());
    let identity = Identity {
        name: "weather-0-x".to_owned(),
        resource: resource.clone(),
        digest: Digest::of_bytes(b"weather"),
        revision: "main@sha1:0".to_owned(),
    };
    let workload = Workload {
        resource,
        runner: Name::parse("local").unwrap(),
        program: bench.script(script),
        env: BTreeMap::new(),
        files: BTreeMap::new(),
        transport,
        limits: Limits::default(),
        security: Arc::default(),
        volumes: BTreeMap::new(),
        egress: Arc::default(),
    };
    bench.runner.start(&identity, &workload, material).await
}

async fn changed(bench: &Bench) {
    tokio::time::timeout(LONG, bench.runner.changed()).await.expect("it tells of an end");
}

#[tokio::test]
async fn a_stdio_server_is_spoken_to_once_and_its_end_is_told() {
    let bench = Bench::new();
    let instance = start(&bench, "cat", Transport::Stdio, Material::default()).await.ok().unwrap();
    assert_eq!(bench.runner.observe().await.ok(), Some(vec![instance.clone()]));
    assert_eq!((instance.state.clone(), instance.name.as_str()), (InstanceState::Running, "weather-0-x"));
    let Ok(Channel::Stdio { reader, mut writer }) = bench.runner.connect(&instance.id).await else {
        panic!("a stdio server has pipes")
    };
    writer.write_all(b"{\"id\":1}\n").await.unwrap();
    writer.flush().await.unwrap();
    let mut lines = BufReader::new(reader).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("{\"id\":1}"));
    let again = bench.runner.connect(&instance.id).await.err().unwrap();
    assert_eq!(again.operation, "`weather-0-x` was connected before");

    drop(writer);
    changed(&bench).await;
    let observed = bench.runner.observe().await.ok().unwrap();
    assert_eq!(observed[0].state, InstanceState::Exited { code: Some(0) });
    let late = bench.runner.connect(&instance.id).await.err().unwrap();
    assert_eq!(late.operation, "`weather-0-x` has exited with code 0");
    for _ in 0..2 {
        bench.runner.stop(&instance.id, LONG).await.ok().unwrap();
        assert_eq!(bench.runner.observe().await.ok(), Some(Vec::new()));
    }
    assert!(bench.leftovers().is_empty(), "{:?}", bench.leftovers());
}

#[tokio::test]
async fn a_server_that_crashes_leaves_its_last_words_without_secrets() {
    let bench = Bench::new();
    let canary = SecretValue::new(&b"canary-51c0"[..]);
    let material = Material {
        env: BTreeMap::from([("TOKEN".to_owned(), canary.clone())]),
        secrets: vec![canary],
        ..Material::default()
    };
    let script = "echo \"token $TOKEN is wrong\" >&2; exit 3";
    let instance = start(&bench, script, Transport::Stdio, material).await.ok().unwrap();
    changed(&bench).await;
    assert_eq!(bench.runner.logs(&instance.id).await.ok().unwrap(), "token [secret] is wrong\n");
    let error = bench.runner.connect(&instance.id).await.err().unwrap();
    assert_eq!(error.operation, "`weather-0-x` has exited with code 3");
    assert_eq!(error.detail.as_deref(), Some("token [secret] is wrong\n"));
}

/// Whoever hears that a server has ended asks for its log in the same moment.
#[tokio::test]
async fn what_was_written_before_the_log_is_asked_for_is_in_it() {
    let bench = Bench::new();
    for end in ["", "exec cat"] {
        let script = format!("echo last words >&2; echo told; {end}");
        let instance = start(&bench, &script, Transport::Stdio, Material::default()).await.ok().unwrap();
        let Ok(Channel::Stdio { reader, writer: _writer }) = bench.runner.connect(&instance.id).await else {
            panic!("a stdio server has pipes")
        };
        let mut lines = BufReader::new(reader).lines();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("told"));
        assert_eq!(bench.runner.logs(&instance.id).await.ok().unwrap(), "last words\n", "{end:?}");
        bench.runner.stop(&instance.id, Duration::ZERO).await.ok().unwrap();
    }
}

#[tokio::test]
async fn a_stubborn_server_is_stopped_after_its_grace() {
    let bench = Bench::new();
    let script = "trap '' TERM; echo ready; while :; do sleep 1000; done";
    let instance = start(&bench, script, Transport::Stdio, Material::default()).await.ok().unwrap();
    let Ok(Channel::Stdio { reader, writer: _writer }) = bench.runner.connect(&instance.id).await else {
        panic!("a stdio server has pipes")
    };
    let mut lines = BufReader::new(reader).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("ready"));
    let stop = bench.runner.stop(&instance.id, Duration::from_millis(50));
    tokio::time::timeout(LONG, stop).await.expect("it is stopped").ok().unwrap();
    assert_eq!(lines.next_line().await.unwrap(), None);
    assert_eq!(bench.runner.observe().await.ok(), Some(Vec::new()));
}

#[tokio::test]
async fn an_http_server_needs_its_port_for_itself() {
    let bench = Bench::new();
    let held = crate::support::Port::new();
    let (listener, port) = (std::net::TcpListener::bind(held.address).unwrap(), held.number());
    let http = || Transport::StreamableHttp { port, path: "/mcp".to_owned() };
    let error = start(&bench, "exec sleep 1000", http(), Material::default()).await.err().unwrap();
    assert_eq!(error.operation, format!("port {port} is taken on this machine"));
    drop(listener);
    let instance = start(&bench, "exec sleep 1000", http(), Material::default()).await.ok().unwrap();
    let Ok(Channel::Http { url }) = bench.runner.connect(&instance.id).await else {
        panic!("it has an address")
    };
    assert_eq!(url, format!("http://127.0.0.1:{port}/mcp"));
    bench.runner.shutdown(Duration::ZERO).await;
    assert!(bench.leftovers().is_empty(), "{:?}", bench.leftovers());
}
