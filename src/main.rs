//! The program: children of our own first, then what the arguments say; it ends with the code of that.

use std::process::ExitCode;

use toolcrib::git::fetch;
use toolcrib::runner::process;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    // Before anything else: this runs once for each process that a process runner starts.
    if let Some((_, rest)) = arguments.split_first().filter(|(first, _)| *first == process::SUBCOMMAND) {
        return process::limits_child(rest);
    }
    if arguments.first().is_some_and(|first| *first == fetch::SUBCOMMAND) {
        return fetch::run_child(std::io::stdin(), std::io::stdout());
    }
    // Refused only when a provider is set already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    toolcrib::cli::main()
}
