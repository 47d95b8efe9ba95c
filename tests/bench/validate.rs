//! What validating costs: the command on a whole repository, and one changed file as the daemon sees it.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use toolcrib::git::{self, Options};
use toolcrib::manifest::RepoPath;
use toolcrib::ports::Source;

use crate::fixture::{Fixture, file_of, tools};
use crate::passes::{network, validated, yaml_alone};
use crate::report::{Report, Samples, show, times};

/// Resources of one file.
const EACH: usize = 5;
/// Runs of the command, and changes of one file.
const RUNS: usize = 5;
const CHANGES: usize = 30;
/// The most memory the command may take, in KiB.
const MOST: u64 = 200 << 10;

pub(crate) fn measure(report: &mut Report) {
    for files in [200, 2_000] {
        let count = files * EACH;
        if !report.takes(count) {
            continue;
        }
        let (big, ms) = (count == 10_000, Duration::from_millis);
        let fixture = Fixture::of_files(files, EACH);
        let yaml = yaml_alone(count);
        let runs: Vec<(Duration, u64)> = (0..RUNS).map(|_| command(&fixture, count)).collect();
        let time = Samples::new(runs.iter().map(|(time, _)| *time).collect()).p50();
        let memory = runs.iter().map(|(_, memory)| *memory).max().unwrap_or_default();
        let name = |what: &str| format!("{what}, {count} resources in {files} files");
        let ratio = times(time, yaml, "serde_yaml alone, untyped");
        report.time(&name("validate"), big.then_some(ms(1_500)), time, ratio);
        report.row(
            &name("validate, most memory"),
            if big { "<= 200 MiB" } else { "" },
            format!("{:.1} MiB", f64::from(u32::try_from(memory).unwrap()) / 1024.0),
            String::new(),
            big.then_some(memory <= MOST),
        );
        let one = Samples::new(one_file(&fixture, files));
        let ratio = format!("{}; p99 {}", times(one.p50(), time, "the command"), show(one.p99()));
        report.time(&name("one changed file validated again"), big.then_some(ms(30)), one.p50(), ratio);
    }
}

/// How long the command takes, and the most memory it was seen to have, in KiB.
fn command(fixture: &Fixture, count: usize) -> (Duration, u64) {
    let mut command = Command::new(crate::daemon::program());
    command.args(["validate", "--ref", "main", "--output", "json", "--repo"]).arg(fixture.path());
    let file = tempfile::NamedTempFile::new().unwrap();
    let start = Instant::now();
    let mut child =
        command.stdin(Stdio::null()).stdout(file.reopen().unwrap()).stderr(Stdio::inherit()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    let ended = loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let seen = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let seen = seen.and_then(|seen| seen.trim().strip_suffix(" kB")?.parse().ok());
        most = most.max(seen.unwrap_or(0));
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let time = start.elapsed();
    let said: serde_json::Value = serde_json::from_reader(file.reopen().unwrap()).unwrap();
    assert!(ended.success() && said["resources"] == count + 1, "{said}");
    (time, most)
}

/// From the snapshot with one changed file to its faults, everything else known.
fn one_file(fixture: &Fixture, files: usize) -> Vec<Duration> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let state = tempfile::tempdir().unwrap();
    let source: Arc<dyn Source> = git::open(Options {
        repo: fixture.path().to_str().unwrap().to_owned(),
        reference: None,
        path: RepoPath::parse("").unwrap(),
        worktree: false,
        credentials: None,
        network: network(state.path()),
    })
    .unwrap();
    runtime.block_on(async {
        let first = source.fetch().await.unwrap();
        let mut known = validated(&*source, &first, None, None).await;
        let mut took = Vec::new();
        for round in 0..CHANGES {
            let text = tools(files / 2, EACH, &format!("round {round}"));
            fixture.stage(&[(file_of(files / 2), text)]).apply();
            let snapshot = source.fetch().await.unwrap();
            let start = Instant::now();
            known = validated(&*source, &snapshot, Some(&known.0), Some(&known.1)).await;
            took.push(start.elapsed());
        }
        took
    })
}
