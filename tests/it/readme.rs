//! What README.md says is run as it stands.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests read and copy files, and may fail"
)]

use std::path::Path;

use crate::support::{Daemon, TestEnv};

/// One fenced block: its language and its text.
struct Block {
    language: String,
    text: String,
}

fn blocks(markdown: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for line in markdown.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(Block { language: language.to_owned(), text: String::new() });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

/// The folder the resources of README.md are written to.
const DECLARED: &str = "readme";

/// A clone of this repository, as far as the README speaks of it, and the daemon that runs last.
struct Reader {
    env: TestEnv,
    daemon: Option<Daemon>,
    declared: usize,
    served: usize,
}

impl Reader {
    fn new() -> Self {
        let env = TestEnv::new();
        for folder in ["examples", "policies"] {
            copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &env.repo().path().join(folder));
        }
        env.repo().commit("clone");
        Self { env, daemon: None, declared: 0, served: 0 }
    }

    fn declare(&mut self, text: &str) {
        self.declared += 1;
        self.env.repo().write(&format!("{DECLARED}/{}.yaml", self.declared), text).commit("declare");
    }

    fn start(&mut self, args: &[&str]) {
        // Two daemons share no state directory.
        drop(self.daemon.take());
        self.daemon = Some(self.env.daemon(args));
    }

    /// One line after `$ `.
    fn command(&mut self, line: &str) {
        let program = ["cargo run --release -- ", "target/release/toolcrib ", "toolcrib "];
        let Some(args) = program.iter().find_map(|program| line.strip_prefix(program)) else {
            panic!("README.md runs something else: {line}");
        };
        let args: Vec<&str> = args.split_whitespace().collect();
        if args[0] == "run" {
            let more = args[1..].strip_prefix(&["--repo", "."]).expect("it follows this clone");
            self.start(more);
            return;
        }
        if self.served < self.declared {
            self.start(&["--path", DECLARED, "--name", "declared"]);
            self.served = self.declared;
        }
        let admin = self.daemon.as_ref().unwrap().admin_address().to_owned();
        let folder = if self.declared > 0 && args == ["validate"] { DECLARED } else { "." };
        let mut command = self.env.command(&args);
        command.current_dir(self.env.repo().path().join(folder));
        command.env("TOOLCRIB_ADMIN", if args[0] == "doctor" { "127.0.0.1:0" } else { &admin });
        command.env("TOOLCRIB_LISTEN", "127.0.0.1:0");
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).join("\n");
        assert!(output.status.success(), "{line}: {said}");
        assert!(!said.trim().is_empty(), "{line} says nothing");
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn its_commands_run_and_its_resources_are_valid() {
    let markdown = include_str!("../../README.md");
    let mut reader = Reader::new();
    let (mut commands, mut configurations) = (0, 0);
    for block in blocks(markdown) {
        match block.language.as_str() {
            "console" => {
                for line in block.text.lines() {
                    reader.command(
                        line.strip_prefix("$ ").expect("a line of a console block begins with `$ `"),
                    );
                    commands += 1;
                }
            }
            "yaml" if block.text.contains("apiVersion:") => reader.declare(&block.text),
            "yaml" => {
                toolcrib::config::Settings::parse(&block.text).unwrap();
                configurations += 1;
            }
            other => panic!("a block of README.md is `{other}`"),
        }
    }
    assert!(commands >= 6 && reader.declared >= 3 && configurations == 1);
    let said = reader.env.run(&["validate", DECLARED]);
    assert_eq!(said.code, 0, "{}", said.all());
}

#[test]
fn every_setting_and_every_command_is_in_it() {
    let markdown = include_str!("../../README.md");
    let env = TestEnv::new();
    let help = env.run(&["run", "--help"]).stdout;
    let flags = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
    let flags = flags.map(|flag| flag.split([' ', '[', '<']).next().unwrap());
    for flag in flags.filter(|flag| !["config", "help"].contains(flag)) {
        assert!(markdown.contains(&format!("`{flag}`")), "README.md does not name the setting `{flag}`");
    }
    for command in env.commands() {
        let named = command == "help" || markdown.contains(&format!("| `{command}"));
        assert!(named, "README.md does not name the command `{command}`");
    }
}
