//! `/mcp/operator`.

use serde_json::{Value, json};

use super::{RUNNER, names_at, refused_at, tool, toolset};
use crate::follow::{ask_at, server, wait_for_names, wait_for_reason};
use crate::support::{Daemon, TestEnv, wait_for};

/// A server whose tools are the lines of a file.
const LISTED: &str = r#"
import json, sys
for line in sys.stdin:
    m = json.loads(line)
    if "id" not in m: continue
    result = {
        "initialize": {"protocolVersion": "2025-11-25", "serverInfo": {"name": "n", "version": "1"}, "capabilities": {"tools": {}}},
        "tools/list": {"tools": [{"name": n, "inputSchema": {"type": "object"}} for n in open(sys.argv[1]).read().split()]},
    }.get(m["method"])
    answer = {"result": result} if result is not None else {"error": {"code": -32601, "message": "no"}}
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], **answer}), flush=True)
"#;

fn crib(who: &str) -> String {
    format!(
        "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Crib\nmetadata: {{name: crib}}\nspec: {{operators: {who}}}\n"
    )
}

fn told(daemon: &Daemon, tool: &str, arguments: Value) -> Value {
    let url = format!("{}/operator", daemon.mcp);
    let answer = ask_at(&url, "tools/call", json!({"name": tool, "arguments": arguments}));
    if answer["structuredContent"].is_null() { answer } else { answer["structuredContent"].clone() }
}

#[test]
fn an_agent_can_ask_what_is_served_why_not_and_what_changed() {
    let env = TestEnv::new();
    let list = env.home().join("tools.txt");
    std::fs::write(&list, "write read").unwrap();
    let notes = server("notes", &["python3", "-c", LISTED, list.to_str().unwrap()], "");
    let broken = server("broken", &["sh", "-c", "exit 3"], "");
    let set = toolset("data", "{select: [{names: [count]}]}");
    let write = |tools: &str| {
        env.repo().write("crib.yaml", &[RUNNER, tools, &notes, &broken, &set].concat()).commit("change");
    };
    write(&(tool("count", "", "Counts") + &tool("old", "", "Is old")));
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["count", "notes_read", "notes_write", "old"]);
    wait_for_reason(&env, &daemon, "Server/broken", "StartFailed");
    let operator = format!("{}/operator", daemon.mcp);
    assert!(names_at(&operator).contains(&"why_tool".to_owned()));
    assert!(
        ask_at(&operator, "server/discover", json!({}))["instructions"]
            .as_str()
            .unwrap()
            .contains("only read")
    );

    let all = told(&daemon, "list_resources", json!({}));
    assert_eq!(all["toolsets"], json!(["/mcp/data"]));
    let servers = told(&daemon, "list_resources", json!({"kind": "Server"}));
    let resources = servers["resources"].as_array().unwrap();
    assert_eq!(resources.len(), 2);
    assert_eq!((&resources[0]["resource"], &resources[0]["ready"]), (&json!("Server/broken"), &json!(false)));
    assert_eq!(resources[1]["offers"], json!(["notes_read", "notes_write"]));
    let one = told(&daemon, "get_resource", json!({"resource": "Server/notes"}));
    assert_eq!(one["status"]["instances"][0]["state"], "running");

    let why = told(&daemon, "why_tool", json!({"tool": "broken_thing"}));
    assert_eq!(why["fate"], "not-offered", "{why}");
    assert_eq!(told(&daemon, "why_tool", json!({"tool": "count"}))["fate"], "served");

    std::fs::write(&list, "write erase").unwrap();
    let probed = told(&daemon, "probe_server", json!({"server": "notes"}));
    assert_eq!(probed["tools"], json!(["erase", "write"]));
    assert_eq!((&probed["notServed"], &probed["gone"]), (&json!(["erase"]), &json!(["read"])));
    wait_for_names(&daemon, &["count", "notes_erase", "notes_write", "old"]);

    write(&(tool("count", "", "Counts rows") + &tool("new", "", "Is new")));
    wait_for_names(&daemon, &["count", "new", "notes_erase", "notes_write"]);
    let changed = told(&daemon, "what_changed", json!({}))["tools"].clone();
    assert_eq!((&changed["added"], &changed["removed"]), (&json!(["new"]), &json!(["old"])));
    assert_eq!(changed["changed"], json!([{"name": "count", "fields": ["description"]}]));
    assert!(told(&daemon, "show_plan", json!({}))["text"].is_string());

    let calls = told(&daemon, "recent_calls", json!({"tool": "why_*"}));
    assert_eq!(calls["calls"].as_array().unwrap().len(), 2);
    assert_eq!(calls["calls"][0]["endpoint"], "/mcp/operator");
    for (tool, arguments, said) in [
        ("get_resource", json!({"resource": "Server/none"}), "there is no resource"),
        ("get_resource", json!({"what": 1}), "do not fit"),
        ("list_resources", json!({"kind": "Pod"}), "not a kind"),
        ("what_changed", json!({"since": "0000000"}), "is kept"),
        ("probe_server", json!({"server": "broken"}), "is not connected"),
        ("probe_server", json!({"server": "none"}), "there is no server"),
        ("recent_calls", json!({"limit": 100_000}), "at most 1000"),
    ] {
        let answer = told(&daemon, tool, arguments);
        assert_eq!(answer["isError"], true, "{answer}");
        assert!(answer["content"][0]["text"].as_str().unwrap().contains(said), "{tool}: {answer}");
    }
    assert_eq!(told(&daemon, "count", json!({}))["message"], "unknown tool `count`");
    assert_eq!(ask_at(&operator, "prompts/list", json!({}))["prompts"], json!([]));
    assert_eq!(ask_at(&operator, "prompts/get", json!({"name": "x"}))["code"], -32601);
}

#[test]
fn only_those_whom_the_crib_names_may_ask() {
    let env = TestEnv::new();
    let write = |who: &str| {
        env.repo().write("crib.yaml", &[RUNNER, &tool("one", "", "One"), &crib(who)].concat()).commit(who);
    };
    write("{groups: [oncall]}");
    let daemon = env.daemon(&[]);
    let operator = format!("{}/operator", daemon.mcp);
    let (status, why) = refused_at(&operator, &[]);
    assert_eq!((status, why.as_str()), (403, "`operators` of the Crib does not include `local`"));
    write("{users: [local]}");
    wait_for("the endpoint to open", crate::follow::SOON, || {
        (refused_at(&operator, &[]).0 == 200).then_some(())
    });
}
