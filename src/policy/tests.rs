//! What rules decide, and what is refused before any decides.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::resource::{Kind, Name};

const EXAMPLE: &str = include_str!("../../policies/kubiya_tools.rego");

fn source(version: RegoVersion, package: &str, texts: &[&str]) -> Source {
    let module = |(at, text): (usize, &&str)| Module {
        file: RepoPath::parse(&format!("policies/{at}.rego")).unwrap(),
        line: 1,
        indent: 0,
        text: (*text).into(),
    };
    Source {
        id: ResourceId::new(Kind::Policy, Name::parse("p").unwrap()),
        place: Place { file: RepoPath::parse("policy.yaml").unwrap(), line: 3, column: 1 },
        package: package.to_owned(),
        version,
        modules: texts.iter().enumerate().map(module).collect(),
        opa: None,
        points: vec![Point::Call],
        enforcement: Enforcement::Deny,
    }
}

/// Policies of package `a` in v1, one for each text.
fn set(texts: &[&str]) -> PolicySet {
    let sources = texts.iter().map(|text| source(RegoVersion::V1, "a", &[&format!("package a\n{text}")]));
    PolicySet::compile(sources.collect()).unwrap_or_else(|found| panic!("{found:?}"))
}

fn ask(set: &PolicySet, input: &Value) -> Decision {
    set.decide(Point::Call, input)
}

fn call(tool: &str, command: &str, groups: &[&str], cluster: &str) -> Value {
    json!({
        "tool": {"name": tool, "args": {"command": command}},
        "user": {"name": "x", "groups": groups},
        "runner": {"name": "r", "type": "kubernetes", "cluster": cluster},
    })
}

#[test]
fn the_example_decides_what_its_comments_say() {
    let sources = [
        source(RegoVersion::V0, "kubiya.tools", &[EXAMPLE]),
        source(RegoVersion::V1, "toolcrib.tools", &[include_str!("../../policies/tools.rego")]),
    ];
    let cases = [
        // An administrator runs any tool anywhere, whichever groups come first.
        ("kubectl", "delete pods", &["developers", "admin"][..], "production", true),
        ("terraform", "apply", &["admin", "developers"], "production", true),
        ("terraform", "apply", &["admin"], "staging", true),
        // A developer reads with kubectl, but not in production.
        ("kubectl", "get pods", &["developers"], "staging", true),
        ("kubectl", "delete pods", &["developers"], "staging", false),
        ("terraform", "get", &["developers"], "staging", false),
        ("kubectl", "get pods", &["developers"], "production", false),
        // Who is in no group runs nothing.
        ("kubectl", "get pods", &[], "staging", false),
        ("kubectl", "get pods", &[], "production", false),
    ];
    for source in sources {
        let package = source.package.clone();
        let set = PolicySet::compile(vec![source]).unwrap();
        for (tool, command, groups, cluster, allowed) in cases {
            let decision = ask(&set, &call(tool, command, groups, cluster));
            assert_eq!(decision.allowed, allowed, "{package}: {tool} {command} {groups:?} {cluster}");
            assert_eq!(decision.refusals.is_empty(), allowed);
        }
        let decision = ask(&set, &call("kubectl", "get pods", &["developers"], "production"));
        let [refusal] = &decision.refusals[..] else { panic!("{decision:?}") };
        assert_eq!(
            (refusal.rule.as_str(), refusal.cause),
            (format!("data.{package}.deny").as_str(), Cause::Denied)
        );
    }
}

#[test]
fn the_example_as_written_is_unsafe() {
    let written = EXAMPLE.replace("not is_admin", "not input.user.groups[_] == \"admin\"");
    let found = PolicySet::compile(vec![source(RegoVersion::V0, "kubiya.tools", &[&written])]).err().unwrap();
    let [diagnostic] = &found[..] else { panic!("{found:?}") };
    assert_eq!(diagnostic.code, "rego-unsafe");
    assert_eq!(diagnostic.place.as_ref().unwrap().to_string(), "policies/0.rego:22:27");
    assert_eq!(diagnostic.excerpt.as_deref(), Some("    not input.user.groups[_] == \"admin\""));
    assert_eq!(
        diagnostic.message,
        "`_` is unsafe: `not` asks whether the rest fails, and there `_` has no value"
    );
    assert_eq!(
        diagnostic.hint.as_deref(),
        Some(
            "put the condition in a rule of its own, `found { input.user.groups[_] == \"admin\" }`, \
             and write `not found`"
        )
    );
    // In v1, `if` is missing first of all.
    let found = PolicySet::compile(vec![source(RegoVersion::V1, "kubiya.tools", &[&written])]).err().unwrap();
    assert!(found[0].hint.as_deref().unwrap().contains("regoVersion: v0"), "{found:?}");
}

