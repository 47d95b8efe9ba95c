//! `connect`: writes the endpoint into the configuration of a client.

mod change;
mod file;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValue;
use serde_json::json;

use super::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::render::Table;
use crate::config::raw::variable;
use crate::config::{Environment, usual_endpoint};
use crate::convert::connect::{Base, Client, EditError, Place, Reach, Scope};

/// Connect an MCP client: write this endpoint into its configuration.
///
/// Only the entry is written; order, comments and white space of the file stay, and the file as it was is
/// kept beside it. Without a client, the known ones are listed with their files.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib connect                              list the clients that are known
  toolcrib connect claude-code
  toolcrib connect vscode --project             for this folder only: .vscode/mcp.json
  toolcrib connect zed --dry-run                show what would change
  toolcrib connect cursor --name tools --url https://tools.example.com/mcp
  toolcrib connect cursor --url https://tools.example.com/mcp --token-env TOOLCRIB_TOKEN
  toolcrib connect cursor --remove")]
pub(super) struct Connect {
    /// The client.
    #[arg(value_enum)]
    client: Option<Client>,
    /// The MCP endpoint [default: of a daemon with this machine's configuration, else `127.0.0.1:7800`].
    #[arg(long, value_name = "URL", env = variable::URL, hide_env_values = true)]
    url: Option<String>,
    /// What the entry is called.
    #[arg(long, value_name = "NAME", default_value = "toolcrib")]
    name: String,
    /// For one project instead of everything the user does [default: this folder].
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = ".")]
    project: Option<PathBuf>,
    /// Let the client start `toolcrib stdio` instead of giving it the address.
    #[arg(long)]
    stdio: bool,
    /// Variable of the client's environment that holds a token: named in the entry, its value never.
    ///
    /// A client whose file cannot name a variable starts `toolcrib stdio`, which reads it.
    #[arg(long, value_name = "NAME", value_parser = super::token::variable)]
    token_env: Option<String>,
    /// Take the entry out again.
    #[arg(long)]
    remove: bool,
    /// Show the change and write nothing.
    #[arg(long)]
    dry_run: bool,
}

impl clap::ValueEnum for Client {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

impl Connect {
    pub(super) fn execute(self, context: &Context) -> CliResult<Exit> {
        if self.name.is_empty() || self.name.len() > 64 || self.name.contains(char::is_control) {
            return Err(
                CliError::usage("`--name` has 1 to 64 characters").hint("write a word such as `toolcrib`")
            );
        }
        match self.client {
            Some(client) => self.connect(client, context),
            None => self.list(context),
        }
    }

    fn scope(&self) -> Scope {
        if self.project.is_some() { Scope::Project } else { Scope::User }
    }

    fn path(&self, place: &Place, environment: &Environment) -> CliResult<PathBuf> {
        let folder = folder(place.base, self.project.as_deref(), environment).ok_or_else(|| {
            CliError::failure("there is no home directory").hint("set HOME, or use --project")
        })?;
        Ok(folder.join(place.path))
    }

    fn reach(&self, client: Client, context: &Context) -> CliResult<Reach> {
        let usual = || usual_endpoint(&context.file, &context.environment);
        let url = self.url.clone().unwrap_or_else(usual);
        let named = client.takes_reference() || self.token_env.is_none();
        if client.takes_address() && named && !self.stdio {
            return Ok(Reach::Http { url, token: self.token_env.clone() });
        }
        let program = std::env::current_exe()
            .map_err(|error| CliError::failure("failed to find our own program").caused_by(&error))?;
        let program = program
            .into_os_string()
            .into_string()
            .map_err(|path| CliError::failure(format!("the path `{}` is not UTF-8", path.display())))?;
        Ok(Reach::Command(program, super::stdio::arguments(&url, self.token_env.as_deref())))
    }

