//! Tasks through the daemon: of the extension over commits and in the records, and tools that a server
//! of the legacy era only runs as tasks.

use serde_json::{Value, json};

use super::{Heard, MODERN, Owned, Place, SERVED, post, serve};
use crate::follow::{ask, call, names, text};
use crate::support::{Daemon, wait_for};

const TASKS: &str = "io.modelcontextprotocol/tasks";

/// A request of a client that takes tasks, and can be asked.
async fn taking(url: &str, method: &str, name: &str, mut params: Value) -> Value {
    params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "extensions": {TASKS: {}}}});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let headers = [("mcp-protocol-version", MODERN), ("mcp-method", method), ("mcp-name", name)];
    let said = Heard::answer(post(url, &headers, &body)).await;
    assert_eq!(said["result"].is_object(), said["error"].is_null(), "{said}");
    said
}

async fn about(url: &str, method: &str, id: &str, mut params: Value) -> Value {
    params["taskId"] = id.into();
    taking(url, method, id, params).await["result"].clone()
}

/// Adds a tool, so that another catalog is served.
fn commit(owned: &Owned, daemon: &Daemon) {
    let tool = "apiVersion: toolcrib.dev/v1alpha1\nkind: Tool\nmetadata: {name: another}\nspec: {description: Another, command: [echo, hello]}\n";
    owned.env.repo().write("another.yaml", tool).commit("another");
    let there = || names(daemon).iter().any(|name| name == "another").then_some(());
    wait_for("another", SERVED, there);
}

/// What is recorded of one task: its call, and its end.
fn records(owned: &Owned, daemon: &Daemon) -> Vec<Value> {
    let records = || {
        let said = owned.env.run(&["audit", "--admin", daemon.admin_address(), "--output", "json"]);
        let records = said.json();
        let of_it = |record: &&Value| record["tool"] == "confirm_delete";
        let records: Vec<Value> = records.as_array()?.iter().filter(of_it).cloned().collect();
        (records.len() == 2).then_some(records)
    };
    let mut records = wait_for("two records", SERVED, records);
    records.sort_by_key(|record| record["outcome"] != "task");
    assert_eq!((&records[0]["outcome"], &records[1]["outcome"]), (&json!("task"), &json!("success")));
    records
}

