//! `volumes`: what servers and tools wrote that outlives them.

use bytes::Bytes;
use clap::Subcommand;
use http::Method;

use super::Context;
use super::client::READ_TIMEOUT;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::render::Table;
use super::target::Target;
use crate::admin::volumes::{VolumeAsk, VolumeReply};
use crate::desired::VolumeId;

/// List the volumes of servers and tools, and delete those that nothing declares.
///
/// A volume outlives whatever mounts it: no commit removes its data. When nothing declares it any more, it is
/// kept until it is deleted here.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib volumes list
  toolcrib volumes delete local/cache     the volume `cache` on the runner `local`, with its data")]
pub(super) struct Volumes {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show volumes and what declares them.
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Remove a volume that nothing declares, with its data.
    Delete {
        /// The runner and the volume's name, as `list` shows them.
        #[arg(value_name = "RUNNER/NAME")]
        volume: String,
        #[command(flatten)]
        target: Target,
    },
}

impl Volumes {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let (ask, target) = match self.action {
            Action::List { target } => (VolumeAsk::List, target),
            Action::Delete { volume, target } => {
                let id = VolumeId::parse(&volume).ok_or_else(|| {
                    CliError::usage(format!("`{volume}` is not RUNNER/NAME"))
                        .hint("`toolcrib volumes list` shows them")
                })?;
                (VolumeAsk::Delete(id), target)
            }
        };
        let client = target.changes(context).await?;
        let body = serde_json::to_vec(&ask).map_err(std::io::Error::from)?;
        let reply: VolumeReply =
            client.json(Method::POST, "/api/v1/volumes", Bytes::from(body), READ_TIMEOUT).await?;
        context.out.print(&reply, || text(&ask, &reply))?;
        Ok(Exit::Success)
    }
}

fn text(ask: &VolumeAsk, reply: &VolumeReply) -> String {
    match ask {
        VolumeAsk::Delete(id) => format!("{id} is removed, with its data\n"),
        VolumeAsk::List if reply.volumes.is_empty() => "No volumes.\n".to_owned(),
        VolumeAsk::List => {
            let mut table = Table::new(["VOLUME", "DECLARED BY"]);
            for one in &reply.volumes {
                let users: Vec<String> = one.used_by.iter().map(ToString::to_string).collect();
                let users = if users.is_empty() { "nothing, kept".to_owned() } else { users.join(", ") };
                table.row([&one.volume, &users]);
            }
            table.text()
        }
    }
}
