//! Files that commands write for whoever asks: all or none, and none in the place of another.

#![expect(clippy::disallowed_methods, reason = "files are written for whoever asked for it")]

use std::path::PathBuf;

use super::error::{CliError, CliResult};

/// A file to be written.
pub(super) struct Planned {
    pub(super) path: PathBuf,
    /// What is in it, for people; empty where the path says it.
    pub(super) what: String,
    pub(super) text: String,
}

/// # Errors
/// When one of the files is there and may not be replaced.
pub(super) fn check(planned: &[Planned], force: bool) -> CliResult<()> {
    let there: Vec<String> = planned
        .iter()
        .filter(|file| file.path.symlink_metadata().is_ok())
        .map(|file| file.path.display().to_string())
        .collect();
    if force || there.is_empty() {
        return Ok(());
    }
    Err(CliError::failure("files that are there would be replaced")
        .detail(Some(there.join("\n")))
        .hint("name another folder, or pass --force; nothing was written"))
}

/// # Errors
/// When a file cannot be written.
pub(super) fn write(planned: &[Planned]) -> CliResult<()> {
    for file in planned {
        let failed = |error: std::io::Error| {
            CliError::failure(format!("failed to write `{}`", file.path.display())).caused_by(&error)
        };
        if let Some(folder) = file.path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        std::fs::write(&file.path, &file.text).map_err(failed)?;
    }
    Ok(())
}
