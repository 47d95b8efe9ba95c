//! From a commit until `tools/list` shows it, on the built daemon.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::Era;
use crate::daemon::Daemon;
use crate::fixture::{Fixture, file_of, tool};
use crate::report::{Report, Samples, show, times};

/// Commits that are measured.
const COMMITS: usize = 150;
/// Between a commit and the next: a pass that is still going on must not be measured twice.
const PAUSE: Duration = Duration::from_millis(60);
/// Between two looks at the list: finer than the figure, and not a load of its own.
const LOOK: Duration = Duration::from_micros(500);

/// After which a commit counts as lost.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn measure(report: &mut Report) {
    for (tools, goals) in [(10, true), (1_000, false), (10_000, false)] {
        if !report.takes(tools) {
            continue;
        }
        let fixture = Fixture::new(tools, &[]);
        let daemon = Daemon::start(fixture.path(), tools);
        let mut client = daemon.client(Era::Modern);
        let mut list = Vec::new();
        let mut seen = Vec::new();
        for round in 0..COMMITS {
            std::thread::sleep(PAUSE);
            let mark = format!("round {round} of the measurement");
            // The first tool: it stands on the first page.
            let staged = fixture.stage(&[(file_of(0), tool(0, &mark))]);
            let committed = Instant::now();
            staged.apply();
            loop {
                let asked = Instant::now();
                let body = client.request("tools/list", None, json!({})).unwrap();
                list.push(asked.elapsed());
                if contains(&body, mark.as_bytes()) {
                    break;
                }
                let waited = committed.elapsed();
                assert!(waited < PATIENCE, "commit {round} is never shown\n{}", daemon.log());
                std::thread::sleep(LOOK);
            }
            seen.push(committed.elapsed());
        }
        let (seen, list) = (Samples::new(seen), Samples::new(list));
        let goal = |ms| goals.then(|| Duration::from_millis(ms));
        let name = |p: &str| format!("commit to tools/list, {tools} tools, {p} of {} commits", seen.len());
        let ratio = times(seen.p50(), list.p50(), "one tools/list of the same");
        report.time(&name("p50"), goal(50), seen.p50(), ratio);
        report.time(&name("p99"), goal(150), seen.p99(), format!("slowest {}", show(seen.percentile(100))));
    }
}

fn contains(body: &[u8], needle: &[u8]) -> bool {
    body.windows(needle.len()).any(|window| window == needle)
}
