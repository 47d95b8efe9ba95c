//! What the gateway adds to a call, beside another gateway; and lists from memory.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::backend::Backend;
use crate::client::{Client, Era, json_of};
use crate::daemon::{Daemon, free_address, wait_for};
use crate::fixture::Fixture;
use crate::report::{Report, Samples, show, times};

/// Calls of each way in a turn; turns alternate, so that all ways share what disturbs them.
const TURN: usize = 100;
const TURNS: usize = 40;
/// The variable that names the program of the other gateway.
const PEER: &str = "TOOLCRIB_BENCH_MCP_PROXY";

/// One way to the backend.
struct Way {
    name: &'static str,
    client: Client,
    tool: String,
    times: Vec<Duration>,
}

impl Way {
    fn new(name: &'static str, client: Client, tool: &str) -> Self {
        Self { name, client, tool: tool.to_owned(), times: Vec::new() }
    }

    fn turn(&mut self) {
        for _ in 0..TURN {
            let params = json!({"name": self.tool, "arguments": {"text": "hello"}});
            let body = self.client.body("tools/call", params);
            let start = Instant::now();
            let answer = self.client.exchange("tools/call", Some(&self.tool), &body).unwrap();
            self.times.push(start.elapsed());
            debug_assert!(json_of(&answer)["result"]["content"][0]["text"] == "hello");
        }
    }

    /// Fails unless a call comes back with what was sent.
    fn check(mut self) -> Self {
        let params = json!({"name": self.tool, "arguments": {"text": "hello"}});
        let answer = json_of(&self.client.request("tools/call", Some(&self.tool.clone()), params).unwrap());
        assert_eq!(answer["result"]["content"][0]["text"], "hello", "{}: {answer}", self.name);
        self
    }
}

pub(crate) fn measure(report: &mut Report) {
    let backend = Backend::start(1);
    let server = format!(
        "apiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata:\n  name: echo\nspec:\n  source:\n    \
         url: http://{}/mcp\n",
        backend.address
    );
    let fixture = Fixture::new(0, &[("server.yaml", &server)]);
    let daemon = Daemon::start(fixture.path(), 1);
    let direct = |era| Client::connect(backend.address, "/mcp", era).unwrap();
    let mut ways = vec![
        Way::new("direct, 2026-07-28", direct(Era::Modern), "echo0").check(),
        Way::new("toolcrib, 2026-07-28", daemon.client(Era::Modern), "echo_echo0").check(),
        Way::new("direct, 2025-11-25", direct(Era::Legacy), "echo0").check(),
        Way::new("toolcrib, 2025-11-25", daemon.client(Era::Legacy), "echo_echo0").check(),
    ];
    let peer = std::env::var(PEER).ok().map(|program| Peer::start(&program, backend.address));
    if let Some(peer) = &peer {
        let client = Client::connect(peer.address, "/mcp", Era::Legacy)
            .or_else(|_| Client::connect(peer.address, "/", Era::Legacy))
            .unwrap();
        let tool = first_tool(peer);
        ways.push(Way::new("mcp-proxy 0.6.0, 2025-11-25", client, &tool).check());
    }
    for _ in 0..TURNS {
        for way in &mut ways {
            way.turn();
        }
    }
    // The first turn warms up.
    let samples: Vec<(&str, Samples)> =
        ways.into_iter().map(|mut way| (way.name, Samples::new(way.times.split_off(TURN)))).collect();
    let find = |name: &str| samples.iter().find(|(known, _)| known.starts_with(name)).map(|(_, s)| s);
    for (name, samples) in &samples {
        report.row(
            &format!("call, {name}"),
            "",
            show(samples.p50()),
            format!("p99 {}", show(samples.p99())),
            None,
        );
    }
    let added = |way: &str, base: &str| Some(find(way)?.p50().saturating_sub(find(base)?.p50()));
    let goal = Some(Duration::from_micros(200));
    for era in ["2026-07-28", "2025-11-25"] {
        let base = find(&format!("direct, {era}")).unwrap().p50();
        let ours = added(&format!("toolcrib, {era}"), &format!("direct, {era}")).unwrap();
        report.time(
            &format!("added to a direct call, {era}, p50"),
            goal,
            ours,
            times(ours, base, "the direct call"),
        );
    }
    let ours = added("toolcrib, 2025-11-25", "direct, 2025-11-25").unwrap();
    match added("mcp-proxy", "direct, 2025-11-25") {
        Some(theirs) => report.row(
            "added by mcp-proxy 0.6.0, 2025-11-25, p50",
            "more than by toolcrib",
            show(theirs),
            format!("toolcrib adds {:.2} x as much", ours.as_secs_f64() / theirs.as_secs_f64().max(1e-9)),
            Some(ours < theirs),
        ),
        None => report.row("added by mcp-proxy 0.6.0", "", format!("{PEER} is not set"), String::new(), None),
    }
}

/// The other gateway in front of the same backend.
struct Peer {
    address: SocketAddr,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Peer {
    fn start(program: &str, backend: SocketAddr) -> Self {
        let (address, folder) = (free_address(), tempfile::tempdir().unwrap());
        let config = format!(
            "[proxy]\nname = \"bench\"\n[proxy.listen]\nhost = \"127.0.0.1\"\nport = {}\n\
             [[backends]]\nname = \"echo\"\ntransport = \"http\"\nurl = \"http://{backend}/mcp\"\n",
            address.port()
        );
        let file = folder.path().join("proxy.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(program);
        command.arg("--config").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        wait_for(address);
        Self { address, child, _folder: folder }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the peer calls the backend's tool.
fn first_tool(peer: &Peer) -> String {
    let mut client = Client::connect(peer.address, "/mcp", Era::Legacy)
        .or_else(|_| Client::connect(peer.address, "/", Era::Legacy))
        .unwrap();
    let list = json_of(&client.request("tools/list", None, json!({})).unwrap());
    let tools = list["result"]["tools"].as_array().unwrap().clone();
    let names = tools.iter().filter_map(|tool| tool["name"].as_str());
    names.filter(|name| name.ends_with("echo0")).map(str::to_owned).next().unwrap()
}

/// `tools/list` of a thousand tools.
pub(crate) fn lists(report: &mut Report) {
    let fixture = Fixture::new(1_000, &[]);
    let daemon = Daemon::start(fixture.path(), 1_000);
    for era in [Era::Modern, Era::Legacy] {
        let mut client = daemon.client(era);
        let (mut lists, mut small) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        for _ in 0..1_000 {
            let body = client.body("tools/list", json!({}));
            let start = Instant::now();
            bytes = client.exchange("tools/list", None, &body).unwrap().len();
            lists.push(start.elapsed());
            let body = client.body("prompts/list", json!({}));
            let start = Instant::now();
            client.exchange("prompts/list", None, &body).unwrap();
            small.push(start.elapsed());
        }
        let (lists, small) = (Samples::new(lists), Samples::new(small));
        report.time(
            &format!("tools/list of 1000 tools, {era:?}, {} KiB, p50", bytes >> 10),
            Some(Duration::from_millis(1)),
            lists.p50(),
            format!("{}; p99 {}", times(lists.p50(), small.p50(), "an empty list"), show(lists.p99())),
        );
    }
}
