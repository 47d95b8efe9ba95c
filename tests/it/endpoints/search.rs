//! A toolset as a search.

use serde_json::{Value, json};

use super::{Heard, RUNNER, names_at, tool, toolset};
use crate::follow::{ask_at, text, wait_for_names};
use crate::support::TestEnv;

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
    visible := false if input.entry.name == "wipe"
---
apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata: {name: deploy, labels: {team: ops}}
spec:
  description: Deploys a service
  command: [echo, deployed]
  args: ["${to}"]
  parameters:
    to: {type: string, description: The environment to deploy into, required: true}
"#;

fn found(url: &str, arguments: Value) -> Value {
    ask_at(url, "tools/call", json!({"name": "search_tools", "arguments": arguments}))
}

#[test]
fn tools_are_found_and_called_as_if_they_were_listed() {
    let env = TestEnv::new();
    let tools = [
        tool("wipe", "team: ops", "Wipes the disk of a service"),
        tool("restart", "team: ops", "Restarts a service"),
        tool("count", "team: data", "Counts the rows of a service"),
    ];
    let set = toolset("ops", "{select: [{matchLabels: {team: ops}}], search: {results: 1}}");
    let write = |more: &str| {
        env.repo()
            .write("crib.yaml", &(RUNNER.to_owned() + RULES + &tools.concat() + &set + more))
            .commit("ops");
    };
    write("");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["count", "deploy", "restart"]);
    let ops = format!("{}/ops", daemon.mcp);
    assert_eq!(names_at(&ops), ["search_tools", "call_tool"]);
    assert_eq!(names_at(&daemon.mcp).len(), 3, "they are listed elsewhere");

    let answer = found(&ops, json!({"query": "deploying to an environment"}));
    let hit = &answer["structuredContent"]["tools"][0];
    assert_eq!((&hit["name"], &hit["matched"]), (&json!("deploy"), &json!(["deploy", "environment"])));
    assert_eq!(hit["inputSchema"]["required"], json!(["to"]));
    assert!(hit["score"].as_f64().unwrap() > 0.0);
    assert_eq!(serde_json::from_str::<Value>(text(&answer)).unwrap(), answer["structuredContent"]);
    let names = |arguments: Value| -> Vec<String> {
        let answer = found(&ops, arguments);
        let tools =
            answer["structuredContent"]["tools"].as_array().unwrap_or_else(|| panic!("{answer}")).clone();
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(json!({"query": "service"})).len(), 1, "as many as the toolset says");
    assert_eq!(
        names(json!({"query": "service", "limit": 9})),
        ["restart", "deploy"],
        "what is hidden is not found"
    );
    assert!(names(json!({"query": "count rows"})).is_empty(), "nor what is not in the toolset");
    for wrong in
        [json!({}), json!({"query": ""}), json!({"query": "x", "limit": 0}), json!({"query": 1}), json!([])]
    {
        assert_eq!(found(&ops, wrong.clone())["isError"], true, "{wrong}");
    }

    let call = |name: &str, arguments: Value| {
        let arguments = json!({"name": name, "arguments": arguments});
        ask_at(&ops, "tools/call", json!({"name": "call_tool", "arguments": arguments}))
    };
    assert_eq!(text(&call("deploy", json!({"to": "staging"}))), "deployed staging\n");
    assert!(text(&call("deploy", json!({"to": "production"}))).contains("not to production"));
    assert!(text(&call("deploy", json!({}))).contains("to"), "checked against the schema");
    for unknown in ["wipe", "count", "call_tool", "nothing"] {
        assert_eq!(call(unknown, json!({}))["message"], format!("unknown tool `{unknown}`"));
    }
    let malformed = ask_at(&ops, "tools/call", json!({"name": "call_tool", "arguments": {"tool": "deploy"}}));
    assert_eq!(malformed["isError"], true);
    let direct = ask_at(&ops, "tools/call", json!({"name": "restart", "arguments": {}}));
    assert_eq!(text(&direct), "restart\n", "whoever knows a name may call it");

    let records =
        env.run(&["audit", "--admin", daemon.admin_address(), "--output", "json", "--tool", "deploy"]).json();
    let told: Vec<_> =
        records.as_array().unwrap().iter().map(|record| (&record["endpoint"], &record["outcome"])).collect();
    let at = json!("/mcp/ops");
    assert_eq!(told, [(&at, &json!("success")), (&at, &json!("refused")), (&at, &json!("invalid"))]);

    // What can be found changes; what is listed does not.
    let (all, heard) = (Heard::at(&daemon, "/mcp"), Heard::at(&daemon, "/mcp/ops"));
    write(&tool("scale", "team: ops", "Scales out"));
    assert_eq!(all.next(), "notifications/tools/list_changed");
    assert_eq!(names(json!({"query": "scale"})), ["scale"]);
    env.repo().write("crib.yaml", RUNNER).commit("gone");
    assert_eq!(heard.next(), "end");
}