#[test]
fn a_task_goes_on_over_commits_and_has_two_records() {
    crate::support::tls();
    for sessions in ["", "  sessions: perClient\n"] {
        let (owned, daemon) = serve("modern", Place::Process, sessions);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let params = json!({"name": "confirm_delete", "arguments": {"filename": "f"}});
        let begun = runtime.block_on(taking(&daemon.mcp, "tools/call", "confirm_delete", params));
        assert_eq!(begun["result"]["resultType"], "task", "{begun}");
        let id = begun["result"]["taskId"].as_str().unwrap();
        commit(&owned, &daemon);
        let ended = runtime.block_on(async {
            let mut state = about(&daemon.mcp, "tasks/get", id, json!({})).await;
            while state["inputRequests"].is_null() {
                assert_eq!(state["status"], "working");
                state = about(&daemon.mcp, "tasks/get", id, json!({})).await;
            }
            let key = state["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
            let answer = json!({"inputResponses": {key: {"action": "accept", "content": {"confirm": true}}}});
            about(&daemon.mcp, "tasks/update", id, answer).await;
            loop {
                let state = about(&daemon.mcp, "tasks/get", id, json!({})).await;
                if state["status"] == "completed" {
                    return state;
                }
            }
        });
        assert_eq!(text(&ended["result"]), "f: accept");
        let records = records(&owned, &daemon);
        assert!(records[0]["task"].is_string() && records[0]["task"] == records[1]["task"], "{records:?}");
        assert!(!id.contains(records[0]["task"].as_str().unwrap()));
    }
}

/// Listens to tasks; what is acknowledged comes first.
async fn listening(url: &str, capabilities: Value, ids: &[&str]) -> Heard {
    let meta = json!({"io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": capabilities});
    let body = json!({"jsonrpc": "2.0", "id": "l", "method": "subscriptions/listen",
        "params": {"_meta": meta, "notifications": {"taskIds": ids}}});
    let headers = [("mcp-protocol-version", MODERN), ("mcp-method", "subscriptions/listen")];
    Heard::open(post(url, &headers, &body)).await
}

/// The next state of a task that is told to who listens to it alone.
async fn told(heard: &mut Heard, id: &str) -> Value {
    let said = heard.next(|_| true).await;
    assert_eq!(said["method"], "notifications/tasks", "{said}");
    assert_eq!(said["params"]["taskId"], id, "{said}");
    assert_eq!(said["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "l", "{said}");
    said["params"].clone()
}

/// Until the user is asked and has answered, and the task has ended: nobody asks for it.
async fn listened_to(url: &str) {
    let params = json!({"name": "confirm_delete", "arguments": {"filename": "f"}});
    let begun = taking(url, "tools/call", "confirm_delete", params).await;
    let id = begun["result"]["taskId"].as_str().unwrap();
    let refused = listening(url, json!({"elicitation": {}}), &[id]).await.response.text().await.unwrap();
    assert!(refused.contains("-32021"), "{refused}");
    let mut heard = listening(url, json!({"extensions": {TASKS: {}}}), &[id, "another"]).await;
    let first = heard.next(|_| true).await;
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(first["params"]["notifications"], json!({"taskIds": [id]}), "{first}");
    let mut state = told(&mut heard, id).await;
    while state["status"] == "working" {
        state = told(&mut heard, id).await;
    }
    let key = state["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
    let answer = json!({"inputResponses": {key: {"action": "accept", "content": {"confirm": true}}}});
    about(url, "tasks/update", id, answer).await;
    while state["status"] != "completed" {
        state = told(&mut heard, id).await;
    }
    assert_eq!(text(&state["result"]), "f: accept");
    // Who listens late hears of the end.
    let mut late = listening(url, json!({"extensions": {TASKS: {}}}), &[id]).await;
    late.next(|_| true).await;
    assert_eq!(told(&mut late, id).await["status"], "completed");
}

#[test]
fn a_client_that_listens_hears_of_its_task_until_it_ends() {
    crate::support::tls();
    let per_client = "  sessions: perClient\n";
    for (place, sessions) in [(Place::Process, ""), (Place::Process, per_client), (Place::Port, "")] {
        let (owned, daemon) = serve("modern", place, sessions);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(listened_to(&daemon.mcp));
        records(&owned, &daemon);
    }
}

#[test]
fn a_tool_that_a_legacy_server_only_runs_as_a_task_is_waited_for() {
    for sessions in ["", "  sessions: perClient\n"] {
        let (_owned, daemon) = serve("legacy", Place::Process, sessions);
        let found = ask(&daemon, "server/discover", json!({}));
        assert!(found["capabilities"]["tools"].is_object() && found["capabilities"]["extensions"].is_null());
        let tools = ask(&daemon, "tools/list", json!({}));
        let is = |tool: &&Value| tool["name"] == "failing_job";
        let tool = tools["tools"].as_array().unwrap().iter().find(is).unwrap();
        assert_eq!(tool["execution"], json!({"taskSupport": "required"}));
        let said = call(&daemon, "failing_job", json!({}));
        assert_eq!((text(&said), &said["isError"]), ("The job failed.", &json!(true)));
        assert!(said["_meta"]["io.modelcontextprotocol/related-task"].is_null(), "{said}");
        let asked_for = json!({"name": "slow_compute", "arguments": {"seconds": 0}, "task": {"ttl": 60000}});
        let said = ask(&daemon, "tools/call", asked_for);
        assert!(said["task"].is_null() && text(&said).contains("took 0 s"), "{said}");
    }
}
