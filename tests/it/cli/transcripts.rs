//! What people see: every command on a small repository, and the ten mistakes that everybody makes first.

use std::fmt::Write as _;

use crate::support::{Said, TestEnv};

const RUNNER: &str = "\
apiVersion: toolcrib.dev/v1alpha1
kind: Runner
metadata: {name: here}
spec: {process: {}}
";

const TOOL: &str = "\
apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata: {name: hello}
spec:
  description: Says hello.
  command: [echo, hello]
  args: [\"${whom}\"]
  timeout: 5m
  parameters:
    whom: {type: string, description: Whom to greet, required: true}
";

/// What a person sees, without what differs from run to run. What is told meanwhile counts only where a
/// command fails.
pub(super) fn seen(command: &str, said: &Said) -> String {
    let mut text = format!("$ toolcrib {command}\n{}", said.stdout);
    if said.code != 0 {
        text.push_str(&said.stderr);
        let _ = writeln!(text, "(exit {})", said.code);
    }
    normal(&text)
}

/// Times, digests and short ids replaced.
pub(super) fn normal(text: &str) -> String {
    let hex = |word: &str| word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut normal = String::new();
    for line in text.lines().filter(|line| !line.starts_with("last pass")) {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let length = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
            let (word, after) = rest.split_at(length.max(first.len_utf8()));
            let time = rest.get(..20).filter(|time| time.starts_with("20") && time.ends_with('Z'));
            match length {
                8 | 12 if hex(word) => normal.push_str("[SHORT]"),
                64 if hex(word) => normal.push_str("[DIGEST]"),
                4 if time.is_some() => normal.push_str("[TIME]"),
                _ => normal.push_str(word),
            }
            rest = if length == 4 && time.is_some() { &rest[20..] } else { after };
        }
        normal.truncate(normal.trim_end_matches(' ').len());
        normal.push('\n');
    }
    normal
}

fn run(env: &TestEnv, commands: &[&str]) -> String {
    let one = |command: &&str| seen(command, &env.run(&command.split_whitespace().collect::<Vec<_>>()));
    commands.iter().map(one).collect::<Vec<_>>().join("\n")
}

#[test]
#[expect(clippy::too_many_lines, reason = "a transcript is read as a whole")]
fn commands_that_need_only_the_repository() {
    let env = TestEnv::new();
    env.repo().write("runner.yaml", RUNNER).write("hello.yaml", TOOL).commit("tools");
    env.repo().write("hello.yaml", &TOOL.replace("Says hello.", "Says hello politely."));
    insta::assert_snapshot!(run(&env, &[
        "version",
        "validate",
        "validate --ref main",
        "plan --repo .",
        "diff",
        "policy test",
        "import nowhere.json",
        "connect claude-code --dry-run",
        "init made",
        "validate made",
    ]), @r#"
    $ toolcrib version
    toolcrib 0.1.0
    documents toolcrib.dev/v1alpha1
    MCP 2026-07-28, 2025-11-25, 2025-06-18, 2025-03-26, 2024-11-05

    $ toolcrib validate
    2 resources valid in main@sha1:[COMMIT]+dirty worktree

    $ toolcrib validate --ref main
    2 resources valid in main@sha1:[COMMIT]

    $ toolcrib plan --repo .
    Nothing to do: what runs is what is declared.

    $ toolcrib diff
    HEAD ([SHORT]) -> work tree ([SHORT]+dirty)

    Offered to clients: 1 changed
      ~ tool hello of Tool/hello at hello.yaml:1:1, ~+1 tokens: compatible
          description:
              Says hello
            +  politely
              .

    Context of a model: ~47 -> ~48 tokens (~+1), estimated within 35 %

    Resources: 1 changed
      ~ Tool/hello at hello.yaml:1:1: offers something else
          spec.description: Says hello. -> Says hello politely.  (hello.yaml:5)

    $ toolcrib policy test
    error: there is no test
    hint: write a rule `test_…` in a file `*_test.rego`
    (exit 1)

    $ toolcrib import nowhere.json
    error: failed to read `nowhere.json`
    caused by: No such file or directory (os error 2)
    (exit 1)

    $ toolcrib connect claude-code --dry-run
    Would change [HOME]/.claude.json:

    +{
    +  "mcpServers": {
    +    "toolcrib": {
    +      "type": "http",
    +      "url": "http://127.0.0.1:[PORT]/mcp"
    +    }
    +  }
    +}

    $ toolcrib init made
    wrote made/README.md
    wrote made/runner.yaml
    wrote made/tools/word-count.yaml
    wrote made/servers/clock.yaml
    wrote made/servers/clock.py
    wrote made/policies/guard.yaml
    wrote made/policies/guard.rego
    wrote made/policies/guard_test.rego
    wrote made/.github/workflows/toolcrib.yml
    wrote made/.toolcrib/resource.schema.json

    Commit them: what is served is what is committed.
    Next: toolcrib run --repo made

    $ toolcrib validate made
    4 resources valid in main@sha1:[COMMIT]+dirty worktree
    "#);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a transcript is read as a whole")]
