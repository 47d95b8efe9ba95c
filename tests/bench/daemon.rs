//! The built daemon, started as a user starts it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Client, Era, json_of};

/// How long anything may take to come up before the measurement is given up.
const PATIENCE: Duration = Duration::from_mins(1);

/// The program that is measured.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("TOOLCRIB_BENCH_BINARY")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_toolcrib")), PathBuf::from)
}

/// A running daemon.
pub(crate) struct Daemon {
    pub(crate) mcp: SocketAddr,
    child: Child,
    state: tempfile::TempDir,
}

impl Daemon {
    /// Follows `repo` and returns when `tools` tools are listed.
    pub(crate) fn start(repo: &Path, tools: usize) -> Self {
        let (mcp, admin) = (free_address(), free_address());
        let state = tempfile::tempdir().unwrap();
        let mut command = Command::new(program());
        command.arg("run").arg("--repo").arg(repo).arg("--state").arg(state.path());
        command.args(["--listen", &mcp.to_string(), "--admin", &admin.to_string()]);
        let log = std::fs::File::create(state.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let daemon = Self { mcp, child: command.spawn().unwrap(), state };
        wait_for(mcp);
        let began = Instant::now();
        while daemon.count() < tools {
            assert!(
                began.elapsed() <= PATIENCE,
                "{} of {tools} tools are listed\n{}",
                daemon.count(),
                daemon.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    pub(crate) fn client(&self, era: Era) -> Client {
        Client::connect(self.mcp, "/mcp", era).unwrap()
    }

    /// Its process id.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// How many tools are listed, all pages together.
    fn count(&self) -> usize {
        let mut client = self.client(Era::Modern);
        let (mut count, mut cursor) = (0, None);
        loop {
            let params = cursor.map_or_else(|| json!({}), |cursor: String| json!({"cursor": cursor}));
            let Ok(body) = client.request("tools/list", None, params) else { return 0 };
            let page = json_of(&body);
            count += page["result"]["tools"].as_array().map_or(0, Vec::len);
            cursor = page["result"]["nextCursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return count;
            }
        }
    }

    /// The end of what it said.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read_to_string(self.state.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Daemon {
    /// Ends it as an operator does, and waits for that.
    fn drop(&mut self) {
        let process = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _ = nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGTERM);
        // It limits itself how long it drains.
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Waits until somebody listens.
pub(crate) fn wait_for(address: SocketAddr) {
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(began.elapsed() < PATIENCE, "nobody listens on {address}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
