//! `authorizations`: what users authorized for themselves.

use bytes::Bytes;
use clap::Subcommand;
use http::Method;

use super::Context;
use super::client::READ_TIMEOUT;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::render::{Table, notice};
use super::target::Target;
use crate::admin::grants::{GrantAsk, GrantReply};
use crate::resource::Name;

/// List, begin and revoke what users authorized at servers that run elsewhere.
///
/// A server with `userOAuth` is called with a token of the user who calls. The daemon keeps these tokens
/// encrypted, and shows them to nobody.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib authorizations list
  toolcrib authorizations start issues               prints the address to open
  toolcrib authorizations revoke issues --user ada")]
pub(super) struct Authorizations {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show who authorized which server.
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Print the address at which a user authorizes a server; it is good for ten minutes.
    Start(Which),
    /// Delete an authorization, and tell the provider where it wants to be told.
    Revoke(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The server.
    #[arg(value_name = "SERVER")]
    server: String,
    /// The user; on loopback everybody is `local`.
    #[arg(long, value_name = "NAME", default_value = "local")]
    user: String,
    #[command(flatten)]
    target: Target,
}

impl Which {
    fn read(self) -> CliResult<(String, Name, Target)> {
        let server = Name::parse(&self.server).map_err(|error| CliError::usage(error.to_string()))?;
        Ok((self.user, server, self.target))
    }
}

impl Authorizations {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let (ask, target) = match self.action {
            Action::List { target } => (GrantAsk::List, target),
            Action::Start(which) => {
                let (user, server, target) = which.read()?;
                (GrantAsk::Start { user, server }, target)
            }
            Action::Revoke(which) => {
                let (user, server, target) = which.read()?;
                (GrantAsk::Revoke { user, server }, target)
            }
        };
        let client = target.changes(context).await?;
        let body = serde_json::to_vec(&ask).map_err(std::io::Error::from)?;
        let reply: GrantReply =
            client.json(Method::POST, "/api/v1/authorizations", Bytes::from(body), READ_TIMEOUT).await?;
        if let Some(why) = &reply.not_told {
            notice(&format!("deleted here; the provider was not told: {why}\n"));
        }
        context.out.print(&reply, || text(&ask, &reply))?;
        Ok(Exit::Success)
    }
}

fn text(ask: &GrantAsk, reply: &GrantReply) -> String {
    match ask {
        GrantAsk::List if reply.list.is_empty() => "No authorizations.\n".to_owned(),
        GrantAsk::List => {
            let mut table = Table::new(["USER", "SERVER", "PROVIDER", "REFRESHED", "EXPIRES"]);
            for one in &reply.list {
                let (refreshed, expires) = (one.refreshed.to_string(), one.expires.to_string());
                table.row([&one.user, one.server.as_str(), &one.issuer, &refreshed, &expires]);
            }
            table.text()
        }
        GrantAsk::Start { .. } => format!("{}\n", reply.url.as_deref().unwrap_or_default()),
        GrantAsk::Revoke { user, server } => format!("{server}: {user} has to authorize again\n"),
    }
}
