//! What the gateway adds to a call, and lists from memory.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::backend::Backend;
use crate::client::{Client, Era, json_of};
use crate::daemon::Daemon;
use crate::fixture::Fixture;
use crate::report::{Report, Samples, show, times};

/// Calls of each way in a turn; turns alternate, so that all ways share what disturbs them.
const TURN: usize = 100;
const TURNS: usize = 40;

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
            // Different each time, so that nobody answers from memory.
            let said = format!("hello {}", self.times.len());
            let params = json!({"name": self.tool, "arguments": {"text": said}});
            let body = self.client.body("tools/call", params);
            let start = Instant::now();
            let answer = self.client.exchange("tools/call", Some(&self.tool), &body).unwrap();
            self.times.push(start.elapsed());
            debug_assert!(json_of(&answer)["result"]["content"][0]["text"] == said.as_str());
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
}

/// The first page of `tools/list`, of a thousand tools and of ten thousand.
pub(crate) fn lists(report: &mut Report) {
    for tools in [1_000, 10_000] {
        if report.takes(tools) {
            first_page(report, tools);
        }
    }
}

fn first_page(report: &mut Report, tools: usize) {
    let fixture = Fixture::new(tools, &[]);
    let daemon = Daemon::start(fixture.path(), tools);
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
            &format!("tools/list of {tools} tools, {}, first page ({} KiB), p50", era.version(), bytes >> 10),
            Some(Duration::from_millis(1)),
            lists.p50(),
            format!("{}; p99 {}", times(lists.p50(), small.p50(), "an empty list"), show(lists.p99())),
        );
    }
}
