//! Many clients at once: calls a second, and the processor time of the gateway for each.
//!
//! Clients, gateway and servers share the cores, as on one machine they do: what a gateway does for a call
//! is time in which nobody else works. Every call has arguments of its own.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::backend::Backend;
use crate::client::{Client, Era};
use crate::daemon::Daemon;
use crate::fixture::Fixture;
use crate::report::{Report, Samples, show};

/// How long all clients of one way call in one turn.
const TURN: Duration = Duration::from_millis(1_500);
/// Turns of each way. Ways alternate, and of each figure the median turn counts.
const TURNS: usize = 5;
/// What the issue asks of many clients: calls a second, in parts of those without a gateway.
const SHARE: f64 = 0.4;

/// One way to a tool, for as many clients as are asked for.
pub(crate) struct Way {
    pub(crate) name: String,
    /// A client has a connection to each, and calls them in turn.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) path: String,
    pub(crate) era: Era,
    /// The bearer token, where one is asked for.
    pub(crate) token: Option<String>,
    /// Called in turn.
    pub(crate) tools: Vec<String>,
    /// The processes whose time and memory are told.
    pub(crate) processes: Vec<u32>,
}

/// What one turn showed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Turn {
    /// Calls a second.
    pub(crate) rate: f64,
    /// From a call to its answer.
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Processor time of the way's processes, for each call.
    pub(crate) processor: Duration,
}

impl Way {
    /// A connection to the first address.
    pub(crate) fn client(&self) -> Client {
        self.client_of(self.addresses[0])
    }

    fn client_of(&self, address: SocketAddr) -> Client {
        Client::connect_as(address, &self.path, self.era, self.token.clone()).unwrap()
    }

    /// `clients` call from one moment on, for so long.
    pub(crate) fn turn(&self, clients: usize, length: Duration) -> Turn {
        let ready = Barrier::new(clients + 1);
        std::thread::scope(|scope| {
            let call = |number| self.call(number, length, &ready);
            let callers: Vec<_> = (0..clients).map(|number| scope.spawn(move || call(number))).collect();
            ready.wait();
            let (began, before) = (Instant::now(), self.processor());
            let times: Vec<Duration> =
                callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
            let (elapsed, processor) = (began.elapsed(), self.processor().saturating_sub(before));
            let calls = u32::try_from(times.len()).unwrap();
            let samples = Samples::new(times);
            Turn {
                rate: f64::from(calls) / elapsed.as_secs_f64(),
                p50: samples.p50(),
                p99: samples.p99(),
                processor: processor / calls,
            }
        })
    }

    /// The turn whose figures are in the middle, each by itself.
    pub(crate) fn median(turns: &[Turn]) -> Turn {
        let middle = |of: fn(&Turn) -> Duration| Samples::new(turns.iter().map(of).collect()).p50();
        let mut rates: Vec<f64> = turns.iter().map(|turn| turn.rate).collect();
        rates.sort_by(f64::total_cmp);
        Turn {
            rate: rates[rates.len() / 2],
            p50: middle(|turn| turn.p50),
            p99: middle(|turn| turn.p99),
            processor: middle(|turn| turn.processor),
        }
    }

    fn call(&self, number: usize, length: Duration, ready: &Barrier) -> Vec<Duration> {
        let mut clients: Vec<_> = self.addresses.iter().map(|address| self.client_of(*address)).collect();
        let mut times = Vec::with_capacity(1 << 14);
        ready.wait();
        let end = Instant::now() + length;
        for at in 0.. {
            // Each client begins elsewhere, so that not all are at one server at a time.
            let turn = number + at;
            let (tool, said) = (&self.tools[turn % self.tools.len()], format!("hello-{number}-{at}"));
            let client = &mut clients[turn % self.addresses.len()];
            let body = client.body("tools/call", json!({"name": tool, "arguments": {"text": said}}));
            let start = Instant::now();
            if start >= end {
                break;
            }
            let answer = client.exchange("tools/call", Some(tool), &body).unwrap();
            times.push(start.elapsed());
            assert!(contains(&answer, &said), "{}: {}", self.name, String::from_utf8_lossy(&answer));
        }
        times
    }

    /// Time that the processes have used so far.
    fn processor(&self) -> Duration {
        self.processes.iter().map(|process| processor(*process)).sum()
    }
}

