//! `resourcesPrefix`: servers with the same URIs, side by side.

use serde_json::{Value, json};

use super::{Heard, RUNNER};
use crate::follow::{ask, server, text, wait_for_names, wait_for_reason};
use crate::support::TestEnv;

/// A server of notes that says who it is; it knows more of them than it lists.
const NOTES: &str = r#"
import json, sys
me = sys.argv[1]
for line in sys.stdin:
    m = json.loads(line)
    if "id" not in m: continue
    method, p = m["method"], m.get("params", {})
    result = {
        "initialize": {"protocolVersion": "2025-11-25", "serverInfo": {"name": "n", "version": "1"},
                       "capabilities": {"tools": {}, "prompts": {}, "resources": {"subscribe": True}, "completions": {}}},
        "resources/subscribe": {},
        "tools/list": {"tools": [{"name": "last", "inputSchema": {"type": "object"}}]},
        "tools/call": {"content": [{"type": "text", "text": me}, {"type": "resource_link", "uri": "note://2", "name": "two"},
                                   {"type": "resource_link", "uri": "https://example.com/", "name": "web"}]},
        "prompts/list": {"prompts": [{"name": "sum"}]},
        "prompts/get": {"messages": [{"role": "user", "content": {"type": "resource", "resource": {"uri": "note://1", "text": me}}}]},
        "resources/list": {"resources": [{"uri": "note://1", "name": "one"}]},
        "resources/templates/list": {"resourceTemplates": [{"uriTemplate": "note://by/{name}", "name": "by"}]},
        "resources/read": {"contents": [{"uri": p.get("uri"), "text": me + " has " + str(p.get("uri"))}]},
        "completion/complete": {"completion": {"values": [me + " " + str(p.get("ref", {}).get("uri"))]}},
    }.get(method)
    answer = {"result": result} if result is not None else {"error": {"code": -32601, "message": method}}
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], **answer}), flush=True)
    if method in ("tools/call", "resources/subscribe"):
        told = {"method": "notifications/resources/updated", "params": {"uri": "note://1"}}
        print(json.dumps({"jsonrpc": "2.0", **told}), flush=True)
"#;

#[test]
fn servers_with_the_same_uris_are_told_apart_by_their_prefix() {
    let env = TestEnv::new();
    let notes = |name: &str, more: &str| server(name, &["python3", "-c", NOTES, name], more);
    let write = |more: &str| {
        env.repo()
            .write("crib.yaml", &[RUNNER, &notes("here", ""), &notes("there", more)].concat())
            .commit("notes");
    };
    // Whoever is there first keeps its URIs.
    env.repo().write("crib.yaml", &[RUNNER, &notes("here", "")].concat()).commit("one");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["here_last"]);
    write("");
    wait_for_names(&daemon, &["here_last", "there_last"]);
    let told = wait_for_reason(&env, &daemon, "Server/there", "Unpublishable");
    assert!(told.contains("`note://1`") && told.contains("`resourcesPrefix`"), "{told}");

    write("  resourcesPrefix: there+");
    wait_for_reason(&env, &daemon, "Server/there", "Served");
    let listed = |method: &str, list: &str, key: &str| -> Vec<String> {
        let answer = ask(&daemon, method, json!({}));
        let list = answer[list].as_array().unwrap_or_else(|| panic!("{answer}"));
        list.iter().map(|entry| entry[key].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed("resources/list", "resources", "uri"), ["note://1", "there+note://1"]);
    let templates = listed("resources/templates/list", "resourceTemplates", "uriTemplate");
    assert_eq!(templates, ["note://by/{name}", "there+note://by/{name}"]);

    let read = |uri: &str| -> Value {
        ask(&daemon, "resources/read", json!({"uri": uri, "name": uri}))["contents"][0].clone()
    };
    for (uri, own) in [
        ("note://1", "here has note://1"),
        ("there+note://1", "there has note://1"),
        ("there+note://by/ada", "there has note://by/ada"),
        ("there+note://unlisted", "there has note://unlisted"),
        ("note://unlisted", "here has note://unlisted"),
    ] {
        assert_eq!(read(uri), json!({"uri": uri, "text": own}));
    }
    let result = ask(&daemon, "tools/call", json!({"name": "there_last", "arguments": {}}));
    assert_eq!(text(&result), "there");
    assert_eq!(result["content"][1]["uri"], "there+note://2");
    assert_eq!(
        result["content"][2]["uri"], "https://example.com/",
        "a link to the web is none of its resources"
    );
    let linked = result["content"][1]["uri"].as_str().unwrap();
    assert_eq!(read(linked)["text"], "there has note://2", "a link in a result can be read");
    let prompt = ask(&daemon, "prompts/get", json!({"name": "there_sum"}));
    assert_eq!(prompt["messages"][0]["content"]["resource"]["uri"], "there+note://1");
    let plain = ask(&daemon, "prompts/get", json!({"name": "here_sum"}));
    assert_eq!(plain["messages"][0]["content"]["resource"]["uri"], "note://1");
    let completed = ask(
        &daemon,
        "completion/complete",
        json!({
        "ref": {"type": "ref/resource", "uri": "there+note://by/{name}"}, "argument": {"name": "name", "value": ""}}),
    );
    assert_eq!(completed["completion"]["values"][0], "there note://by/{name}");

    let heard = Heard::watching(&daemon, "/mcp", &["there+note://1"]);
    assert_eq!(heard.next(), "notifications/resources/updated there+note://1");
}
