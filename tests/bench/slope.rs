//! Whether long use grows memory: rounds of everything a client can begin and end, and revisions.

use std::time::Duration;

use serde_json::json;

use crate::client::Era;
use crate::daemon::Daemon;
use crate::fixture::{Fixture, file_of, tool};
use crate::report::Report;
use crate::stream;

/// Rounds, of which the first half fills caches, journals and the allocator.
const ROUNDS: usize = 16;
/// In each round.
const LISTS: usize = 2_000;
const CALLS: usize = 100;
const SESSIONS: usize = 300;
const SUBSCRIPTIONS: usize = 300;
const REVISIONS: usize = 20;
/// Growth of one round, over the second half: less is what an allocator leaves between its pages.
const GOAL_KIB: u64 = 100;
/// After a round, before memory is read: what ends needs a moment.
const REST: Duration = Duration::from_millis(500);
/// After each half: longer than catalogs are kept after they were replaced, so that what is read then is
/// what stays. The next revision lets go of them.
const RETENTION: Duration = Duration::from_secs(61);
const TOOLS: usize = 100;

pub(crate) fn measure(report: &mut Report) {
    let rounds = if report.takes(10_000) { ROUNDS } else { 4 };
    let fixture = Fixture::new(TOOLS, &[]);
    let daemon = Daemon::start(fixture.path(), TOOLS);
    let mut resident = Vec::new();
    let mut half = |from: usize| {
        for at in from..from + rounds / 2 {
            round(&daemon, &fixture, at);
            std::thread::sleep(REST);
            resident.push(daemon.resident());
        }
        std::thread::sleep(RETENTION);
        revise(&daemon, &fixture, &format!("after round {from}"));
        std::thread::sleep(REST);
        resident.push(daemon.resident());
        daemon.resident()
    };
    let (middle, last) = (half(0), half(rounds / 2));
    let growth = last.saturating_sub(middle) / (rounds - rounds / 2) as u64;
    let shown: Vec<String> = resident.iter().map(|kib| format!("{:.1}", mib(*kib))).collect();
    report.row(
        &format!(
            "growth for each of {rounds} rounds of {LISTS} lists, {CALLS} calls, {SESSIONS} sessions, \
             {SUBSCRIPTIONS} subscriptions, {REVISIONS} revisions"
        ),
        &format!("<= {GOAL_KIB} KiB"),
        format!("{growth} KiB"),
        format!("MiB after each: {}", shown.join(", ")),
        Some(growth <= GOAL_KIB),
    );
}

fn mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap()) / 1024.0
}

fn round(daemon: &Daemon, fixture: &Fixture, at: usize) {
    for era in [Era::Modern, Era::Legacy] {
        let mut client = daemon.client(era);
        for _ in 0..LISTS / 2 {
            client.request("tools/list", None, json!({})).unwrap();
        }
        for n in 0..CALLS / 2 {
            let params = json!({"name": "tool-00001", "arguments": {"city": format!("city {n}")}});
            client.request("tools/call", Some("tool-00001"), params).unwrap();
        }
    }
    for _ in 0..SESSIONS {
        stream::session(daemon.mcp);
    }
    for _ in 0..SUBSCRIPTIONS {
        drop(stream::follow(daemon.mcp));
    }
    for n in 0..REVISIONS {
        revise(daemon, fixture, &format!("revision {n} of round {at}"));
    }
}

/// Commits a revision, and waits until it is listed.
fn revise(daemon: &Daemon, fixture: &Fixture, mark: &str) {
    let mut client = daemon.client(Era::Modern);
    fixture.stage(&[(file_of(0), tool(0, mark))]).apply();
    while !String::from_utf8_lossy(&client.request("tools/list", None, json!({})).unwrap()).contains(mark) {}
}
