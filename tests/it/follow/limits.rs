//! How much one caller may use, and pages of other origins.

use serde_json::json;

use super::access::get_text;
use super::{greeter, meta};
use crate::support::{Daemon, TestEnv};

/// A request with more headers: status, headers and body.
fn send(
    daemon: &Daemon,
    verb: &str,
    headers: &[(&str, &str)],
    body: String,
) -> (u16, reqwest::header::HeaderMap, String) {
    crate::support::tls();
    let verb = verb.parse().unwrap();
    let mut request = reqwest::Client::new()
        .request(verb, &daemon.mcp)
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let response = request.body(body).send().await.unwrap();
        (response.status().as_u16(), response.headers().clone(), response.text().await.unwrap())
    })
}

fn list() -> String {
    json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": {"_meta": meta()}}).to_string()
}

#[test]
fn a_caller_that_asks_for_too_much_is_told_and_others_are_served() {
    let env = TestEnv::new();
    env.repo().write("tools.yaml", &greeter("hello")).commit("hello");
    let made = |name: &str| {
        let said = env.run(&["token", name, "--output", "json"]).json();
        (format!("Bearer {}", said["token"].as_str().unwrap()), said["line"].as_str().unwrap().to_owned())
    };
    let ((ada, ada_line), (eve, eve_line)) = (made("ada"), made("eve"));
    let file = env.home().join("tokens");
    std::fs::write(&file, format!("{ada_line}\n{eve_line}\n")).unwrap();
    // A rate so low that no machine is so slow that a burst does not reach it.
    let limits = ["--max-rate", "1", "--max-body", "8Ki", "--max-sessions", "1"];
    let daemon = env.daemon(&[&["--tokens-file", file.to_str().unwrap()][..], &limits].concat());
    let modern = |token: &str| {
        let headers =
            [("authorization", token), ("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/list")];
        send(&daemon, "POST", &headers, list())
    };
    assert_eq!(modern(&eve).0, 200);
    let refused = (0..100).map(|_| modern(&eve)).find(|(status, ..)| *status == 429);
    let (_, headers, text) = refused.expect("too much");
    assert_eq!(headers["retry-after"], "1");
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&told["id"], &told["error"]["code"]), (&json!(7), &json!(-32005)));
    let message = told["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("more than 1 requests per second") && message.contains("try again"),
        "{message}"
    );
    assert_eq!(modern(&ada).0, 200, "others are not concerned");

    let large = format!("{}{}", list(), " ".repeat(9000));
    let (status, _, text) = send(&daemon, "POST", &[("authorization", ada.as_str())], large);
    assert!(status == 413 && text.contains("8192"), "{status} {text}");
    let metrics = get_text(&format!("{}/metrics", daemon.admin));
    assert!(metrics.contains("requests_refused_total{reason=\"rate\"}"), "{metrics}");
    assert!(metrics.contains("requests_refused_total{reason=\"body\"} 1"), "{metrics}");
}

#[test]
fn pages_of_declared_origins_may_ask_and_read() {
    let env = TestEnv::new();
    env.repo().write("tools.yaml", &greeter("hello")).commit("hello");
    let said = env.run(&["token", "ada", "--output", "json"]).json();
    let file = env.home().join("tokens");
    std::fs::write(&file, said["line"].as_str().unwrap()).unwrap();
    let daemon = env.daemon(&[
        "--tokens-file",
        file.to_str().unwrap(),
        "--allow-origin",
        "https://app.example.org",
        "--allow-origin",
        "http://localhost:6274",
    ]);
    let preflight = |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-type,mcp-protocol-version"),
        ];
        send(&daemon, "OPTIONS", &headers, String::new())
    };
    for origin in ["https://app.example.org", "http://localhost:6274"] {
        let (status, headers, _) = preflight(origin);
        assert_eq!(status, 204, "a preflight has no token");
        assert_eq!(headers["access-control-allow-origin"], origin);
        assert_eq!(
            headers["access-control-allow-headers"],
            "authorization, content-type, mcp-protocol-version"
        );
        assert!(!headers.contains_key("access-control-allow-credentials"));
        // A page has to be able to read why it was refused.
        let (status, headers, _) = send(&daemon, "POST", &[("origin", origin)], list());
        assert_eq!((status, headers["access-control-allow-origin"].to_str().unwrap()), (401, origin));
        assert!(headers["access-control-expose-headers"].to_str().unwrap().contains("www-authenticate"));
        assert_eq!(headers["vary"], "origin");
    }
    for origin in ["https://evil.example", "http://app.example.org", "null"] {
        let (status, headers, _) = preflight(origin);
        assert!(status == 403 && !headers.contains_key("access-control-allow-origin"), "{origin}");
    }
    let (status, headers, _) = send(&daemon, "POST", &[], list());
    assert!(status == 401 && !headers.contains_key("access-control-allow-origin"), "no CORS unless asked");
    let said = env.run(&["run", "--repo", ".", "--allow-origin", "*"]);
    assert!(said.code != 0 && said.stderr.contains("is no origin"), "{}", said.all());
}
