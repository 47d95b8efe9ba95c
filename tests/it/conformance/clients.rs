//! The suite's other half: its servers, and our client of them. What it starts as "the client" is a daemon
//! whose one server is the suite's, with somebody who calls its tools and authorizes (`driver.py`).
//!
//! `clients-<revision>.yaml` beside that names the checks that fail, each with its reason. One that fails
//! and is not named, or is named and passes, fails the test.

use std::process::Command;

use super::{ALONE, FIXTURE, LEGACY, MODERN, installed, python, tail};

/// Runs what a revision requires of clients; of that so many scenarios pass as a whole.
fn clients(revision: &str, least: usize) {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let modules = installed("TOOLCRIB_IT_CONFORMANCE").join("node_modules");
    let client = format!("{} -B {FIXTURE}/driver.py", python());
    let output = Command::new(modules.join("node/bin/node"))
        .arg(modules.join("@modelcontextprotocol/conformance/dist/index.js"))
        // The daemons take turns, and the last one has waited for all of them.
        .args(["client", "--command", &client, "--requirements", revision, "--timeout", "500000", "-o"])
        .arg(folder.path().join("suite"))
        .args(["--expected-failures", &format!("{FIXTURE}/clients-{revision}.yaml")])
        .env("TOOLCRIB", env!("CARGO_BIN_EXE_toolcrib"))
        .env("TURN", folder.path().join("turn"))
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{revision}:\n{}", tail(&said));
    let passed = said.lines().filter(|line| line.starts_with("✓ ")).count();
    assert!(passed >= least, "{passed} scenarios of {revision} passed:\n{}", tail(&said));
}

#[test]
fn our_client_does_what_2026_07_28_requires() {
    clients(MODERN, 10);
}

#[test]
fn our_client_does_what_2025_11_25_requires() {
    clients(LEGACY, 5);
}
