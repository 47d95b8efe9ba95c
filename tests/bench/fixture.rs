//! Repositories to follow: bare, packed, one tool in each file.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use git2::build::TreeUpdateBuilder;
use git2::{FileMode, Repository, Signature};

/// A repository on the branch `main`.
pub(crate) struct Fixture {
    folder: tempfile::TempDir,
    repo: Repository,
}

impl Fixture {
    /// With a process runner, `tools` tools, and `extra` files.
    pub(crate) fn new(tools: usize, extra: &[(&str, &str)]) -> Self {
        Self::of((0..tools).map(|n| (file_of(n), tool(n, "as first written"))), extra)
    }

    /// `files` files of `each` tools.
    pub(crate) fn of_files(files: usize, each: usize) -> Self {
        Self::of((0..files).map(|file| (file_of(file), tools(file, each, "as first written"))), &[])
    }

    fn of(tools: impl Iterator<Item = (String, String)>, extra: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = git2::RepositoryInitOptions::new();
        options.bare(true).initial_head("main");
        let repo = Repository::init_opts(folder.path(), &options).unwrap();
        let fixture = Self { folder, repo };
        let mut files = vec![("runner.yaml".to_owned(), RUNNER.to_owned())];
        files.extend(tools);
        files.extend(extra.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())));
        fixture.stage(&files).apply();
        // As a clone has it: one pack.
        let packed = Command::new("git").arg("-C").arg(fixture.path()).args(["repack", "-adq"]).status();
        assert!(packed.unwrap().success());
        fixture
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A commit with these files changed, everything but the branch written.
    pub(crate) fn stage(&self, files: &[(String, String)]) -> Staged<'_> {
        let parent = self.repo.head().ok().map(|head| head.peel_to_commit().unwrap());
        let empty = || self.repo.find_tree(self.repo.treebuilder(None).unwrap().write().unwrap()).unwrap();
        let base = parent.as_ref().map_or_else(empty, |parent| parent.tree().unwrap());
        let mut update = TreeUpdateBuilder::new();
        for (path, text) in files {
            update.upsert(path.as_str(), self.repo.blob(text.as_bytes()).unwrap(), FileMode::Blob);
        }
        let tree = self.repo.find_tree(update.create_updated(&self.repo, &base).unwrap()).unwrap();
        let author = Signature::now("Bench", "bench@example.com").unwrap();
        let parents: Vec<_> = parent.iter().collect();
        let commit = self.repo.commit(None, &author, &author, "bench", &tree, &parents).unwrap();
        Staged { repo: &self.repo, commit }
    }
}

/// A commit that no branch names yet.
pub(crate) struct Staged<'a> {
    repo: &'a Repository,
    commit: git2::Oid,
}

impl Staged<'_> {
    /// Moves the branch: this is the moment of the commit.
    pub(crate) fn apply(&self) {
        self.repo.reference("refs/heads/main", self.commit, true, "bench").unwrap();
    }
}

const RUNNER: &str = "\
apiVersion: toolcrib.dev/v1alpha1
kind: Runner
metadata:
  name: here
spec:
  process: {}
";

/// Where tool `n` is declared: a hundred in a folder.
pub(crate) fn file_of(n: usize) -> String {
    format!("tools/{:03}/{n:05}.yaml", n / 100)
}

/// The tools of one file of several.
pub(crate) fn tools(file: usize, each: usize, description: &str) -> String {
    let all: Vec<String> = (0..each).map(|at| tool(file * each + at, description)).collect();
    all.join("---\n")
}

/// Tool `n` with a description of its own.
pub(crate) fn tool(n: usize, description: &str) -> String {
    let mut text = String::new();
    write!(
        text,
        "apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata:
  name: tool-{n:05}
  labels:
    team: weather
spec:
  description: Looks up the forecast of a city, {description}
  command: [/bin/echo]
  args: [{{if: days, args: [--days, \"${{days}}\"]}}, \"--\", \"${{city}}\"]
  parameters:
    city:
      type: string
      description: The city to look up
    days:
      type: integer
      minimum: 1
      maximum: 14
  timeout: 30s
"
    )
    .unwrap();
    text
}
