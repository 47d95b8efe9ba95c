//! The command line: one file per command.
//!
//! Input: arguments, the environment and a configuration file. Output: text or JSON on standard
//! output, errors with a hint on standard error, an [`Exit`] code. Invariant: a command that needs
//! the daemon talks to it as anybody else would, over the admin endpoint; the store is never opened
//! here. Not here: what anything means.

pub mod error;
pub mod exit;
pub mod render;

mod apply;
mod audit;
mod authorizations;
mod call;
mod client;
mod completions;
mod connect;
mod diff;
mod doctor;
mod explain;
mod export;
mod files;
mod get;
mod import;
mod init;
mod index;
mod interrupt;
mod lock;
mod logs;
mod mcp;
mod overview;
mod plan;
mod policy;
mod probe;
mod reconcile;
mod run;
mod status;
mod stdio;
mod target;
mod test;
mod token;
mod tools;
mod trace;
mod tree;
mod trust;
mod update;
mod validate;
mod version;
mod volumes;
mod why;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::config::raw::variable;
use crate::config::{Environment, Settings};
use crate::telemetry::{self, LogFormat, Show};
use error::{CliError, CliResult};
use exit::Exit;
use render::{Format, Out};

const ABOUT: &str = "Serve MCP tools from Git: the catalog follows the committed revision";
const LONG_ABOUT: &str = "Toolcrib follows a Git repository that declares MCP servers, tools, runners and \
policies. For every commit it works out what should run, builds and starts the difference, and serves one \
MCP endpoint whose catalog follows the committed revision.";
const EXAMPLES: &str = "Examples:
  toolcrib validate examples/quickstart              check manifests before you commit
  toolcrib run --repo . --path examples/quickstart   follow this clone and serve MCP
  toolcrib tools                                     list what is served
  toolcrib call hello name=Ada                       call a tool
  toolcrib status                                    see what is ready and what is not

Every flag of `run` is also a variable (--listen: TOOLCRIB_LISTEN) and a key of the configuration
file (listen: 127.0.0.1:7800). A flag wins over a variable, a variable over the file.

Exit codes: 0 success, 1 failure, 2 usage, 3 changes pending (only with --exit-code).";

/// Everything that can be typed.
#[derive(Debug, Parser)]
#[command(name = "toolcrib", version, about = ABOUT, long_about = LONG_ABOUT, after_help = EXAMPLES, max_term_width = 100)]
pub struct Args {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Configuration file (YAML); its keys are the names of the flags of `run`.
    #[arg(long, global = true, value_name = "FILE", env = variable::CONFIG, hide_env_values = true)]
    config: Option<PathBuf>,
    /// Form of what is printed.
    #[arg(long, short, global = true, value_enum, default_value_t, value_name = "FORMAT", env = variable::OUTPUT, hide_env_values = true)]
    output: Format,
    /// What is logged: error, warn, info, debug, or a filter [default: info for run and apply, else warn].
    #[arg(long, global = true, value_name = "LEVEL", env = variable::LOG, hide_env_values = true)]
    log: Option<String>,
    /// Form of the log on standard error: text or json [default: text].
    #[arg(long, global = true, value_name = "FORMAT", env = variable::LOG_FORMAT, hide_env_values = true)]
    log_format: Option<String>,
}

impl Global {
    /// Refuses a form of output that the command does not have.
    fn takes(&self, formats: &[Format]) -> CliResult<()> {
        if formats.contains(&self.output) {
            return Ok(());
        }
        let known: Vec<&str> = formats.iter().map(|format| format.as_str()).collect();
        let message =
            format!("`--output {}` is not a form of what this command prints", self.output.as_str());
        Err(CliError::usage(message).hint(format!("write one of {}", known.join(", "))))
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Apply(apply::Apply),
    Validate(validate::Validate),
    Plan(plan::Plan),
    Diff(diff::Diff),
    Policy(policy::Policy),
    Status(status::Status),
    Get(get::Get),
    Import(import::Import),
    Connect(connect::Connect),
    Export(export::Export),
    Init(init::Init),
    Test(test::Test),
    Tools(tools::Tools),
    Trace(trace::Trace),
    Tree(tree::Tree),
    Update(update::Update),
    Call(call::Call),
    Stdio(stdio::Stdio),
    Token(token::Token),
    Probe(probe::Probe),
    #[command(name = "lock")]
    Lock(lock::LockCommand),
    Logs(logs::Logs),
    Audit(audit::Audit),
    Authorizations(authorizations::Authorizations),
    Volumes(volumes::Volumes),
    Why(why::Why),
    Reconcile(reconcile::Reconcile),
    Explain(explain::Explain),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
    Version(version::Version),
}

/// What commands are given beside their own arguments.
struct Context {
    out: Out,
    /// The configuration file, or nothing.
    file: Settings,
    environment: Environment,
}

/// Parses the arguments of this process and does what they say.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let parsed = overview::grouped(Args::command()).try_get_matches_from(&arguments);
    match parsed.and_then(|given| Args::from_arg_matches(&given)) {
        Ok(args) => finish(args.execute()).into(),
        Err(error) => {
            // Nobody reads: nothing to say to nobody.
            let _ = error.print();
            if error.use_stderr() { Exit::Usage.into() } else { Exit::Success.into() }
        }
    }
}

