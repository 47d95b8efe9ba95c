//! Policies on the built daemon: a commit is what decides the next call.

mod opa;

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

#[test]
fn shipped_rules_pass_their_tests_which_reach_every_line() {
    let env = TestEnv::new();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/policies");
    let said = env.run(&["policy", "test", shipped, "--threshold", "100", "--output", "json"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{}", said.all());
    let report = said.json();
    let files = std::fs::read_dir(shipped).unwrap().map(|entry| entry.unwrap().file_name());
    let (tests, rules): (Vec<_>, Vec<_>) = files
        .map(|name| name.into_string().unwrap())
        .filter(|name| name.contains(".rego"))
        .partition(|name| name.ends_with("_test.rego"));
    assert_eq!(tests.len(), rules.len(), "each file of rules has one of tests");
    assert_eq!(report["coverage"]["files"].as_array().unwrap().len(), rules.len());
    let readme = std::fs::read_to_string(format!("{shipped}/README.md")).unwrap();
    for name in rules {
        assert!(readme.contains(&format!("| `{name}`")), "policies/README.md does not name {name}");
    }
}

#[test]
fn tests_of_rules_say_what_is_not_true() {
    let env = TestEnv::new();
    let rules = policy(
        "limits",
        "limits",
        "  rego: |\n    package limits\n    most := 3\n    deny if {\n      input.n > most\n      not input.calm\n    }",
    );
    let tests = r#"package limits_test

import data.limits

test_few if not limits.deny with input as {"n": 1}

test_many if {
	said := limits.most
	print("at most", said)
	said == 3
	said == 4
}

test_wrong if startswith(limits.most, "3")

todo_test_later if false
"#;
    env.repo().write("crib.yaml", &rules).write("limits_test.rego", tests);
    insta::assert_snapshot!(env.run(&["policy", "test", "-v", "--coverage"]).all(), @r#"
    limits_test.rego
      PASS  limits_test.test_few
      FAIL  limits_test.test_many
            not true at line 11: said == 4
            print: limits_test.rego:9: at most 3
      ERROR limits_test.test_wrong
            `startswith` expects string argument. Got `3` instead
            at line 14: test_wrong if startswith(limits.most, "3")
      SKIP  limits_test.todo_test_later
    1 passed, 1 failed, 1 with errors, 1 skipped

    crib.yaml   66.7 %   not reached: 12
    total       66.7 %
    --- exit 1
    "#);
    insta::assert_snapshot!(env.run(&["policy", "test", "--run", "few", "--threshold", "90"]).all(), @r"
    1 passed

    crib.yaml   66.7 %   not reached: 12
    total       66.7 %
    --- stderr
    error: tests reach 66.7 % of the lines, less than 90 %
    hint: write a test for the lines that are not reached
    --- exit 1
    ");
    insta::assert_snapshot!(env.run(&["policy", "test", "--run", "nothing"]).all(), @r"
    --- stderr
    error: there is no test
    hint: none of 4 tests matches `--run`
    --- exit 1
    ");
    env.repo().write("limits_test.rego", "package limits_test\n\ntest_few if time.now_ns() > 0\n");
    insta::assert_snapshot!(env.run(&["policy", "test"]).all(), @r"
    error[rego-function]: there is no function `time.now_ns`
     --> limits_test.rego:3:13
      |
    3 | test_few if time.now_ns() > 0
      |             ^^^^^^^^^^^^^
      = help: a policy decides from its input alone: it has no clock, no network and no chance

    --- stderr
    error: the rules do not compile
    --- exit 1
    ");
}

#[test]
fn a_decision_is_shown_with_what_every_rule_said() {
    let env = TestEnv::new();
    let rules = policy("tools", "toolcrib.tools", "  modules: [tools.rego]");
    env.repo()
        .write("crib.yaml", &(tools("production") + &rules))
        .write("tools.rego", include_str!("../../policies/tools.rego"));
    let question = ["policy", "eval", "kubectl", "--user", "dan", "--group", "developers"];
    let with = |more: &[&str]| env.run(&[&question[..], more].concat()).all();
    insta::assert_snapshot!(with(&["--arg", "command=get pods", "--fail"]), @r#"
    refused
      only administrators may use production runners (Policy/tools, rule `data.toolcrib.tools.deny`)
      declared at crib.yaml:18:1

    POLICY         RULE                        ANSWER
    Policy/tools   data.toolcrib.tools.deny    ["only administrators may use production runners"]
    Policy/tools   data.toolcrib.tools.allow   true

    asked: {
      "tool": {
        "name": "kubectl",
        "resource": "Tool/kubectl",
        "annotations": {
          "readOnlyHint": true
        },
        "args": {
          "command": "get pods"
        },
        "argv": [
          "echo",
          "get",
          "pods"
        ]
      },
      "user": {
        "name": "dan",
        "groups": [
          "developers"
        ]
      },
      "runner": {
        "cluster": "production",
        "name": "local",
        "type": "process",
        "attributes": {
          "cluster": "production"
        }
      }
    }
    --- exit 1
    "#);
    let said =
        env.run(&["policy", "eval", "kubectl", "--group", "admin", "--arg", "command=x", "-o", "json"]);
    let (told, input) = (said.json(), said.json()["input"].to_string());
    assert_eq!((told["allowed"].clone(), told["answers"][1]["value"].clone()), (json!(true), json!(true)));
    env.repo().write("question.json", &input);
    let again = env.run(&["policy", "eval", "--input", "question.json", "-o", "json"]);
    assert_eq!(again.json(), told, "a question that was shown can be asked again");
    insta::assert_snapshot!(env.run(&["policy", "eval", "kubectll"]).all(), @r"
    --- stderr
    error: no tool `kubectll` is declared
    hint: did you mean `kubectl`?
    --- exit 2
    ");
    insta::assert_snapshot!(env.run(&["policy", "eval", "kubectl", "--runner", "moon"]).all(), @r"
    --- stderr
    error: there is no runner `moon`
    hint: the runners are `local`
    --- exit 2
    ");
}

#[test]
fn a_decision_can_be_asked_for_by_role() {
    let env = TestEnv::new();
    let crib = "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Crib\nmetadata: {name: crib}\nspec: {roles: {boss: {groups: [admin]}}}\n";
    env.repo().write("crib.yaml", &(tools("staging") + crib));
    let role = |name: &str| {
        env.run(&["policy", "eval", "kubectl", "--role", name, "--arg", "command=x", "-o", "json"])
    };
    assert_eq!(role("boss").json()["input"]["user"]["groups"], json!(["admin"]));
    assert!(role("bos").stderr.contains("the roles are `boss`"), "{}", role("bos").all());
}

#[test]
fn what_is_not_admitted_does_not_run_and_the_version_before_stays() {
    let env = TestEnv::new();
    let repo = env.repo();
    let tool = |words: &str| {
        format!(
            "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Tool\nmetadata: {{name: say}}\nspec: {{description: Says, command: [echo, {words}]}}\n"
        )
    };
    let admission = |rules: &str| {
        policy("admission", "adm", &format!("  points: [admission]\n  rego: |\n    package adm\n    {rules}"))
    };
    let no_bad = r#"deny contains "bad words" if input.resource.spec.command[1] == "bad""#;
    repo.write("crib.yaml", &(tools("staging") + &tool("good"))).write("policy.yaml", &admission(no_bad));
    repo.commit("good");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["kubectl", "say"]);

    // A refused version leaves the one before.
    repo.write("crib.yaml", &(tools("staging") + &tool("bad"))).commit("bad");
    let why = wait_for_reason(&env, &daemon, "Tool/say", "InvalidManifest");
    assert!(why.contains("refused by Policy/admission: bad words"), "{why}");
    assert_eq!(text(&call(&daemon, "say", json!({}))), "good\n");
    insta::assert_snapshot!(env.run(&["validate", "."]).all(), @r"
    error[policy-refused]: refused by Policy/admission: bad words
      --> crib.yaml:20:18 (Tool/say)
       |
    20 | metadata: {name: say}
       |                  ^^^
       = help: change what the rule `data.adm.deny` asks about, or the rule

    1 error in main@sha1:[COMMIT] worktree
    --- exit 1
    ");

    // Rules that refuse what runs withdraw it.
    let nothing = r#"deny contains "nothing is said" if input.resource.name == "say""#;
    repo.write("policy.yaml", &admission(nothing)).commit("nothing");
    wait_for_names(&daemon, &["kubectl"]);

    // And it comes back with the rules that admit it.
    repo.write("policy.yaml", &admission(r#"deny if input.resource.kind == "Server""#)).commit("all");
    wait_for_names(&daemon, &["kubectl", "say"]);
    assert_eq!(text(&call(&daemon, "say", json!({}))), "bad\n");
}

#[test]
fn limits_of_rules_are_those_of_the_call() {
    let env = TestEnv::new();
    let more = r#"---
apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata: {name: slow}
spec: {description: Takes its time, command: [sleep, "600"]}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata: {name: long}
spec: {description: Says much, command: [seq, "1", "5000"]}
"#;
    let venv = std::env::var_os("TOOLCRIB_IT_VENV").expect("TOOLCRIB_IT_VENV is not set: run `tests/run`");
    let python = std::path::Path::new(&venv).join("bin/python");
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/weather/server.py");
    let server =
        crate::follow::server("weather", &[python.to_str().unwrap(), fixture], "  tools: {include: [echo]}");
    let limits = |rule: &str| {
        policy("modest", "modest", &format!("  rego: |\n    package modest\n    limits := {rule}"))
    };
    let write = |rule: &str| {
        env.repo().write("crib.yaml", &(tools("staging") + more + &server + &limits(rule))).commit("limits");
    };
    write(r#"{"timeout": 3, "maxOutput": 300, "cpu": 64}"#);
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["kubectl", "long", "slow", "weather_echo"]);
    let slow = call(&daemon, "slow", json!({}));
    assert!(outcome(&slow).0 && slow.to_string().contains("took longer than 3s"), "{slow}");
    let long = call(&daemon, "long", json!({}));
    assert!(long.to_string().contains("is cut after 300 bytes"), "{long}");
    let echo = |text: &str| call(&daemon, "weather_echo", json!({"text": text}));
    let short = echo("short");
    assert!(!outcome(&short).0, "{short}");
    let much = echo(&"x".repeat(400));
    assert!(outcome(&much).0 && text(&much).contains("300 are allowed (rule `limits`)"), "{much}");
    // What runs already cannot be lowered; a limit that nobody knows refuses.
    for (rule, says) in [
        (r#"{"memory": 1048576}"#, "it has memory 512Mi, and 1Mi is allowed (rule `limits`)"),
        (r#"{"speed": 3}"#, "has a form that is not understood"),
    ] {
        write(rule);
        wait_for("the rule", SOON, || text(&echo("x")).contains(says).then_some(()));
    }
}
