//! A commit of some files, and of nothing else that is staged or edited.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use git2::build::TreeUpdateBuilder;
use git2::{FileMode, Repository, Signature};

use super::{RefName, blocking, refused};
use crate::manifest::RepoPath;
use crate::ports::{PortError, PortResult};

/// What is committed.
#[derive(Clone, Debug)]
pub struct Commit {
    /// By path in the repository; none: the file is removed.
    pub files: BTreeMap<RepoPath, Option<Vec<u8>>>,
    pub message: String,
    /// The branch that gets the commit, made where `HEAD` is when there is none. None: the one that is
    /// checked out, whose work tree then has the files too.
    pub branch: Option<String>,
    /// None: `user.name` and `user.email` of the repository's configuration.
    pub author: Option<Author>,
}

/// `Name <address>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    pub name: String,
    pub email: String,
}

impl Author {
    /// From `Name <address>`.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once('<')?;
        let (name, email) = (name.trim(), rest.trim().strip_suffix('>')?.trim());
        let fits = |part: &str| !part.is_empty() && !part.contains(['<', '>', '\n', '\0']);
        (fits(name) && fits(email)).then(|| Self { name: name.to_owned(), email: email.to_owned() })
    }
}

/// The commit that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// 40 hex digits; none when the branch had all of it already.
    pub commit: Option<String>,
    /// `main`.
    pub branch: String,
}

/// Writes a commit onto a branch of a local repository. Hooks are not run.
///
/// # Errors
/// When the repository, its branch or an author is missing, or the branch moved meanwhile.
pub async fn write_commit(repository: &Path, commit: Commit) -> PortResult<Committed> {
    let folder = repository.to_owned();
    blocking(move || write(&folder, &commit)).await
}

fn failed(error: git2::Error) -> PortError {
    PortError::stalled("failed to write a commit").caused_by(error)
}

fn write(folder: &PathBuf, commit: &Commit) -> PortResult<Committed> {
    let repository = Repository::discover(folder).map_err(failed)?;
    let head = repository
        .head()
        .map_err(|error| failed(error).hint("commit something first: there is no commit to stand on"))?;
    let checked_out = head.shorthand().ok().filter(|_| head.is_branch()).map(str::to_owned);
    let branch = match (&commit.branch, &checked_out) {
        (Some(branch), _) => {
            RefName::parse(branch).map_err(refused)?;
            branch.clone()
        }
        (None, Some(branch)) => branch.clone(),
        (None, None) => {
            return Err(PortError::stalled("failed to write a commit: no branch is checked out")
                .hint("name one with --branch"));
        }
    };
    let name = format!("refs/heads/{branch}");
    let parent = match repository.find_reference(&name) {
        Ok(tip) => tip.peel_to_commit().map_err(failed)?,
        Err(_) => head.peel_to_commit().map_err(failed)?,
    };
    let old = parent.tree().map_err(failed)?;
    let mut update = TreeUpdateBuilder::new();
    for (path, text) in &commit.files {
        match text {
            Some(text) => {
                update.upsert(path.as_str(), repository.blob(text).map_err(failed)?, FileMode::Blob);
            }
            None if old.get_path(Path::new(path.as_str())).is_ok() => {
                update.remove(path.as_str());
            }
            None => {}
        }
    }
    let tree = update.create_updated(&repository, &old).map_err(failed)?;
    if tree == old.id() {
        return Ok(Committed { commit: None, branch });
    }
    let tree = repository.find_tree(tree).map_err(failed)?;
    let author = author(&repository, commit.author.as_ref())?;
    // The reference is moved only from the commit that was read: who came between is not lost.
    let id = repository.commit(Some(&name), &author, &author, &commit.message, &tree, &[&parent]);
    let id = id.map_err(|error| failed(error).hint("the branch moved meanwhile: try again"))?;
    if checked_out.as_ref() == Some(&branch) {
        stage(&repository, commit).map_err(failed)?;
    }
    Ok(Committed { commit: Some(id.to_string()), branch })
}

/// Puts the files of the commit in the index, so that the work tree does not seem to undo it.
fn stage(repository: &Repository, commit: &Commit) -> Result<(), git2::Error> {
    let mut index = repository.index()?;
    for (path, text) in &commit.files {
        let path = Path::new(path.as_str());
        match text {
            Some(_) => index.add_path(path)?,
            None => index.remove_path(path)?,
        }
    }
    index.write()
}

fn author<'a>(repository: &Repository, author: Option<&Author>) -> PortResult<Signature<'a>> {
    if let Some(Author { name, email }) = author {
        return Signature::now(name, email).map_err(failed);
    }
    let signature = repository.signature().map_err(|error| {
        failed(error).hint("name an author with --author \"Name <address>\", or set user.name and user.email")
    })?;
    Ok(signature.to_owned())
}
