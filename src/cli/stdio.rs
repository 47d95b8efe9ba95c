//! `stdio`: the endpoint for clients that only start commands.

use super::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::token::authorization;
use super::trust::Trust;
use crate::config::raw::variable;
use crate::config::usual_endpoint;
use crate::mcp::client::{ForwardError, forward};

/// Connect a client that only starts commands.
///
/// Reads MCP messages from standard input and writes the endpoint's to standard output, for clients
/// of either protocol era. A daemon that restarts is waited for, and the client goes on as before.
/// Where a token is needed, it is taken from the variable `TOOLCRIB_TOKEN`, or the one of --token-env.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib stdio
  toolcrib stdio --url https://tools.example.com/mcp
  toolcrib stdio --url https://tools.internal/mcp --ca-file /etc/ssl/internal.pem

In the configuration of a client:
  {\"mcpServers\": {\"toolcrib\": {\"command\": \"toolcrib\", \"args\": [\"stdio\"]}}}")]
pub(super) struct Stdio {
    /// The MCP endpoint [default: of a daemon with this machine's configuration, else `127.0.0.1:7800`].
    #[arg(long, value_name = "URL", env = variable::URL, hide_env_values = true)]
    url: Option<String>,
    /// Variable that holds the token.
    #[arg(long, value_name = "NAME", default_value = variable::TOKEN, value_parser = super::token::variable)]
    token_env: String,
    #[command(flatten)]
    trust: Trust,
}

/// The arguments with which a client starts this command.
pub(super) fn arguments(url: &str, token_env: Option<&str>) -> Vec<String> {
    let mut args = ["stdio", "--url", url].map(str::to_owned).to_vec();
    if let Some(name) = token_env.filter(|name| *name != variable::TOKEN) {
        args.extend(["--token-env", name].map(str::to_owned));
    }
    args
}

impl Stdio {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let authorization = authorization(context, &self.token_env)?;
        let authorities = self.trust.read(context)?;
        let url = self.url.unwrap_or_else(|| usual_endpoint(&context.file, &context.environment));
        match forward(&url, authorization, &authorities, tokio::io::stdin(), tokio::io::stdout()).await {
            // A client that ends without reading to the end is no fault.
            Ok(()) | Err(ForwardError::Write(_)) => Ok(Exit::Success),
            Err(error @ ForwardError::Address(_)) => Err(CliError::usage(error.to_string())
                .hint("write the address of the MCP endpoint, such as http://127.0.0.1:7800/mcp")),
            Err(error) => Err(CliError::failure("forwarding ended").caused_by(&error)),
        }
    }
}
