//! `plan`: what the next apply would do.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::error::CliResult;
use super::exit::Exit;
use super::target::Target;
use super::{Context, interrupt};
use crate::admin::PlanView;
use crate::config::{Config, Settings};
use crate::daemon;

/// Longer than the daemon itself allows a plan.
const TIMEOUT: Duration = Duration::from_secs(150);

/// Show what the next apply would do, and do nothing.
///
/// Asks the daemon that is running (that of --repo, where one is named), which answers with the plan it
/// would apply. Where none is running, --repo says what to compute the same plan from.
#[derive(Debug, clap::Args)]
#[command(mut_args(|arg| super::hide(arg, &["listen", "public_url", "interval"])))]
#[command(after_help = "Examples:
  toolcrib plan
  toolcrib plan --repo . --path examples/containers
  toolcrib plan --exit-code || echo changes are pending")]
pub(super) struct Plan {
    /// End with code 3 when applying would change something.
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Plan {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let settings = self.settings.over(context.file.clone());
        let view = if settings.repo.is_some() {
            let config = Config::new(&settings, context.environment.clone())?;
            let client = Client::socket(&config.socket());
            if client.answers().await {
                ask(&client).await?
            } else {
                let cancel = CancellationToken::new();
                interrupt::until_done(&cancel, daemon::plan(config, cancel.clone())).await??
            }
        } else {
            let target = Target { admin: settings.admin, state: settings.state };
            ask(&target.reads(context)).await?
        };
        context.out.print(&view, || view.text.clone())?;
        Ok(if self.exit_code && view.changes > 0 { Exit::ChangesPending } else { Exit::Success })
    }
}

async fn ask(client: &Client) -> CliResult<PlanView> {
    client.json(Method::GET, "/api/v1/plan", Bytes::new(), TIMEOUT).await
}
