//! `/mcp/<toolset>`.

use serde_json::json;

use super::{Heard, RUNNER, names_at, post, refused_at, tool, toolset};
use crate::follow::{SOON, ask_at, server, text, wait_for_names};
use crate::support::{TestEnv, wait_for};

/// A server in a few lines: a tool, a prompt and two resources, and instructions.
const NOTES: &str = r#"
import json, sys
for line in sys.stdin:
    m = json.loads(line)
    if "id" not in m: continue
    method, p = m["method"], m.get("params", {})
    result = {
        "initialize": {"protocolVersion": "2025-11-25", "serverInfo": {"name": "n", "version": "1"},
                       "instructions": "Notes are short.", "capabilities": {"tools": {}, "prompts": {}, "resources": {}}},
        "tools/list": {"tools": [{"name": "write", "inputSchema": {"type": "object"}}]},
        "tools/call": {"content": [{"type": "text", "text": "written"}]},
        "prompts/list": {"prompts": [{"name": "sum"}]},
        "prompts/get": {"messages": []},
        "resources/list": {"resources": [{"uri": "note://1", "name": "one"}]},
        "resources/templates/list": {"resourceTemplates": [{"uriTemplate": "note://by/{name}", "name": "by"}]},
        "resources/read": {"contents": [{"uri": p.get("uri"), "text": "a note"}]},
    }.get(method)
    answer = {"result": result} if result is not None else {"error": {"code": -32601, "message": method}}
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], **answer}), flush=True)
"#;

fn everything() -> String {
    [
        RUNNER.to_owned(),
        tool("count", "team: data", "Counts rows"),
        tool("deploy", "team: ops", "Deploys"),
        server("notes", &["python3", "-c", NOTES], ""),
    ]
    .concat()
}

#[test]
fn a_toolset_has_its_own_lists_instructions_and_calls() {
    let env = TestEnv::new();
    let sets = [
        toolset("data", "{select: [{matchLabels: {team: data}}], instructions: Ask for the table first.}"),
        toolset("notes", "{select: [{servers: [notes]}]}"),
    ];
    env.repo().write("crib.yaml", &(everything() + &sets.concat())).commit("sets");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["count", "deploy", "notes_write"]);
    let (data, notes) = (format!("{}/data", daemon.mcp), format!("{}/notes/", daemon.mcp));

    assert_eq!(names_at(&data), ["count"]);
    assert_eq!(names_at(&notes), ["notes_write"]);
    let about = ask_at(&data, "server/discover", json!({}));
    assert_eq!(about["instructions"], "Ask for the table first.");
    let about = ask_at(&notes, "server/discover", json!({}));
    assert_eq!(about["instructions"], "# notes\n\nNotes are short.");

    let call = |url: &str, tool: &str| ask_at(url, "tools/call", json!({"name": tool, "arguments": {}}));
    assert_eq!(text(&call(&data, "count")), "count\n");
    assert_eq!(text(&call(&notes, "notes_write")), "written");
    let unknown = call(&data, "deploy");
    assert_eq!((&unknown["code"], &unknown["message"]), (&json!(-32602), &json!("unknown tool `deploy`")));

    let listed =
        |url: &str, method: &str, key: &str| ask_at(url, method, json!({}))[key].as_array().unwrap().len();
    for (method, key) in [
        ("prompts/list", "prompts"),
        ("resources/list", "resources"),
        ("resources/templates/list", "resourceTemplates"),
    ] {
        assert_eq!((listed(&notes, method, key), listed(&data, method, key)), (1, 0), "{method}");
    }
    for uri in ["note://1", "note://by/ada", "note://unlisted"] {
        assert_eq!(
            ask_at(&notes, "resources/read", json!({"uri": uri, "name": uri}))["contents"][0]["text"],
            "a note"
        );
        assert_eq!(
            ask_at(&data, "resources/read", json!({"uri": uri, "name": uri}))["code"],
            -32602,
            "{uri}"
        );
    }
    assert!(ask_at(&data, "prompts/get", json!({"name": "notes_sum"}))["message"].is_string());
    assert!(ask_at(&notes, "prompts/get", json!({"name": "notes_sum"}))["messages"].is_array());

    let (status, why) = refused_at(&format!("{}/dta", daemon.mcp), &[]);
    assert_eq!((status, why.contains("there is no toolset `dta`")), (404, true), "{why}");
    let (status, why) = refused_at(&format!("{}/a/b", daemon.mcp), &[]);
    assert_eq!((status, why.contains("/mcp/<toolset>")), (404, true), "{why}");
}

