//! Decisions of policies: from the facts of a call to allowed or refused, as the gateway asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use toolcrib::manifest::{Place, RepoPath};
use toolcrib::policy::{Input, Module, PolicySet, Principal, RunnerFacts, Source, ToolFacts};
use toolcrib::resource::policy::{Enforcement, Point, RegoVersion};
use toolcrib::resource::{Kind, Name, ResourceId};

use crate::report::{Report, Samples, show, times};

/// Decisions that are measured, after as many that warm up as a tenth of them.
const DECISIONS: usize = 20_000;
/// The policy of the examples: administrators, developers who read, production.
const SHIPPED: &str = include_str!("../../policies/tools.rego");
/// The least that can be asked: what every question costs.
const LEAST: &str = "package toolcrib.tools\n\nallow := true\n";

pub(crate) fn measure(report: &mut Report) {
    let least = decide(&[LEAST.to_owned()]);
    report.row(
        "policy decision, one rule that is `true`, p50",
        "",
        show(least.p50()),
        format!("p99 {}", show(least.p99())),
        None,
    );
    for (what, policies) in [("the shipped policy", 1), ("ten such policies", 10)] {
        let modules: Vec<String> = (0..policies)
            .map(|n| SHIPPED.replace("package toolcrib.tools", &format!("package toolcrib.tools{n}")))
            .collect();
        let samples = decide(&modules);
        report.time(
            &format!("policy decision, {what}, p99"),
            (policies == 1).then_some(Duration::from_micros(50)),
            samples.p99(),
            format!("{}; p50 {}", times(samples.p99(), least.p99(), "the least"), show(samples.p50())),
        );
    }
}

/// Times of decisions, half of them refusals.
fn decide(modules: &[String]) -> Samples {
    let policies = PolicySet::compile(modules.iter().enumerate().map(source).collect()).unwrap();
    let attributes = Map::from_iter([("cluster".to_owned(), json!("production"))]);
    let users =
        [("ada", vec!["developers", "admin"]), ("dan", vec!["developers"])].map(|(name, groups)| Principal {
            name: name.to_owned(),
            groups: groups.into_iter().map(str::to_owned).collect(),
            ..Principal::default()
        });
    let mut times = Vec::with_capacity(DECISIONS);
    for n in 0..DECISIONS + DECISIONS / 10 {
        let arguments =
            Map::from_iter([("command".to_owned(), Value::from(format!("get pods -n team-{n}")))]);
        let argv = ["kubectl".to_owned(), "get".to_owned(), "pods".to_owned()];
        let tool = ToolFacts {
            name: "kubectl",
            resource: "Tool/kubectl",
            image: Some("registry/kubectl:1.31"),
            args: Some(&arguments),
            argv: Some(&argv),
            ..ToolFacts::default()
        };
        let runner = RunnerFacts { name: "docker", kind: "docker", attributes: &attributes };
        let start = Instant::now();
        let (tool, user) = (Some(tool), Some(&users[n % 2]));
        let input = Input { entry: None, tool, user, runner: Some(runner) };
        let decision = policies.decide(Point::Call, &input.document());
        times.push(start.elapsed());
        // The least policy allows both; the shipped one only the administrator.
        assert!(decision.allowed || n % 2 == 1, "{decision:?}");
    }
    Samples::new(times.split_off(DECISIONS / 10))
}

fn source((n, text): (usize, &String)) -> Source {
    let package = text.lines().find_map(|line| line.strip_prefix("package ")).unwrap();
    let file = RepoPath::parse("policy.rego").unwrap();
    Source {
        id: ResourceId::new(Kind::Policy, Name::parse(&format!("policy-{n}")).unwrap()),
        place: Place { file: file.clone(), line: 1, column: 1 },
        package: package.to_owned(),
        version: RegoVersion::V1,
        modules: vec![Module { file, line: 1, indent: 0, text: Arc::from(text.as_str()) }],
        opa: None,
        points: vec![Point::Call],
        enforcement: Enforcement::Deny,
    }
}
