//! A thousand revisions while everybody is at work: nothing fails for a switch, nothing is mixed, and
//! everybody hears of the last one.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::upstream::Upstream;
use super::wire::{Asked, PATIENCE, Wire};
use crate::git::repo::git;
use crate::support::{Daemon, Port, TestEnv, wait_for};

/// Builds without optimisation are too slow for all of them. Still so many that the first catalog must have
/// made room for others, however fast they came.
const REVISIONS: usize = if cfg!(debug_assertions) { 250 } else { 1_000 };
/// More than one page has.
const TOOLS: usize = 1_001;
/// Clients of each era that list, that call, and that follow.
const LISTERS: usize = 1;
const CALLERS: usize = 2;
const FOLLOWERS: usize = 4;

/// What every name of revision `n` begins with.
fn marker(n: usize) -> String {
    format!("r{n:04}")
}

/// All tools of `many` bear the marker; those of `stable` are called. One toolset is one tool, to look at.
fn manifest(many: &Upstream, stable: &Upstream, n: usize) -> String {
    let marked = format!("  tools: {{prefix: {}}}", marker(n));
    let first = "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Toolset\nmetadata: {name: first}\nspec: {select: [{names: [\"*_t0000\"], servers: [many]}]}\n";
    many.declared("many", &marked) + &stable.declared("stable", "") + first
}

/// Commits on a branch nobody follows, oldest first: their ids.
fn commits(env: &TestEnv, text: impl Fn(usize) -> String) -> Vec<String> {
    let folder = env.repo().path();
    let marks = env.home().join("marks");
    let mut stream = String::new();
    for n in 1..=REVISIONS {
        let text = text(n);
        write!(
            stream,
            "commit refs/heads/staged\nmark :{n}\ncommitter T <t@example.com> {n} +0000\ndata 1\nx\n{from}M 644 inline tools.yaml\ndata {}\n{text}\n",
            text.len(),
            from = if n == 1 { "from refs/heads/main^0\n" } else { "" },
        )
        .unwrap();
    }
    let export = format!("--export-marks={}", marks.display());
    let mut import =
        git(folder).args(["fast-import", "--quiet", &export]).stdin(Stdio::piped()).spawn().unwrap();
    import.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap();
    assert!(import.wait().unwrap().success());
    let marks = std::fs::read_to_string(marks).unwrap();
    let mut marks: Vec<(usize, String)> = marks
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(mark, commit)| (mark[1..].parse().unwrap(), commit.to_owned()))
        .collect();
    marks.sort();
    assert_eq!(marks.len(), REVISIONS);
    marks.into_iter().map(|(_, commit)| commit).collect()
}

