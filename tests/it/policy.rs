//! Policies on the built daemon: a commit is what decides the next call.

use serde_json::{Value, json};

use crate::follow::{call, text, wait_for_names, wait_for_reason};
use crate::support::{TestEnv, wait_for};

const SOON: std::time::Duration = std::time::Duration::from_mins(1);

/// A runner in a cluster, and a tool called kubectl that repeats its words.
fn tools(cluster: &str) -> String {
    format!(
        r#"
apiVersion: toolcrib.dev/v1alpha1
kind: Runner
metadata: {{name: local}}
spec: {{process: {{}}, attributes: {{cluster: {cluster}}}}}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata: {{name: kubectl}}
spec:
  description: Repeats its words
  annotations: {{readOnlyHint: true}}
  command: [echo]
  args: ["${{command}}"]
  parameters:
    command: {{type: string, description: Words, required: true, split: words}}
"#
    )
}

fn policy(name: &str, package: &str, more: &str) -> String {
    format!(
        "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Policy\nmetadata: {{name: {name}}}\nspec:\n  package: {package}\n{more}\n"
    )
}

/// The shipped example, with the groups of its rules named otherwise.
fn example(administrators: &str, developers: &str) -> String {
    include_str!("../../policies/kubiya_tools.rego")
        .replace("\"admin\"", &format!("{administrators:?}"))
        .replace("\"developers\"", &format!("{developers:?}"))
}

fn outcome(result: &Value) -> (bool, &str) {
    (result["isError"] == true, text(result))
}

#[test]
fn the_example_decides_calls_and_a_commit_changes_what_it_decides() {
    let env = TestEnv::new();
    let seed = policy("seed", "kubiya.tools", "  modules: [tools.rego]\n  regoVersion: v0");
    let repo = env.repo();
    // On loopback everybody is in the group `local`: here, a developer.
    repo.write("crib.yaml", &(tools("staging") + &seed)).write("tools.rego", &example("admin", "local"));
    repo.commit("developers");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["kubectl"]);
    let ask = |words: &str| call(&daemon, "kubectl", json!({"command": words}));
    assert_eq!(outcome(&ask("get pods")), (false, "get pods\n"));
    let refused = ask("delete pods");
    let (failed, why) = outcome(&refused);
    assert!(failed && why.contains("data.kubiya.tools.allow") && why.contains("Policy/seed"), "{why}");

    // Production is for administrators.
    repo.write("crib.yaml", &(tools("production") + &seed)).commit("production");
    let why = wait_for("the runner to be in production", SOON, || {
        let refused = ask("get pods");
        (refused["isError"] == true).then(|| text(&refused).to_owned())
    });
    assert!(why.contains("data.kubiya.tools.deny"), "{why}");

    // Everybody an administrator.
    repo.write("tools.rego", &example("local", "developers")).commit("administrators");
    wait_for("administrators to be let through", SOON, || {
        let result = ask("delete pods");
        (outcome(&result) == (false, "delete pods\n")).then_some(())
    });

    // As it was written, it is unsafe: the revision is refused, and what decided before decides on.
    let written =
        example("local", "developers").replace("not is_admin", "not input.user.groups[_] == \"local\"");
    repo.write("tools.rego", &written).commit("as written");
    let why = wait_for_reason(&env, &daemon, "Policy/seed", "InvalidManifest");
    assert!(
        why.contains("tools.rego:22:27") && why.contains("unsafe") && why.contains("`not found`"),
        "{why}"
    );
    assert_eq!(outcome(&ask("delete pods")), (false, "delete pods\n"));
}

#[test]
fn the_unsafe_example_gets_the_working_form_as_a_hint() {
    let env = TestEnv::new();
    let seed = policy("seed", "kubiya.tools", "  modules: [tools.rego]\n  regoVersion: v0");
    let written =
        example("admin", "developers").replace("not is_admin", "not input.user.groups[_] == \"admin\"");
    env.repo()
        .write("crib.yaml", &(tools("staging") + &seed))
        .write("tools.rego", &written)
        .commit("as written");
    let said = env.run(&["validate", "."]);
    assert_eq!(said.code, 1, "{}", said.all());
    for part in [
        "tools.rego:22:27",
        "not input.user.groups[_] == \"admin\"",
        "unsafe",
        "`found { input.user.groups[_] == \"admin\" }`",
        "`not found`",
    ] {
        assert!(said.all().contains(part), "{part} is not in {}", said.all());
    }
}

#[test]
fn rules_see_the_tool_the_user_and_the_runner() {
    let env = TestEnv::new();
    let rego = r#"  rego: |
    package seen
    deny contains msg if {
      input.tool.args.command == "show me"
      msg := json.marshal(input)
    }
"#;
    let audit = r"  enforcement: audit
  rego: |
    package strict
    allow := false
    deny := true
";
    let manifest = tools("staging") + &policy("seen", "seen", rego) + &policy("strict", "strict", audit);
    env.repo().write("crib.yaml", &manifest).commit("rules");
    let daemon = env.daemon(&["--log", "info"]);
    wait_for_names(&daemon, &["kubectl"]);
    // What an audit would refuse goes through.
    let result = call(&daemon, "kubectl", json!({"command": "get pods"}));
    assert_eq!(outcome(&result), (false, "get pods\n"));
    let refused = call(&daemon, "kubectl", json!({"command": "show me"}));
    let (failed, why) = outcome(&refused);
    assert!(failed, "{why}");
    for part in [
        r#""name":"kubectl""#,
        r#""resource":"Tool/kubectl""#,
        r#""argv":["echo","show","me"]"#,
        r#""args":{"command":"show me"}"#,
        r#""annotations":{"readOnlyHint":true}"#,
        r#""user":{"groups":["local"],"name":"local"}"#,
        r#""cluster":"staging""#,
        r#""type":"process""#,
    ] {
        assert!(why.contains(part), "{part} is not in {why}");
    }
}
