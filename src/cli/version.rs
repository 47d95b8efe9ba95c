//! `version`: of the program and of the protocol.

use serde_json::json;

use super::Context;
use super::error::CliResult;
use super::exit::Exit;
use crate::mcp::wire::VERSIONS;
use crate::resource::API_VERSION;

/// Print versions: of Toolcrib, of its documents, and of the protocol it speaks.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  toolcrib version --output json")]
pub(super) struct Version {}

impl Version {
    pub(super) fn execute(self, context: &Context) -> CliResult<Exit> {
        let Self {} = self;
        let version = env!("CARGO_PKG_VERSION");
        let protocols = VERSIONS;
        let value = json!({"version": version, "apiVersion": API_VERSION, "protocols": protocols});
        context.out.print(&value, || {
            format!("toolcrib {version}\ndocuments {API_VERSION}\nMCP {}\n", protocols.join(", "))
        })?;
        Ok(Exit::Success)
    }
}
