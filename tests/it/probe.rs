//! The client and the prober against servers that others wrote: the Python SDK in both eras, `FastMCP`
//! over stdio and HTTP, and the reference server of the TypeScript SDK.

#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    reason = "tests start programs and servers, and fail by panicking"
)]

mod http;
mod undeclared;

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use toolcrib::live::{InstanceId, UpstreamKey};
use toolcrib::mcp::client::{CallError, Params, Upstream, Upstreams};
use toolcrib::ports::{CallContext, CallEvent, Channel, Greeting, Offer, Prober as _, telling};
use toolcrib::probe::Probe;
use toolcrib::resource::Name;

use crate::support::Port;

/// Python takes seconds to start on a busy machine.
const LONG: Duration = Duration::from_mins(1);

fn installed(variable: &str, what: &str) -> PathBuf {
    let folder = std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is not set: run `tests/run`, which installs {what}"));
    PathBuf::from(folder)
}

fn python(program: &str) -> Command {
    Command::new(installed("TOOLCRIB_IT_VENV", "Python's part").join("bin").join(program))
}

fn everything(transport: &str) -> Command {
    let bin = installed("TOOLCRIB_IT_NODE", "Node's part").join("node_modules/.bin/mcp-server-everything");
    let mut command = Command::new(bin);
    command.arg(transport);
    command
}

/// A script beside this file; with a port it serves HTTP there.
fn fixture(script: &str, port: Option<u16>) -> Command {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/probe").join(script);
    let mut command = python("python");
    command.arg(script).args(port.map(|port| port.to_string()));
    command
}

/// A server that was started, and the probe that knows it.
struct Bench {
    probe: Probe,
    upstreams: Arc<Upstreams>,
    key: UpstreamKey,
    offer: Offer,
    _child: Child,
    /// Where it listens.
    _port: Option<Port>,
}

impl Bench {
    async fn stdio(mut command: Command, greeting: Greeting<'_>) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the server starts");
        let reader = Box::new(child.stdout.take().expect("piped"));
        let writer = Box::new(child.stdin.take().expect("piped"));
        Self::probed(child, Channel::Stdio { reader, writer }, greeting).await
    }

    /// `command` listens on `port`.
    async fn http(mut command: Command, port: Port, greeting: Greeting<'_>) -> Self {
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let url = format!("http://{}/mcp", port.address);
        Self { _port: Some(port), ..Self::probed(child, Channel::Http { url }, greeting).await }
    }

    async fn of(script: &str, http: bool, greeting: Greeting<'_>) -> Self {
        if http {
            let port = Port::new();
            return Self::http(fixture(script, Some(port.number())), port, greeting).await;
        }
        Self::stdio(fixture(script, None), greeting).await
    }

    async fn probed(child: Child, channel: Channel, greeting: Greeting<'_>) -> Self {
        let upstreams = Arc::new(Upstreams::default());
        let probe = Probe::new(Arc::clone(&upstreams));
        let server = Name::parse("probed").expect("a name");
        let key = UpstreamKey { server, instance: InstanceId("one".to_owned()) };
        let cancel = CancellationToken::new();
        let offer = probe.probe(&key, channel, greeting, LONG, &cancel).await;
        let offer = offer.unwrap_or_else(|error| panic!("{}", error.chain()));
        Self { probe, upstreams, key, offer, _child: child, _port: None }
    }

    fn upstream(&self) -> Arc<Upstream> {
        self.upstreams.get(&self.key).expect("connected")
    }

    fn names(&self) -> Vec<String> {
        let name = |tool: &Arc<str>| serde_json::from_str::<Value>(tool).expect("JSON")["name"].clone();
        self.offer.tools.iter().map(|tool| name(tool).as_str().expect("named").to_owned()).collect()
    }

    async fn call(&self, tool: &str, arguments: Value, context: &CallContext) -> Result<Value, CallError> {
        let params = params(tool, &arguments);
        let result = self.upstream().call("tools/call", Params::of(&params), LONG, context).await?;
        Ok(serde_json::from_str(result.get()).expect("JSON"))
    }
}

fn params(tool: &str, arguments: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(&json!({"name": tool, "arguments": arguments})).expect("JSON")
}

#[tokio::test]
async fn a_server_of_the_python_sdk_is_spoken_to_in_either_era() {
    for (greeting, era) in [
        (Greeting::Unknown, "modern 2026-07-28"),
        (Greeting::Known("legacy 2025-11-25"), "legacy 2025-11-25"),
    ] {
        let mut command = python("mcp-server-time");
        command.args(["--local-timezone", "UTC"]);
        let bench = Bench::stdio(command, greeting).await;
        assert_eq!(bench.offer.protocol, era);
        assert_eq!(bench.names(), ["get_current_time", "convert_time"]);
        let now = bench.call("get_current_time", json!({"timezone": "UTC"}), &CallContext::default()).await;
        let now = now.expect("answered");
        assert!(now["content"][0]["text"].as_str().is_some_and(|text| text.contains("UTC")), "{now}");
        bench.probe.release(&bench.key, Duration::ZERO).await;
        assert!(bench.probe.connected().is_empty());
    }
}

