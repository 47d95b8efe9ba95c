//! `export`: what other programs are given.

use serde_json::{Value, json};

use crate::follow::wait_for_names;
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
    wait_for_names(&daemon, &["clock_now", "word-count"]);
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

const SERVERS: &str = "\
apiVersion: toolcrib.dev/v1alpha1
kind: Runner
metadata: {name: docker}
spec: {docker: {}}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Runner
metadata: {name: here}
spec: {process: {}}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Integration
metadata: {name: weather}
spec: {env: {WEATHER_KEY: {secret: {env: WEATHER_KEY}}}}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Server
metadata: {name: clock}
spec: {source: {command: [python3, ./clock.py]}}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Server
metadata: {name: hosted}
spec:
  source: {url: \"https://mcp.example.com/mcp\"}
  integrations: [weather]
  headers: {X-Api-Key: \"${WEATHER_KEY}\"}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Server
metadata: {name: image}
spec: {source: {image: \"ghcr.io/acme/image:1.4.2\"}, resources: {memory: 1Gi}}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Server
metadata: {name: time}
spec:
  source: {package: {registry: pypi, name: mcp-server-time, version: 2025.9.25, base: \"python:3.12-slim\"}}
  integrations: [weather]
  env: {ZONE: Europe/Berlin}
";

#[test]
fn each_server_as_the_registry_has_it_and_back() {
    let env = TestEnv::new();
    env.repo().write("tools.yaml", SERVERS).write("clock.py", "");
    let export = |more: &[&str]| env.run(&[&["export", "--format", "servers"], more].concat());
    let said = export(&["--namespace", "io.github.acme", "--version", "0.3.0"]);
    assert_eq!(said.code, 0, "{}", said.all());
    insta::assert_snapshot!(said.stderr, @r"
    note: clock: left out: it is made of a command of this machine, and the registry knows packages, images and addresses only
    note: image: `ghcr.io/acme/image:1.4.2` has no digest: `toolcrib lock` finds it, and then it is written
    ");
    let list = said.json();
    let of = |name: &str| {
        let servers = list["servers"].as_array().unwrap().iter();
        servers
            .map(|entry| &entry["server"])
            .find(|server| server["name"] == format!("io.github.acme/{name}"))
            .unwrap()
    };
    assert_eq!(list["metadata"]["count"], 3);
    assert_eq!((&of("time")["version"], &of("hosted")["version"]), (&json!("2025.9.25"), &json!("0.3.0")));
    assert_eq!(
        of("time")["packages"][0]["environmentVariables"],
        json!([
            {"name": "WEATHER_KEY", "isRequired": true, "isSecret": true},
            {"name": "ZONE", "default": "Europe/Berlin"},
        ])
    );
    assert_eq!(of("hosted")["remotes"][0]["headers"][0]["value"], "{WEATHER_KEY}");

    // A repository that imports it declares the same.
    let other = TestEnv::new();
    other.repo().write("servers.json", &said.stdout);
    assert_eq!(other.run(&["import", "servers.json", "--out", "."]).code, 0);
    let valid = other.run(&["validate"]);
    assert!(valid.code == 0 && !valid.stdout.contains("error"), "{}", valid.all());
    let again =
        other.run(&["export", "--format", "servers", "--namespace", "io.github.acme", "--version", "0.3.0"]);
    assert_eq!(again.json(), list);

    // One alone is what is published.
    let one = export(&["--namespace", "io.github.acme", "--server", "time"]);
    assert_eq!((one.code, &one.json()), (0, of("time")));
    let none = export(&["--namespace", "io.github.acme", "--server", "clock"]);
    insta::assert_snapshot!(none.stderr, @r"
    error: no server has a `server.json`
      | clock: left out: it is made of a command of this machine, and the registry knows packages, images and addresses only
    hint: `toolcrib export --format server-json` makes one of the endpoint that serves them all
    ");
    assert_eq!(none.code, 1);
    let slip = export(&["--namespace", "io.github.acme", "--server", "tme"]);
    assert!(slip.code == 1 && slip.stderr.contains("hint: did you mean `time`?"), "{}", slip.all());
    for more in [&[][..], &["--namespace", "a/b"]] {
        let said = export(more);
        assert!(
            said.code == 2 && said.stderr.contains("hint: pass --namespace io.github.OWNER"),
            "{}",
            said.all()
        );
    }
}
