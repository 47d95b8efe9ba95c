//! `export`: what other programs are given.

use serde_json::{Value, json};

use crate::support::TestEnv;

const DECLARED: &str = "\
apiVersion: toolcrib.dev/v1alpha1
kind: Runner
metadata: {name: here}
spec: {process: {}}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata: {name: greet}
spec:
  description: Greets somebody.
  command: [echo, hello]
  args: [\"${name}\"]
  parameters:
    name: {description: Whom, required: true}
    times: {type: integer, default: 1}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Server
metadata: {name: clock}
spec:
  source: {command: [python3, clock.py]}
  tools: {exclude: [secret_*]}
";

#[test]
fn definitions_are_the_same_with_and_without_a_daemon() {
    let env = TestEnv::new();
    assert_eq!(env.run(&["init"]).code, 0);
    env.repo().commit("tools");
    let daemon = env.daemon(&[]);
    let served = env.run(&["export", "--admin", daemon.admin_address(), "--url", &daemon.mcp]);
    let served = served.json();
    let names: Vec<&str> =
        served.as_array().unwrap().iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert_eq!(names, ["clock_now", "word-count"]);
    let tool = &served[1];
    assert_eq!(
        tool["args"],
        json!([{"name": "text", "type": "string", "description": "The text to count.", "required": true}])
    );
    assert_eq!(tool["service"]["tool"], "word-count");
    let offline = env.run(&["export", "--offline", "--url", &daemon.mcp]).json();
    // What only the server knows is in no lock yet.
    assert_eq!(offline, json!([tool]));
}

#[test]
fn locks_say_what_servers_offer() {
    let env = TestEnv::new();
    env.repo().write("tools.yaml", DECLARED).write("clock.py", "");
    let names = |value: &Value| -> Vec<String> {
        let tools = value.as_array().unwrap().iter();
        tools.filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect()
    };
    let without = env.run(&["export", "--offline", "."]).json();
    assert_eq!(names(&without), ["greet"]);
    assert_eq!(
        without[0]["args"][1],
        json!({"name": "times", "type": "integer", "default": 1, "required": false})
    );
    env.repo().write("tools.yaml", &DECLARED.replace("  command:", "  comand:"));
    let said = env.run(&["export", "--offline", "."]);
    assert!(said.code == 1 && said.stderr.contains("comand"), "{}", said.all());
}

#[test]
fn a_server_json_and_the_files_of_clients() {
    let env = TestEnv::new();
    let args = ["export", "--format", "server-json", "--url", "https://tools.example.com/mcp"];
    let said = env.run(&[&args[..], &["--name", "io.github.acme/tools", "--version", "1.2.0"]].concat());
    insta::assert_snapshot!(said.stdout, @r#"
    {
      "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
      "name": "io.github.acme/tools",
      "description": "Tools served from Git",
      "version": "1.2.0",
      "remotes": [
        {
          "type": "streamable-http",
          "url": "https://tools.example.com/mcp"
        }
      ]
    }
    "#);
    for more in [&[][..], &["--name", "acme"]] {
        let said = env.run(&[&args[..], more].concat());
        assert!(
            said.code == 2 && said.stderr.contains("hint: pass --name io.github.OWNER/NAME"),
            "{}",
            said.all()
        );
    }
    let all = env.run(&["export", "--format", "clients"]).json();
    assert_eq!(all["zed"]["context_servers"]["toolcrib"]["url"], "http://127.0.0.1:[PORT]/mcp");
    assert_eq!(all["claude-desktop"]["mcpServers"]["toolcrib"]["command"], "toolcrib");
    // What is exported for a client is what connecting it writes, and what is imported again.
    let one = env.run(&["export", "--format", "clients", "--client", "vscode"]);
    assert_eq!(env.run(&["connect", "vscode", "--project"]).code, 0);
    let written = std::fs::read_to_string(env.repo().path().join(".vscode/mcp.json")).unwrap();
    assert_eq!(env.normal(&written), one.stdout);
    let again = env.run(&["import", ".vscode/mcp.json"]);
    assert!(again.code == 0 && again.stdout.contains("url: http://127.0.0.1:[PORT]/mcp"), "{}", again.all());
}
