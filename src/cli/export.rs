//! `export`: what is served, in the words of others.

mod servers;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::target::Target;
use super::validate::{self, Loaded};
use crate::admin::view::view;
use crate::catalog::{self, Catalog, Offered, ReadyTool};
use crate::config::raw::variable;
use crate::config::{Settings, usual_endpoint};
use crate::convert::connect::{self, Client, Reach};
use crate::convert::export::{self, Tool};
use crate::convert::server_json::{self, ServerJson};
use crate::live::{InstanceId, Offer, UpstreamKey};
use crate::lock::Definition;
use crate::resource::ResourceId;

/// What is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// A JSON array with a definition for each tool: arguments, schema, and where it is called.
    #[default]
    Definitions,
    /// `server.json` of the MCP registry, for this endpoint.
    ServerJson,
    /// `server.json` of each `Server` that is declared, for whoever runs or reaches it without Toolcrib.
    Servers,
    /// What each MCP client has to be configured with.
    Clients,
}

/// Print what is served in the form of other programs.
///
/// Definitions come from the running daemon or, with --offline, from the manifests and locks of a work tree,
/// as `servers` always do.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib export > tools.json                               definitions of everything that is served
  toolcrib export --offline examples/quickstart              without a daemon
  toolcrib export --format server-json --name io.github.acme/tools --version 1.2.0
  toolcrib export --format servers --namespace io.github.acme > servers.json
  toolcrib export --format servers --namespace io.github.acme --server time > server.json
  toolcrib export --format clients                           for every client that is known
  toolcrib export --format clients --client vscode > .vscode/mcp.json")]
pub(super) struct Export {
    /// What is printed.
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    format: Form,
    /// The MCP endpoint [default: of a daemon with this machine's configuration, else `127.0.0.1:7800`].
    #[arg(long, value_name = "URL", env = variable::URL, hide_env_values = true)]
    url: Option<String>,
    /// Of definitions and `servers`: read the work tree below DIR instead of asking a daemon [default: this folder].
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = ".")]
    offline: Option<PathBuf>,
    /// Of `server-json`: the name, such as io.github.acme/tools. Of `clients`: the name of the entry.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Of `servers`: what their names begin with, such as io.github.acme.
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Of `servers`: only this one, without the list around it.
    #[arg(long, value_name = "SERVER")]
    server: Option<String>,
    /// Of `server-json`, and of `servers` without a version of their own: the version.
    #[arg(long, value_name = "VERSION", default_value = "1.0.0")]
    version: String,
    /// Of `server-json`: what it is, in at most 100 characters.
    #[arg(long, value_name = "TEXT", default_value = "Tools served from Git")]
    description: String,
    /// Of `clients`: the whole file of one.
    #[arg(long, value_enum)]
    client: Option<Client>,
    /// Of `clients`: variable of their environment that holds a token.
    #[arg(long, value_name = "NAME", value_parser = super::token::variable)]
    token_env: Option<String>,
    #[command(flatten)]
    target: Target,
}

impl Export {
    pub(super) async fn execute(mut self, context: &Context) -> CliResult<Exit> {
        self.url.get_or_insert_with(|| usual_endpoint(&context.file, &context.environment));
        match self.format {
            Form::Definitions => context.out.json(&self.definitions(context).await?)?,
            Form::ServerJson => context.out.json(&self.server_json()?)?,
            Form::Servers => servers::execute(&self, context).await?,
            Form::Clients => {
                let name = self.name.as_deref().unwrap_or("toolcrib");
                match self.client {
                    Some(client) => context.out.text(&client.alone(name, &self.reach(client)))?,
                    None => context.out.json(&connect::all(name, |client| self.reach(client)))?,
                }
            }
        }
        Ok(Exit::Success)
    }

    fn endpoint(&self) -> &str {
        self.url.as_deref().unwrap_or_default()
    }

    fn reach(&self, client: Client) -> Reach {
        if client.takes_address() && (client.takes_reference() || self.token_env.is_none()) {
            return Reach::Http { url: self.endpoint().to_owned(), token: self.token_env.clone() };
        }
        let args = super::stdio::arguments(self.endpoint(), self.token_env.as_deref());
        Reach::Command("toolcrib".to_owned(), args)
    }

    fn server_json(&self) -> CliResult<ServerJson> {
        let hint = "pass --name io.github.OWNER/NAME";
        let name =
            self.name.clone().ok_or_else(|| CliError::usage("a `server.json` has a name").hint(hint))?;
        if !server_json::is_name(&name) {
            return Err(CliError::usage(format!("`{name}` is not a name of the registry")).hint(hint));
        }
        Ok(export::server_json(name, &self.description, &self.version, self.endpoint()))
    }

    async fn definitions(&self, context: &Context) -> CliResult<Vec<Value>> {
        let catalog: Value = match &self.offline {
            None => self.target.reads(context).get_json("/api/v1/catalog").await?,
            Some(folder) => serde_json::to_value(view(&composed(&loaded(folder, context).await?)))
                .map_err(|error| CliError::failure("failed to read the catalog").caused_by(&error))?,
        };
        let tools = catalog["tools"].as_array().into_iter().flatten();
        let definition = |entry: &Value| {
            let owner = ResourceId::parse(entry["owner"].as_str()?)?;
            let tool =
                Tool { name: entry["name"].as_str()?, owner: &owner, definition: &entry["definition"] };
            Some(export::definition(&tool, self.endpoint()))
        };
        Ok(tools.filter_map(definition).collect())
    }
}

/// The manifests below a folder, without an error in them.
async fn loaded(folder: &Path, context: &Context) -> CliResult<Loaded> {
    let (_, loaded) = validate::open(Settings::default(), Some(folder), context).await?;
    match loaded.diagnostics.iter().find(|fault| fault.is_error()) {
        Some(fault) => Err(CliError::failure("the manifests have faults")
            .detail(Some(fault.to_string()))
            .hint("run `toolcrib validate`")),
        None => Ok(loaded),
    }
}

/// The catalog that would be served, if every server offered what its lock says.
fn composed(loaded: &Loaded) -> Catalog {
    let texts = |definitions: &[Definition]| definitions.iter().map(|one| Arc::clone(&one.text)).collect();
    let mut servers = Vec::new();
    for server in loaded.desired.servers.values().filter(|server| server.synced) {
        let lock = loaded.manifest.locks.get(&server.id).and_then(|lock| lock.offer.as_ref());
        let Some(definitions) = lock else { continue };
        let offer = Offer {
            tools: texts(&definitions.tools),
            prompts: texts(&definitions.prompts),
            resources: texts(&definitions.resources),
            templates: texts(&definitions.templates),
            ..Offer::default()
        };
        let instance = InstanceId("lock".to_owned());
        let upstream = UpstreamKey { server: server.id.name.clone(), instance };
        servers.push(Offered { server: Arc::clone(server), upstream, offer: Arc::new(offer) });
    }
    let ready = |tool| ReadyTool { tool: Arc::clone(tool), folder: None };
    let tools: Vec<ReadyTool> = loaded.desired.tools.values().map(ready).collect();
    let revision = &loaded.desired.revision;
    catalog::compose(&catalog::Input { revision, servers: &servers, tools: &tools, previous: None }).0
}