#[test]
fn what_rules_say() {
    let words = |words: &[&str]| words.iter().map(|word| Some((*word).to_owned())).collect::<Vec<_>>();
    let cases = [
        ("deny := true", vec![None]),
        ("deny := false", vec![]),
        ("deny if input.nothing", vec![]),
        ("deny := \"no\"", words(&["no"])),
        ("deny contains \"b\"\ndeny contains \"a\"", words(&["a", "b"])),
        ("deny contains \"b\" if input.nothing", vec![]),
        ("deny := [\"b\", \"a\"]", words(&["b", "a"])),
        ("deny := []", vec![]),
        ("deny[k] := true if some k in [\"x\"]", words(&["x"])),
        ("deny contains {\"msg\": \"why\"}", words(&["why"])),
        ("deny contains {\"code\": 1}", words(&["{\"code\":1}"])),
        ("deny := 7", words(&["7"])),
        ("default deny := true\ndeny := false if input.x == 1", vec![]),
        ("deny if every g in input.groups { startswith(g, \"d\") }", vec![None]),
        ("deny if not \"root\" in input.groups", vec![None]),
        ("deny if not count([g | some g in input.groups; g == \"ops\"]) > 0", vec![None]),
        ("f(x) := x + 1\ndeny if f(input.x) == 2", vec![None]),
        ("import input.groups as mine\ndeny if not \"root\" in mine", vec![None]),
        ("deny if { print(\"heard\"); input.x == 1 }", vec![None]),
    ];
    for (text, expected) in cases {
        let decision = ask(&set(&[text]), &json!({"x": 1, "groups": ["dev"]}));
        let messages: Vec<_> = decision.refusals.iter().map(|refusal| refusal.message.clone()).collect();
        assert_eq!(messages, expected, "{text}");
        assert_eq!(decision.allowed, expected.is_empty());
        assert_eq!(decision.hides(), !expected.is_empty());
    }
}

#[test]
fn policies_together() {
    let (none, nowhere) = (None::<BTreeSet<String>>, Some(BTreeSet::new()));
    let some = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    // Texts, allowed, hidden, runners.
    let cases = [
        (&[][..], true, false, none.clone()),
        (&["visible := true"][..], true, false, none.clone()),
        (&["visible := false"], true, true, none.clone()),
        (&["visible := true", "visible := false"], true, true, none.clone()),
        (&["visible if input.nothing"], true, false, none.clone()),
        // One `allow` of any policy is enough; none is not; a `deny` wins.
        (&["allow := true"], true, false, none.clone()),
        (&["allow if input.nothing"], false, false, none.clone()),
        (&["allow := false", "allow := true"], true, false, none.clone()),
        (&["allow if input.nothing", "visible := true"], false, false, none.clone()),
        (&["allow := true", "deny := true"], false, true, none.clone()),
        (&["allow := \"yes\""], false, false, none.clone()),
        // Runners: what all agree on.
        (
            &["allowed_runners := {\"a\", \"b\"}", "allowed_runners := [\"b\", \"c\"]"],
            true,
            false,
            some(&["b"]),
        ),
        (&["allowed_runners := {\"a\"}", "allowed_runners := {\"b\"}"], true, false, nowhere),
        (
            &["allowed_runners contains \"a\" if input.nothing\nallowed_runners contains \"b\""],
            true,
            false,
            some(&["b"]),
        ),
        (&["allowed_runners := {\"a\"} if input.nothing"], true, false, none.clone()),
        // What cannot be understood or evaluated refuses.
        (&["allowed_runners := \"a\""], false, true, none.clone()),
        (&["limits := {\"memory\": \"much\"}"], false, true, none.clone()),
        (&["limits := {\"speed\": 3}"], false, true, none.clone()),
        (&["limits := {\"timeout\": 0}"], false, true, none.clone()),
        (&["deny if startswith(input.x, \"a\")"], false, true, none.clone()),
        (&["allow := true", "visible if 1 / 0 == 1"], false, true, none.clone()),
        (&["deny := 1 if input.x == 1\ndeny := 2 if input.x == 1"], false, true, none.clone()),
    ];
    for (texts, allowed, hidden, runners) in cases {
        let decision = ask(&set(texts), &json!({"x": 1}));
        assert_eq!((decision.allowed, decision.hides()), (allowed, hidden), "{texts:?}: {decision:?}");
        assert_eq!(decision.allowed_runners, runners, "{texts:?}");
    }
    let limits =
        ask(&set(&["limits := {\"cpu\": 3, \"pids\": 1}", "limits := {\"cpu\": 2}"]), &json!({})).limits;
    assert_eq!(limits, BTreeMap::from([("cpu".to_owned(), 2.0), ("pids".to_owned(), 1.0)]));
    let failed = &ask(&set(&["deny if startswith(input.x, \"a\")"]), &json!({"x": 1})).refusals[0];
    assert_eq!(failed.cause, Cause::Failed);
    assert_eq!(failed.message.as_deref(), Some("`startswith` expects string argument. Got `1` instead"));
}

