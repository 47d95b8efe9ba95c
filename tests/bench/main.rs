//! Figures against the goals of the design, each with a ratio to a baseline of the same run.
//!
//! `cargo bench` prints the table; `cargo bench -- NAME` only what begins with NAME, and of the figures of
//! `load` with `-- load "32 clients, 8"` only those that begin so; `--small` leaves out the largest
//! repositories. `TOOLCRIB_BENCH_BINARY` names another build of the program to be measured. Other gateways are measured beside ours when
//! `TOOLCRIB_BENCH_PEERS` names the folder in which `peers/run` installed them. Figures that were measured
//! are kept in `README.md`.
#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program of our own for measuring: it starts programs, keeps time and prints"
)]

mod backend;
mod client;
mod daemon;
mod fixture;
mod follow;
mod gateway;
mod load;
mod memory;
mod passes;
mod peers;
mod policy;
mod report;
mod search;
mod slope;
mod stream;
mod subscribers;
mod switch;
mod validate;
mod warm;

use report::Report;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == backend::ARGUMENT) {
        return backend::serve(&arguments[1..]);
    }
    let mut names = arguments.iter().filter(|argument| !argument.starts_with('-')).cloned();
    let (wanted, only) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
    let mut report = Report::new(arguments.iter().any(|argument| argument == "--small"), only);
    for (name, measure) in [
        ("passes", passes::measure as fn(&mut Report)),
        ("validate", validate::measure),
        ("follow", follow::measure),
        ("gateway", gateway::measure),
        ("list", gateway::lists),
        ("load", load::measure),
        ("peers", peers::measure),
        ("search", search::measure),
        ("policy", policy::measure),
        ("warm", warm::measure),
        ("memory", memory::measure),
        ("subscribers", subscribers::measure),
        ("switch", switch::measure),
        ("slope", slope::measure),
    ] {
        if name.starts_with(&wanted) {
            println!("measuring {name} ...");
            measure(&mut report);
        }
    }
    report.print();
}
