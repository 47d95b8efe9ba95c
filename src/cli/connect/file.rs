//! A client's file: read whole, kept beside, replaced at once.

#![expect(clippy::disallowed_methods, reason = "files of clients are read and written here")]

use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::cli::error::{CliError, CliResult};

/// Bytes of a client's file. Claude Code keeps its history in its own: some have tens of megabytes.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// The text of a file; none when there is no such file.
///
/// # Errors
/// When it cannot be read, or is no text.
pub(super) fn read(path: &Path) -> CliResult<Option<String>> {
    let failed = |error: &std::io::Error| {
        CliError::failure(format!("failed to read `{}`", path.display())).caused_by(error)
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    let mut text = String::new();
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(|error| failed(&error))?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(CliError::failure(format!(
            "`{}` has more than {} MiB",
            path.display(),
            MAX_FILE_BYTES >> 20
        )));
    }
    Ok(Some(text))
}

/// Replaces a file at once: whoever reads it sees the one text or the other. What it was is kept beside
/// it, with its permissions; where that is.
///
/// # Errors
/// When something cannot be written; then the file is as it was.
pub(super) fn replace(path: &Path, before: Option<&str>, after: &str) -> CliResult<Option<PathBuf>> {
    // Many keep their settings elsewhere and link to them: the link stays.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let failed = |what: &Path, error: std::io::Error| {
        CliError::failure(format!("failed to write `{}`", what.display())).caused_by(&error)
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    let permissions = path.metadata().ok().map(|metadata| metadata.permissions());
    let kept = match before {
        Some(before) => {
            let kept = beside(path, "toolcrib-backup");
            put(&kept, before, permissions.as_ref()).map_err(|error| failed(&kept, error))?;
            Some(kept)
        }
        None => None,
    };
    put(path, after, permissions.as_ref()).map_err(|error| failed(path, error))?;
    Ok(kept)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

/// Writes a whole file under another name and moves it to its place.
fn put(path: &Path, text: &str, permissions: Option<&Permissions>) -> std::io::Result<()> {
    let new = beside(path, &format!("{}.new", std::process::id()));
    let written = write(&new, text, permissions).and_then(|()| std::fs::rename(&new, path));
    if written.is_err() {
        // It is of no use, and may not even be there.
        let _ = std::fs::remove_file(&new);
    }
    written
}

fn write(path: &Path, text: &str, permissions: Option<&Permissions>) -> std::io::Result<()> {
    // Such files hold keys of other servers: nobody else reads them, unless that was so before.
    let mode = permissions.map_or(0o600, |permissions| permissions.mode() & 0o777);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}
