//! A client whose call waits before it begins hears so.

use std::io::Write as _;

use serde_json::{Value, json};

use super::wire::{Asked, Wire};
use crate::follow::{SOON, open_to_write, wait_for_names};
use crate::support::{TestEnv, wait_for};

const TOOL: &str = r#"
apiVersion: toolcrib.dev/v1alpha1
kind: Runner
metadata: {name: local}
spec: {process: {}}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata: {name: one}
spec:
  description: One at a time
  concurrency: 1
  command: [sh, -c, "read -r line < FIFO; echo $line"]
"#;

fn calling(meta: &Value) -> Asked {
    Asked::modern("tools/call", json!({"name": "one", "arguments": {}, "_meta": meta}))
}

#[test]
fn a_call_that_waits_for_another_is_told_so_until_it_begins() {
    let env = TestEnv::new();
    let fifo = env.home().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    env.repo().write("tools.yaml", &TOOL.replace("FIFO", fifo.to_str().unwrap())).commit("one");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["one"]);
    let host = daemon.mcp.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
    let open = |asked: &Asked| {
        let mut wire = Wire::open(&host);
        wire.send(&asked.bytes(&host));
        wire
    };
    let mut first = open(&calling(&json!({})));
    let mut gate = wait_for("the first call to begin", SOON, || open_to_write(&fifo));
    let mut second = open(&calling(&json!({"progressToken": "t"})));
    assert!(second.head().unwrap().is_stream());
    let event = |wire: &mut Wire| loop {
        let chunk = String::from_utf8(wire.chunk().unwrap().expect("the stream goes on")).unwrap();
        if let Some(data) = chunk.lines().find_map(|line| line.strip_prefix("data: ")) {
            return serde_json::from_str::<Value>(data).unwrap();
        }
    };
    let mut before = 0.0;
    for _ in 0..2 {
        let told = event(&mut second);
        assert_eq!(
            (&told["method"], &told["params"]["progressToken"]),
            (&json!("notifications/progress"), &json!("t"))
        );
        let message = told["params"]["message"].as_str().unwrap();
        assert!(message.starts_with("waiting until Tool/one has room"), "{message}");
        let progress = told["params"]["progress"].as_f64().unwrap();
        assert!(progress > before, "{progress}");
        before = progress;
    }
    gate.write_all(b"first\n").unwrap();
    assert_eq!(first.answer().unwrap().message()["result"]["content"][0]["text"], "first\n");
    drop(gate);
    let mut gate = wait_for("the second call to begin", SOON, || open_to_write(&fifo));
    gate.write_all(b"second\n").unwrap();
    let result = loop {
        let told = event(&mut second);
        if told["result"].is_object() {
            break told;
        }
        assert!(told["params"]["progress"].as_f64().unwrap() > before, "{told}");
    };
    assert_eq!(result["result"]["content"][0]["text"], "second\n");
}
