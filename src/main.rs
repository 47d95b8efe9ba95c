//! The program: children of our own first, then what the arguments say; it ends with the code of that.

use std::process::ExitCode;

use toolcrib::git::fetch;
use toolcrib::runner::process;

/// One allocator for all of the program, the C in it included: with many connections to servers a call costs a
/// tenth less, and what was used is given back.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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
