//! What is wrong stays where it is: a message that says what, where and what next, a condition on its
//! own resource, and everything else as it was.

use serde_json::json;

use super::{ask, call, greeter, names, server, text, wait_for_names, wait_for_reason};
use crate::support::TestEnv;

/// Faults of a manifest: the file's new text, the reason and a part of the message.
const FAULTS: [(&str, &str, &str); 4] = [
    ("kind: [", "InvalidManifest", "tools.yaml"),
    (
        "apiVersion: toolcrib.dev/v1alpha1\nkind: Tool\nmetadata: {name: greet}\nspec: {description: x, comand: [a]}\n",
        "InvalidManifest",
        "comand",
    ),
    (
        "apiVersion: toolcrib.dev/v1alpha1\nkind: Tool\nmetadata: {name: greet}\nspec: {description: x, command: [a], runner: nowhere}\n",
        "InvalidManifest",
        "nowhere",
    ),
    (
        "apiVersion: toolcrib.dev/v1alpha1\nkind: Tool\nmetadata: {name: greet}\nspec: {description: x, command: [a], args: ['${ghost}']}\n",
        "InvalidManifest",
        "ghost",
    ),
];

/// The runner alone, and the tool alone.
fn parts() -> (String, String) {
    let whole = greeter("hello");
    let (runner, tool) = whole.split_once("---").unwrap();
    (runner.to_owned(), tool.to_owned())
}

#[test]
fn a_fault_keeps_the_version_before_and_touches_nothing_else() {
    let env = TestEnv::new();
    let (runner, tool) = parts();
    let other = tool.replace("greet", "other").replace("hello", "other");
    env.repo().write("runner.yaml", &runner).write("tools.yaml", &tool).write("other.yaml", &other);
    env.repo().commit("good");
    let daemon = env.daemon(&[]);
    for (text_of_file, reason, part) in FAULTS {
        env.repo().write("tools.yaml", text_of_file).commit("bad");
        if text_of_file.contains("greet") {
            let message = wait_for_reason(&env, &daemon, "Tool/greet", reason);
            assert!(message.contains(part), "{message}");
        } else {
            crate::support::wait_for("the fault to be seen", super::SOON, || {
                let status =
                    env.run(&["status", "--admin", daemon.admin_address(), "--output", "json"]).json();
                status["conditions"].to_string().contains("InvalidManifest").then_some(())
            });
        }
        assert_eq!(names(&daemon), ["greet", "other"]);
        assert_eq!(text(&call(&daemon, "greet", json!({"name": "you"}))), "hello you\n");
        // Nothing is lost: what is right again is served again.
        env.repo().write("tools.yaml", &tool.replace("Says", "Speaks")).commit("good");
        wait_for_reason(&env, &daemon, "Tool/greet", "Served");
        env.repo().write("tools.yaml", &tool).commit("good as before");
        wait_for_reason(&env, &daemon, "Tool/greet", "Served");
    }
}

#[test]
fn a_fault_in_a_policy_refuses_the_revision() {
    let env = TestEnv::new();
    let (runner, tool) = parts();
    let policy = |rego: &str| {
        let rego = rego.replace('\n', "\n    ");
        format!(
            "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Policy\nmetadata: {{name: rules}}\nspec:\n  package: rules\n  rego: |\n    {rego}\n"
        )
    };
    let allow = "package rules\nallow if input.tool.args.name == \"friend\"";
    env.repo().write("tools.yaml", &format!("{runner}---{tool}{}", policy(allow))).commit("rules");
    let daemon = env.daemon(&[]);
    assert_eq!(text(&call(&daemon, "greet", json!({"name": "friend"}))), "hello friend\n");
    let refused = call(&daemon, "greet", json!({"name": "foe"}));
    assert_eq!(refused["isError"], true, "{refused}");
    assert!(text(&refused).contains("rules"), "{refused}");

    let broken = policy("package rules\nallow if {");
    env.repo().write("tools.yaml", &format!("{runner}{broken}")).commit("broken rules, no tool");
    crate::support::wait_for("the refusal", super::SOON, || {
        let status = env.run(&["status", "--admin", daemon.admin_address(), "--output", "json"]).json();
        status["conditions"].to_string().contains("Refused").then_some(())
    });
    assert_eq!(names(&daemon), ["greet"]);
    assert_eq!(call(&daemon, "greet", json!({"name": "foe"}))["isError"], true);
}