fn commands_that_ask_a_daemon() {
    let env = TestEnv::new();
    env.repo().write("runner.yaml", RUNNER).write("hello.yaml", TOOL).commit("tools");
    let daemon = env.daemon(&[]);
    let one = |command: &str| {
        let mut args: Vec<&str> = command.split_whitespace().collect();
        args.extend(["--admin", daemon.admin_address()]);
        seen(command, &env.run(&args))
    };
    let all = [
        "reconcile --wait",
        "status",
        "get",
        "get tool/hello",
        "get server/nope",
        "tools",
        "tools hello",
        "call hello whom=Ada",
        "call hello",
        "call nope",
        "plan",
    ];
    insta::assert_snapshot!(all.map(one).join("\n"), @r#"
    $ toolcrib reconcile --wait
    everything that is declared is served

    $ toolcrib status
    repository  [REPO]
    served      main@sha1:[COMMIT]
    catalog     1 tool, 0 prompts, 0 resources, 0 templates (generation 1)
    MCP         http://127.0.0.1:[PORT]/mcp
    admin       http://127.0.0.1:[PORT]

    CONDITION     STATUS   REASON   SINCE                  MESSAGE
    Ready         True     Served   [TIME]   the newest revision is served
    Reconciling   False    Idle     [TIME]   -

    RESOURCE      READY   REASON   REVISION   RUNNING   MESSAGE
    Runner/here   True    Served   [SHORT]   -         in force
    Tool/hello    True    Served   [SHORT]   -         offered

    $ toolcrib get
    RESOURCE      READY   REASON   REVISION   RUNNING   MESSAGE
    Runner/here   True    Served   [SHORT]   -         in force
    Tool/hello    True    Served   [SHORT]   -         offered

    $ toolcrib get tool/hello
    Tool/hello
      declared   hello.yaml:1:1
      revision   main@sha1:[COMMIT]
      runner     here
      workload   sha256:[DIGEST]
      offer      sha256:[DIGEST]
      offers     hello

    Ready True (Served) since [TIME]
      offered

    Reconciling False (Idle) since [TIME]

    Stalled False (Idle) since [TIME]

    $ toolcrib get server/nope
    error: there is no Server/nope
    hint: `toolcrib get server` lists what there is
    (exit 1)

    $ toolcrib tools
    TOOL    FROM         DESCRIPTION
    hello   Tool/hello   Says hello.

    $ toolcrib tools hello
    hello (Tool/hello)

    Says hello.

    ARGUMENT   TYPE     REQUIRED   DESCRIPTION
    whom       string   yes        Whom to greet

    $ toolcrib call hello whom=Ada
    hello Ada

    $ toolcrib call hello
    error: tool `hello` failed
      | the arguments do not fit the tool's input schema: "whom" is a required property
    hint: `toolcrib tools hello` shows what it takes
    (exit 1)

    $ toolcrib call nope
    error: there is no tool `nope`
    hint: `toolcrib tools` lists what is served
    (exit 1)

    $ toolcrib plan
    Nothing to do: what runs is what is declared.
    "#);
}

/// A file with one mistake in it, and what `validate` says.
fn mistake(what: &str, file: &str) -> String {
    let env = TestEnv::new();
    env.repo().write("runner.yaml", RUNNER).write("hello.yaml", file).commit("x");
    let said = env.run(&["validate"]).stdout;
    let told = said.rsplit_once("\n\n").map_or(said.as_str(), |(told, _)| told);
    format!("## {what}\n{told}\n")
}

#[test]
#[expect(clippy::too_many_lines, reason = "a transcript is read as a whole")]
fn ten_mistakes_of_somebody_who_begins() {
    let with = |what: &str, from: &str, to: &str| {
        assert!(TOOL.contains(from), "{from}");
        mistake(what, &TOOL.replace(from, to))
    };
    let all = [
        with("a kind in lower case", "kind: Tool", "kind: tool"),
        with("another version", "/v1alpha1", "/v1"),
        with("a name with blanks", "name: hello", "name: My Tool"),
        with("a field abbreviated", "description: Says", "desc: Says"),
        with("a text for a list", "command: [echo, hello]", "command: kubectl"),
        with("a placeholder misspelt", "${whom}", "${whmo}"),
        with("a type of Python", "type: string", "type: str"),
        with("yes for true", "required: true", "required: yes"),
        with("a time in words", "timeout: 5m", "timeout: 5 minutes"),
        with("a tab", "  timeout: 5m", "\ttimeout: 5m"),
    ];
    insta::assert_snapshot!(all.join("\n"), @r#"
    ## a kind in lower case
    error[unknown-kind]: there is no kind `tool`
     --> hello.yaml:2:7
      |
    2 | kind: tool
      |       ^^^^
      = help: did you mean `Tool`?

    ## another version
    error[unknown-version]: `v1` is not a version of toolcrib.dev that is known here
     --> hello.yaml:1:13 (Tool/hello)
      |
    1 | apiVersion: toolcrib.dev/v1
      |             ^^^^^^^^^^^^^^^
      = help: write `apiVersion: toolcrib.dev/v1alpha1`

    ## a name with blanks
    error[invalid-value]: `My Tool` is not a name: 1 to 63 of a-z, 0-9 and `-`, beginning and ending with a letter or digit
     --> hello.yaml:3:18
      |
    3 | metadata: {name: My Tool}
      |                  ^^
      = help: write `my-tool`

    ## a field abbreviated
    error[unknown-field]: there is no field `desc` here
     --> hello.yaml:5:3 (Tool/hello)
      |
    5 |   desc: Says hello.
      |   ^^^^
      = help: did you mean `description`?

    ## a text for a list
    error[wrong-type]: expected a list, found the text `kubectl`
     --> hello.yaml:6:12 (Tool/hello)
      |
    6 |   command: kubectl
      |            ^^^^^^^
      = help: write `[kubectl]`, or one `- …` a line

    ## a placeholder misspelt
    error[placeholder]: there is no parameter `whmo`
     --> hello.yaml:7:10 (Tool/hello)
      |
    7 |   args: ["${whmo}"]
      |          ^^^^^^^^^
      = help: did you mean `whom`?

    warning[unused-parameter]: the parameter `whom` goes nowhere
      --> hello.yaml:10:5 (Tool/hello)
       |
    10 |     whom: {type: string, description: Whom to greet, required: true}
       |     ^^^^
       = help: put `${whom}` in `args` or `stdin`, or remove the parameter

    ## a type of Python
    error[unknown-value]: `str` is not a type
      --> hello.yaml:10:18 (Tool/hello)
       |
    10 |     whom: {type: str, description: Whom to greet, required: true}
       |                  ^^^
       = help: did you mean `string`?

    ## yes for true
    error[wrong-type]: `required` is neither true nor false
      --> hello.yaml:10:64 (Tool/hello)
       |
    10 |     whom: {type: string, description: Whom to greet, required: yes}
       |                                                                ^^^
       = help: write `required: true`; fields of an object are required in its own `inputSchema`

    ## a time in words
    error[invalid-value]: `5 minutes` is not a length of time such as 500ms, 90s, 5m or 1h
     --> hello.yaml:8:12 (Tool/hello)
      |
    8 |   timeout: 5 minutes
      |            ^

    ## a tab
    error[syntax]: tabs disallowed within this context (block indentation)
     --> hello.yaml:8:2 (Tool/hello)
      |
    8 |  timeout: 5m
      |  ^^^^^^^
      = help: indent with spaces
    "#);
}