/// Moves the branch that is followed, as Git does: a file that is renamed.
fn move_to(repo: &Path, commit: &str) {
    let branch = repo.join(".git/refs/heads/main");
    let lock = branch.with_extension("lock");
    std::fs::write(&lock, format!("{commit}\n")).unwrap();
    std::fs::rename(lock, branch).unwrap();
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Era {
    Modern,
    Legacy,
}

/// A client of either era on one connection.
struct Client {
    wire: Wire,
    session: Option<String>,
}

impl Client {
    fn open(host: &str, era: Era) -> Self {
        let mut wire = Wire::open(host);
        let opened = (era == Era::Legacy).then(|| wire.ask(&Asked::initialize()));
        let session = opened.map(|answer| answer.header("mcp-session-id").unwrap().to_owned());
        Self { wire, session }
    }

    fn request(&self, method: &str, params: Value) -> Asked {
        match &self.session {
            Some(session) => Asked::legacy(session, method, params),
            None => Asked::modern(method, params),
        }
    }

    /// The result; panics when there is none.
    fn ask(&mut self, method: &str, params: Value) -> Value {
        let answer = self.wire.ask(&self.request(method, params));
        let mut message = answer.message();
        assert!(answer.status == 200 && message["error"].is_null(), "{method}: {}", answer.shown());
        message["result"].take()
    }

    /// The marker that all pages of one listing have. Names are looked for in the text: to read it all
    /// takes longer than to serve it.
    fn list(&mut self) -> String {
        let (mut names, mut cursor): (BTreeSet<String>, Value) = (BTreeSet::new(), Value::Null);
        loop {
            let answer = self.wire.ask(&self.request("tools/list", json!({"cursor": cursor})));
            assert_eq!(answer.status, 200, "{}", answer.shown());
            let text = String::from_utf8(answer.body).unwrap();
            let found = |key: &'static str| text.split(key).skip(1).filter_map(|rest| rest.split('"').next());
            names.extend(found("\"name\":\"").filter(|name| name.contains("_t")).map(str::to_owned));
            assert!(text.contains("\"tools\":["), "{}", &text[..200.min(text.len())]);
            let Some(next) = found("\"nextCursor\":\"").next() else { break };
            cursor = next.into();
        }
        let markers: BTreeSet<&str> =
            names.iter().filter_map(|name| name.split_once('_')).map(|it| it.0).collect();
        let shown: Vec<&str> = markers.iter().copied().collect();
        let [marker, "stable"] = shown[..] else { panic!("a listing is of one catalog: {shown:?}") };
        assert_eq!(names.len(), TOOLS + 3, "{marker}");
        marker.to_owned()
    }

    fn call(&mut self, text: &str) {
        let result = self.ask("tools/call", json!({"name": "stable_t0001", "arguments": {"text": text}}));
        assert_eq!(result["content"][0]["text"], text, "{result}");
        assert!(result["isError"].is_null(), "{result}");
    }

    /// Its stream of changes.
    fn follow(&self, host: &str) -> Wire {
        let mut wire = Wire::open(host);
        let asked = match &self.session {
            Some(session) => {
                Asked::new("GET", "/mcp").with("Accept", "text/event-stream").with("Mcp-Session-Id", session)
            }
            None => {
                Asked::modern("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}))
            }
        };
        let bytes = asked.bytes(host);
        wire.send(&bytes);
        assert!(wire.head().unwrap().is_stream());
        wire
    }
}

/// Lists whenever it hears that it should, until it has seen the last revision.
fn follow_to_the_end(host: &str, era: Era) {
    let mut client = Client::open(host, era);
    let mut stream = client.follow(host);
    let last = marker(REVISIONS);
    loop {
        let chunk =
            stream.chunk().unwrap_or_else(|error| panic!("{era:?} hears nothing of the last: {error}"));
        let text = String::from_utf8(chunk.expect("the stream goes on")).unwrap();
        if text.contains("tools/list_changed") && client.list() == last {
            return;
        }
    }
}

struct Load<'a> {
    host: &'a str,
    done: AtomicBool,
    calls: AtomicUsize,
    listings: AtomicUsize,
}

impl Load<'_> {
    fn call(&self, era: Era, who: usize) {
        let mut client = Client::open(self.host, era);
        let mut n = 0;
        while !self.done.load(Ordering::Relaxed) {
            client.call(&format!("{era:?} {who} {n}"));
            n += 1;
        }
        self.calls.fetch_add(n, Ordering::Relaxed);
    }

    fn list(&self, era: Era) {
        let mut client = Client::open(self.host, era);
        let mut before = String::new();
        while !self.done.load(Ordering::Relaxed) {
            let marker = client.list();
            assert!(before <= marker, "{marker} after {before}");
            before = marker;
            self.listings.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Each revision is served before the next one is committed, so that there are as many switches.
fn switch(daemon: &Daemon, host: &str, repo: &Path, commits: &[String]) {
    let first = Asked::modern("tools/list", json!({})).target("/mcp/first");
    let mut look = Wire::open(host);
    for (at, commit) in commits.iter().enumerate() {
        move_to(repo, commit);
        let wanted = format!("\"{}_t0000\"", marker(at + 1));
        let until = Instant::now() + PATIENCE;
        loop {
            let seen = look.ask(&first);
            if String::from_utf8(seen.body).unwrap().contains(&wanted) {
                break;
            }
            assert!(Instant::now() < until, "revision {} is not served\n{}", at + 1, daemon.log());
        }
    }
}

#[test]
fn a_thousand_switches_lose_nothing_mix_nothing_and_everybody_hears_of_the_last() {
    let env = TestEnv::new();
    let (many, stable) = (Upstream::start(TOOLS, 20), Upstream::start(3, 20));
    env.repo().write("tools.yaml", &manifest(&many, &stable, 0)).commit("first");
    let commits = commits(&env, |n| manifest(&many, &stable, n));
    let daemon = env.daemon(&[]);
    let host = daemon.mcp.trim_start_matches("http://").trim_end_matches("/mcp");
    // A daemon says that it serves although a server was not there for a while.
    let tools = || daemon.metric("catalog_entries{kind=\"tool\"}");
    wait_for("the servers elsewhere", PATIENCE, || (tools() > TOOLS as u64).then_some(()));
    let mut client = Client::open(host, Era::Modern);
    assert_eq!(client.list(), marker(0));
    let oldest = client.ask("tools/list", json!({}))["nextCursor"].clone();
    let load = Load {
        host,
        done: AtomicBool::new(false),
        calls: AtomicUsize::new(0),
        listings: AtomicUsize::new(0),
    };
    thread::scope(|scope| {
        let eras = [Era::Modern, Era::Legacy];
        let followers: Vec<_> = eras
            .into_iter()
            .flat_map(|era| (0..FOLLOWERS).map(move |_| scope.spawn(move || follow_to_the_end(host, era))))
            .collect();
        for era in eras {
            for who in 0..CALLERS {
                let load = &load;
                scope.spawn(move || load.call(era, who));
            }
            for _ in 0..LISTERS {
                let load = &load;
                scope.spawn(move || load.list(era));
            }
        }
        let switched = scope.spawn(|| switch(&daemon, host, env.repo().path(), &commits)).join();
        let followed: Vec<_> = followers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        load.done.store(true, Ordering::Relaxed);
        assert!(switched.is_ok() && followed.iter().all(Result::is_ok));
    });
    let (calls, listings) = (load.calls.into_inner(), load.listings.into_inner());
    assert!(calls > REVISIONS / 10 && listings > REVISIONS / 100, "{calls} calls, {listings} listings");
    assert_eq!(client.list(), marker(REVISIONS));
    // A catalog that is gone long since: where a listing began in it, it begins anew.
    let gone = client.wire.ask(&Asked::modern("tools/list", json!({"cursor": oldest})));
    assert_eq!((gone.status, gone.code()), (200, -32602), "{}", gone.shown());
    let generation = daemon.metric("catalog_generation");
    assert!(generation > REVISIONS as u64, "{generation} catalogs");
}

#[test]
fn a_server_that_is_dead_is_felt_by_nobody_else() {
    let env = TestEnv::new();
    let stable = Upstream::start(3, 20);
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = hanging.local_addr().unwrap();
    let dead = |name: &str, address: std::net::SocketAddr| {
        format!(
            "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {{name: {name}}}\nspec:\n  source: {{url: \"http://{address}/mcp\"}}\n"
        )
    };
    // One takes connections and says nothing, one refuses them.
    let refusing = Port::new();
    let tools =
        stable.declared("stable", "") + &dead("hanging", address) + &dead("refusing", refusing.address);
    env.repo().write("tools.yaml", &tools).commit("first");
    let daemon = env.daemon(&[]);
    let host = daemon.mcp.trim_start_matches("http://").trim_end_matches("/mcp");
    let tools = || daemon.metric("catalog_entries{kind=\"tool\"}");
    wait_for("the server that lives", PATIENCE, || (tools() == 3).then_some(()));
    for era in [Era::Modern, Era::Legacy] {
        let mut client = Client::open(host, era);
        let began = Instant::now();
        for n in 0..50 {
            assert_eq!(client.ask("tools/list", json!({}))["tools"].as_array().unwrap().len(), 3);
            client.call(&n.to_string());
        }
        // Nobody waits for the one that hangs: fifty times its limit would be minutes.
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
    drop(hanging);
}
