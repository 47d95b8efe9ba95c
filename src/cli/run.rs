//! `run`: the daemon.

use serde_json::json;
use std::fmt::Write as _;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::error::CliResult;
use super::exit::Exit;
use super::interrupt;
use super::render::{Out, Table};
use crate::config::{Config, Settings};
use crate::daemon::{self, Banner};

/// Follow a repository and serve its tools.
///
/// Runs until it is ended by SIGINT or SIGTERM; containers go on running and are found again by the
/// next start. Prints where it serves once the first catalog is there; the log is on standard error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib run --repo . --path examples/quickstart
  toolcrib run --repo https://github.com/team/tools --ref main --interval 30s
  toolcrib run --repo . --worktree                    also show edits that are not committed
  toolcrib run --config /etc/toolcrib.yaml --log-format json")]
pub(super) struct Run {
    #[command(flatten)]
    settings: Settings,
}

impl Run {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let settings = self.settings.over(context.file.clone());
        let config = Config::new(&settings, context.environment.clone())?;
        let (out, place) = (context.out, format!("{} {}", config.repository, config.path));
        let on_ready = Box::new(move |banner: &Banner| {
            // Nobody reads: the daemon serves on.
            let _ = announce(out, place.trim_end(), banner);
        });
        let shutdown = CancellationToken::new();
        let running = daemon::run(config, shutdown.clone(), on_ready);
        interrupt::until_done(&shutdown, running).await??;
        Ok(Exit::Success)
    }
}

fn announce(out: Out, place: &str, banner: &Banner) -> CliResult<()> {
    if out.is_json() {
        return out.json_line(&json!({
            "mcp": banner.mcp,
            "admin": banner.admin,
            "revision": banner.revision.as_ref().map(ToString::to_string),
            "tools": banner.tools.iter().map(|(name, ..)| name).collect::<Vec<_>>(),
            "notReady": banner.not_ready.iter().map(|(id, _)| id).collect::<Vec<_>>(),
        }));
    }
    out.text(&text(place, banner))
}

/// Tools that are listed; `toolcrib tools` lists all.
const MAX_LISTED: usize = 20;

fn text(place: &str, banner: &Banner) -> String {
    let revision = banner.revision.as_ref().map_or_else(
        || "nothing yet".to_owned(),
        |revision| {
            let dirty = if revision.dirty { "+dirty" } else { "" };
            format!("{}@{}{dirty}", revision.reference, revision.short())
        },
    );
    let mut text = format!(
        "\nToolcrib serves {revision} of {place}\n\n  MCP    {}\n  admin  {}\n\n",
        banner.mcp, banner.admin
    );
    let mut table = Table::new(["TOOL", "FROM", "DESCRIPTION"]);
    for (name, owner, description) in banner.tools.iter().take(MAX_LISTED) {
        table.row([name, owner, description]);
    }
    if table.is_empty() && banner.declared == 0 {
        text.push_str(
            "Nothing is declared here yet. `toolcrib init DIR` makes a repository to begin with; `toolcrib explain` shows what can be declared.\n",
        );
    } else if table.is_empty() {
        text.push_str("No tools yet: `toolcrib status` says what is waited for.\n");
    } else {
        text.push_str(&table.text());
    }
    let left = banner.tools.len().saturating_sub(MAX_LISTED);
    if left > 0 {
        let _ = writeln!(text, "and {left} more: `toolcrib tools`");
    }
    if !banner.not_ready.is_empty() {
        let mut table = Table::new(["NOT READY", "WHY"]);
        for (id, why) in banner.not_ready.iter().take(MAX_LISTED) {
            table.row([id, why]);
        }
        text.push('\n');
        text.push_str(&table.text());
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Revision;

    #[test]
    fn banner_says_where_what_and_which() {
        let tool = |n: usize| (format!("tool_{n}"), "Server/s".to_owned(), "Does\nthings".to_owned());
        let banner = Banner {
            mcp: "http://127.0.0.1:7800/mcp".to_owned(),
            admin: "http://127.0.0.1:7801".to_owned(),
            revision: Some(Revision {
                reference: "main".into(),
                commit: "0123456789".repeat(4),
                dirty: true,
            }),
            tools: (0..MAX_LISTED + 2).map(tool).collect(),
            not_ready: vec![("Server/x".to_owned(), "failed to build".to_owned())],
            ..Banner::default()
        };
        let text = text("/repo examples", &banner);
        assert!(
            text.starts_with(
                "\nToolcrib serves main@01234567+dirty of /repo examples\n\n  MCP    http://127"
            )
        );
        assert!(text.contains("tool_0    Server/s   Does\n") && text.contains("and 2 more"), "{text}");
        assert!(text.contains("Server/x    failed to build\n"), "{text}");
        assert!(super::text("p", &Banner::default()).contains("`toolcrib init DIR` makes"));
        let waiting = super::text("p", &Banner { declared: 1, ..Banner::default() });
        assert!(waiting.contains("No tools yet: `toolcrib status`"), "{waiting}");
    }
}