#[test]
fn servers_that_misbehave_are_told_by_condition_and_harm_nobody() {
    let env = TestEnv::new();
    let script = |name: &str, body: &str, more: &str| {
        env.repo().write(&format!("{name}.sh"), body);
        server(name, &["sh", &format!("./{name}.sh")], more)
    };
    let crowd = r#"
while read -r line; do
  id=${line#*\"id\":}; id=${id%%[,\}]*}
  case $line in
    *server/discover*) echo '{"jsonrpc":"2.0","id":'"$id"',"error":{"code":-32601,"message":"no"}}' ;;
    *'"initialize"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"}}}' ;;
    *tools/list*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[' "$id"
      seq -s , -f '{"name":"t%.0f","inputSchema":{"type":"object"}}' 100000 | tr -d '\n'
      echo ']}}' ;;
  esac
done
"#;
    let manifest = [
        greeter("hello"),
        script("silent", "while read line; do :; done", "  startupTimeout: 4s"),
        script("garbage", "while :; do echo this is no message; done", ""),
        script("crashing", "echo out of order >&2; exit 3", ""),
        // A hundred thousand tools are no matter of seconds everywhere.
        script("crowded", crowd, "  startupTimeout: 2m"),
        server("missing", &["./not-there"], ""),
    ];
    env.repo().write("crib.yaml", &manifest.concat()).commit("misbehaving");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["greet"]);
    for (name, reason, part) in [
        ("silent", "StartFailed", "4"),
        ("garbage", "StartFailed", "no messages"),
        ("crashing", "StartFailed", "out of order"),
        ("crowded", "StartFailed", "20000"),
        ("missing", "InvalidManifest", "not-there"),
    ] {
        let message = wait_for_reason(&env, &daemon, &format!("Server/{name}"), reason);
        assert!(message.contains(part), "{name}: {message}");
    }
    assert_eq!(text(&call(&daemon, "greet", json!({"name": "you"}))), "hello you\n");
}

#[test]
fn arguments_that_do_not_fit_reach_no_program() {
    let env = TestEnv::new();
    env.repo().write("tools.yaml", &greeter("hello")).commit("hello");
    let daemon = env.daemon(&[]);
    for (arguments, part) in
        [(json!({}), "name"), (json!({"name": 5}), "name"), (json!({"name": "-n"}), "begins with `-`")]
    {
        let result = call(&daemon, "greet", arguments);
        assert_eq!(result["isError"], true, "{result}");
        assert!(text(&result).contains(part), "{result}");
    }
    let unknown = ask(&daemon, "tools/call", json!({"name": "nobody", "arguments": {}}));
    assert_eq!(unknown["code"], -32602);
}

#[test]
fn a_tool_that_prints_forever_is_cut_and_ended() {
    let env = TestEnv::new();
    let yes = greeter("x")
        .replace(
            "command: [echo, x]",
            "command: [sh, -c, 'head -c 3000000 /dev/zero | tr \"\\\\0\" y']\n  maxOutput: 64Ki",
        )
        .replace("args: [\"${name}\"]", "args: []")
        .replace("    name: {type: string, description: Whom, required: true}\n", "    {}\n");
    env.repo().write("tools.yaml", &yes).commit("yes");
    let daemon = env.daemon(&[]);
    let result = call(&daemon, "greet", json!({}));
    let length = text(&result).len();
    assert!((64 << 10..80 << 10).contains(&length), "{length}");
    assert!(!result["_meta"]["dev.toolcrib/truncated"].is_null(), "{}", result["_meta"]);
}