#[tokio::test]
async fn everything_is_relayed_over_stdio_and_http_in_either_era() {
    for (http, greeting, era) in [
        (false, Greeting::Unknown, "modern 2026-07-28"),
        (false, Greeting::Known("legacy"), "legacy 2025-11-25"),
        (true, Greeting::Unknown, "modern 2026-07-28"),
        (true, Greeting::Known("legacy"), "legacy 2025-11-25"),
    ] {
        let case = format!("{era}, {}", if http { "http" } else { "stdio" });
        let bench = Bench::of("server.py", http, greeting).await;
        let offer = &bench.offer;
        assert_eq!(offer.protocol, era, "{case}");
        assert_eq!(bench.names(), ["add", "count", "wait", "grow"], "{case}");
        assert_eq!((offer.prompts.len(), offer.resources.len(), offer.templates.len()), (1, 1, 1), "{case}");
        assert_eq!(offer.instructions.as_deref(), Some("for the tests of the client"), "{case}");

        let sum = bench.call("add", json!({"a": 2, "b": 3}), &CallContext::default()).await;
        assert_eq!(sum.expect("answered")["structuredContent"]["result"], 5, "{case}");
        counts(&bench, &case).await;
        cancels(&bench, &case).await;
        grows(&bench, 5, &case).await;
    }
}

#[tokio::test]
async fn a_modern_server_is_subscribed_to() {
    for http in [false, true] {
        let bench = Bench::of("listening.py", http, Greeting::Unknown).await;
        assert_eq!(bench.offer.protocol, "modern 2026-07-28");
        grows(&bench, 2, if http { "http" } else { "stdio" }).await;
    }
}

async fn counts(bench: &Bench, case: &str) {
    let (teller, mut heard) = telling();
    let context = CallContext { events: Some(teller), progress: true, ..CallContext::default() };
    let counted = bench.call("count", json!({"to": 3}), &context).await.expect("answered");
    assert_eq!(counted["content"][0]["text"], "done", "{case}");
    let mut progress = Vec::new();
    while let Some(event) = heard.now() {
        if let CallEvent::Progress { progress: at, total, message } = event {
            progress.push((at, total, message));
        }
    }
    let expected = [1.0, 2.0, 3.0].map(|n| (n, Some(3.0), Some(format!("at {n}"))));
    assert_eq!(progress, expected, "{case}");
}

async fn cancels(bench: &Bench, case: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let left = folder.path().join("left");
    let context = CallContext::default();
    let call = bench.call("wait", json!({"path": left}), &context);
    let cancel = async {
        while bench.upstream().in_flight() == 0 {
            tokio::task::yield_now().await;
        }
        // The server must have begun: what it answers after this came after the call.
        bench.call("add", json!({"a": 1, "b": 1}), &CallContext::default()).await.expect("answered");
        context.cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(call, cancel);
    assert!(matches!(outcome, Err(CallError::Cancelled)), "{case}");
    let cancelled = async {
        while !left.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(LONG, cancelled).await.is_ok(), "{case}: the server heard of it");
}

async fn grows(bench: &Bench, tools: usize, case: &str) {
    bench.call("grow", json!({}), &CallContext::default()).await.expect("answered");
    let changed = tokio::time::timeout(LONG, bench.probe.changed()).await;
    assert_eq!(changed.ok().as_ref(), Some(&bench.key), "{case}: it said that its list changed");
    let offer = bench.probe.refresh(&bench.key, LONG).await.expect("listed");
    assert_eq!(offer.tools.len(), tools, "{case}");
}

#[tokio::test]
async fn the_reference_server_of_typescript_is_listed_and_called() {
    let port = Port::new();
    let mut http = everything("streamableHttp");
    http.env("PORT", port.number().to_string());
    for bench in [
        Bench::stdio(everything("stdio"), Greeting::Unknown).await,
        Bench::http(http, port, Greeting::Unknown).await,
    ] {
        assert!(bench.offer.tools.len() >= 5, "{:?}", bench.names());
        assert!(!bench.offer.prompts.is_empty() && !bench.offer.resources.is_empty());
        let echo = bench.call("echo", json!({"message": "é"}), &CallContext::default()).await;
        assert_eq!(echo.expect("answered")["content"][0]["text"], "Echo: é");
        bench.probe.release(&bench.key, Duration::ZERO).await;
    }
}
