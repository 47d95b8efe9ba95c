//! `toolcrib audit` and `toolcrib why`: what became of calls, and what would.

use serde_json::{Value, json};

use super::{RUNNER, toolset};
use crate::follow::{ask_at, server, wait_for_reason};
use crate::support::{Daemon, Said, TestEnv};

const RULES: &str = r#"
---
apiVersion: toolcrib.dev/v1alpha1
kind: Policy
metadata: {name: team}
spec:
  package: team
  points: [list, call]
  rego: |
    package team
    deny contains "not to production" if input.tool.args.to == "production"
    visible := false if {
      input.entry.name == "wipe"
      not "admin" in input.user.groups
    }
    recorded := {"to", "api_key"}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata: {name: wipe, labels: {team: ops}}
spec: {description: Wipes, command: [echo, wiped]}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata: {name: deploy, labels: {team: ops}}
spec:
  description: Deploys
  command: [echo, deployed]
  args: ["${to}"]
  parameters:
    to: {type: string, description: Where to, required: true}
    api_key: {type: string, description: A key}
    note: {type: string, description: A note}
"#;

fn declared() -> String {
    let sets = [
        toolset("ops", "{select: [{matchLabels: {team: ops}}], access: {groups: [ops, local]}}"),
        toolset("none", "{select: [{names: [wipe]}]}"),
    ];
    RUNNER.to_owned() + RULES + &sets.concat()
}

fn audit(env: &TestEnv, daemon: &Daemon, more: &[&str]) -> Vec<Value> {
    let said = env.run(&[&["audit", "--admin", daemon.admin_address(), "--output", "json"], more].concat());
    said.json().as_array().unwrap_or_else(|| panic!("{}", said.all())).clone()
}

