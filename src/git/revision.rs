//! Commits of a local repository as people name them: whatever `git rev-parse` understands.

use std::path::Path;

use super::objects::{from_git, open};
use crate::ports::{PortError, PortResult};

/// Bytes of what may be typed as a revision.
const MAX_REVISION: usize = 1024;

/// The commit that `text` names: `main`, `v1.2`, `HEAD~3`, `main@{upstream}`, the first digits of an id.
///
/// # Errors
/// When the repository cannot be opened, or nothing is called so.
pub fn commit(repository: &Path, text: &str) -> PortResult<String> {
    let failed = || format!("failed to find the revision `{}`", text.escape_debug());
    if text.is_empty() || text.len() > MAX_REVISION || text.starts_with('-') {
        return Err(PortError::stalled(failed()).hint("name a branch, a tag or a commit, such as `HEAD~1`"));
    }
    let repository = open(repository)?;
    let found = repository.revparse_single(text).and_then(|found| found.peel_to_commit());
    found.map(|commit| commit.id().to_string()).map_err(|error| {
        let hint = if repository.is_shallow() {
            "this clone has not the whole history: fetch it with `git fetch --unshallow`, \
             or check out with `fetch-depth: 0`"
        } else {
            "name a branch, a tag or a commit: `git log --oneline` shows them"
        };
        from_git(failed(), error).hint(hint)
    })
}

/// The commit where two branches parted.
///
/// # Errors
/// When the repository cannot be opened, or they have nothing in common.
pub fn merge_base(repository: &Path, one: &str, other: &str) -> PortResult<String> {
    let failed = || format!("failed to find where `{one}` and `{other}` parted");
    let (one, other) = (commit(repository, one)?, commit(repository, other)?);
    let repository = open(repository)?;
    let id = |text: &str| git2::Oid::from_str(text).map_err(|error| from_git(failed(), error));
    let base = repository.merge_base(id(&one)?, id(&other)?);
    base.map(|base| base.to_string()).map_err(|error| {
        let hint = if repository.is_shallow() {
            "this clone has not the whole history: fetch it with `git fetch --unshallow`, \
             or check out with `fetch-depth: 0`"
        } else {
            "they share no commit: compare them with two dots"
        };
        from_git(failed(), error).hint(hint)
    })
}
