//! `probe`: what a server offers that nobody declared.

use super::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use crate::resource::Period;

/// Ask a server that nobody declared what it offers, and leave nothing behind.
///
/// An image is tried over stdio (with MCP_TRANSPORT=stdio), then over HTTP on the usual paths.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib probe http://127.0.0.1:8000/mcp
  toolcrib probe mcp/time:latest
  toolcrib probe -- uvx mcp-server-time
  toolcrib probe --output json mcp/time:latest > record.json")]
pub(super) struct Probe {
    /// An image, an http address, or (after --) a command and its arguments.
    #[arg(value_name = "IMAGE|URL|COMMAND", required = true, num_args = 1.., trailing_var_arg = true)]
    what: Vec<String>,
    /// How long all of it may take.
    #[arg(long, value_name = "PERIOD", default_value = "120s")]
    timeout: String,
}

impl Probe {
    pub(super) async fn execute(self, _context: &Context) -> CliResult<Exit> {
        let Period(_limit) = Period::parse(&self.timeout)
            .map_err(|error| CliError::usage(format!("`--timeout`: {error}")).hint("write 30s or 2m"))?;
        Err(CliError::failure("not here yet"))
    }
}
