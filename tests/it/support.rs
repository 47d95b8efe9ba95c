//! The built program in an environment of its own: a home, a repository, and daemons that end with
//! the test.

#![expect(clippy::disallowed_methods, reason = "tests start programs and write files")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::git::repo::Repo;

/// Until the first catalog is served: on a busy machine, with a process runner.
const READY: Duration = Duration::from_mins(3);
/// Until a daemon has ended by itself: longer than it drains.
const ENDED: Duration = Duration::from_mins(1);
/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(5);

/// A home and a repository, and nothing of this machine's configuration.
pub(crate) struct TestEnv {
    home: tempfile::TempDir,
    repo: Repo,
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    /// Paths, ports and commits replaced.
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// Everything, for snapshots.
    pub(crate) fn all(&self) -> String {
        let mut text = self.stdout.clone();
        if !self.stderr.is_empty() {
            write!(text, "--- stderr\n{}", self.stderr).unwrap();
        }
        write!(text, "--- exit {}", self.code).unwrap();
        text
    }

    /// Standard output as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.all()))
    }
}

impl TestEnv {
    /// With an empty repository on `main`.
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), repo: Repo::new() }
    }

    pub(crate) fn repo(&self) -> &Repo {
        &self.repo
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The state directory of daemons of this environment.
    pub(crate) fn state(&self) -> std::path::PathBuf {
        self.home().join("state")
    }

    /// The program, in the repository.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_toolcrib"));
        command.args(args).current_dir(self.repo.path()).env_clear().stdin(Stdio::null());
        for name in ["PATH", "LD_LIBRARY_PATH", "DOCKER_HOST", "SSL_CERT_FILE", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("HOME", self.home()).env("RUST_BACKTRACE", "1");
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        let output = self.command(args).output().unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            stdout: self.normal(&String::from_utf8(output.stdout).unwrap()),
            stderr: self.normal(&String::from_utf8(output.stderr).unwrap()),
        }
    }

    /// Every command that `--help` lists.
    pub(crate) fn commands(&self) -> Vec<String> {
        let help = self.run(&["--help"]).stdout;
        let listed = help.split("\nOptions:\n").next().unwrap().lines();
        let names = listed.filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
        let names: Vec<String> = names.map(str::to_owned).collect();
        assert!(names.len() >= 30, "{names:?}");
        names
    }

    /// Starts a daemon that follows the repository on free ports, and waits until it serves. A
    /// `--path`, `--log` or the like can be added.
    pub(crate) fn daemon(&self, more: &[&str]) -> Daemon {
        self.daemon_at("127.0.0.1:0", more)
    }

    /// The same, that serves MCP on an address.
    pub(crate) fn daemon_at(&self, listen: &str, more: &[&str]) -> Daemon {
        let state = self.state();
        let mut args = vec!["run", "--repo", ".", "--state", state.to_str().unwrap()];
        args.extend(["--listen", listen, "--admin", "127.0.0.1:0", "--output", "json"]);
        args.extend(more);
        Daemon::start(self.command(&args))
    }

    /// `text` without what differs from run to run.
    pub(crate) fn normal(&self, text: &str) -> String {
        let home = self.home().canonicalize().unwrap();
        let text = text
            .replace(self.repo.path().to_str().unwrap(), "[REPO]")
            .replace(home.to_str().unwrap(), "[HOME]");
        let mut normal = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(first) = rest.chars().next() {
            let hex = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
            if hex == 40 {
                normal.push_str("[COMMIT]");
                rest = &rest[40..];
            } else if let Some(after) = rest.strip_prefix("127.0.0.1:") {
                normal.push_str("127.0.0.1:[PORT]");
                rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
            } else {
                let length = hex.max(first.len_utf8());
                normal.push_str(&rest[..length]);
                rest = &rest[length..];
            }
        }
        normal
    }
}

/// A daemon that serves. Ended when dropped.
pub(crate) struct Daemon {
    child: Child,
    /// `http://127.0.0.1:PORT/mcp`.
    pub(crate) mcp: String,
    /// `http://127.0.0.1:PORT`.
    pub(crate) admin: String,
    /// The first line it printed.
    pub(crate) banner: serde_json::Value,
    /// Its standard error. A file, since what was written to a pipe is there only when somebody has read it.
    log: tempfile::NamedTempFile,
}

