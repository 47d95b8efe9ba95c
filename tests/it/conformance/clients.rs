//! The suite's other half: its servers, and our client of them. What it starts as "the client" is a daemon
//! whose one server is the suite's, with somebody who calls its tools and authorizes (`driver.py`).
//!
//! All that a revision requires passes, without a warning. Of the extensions that the suite runs besides and
//! does not score, those that are not supported are named here.

use std::process::Command;

use super::{ALONE, FIXTURE, LEGACY, MODERN, installed, python, tail};

/// Extensions of authorization that our client does not have.
const NOT_SUPPORTED: [&str; 4] =
    ["auth/dpop", "auth/dpop-nonce", "auth/enterprise-managed-authorization", "auth/wif-jwt-bearer"];

/// Runs what a revision requires of clients, and what the suite runs besides: so many scenarios pass.
fn clients(revision: &str, passing: usize) {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let modules = installed("TOOLCRIB_IT_CONFORMANCE").join("node_modules");
    let client = format!("{} -B {FIXTURE}/driver.py", python());
    let output = Command::new(modules.join("node/bin/node"))
        .arg(modules.join("@modelcontextprotocol/conformance/dist/index.js"))
        // The daemons take turns, and the last one has waited for all of them.
        .args(["client", "--command", &client, "--requirements", revision, "--timeout", "500000", "-o"])
        .arg(folder.path().join("suite"))
        .env("TOOLCRIB", env!("CARGO_BIN_EXE_toolcrib"))
        .env("TURN", folder.path().join("turn"))
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{revision}:\n{}", tail(&said));
    let scenarios = |mark: &str| -> Vec<String> {
        let lines = said.lines().filter_map(|line| line.strip_prefix(mark)?.split_once(": "));
        lines.map(|(scenario, _)| scenario.to_owned()).collect()
    };
    let mut failed = scenarios("✗ ");
    failed.sort();
    assert_eq!(failed, NOT_SUPPORTED, "{revision}:\n{}", tail(&said));
    assert_eq!(scenarios("✓ ").len(), passing, "{revision}:\n{}", tail(&said));
    // The suite counts no warning as a failure; a client that does what it should has none.
    let total = said.lines().find(|line| line.starts_with("Total: ")).unwrap_or_default();
    assert!(total.ends_with(", 0 warnings"), "{revision}: {total}\n{}", tail(&said));
}

#[test]
fn our_client_does_what_2026_07_28_requires() {
    clients(MODERN, 35);
}

#[test]
fn our_client_does_what_2025_11_25_requires() {
    clients(LEGACY, 21);
}