    fn connect(&self, client: Client, context: &Context) -> CliResult<Exit> {
        let place = client.place(self.scope()).ok_or_else(|| nowhere(client, self.scope()))?;
        let path = self.path(&place, &context.environment)?;
        let before = file::read(&path)?;
        let text = before.as_deref().unwrap_or_default();
        let after = if self.remove {
            place.remove(text, &self.name)
        } else {
            place.set(text, &self.name, &client.entry(&self.reach(client, context)?))
        };
        let after = after.map_err(|error| unreadable(&path, &error))?;
        let changed = after != text;
        let kept =
            if changed && !self.dry_run { file::replace(&path, before.as_deref(), &after)? } else { None };
        let difference = change::difference(text, &after);
        let value = json!({
            "client": client.as_str(),
            "file": path,
            "entry": self.name,
            "changed": changed,
            "written": changed && !self.dry_run,
            "backup": kept,
            "difference": difference,
        });
        context.out.print(&value, || self.said(client, &path, changed, kept.as_deref(), &difference))?;
        Ok(Exit::Success)
    }

    fn said(
        &self,
        client: Client,
        path: &Path,
        changed: bool,
        kept: Option<&Path>,
        difference: &str,
    ) -> String {
        let name = client.as_str();
        let shown = path.display();
        match (changed, self.dry_run, self.remove) {
            (false, _, false) => format!("{name} is connected already: {shown}\n"),
            (false, _, true) => format!("{name} is not connected: {shown}\n"),
            (true, true, _) => format!("Would change {shown}:\n\n{difference}"),
            (true, false, remove) => {
                let mut text = if remove {
                    format!("Took `{}` out of {shown}\n", self.name)
                } else {
                    format!("Wrote `{}` to {shown}\n", self.name)
                };
                if let Some(kept) = kept {
                    let _ = writeln!(text, "The file as it was: {}", kept.display());
                }
                if !remove {
                    let _ = writeln!(text, "Next: {}.", client.next_step());
                }
                text
            }
        }
    }

    fn list(&self, context: &Context) -> CliResult<Exit> {
        let mut table = Table::new(["CLIENT", "CONNECTED", "FILE"]);
        let mut listed = Vec::new();
        for client in Client::ALL {
            let Some(place) = client.place(self.scope()) else { continue };
            let path = self.path(&place, &context.environment)?;
            let connected = match file::read(&path) {
                Ok(Some(text)) => match place.get(&text, &self.name) {
                    Ok(found) => {
                        if found.is_some() {
                            "yes"
                        } else {
                            "no"
                        }
                    }
                    Err(_) => "unreadable",
                },
                Ok(None) => "no file",
                Err(_) => "unreadable",
            };
            table.row([client.as_str(), connected, &path.display().to_string()]);
            listed.push(json!({"client": client.as_str(), "connected": connected, "file": path}));
        }
        context.out.print(&listed, || table.text())?;
        Ok(Exit::Success)
    }
}

fn folder(base: Base, project: Option<&Path>, environment: &Environment) -> Option<PathBuf> {
    let absolute = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config =
        || absolute("XDG_CONFIG_HOME").or_else(|| environment.home().map(|home| home.join(".config")));
    match base {
        Base::Home => environment.home(),
        Base::Application if cfg!(target_os = "macos") => {
            environment.home().map(|home| home.join("Library/Application Support"))
        }
        Base::Config | Base::Application => config(),
        Base::Variable(name, folder) => {
            absolute(name).or_else(|| environment.home().map(|home| home.join(folder)))
        }
        Base::Project => std::path::absolute(project?).ok(),
    }
}

fn nowhere(client: Client, scope: Scope) -> CliError {
    let name = client.as_str();
    match scope {
        Scope::Project => CliError::usage(format!("{name} has no configuration of single projects"))
            .hint("leave out --project"),
        Scope::User => CliError::usage(format!("{name} keeps no file of its user that could be written"))
            .hint("pass --project DIR"),
    }
}

fn unreadable(path: &Path, error: &EditError) -> CliError {
    CliError::failure(format!("`{}` was left alone", path.display()))
        .caused_by(error)
        .hint("correct the file, or write the entry by hand: `toolcrib export --format clients` prints it")
}
