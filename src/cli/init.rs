//! `init`: a repository to begin with, that works at once.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::files::{self, Planned};
use crate::daemon;
use crate::reference;

/// The schema of all documents, by which editors complete and explain them.
const SCHEMA: &str = ".toolcrib/resource.schema.json";

/// What the first commit says.
const MESSAGE: &str = "Begin with a tool, a server and a policy";

/// The files by their path. Those of ours begin with the line by which editors find their schema.
const FILES: [(&str, &str); 8] = [
    ("README.md", include_str!("init/template/README.md")),
    ("runner.yaml", include_str!("init/template/runner.yaml")),
    ("tools/word-count.yaml", include_str!("init/template/tools/word-count.yaml")),
    ("servers/clock.yaml", include_str!("init/template/servers/clock.yaml")),
    ("servers/clock.py", include_str!("init/template/servers/clock.py")),
    ("policies/guard.yaml", include_str!("init/template/policies/guard.yaml")),
    ("policies/guard.rego", include_str!("init/template/policies/guard.rego")),
    ("policies/guard_test.rego", include_str!("init/template/policies/guard_test.rego")),
];

/// Who runs the checks of pull requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Ci {
    #[default]
    Github,
    Gitlab,
    None,
}

/// Make a new repository that works at once.
///
/// It has a tool, a server, a policy with its test, and checks for pull requests, and needs no Docker.
///
/// In a folder that is in no Git repository one is made, with a first
/// commit; elsewhere the files are written and the commit is yours.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib init tools && toolcrib run --repo tools
  toolcrib init                                      in this folder
  toolcrib init --ci gitlab")]
pub(super) struct Init {
    /// The folder [default: this one].
    #[arg(value_name = "DIR", default_value = ".", hide_default_value = true)]
    folder: PathBuf,
    /// Who runs the checks of pull requests.
    #[arg(long, value_enum, default_value_t)]
    ci: Ci,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
}

impl Init {
    pub(super) fn execute(self, context: &Context) -> CliResult<Exit> {
        let planned = self.planned();
        files::check(&planned, self.force)?;
        files::write(&planned)?;
        let folder = self.folder.canonicalize().map_err(|error| {
            CliError::failure(format!("failed to find `{}`", self.folder.display())).caused_by(&error)
        })?;
        let made = !folder.ancestors().any(|parent| parent.join(".git").exists());
        let commit = if made { Some(daemon::source::create(&folder, MESSAGE)?) } else { None };
        let paths: Vec<&Path> = planned.iter().map(|file| file.path.as_path()).collect();
        let value = json!({"folder": folder, "files": paths, "repository": made, "commit": commit});
        context.out.print(&value, || self.said(&planned, made))?;
        Ok(Exit::Success)
    }

    fn planned(&self) -> Vec<Planned> {
        let ci = match self.ci {
            Ci::Github => Some((".github/workflows/toolcrib.yml", include_str!("init/template/github.yml"))),
            Ci::Gitlab => Some((".gitlab-ci.yml", include_str!("init/template/gitlab.yml"))),
            Ci::None => None,
        };
        let planned = |(path, text): (&str, &str)| {
            let ours = text.contains("\napiVersion: toolcrib.dev/");
            let up = "../".repeat(path.matches('/').count());
            let line = format!("# yaml-language-server: $schema={up}{SCHEMA}");
            let text = if ours { format!("{line}\n\n{text}") } else { text.to_owned() };
            Planned { path: self.folder.join(path), what: String::new(), text }
        };
        let schema = format!("{:#}\n", reference::any());
        let schema = Planned { path: self.folder.join(SCHEMA), what: String::new(), text: schema };
        FILES.into_iter().chain(ci).map(planned).chain([schema]).collect()
    }

    fn said(&self, planned: &[Planned], made: bool) -> String {
        let mut text = String::new();
        for file in planned {
            let _ = writeln!(text, "wrote {}", file.path.display());
        }
        let folder = self.folder.display();
        text.push_str(if made {
            "\nMade a Git repository, and committed them.\n"
        } else {
            "\nCommit them: what is served is what is committed.\n"
        });
        let _ = writeln!(text, "Next: toolcrib run --repo {folder}");
        text
    }
}
