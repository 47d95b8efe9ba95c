//! `why`: why a tool is listed, hidden, refused or missing for somebody.

use std::fmt::Write as _;

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use super::Context;
use super::call::arguments;
use super::client::{Client, READ_TIMEOUT};
use super::error::CliResult;
use super::exit::Exit;
use super::render::harmless;
use super::target::Target;
use crate::admin::why::{WhyQuery, WhyReply};

/// Say why a tool is listed, hidden, refused or missing for somebody.
///
/// Asks a running daemon, and calls nothing. `toolcrib policy eval` asks rules that are not served yet.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib why git_log                                  is it there, and if not, why
  toolcrib why kubectl command='get pods' --user dan --group developers
  toolcrib why count --toolset data --user ada")]
pub(super) struct Why {
    /// A published tool.
    #[arg(value_name = "TOOL")]
    tool: String,
    /// Arguments of the call, as `call` takes them. Without, the call itself is not judged.
    #[arg(value_name = "KEY=VALUE")]
    pairs: Vec<String>,
    /// Who asks [default: local].
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A group of who asks; can be repeated [default: local, when no user is named].
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// The same as KEY=VALUE; can be repeated.
    #[arg(long = "arg", value_name = "KEY=VALUE")]
    args: Vec<String>,
    /// At the endpoint of a toolset.
    #[arg(long, value_name = "NAME")]
    toolset: Option<String>,
    #[command(flatten)]
    target: Target,
}

impl Why {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let client = self.target.changes(context).await?;
        let given = [self.pairs.as_slice(), &self.args].concat();
        let arguments = if given.is_empty() {
            None
        } else {
            Some(arguments::parse(&given, &schema(&client, &self.tool).await?)?)
        };
        let Self { tool, user, groups, toolset, .. } = self;
        let query = WhyQuery { tool, user, groups, arguments, toolset };
        let body = serde_json::to_vec(&query).map_err(std::io::Error::from)?;
        let reply: WhyReply =
            client.json(Method::POST, "/api/v1/why", Bytes::from(body), READ_TIMEOUT).await?;
        context.out.print(&reply, || harmless(&text(&reply)))?;
        Ok(Exit::Success)
    }
}

/// What the arguments of a tool are; of one that is not served nothing is known.
async fn schema(client: &Client, tool: &str) -> CliResult<Value> {
    let catalog: Value = client.get_json("/api/v1/catalog").await?;
    let tools = catalog["tools"].as_array().map_or(&[][..], Vec::as_slice);
    let found = tools.iter().find(|entry| entry["name"] == *tool);
    Ok(found.map(|entry| entry["definition"]["inputSchema"].clone()).unwrap_or_default())
}

fn text(reply: &WhyReply) -> String {
    let mut text = format!("{}\n", reply.answer);
    for fact in &reply.facts {
        let resource = fact.resource.as_deref().map_or_else(String::new, |id| format!("{id} "));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {resource}{}", fact.says);
        if let Some(place) = &fact.place {
            let _ = writeln!(text, "    declared at {place}");
        }
    }
    let _ = writeln!(text, "  served: {}", reply.revision);
    text
}
