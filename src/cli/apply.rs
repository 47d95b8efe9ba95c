//! `apply`: one pass without a daemon.

use tokio_util::sync::CancellationToken;

use super::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::status::{self, not_ready};
use super::{interrupt, render::Table};
use crate::config::{Config, Settings};
use crate::daemon;

/// Make one pass: build and start what the revision asks for, then end.
///
/// Containers go on running, and a daemon of the same --name takes them over. Refused while a daemon
/// uses the same state directory: tell that one with `toolcrib reconcile`.
#[derive(Debug, clap::Args)]
#[command(mut_args(|arg| super::hide(arg, &["listen", "admin", "public_url", "interval", "worktree"])))]
#[command(after_help = "Examples:
  toolcrib apply --repo . --path examples/containers
  toolcrib apply --repo . --path examples/containers --output json")]
pub(super) struct Apply {
    #[command(flatten)]
    settings: Settings,
}

impl Apply {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let settings = self.settings.over(context.file.clone());
        let config = Config::new(&settings, context.environment.clone())?;
        let cancel = CancellationToken::new();
        let status = interrupt::until_done(&cancel, daemon::apply(config, cancel.clone())).await??;
        context.out.print(&status, || status::resources(&status.resources).text())?;
        let waiting = not_ready(&status);
        if waiting.is_empty() {
            return Ok(Exit::Success);
        }
        let mut table = Table::new(["NOT READY", "WHY"]);
        for (id, why) in &waiting {
            table.row([id, why]);
        }
        Err(CliError::failure(format!(
            "{} of {} resources are not ready",
            waiting.len(),
            status.resources.len()
        ))
        .detail(Some(table.text()))
        .hint("the log above names what failed"))
    }
}
