//! The command line as people and scripts meet it.

mod astray;
mod daemon;
mod diff;
mod newcomer;
mod sessions;
mod transcripts;

use std::process::Stdio;

use crate::support::TestEnv;

const GOOD: &str = "\
apiVersion: toolcrib.dev/v1alpha1
kind: Runner
metadata: {name: here}
spec: {process: {}}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata: {name: hello}
spec:
  description: Says hello.
  command: [echo, hello]
";

#[test]
fn help_is_there_for_every_command() {
    let env = TestEnv::new();
    let help = env.run(&["--help"]);
    assert_eq!(help.code, 0);
    for text in
        ["Examples:", "Exit codes: 0 success, 1 failure, 2 usage, 3 changes pending", "TOOLCRIB_LISTEN"]
    {
        assert!(help.stdout.contains(text), "{text} is not in\n{}", help.stdout);
    }
    for command in env.commands().iter().filter(|command| *command != "help") {
        let help = env.run(&[command, "--help"]);
        assert!(help.code == 0 && help.stdout.contains("Example"), "{command}: {}", help.all());
    }
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_next() {
    let env = TestEnv::new();
    for (args, message, hint) in [
        (&["frobnicate"][..], "unrecognized subcommand 'frobnicate'", "--help"),
        (&["run"], "error: no repository is named", "hint: pass --repo PATH"),
        (&["run", "--repo", "/nowhere"], "there is no folder `/nowhere`", "caused by: No such file"),
        (&["run", "--repo", ".", "--listen", "here"], "`listen`", "hint: write ADDRESS:PORT"),
        (&["run", "--repo", ".", "--interval", "1ms"], "`interval`: `1ms` is too short", "hint:"),
        (
            &["status", "--log-format", "xml"],
            "`xml` is not a form of the log",
            "hint: write `text` or `json`",
        ),
        (&["status", "--log", "=="], "`log` cannot be used", "hint:"),
        (&["get", "pods"], "`pods` is not a kind", "hint: kinds are"),
        (&["logs", "Weather!"], "`server/Weather!` does not name a resource", "server/weather"),
        (&["call", "x", "--timeout", "soon"], "`--timeout`", "hint: write 30s"),
        (&["probe"], "required arguments were not provided", "IMAGE|URL|COMMAND"),
        (&["probe", "x", "--timeout", "soon"], "`--timeout`", "hint: write 30s"),
        (&["status", "-o", "sarif"], "`--output sarif` is not a form", "hint: write one of text, json"),
        (&["completions", "tcsh"], "invalid value 'tcsh'", "bash"),
    ] {
        let said = env.run(args);
        assert_eq!(said.code, 2, "{args:?}: {}", said.all());
        assert!(said.stdout.is_empty(), "{args:?}: errors go to standard error");
        assert!(said.stderr.contains(message) && said.stderr.contains(hint), "{args:?}: {}", said.stderr);
    }
}

#[test]
fn without_a_daemon_commands_fail_and_say_how_to_start_one() {
    let env = TestEnv::new();
    let state = env.state();
    for command in [&["status"][..], &["tools"], &["get"], &["plan"], &["reconcile"], &["logs", "server/x"]] {
        let said = env.run(&[command, &["--state", state.to_str().unwrap()]].concat());
        assert_eq!(said.code, 1, "{command:?}: {}", said.all());
        assert!(said.stderr.starts_with("error: no daemon answers at `"), "{}", said.stderr);
        assert!(said.stderr.contains("hint: start one with `toolcrib run"), "{}", said.stderr);
    }
}

#[test]
fn the_configuration_file_is_checked_and_flags_win_over_it() {
    let env = TestEnv::new();
    let with = |text: &str, args: &[&str]| {
        env.repo().write("toolcrib.yaml", text);
        env.run(&[&["--config", "toolcrib.yaml"], args].concat())
    };
    let said = with("repo: .\nlistenn: x\n", &["status"]);
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("`toolcrib.yaml`: unknown setting `listenn`"), "{}", said.stderr);
    let said = with("allowProcess: true\n", &["status"]);
    assert!(said.stderr.contains("hint: write `allow-process`"), "{}", said.stderr);
    let said = with("repo: [\n", &["status"]);
    assert!(said.code == 2 && said.stderr.contains("line"), "{}", said.all());
    let said = env.run(&["--config", "nowhere.yaml", "status"]);
    assert!(said.code == 2 && said.stderr.contains("nowhere.yaml"), "{}", said.all());
    let said = with("repo: /nowhere\n", &["run"]);
    assert!(said.code == 2 && said.stderr.contains("`/nowhere`"), "{}", said.all());
    let said = with("repo: /nowhere\n", &["run", "--repo", "/elsewhere"]);
    assert!(said.stderr.contains("`/elsewhere`"), "{}", said.all());
    let from_variable =
        env.command(&["run", "--config", "toolcrib.yaml"]).env("TOOLCRIB_REPO", "/var-it-is").output();
    let stderr = String::from_utf8(from_variable.unwrap().stderr).unwrap();
    assert!(stderr.contains("`/var-it-is`"), "a variable wins over the file: {stderr}");
}