/// User and system time of a process and of what it waited for. The unit is a hundredth of a second on Linux.
fn processor(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    // `utime` and `stime` are fields 14 and 15 of all, the name being the second.
    let ticks: u64 =
        after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * ticks)
}

fn contains(body: &[u8], said: &str) -> bool {
    body.windows(said.len()).any(|window| window == said.as_bytes())
}

pub(crate) fn measure(report: &mut Report) {
    for (servers, tools) in [(1, 10), (8, 10), (1, 1_000), (1, 10_000)] {
        let figures: Vec<_> = figures(servers, tools)
            .map(|(era, clients)| (era, clients, name(clients, servers, tools, era)))
            .filter(|(_, _, name)| report.wants(name))
            .collect();
        if !figures.is_empty() && report.takes(tools) {
            let case = Case::new(servers, tools);
            for (era, clients, name) in figures {
                case.compare(report, era, clients, &name);
            }
        }
    }
}

/// Eras and numbers of clients. With one server and few tools all is told; else what changes with servers
/// and tools.
fn figures(servers: usize, tools: usize) -> impl Iterator<Item = (Era, usize)> {
    let full = servers == 1 && tools == 10;
    let eras: &[Era] = if full { &[Era::Modern, Era::Legacy] } else { &[Era::Modern] };
    let clients: &[usize] = if full { &[1, 8, 32] } else { &[1, 32] };
    eras.iter().flat_map(|&era| clients.iter().map(move |&clients| (era, clients)))
}

fn name(clients: usize, servers: usize, tools: usize, era: Era) -> String {
    format!("{clients} clients, {servers} servers, {tools} tools, {}: calls a second", era.version())
}

/// Servers behind one daemon.
struct Case {
    servers: usize,
    backends: Vec<Backend>,
    daemon: Daemon,
    _fixture: Fixture,
}

impl Case {
    fn new(servers: usize, tools: usize) -> Self {
        let backends: Vec<Backend> = (0..servers).map(|_| Backend::start(tools)).collect();
        let declared = |(number, backend): (usize, &Backend)| {
            let text = format!(
                "apiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {{name: s{number}}}\n\
                 spec: {{source: {{url: \"http://{}/mcp\"}}}}\n",
                backend.address
            );
            (format!("s{number}.yaml"), text)
        };
        let files: Vec<(String, String)> = backends.iter().enumerate().map(declared).collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (&**path, &**text)).collect();
        let fixture = Fixture::new(0, &files);
        let daemon = Daemon::start(fixture.path(), servers * tools);
        Self { servers, backends, daemon, _fixture: fixture }
    }

    fn direct(&self, era: Era) -> Way {
        Way {
            name: format!("direct, {}", era.version()),
            addresses: self.backends.iter().map(|backend| backend.address).collect(),
            path: "/mcp".to_owned(),
            era,
            token: None,
            tools: vec!["echo0".to_owned()],
            processes: Vec::new(),
        }
    }

    fn through(&self, era: Era) -> Way {
        Way {
            name: format!("toolcrib, {}", era.version()),
            addresses: vec![self.daemon.mcp],
            path: "/mcp".to_owned(),
            era,
            token: None,
            tools: (0..self.servers).map(|server| format!("s{server}_echo0")).collect(),
            processes: vec![self.daemon.process()],
        }
    }

    fn compare(&self, report: &mut Report, era: Era, clients: usize, name: &str) {
        let ways = [self.direct(era), self.through(era)];
        let mut turns = [Vec::new(), Vec::new()];
        for _ in 0..TURNS {
            for (way, turns) in ways.iter().zip(&mut turns) {
                turns.push(way.turn(clients, TURN));
            }
        }
        let [direct, ours] = turns.map(|turns| Way::median(&turns));
        let share = ours.rate / direct.rate;
        let goal = clients == 32;
        report.row(
            name,
            if goal { ">= 0.40 x direct" } else { "" },
            format!("{:.0}", ours.rate),
            format!(
                "{share:.2} x direct ({:.0}); p50 {} (direct {}), p99 {} (direct {}); {} of processor time a call",
                direct.rate,
                show(ours.p50),
                show(direct.p50),
                show(ours.p99),
                show(direct.p99),
                show(ours.processor),
            ),
            goal.then_some(share >= SHARE),
        );
    }
}