#[test]
fn points_and_enforcement() {
    let with = |enforcement, points: &[Point], text: &str| Source {
        enforcement,
        points: points.to_vec(),
        ..source(RegoVersion::V1, "a", &[&format!("package a\n{text}")])
    };
    let call = [Point::Call];
    let set = PolicySet::compile(vec![
        with(
            Enforcement::Audit,
            &call,
            "deny contains \"x\"\nallow := false\nvisible := false\nallowed_runners := {\"a\"}",
        ),
        with(Enforcement::Deny, &[Point::List], "deny := true"),
    ])
    .unwrap();
    let decision = set.decide(Point::Call, &json!({}));
    assert!(decision.allowed && !decision.hides() && decision.allowed_runners.is_none());
    let causes: Vec<_> = decision.audited.iter().map(|refusal| refusal.cause).collect();
    assert_eq!(causes, [Cause::Denied, Cause::NotAllowed]);
    assert!(!set.decide(Point::List, &json!({})).allowed);
    assert!(set.decide(Point::Admission, &json!({})).allowed && !set.asks(Point::Admission));
}

/// Rules that each need the next, and `deny` all of them.
fn tower(height: usize) -> String {
    let rules: Vec<_> = (0..height).map(|at| format!("r{at:04} if r{:04}", at + 1)).collect();
    format!("{}\nr{height:04} := true\ndeny if r0000\n", rules.join("\n"))
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn mistakes_have_places_and_hints() {
    let v0 = |text: &str| source(RegoVersion::V0, "a", &[&format!("package a\n{text}")]);
    let v1 = |text: &str| source(RegoVersion::V1, "a", &[&format!("package a\n{text}")]);
    let cases = [
        (v1("deny if {"), "rego", "policies/0.rego:2:10", "expecting"),
        (v1("deny { input.x }"), "rego", "policies/0.rego:2:6", "`if` keyword is required"),
        (v1("deny if y > 1"), "rego", "policies/0.rego:2:9", "use of undefined variable `y` is unsafe"),
        (v0("deny { not input.g[i] == 1 }"), "rego-unsafe", "policies/0.rego:2:20", "`i` is unsafe"),
        (v1("deny if not f(input.g[_])\nf(x) := x"), "rego-unsafe", "policies/0.rego:2:23", "`_` is unsafe"),
        (
            v1("deny if { x := [1 | not input.g[_] == 1]; x }"),
            "rego-unsafe",
            "policies/0.rego:2:33",
            "`_` is unsafe",
        ),
        (v1("deny if foo(1)"), "rego-function", "policies/0.rego:2:9", "there is no function `foo`"),
        (
            v1("deny if time.now_ns() > 1"),
            "rego-function",
            "policies/0.rego:2:9",
            "there is no function `time.now_ns`",
        ),
        (
            v1("deny if http.send({})"),
            "rego-function",
            "policies/0.rego:2:9",
            "there is no function `http.send`",
        ),
        (
            v1("deny if rand.intn(\"x\", 2) == 1"),
            "rego-function",
            "policies/0.rego:2:9",
            "there is no function `rand.intn`",
        ),
        (v1("deny if b\nb if deny"), "rego-recursion", "policies/0.rego:3:1", "rule `data.a.b` needs itself"),
        (
            v1("f(x) := f(x)\ndeny if f(1)"),
            "rego-recursion",
            "policies/0.rego:2:1",
            "rule `data.a.f` needs itself",
        ),
        (
            v1("deny if data.a.deny"),
            "rego-recursion",
            "policies/0.rego:2:1",
            "rule `data.a.deny` needs itself",
        ),
        (
            v1("deny if data.a[input.x]"),
            "rego-recursion",
            "policies/0.rego:2:1",
            "rule `data.a.deny` needs itself",
        ),
        (v1("deny.part := true"), "rego", "policies/0.rego:1:1", "not a valid rule path"),
        (v1("nothing := true"), "rego-rules", "policy.yaml:3:1", "package `a` decides nothing"),
        (
            source(RegoVersion::V1, "b", &["package a\ndeny := true"]),
            "rego-package",
            "policy.yaml:3:1",
            "no module is in package `b`",
        ),
        (source(RegoVersion::V1, "a", &[]), "rego-package", "policy.yaml:3:1", "no module is in package `a`"),
        (
            v1(&format!("deny := {}1{}", "[".repeat(40), "]".repeat(40))),
            "rego-too-large",
            "policies/0.rego:1:1",
            "nested more than 12 deep",
        ),
        (
            v1(&"deny contains [[[[[[[1]]]]]]]\n".repeat(2000)),
            "rego-too-large",
            "policies/0.rego:1:1",
            "too many nested brackets",
        ),
        (
            v1(&format!("deny if input.x == 1{}", " +\n1".repeat(9000))),
            "rego-too-large",
            "policies/0.rego:1:1",
            "more than 300 operators",
        ),
        (
            v1(&format!("deny := {{1}}{}", " |\n{x |\nx := 1\n}".repeat(400))),
            "rego-too-large",
            "policies/0.rego:1:1",
            "more than 300 operators",
        ),
        (v1(&tower(9000)), "rego-recursion", "policies/0.rego:8953:1", "stands on more than 48 others"),
        (v1(&"# long\n".repeat(1 << 18)), "rego-too-large", "policies/0.rego:1:1", "more than 1048576 bytes"),
    ];
    for (source, code, place, message) in cases {
        let text = source.modules.first().map(|module| module.text.chars().take(80).collect::<String>());
        let found = PolicySet::compile(vec![source]).err().unwrap_or_else(|| panic!("{text:?} compiles"));
        let diagnostic = &found[0];
        assert_eq!(diagnostic.code, code, "{text:?}: {found:?}");
        assert_eq!(diagnostic.place.as_ref().unwrap().to_string(), place, "{text:?}: {found:?}");
        assert!(diagnostic.message.contains(message), "{text:?}: {found:?}");
        assert!(diagnostic.code == "rego" || diagnostic.hint.is_some(), "{text:?}");
        assert!(diagnostic.resource.is_some());
    }
}

#[test]
fn what_is_no_recursion_and_not_unsafe() {
    for text in [
        "deny if { deny_all := 1; deny_all == 2 }",
        "deny if data.other.deny",
        "deny if { not is_admin; some g in input.g; not g == \"x\" }\nis_admin if input.g[_] == \"admin\"",
        "deny if { some i; input.g[i] == 1; not input.h[i] == 2 }",
        "deny contains m if { some m in input.g; not m in {\"a\", \"b\"} }",
        "deny if not data.exceptions[input.user.name]",
        "a := 1\nb := a\ndeny if { a := 2; a == b }",
        "f(x) := y if { y := x }\ndeny if not f(input.x)",
        "deny if every g in input.g { not g == \"a\" }",
    ] {
        set(&[text]);
    }
    // As much as the bounds let through is no trouble for the interpreter either.
    let sum = format!("deny if 148 == 1{}", " + 1".repeat(147));
    assert!(!ask(&set(&[&sum]), &json!({})).allowed);
    assert!(!ask(&set(&[&tower(47)]), &json!({})).allowed);
}

#[test]
fn a_rule_that_never_ends_is_ended() {
    let text = "deny if { x := numbers.range(1, 5000); y := numbers.range(1, 5000); x[_] + y[_] == 0 }";
    let decision = ask(&set(&[text]), &json!({}));
    assert_eq!(decision.refusals[0].cause, Cause::Failed);
    assert!(decision.refusals[0].message.as_deref().unwrap().contains("time limit"), "{decision:?}");
}

#[test]
fn what_each_rule_answered_can_be_told() {
    let set = set(&[
        "deny contains \"no\" if input.x == 1\nallow if input.y",
        "allow if { print(\"heard\"); 1 / input.z == 1 }",
    ]);
    let (decision, answers) = set.explain(Point::Call, &json!({"x": 1, "z": 0}), &[]);
    assert_eq!(decision, ask(&set, &json!({"x": 1, "z": 0})));
    let told: Vec<_> = answers.iter().map(|answer| (answer.rule.as_str(), answer.value.clone())).collect();
    let expected = [("data.a.deny", Some(json!(["no"]))), ("data.a.allow", None), ("data.a.allow", None)];
    assert_eq!(told, expected);
    assert!(answers[1].error.is_none() && answers[2].error.is_some());
    assert_eq!(answers[2].printed, ["policies/0.rego:2: heard"]);
}

#[test]
fn decides_on_many_threads_at_once() {
    let set = PolicySet::compile(vec![source(RegoVersion::V0, "kubiya.tools", &[EXAMPLE])]).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let set = &set;
            scope.spawn(move || {
                for at in 0..50 {
                    let admin = (thread + at) % 2 == 0;
                    let groups: &[&str] = if admin { &["admin"] } else { &["developers"] };
                    assert_eq!(ask(set, &call("kubectl", "get", groups, "production")).allowed, admin);
                }
            });
        }
    });
}

