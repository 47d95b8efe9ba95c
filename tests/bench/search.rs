//! Searches of a toolset with thousands of tools, over HTTP.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Client, Era, json_of};
use crate::daemon::Daemon;
use crate::fixture::Fixture;
use crate::report::{Report, Samples, show, times};

/// Tools there are to find.
const TOOLS: usize = 10_000;
/// Searches that are measured, each for something else.
const SEARCHES: usize = 500;
const SET: &str = "apiVersion: toolcrib.dev/v1alpha1\nkind: Toolset\nmetadata: {name: all}\nspec: {select: [{names: ['*']}], search: true}\n";

pub(crate) fn measure(report: &mut Report) {
    if !report.takes(TOOLS) {
        return;
    }
    let fixture = Fixture::new(TOOLS, &[("set.yaml", SET)]);
    let daemon = Daemon::start(fixture.path(), TOOLS);
    let mut client = Client::connect(daemon.mcp, "/mcp/all", Era::Modern).unwrap();
    let mut search = |query: &str| {
        let params = json!({"name": "search_tools", "arguments": {"query": query}});
        let body = client.body("tools/call", params);
        let start = Instant::now();
        let answer = client.exchange("tools/call", Some("search_tools"), &body).unwrap();
        let took = start.elapsed();
        let found = &json_of(&answer)["result"]["structuredContent"]["found"];
        assert!(found.as_u64().is_some_and(|found| found > 0), "{found} found of {query}");
        took
    };
    let first = search("as first written");
    let samples =
        Samples::new((0..SEARCHES).map(|n| search(&format!("tool {n} as first written"))).collect());
    report.time(
        &format!("search_tools among {TOOLS} tools that all fit, p50"),
        Some(Duration::from_millis(20)),
        samples.p50(),
        format!("{}; p99 {}", times(samples.p50(), first, "the first, which reads all"), show(samples.p99())),
    );
}
