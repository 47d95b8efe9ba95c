//! The examples whose programs Debian has are run: in images made of Debian's packages, with the arguments,
//! limits and confinement they declare, and judged by the tests they declare.

use std::path::Path;
use std::process::Stdio;

use crate::support::TestEnv;

/// An image with all programs.
const PROGRAMS: &str = "toolcrib.test/programs:1";

/// A folder of examples, its image and places of programs exchanged, and what of it is run.
fn run(folder: &str, names: &[&str], expected: usize) {
    let env = TestEnv::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(folder);
    copy(&from, &from, &env);
    let mut args = vec!["test", "--output", "json"];
    args.extend(names);
    let mut command = env.command(&args);
    command.env("TMPDIR", env.home());
    for secret in ["SHOP_READER", "SHOP_READER_PASSWORD", "KUBECONFIG", "GITHUB_TOKEN"] {
        command.env(secret, "canary");
    }
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let owner = format!("toolcrib-test-{}-", child.id());
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{stdout}{stderr}");
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["passed"], expected, "{stdout}");
    assert!(!stdout.contains("canary") && !stderr.contains("canary"), "{stdout}{stderr}");
    let mut listed = std::process::Command::new("docker");
    listed.args(["ps", "--all", "--format", "{{.Label \"dev.toolcrib/owner\"}}"]);
    let owners = String::from_utf8(listed.output().unwrap().stdout).unwrap();
    assert!(!owners.contains(&owner), "containers stay: {owners}");
}

fn copy(root: &Path, folder: &Path, env: &TestEnv) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            copy(root, &path, env);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap();
        env.repo().write(name, &exchanged(name, &text));
    }
}

/// The same with an image that is here; what runs beside the daemon runs in a container as well.
fn exchanged(name: &str, text: &str) -> String {
    if name.ends_with("Dockerfile") {
        let kept = text.lines().filter(|line| line.starts_with("COPY"));
        return format!("FROM {PROGRAMS}\n{}\n", kept.collect::<Vec<_>>().join("\n"));
    }
    let machine = format!("  runner: containers\n  image: {PROGRAMS}");
    // Rules about where images come from are about the images that were exchanged.
    let line = |line: &str| match line {
        "  runner: machine" => machine.clone(),
        line if line.starts_with("  image: ") => format!("  image: {PROGRAMS}"),
        line => line.replace("known := {", "known := {\"toolcrib.test/programs\", "),
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

#[test]
fn infrastructure() {
    run("infrastructure", &["kubectl", "docker"], 2);
}

#[test]
fn development() {
    run("development", &["git-patch", "git-refs", "run-node", "run-python"], 9);
}

#[test]
fn data() {
    run("data", &["describe-table", "query-database"], 3);
}

#[test]
fn monitoring() {
    run("monitoring", &["query-metrics", "check-metrics"], 3);
}

#[test]
fn the_rules_of_examples_pass_their_tests_and_shipped_ones_are_as_shipped() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let said = TestEnv::new().run(&["policy", "test", root.join("examples").to_str().unwrap()]);
    assert_eq!(said.code, 0, "{}", said.all());
    for name in ["kubectl_read_only.rego", "kubectl_read_only_test.rego"] {
        let read = |folder: &str| std::fs::read_to_string(root.join(folder).join(name)).unwrap();
        assert_eq!(read("policies"), read("examples/infrastructure"), "{name}: copy it again");
    }
}