/// Hides settings that mean nothing to a command. They are taken all the same, so that the variables
/// and flags of `run` can be repeated.
fn hide(arg: clap::Arg, settings: &[&str]) -> clap::Arg {
    let hidden = settings.contains(&arg.get_id().as_str());
    if hidden { arg.hide(true) } else { arg }
}

fn finish(result: CliResult<Exit>) -> Exit {
    result.unwrap_or_else(|error| {
        error.report();
        error.exit()
    })
}

impl Args {
    fn execute(self) -> CliResult<Exit> {
        let Self { global, command } = self;
        global.takes(command.formats())?;
        let file = global.config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
        start_log(&global, &file, &command)?;
        let context = Context { out: Out::new(global.output), file, environment: Environment::capture() };
        // Two at least: one that blocks by mistake must not hold up the other.
        let workers = std::thread::available_parallelism().map_or(2, |count| count.get().max(2));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .enable_all()
            .build()
            .map_err(|error| CliError::failure("failed to start the runtime").caused_by(&error))?;
        let result = runtime.block_on(command.execute(&context));
        // Reads that block, such as one of a repository, do not hold up the end.
        runtime.shutdown_background();
        result
    }
}

impl Command {
    fn long_running(&self) -> bool {
        matches!(self, Self::Run(_) | Self::Apply(_))
    }

    /// What is logged where nobody says anything else.
    fn usual_log(&self) -> &'static str {
        match self {
            _ if self.long_running() => telemetry::DEFAULT_FILTER,
            // It tells itself what failed.
            Self::Test(_) => "error",
            _ => "warn",
        }
    }

    /// How its work is shown. Those that run long tell their steps in the log.
    fn shows(&self, global: &Global, file: &Settings) -> Show {
        let works = self.long_running() || matches!(self, Self::Probe(_) | Self::Plan(_) | Self::Call(_));
        let json = global.log_format.as_deref().or(file.log_format.as_deref()) == Some("json");
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let terminal = std::io::stderr().is_terminal() && !dumb && !json;
        match self {
            _ if works && terminal => Show::Terminal,
            Self::Probe(_) => Show::Lines,
            _ => Show::Nothing,
        }
    }

    /// The forms in which it prints.
    fn formats(&self) -> &'static [Format] {
        match self {
            Self::Validate(_) => validate::FORMATS,
            Self::Diff(_) => diff::FORMATS,
            Self::Explain(_) => explain::FORMATS,
            Self::Test(_) => test::FORMATS,
            _ => Format::USUAL,
        }
    }

    async fn execute(self, context: &Context) -> CliResult<Exit> {
        match self {
            Self::Run(command) => command.execute(context).await,
            Self::Apply(command) => command.execute(context).await,
            Self::Validate(command) => command.execute(context).await,
            Self::Plan(command) => command.execute(context).await,
            Self::Diff(command) => command.execute(context).await,
            Self::Policy(command) => command.execute(context).await,
            Self::Status(command) => command.execute(context).await,
            Self::Get(command) => command.execute(context).await,
            Self::Import(command) => command.execute(context).await,
            Self::Connect(command) => command.execute(context),
            Self::Export(command) => command.execute(context).await,
            Self::Init(command) => command.execute(context),
            Self::Test(command) => command.execute(context).await,
            Self::Tools(command) => command.execute(context).await,
            Self::Trace(command) => Box::pin(command.execute(context)).await,
            Self::Tree(command) => Box::pin(command.execute(context)).await,
            Self::Update(command) => Box::pin(command.execute(context)).await,
            Self::Call(command) => command.execute(context).await,
            Self::Stdio(command) => command.execute(context).await,
            Self::Token(command) => command.execute(context),
            Self::Probe(command) => command.execute(context).await,
            Self::Lock(command) => Box::pin(command.execute(context)).await,
            Self::Logs(command) => command.execute(context).await,
            Self::Audit(command) => command.execute(context).await,
            Self::Authorizations(command) => command.execute(context).await,
            Self::Volumes(command) => command.execute(context).await,
            Self::Why(command) => command.execute(context).await,
            Self::Reconcile(command) => command.execute(context).await,
            Self::Doctor(command) => command.execute(context).await,
            Self::Explain(command) => command.execute(context),
            Self::Completions(command) => command.execute(context),
            Self::Version(command) => command.execute(context),
        }
    }
}

fn start_log(global: &Global, file: &Settings, command: &Command) -> CliResult<()> {
    let usual = command.usual_log();
    let filter = global.log.as_deref().or(file.log.as_deref()).unwrap_or(usual);
    let format = match global.log_format.as_deref().or(file.log_format.as_deref()) {
        None => LogFormat::default(),
        Some(text) => LogFormat::parse(text).ok_or_else(|| {
            CliError::usage(format!("`log-format`: `{text}` is not a form of the log"))
                .hint("write `text` or `json`")
        })?,
    };
    telemetry::init(filter, format, command.shows(global, file)).map_err(|error| {
        CliError::usage("`log` cannot be used")
            .caused_by(&error)
            .hint("write error, warn, info or debug, or a filter such as info,toolcrib::git=debug")
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_command_has_examples_and_every_flag_a_description() {
        let command = Args::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{} has no examples", sub.get_name());
            for argument in sub.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", sub.get_name(), argument.get_id());
            }
        }
    }
}
