//! The table of trust, walked: every combination of trust, state of the lock and lifecycle is a server of a
//! real daemon, which lists, says and calls what its row of `src/lock/trust.txt` has.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::json;

use super::SOON;
use crate::follow::{call, greeter, names, resource, server, text};
use crate::support::{Daemon, TestEnv, wait_for};

const TRUSTS: [&str; 4] = ["locked", "reviewed", "live", "default"];
const LOCKS: [&str; 6] = ["none", "equal", "changed", "added", "removed", "broken"];

/// Tools by name, with their descriptions, in order.
type Tools = Vec<(&'static str, &'static str)>;

/// One combination, as a server.
#[derive(Clone, Copy, Debug)]
struct Row {
    trust: &'static str,
    lock: &'static str,
}

impl Row {
    fn all() -> impl Iterator<Item = Self> {
        TRUSTS.into_iter().flat_map(|trust| LOCKS.into_iter().map(move |lock| Self { trust, lock }))
    }

    fn name(self) -> String {
        format!("{}-{}", self.trust, self.lock)
    }

    /// What is listed when the lock is written.
    fn locked(self) -> Tools {
        if self.lock == "added" { vec![("b", "one")] } else { vec![("a", "one"), ("b", "one")] }
    }

    /// What is listed then.
    fn ready(self) -> Tools {
        match self.lock {
            "changed" => vec![("a", "two"), ("b", "one")],
            "removed" => vec![("b", "one")],
            _ => vec![("a", "one"), ("b", "one")],
        }
    }

    /// What is listed after it changed by itself.
    fn later(self) -> Tools {
        let mut tools = self.ready();
        tools.pop();
        tools.push(("b", "betrayed"));
        tools
    }

    /// Whether its lock says what may be offered, so that it need not be asked first.
    fn is_listed_unasked(self) -> bool {
        let reviewed = ["reviewed", "default"].contains(&self.trust);
        self.trust == "locked" || (reviewed && !["none", "broken"].contains(&self.lock))
    }

    /// The verdict, and the tools that are offered.
    fn expected(self, lifecycle: &str) -> (String, Vec<String>) {
        let mut lines = include_str!("../../../src/lock/trust.txt").lines().map(|line| line.split('|'));
        let found = lines.find_map(|line| {
            let cells: Vec<&str> = line.map(str::trim).collect();
            (cells[..3] == [self.trust, self.lock, lifecycle]).then_some(cells)
        });
        let cells = found.unwrap_or_else(|| panic!("{self:?} {lifecycle} is no row"));
        let offered = cells.get(4).copied().unwrap_or_default().split(',').filter(|name| !name.is_empty());
        (cells[3].to_owned(), offered.map(|name| format!("{}_{name}", self.name())).collect())
    }
}

/// A repository of one server for each row.
struct Table {
    env: TestEnv,
}

impl Table {
    fn new(lifecycle: &str) -> Self {
        let table = Self { env: TestEnv::new() };
        let python = super::python();
        let mut manifest = greeter("hello");
        for row in Row::all() {
            let (mood, starts) = (table.file(row, "json"), table.file(row, "starts"));
            let command =
                [&python, "-I", "-S", "server.py", mood.to_str().unwrap(), starts.to_str().unwrap()];
            let trust = if row.trust == "default" {
                String::new()
            } else {
                format!("  tools: {{trust: {}}}\n", row.trust)
            };
            manifest += &server(&row.name(), &command, &format!("  lifecycle: {lifecycle}\n{trust}"));
        }
        let code = include_str!("../../fixtures/plain/server.py");
        table.env.repo().write("crib.yaml", &manifest).write("server.py", code).commit("servers");
        table.locks();
        table
    }

    /// Has the locks written, and one of them in each row of such broken.
    fn locks(&self) {
        self.say(Row::locked);
        let locked: Vec<String> = Row::all().filter(|row| row.lock != "none").map(Row::name).collect();
        let args: Vec<&str> = std::iter::once("lock").chain(locked.iter().map(String::as_str)).collect();
        let said = self.env.run(&args);
        assert_eq!(said.code, 0, "{}", said.all());
        for row in Row::all() {
            let path = format!("locks/server/{}.yaml", row.name());
            if row.lock == "broken" {
                self.env.repo().write(&path, "- not: [closed");
            }
            if row.lock != "none" {
                assert!(self.starts(row) >= 1, "{row:?} was asked");
                std::fs::remove_file(self.file(row, "starts")).unwrap();
            }
        }
        self.env.repo().commit("locks");
    }

    fn file(&self, row: Row, kind: &str) -> PathBuf {
        self.env.home().join(format!("{}.{kind}", row.name()))
    }

