//! A repository made with the `git` of this machine, with nobody's configuration.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A repository with a work tree, on the branch `main`.
pub(crate) struct Repo {
    path: PathBuf,
    _folder: Option<tempfile::TempDir>,
}

impl Repo {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let repo = Self { path, _folder: Some(folder) };
        repo.git(&["init", "-q", "-b", "main"]);
        repo
    }

    /// One that is there already, such as a linked work tree.
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), _folder: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn write(&self, file: &str, text: &str) -> &Self {
        let place = self.path.join(file);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(place, text).unwrap();
        self
    }

    /// Commits everything; the id of the commit.
    pub(crate) fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        let output = git(&self.path).args(args).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

/// `git` with a fixed author and no configuration but the repository's.
pub(crate) fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "T").env(format!("GIT_{role}_EMAIL"), "t@example.com");
    }
    command
}
