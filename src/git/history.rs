//! Who last changed some lines of a file.

use std::path::Path;

use git2::{BlameOptions, Oid, Repository};
use serde::Serialize;

use super::blocking;
use crate::manifest::{BlobId, RepoPath};
use crate::ports::{PortError, PortResult};

/// A commit that touched something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Touched {
    /// 40 hex digits.
    pub commit: String,
    /// `Name <address>`.
    pub author: String,
    /// Seconds since the Unix epoch.
    pub time: i64,
    /// The first line of its message.
    pub summary: String,
}

/// Lines of a file at a commit, counted from 1, the last one included.
#[derive(Clone, Debug)]
pub struct Lines {
    pub path: RepoPath,
    /// What the file holds: another content at the commit means edits that are not committed.
    pub blob: BlobId,
    pub commit: String,
    pub first: u32,
    pub last: u32,
}

/// The newest commit that touched one of the lines; none when the file is not committed like that.
///
/// # Errors
/// When the repository cannot be read.
pub async fn last_change(repository: &Path, lines: Lines) -> PortResult<Option<Touched>> {
    let folder = repository.to_owned();
    blocking(move || {
        look(&folder, &lines).map_err(|error| {
            PortError::stalled(format!("failed to read the history of `{}`", lines.path)).caused_by(error)
        })
    })
    .await
}

fn look(folder: &Path, lines: &Lines) -> Result<Option<Touched>, git2::Error> {
    let repository = Repository::discover(folder)?;
    let commit = Oid::from_str(&lines.commit)?;
    let path = Path::new(lines.path.as_str());
    let tree = repository.find_commit(commit)?.tree()?;
    let committed = tree.get_path(path).is_ok_and(|entry| entry.id().as_bytes() == lines.blob.0);
    if !committed {
        return Ok(None);
    }
    let mut options = BlameOptions::new();
    options
        .newest_commit(commit)
        .min_line(lines.first as usize)
        .max_line(lines.last.max(lines.first) as usize);
    let blame = repository.blame_file(path, Some(&mut options))?;
    let mut newest = None;
    for hunk in blame.iter() {
        let found = repository.find_commit(hunk.final_commit_id())?;
        let time = found.time().seconds();
        if newest.as_ref().is_none_or(|(before, _)| *before < time) {
            newest = Some((time, found));
        }
    }
    Ok(newest.map(|(time, commit)| {
        let author = commit.author();
        let (name, email) = (author.name_bytes(), author.email_bytes());
        Touched {
            commit: commit.id().to_string(),
            author: format!("{} <{}>", String::from_utf8_lossy(name), String::from_utf8_lossy(email)),
            time,
            summary: commit.summary_bytes().map(String::from_utf8_lossy).unwrap_or_default().into_owned(),
        }
    }))
}
