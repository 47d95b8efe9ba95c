//! `completions`: for shells.

use clap::CommandFactory;
use clap_complete::Shell;

use super::error::CliResult;
use super::exit::Exit;
use super::{Args, Context};

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib completions bash > ~/.local/share/bash-completion/completions/toolcrib
  toolcrib completions zsh > ~/.zfunc/_toolcrib
  toolcrib completions fish > ~/.config/fish/completions/toolcrib.fish")]
pub(super) struct Completions {
    /// Which shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn execute(self, context: &Context) -> CliResult<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Args::command(), "toolcrib", &mut script);
        context.out.text(&String::from_utf8_lossy(&script))?;
        Ok(Exit::Success)
    }
}
