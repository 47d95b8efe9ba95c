//! Other gateways beside ours, in front of the same server: what is added to a call, calls a second, the list
//! of a thousand tools, memory.
//!
//! `peers/run` installs them and says where with [`ROOT`]. Each is as it comes, with the settings that its
//! launcher names; what they do besides differs, and so do the protocol versions they speak: all are
//! measured with 2025-11-25, which all have.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::json;

use crate::backend::Backend;
use crate::client::{Client, Era, json_of};
use crate::daemon::{Daemon, free_address, program, wait_for};
use crate::fixture::Fixture;
use crate::load::{Turn, Way};
use crate::memory::forget;
use crate::report::{Report, Samples, show};

/// The variable with the folder in which the others are installed.
const ROOT: &str = "TOOLCRIB_BENCH_PEERS";
/// Tools of the server behind each.
const TOOLS: usize = 1_000;
/// Turns of each way, in alternation; the median counts.
const TURNS: usize = 5;
const TURN: Duration = Duration::from_secs(1);
/// Listings of all tools of each.
const LISTS: usize = 20;
const MANY: usize = 32;

/// Another gateway, with all processes it started.
struct Peer {
    child: Child,
    address: SocketAddr,
    token: Option<String>,
    _folder: tempfile::TempDir,
}

impl Peer {
    fn mcp_proxy(root: &Path, backend: SocketAddr) -> Self {
        let (address, folder) = (free_address(), tempfile::tempdir().unwrap());
        let config = format!(
            "[proxy]\nname = \"bench\"\n[proxy.listen]\nhost = \"127.0.0.1\"\nport = {}\n\
             [[backends]]\nname = \"echo\"\ntransport = \"http\"\nurl = \"http://{backend}/mcp\"\n",
            address.port()
        );
        let file = folder.path().join("proxy.toml");
        std::fs::write(&file, config).unwrap();
        let program = root.join("bin/mcp-proxy");
        forget(&program);
        let mut command = Command::new(program);
        command.arg("--config").arg(&file).stdout(Stdio::null());
        Self { child: spawn(&mut command), address, token: None, _folder: folder }.listening()
    }