    /// What the servers list from now on, when they are asked.
    fn say(&self, tools: fn(Row) -> Tools) {
        for row in Row::all() {
            let mut text = String::from("{");
            for (at, (name, description)) in tools(row).into_iter().enumerate() {
                write!(text, "{}{}: {}", if at == 0 { "" } else { ", " }, json!(name), json!(description))
                    .unwrap();
            }
            std::fs::write(self.file(row, "json"), text + "}").unwrap();
        }
    }

    fn starts(&self, row: Row) -> usize {
        std::fs::read_to_string(self.file(row, "starts")).map_or(0, |text| text.lines().count())
    }

    /// Waits until every server of these is as its row says, which is chosen by `lifecycle`.
    fn expect(&self, daemon: &Daemon, lifecycle: impl Fn(Row) -> Option<&'static str>) {
        for (row, lifecycle) in Row::all().filter_map(|row| Some((row, lifecycle(row)?))) {
            let expected = row.expected(lifecycle);
            let what = format!("{row:?} {lifecycle}: {expected:?}");
            let now = || {
                let prefix = format!("{}_", row.name());
                let offered: Vec<String> =
                    names(daemon).into_iter().filter(|name| name.starts_with(&prefix)).collect();
                (self.verdict(daemon, row), offered)
            };
            wait_for(&what, SOON, || (now() == expected).then_some(()));
        }
    }

    fn verdict(&self, daemon: &Daemon, row: Row) -> String {
        let status = resource(&self.env, daemon, &format!("Server/{}", row.name()));
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let locked = conditions.iter().find(|condition| condition["type"] == "Locked");
        locked.map_or_else(String::new, |locked| locked["reason"].as_str().unwrap_or_default().to_owned())
    }

    fn runs(&self, daemon: &Daemon, row: Row) -> bool {
        let status = resource(&self.env, daemon, &format!("Server/{}", row.name()));
        status["instances"].as_array().is_some_and(|all| !all.is_empty())
    }

    /// Calls the first tool that is offered in one state, of which the start of the server makes another.
    fn call(&self, daemon: &Daemon, row: Row, listed: &str, then: &str) {
        let Some(tool) = row.expected(listed).1.into_iter().next() else { return };
        let answer = call(daemon, &tool, json!({}));
        if row.expected(then).1.contains(&tool) {
            assert!(tool.ends_with(text(&answer)), "{row:?}: {answer}");
        } else {
            assert_eq!(answer["code"], -32602, "{row:?}: {answer}");
        }
        assert!(self.runs(daemon, row) || self.starts(row) > 0, "{row:?}");
    }
}

#[test]
fn servers_that_always_run_are_as_their_rows_say() {
    let table = Table::new("always");
    table.say(Row::ready);
    let daemon = table.env.daemon(&[]);
    table.expect(&daemon, |_| Some("ready"));
    table.say(Row::later);
    for row in Row::all() {
        let status = resource(&table.env, &daemon, &format!("Server/{}", row.name()));
        let pid = status["instances"][0]["id"].as_str().unwrap().split('-').next().unwrap().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    table.expect(&daemon, |_| Some("restarted"));
}

#[test]
fn servers_on_demand_are_as_their_rows_say_before_they_run_while_they_do_and_afterwards() {
    let table = Table::new("{mode: on-demand, idleTimeout: 2s}");
    table.say(Row::ready);
    let daemon = table.env.daemon(&[]);
    // What the lock does not say is asked for once.
    table.expect(&daemon, |row| Some(if row.is_listed_unasked() { "on demand" } else { "ready" }));
    let rest = |table: &Table| {
        wait_for("all to rest", SOON, || Row::all().all(|row| !table.runs(&daemon, row)).then_some(()));
    };
    rest(&table);
    for row in Row::all() {
        assert_eq!(table.starts(row), usize::from(!row.is_listed_unasked()), "{row:?}\n{}", daemon.log());
    }
    // The first call starts them, and shows whether they list what was reviewed.
    for row in Row::all().filter(|row| row.is_listed_unasked()) {
        table.call(&daemon, row, "on demand", "ready");
    }
    let has_run = |row: Row| !row.is_listed_unasked() || !row.expected("on demand").1.is_empty();
    let ready = |row: Row| Some(if has_run(row) { "ready" } else { "on demand" });
    table.expect(&daemon, ready);
    rest(&table);
    table.expect(&daemon, ready);
    let starts: Vec<usize> = Row::all().map(|row| table.starts(row)).collect();
    for (row, starts) in Row::all().zip(&starts) {
        assert_eq!(*starts, usize::from(has_run(row)), "{row:?}\n{}", daemon.log());
    }
    // Another start shows that they changed by themselves.
    table.say(Row::later);
    for row in Row::all().filter(|row| has_run(*row)) {
        table.call(&daemon, row, "ready", "restarted");
    }
    let called = |row: Row| has_run(row) && !row.expected("ready").1.is_empty();
    table.expect(&daemon, |row| called(row).then_some("restarted"));
}
