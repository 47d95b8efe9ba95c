//! Contract tests: a version is published when it answers as its manifest says, and not before.

use std::path::Path;

use serde_json::json;

use crate::follow::{SOON, call, names, server, text, wait_for_names, wait_for_reason};
use crate::support::{TestEnv, wait_for};

const RUNNER: &str =
    "apiVersion: toolcrib.dev/v1alpha1\nkind: Runner\nmetadata: {name: local}\nspec: {process: {}}\n";

/// A tool that leaves a line in `seen` each time it runs.
fn tool(seen: &Path, says: &str, expects: &str) -> String {
    format!(
        r#"---
apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata: {{name: say}}
spec:
  description: Says {says}
  command: [sh, ./say.sh, "{says}", "{seen}"]
  args: ["${{to}}"]
  parameters:
    to: {{type: string, description: Whom, required: true}}
  tests:
    - name: speaks to somebody
      arguments: {{to: Ada}}
      expect: {{text: {expects} Ada}}
    - name: wants somebody
      expect: {{error: true, contains: to}}
"#,
        seen = seen.display()
    )
}

const SAY: &str = "echo run >> \"$2\"\necho \"$1 $3\"\n";

/// How often the tool ran.
fn runs(seen: &Path) -> usize {
    std::fs::read_to_string(seen).unwrap_or_default().lines().count()
}

/// A server of FastMCP with one tool.
fn greeter(says: &str, expects: &str) -> String {
    let venv = std::env::var_os("TOOLCRIB_IT_VENV").expect("TOOLCRIB_IT_VENV is not set: run `tests/run`");
    let python = Path::new(&venv).join("bin/python");
    let tests = format!(
        "  env: {{SAYS: {says}}}\n  tests:\n    - {{name: greets, tool: greet, arguments: {{name: Ada}}, expect: {{text: {expects} Ada}}}}\n"
    );
    server("greeter", &[python.to_str().unwrap(), "./greeter.py"], &tests)
}

const GREETER: &str = r#"
import os
from fastmcp import FastMCP

mcp = FastMCP("greeter")


@mcp.tool
def greet(name: str) -> str:
    """Greets somebody."""
    return f"{os.environ['SAYS']} {name}"


mcp.run(show_banner=False)
"#;

#[test]
fn a_tool_is_published_when_it_answers_as_expected_and_tested_once() {
    let env = TestEnv::new();
    let (repo, seen) = (env.repo(), env.home().join("seen"));
    let write = |says: &str, expects: &str| {
        let all = RUNNER.to_owned() + &tool(&seen, says, expects);
        repo.write("tools/say.sh", SAY).write("tools/crib.yaml", &all);
    };
    write("hello", "hello");
    repo.commit("good");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["say"]);
    assert_eq!(runs(&seen), 1, "the other test fits no schema, and runs nothing");

    // A version that answers otherwise waits; the one before is served.
    write("hallo", "hello");
    repo.commit("bad");
    let why = wait_for_reason(&env, &daemon, "Tool/say", "TestsFailed");
    for part in ["1 of 2 tests failed", "speaks to somebody", "\"hello Ada\"", "\"hallo Ada\""] {
        assert!(why.contains(part), "{part}: {why}");
    }
    assert_eq!(text(&call(&daemon, "say", json!({"to": "you"}))), "hello you\n");
    let after = runs(&seen);
    // Other commits and other passes test nothing again.
    repo.write("notes", "unrelated").commit("unrelated");
    let said = env.run(&["reconcile", "--wait", "--admin", daemon.admin_address()]);
    assert!(said.all().contains("Tool/say"), "{}", said.all());
    assert_eq!(runs(&seen), after);

    // Nor do tests that now expect what it answers wait for anything else.
    write("hallo", "hallo");
    repo.commit("other tests");
    wait_for_reason(&env, &daemon, "Tool/say", "Served");
    assert_eq!(runs(&seen), after + 1);

    // What is right is served, also after a restart, without another test.
    write("welcome", "welcome");
    repo.commit("right");
    // The version before is served until this one is.
    wait_for("the right version", SOON, || {
        (text(&call(&daemon, "say", json!({"to": "you"}))) == "welcome you\n").then_some(())
    });
    let after = runs(&seen);
    drop(daemon);
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["say"]);
    assert_eq!(runs(&seen), after);
}

#[test]
fn a_tool_that_never_passed_is_not_there() {
    let env = TestEnv::new();
    let seen = env.home().join("seen");
    env.repo().write("say.sh", SAY).write("crib.yaml", &(RUNNER.to_owned() + &tool(&seen, "a", "b")));
    env.repo().commit("bad");
    let daemon = env.daemon(&[]);
    wait_for_reason(&env, &daemon, "Tool/say", "TestsFailed");
    assert!(names(&daemon).is_empty());
    // A person can have it tried again.
    let before = runs(&seen);
    let admin = daemon.admin_address();
    env.run(&["reconcile", "--rebuild", "Tool/say", "--admin", admin, "--wait"]);
    assert_eq!(runs(&seen), before + 1);
}