    /// By a script beside this file, which prints `ready`, and a token where one is needed.
    fn python(root: &Path, name: &str, backend: SocketAddr) -> Self {
        let (address, folder) = (free_address(), tempfile::tempdir().unwrap());
        let script = format!("{}/tests/bench/peers/{name}.py", env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(root.join(name).join("bin/python"));
        // Not with its own folder among those of modules: scripts have the names of what they import.
        command.args(["-P", &script, &format!("http://{backend}/mcp"), &address.port().to_string()]);
        command.arg(folder.path()).stdout(Stdio::piped());
        let mut child = spawn(&mut command);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let token =
            line.trim().strip_prefix("ready").unwrap_or_else(|| panic!("{name} does not start")).trim();
        let token = (!token.is_empty()).then(|| token.to_owned());
        Self { child, address, token, _folder: folder }.listening()
    }

    fn listening(self) -> Self {
        wait_for(self.address);
        self
    }

    fn way(&self, name: &str) -> Way {
        let connects =
            |path: &&str| Client::connect_as(self.address, path, Era::Legacy, self.token.clone()).is_ok();
        let path = ["/mcp", "/", "/mcp/"].into_iter().find(connects);
        Way {
            name: name.to_owned(),
            addresses: vec![self.address],
            path: path.unwrap_or_else(|| panic!("{name} does not answer")).to_owned(),
            era: Era::Legacy,
            token: self.token.clone(),
            tools: Vec::new(),
            processes: descendants(self.child.id()),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let group = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// In a process group of its own, so that all it starts is ended with it.
fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().unwrap()
}

/// A process and all below it.
fn descendants(process: u32) -> Vec<u32> {
    let mut all = vec![process];
    let mut at = 0;
    while at < all.len() {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", all[at]));
        all.extend(
            children.unwrap_or_default().split_whitespace().filter_map(|child| child.parse::<u32>().ok()),
        );
        at += 1;
    }
    all
}

/// Their share of memory, in MiB: what several map is counted once.
fn memory(processes: &[u32]) -> f64 {
    let of = |process: &u32| {
        let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
        let line = rollup.lines().find(|line| line.starts_with("Pss:")).map(str::to_owned);
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u32>().ok()).unwrap_or_default()
    };
    processes.iter().map(|process| f64::from(of(process)) / 1024.0).sum()
}

/// All tools that a way lists, and how long that took.
fn list(client: &mut Client) -> (Vec<String>, Duration) {
    let (mut names, mut cursor, mut took) = (Vec::new(), None, Duration::ZERO);
    loop {
        let params = cursor.map_or_else(|| json!({}), |cursor: String| json!({"cursor": cursor}));
        let body = client.body("tools/list", params);
        let asked = Instant::now();
        let answer = client.exchange("tools/list", None, &body).unwrap();
        took += asked.elapsed();
        let page = json_of(&answer);
        let tools = page["result"]["tools"].as_array().unwrap_or_else(|| panic!("no tools: {page}"));
        names.extend(tools.iter().filter_map(|tool| tool["name"].as_str()).map(str::to_owned));
        cursor = page["result"]["nextCursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            return (names, took);
        }
    }
}

/// What was measured of one way.
struct Measured {
    name: String,
    one: Turn,
    many: Turn,
    list: Duration,
    memory: f64,
}

pub(crate) fn measure(report: &mut Report) {
    let Some(root) = std::env::var_os(ROOT) else {
        let figure = format!("{ROOT} is not set: run tests/bench/peers/run");
        return report.row("other gateways", "", figure, String::new(), None);
    };
    let root = Path::new(&root);
    let backend = Backend::start(TOOLS);
    let server = format!(
        "apiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {{name: echo}}\n\
         spec: {{source: {{url: \"http://{}/mcp\"}}}}\n",
        backend.address
    );
    let fixture = Fixture::new(0, &[("server.yaml", &server)]);
    forget(&program());
    let daemon = Daemon::start(fixture.path(), TOOLS);
    let peers = [
        ("mcp-proxy 0.6.0", Peer::mcp_proxy(root, backend.address)),
        ("fastmcp 4.0.11", Peer::python(root, "fastmcp", backend.address)),
        ("ContextForge 1.1.0", Peer::python(root, "contextforge", backend.address)),
    ];
    let own = |name: &str, address, processes| Way {
        name: name.to_owned(),
        addresses: vec![address],
        path: "/mcp".to_owned(),
        era: Era::Legacy,
        token: None,
        tools: Vec::new(),
        processes,
    };
    let mut ways =
        vec![own("direct", backend.address, Vec::new()), own("toolcrib", daemon.mcp, vec![daemon.process()])];
    ways.extend(peers.iter().map(|(name, peer)| peer.way(name)));
    let measured = compare(ways);
    let [direct, ours, others @ ..] = &measured[..] else { return };
    tell(report, direct, ours);
    for other in others {
        beside(report, direct, ours, other);
    }
}

/// A way while it is measured.
struct Measuring {
    way: Way,
    one: Vec<Turn>,
    many: Vec<Turn>,
    lists: Vec<Duration>,
}

impl Measuring {
    fn new(mut way: Way) -> Self {
        let mut client = way.client();
        let (names, _) = list(&mut client);
        // Some have tools of their own as well.
        assert!(names.len() >= TOOLS, "{} lists {} tools", way.name, names.len());
        way.tools = names.into_iter().filter(|name| name.ends_with("echo0")).collect();
        let lists = (0..LISTS).map(|_| list(&mut client).1).collect();
        Self { way, one: Vec::new(), many: Vec::new(), lists }
    }

    fn end(self) -> Measured {
        Measured {
            one: Way::median(&self.one),
            many: Way::median(&self.many),
            list: Samples::new(self.lists).p50(),
            memory: memory(&self.way.processes),
            name: self.way.name,
        }
    }
}

fn compare(ways: Vec<Way>) -> Vec<Measured> {
    let mut all: Vec<Measuring> = ways.into_iter().map(Measuring::new).collect();
    for _ in 0..TURNS {
        for Measuring { way, one, many, .. } in &mut all {
            one.push(way.turn(1, TURN));
            many.push(way.turn(MANY, TURN));
        }
    }
    all.into_iter().map(Measuring::end).collect()
}

fn added(way: &Measured, direct: &Measured) -> Duration {
    way.one.p50.saturating_sub(direct.one.p50)
}

fn shown(way: &Measured, direct: &Measured) -> String {
    format!(
        "adds {}; {:.0} calls a second of {MANY} clients; list {}; {:.1} MiB",
        show(added(way, direct)),
        way.many.rate,
        show(way.list),
        way.memory,
    )
}

fn tell(report: &mut Report, direct: &Measured, ours: &Measured) {
    let what = format!("toolcrib, 2025-11-25, {TOOLS} tools");
    let ratio =
        format!("{:.2} x the calls of direct ({:.0})", ours.many.rate / direct.many.rate, direct.many.rate);
    report.row(&what, "", shown(ours, direct), ratio, None);
}

/// Ahead in all four; of those in Python in calls by ten times.
fn beside(report: &mut Report, direct: &Measured, ours: &Measured, other: &Measured) {
    let factor = ours.many.rate / other.many.rate;
    let wanted = if other.name.starts_with("mcp-proxy") { 1.0 } else { 10.0 };
    let ahead = [
        added(ours, direct) < added(other, direct),
        factor >= wanted,
        ours.list < other.list,
        ours.memory < other.memory,
    ];
    let ratio = format!(
        "toolcrib adds {:.2} x as much, has {factor:.1} x the calls, {:.2} x the time of a list, {:.2} x the memory",
        added(ours, direct).as_secs_f64() / added(other, direct).as_secs_f64().max(1e-9),
        ours.list.as_secs_f64() / other.list.as_secs_f64(),
        ours.memory / other.memory,
    );
    let goal = format!("behind in all, calls by {wanted:.0} x");
    report.row(&other.name, &goal, shown(other, direct), ratio, Some(ahead.iter().all(|ahead| *ahead)));
}
