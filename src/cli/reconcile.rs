//! `reconcile`: the manual trigger.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use super::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::logs::server_or;
use super::target::Target;
use crate::admin::{ReconcileReply, ReconcileRequest};

/// Of what is answered at once.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Longer than the daemon waits for the end of a pass.
const WAIT_TIMEOUT: Duration = Duration::from_secs(3700);

/// Tell the daemon to look at the repository now.
///
/// What differs from what was last applied is corrected, also where `sync.drift` is `report`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib reconcile                            now instead of at the next interval
  toolcrib reconcile --wait                     and wait until it is done
  toolcrib reconcile --rebuild server/weather   build its image again
  toolcrib reconcile --suspend                  hold all passes back; --resume lets them go on")]
pub(super) struct Reconcile {
    /// Build this resource's image again although nothing changed; a bare name is a server's.
    #[arg(long, value_name = "NAME")]
    rebuild: Option<String>,
    /// Wait until the pass ended; code 1 when a step of it failed.
    #[arg(long)]
    wait: bool,
    /// Let the plan with this hash prune above its budget; `toolcrib plan` shows the hash.
    #[arg(long, value_name = "HASH", value_parser = approved)]
    approve: Option<crate::resource::Digest>,
    /// Hold passes back.
    #[arg(long, conflicts_with_all = ["rebuild", "wait"])]
    suspend: bool,
    /// Let passes go on.
    #[arg(long, conflicts_with_all = ["rebuild", "wait", "suspend"])]
    resume: bool,
    #[command(flatten)]
    target: Target,
}

impl Reconcile {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let rebuild = self.rebuild.as_deref().map(server_or).transpose()?;
        let client = self.target.changes(context).await?;
        if self.suspend || self.resume {
            let path = if self.suspend { "/api/v1/suspend" } else { "/api/v1/resume" };
            client.json::<Value>(Method::POST, path, Bytes::new(), TIMEOUT).await?;
            let text = if self.suspend { "passes are suspended\n" } else { "passes go on\n" };
            context.out.print(&serde_json::json!({"suspended": self.suspend}), || text.to_owned())?;
            return Ok(Exit::Success);
        }
        let request = ReconcileRequest { rebuild, approve: self.approve, wait: self.wait };
        let body = serde_json::to_vec(&request).map_err(std::io::Error::from)?;
        let limit = if self.wait { WAIT_TIMEOUT } else { TIMEOUT };
        let reply: ReconcileReply =
            client.json(Method::POST, "/api/v1/reconcile", body.into(), limit).await?;
        context.out.print(&reply, || format!("{}\n", reply.message))?;
        if reply.succeeded == Some(false) {
            return Err(
                CliError::failure("the pass ended with failures").hint("`toolcrib status` names them")
            );
        }
        Ok(Exit::Success)
    }
}

fn approved(text: &str) -> Result<crate::resource::Digest, String> {
    crate::resource::Digest::parse(text)
        .ok_or_else(|| "expected `sha256:` and 64 hex digits, as `toolcrib plan` shows it".to_owned())
}
