//! Process groups as the kernel knows them, and the processes that left theirs.
//!
//! Everything we start carries `TOOLCRIB_INSTANCE=<installation>/<name>` in its environment, and so
//! does what it starts. A process that made a group of its own is found by that.

#![expect(clippy::disallowed_methods, reason = "reads /proc")]

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// The variable every process of ours carries.
pub(super) const MARKER: &str = "TOOLCRIB_INSTANCE";

/// Bytes of one environment that are looked at; the kernel's own limit for all of it is 2 MiB by
/// default, and the marker stands among the first of what we give.
const MAX_ENVIRON: u64 = 2 << 20;

/// What `/proc/<pid>/stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) group: i32,
    /// In clock ticks since boot: together with the pid, unique until the next boot.
    pub(super) start: u64,
}

/// None when there is no such process.
pub(super) fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name in parentheses may hold anything, also spaces and `)`.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Fields count from 1, and `rest` begins with the third.
    Some(Stat { group: fields.get(5 - 3)?.parse().ok()?, start: fields.get(22 - 3)?.parse().ok()? })
}

/// Signals every process of a group; nothing happens when there is none.
pub(super) fn signal(group: i32, signal: Signal) {
    // 0 and 1 would be our own group and everybody.
    if group > 1 {
        match killpg(Pid::from_raw(group), signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => tracing::warn!(group, %error, "failed to signal a process group"),
        }
    }
}

/// One process of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marked {
    pub(super) pid: i32,
    pub(super) group: i32,
    /// The part of its marker after the installation.
    pub(super) name: String,
}

/// All processes that carry the marker of `installation`, other than this one.
pub(super) fn marked(installation: &str) -> Vec<Marked> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != own)
        .filter_map(|pid| {
            let name = marker(pid, installation)?;
            Some(Marked { pid, group: stat(pid)?.group, name })
        })
        .collect()
}

fn marker(pid: i32, installation: &str) -> Option<String> {
    use std::io::Read as _;
    let mut environ = Vec::new();
    let file = std::fs::File::open(format!("/proc/{pid}/environ")).ok()?;
    file.take(MAX_ENVIRON).read_to_end(&mut environ).ok()?;
    environ.split(|byte| *byte == 0).find_map(|variable| {
        let value = std::str::from_utf8(variable).ok()?.strip_prefix(MARKER)?.strip_prefix('=')?;
        Some(value.strip_prefix(installation)?.strip_prefix('/')?.to_owned())
    })
}

/// Kills every marked process whose name `dead` says so.
pub(super) fn kill_marked(installation: &str, dead: &dyn Fn(&str) -> bool) {
    for process in marked(installation) {
        if dead(&process.name) && process.pid > 1 {
            // Gone by itself in the meantime is as good.
            let _gone = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
    }
}

/// How many tasks (processes and threads) the user of this process has: what `RLIMIT_NPROC` counts.
pub(super) fn tasks_of_user() -> u64 {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    let uid = nix::unistd::getuid().as_raw();
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .filter_map(|status| {
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
            let owner: u32 = field("Uid:")?.split_whitespace().next()?.parse().ok()?;
            if owner == uid { field("Threads:")?.trim().parse::<u64>().ok() } else { None }
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stat_with_any_name() {
        let rest = "S 1 42 42 0 -1 4194304 100 0 0 0 0 0 0 0 20 0 1 0 123456 1000 200";
        for name in ["sh", "a b", "a) S 1 (b"] {
            let stat = parse_stat(&format!("17 ({name}) {rest}"));
            assert_eq!(stat, Some(Stat { group: 42, start: 123_456 }), "{name}");
        }
        assert_eq!(parse_stat("17 (sh) S 1"), None);
        assert!(stat(i32::try_from(std::process::id()).unwrap()).is_some());
    }
}
