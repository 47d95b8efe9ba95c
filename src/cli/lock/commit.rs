//! A commit of what was written: by whom, where and with which words.

use std::path::Path;

use crate::cli::error::{CliError, CliResult};
use crate::cli::lock::write::File;
use crate::cli::render::notice;
use crate::daemon;

/// Whether and how what is written is committed.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct CommitArgs {
    /// Commit what is written, and nothing else.
    #[arg(long)]
    pub(in crate::cli) commit: bool,
    /// Message of the commit [default: what was written].
    #[arg(long, value_name = "TEXT", requires = "commit")]
    message: Option<String>,
    /// Branch that gets the commit [default: the one that is checked out].
    #[arg(long, value_name = "BRANCH", requires = "commit")]
    pub(in crate::cli) branch: Option<String>,
    /// Author of the commit [default: as Git is configured].
    #[arg(long, value_name = "NAME <ADDRESS>", requires = "commit")]
    author: Option<String>,
}

impl CommitArgs {
    /// The author, when one is named.
    pub(in crate::cli) fn author(&self) -> CliResult<Option<daemon::lock::Author>> {
        let parse = |author: &str| {
            daemon::lock::Author::parse(author).ok_or_else(|| {
                CliError::usage(format!("`{author}` is not an author")).hint("write \"Name <address>\"")
            })
        };
        self.author.as_deref().map(parse).transpose()
    }

    /// Commits these files, if that was asked for. `message` is used where none was given.
    pub(in crate::cli) async fn apply(
        &self,
        root: &Path,
        files: Vec<File>,
        message: String,
    ) -> CliResult<()> {
        if !self.commit {
            return Ok(());
        }
        let message = self.message.clone().unwrap_or(message);
        let (branch, author) = (self.branch.clone(), self.author()?);
        let files = files.into_iter().collect();
        let made =
            daemon::lock::commit(root, daemon::lock::Commit { files, message, branch, author }).await?;
        if let Some(id) = made.commit {
            let short = id.get(..8).unwrap_or(&id);
            notice(&format!("committed {short} to {}\n", made.branch));
        } else {
            notice(&format!("nothing to commit: {} has all of it\n", made.branch));
        }
        Ok(())
    }
}