#[test]
fn a_session_is_of_the_endpoint_it_was_opened_at() {
    let env = TestEnv::new();
    let set = toolset("data", "{select: [{matchLabels: {team: data}}]}");
    env.repo()
        .write("crib.yaml", &(RUNNER.to_owned() + &tool("count", "team: data", "Counts") + &set))
        .commit("set");
    let daemon = env.daemon(&[]);
    let data = format!("{}/data", daemon.mcp);
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "it", "version": "1"}}});
    let (status, opened) = post(&data, &[], &hello);
    assert_eq!(status, 200, "{opened}");
    let session = opened["session"].as_str().unwrap().to_owned();
    let headers = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2025-11-25")];
    let list = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"});
    let (status, listed) = post(&data, &headers, &list);
    assert_eq!((status, listed["result"]["tools"].as_array().unwrap().len()), (200, 1));
    assert_eq!(post(&daemon.mcp, &headers, &list).0, 404);
}

#[test]
fn subscribers_of_a_toolset_hear_of_its_own_changes_only_and_of_its_end() {
    let env = TestEnv::new();
    let write = |deploy: &str, count: &str, sets: &str| {
        let text =
            RUNNER.to_owned() + &tool("count", "team: data", count) + &tool("deploy", "team: ops", deploy);
        env.repo().write("crib.yaml", &(text + sets)).commit("change");
    };
    let set = toolset("data", "{select: [{matchLabels: {team: data}}]}");
    write("Deploys", "Counts", &set);
    let daemon = env.daemon(&[]);
    let (all, data) = (Heard::at(&daemon, "/mcp"), Heard::at(&daemon, "/mcp/data"));
    let changed = "notifications/tools/list_changed";

    write("Deploys twice", "Counts", &set);
    assert_eq!(all.next(), changed);
    write("Deploys twice", "Counts twice", &set);
    assert_eq!(all.next(), changed);
    assert_eq!(data.next(), changed);

    write("Deploys", "Counts twice", "");
    assert_eq!(data.next(), "end", "and nothing of the first change");
    assert_eq!(refused_at(&format!("{}/data", daemon.mcp), &[]).0, 404);
}

#[test]
fn access_decides_who_may_use_an_endpoint_and_grants_no_tool() {
    let env = TestEnv::new();
    let rules = "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Policy\nmetadata: {name: p}\nspec:\n  package: p\n  points: [list, call]\n  rego: |\n    package p\n    visible := false if input.tool.name == \"deploy\"\n";
    let set = |groups: &str| {
        toolset("ops", &format!("{{select: [{{names: ['*']}}], access: {{groups: [{groups}]}}}}"))
    };
    let text = everything() + rules;
    env.repo().write("crib.yaml", &(text.clone() + &set("ops, local"))).commit("open");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["count", "notes_write"]);
    let ops = format!("{}/ops", daemon.mcp);
    assert_eq!(names_at(&ops), ["count", "notes_write"], "the toolset takes it, the rule hides it");
    assert_eq!(ask_at(&ops, "tools/list", json!({}))["cacheScope"], "private");
    let hidden = ask_at(&ops, "tools/call", json!({"name": "deploy", "arguments": {}}));
    assert_eq!(hidden["message"], "unknown tool `deploy`");

    let heard = Heard::at(&daemon, "/mcp/ops");
    env.repo().write("crib.yaml", &(text + &set("ops"))).commit("closed");
    assert_eq!(heard.next(), "end", "whoever followed it comes back, and is asked again");
    let (status, why) = wait_for("the endpoint to be closed", SOON, || {
        Some(refused_at(&ops, &[])).filter(|(status, _)| *status != 200)
    });
    assert_eq!((status, why.as_str()), (403, "the access of toolset `ops` does not include `local`"));
    assert_eq!(names_at(&daemon.mcp), ["count", "notes_write"]);
}
