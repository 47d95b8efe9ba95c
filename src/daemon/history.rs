//! The history of a local repository, for those who ask where something comes from.

use std::path::Path;

use crate::ports::PortResult;

pub use crate::git::{Lines, Touched};

/// The newest commit that touched one of the lines.
///
/// # Errors
/// When the repository cannot be read.
pub async fn last_change(repository: &Path, lines: Lines) -> PortResult<Option<Touched>> {
    crate::git::last_change(repository, lines).await
}
