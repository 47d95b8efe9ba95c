//! Whom our own clients trust besides the authorities of the system.

#![expect(clippy::disallowed_methods, reason = "the file of certificates is read")]

use std::path::PathBuf;

use super::Context;
use super::error::{CliError, CliResult};
use crate::config::raw::variable;

/// Bytes of the file: a system's authorities have some 200 KiB.
const MAX_FILE: u64 = 4 << 20;

/// Certificates of authorities.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Trust {
    /// Certificates of authorities (PEM) trusted besides the system's.
    #[arg(long, value_name = "FILE", env = variable::CA_FILE, hide_env_values = true)]
    pub(super) ca_file: Option<PathBuf>,
}

impl Trust {
    /// The certificates; none are no bytes.
    ///
    /// # Errors
    /// When the file cannot be read or holds none.
    pub(super) fn read(&self, context: &Context) -> CliResult<Vec<u8>> {
        let Some(path) = self.ca_file.as_deref().or(context.file.ca_file.as_deref()) else {
            return Ok(Vec::new());
        };
        let failed = || {
            CliError::usage(format!("`--ca-file`: no certificates can be read from `{}`", path.display()))
                .hint("give the path of a PEM file: blocks that begin with -----BEGIN CERTIFICATE-----")
        };
        let size = std::fs::metadata(path).map_err(|error| failed().caused_by(&error))?.len();
        if size > MAX_FILE {
            return Err(failed().cause("it has more than 4 MiB"));
        }
        let bytes = std::fs::read(path).map_err(|error| failed().caused_by(&error))?;
        let begins = b"-----BEGIN CERTIFICATE-----";
        if !bytes.windows(begins.len()).any(|window| window == begins) {
            return Err(failed().cause("it holds none"));
        }
        Ok(bytes)
    }
}
