//! `toolcrib --help`: the commands by what somebody wants to do.

use std::fmt::Write as _;

/// Every command, in the order in which a newcomer meets it.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Begin", &["init", "import", "explain", "connect", "doctor"]),
    ("Serve", &["run", "apply", "reconcile", "stdio"]),
    ("Review a change", &["validate", "plan", "diff", "test", "policy", "lock", "update", "tree", "trace"]),
    (
        "Ask a daemon",
        &["status", "get", "tools", "call", "logs", "why", "audit", "volumes", "authorizations"],
    ),
    ("Other commands", &["probe", "export", "token", "completions", "version", "help"]),
];

/// The same command, with its subcommands in groups.
pub(super) fn grouped(command: clap::Command) -> clap::Command {
    let about = |name: &str| {
        let about = command.find_subcommand(name).and_then(clap::Command::get_about);
        // That of `help` is there only when everything is built, which takes longer than most commands.
        about.map_or_else(|| "Print this, or the help of a command".to_owned(), ToString::to_string)
    };
    let width = command.get_subcommands().map(|known| known.get_name().len()).max().unwrap_or_default();
    let mut groups = String::new();
    for (heading, names) in GROUPS {
        // Writing to a string cannot fail.
        let _ = writeln!(groups, "{heading}:");
        for name in names {
            let _ = writeln!(groups, "  {name:width$}  {}", about(name));
        }
        groups.push('\n');
    }
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{groups}Options:\n{{options}}{{after-help}}"
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let mut command = crate::cli::Args::command();
        command.build();
        let there: BTreeSet<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        assert_eq!(grouped.len(), there.len(), "none is in two");
        assert_eq!(grouped.into_iter().collect::<BTreeSet<_>>(), there);
    }
}
