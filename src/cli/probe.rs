//! `probe`: what a server offers that nobody declared.

use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt::Write as _;
use tokio_util::sync::CancellationToken;

use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::render::Table;
use super::{Context, interrupt};
use crate::config::Environment;
use crate::daemon::probe::{Undeclared, probe};
use crate::resource::Period;

/// Ask a server that nobody declared what it offers, and leave nothing behind.
///
/// An image or a command is tried over stdio (with `MCP_TRANSPORT=stdio`), then over HTTP on the usual
/// ports and paths. One word is a command when it is a path or found on PATH, else an image; what stands
/// after `--` is a command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib probe http://127.0.0.1:8000/mcp
  toolcrib probe mcp/time:latest
  toolcrib probe -- uvx mcp-server-time
  toolcrib probe --output json mcp/time:latest > record.json")]
pub(super) struct Probe {
    /// An http address, an image, or a command without arguments.
    #[arg(value_name = "IMAGE|URL|COMMAND", required_unless_present = "command")]
    what: Option<String>,
    /// A command and its arguments.
    #[arg(value_name = "COMMAND", last = true, conflicts_with_all = ["what", "image"])]
    command: Vec<String>,
    /// It is an image, whatever it looks like.
    #[arg(long)]
    image: bool,
    /// How long all of it may take.
    #[arg(long, value_name = "PERIOD", default_value = "120s")]
    timeout: String,
}

impl Probe {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let Period(limit) = Period::parse(&self.timeout)
            .map_err(|error| CliError::usage(format!("`--timeout`: {error}")).hint("write 30s or 2m"))?;
        let what = undeclared(self.what, self.command, self.image, &context.environment)?;
        let cancel = CancellationToken::new();
        let probing = Box::pin(probe(what, &context.environment, limit, &cancel));
        let record = interrupt::until_done(&cancel, probing).await??;
        context.out.print(&record, || {
            let mut text = format!("{} ({})\n", record.discovery_method, record.protocol);
            if let Some(url) = &record.url {
                let _ = writeln!(text, "{url}");
            }
            for (title, definitions) in [
                ("TOOL", &record.tools),
                ("PROMPT", &record.prompts),
                ("RESOURCE", &record.resources),
                ("TEMPLATE", &record.resource_templates),
            ] {
                text.push_str(&listed(title, definitions));
            }
            text
        })?;
        Ok(Exit::Success)
    }
}

fn undeclared(
    what: Option<String>,
    command: Vec<String>,
    image: bool,
    environment: &Environment,
) -> CliResult<Undeclared> {
    let argv = match what {
        Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
            return Ok(Undeclared::Url(url));
        }
        Some(word) if image || !is_command(&word, environment) => return Ok(Undeclared::Image(word)),
        Some(word) => vec![word],
        None => command,
    };
    let dir = std::env::current_dir()
        .map_err(|error| CliError::failure("failed to find the current folder").caused_by(&error))?;
    Ok(Undeclared::Command { argv, dir })
}

/// Whether one word is a command: a path, or a program on `PATH`.
fn is_command(word: &str, environment: &Environment) -> bool {
    if word.starts_with(['.', '/']) {
        return true;
    }
    let path = environment.get_os("PATH").unwrap_or_default();
    !word.contains(['/', ':']) && std::env::split_paths(path).any(|folder| folder.join(word).is_file())
}

fn listed(title: &str, definitions: &[Box<RawValue>]) -> String {
    let mut table = Table::new([title, "DESCRIPTION"]);
    for definition in definitions {
        let definition: Value = serde_json::from_str(definition.get()).unwrap_or_default();
        let word = |key: &str| definition[key].as_str().unwrap_or_default().to_owned();
        table.row([&word("name"), &word("description")]);
    }
    if table.is_empty() { String::new() } else { format!("\n{}", table.text()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_images_and_commands_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/bin/sh", folder.path().join("server")).unwrap();
        let environment = Environment::from_pairs([("PATH", folder.path())]);
        let kind = |what: Option<&str>, command: &[&str], image| {
            let command = command.iter().map(|word| (*word).to_owned()).collect();
            match undeclared(what.map(str::to_owned), command, image, &environment).unwrap() {
                Undeclared::Url(url) => format!("url {url}"),
                Undeclared::Image(image) => format!("image {image}"),
                Undeclared::Command { argv, .. } => format!("command {argv:?}"),
            }
        };
        assert_eq!(kind(Some("http://h/mcp"), &[], false), "url http://h/mcp");
        assert_eq!(kind(Some("mcp/time"), &[], false), "image mcp/time");
        assert_eq!(kind(Some("time:latest"), &[], false), "image time:latest");
        assert_eq!(kind(Some("server"), &[], false), r#"command ["server"]"#);
        assert_eq!(kind(Some("server"), &[], true), "image server");
        assert_eq!(kind(Some("./here"), &[], false), r#"command ["./here"]"#);
        assert_eq!(kind(None, &["uvx", "--x"], false), r#"command ["uvx", "--x"]"#);
    }
}
