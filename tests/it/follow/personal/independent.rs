//! The same against an authorization server that others wrote (`oidc-provider` of npm): found, registered at,
//! authorized with PKCE, refreshed, over a restart of the daemon, and revoked.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::super::access::get;
use super::super::{SOON, greeter, wait_for_names};
use super::{WHO, address, call, far, printed, shows};
use crate::support::{Daemon, TestEnv, wait_for};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/oidc");

fn installed(name: &str) -> PathBuf {
    let folder = std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `tests/run`"));
    PathBuf::from(folder)
}

struct Independent {
    child: Child,
    issuer: String,
}

impl Independent {
    fn start() -> Self {
        let modules = installed("TOOLCRIB_IT_CONFORMANCE").join("node_modules");
        let mut child = Command::new(modules.join("node/bin/node"))
            .arg(Path::new(FIXTURE).join("provider.mjs"))
            .arg(&modules)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let issuer = lines.find(|line| line.starts_with("http")).unwrap();
        Self { child, issuer }
    }

    /// What clients did so far.
    fn seen(&self) -> Value {
        get(&format!("{}/seen", self.issuer))
    }

    fn refreshed(&self) -> u64 {
        self.seen()["refreshed"].as_u64().unwrap()
    }
}

impl Drop for Independent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Opens an address, logs in and agrees.
fn browse(address: &str, login: &str) -> String {
    let output = Command::new(installed("TOOLCRIB_IT_VENV").join("bin/python"))
        .arg("-B")
        .arg(Path::new(FIXTURE).join("browser.py"))
        .args([address, login])
        .output()
        .unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn an_independent_provider_registers_authorizes_refreshes_and_revokes() {
    let provider = Independent::start();
    let (env_far, env) = (TestEnv::new(), TestEnv::new());
    env_far.repo().write("tools.yaml", &(greeter("hello") + WHO)).commit("hello");
    let upstream = env_far.daemon(&[
        "--oidc-issuer",
        &provider.issuer,
        "--oidc-audience",
        "urn:far",
        "--oidc-scopes",
        "greet",
    ]);
    let declared = far(&upstream.mcp, "local").replace("clientId: people", "resource: urn:far");
    env.repo().write("far.yaml", &declared).commit("far");
    let daemon = env.daemon(&[]);
    let url = wait_for("the server to be known", SOON, || {
        let said = printed(&env, &["start", "far"]);
        said.starts_with("http").then_some(said)
    });
    let said = browse(&url, "ada");
    assert!(said.starts_with("Authorized."), "{said}\n{}", provider.seen());
    wait_for_names(&daemon, &["far_greet"]);
    let calls = |daemon: &Daemon| {
        let said = call(daemon, "", &shows(), &json!({})).to_string();
        assert!(said.contains("you are ada"), "{said}\n{}", provider.seen());
    };
    // Tokens are good for two seconds: whoever calls on has new ones.
    let refreshes = |daemon: &Daemon| {
        let before = provider.refreshed();
        wait_for("a token to be refreshed", SOON, || {
            calls(daemon);
            (provider.refreshed() > before).then_some(())
        });
    };
    calls(&daemon);
    refreshes(&daemon);
    drop(daemon);
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["far_greet"]);
    refreshes(&daemon);

    assert!(printed(&env, &["list"]).contains(&provider.issuer));
    assert_eq!(printed(&env, &["revoke", "far"]), "far: local has to authorize again");
    let seen = provider.seen();
    assert_eq!(seen["registered"].as_array().unwrap().len(), 1, "{seen}");
    assert_eq!((&seen["methods"], &seen["code"]), (&json!(["client_secret_basic"]), &json!(1)), "{seen}");
    assert_eq!(seen["revoked"], 1, "{seen}");
    // It revokes no tokens that carry all they say: those end by themselves, soon.
    let kept = "revocation.error: Structured JWT Tokens cannot be revoked via the revocation_endpoint";
    assert_eq!(seen["failed"], json!([kept]), "{seen}");

    // Who authorizes next may be somebody else over there.
    let said = browse(&address(&call(&daemon, "", &shows(), &json!({}))), "bob");
    assert!(said.starts_with("Authorized."), "{said}\n{}", provider.seen());
    let said = call(&daemon, "", &shows(), &json!({})).to_string();
    assert!(said.contains("you are bob"), "{said}");
}