#[test]
fn every_call_leaves_one_record_that_says_what_was_decided() {
    let env = TestEnv::new();
    env.repo().write("crib.yaml", &declared()).commit("first");
    let commit = env.repo().git(&["rev-parse", "HEAD"]);
    let daemon = env.daemon(&[]);
    let call = |url: &str, tool: &str, arguments: Value| {
        ask_at(url, "tools/call", json!({"name": tool, "arguments": arguments}))
    };
    let ops = format!("{}/ops", daemon.mcp);
    call(&ops, "deploy", json!({"to": "staging", "api_key": "canary-8d1", "note": "canary-9e2"}));
    call(&daemon.mcp, "deploy", json!({"to": "production"}));
    call(&daemon.mcp, "deploy", json!({"to": 7}));
    call(&daemon.mcp, "wipe", json!({}));
    call(&daemon.mcp, "nothing", json!({}));

    let records = audit(&env, &daemon, &[]);
    let of = |record: &Value| {
        ["endpoint", "tool", "decision", "outcome"]
            .map(|key| record[key].as_str().unwrap().to_owned())
            .join(" ")
    };
    let told: Vec<String> = records.iter().map(of).collect();
    assert_eq!(
        told,
        [
            "/mcp/ops deploy allowed success",
            "/mcp deploy refused refused",
            "/mcp deploy allowed invalid",
            "/mcp wipe hidden refused",
            "/mcp nothing unknown refused",
        ]
    );
    let first = &records[0];
    assert_eq!(first["user"], "local");
    assert_eq!(first["groups"], json!(["local"]));
    assert_eq!(first["resource"], "Tool/deploy");
    assert_eq!(first["revision"], format!("main@sha1:[COMMIT]"), "{commit}");
    assert_eq!(first["runner"], "local");
    assert!(first["digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(first["arguments"], json!({"to": "staging", "api_key": "[secret]"}));
    assert!(first["durationUs"].as_u64().unwrap() > 0 && first["responseBytes"].as_u64().unwrap() > 0);
    assert_eq!(records[1]["rule"], "not to production (Policy/team, rule `data.team.deny`)");
    assert!(records[4]["resource"].is_null());

    assert_eq!(audit(&env, &daemon, &["--decision", "refused"]).len(), 1);
    assert_eq!(audit(&env, &daemon, &["--tool", "de*", "--limit", "2"])[1]["outcome"], "invalid");
    assert_eq!(audit(&env, &daemon, &["--user", "ada"]).len(), 0);
    assert_eq!(audit(&env, &daemon, &["--since", "1h"]).len(), 5);
    assert_eq!(audit(&env, &daemon, &["--until", "1h"]).len(), 0);
    let text = env.run(&["audit", "--admin", daemon.admin_address()]);
    assert!(text.stdout.contains("not to production"), "{}", text.all());
    assert_eq!(env.run(&["audit", "--since", "yesterday"]).code, 2);

    daemon.terminate();
    let again = env.daemon(&[]);
    assert_eq!(audit(&env, &again, &[]).len(), 5, "records outlive the daemon");
    for file in std::fs::read_dir(env.state().join("audit")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(!text.contains("canary"), "{text}");
    }
    let (_, log) = again.terminate();
    assert!(!log.contains("canary"), "{log}");
}

#[test]
fn no_record_shows_the_value_of_a_secret_that_a_client_sends() {
    let env = TestEnv::new();
    let (value, secret) = ("canary-\"4f1/7c", env.home().join("secret"));
    std::fs::write(&secret, value).unwrap();
    let tool = format!(
        "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Tool\nmetadata: {{name: say}}\nspec:\n  description: Says\n  command: [echo]\n  args: [\"${{text}}\"]\n  env: {{KEY: {{secret: {{file: {}}}}}}}\n  parameters:\n    text: {{type: string, description: What}}\n",
        secret.display()
    );
    let policy = r#"
---
apiVersion: toolcrib.dev/v1alpha1
kind: Policy
metadata: {name: team}
spec:
  package: team
  points: [call]
  rego: |
    package team
    deny contains sprintf("not %s", [input.tool.args.text]) if startswith(input.tool.args.text, "no ")
    recorded := true
"#;
    env.repo().write("crib.yaml", &(RUNNER.to_owned() + policy + &tool)).commit("first");
    let daemon = env.daemon(&[]);
    let call = |tool: &str, text: &str| {
        ask_at(&daemon.mcp, "tools/call", json!({"name": tool, "arguments": {"text": text}}))
    };
    // The first call resolves the secret.
    let said = call("say", "hello");
    assert_eq!(said["content"][0]["text"], "hello\n", "{said}");
    let escaped = json!({"key": value}).to_string();
    let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("user:{value}"));
    let cut = format!("{}{value}", "x".repeat(195));
    for text in [value, &format!("the {value}s"), &format!("no {value}"), &escaped, &encoded, &cut] {
        call("say", text);
    }
    call(value, "nobody");
    let records = audit(&env, &daemon, &[]);
    assert_eq!(records.len(), 8, "{records:?}");
    let shown = Value::from(records).to_string();
    for part in ["the [secret]s", "no [secret]", "not no [secret]", "\\\"key\\\":\\\"[secret]\\\""] {
        assert!(shown.contains(part), "no {part} in {shown}");
    }
    daemon.terminate();
    let file = std::fs::read_to_string(env.state().join("audit/calls.jsonl")).unwrap();
    for text in [shown, file] {
        let base64_of_it = &encoded[8..encoded.len() - 4];
        assert!(
            !text.contains("canary") && !text.contains("4f1/7c") && !text.contains(base64_of_it),
            "{text}"
        );
    }
}

fn why(env: &TestEnv, daemon: &Daemon, more: &[&str]) -> (String, Said) {
    let args = [&["why", "--admin", daemon.admin_address()], more].concat();
    let told = env.run(&[&args[..], &["--output", "json"]].concat());
    (told.json()["fate"].as_str().unwrap().to_owned(), env.run(&args))
}

#[test]
fn why_tells_what_becomes_of_a_tool_and_by_which_rule() {
    let env = TestEnv::new();
    let broken = server("notes", &["sh", "-c", "exit 3"], "");
    env.repo().write("crib.yaml", &(declared() + &broken)).commit("first");
    let daemon = env.daemon(&[]);
    wait_for_reason(&env, &daemon, "Server/notes", "StartFailed");
    let cases: [(&[&str], &str, &[&str]); 12] = [
        (
            &["deploy"],
            "served",
            &["rules are asked about each call", "Tool/deploy offers it", "on runner `local`", "Toolset/ops"],
        ),
        (&["deploy", "--arg", "to=staging"], "served", &["this call goes through"]),
        (
            &["deploy", "--arg", "to=production"],
            "refused",
            &["Policy/team refused by rule `data.team.deny`: not to production", "declared at crib.yaml:"],
        ),
        (&["deploy", "--arg", "too=x"], "invalid", &["do not fit"]),
        (&["wipe"], "hidden", &["`visible` is false", "there is no such tool"]),
        (
            &["wipe", "--user", "ada", "--group", "admin"],
            "served",
            &["listed for `ada`", "may not use /mcp/ops"],
        ),
        (&["deploy", "--toolset", "none"], "not-in-toolset", &["no selector takes `deploy`"]),
        (&["deploy", "--toolset", "opps"], "not-in-toolset", &["did you mean `ops`?"]),
        (
            &["deploy", "--toolset", "ops", "--user", "ada"],
            "forbidden",
            &["`ada` may not use /mcp/ops", "its `access`"],
        ),
        (&["deploy", "--toolset", "ops"], "served", &["listed for `local`"]),
        (&["notes_write"], "not-offered", &["Server/notes StartFailed"]),
        (&["deplyo"], "unknown", &["did you mean `deploy`?"]),
    ];
    for (args, fate, said) in cases {
        let (found, text) = why(&env, &daemon, args);
        assert_eq!(found, fate, "{args:?}: {}", text.all());
        for part in said {
            assert!(text.stdout.contains(part), "{args:?}: no {part:?} in {}", text.all());
        }
    }
}
