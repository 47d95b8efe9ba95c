//! A new repository of the user's own.

use std::path::Path;

use git2::{IndexAddOption, Repository, RepositoryInitOptions, Signature};

use crate::ports::{PortError, PortResult};

/// Who commits where the user's configuration names nobody.
const NAME: &str = "toolcrib";
const EMAIL: &str = "toolcrib@localhost";

/// Makes a repository of a folder, on the branch `main`, and commits everything in it. The commit is the
/// user's, as far as the configuration names one; its id.
///
/// # Errors
/// When the folder cannot be written, or is a repository already.
pub fn create(folder: &Path, message: &str) -> PortResult<String> {
    let made = || -> Result<String, git2::Error> {
        let mut options = RepositoryInitOptions::new();
        options.initial_head("main").no_reinit(true).external_template(false);
        let repository = Repository::init_opts(folder, &options)?;
        let mut index = repository.index()?;
        index.add_all(["*"], IndexAddOption::DEFAULT, None)?;
        index.write()?;
        let tree = repository.find_tree(index.write_tree()?)?;
        let author = repository.signature().or_else(|_| Signature::now(NAME, EMAIL))?;
        let commit = repository.commit(Some("HEAD"), &author, &author, message, &tree, &[])?;
        Ok(commit.to_string())
    };
    made().map_err(|error| {
        PortError::stalled(format!("failed to make a repository of `{}`", folder.display()))
            .caused_by(error)
            .hint("run `git init` in it and commit the files")
    })
}
