//! Which daemon a command speaks to.

use std::path::{Path, PathBuf};

use super::Context;
use super::client::Client;
use super::error::{CliError, CliResult};
use crate::config::raw::variable;
use crate::config::{DEFAULT_ADMIN, SOCKET};
use crate::status::Status;

/// The daemon to speak to.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Daemon")]
pub(super) struct Target {
    /// Admin address of the daemon [default: 127.0.0.1:7801].
    #[arg(long, value_name = "ADDR", env = variable::ADMIN, hide_env_values = true)]
    pub(super) admin: Option<String>,
    /// State directory of the daemon; its socket is used instead of the address.
    #[arg(long, value_name = "DIR", env = variable::STATE, hide_env_values = true)]
    pub(super) state: Option<PathBuf>,
}

impl Target {
    /// A connection that can be read from.
    pub(super) fn reads(&self, context: &Context) -> Client {
        let state = self.state.as_deref().or(context.file.state.as_deref());
        let admin = self.admin.as_deref().or(context.file.admin.as_deref()).unwrap_or(DEFAULT_ADMIN);
        state.map_or_else(|| Client::tcp(admin), |state| Client::socket(&state.join(SOCKET)))
    }

    /// A connection that takes changes: the socket of the same daemon.
    ///
    /// # Errors
    /// When the daemon does not answer, or its socket is not ours to open.
    pub(super) async fn changes(&self, context: &Context) -> CliResult<Client> {
        let reads = self.reads(context);
        if reads.is_socket() {
            return Ok(reads);
        }
        let status: Status = reads.get_json("/api/v1/status").await?;
        let socket = Path::new(&status.daemon.socket);
        if !socket.is_absolute() || !socket.exists() {
            return Err(CliError::failure(
                "the daemon takes changes only over its socket, which is not here",
            )
            .hint("run this on the daemon's machine as its user, or name its state directory with --state"));
        }
        Ok(Client::socket(socket))
    }
}