#[test]
fn a_server_is_served_when_it_answers_as_expected() {
    let env = TestEnv::new();
    let repo = env.repo();
    let write = |says: &str, expects: &str| {
        repo.write("greeter.py", GREETER).write("crib.yaml", &(RUNNER.to_owned() + &greeter(says, expects)));
    };
    write("hello", "hello");
    repo.commit("good");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["greeter_greet"]);
    write("hallo", "hello");
    repo.commit("bad");
    let why = wait_for_reason(&env, &daemon, "Server/greeter", "TestsFailed");
    assert!(why.contains("`greets`: expected the text \"hello Ada\"; answered: \"hallo Ada\""), "{why}");
    assert_eq!(text(&call(&daemon, "greeter_greet", json!({"name": "you"}))), "hello you");
    write("hallo", "hallo");
    repo.commit("right");
    wait_for_reason(&env, &daemon, "Server/greeter", "Served");
    assert_eq!(text(&call(&daemon, "greeter_greet", json!({"name": "you"}))), "hallo you");

    // Other tests alone are run against what is served, which stays.
    let instance = || {
        let status = env.run(&["status", "--admin", daemon.admin_address(), "--output", "json"]).json();
        status["resources"]["Server/greeter"]["instances"].clone()
    };
    let before = wait_for("the instance before to end", SOON, || {
        Some(instance()).filter(|all| all.as_array().is_some_and(|all| all.len() == 1))
    });
    write("hallo", "servus");
    repo.commit("other tests");
    let why = wait_for_reason(&env, &daemon, "Server/greeter", "TestsFailed");
    assert!(why.contains("expected the text \"servus Ada\"; answered: \"hallo Ada\""), "{why}");
    assert_eq!(text(&call(&daemon, "greeter_greet", json!({"name": "you"}))), "hallo you");
    write("hallo", "hallo");
    repo.commit("the tests as they were");
    wait_for_reason(&env, &daemon, "Server/greeter", "Served");
    assert_eq!(instance(), before);
}

/// What a command printed, without what differs from run to run.
fn said(env: &TestEnv, output: std::process::Output) -> String {
    let words = |bytes: Vec<u8>| env.normal(&String::from_utf8(bytes).unwrap());
    format!("{}{}--- exit {}", words(output.stdout), words(output.stderr), output.status.code().unwrap())
}

const PLAIN: &str = "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Tool\nmetadata: {name: plain}\nspec: {description: x, command: [echo]}\n";
const BROKEN: &str = "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {name: broken}\nspec:\n  \
                      source: {command: [sh, -c, exit 3]}\n  tests: [{name: answers, tool: x}]\n";

#[test]
fn the_command_tells_before_the_commit_and_leaves_nothing() {
    let env = TestEnv::new();
    let (seen, temporary) = (env.home().join("seen"), env.home().join("tmp"));
    std::fs::create_dir(&temporary).unwrap();
    let run = |args: &[&str]| said(&env, env.command(args).env("TMPDIR", &temporary).output().unwrap());
    let declare = |says: &str, more: &str| {
        let all = [RUNNER, &tool(&seen, says, "hello"), &greeter("hello", "hello"), PLAIN, more].concat();
        env.repo().write("say.sh", SAY).write("greeter.py", GREETER).write("crib.yaml", &all);
    };
    declare("hello", "");
    insta::assert_snapshot!(run(&["test"]), @r"
    Server/greeter
      PASS  greets (greet)
    Tool/say
      PASS  speaks to somebody
      PASS  wants somebody
    3 passed
    --- exit 0
    ");
    insta::assert_snapshot!(run(&["test", "say", "--output", "json"]), @r#"
    {
      "tests": [
        {
          "resource": "Tool/say",
          "test": "speaks to somebody",
          "passed": true
        },
        {
          "resource": "Tool/say",
          "test": "wants somebody",
          "passed": true
        }
      ],
      "passed": 2,
      "failed": 0,
      "notRun": {}
    }
    --- exit 0
    "#);
    declare("hallo", BROKEN);
    insta::assert_snapshot!(run(&["test", "Tool/say", "broken", "--output", "junit"]), @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites tests="3" failures="1" errors="1">
      <testsuite name="Tool/say" tests="2" failures="1" errors="0">
        <testcase classname="Tool/say" name="speaks to somebody">
          <failure message="expected the text &quot;hello Ada&quot;; answered: &quot;hallo Ada&quot;">expected the text &quot;hello Ada&quot;; answered: &quot;hallo Ada&quot;</failure>
        </testcase>
        <testcase classname="Tool/say" name="wants somebody"/>
      </testsuite>
      <testsuite name="Server/broken" tests="1" failures="0" errors="1">
        <testcase classname="Server/broken" name="starts">
          <error message="failed to connect to server `broken`: the server is not there: it ended, or closed its output; see `toolcrib logs server/broken`"/>
        </testcase>
      </testsuite>
    </testsuites>
    --- exit 1
    "#);
    insta::assert_snapshot!(run(&["test", "sey"]), @r"
    error: no server or tool `sey` is declared
    hint: did you mean `say`?
    --- exit 2
    ");
    insta::assert_snapshot!(run(&["test", "plain"]), @r"
    error: `Tool/plain` declares no tests
    hint: add `tests: [{name: …, arguments: {…}, expect: {…}}]`
    --- exit 2
    ");
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "no folder stays");
}
