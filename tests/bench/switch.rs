//! A thousand revisions under load: what is lost, how soon the first client sees each, and what one dead
//! server does to others.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::backend::Backend;
use crate::client::{Client, Era, json_of};
use crate::daemon::Daemon;
use crate::fixture::Fixture;
use crate::report::{Report, Samples, show, times};
use crate::stream;

const REVISIONS: usize = 1_000;
/// More than one page has.
const TOOLS: usize = 1_050;
/// After which a revision, or what is told of it, counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of each era.
const CALLERS: usize = 2;
/// Requests of each kind to each daemon, in turns.
const TURNS: usize = 30;
const TURN: usize = 30;

fn marker(n: usize) -> String {
    format!("r{n:04}")
}

fn server(name: &str, address: SocketAddr, more: &str) -> String {
    format!(
        "apiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {{name: {name}}}\nspec:\n  source: {{url: \"http://{address}/mcp\"}}\n{more}"
    )
}

/// What went wrong under load.
#[derive(Default)]
struct Load {
    done: AtomicBool,
    calls: AtomicUsize,
    listings: AtomicUsize,
    lost: AtomicUsize,
    changed: AtomicUsize,
    mixed: AtomicUsize,
}

impl Load {
    fn call(&self, mut client: Client) {
        let mut n = 0_usize;
        while !self.done.load(Ordering::Relaxed) {
            let text = format!("call {n}");
            let params = json!({"name": "stable_echo0", "arguments": {"text": text}});
            match client.request("tools/call", Some("stable_echo0"), params) {
                Err(_) => drop(self.lost.fetch_add(1, Ordering::Relaxed)),
                Ok(body) if json_of(&body)["result"]["content"][0]["text"] != text.as_str() => {
                    self.changed.fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) => drop(self.calls.fetch_add(1, Ordering::Relaxed)),
            }
            n += 1;
        }
    }

    fn list(&self, mut client: Client) {
        while !self.done.load(Ordering::Relaxed) {
            match marker_of(&mut client) {
                Ok(Some(_)) => self.listings.fetch_add(1, Ordering::Relaxed),
                Ok(None) => self.mixed.fetch_add(1, Ordering::Relaxed),
                Err(_) => self.lost.fetch_add(1, Ordering::Relaxed),
            };
        }
    }
}

/// The marker of all pages of one listing; none when it is not one.
fn marker_of(client: &mut Client) -> std::io::Result<Option<String>> {
    let (mut markers, mut count, mut cursor) = (std::collections::BTreeSet::new(), 0, Value::Null);
    loop {
        let page = json_of(&client.request("tools/list", None, json!({"cursor": cursor}))?);
        let tools =
            page["result"]["tools"].as_array().ok_or_else(|| std::io::Error::other(page.to_string()))?;
        for tool in tools {
            let name = tool["name"].as_str().unwrap_or_default();
            if let Some((marker, _)) = name.split_once('_').filter(|(marker, _)| *marker != "stable") {
                markers.insert(marker.to_owned());
                count += 1;
            }
        }
        cursor = page["result"]["nextCursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    Ok(markers.pop_first().filter(|_| markers.is_empty() && count == TOOLS))
}

/// When a subscriber hears that the tools changed.
fn follow(address: SocketAddr) -> Receiver<Instant> {
    let stream = stream::follow(address);
    let (told, heard) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if line.contains("tools/list_changed") && told.send(Instant::now()).is_err() {
                return;
            }
        }
    });
    heard
}

