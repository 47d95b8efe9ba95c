//! Memory of connections that only wait.

use std::net::TcpStream;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;

use crate::daemon::Daemon;
use crate::fixture::Fixture;
use crate::report::Report;
use crate::stream;

/// KiB that each of a thousand may take.
const GOAL: u64 = 20;
/// After they were opened, before memory is read.
const REST: Duration = Duration::from_secs(2);
/// Tools of the repository.
const TOOLS: usize = 100;

pub(crate) fn measure(report: &mut Report) {
    // Here, and in the daemons: they are started with the limit of this process.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let fixture = Fixture::new(TOOLS, &[]);
    let mut idle = 0;
    for (count, what, goal) in [
        (1_000, "connection that asked once", None),
        (1_000, "subscriber", Some(GOAL)),
        (10_000, "subscriber", None),
    ] {
        if !report.takes(count) || count as u64 + 100 > hard {
            continue;
        }
        let daemon = Daemon::start(fixture.path(), TOOLS);
        std::thread::sleep(REST);
        let before = daemon.resident();
        let open = || match what {
            "subscriber" => stream::follow(daemon.mcp),
            _ => stream::begin(daemon.mcp, "server/discover", json!({}), "supportedVersions"),
        };
        let streams: Vec<TcpStream> = std::iter::repeat_with(open).take(count).collect();
        std::thread::sleep(REST);
        let bytes = daemon.resident().saturating_sub(before) * 1024 / streams.len() as u64;
        if idle == 0 {
            idle = bytes.max(1);
        }
        let tenths = bytes * 10 / idle;
        report.row(
            &format!("resident memory for each idle {what}, of {count}"),
            &goal.map_or_else(String::new, |goal| format!("<= {goal} KiB")),
            format!("{}.{} KiB", bytes / 1024, bytes % 1024 * 10 / 1024),
            format!("{}.{} x an idle connection", tenths / 10, tenths % 10),
            goal.map(|goal| bytes <= goal * 1024),
        );
        drop(streams);
    }
}
