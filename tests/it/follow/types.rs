//! Types of Python, whole: a server's schemas are published exactly as it gives them, and arguments of
//! every type arrive as they are sent.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use super::{SOON, ask, ask_raw, greeter, meta, server, wait_for_names};
use crate::support::TestEnv;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/types/server.py");

/// The server itself, spoken to over its pipes in the era the daemon speaks, with nothing between.
struct Direct {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    id: u64,
}

impl Direct {
    fn start() -> Self {
        let mut child = Command::new(super::clients::venv("python"))
            .arg(SCRIPT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // Nobody waits any more.
                let _ = sender.send(line);
            }
        });
        Self { child, input, lines, id: 0 }
    }

    /// The result of one request, or its error.
    fn ask(&mut self, method: &str, params: &str) -> Value {
        self.id += 1;
        let id = self.id;
        let rest = params.strip_prefix('{').unwrap();
        let comma = if rest == "}" { "" } else { ", " };
        let params = format!("{{\"_meta\": {}{comma}{rest}", meta());
        // A line is a message.
        let params = params.replace('\n', " ");
        writeln!(self.input, r#"{{"jsonrpc": "2.0", "id": {id}, "method": "{method}", "params": {params}}}"#)
            .unwrap();
        self.input.flush().unwrap();
        loop {
            let line = self
                .lines
                .recv_timeout(SOON)
                .unwrap_or_else(|error| panic!("no answer to {method} {params}: {error}"));
            let answer: Value = serde_json::from_str(&line).unwrap();
            if answer["id"] == id {
                return if answer["error"].is_null() {
                    answer["result"].clone()
                } else {
                    answer["error"].clone()
                };
            }
        }
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Arguments as they are sent, and what of them the tool is to say.
const CALLS: &[(&str, &str, &str)] = &[
    ("optional", r"{}", r#"{"text": null, "number": null, "must": true}"#),
    ("optional", r#"{"text": null, "must": null}"#, r#"{"text": null, "number": null, "must": null}"#),
    (
        "optional",
        r#"{"text": "", "number": 0, "must": false}"#,
        r#"{"text": "", "number": {"int": "0"}, "must": false}"#,
    ),
    ("union", r#"{"value": 3}"#, r#"{"value": {"int": "3"}, "other": null}"#),
    ("union", r#"{"value": "3"}"#, r#"{"value": "3", "other": null}"#),
    (
        "union",
        r#"{"value": [1, 2], "other": true}"#,
        r#"{"value": {"list": [{"int": "1"}, {"int": "2"}]}, "other": true}"#,
    ),
    ("union", r#"{"value": "no", "other": 1.5}"#, r#"{"value": "no", "other": {"float": "1.5"}}"#),
    ("literal", r#"{"size": "m"}"#, r#"{"size": "m", "mode": "only"}"#),
    ("literal", r#"{"size": 2, "mode": "only"}"#, r#"{"size": {"int": "2"}, "mode": "only"}"#),
    (
        "enum",
        r#"{"color": "sky-blue"}"#,
        r#"{"color": {"Color": "SKY_BLUE"}, "level": {"Level": "LOW"}, "many": {"list": []}}"#,
    ),
    (
        "enum",
        r#"{"color": "red", "level": 2, "many": ["red", "sky-blue"]}"#,
        r#"{"color": {"Color": "RED"}, "level": {"Level": "HIGH"}, "many": {"list": [{"Color": "RED"}, {"Color": "SKY_BLUE"}]}}"#,
    ),
    (
        "times",
        r#"{"at": "2026-02-28T23:59:59.123456+05:30", "day": "2024-02-29", "clock": "07:08:09", "span": "P1DT2H"}"#,
        r#"{"at": {"datetime": "2026-02-28 23:59:59.123456+05:30"}, "day": {"date": "2024-02-29"}, "clock": {"time": "07:08:09"}, "span": {"timedelta": "1 day, 2:00:00"}}"#,
    ),
    (
        "nested",
        r#"{"person": {"name": "Ada", "born": "1815-12-10", "addresses": [{"street": "1 Street", "postcode": "01234"}],
            "manager": {"name": "Grace", "born": "1906-12-09"}, "tags": {"a": [1, null]}}}"#,
        r#"{"person": {"Person": {"name": "Ada", "born": {"date": "1815-12-10"},
            "addresses": {"list": [{"Address": {"street": "1 Street", "postcode": "01234", "country": "de"}}]},
            "manager": {"Person": {"name": "Grace", "born": {"date": "1906-12-09"}, "addresses": {"list": []}, "manager": null, "tags": {}}},
            "tags": {"a": {"list": [{"int": "1"}, null]}}}}, "address": null}"#,
    ),
    (
        "variants",
        r#"{"pet": {"kind": "cat"}}"#,
        r#"{"pet": {"Cat": {"kind": "cat", "lives": {"int": "9"}}}}"#,
    ),
    (
        "variants",
        r#"{"pet": {"kind": "dog", "good": true}}"#,
        r#"{"pet": {"Dog": {"kind": "dog", "good": true}}}"#,
    ),
    (
        "lists",
        r#"{"numbers": [0.1, 2, -3e10], "unique": [3, 1], "pair": [7, "x"], "matrix": [[1], [], [2, 3]]}"#,
        r#"{"numbers": {"list": [{"float": "0.1"}, {"float": "2.0"}, {"float": "-30000000000.0"}]}, "unique": {"set": [{"int": "1"}, {"int": "3"}]},
            "pair": {"tuple": [{"int": "7"}, "x"]}, "matrix": {"list": [{"list": [{"int": "1"}]}, {"list": []}, {"list": [{"int": "2"}, {"int": "3"}]}]}}"#,
    ),
    (
        "dicts",
        r#"{"counts": {"b": 2, "a": 1, "": 0}, "free": {"x": null, "y": [true, {"z": "014"}]}}"#,
        r#"{"counts": {"b": {"int": "2"}, "a": {"int": "1"}, "": {"int": "0"}}, "free": {"x": null, "y": {"list": [true, {"z": "014"}]}}, "homes": {}}"#,
    ),
    (
        "numbers",
        r#"{"whole": 123456789012345678901234567890, "real": 1e-7, "exact": "0.10", "identity": "12345678-1234-5678-1234-567812345678"}"#,
        r#"{"whole": {"int": "123456789012345678901234567890"}, "real": {"float": "1e-07"}, "exact": {"Decimal": "0.10"}, "identity": {"UUID": "12345678-1234-5678-1234-567812345678"}}"#,
    ),
    ("described", r#"{"text": "xyz"}"#, r#"{"count": {"int": "3"}, "text": "xyz"}"#),
    (
        "union",
        r#"{"value": "\u00e9 \ud83e\udd94 \" \\ \n \u0000 </x>"}"#,
        r#"{"value": "\u00e9 \ud83e\udd94 \" \\ \n \u0000 </x>", "other": null}"#,
    ),
];

/// What no type takes.
const REFUSED: &[(&str, &str)] = &[
    ("literal", r#"{"size": "xl"}"#),
    ("enum", r#"{"color": "green"}"#),
    ("nested", r#"{"person": {"name": "Ada"}}"#),
    ("variants", r#"{"pet": {"kind": "fish"}}"#),
    ("lists", r#"{"numbers": ["a"], "unique": [], "pair": [1, "x"], "matrix": [[1]]}"#),
    ("described", r#"{"count": 11}"#),
];

/// A definition as the server gives it: without our prefix and what we add.
fn own(mut tool: Value) -> Value {
    let name = tool["name"].as_str().unwrap().to_owned();
    tool["name"] = json!(name.strip_prefix("types_").unwrap_or(&name));
    if let Some(meta) = tool.get_mut("_meta").and_then(Value::as_object_mut) {
        meta.retain(|key, _| !key.starts_with("dev.toolcrib/"));
        if meta.is_empty() {
            tool.as_object_mut().unwrap().shift_remove("_meta");
        }
    }
    tool
}

/// A tool's result, as far as the server made it.
fn said(result: &Value) -> (String, String, bool) {
    let refused = result["isError"] == true || result.get("code").is_some();
    (result["content"].to_string(), result["structuredContent"].to_string(), refused)
}

#[test]
fn types_of_python_are_published_and_called_as_they_are() {
    let env = TestEnv::new();
    let manifest = [greeter("hello"), server("types", &[&super::clients::venv("python"), SCRIPT], "")];
    env.repo().write("crib.yaml", &manifest.concat()).commit("types");
    let mut direct = Direct::start();
    let listed = direct.ask("tools/list", "{}");
    let given = listed["tools"].as_array().unwrap().clone();
    assert_eq!(given.len(), 12, "{listed}");

    let daemon = env.daemon(&[]);
    let mut names: Vec<String> =
        given.iter().map(|tool| format!("types_{}", tool["name"].as_str().unwrap())).collect();
    names.push("greet".to_owned());
    names.sort();
    wait_for_names(&daemon, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let published = ask(&daemon, "tools/list", json!({}));
    let published: Vec<Value> = published["tools"].as_array().unwrap().iter().cloned().map(own).collect();
    for tool in given {
        let name = tool["name"].clone();
        let ours = published.iter().find(|ours| ours["name"] == name).unwrap();
        assert_eq!(ours.to_string(), own(tool).to_string(), "{name}, byte for byte");
    }

    for (tool, arguments, expected) in CALLS {
        let there = direct.ask("tools/call", &format!(r#"{{"name": "{tool}", "arguments": {arguments}}}"#));
        let through = ask_raw(&daemon.mcp, &format!("types_{tool}"), arguments);
        assert_eq!(said(&through), said(&there), "{tool} {arguments}");
        let text = through["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{tool}: {through}"));
        let expected: Value = serde_json::from_str(expected).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("{error}: {text}")),
            expected
        );
    }
    for (tool, arguments) in REFUSED {
        let there = direct.ask("tools/call", &format!(r#"{{"name": "{tool}", "arguments": {arguments}}}"#));
        let through = ask_raw(&daemon.mcp, &format!("types_{tool}"), arguments);
        assert!(said(&there).2 && said(&through).2, "{tool} {arguments}: {there} {through}");
    }
    let there = direct.ask("tools/call", r#"{"name": "returned", "arguments": {"name": "Ada"}}"#);
    let through = ask_raw(&daemon.mcp, "types_returned", r#"{"name": "Ada"}"#);
    assert_eq!(through["structuredContent"]["addresses"][0]["postcode"], "01234");
    assert_eq!(said(&through), said(&there));
}