pub(crate) fn measure(report: &mut Report) {
    let revisions = if report.takes(10_000) { REVISIONS } else { REVISIONS / 20 };
    let (many, stable) = (Backend::start(TOOLS), Backend::start(1));
    let marked = |n| server("many", many.address, &format!("  tools: {{prefix: {}}}\n", marker(n)));
    let first = "apiVersion: toolcrib.dev/v1alpha1\nkind: Toolset\nmetadata: {name: first}\nspec: {select: [{names: [\"*_echo0\"], servers: [many]}]}\n";
    let fixture = Fixture::new(
        0,
        &[
            ("many.yaml", &marked(0)),
            ("stable.yaml", &server("stable", stable.address, "")),
            ("first.yaml", first),
        ],
    );
    let daemon = Daemon::start(fixture.path(), TOOLS + 1);
    let load = Load::default();
    let (mut seen, mut heard) = (Vec::new(), Vec::new());
    let mut baseline = Vec::new();
    thread::scope(|scope| {
        for era in [Era::Modern, Era::Legacy] {
            for _ in 0..CALLERS {
                let client = daemon.client(era);
                scope.spawn(|| load.call(client));
            }
            let client = daemon.client(era);
            scope.spawn(|| load.list(client));
        }
        let told = follow(daemon.mcp);
        let mut look = Client::connect(daemon.mcp, "/mcp/first", Era::Modern).unwrap();
        for n in 1..=revisions {
            let staged = fixture.stage(&[("many.yaml".to_owned(), marked(n))]);
            while told.try_recv().is_ok() {}
            let moved = Instant::now();
            staged.apply();
            let wanted = format!("\"{}_echo0\"", marker(n));
            loop {
                let asked = Instant::now();
                let body = look.request("tools/list", None, json!({})).unwrap();
                baseline.push(asked.elapsed());
                if String::from_utf8_lossy(&body).contains(&wanted) {
                    break;
                }
                assert!(moved.elapsed() < PATIENCE, "revision {n} is not served\n{}", daemon.log());
            }
            seen.push(moved.elapsed());
            heard.push(told.recv_timeout(PATIENCE).unwrap().saturating_duration_since(moved));
        }
        load.done.store(true, Ordering::Relaxed);
    });
    let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    let (calls, listings) = (count(&load.calls), count(&load.listings));
    let (lost, changed, mixed) = (count(&load.lost), count(&load.changed), count(&load.mixed));
    report.row(
        &format!("calls and listings lost by {revisions} switches / changed / mixed"),
        "0 / 0 / 0",
        format!("{lost} / {changed} / {mixed}"),
        format!("{calls} calls and {listings} listings of {TOOLS} tools went well"),
        Some(lost + changed + mixed == 0),
    );
    let (seen, heard, baseline) = (Samples::new(seen), Samples::new(heard), Samples::new(baseline));
    for (what, samples) in [("a client lists it", &seen), ("a subscriber hears of it", &heard)] {
        let ratio = times(samples.p50(), baseline.p50(), "one list of one tool under the same load");
        report.time(
            &format!("commit until {what}, {TOOLS} tools change, under load, p50"),
            None,
            samples.p50(),
            format!("{ratio}; p99 {}", show(samples.p99())),
        );
    }
    dead(report, &stable);
}

/// Lists and calls beside a server that hangs and one that refuses, against the same without them.
fn dead(report: &mut Report, stable: &Backend) {
    // It takes connections and says nothing.
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = crate::daemon::free_address();
    let own = server("stable", stable.address, "");
    let (hangs, refuses) =
        (server("hanging", hanging.local_addr().unwrap(), ""), server("refusing", refusing, ""));
    let alone = Fixture::new(0, &[("a.yaml", &own)]);
    let beside = Fixture::new(0, &[("a.yaml", &own), ("b.yaml", &hangs), ("c.yaml", &refuses)]);
    let daemons = [Daemon::start(alone.path(), 1), Daemon::start(beside.path(), 1)];
    let mut clients = daemons.each_ref().map(|daemon| daemon.client(Era::Modern));
    let mut lists = [Vec::new(), Vec::new()];
    let mut calls = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        for (at, client) in clients.iter_mut().enumerate() {
            for _ in 0..TURN {
                let start = Instant::now();
                client.request("tools/list", None, json!({})).unwrap();
                lists[at].push(start.elapsed());
                let params = json!({"name": "stable_echo0", "arguments": {"text": "x"}});
                let start = Instant::now();
                client.request("tools/call", Some("stable_echo0"), params).unwrap();
                calls[at].push(start.elapsed());
            }
        }
    }
    for (what, [without, with]) in [("tools/list", lists), ("a call", calls)] {
        let (without, with) = (Samples::new(without), Samples::new(with));
        let p99 = format!("; p99 {} and {}", show(with.p99()), show(without.p99()));
        let ratio = times(with.p50(), without.p50(), "the same without them") + &p99;
        report.time(
            &format!("{what} beside a server that hangs and one that refuses, p50"),
            None,
            with.p50(),
            ratio,
        );
    }
}
