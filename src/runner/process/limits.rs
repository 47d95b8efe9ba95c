//! The child of our own binary that limits itself and then becomes the program.
//!
//! Limits are set between fork and exec. Doing that in the daemon would need `unsafe`; so the
//! daemon starts `toolcrib __limits … -- PROGRAM ARGS`, which sets them on itself and execs.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "__limits";

/// What the child does to itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Bytes of private writable memory of each process (`RLIMIT_DATA`; not the address space,
    /// which runtimes reserve by the gigabyte without using it).
    pub(super) memory: Option<u64>,
    /// Tasks of the user in all (`RLIMIT_NPROC`); the kernel does not apply it to root.
    pub(super) tasks: Option<u64>,
    /// Who must be the parent: with another one, the daemon is gone already.
    pub(super) parent: Option<u32>,
}

impl Limits {
    /// The arguments of the subcommand, up to and with `--`.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let Self { memory, tasks, parent } = self;
        let mut arguments = vec![OsString::from(SUBCOMMAND)];
        let mut flag = |name: &str, value: Option<String>| {
            arguments.extend(value.map(|value| [name.into(), value.into()]).into_iter().flatten());
        };
        flag("--memory", memory.map(|bytes| bytes.to_string()));
        flag("--tasks", tasks.map(|tasks| tasks.to_string()));
        flag("--parent", parent.map(|pid| pid.to_string()));
        arguments.push("--".into());
        arguments
    }

    /// What [`Self::arguments`] wrote, and the command after it.
    fn parse(arguments: &[OsString]) -> Option<(Self, &[OsString])> {
        let mut limits = Self::default();
        let mut rest = arguments;
        loop {
            match rest {
                [dashes, command @ ..] if dashes == "--" => return Some((limits, command)),
                [name, value, more @ ..] => {
                    let value = value.to_str()?;
                    match name.to_str()? {
                        "--memory" => limits.memory = Some(value.parse().ok()?),
                        "--tasks" => limits.tasks = Some(value.parse().ok()?),
                        "--parent" => limits.parent = Some(value.parse().ok()?),
                        _ => return None,
                    }
                    rest = more;
                }
                _ => return None,
            }
        }
    }

    fn apply(&self) -> nix::Result<()> {
        // A core file would hold secrets.
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
        if let Some(bytes) = self.memory {
            lower(Resource::RLIMIT_DATA, bytes)?;
        }
        if let Some(tasks) = self.tasks {
            lower(Resource::RLIMIT_NPROC, tasks)?;
        }
        #[cfg(target_os = "linux")]
        {
            nix::sys::prctl::set_no_new_privs()?;
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        }
        Ok(())
    }
}

/// Sets a limit, but never above the one there is: that is not ours to raise.
fn lower(resource: Resource, limit: u64) -> nix::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    setrlimit(resource, limit.min(hard), limit.min(hard))
}

/// Runs the subcommand: `arguments` are those after [`SUBCOMMAND`]. Returns only when the program
/// could not be started, with the exit code shells use for that.
///
/// Call it before anything else is set up: it runs once for each tool call.
pub fn limits_child(arguments: &[OsString]) -> ExitCode {
    let (code, message) = match become_program(arguments) {
        Err(Failure::Usage) => (2, format!("`{SUBCOMMAND}` is used by the daemon alone")),
        Err(Failure::Orphan) => (125, "the daemon is gone".to_owned()),
        Err(Failure::Limit(error)) => (125, format!("failed to limit the process: {error}")),
        Err(Failure::Exec(program, error)) => (127, format!("failed to run `{program}`: {error}")),
    };
    // Nobody is left to tell when standard error is closed.
    let _unheard = writeln!(std::io::stderr(), "toolcrib: {message}");
    ExitCode::from(code)
}

/// How long a program may be busy being written: others need milliseconds from fork to execution.
const BUSY: Duration = Duration::from_secs(2);
const BUSY_PAUSE: Duration = Duration::from_millis(5);

enum Failure {
    Usage,
    Orphan,
    Limit(nix::Error),
    Exec(String, std::io::Error),
}

#[expect(clippy::disallowed_methods, reason = "becomes the program")]
fn become_program(arguments: &[OsString]) -> Result<std::convert::Infallible, Failure> {
    let (limits, command) = Limits::parse(arguments).ok_or(Failure::Usage)?;
    let (program, rest) = command.split_first().ok_or(Failure::Usage)?;
    limits.apply().map_err(Failure::Limit)?;
    // The parent may have died before the death signal was asked for.
    if limits.parent.is_some_and(|parent| parent != std::os::unix::process::parent_id()) {
        return Err(Failure::Orphan);
    }
    let until = Instant::now() + BUSY;
    loop {
        let error = std::process::Command::new(program).args(rest).exec();
        // A file just checked out: a child forked while it was written holds it until it executes.
        if error.kind() != std::io::ErrorKind::ExecutableFileBusy || Instant::now() >= until {
            return Err(Failure::Exec(program.to_string_lossy().into_owned(), error));
        }
        std::thread::sleep(BUSY_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let limits = Limits { memory: Some(1 << 20), tasks: Some(300), parent: Some(7) };
        let mut arguments = limits.arguments();
        arguments.extend(["sh".into(), "--memory".into()]);
        let (read, command) = Limits::parse(&arguments[1..]).unwrap();
        assert_eq!(read, limits);
        assert_eq!(command, ["sh", "--memory"]);
        assert_eq!(Limits::default().arguments(), ["__limits", "--"]);
    }

    #[test]
    fn refuses_what_it_did_not_write() {
        for arguments in [&["--memory"][..], &["--memory", "x", "--", "sh"], &["--unknown", "1", "--"], &[]] {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            assert!(Limits::parse(&arguments).is_none(), "{arguments:?}");
        }
    }
}
