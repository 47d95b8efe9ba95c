//! `init`: what it makes works, as it stands.

use crate::follow::wait_for_names;
use crate::support::{Daemon, TestEnv};

#[test]
fn a_new_repository_is_served_at_once() {
    let env = TestEnv::new();
    let folder = env.home().join("crib");
    let path = folder.to_str().unwrap();
    // The home is in no repository.
    let said = env.command(&["init", path]).current_dir(env.home()).output().unwrap();
    let text = env.normal(&String::from_utf8(said.stdout).unwrap());
    insta::assert_snapshot!(text, @"
    wrote [HOME]/crib/README.md
    wrote [HOME]/crib/runner.yaml
    wrote [HOME]/crib/tools/word-count.yaml
    wrote [HOME]/crib/servers/clock.yaml
    wrote [HOME]/crib/servers/clock.py
    wrote [HOME]/crib/policies/guard.yaml
    wrote [HOME]/crib/policies/guard.rego
    wrote [HOME]/crib/policies/guard_test.rego
    wrote [HOME]/crib/.github/workflows/toolcrib.yml
    wrote [HOME]/crib/.toolcrib/resource.schema.json

    Made a Git repository, and committed them.
    Next: toolcrib run --repo [HOME]/crib
    ");
    let inside = |args: &[&str]| {
        let output = env.command(args).current_dir(&folder).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.success(), text)
    };
    let (valid, text) = inside(&["validate"]);
    assert!(valid && text.contains("4 resources valid in main@") && !text.contains("warning"), "{text}");
    assert!(!text.contains("dirty"), "everything is committed: {text}");
    let (passed, text) = inside(&["policy", "test"]);
    assert!(passed && text.contains('3'), "{text}");

    let state = env.state();
    let args = ["run", "--repo", path, "--state", state.to_str().unwrap(), "--output", "json"];
    let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let daemon = Daemon::start(env.command(&[&args[..], &ports[..]].concat()));
    wait_for_names(&daemon, &["clock_now", "word-count"]);
    let call = |tool: &str, more: &[&str]| {
        let said = env.run(&[&["call", tool, "--url", &daemon.mcp], more].concat());
        assert_eq!(said.code, 0, "{tool}: {}\n{}", said.all(), daemon.log());
        said.stdout
    };
    assert_eq!(call("word-count", &["text=as many as these"]).trim(), "4");
    let now = call("clock_now", &[]);
    assert!(now.starts_with("20") && now.trim().ends_with("+00:00"), "{now}");
}

#[test]
fn files_begin_with_the_line_for_editors_and_are_never_replaced() {
    let env = TestEnv::new();
    let said = env.run(&["init", "--ci", "gitlab"]);
    assert!(said.code == 0 && said.stdout.contains("Commit them: what is served is what is committed."));
    let read = |file: &str| std::fs::read_to_string(env.repo().path().join(file)).unwrap();
    for file in ["runner.yaml", "tools/word-count.yaml", "servers/clock.yaml", "policies/guard.yaml"] {
        let text = read(file);
        let line = text.lines().next().unwrap_or_default();
        let schema =
            line.strip_prefix("# yaml-language-server: $schema=").unwrap_or_else(|| panic!("{file}: {line}"));
        let schema = std::path::Path::new(file).parent().unwrap().join(schema);
        let schema: serde_json::Value = serde_json::from_str(&read(schema.to_str().unwrap())).unwrap();
        assert_eq!(schema["title"], "Resource", "{file}");
    }
    assert!(
        read(".gitlab-ci.yml").contains("toolcrib validate") && !env.repo().path().join(".github").exists()
    );
    env.repo().write("runner.yaml", "# mine\n");
    let again = env.run(&["init"]);
    assert!(again.code == 1 && again.stderr.contains("runner.yaml") && read("runner.yaml") == "# mine\n");
    assert!(!env.repo().path().join(".github").exists(), "nothing was written");
    assert_eq!(env.run(&["init", "--force", "--ci", "none"]).code, 0);
    assert!(read("runner.yaml").contains("kind: Runner"));
    assert_eq!(env.run(&["validate"]).code, 0);
}
