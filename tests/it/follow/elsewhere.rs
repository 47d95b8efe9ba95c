//! Servers that run elsewhere and want to know who asks: a daemon behind a daemon.

use std::fs::write;

use serde_json::json;

use super::access::{Provider, get};
use super::{SOON, call, greeter, resource, text, wait_for_names};
use crate::support::{Daemon, TestEnv, wait_for};

/// A server at an address, with what it is shown.
fn elsewhere(url: &str, more: &str) -> String {
    format!(
        "apiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {{name: far}}\nspec:\n  source: {{url: \"{url}\"}}\n{more}"
    )
}

/// A token for `ada` and its line.
fn token(env: &TestEnv) -> (String, String) {
    let said = env.run(&["token", "ada", "--output", "json"]).json();
    (said["token"].as_str().unwrap().to_owned(), said["line"].as_str().unwrap().to_owned())
}

/// What a tool behind both daemons says.
fn said(daemon: &Daemon) -> String {
    text(&call(daemon, "far_greet", json!({"name": "Ada"}))).to_owned()
}

#[test]
fn a_header_with_a_secret_opens_a_server_and_a_rotated_one_opens_it_again() {
    let (far, near) = (TestEnv::new(), TestEnv::new());
    far.repo().write("tools.yaml", &greeter("hello")).commit("hello");
    let (lines, secret) = (far.home().join("tokens"), near.home().join("token"));
    let (first, first_line) = token(&far);
    write(&lines, &first_line).unwrap();
    write(&secret, format!("{first}\n")).unwrap();
    let upstream = far.daemon(&["--tokens-file", lines.to_str().unwrap()]);
    // The variable comes from an integration.
    let integration = format!(
        "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Integration\nmetadata: {{name: far}}\nspec: {{env: {{FAR_TOKEN: {{secret: {{file: {}}}}}}}}}\n",
        secret.display()
    );
    let shown = "  integrations: [far]\n  headers: {Authorization: \"Bearer ${FAR_TOKEN}\"}\n";
    near.repo().write("far.yaml", &(elsewhere(&upstream.mcp, shown) + &integration)).commit("far");
    let daemon = near.daemon(&[]);
    wait_for_names(&daemon, &["far_greet"]);
    assert_eq!(said(&daemon), "hello Ada\n");

    let (second, second_line) = token(&far);
    write(&lines, &second_line).unwrap();
    wait_for("the first token to end", SOON, || {
        let called = call(&daemon, "far_greet", json!({"name": "Ada"}));
        called.to_string().contains("401").then_some(())
    });
    write(&secret, &second).unwrap();
    assert_eq!(said(&daemon), "hello Ada\n");
    let log = daemon.log();
    assert!(!log.contains(&first) && !log.contains(&second), "{log}");
}

#[test]
fn a_client_that_has_a_key_signs_with_it() {
    let provider = Provider::start();
    let far = TestEnv::new();
    far.repo().write("tools.yaml", &greeter("hello")).commit("hello");
    let upstream = far.daemon(&["--oidc-issuer", &provider.issuer, "--oidc-audience", "urn:far"]);
    for algorithm in ["ES256", "EdDSA", "RS256"] {
        let near = TestEnv::new();
        let key = near.home().join("key");
        let given = get(&format!("{}/key?alg={algorithm}", provider.issuer));
        let pem = given["pem"].as_str().unwrap();
        write(&key, pem.lines().rev().collect::<Vec<_>>().join("\n")).unwrap();
        let shown = format!(
            "  oauth:\n    tokenUrl: {}/token\n    clientId: toolcrib\n    clientKey: {{privateKey: {{secret: {{file: {}}}}}}}\n    resource: urn:far\n",
            provider.issuer,
            key.display()
        );
        near.repo().write("far.yaml", &elsewhere(&upstream.mcp, &shown)).commit("far");
        let daemon = near.daemon(&[]);
        let why = wait_for("what is wrong with the key", SOON, || {
            let shown = resource(&near, &daemon, "Server/far").to_string();
            shown.contains("the client's private key is none of").then_some(shown)
        });
        write(&key, pem).unwrap();
        near.run(&["reconcile", "--state", near.state().to_str().unwrap()]);
        wait_for_names(&daemon, &["far_greet"]);
        assert_eq!(said(&daemon), "hello Ada\n", "{algorithm}");
        let told = [why, daemon.log()].concat();
        assert!(pem.lines().filter(|line| !line.starts_with('-')).all(|line| !told.contains(line)), "{told}");
    }
}

#[test]
fn a_token_of_oauth_opens_a_server_and_is_asked_for_once() {
    let provider = Provider::start();
    let (far, near) = (TestEnv::new(), TestEnv::new());
    far.repo().write("tools.yaml", &greeter("hello")).commit("hello");
    let upstream = far.daemon(&["--oidc-issuer", &provider.issuer, "--oidc-audience", "urn:far"]);
    let secret = near.home().join("secret");
    write(&secret, "wrong").unwrap();
    let shown = format!(
        "  oauth:\n    tokenUrl: {}/token\n    clientId: toolcrib\n    clientSecret: {{secret: {{file: {}}}}}\n    resource: urn:far\n    scopes: [read]\n",
        provider.issuer,
        secret.display()
    );
    near.repo().write("far.yaml", &elsewhere(&upstream.mcp, &shown)).commit("far");
    let daemon = near.daemon(&[]);
    let why = wait_for("the refusal", SOON, || {
        let shown = resource(&near, &daemon, "Server/far").to_string();
        shown.contains("it answered 401: invalid_client").then_some(shown)
    });
    assert!(!why.contains("wrong"), "{why}");

    write(&secret, "s3cret & more").unwrap();
    near.run(&["reconcile", "--state", near.state().to_str().unwrap()]);
    wait_for_names(&daemon, &["far_greet"]);
    for _ in 0..3 {
        assert_eq!(said(&daemon), "hello Ada\n");
    }
    assert_eq!(get(&format!("{}/granted", provider.issuer)), json!(1));
    assert!(!daemon.log().contains("s3cret"));
}
