//! `policy`: rules tried out before they decide anything.

mod eval;
mod modules;
mod test;

use clap::Subcommand;

use super::Context;
use super::error::CliResult;
use super::exit::Exit;

/// Test rules, and see what they decide.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib policy test                                 every *_test.rego below this folder
  toolcrib policy eval kubectl --group developers --arg command='get pods'")]
pub(super) struct Policy {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Test(test::Test),
    Eval(Box<eval::Eval>),
}

impl Policy {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        match self.command {
            Command::Test(command) => command.execute(context),
            Command::Eval(command) => command.execute(context).await,
        }
    }
}
