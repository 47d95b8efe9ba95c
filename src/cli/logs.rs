//! `logs`: what a resource's instances wrote to standard error.

use std::io::IsTerminal;
use std::time::Duration;

use bytes::Bytes;
use http::Method;

use super::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::render::{harmless, notice};
use super::target::Target;
use crate::resource::ResourceId;

/// Logs are in memory, or one engine away.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Show the last standard error of a resource, or the log of its failed build.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib logs server/weather
  toolcrib logs tool/report")]
pub(super) struct Logs {
    /// Which resource; a bare name is a server's.
    #[arg(value_name = "[KIND/]NAME")]
    resource: String,
    #[command(flatten)]
    target: Target,
}

impl Logs {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let id = server_or(&self.resource)?;
        let client = self.target.changes(context).await?;
        let path = format!("/api/v1/logs/{}/{}", id.kind, id.name);
        let bytes = client.bytes(Method::GET, &path, Bytes::new(), TIMEOUT).await?;
        let log = String::from_utf8_lossy(&bytes);
        if context.out.is_json() {
            context.out.json(&serde_json::json!({"resource": id, "log": log}))?;
        } else {
            if log.trim().is_empty() {
                notice(&format!("nothing is logged of {id}; what a tool prints is in its result\n"));
            }
            let shown = if std::io::stdout().is_terminal() { harmless(&log) } else { log.into_owned() };
            context.out.text(&shown)?;
        }
        Ok(Exit::Success)
    }
}

/// A resource as typed; a bare name is a server's.
///
/// # Errors
/// When it is neither.
pub(super) fn server_or(text: &str) -> CliResult<ResourceId> {
    if text.contains('/') { resource(text) } else { resource(&format!("server/{text}")) }
}

/// A resource as typed: `server/weather`.
///
/// # Errors
/// When it is not one.
fn resource(text: &str) -> CliResult<ResourceId> {
    ResourceId::parse(text).ok_or_else(|| {
        CliError::usage(format!("`{text}` does not name a resource"))
            .hint("write KIND/NAME, such as server/weather")
    })
}