#[test]
fn validate_reads_the_work_tree_or_a_commit() {
    let env = TestEnv::new();
    let said = env.run(&["validate", "--ref", "main"]);
    assert!(said.code == 1 && said.stderr.contains("hint:"), "nothing is committed yet: {}", said.all());
    env.repo().write("tools/hello.yaml", GOOD).commit("tools");
    let said = env.run(&["validate", "tools"]);
    insta::assert_snapshot!(said.all(), @r"
    2 resources valid in main@sha1:[COMMIT] worktree
    --- exit 0
    ");
    env.repo().write("tools/hello.yaml", &GOOD.replace("  command: [", "  comand: ["));
    let said = env.run(&["validate", "tools"]);
    assert_eq!(said.code, 1, "{}", said.all());
    for text in ["tools/hello.yaml:11:3", "comand", "help: ", "+dirty worktree", "1 error"] {
        assert!(said.stdout.contains(text), "{text}: {}", said.stdout);
    }
    let committed = env.run(&["validate", "--ref", "main", "tools"]);
    assert!(committed.code == 0 && !committed.stdout.contains("worktree"), "{}", committed.all());
    let spelled = env.run(&["validate", "--ref", "HEAD^0", "tools"]);
    assert!(spelled.code == 0 && spelled.stdout.starts_with("2 resources valid"), "{}", spelled.all());
    let json = env.run(&["validate", "tools", "--output", "json"]);
    let value = json.json();
    assert_eq!((json.code, &value["errors"], &value["worktree"]), (1, &1.into(), &true.into()));
    assert_eq!(value["diagnostics"][0]["place"]["line"], 11, "{value}");
}

#[test]
fn explain_shows_kinds_fields_and_what_was_meant() {
    let env = TestEnv::new();
    let kinds = env.run(&["explain"]);
    for kind in ["Crib", "Runner", "Policy", "Integration", "Server", "Tool", "Toolset"] {
        assert!(
            kinds.code == 0 && kinds.stdout.lines().any(|line| line.starts_with(kind)),
            "{}",
            kinds.all()
        );
    }
    insta::assert_snapshot!(env.run(&["explain", "server.source.git.instance"]).all(), @r"
    Server.spec.source.git.instance <text>

      The variable of that file that is the FastMCP server.

    DEFAULT
      mcp

    EXAMPLES
      app
    --- exit 0
    ");
    let source = env.run(&["explain", "servers.source"]);
    assert!(
        source.stdout.contains("EXACTLY ONE OF") && source.stdout.contains("An image as it is."),
        "{}",
        source.all()
    );
    for (target, message, hint) in [
        ("sever", "`sever` is not a kind", "hint: did you mean `Server`?"),
        ("pods", "`pods` is not a kind", "hint: kinds are Crib, "),
        ("tool.comand", "there is no field `comand` in `tool`", "hint: did you mean `command`?"),
        (
            "server.source.git.zzz",
            "there is no field `zzz` in `server.source.git`",
            "hint: known there: url, ",
        ),
        ("tool.title.x", "there is no field `x` in `tool.title`", "hint: `tool.title` has no fields"),
    ] {
        let said = env.run(&["explain", target]);
        assert!(
            said.code == 2 && said.stderr.contains(message) && said.stderr.contains(hint),
            "{}",
            said.all()
        );
    }
    let schema = env.run(&["explain", "--output", "json"]);
    assert_eq!(schema.stdout, include_str!("../../schemas/resource.schema.json"));
    let page = env.run(&["explain", "tool", "--output", "markdown"]);
    assert_eq!(page.stdout, include_str!("../../schemas/tool.md"));
}

#[test]
fn validate_speaks_to_code_scanners_and_to_github() {
    let env = TestEnv::new();
    let broken = GOOD.replace("  command: [", "  comand: [").replace("Says hello.", "\"Says\": 100%");
    env.repo().write("tools, all/hello.yaml", &broken).write("other.yaml", &GOOD.replace("hello", "other"));
    let said = env.run(&["validate", "--output", "github"]);
    insta::assert_snapshot!(said.all(), @"
    ::error file=other.yaml,line=3,col=18,title=duplicate-name::`Runner/here` is also declared at tools, all/hello.yaml:1:1 (Runner/here)%0Ahelp: rename one of them or remove it
    ::error file=other.yaml,line=9,col=1,title=no-runner::no process runner is declared, and this needs one (Tool/other)%0Ahelp: correct `Runner/here` first
    ::error file=tools%2C all/hello.yaml,line=3,col=18,title=duplicate-name::`Runner/here` is also declared at other.yaml:1:1 (Runner/here)%0Ahelp: rename one of them or remove it
    ::error file=tools%2C all/hello.yaml,line=10,col=22,title=syntax::mapping values are not allowed in this context (Tool/hello)%0Ahelp: indent the line like its neighbours, or put text that holds `: ` in quotes
    --- exit 1
    ");
    let said = env.run(&["validate", "--output", "sarif"]);
    assert_eq!(said.code, 1, "{}", said.all());
    let log = said.json();
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let rules: Vec<&str> = run["tool"]["driver"]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| {
            assert!(
                rule["help"]["text"].is_string() && rule["shortDescription"]["text"].is_string(),
                "{rule}"
            );
            rule["id"].as_str().unwrap()
        })
        .collect();
    let results = run["results"].as_array().unwrap();
    assert!(!results.is_empty());
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(result["ruleId"], rules[index]);
        let place = &result["locations"][0]["physicalLocation"];
        let uri = place["artifactLocation"]["uri"].as_str().unwrap();
        assert!(!uri.starts_with('/') && !uri.contains([' ', ',', ':']), "{uri}");
        assert!(
            place["region"]["startLine"].as_u64() > Some(0)
                && place["region"]["startColumn"].as_u64() > Some(0)
        );
    }
    // A log of nothing is a log too: a scanner then closes what it had open.
    env.repo().write("tools, all/hello.yaml", GOOD).write("other.yaml", "");
    let said = env.run(&["validate", "--output", "sarif"]);
    assert_eq!((said.code, said.json()["runs"][0]["results"].clone()), (0, serde_json::json!([])));
    assert_eq!(env.run(&["validate", "--output", "github"]).all(), "--- exit 0");
}

#[test]
fn validate_reads_no_file_of_a_hundred_megabytes() {
    let env = TestEnv::new();
    env.repo().write("hello.yaml", GOOD);
    let file = std::fs::File::create(env.repo().path().join("data.yaml")).unwrap();
    file.set_len(100 << 20).unwrap();
    let said = env.run(&["validate"]);
    insta::assert_snapshot!(said.all(), @"
    error[too-large]: the file has more than 8 MiB
     --> data.yaml:1:1
      = help: split it, or name it in `.toolcribignore`

    1 error in main, which has no commit yet, worktree
    --- exit 1
    ");
    env.repo().write(".toolcribignore", "data.yaml\n");
    let said = env.run(&["validate"]);
    assert!(said.code == 0 && said.stdout.starts_with("2 resources valid"), "{}", said.all());
}

#[test]
fn validate_says_where_it_looks_in_vain() {
    let env = TestEnv::new();
    let outside = env.home().to_str().unwrap().to_owned();
    let said = env.run(&["validate", &outside]);
    assert!(
        said.code == 1 && said.stderr.contains("is not in a Git repository\nhint: run `git init`"),
        "{}",
        said.all()
    );
    assert_eq!(env.run(&["validate", "nowhere"]).code, 2);
    env.repo().write("README.md", "no manifests").commit("readme");
    let said = env.run(&["validate"]);
    assert!(said.code == 0 && said.stdout.starts_with("no resources in main@"), "{}", said.all());
}

#[test]
fn every_shell_gets_its_completions_and_a_closed_pipe_is_no_error() {
    let env = TestEnv::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = env.run(&["completions", shell]);
        assert!(said.code == 0 && said.stdout.contains("reconcile"), "{shell}");
    }
    let mut child =
        env.command(&["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn doctor_looks_at_everything() {
    let env = TestEnv::new();
    env.repo().write("hello.yaml", GOOD).commit("tools");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let args = ["doctor", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--output", "json"];
    let said = env.run(&args);
    let value = said.json();
    let checks: Vec<&str> =
        value.as_array().unwrap().iter().filter_map(|check| check["check"].as_str()).collect();
    assert_eq!(checks, ["repository", "engine", "MCP port", "admin port", "state", "clock"]);
    assert_eq!(said.code, 0, "{}", said.all());
    let said = env.run(&["doctor", "--listen", "127.0.0.1:0", "--admin", &address]);
    assert!(said.code == 1 && said.stdout.contains("admin port   FAILED"), "{}", said.all());
    assert!(said.stdout.contains("hint (admin port): end what listens there"), "{}", said.all());
}

#[test]
fn version_names_program_documents_and_protocol() {
    let env = TestEnv::new();
    let said = env.run(&["version", "--output", "json"]).json();
    assert_eq!(said["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(said["protocols"][0], "2026-07-28");
    assert_eq!(env.run(&["--version"]).stdout, format!("toolcrib {}\n", env!("CARGO_PKG_VERSION")));
}