impl Daemon {
    /// Waits for the banner of a `run --output json`.
    pub(crate) fn start(mut command: Command) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let stderr = log.reopen().unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        let mut daemon =
            Self { child, mcp: String::new(), admin: String::new(), banner: serde_json::Value::Null, log };
        let Ok(line) = lines.recv_timeout(READY) else {
            let ended = daemon.child.try_wait().unwrap();
            panic!("no banner (ended: {ended:?}):\n{}", daemon.log());
        };
        let banner: serde_json::Value = serde_json::from_str(&line).unwrap();
        daemon.mcp = banner["mcp"].as_str().unwrap().to_owned();
        daemon.admin = banner["admin"].as_str().unwrap().to_owned();
        daemon.banner = banner;
        daemon
    }

    /// `127.0.0.1:PORT`, for `--admin`.
    pub(crate) fn admin_address(&self) -> &str {
        self.admin.trim_start_matches("http://").trim_end_matches('/')
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    /// The value of a metric without labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let page = self.get("/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in\n{page}")).parse().unwrap()
    }

    /// What the admin endpoint says at a path.
    fn get(&self, path: &str) -> String {
        let mut stream = std::net::TcpStream::connect(self.admin_address()).unwrap();
        let host = self.admin_address();
        std::io::Write::write_all(
            &mut stream,
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Processes that it started and that have not ended.
    pub(crate) fn children(&self) -> Vec<i32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let of = |task: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(task.ok()?.path().join("children")).ok()
        };
        let all: Vec<String> = tasks.filter_map(of).collect();
        all.iter().flat_map(|line| line.split_whitespace()).map(|pid| pid.parse().unwrap()).collect()
    }

    /// Everything on standard error until now.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log.path()).unwrap()).into_owned()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn terminate(mut self) -> (ExitStatus, String) {
        self.signal(Signal::SIGTERM);
        let child = &mut self.child;
        let ended = wait_for("the daemon to end", ENDED, || child.try_wait().unwrap());
        (ended, self.log())
    }

    /// SIGKILL: no time for anything.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // Politely first: its own children end with it.
        let _ = kill(Pid::from_raw(self.pid()), Signal::SIGTERM);
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(LOOK);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of this machine, held so that nobody else is given it, whether somebody listens there or not.
///
/// Its socket never listens: those who do, and let an address be used again as servers do, have it beside it.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    _held: tokio::net::TcpSocket,
}

impl Port {
    pub(crate) fn new() -> Self {
        let held = tokio::net::TcpSocket::new_v4().unwrap();
        held.set_reuseaddr(true).unwrap();
        held.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self { address: held.local_addr().unwrap(), _held: held }
    }

    pub(crate) fn number(&self) -> u16 {
        self.address.port()
    }
}

/// Names the one library for TLS that HTTP clients in tests use.
pub(crate) fn tls() {
    // An error means that it was named before.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Tests with many connections need as many open files, here and in the daemons they start.
pub(crate) fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    const WANTED: u64 = 20_000;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if soft < WANTED {
        let raised = setrlimit(Resource::RLIMIT_NOFILE, WANTED, hard.max(WANTED));
        raised.unwrap_or_else(|error| panic!("{error}: {WANTED} open files are needed, {hard} are allowed"));
    }
}

/// Looks until there is something to see.
///
/// Panics with `what` when there is nothing within `limit`.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, look: impl FnMut() -> Option<T>) -> T {
    seen_within(limit, look).unwrap_or_else(|| panic!("waited {limit:?} for {what}"))
}

/// The same, for those who say themselves what was not there. Between two looks others have their turn.
pub(crate) fn seen_within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + limit;
    loop {
        let seen = look();
        if seen.is_some() || Instant::now() >= until {
            return seen;
        }
        std::thread::sleep(LOOK);
    }
}

fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // Nobody waits any more: go on reading, so that the pipe never fills.
            let _ = sender.send(line);
        }
    });
    receiver
}