#[test]
fn policies_answered_elsewhere() {
    use crate::resource::policy::OpaAnswer::{self, Allow, Deny, Visible};
    let remote = |answers: &[OpaAnswer], enforcement| Source {
        opa: Some(OpaSource {
            url: "http://127.0.0.1:8181/".to_owned(),
            answers: answers.to_vec(),
            timeout: None,
            token: None,
        }),
        modules: Vec::new(),
        enforcement,
        ..source(RegoVersion::V1, "far.away", &[])
    };
    let decide = |sources: Vec<Source>, said: &[Result<Value, String>]| {
        let set = PolicySet::compile(sources).unwrap_or_else(|found| panic!("{found:?}"));
        set.decide_with(Point::Call, &json!({"x": 1}), said)
    };
    let usual = [Deny, Allow];
    let rule = |decision: &Decision| decision.refusals.first().map(|refusal| refusal.rule.clone());
    let cases = [
        // OPA leaves out what is undefined: what was declared and is missing does not hold.
        (&usual[..], json!({}), Some("data.far.away.allow")),
        (&usual, json!({"allow": false}), Some("data.far.away.allow")),
        (&usual, json!({"allow": true}), None),
        (&usual, json!({"allow": true, "deny": []}), None),
        (&usual, json!({"allow": true, "deny": ["no"]}), Some("data.far.away.deny")),
        (&[Deny], json!({}), None),
        (&[Deny], json!({"is_admin": true}), None),
        (&[Visible], json!({}), None),
        // What is answered counts, declared or not.
        (&[Deny], json!({"allow": false}), Some("data.far.away.allow")),
        (&[Allow], json!({"allow": true, "deny": true}), Some("data.far.away.deny")),
        (&usual, json!(true), Some("data.far.away")),
    ];
    for (answers, said, refused) in cases {
        let decision = decide(vec![remote(answers, Enforcement::Deny)], &[Ok(said.clone())]);
        assert_eq!(rule(&decision).as_deref(), refused, "{answers:?} {said}");
        assert_eq!(decision.allowed, refused.is_none());
    }
    // No answer refuses; when it only audits, it is recorded.
    for said in [vec![Err("gone".to_owned())], Vec::new()] {
        let decision = decide(vec![remote(&usual, Enforcement::Deny)], &said);
        assert_eq!((decision.allowed, decision.refusals[0].cause), (false, Cause::Failed));
        let decision = decide(vec![remote(&usual, Enforcement::Audit)], &said);
        assert!(decision.allowed && decision.audited[0].cause == Cause::Failed);
    }
    // Together with others, one `allow` is enough and a `deny` wins.
    let here = |text: &str| source(RegoVersion::V1, "a", &[&format!("package a\n{text}")]);
    let both =
        |text: &str, said: Value| decide(vec![here(text), remote(&usual, Enforcement::Deny)], &[Ok(said)]);
    assert!(both("allow := true", json!({})).allowed);
    assert!(both("allow if input.y", json!({"allow": true})).allowed);
    assert!(!both("deny := true", json!({"allow": true})).allowed);
    assert!(!both("allow := true", json!({"deny": true})).allowed);
    let set = PolicySet::compile(vec![remote(&usual, Enforcement::Deny)]).unwrap();
    let addresses: Vec<_> = set.remotes(Point::Call).map(Remote::address).collect();
    assert_eq!(addresses, ["http://127.0.0.1:8181/v1/data/far/away"]);
    assert!(set.asks(Point::Call) && !set.asks(Point::List));
}
