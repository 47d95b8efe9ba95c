//! What people see of the commands beside those of `transcripts`: on what `init` makes, with and without a
//! daemon. And that no command is left without a transcript.

use super::transcripts::{normal, seen};
use crate::support::TestEnv;

fn made() -> TestEnv {
    let env = TestEnv::new();
    assert_eq!(env.run(&["init"]).code, 0);
    env.repo().commit("begin");
    env
}

/// Words, where single quotes hold blanks together.
fn words(command: &str) -> Vec<String> {
    let parts = command.split('\'').enumerate();
    parts
        .flat_map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

fn said(env: &TestEnv, command: &str, more: &[&str]) -> String {
    let words = words(command);
    let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
    // Before `--` comes what is ours.
    let at = args.iter().position(|word| *word == "--").unwrap_or(args.len());
    args.splice(at..at, more.iter().copied());
    let said = env.run(&args);
    let text = seen(command, &said);
    // What is told beside the output belongs to what a person sees.
    if said.code == 0 { text + &normal(&said.stderr) } else { text }
}

/// A secret is another one each time.
fn without_token(text: &str) -> String {
    let line = |line: &str| match line.split_once("toolcrib_") {
        Some((before, _)) => format!("{before}toolcrib_[TOKEN]"),
        None => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn what_init_made_is_tested_locked_and_looked_at() {
    let env = made();
    let head = |text: String, lines: usize| text.lines().take(lines).collect::<Vec<_>>().join("\n") + "\n…\n";
    let mut all = vec![said(&env, "test", &[])];
    for command in [
        "policy test --coverage",
        "policy eval word-count --user ada --arg text=x",
        "tree",
        "trace word-count",
        "explain tool.timeout",
        "explain tool.tiemout",
        "lock --check",
        "lock",
        "lock --check",
        "lock nope",
        "update --dry-run",
        "trace clock_now",
        "probe -- python3 servers/clock.py",
        "export --format server-json",
        "export --format server-json --name io.github.acme/tools",
        "export --format servers --namespace io.github.acme",
        "import tools/word-count.yaml",
        "connect nope",
    ] {
        all.push(said(&env, command, &[]));
    }
    all.push(head(said(&env, "explain", &[]), 4));
    all.push(head(said(&env, "completions bash", &[]), 2));
    all.push(without_token(&said(&env, "token ada --group operators", &[])));
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn one_pass_and_what_it_left() {
    let env = made();
    let state = env.state();
    let at = ["--repo", ".", "--state", state.to_str().unwrap()];
    let doctor = said(&env, "doctor", &at);
    // The engine, and what ports are free, are of the machine.
    let own =
        |line: &&str| line.starts_with("repository") || line.starts_with("state") || line.starts_with('$');
    let one = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let doctor: Vec<String> = doctor.lines().filter(own).map(one).collect();
    // What is told meanwhile is a log, with times.
    let apply = seen("apply", &env.run(&[&["apply"][..], &at].concat()));
    insta::assert_snapshot!([doctor.join("\n") + "\n", apply].join("\n"));
}

#[test]
fn a_daemon_is_asked_why_and_by_whom() {
    let env = made();
    let daemon = env.daemon(&[]);
    let at = ["--admin", daemon.admin_address()];
    assert_eq!(env.run(&["reconcile", "--wait", at[0], at[1]]).code, 0);
    let commands = [
        "tools",
        "call word-count text=x",
        "why word-count",
        "why word-cuont",
        "why clock_now --user eve --group guests",
        "logs server/clock",
        "logs server/nope",
        "audit",
        "reconcile --suspend",
        "reconcile --resume",
        "volumes list",
        "volumes delete here/data",
        "volumes delete data",
        "authorizations list",
        "authorizations start clock",
        "authorizations revoke clock",
    ];
    let all = commands.map(|command| said(&env, command, &at)).join("\n");
    // How long a call took is another time each time, and as wide as it is.
    let timed = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.iter().position(|word| *word == "success" || *word == "OUTCOME") {
            Some(at) => [words[..=at].join(" "), words[at + 2..].join(" ")].join(" … ") + "\n",
            None => format!("{line}\n"),
        }
    };
    insta::assert_snapshot!(all.lines().map(timed).collect::<String>());
}

#[test]
fn no_command_is_without_a_transcript() {
    let env = TestEnv::new();
    let shown: String =
        [include_str!("transcripts.rs"), include_str!("diff.rs"), include_str!("sessions.rs")].concat();
    // `run` and `stdio` end when their client does: they are spoken with in `follow`, `help` is in `cli`.
    for name in env.commands().iter().filter(|name| !matches!(name.as_str(), "run" | "stdio" | "help")) {
        let typed = [format!("\"{name}\""), format!("\"{name} ")];
        assert!(typed.iter().any(|typed| shown.contains(typed)), "`{name}` has no transcript");
    }
}
