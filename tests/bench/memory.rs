//! Resident memory of the idle daemon.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::daemon::{Daemon, program};
use crate::fixture::Fixture;
use crate::report::Report;

/// After the start, before memory is read: what starting took is given back.
const REST: Duration = Duration::from_secs(3);

/// Has a program read from the disk when it is started next, as after a start of the machine.
///
/// How much of a program Linux maps around what is used depends on how its file came into memory: one that was
/// just written has more of it mapped than one that was read. Measured alike, all are read.
pub(crate) fn forget(program: &Path) {
    let file = File::open(program).unwrap();
    file.sync_all().unwrap();
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
}

pub(crate) fn measure(report: &mut Report) {
    forget(&program());
    let mut baseline = 0;
    for (tools, goal) in [(0, None), (100, Some(30)), (10_000, Some(150))] {
        if !report.takes(tools) {
            continue;
        }
        let fixture = Fixture::new(tools, &[]);
        let daemon = Daemon::start(fixture.path(), tools);
        std::thread::sleep(REST);
        let kib = daemon.resident();
        if baseline == 0 {
            baseline = kib;
        }
        let share = f64::from(u32::try_from(kib).unwrap()) / f64::from(u32::try_from(baseline).unwrap());
        report.row(
            &format!("resident memory, idle, {tools} tools"),
            &goal.map_or_else(String::new, |mib| format!("<= {mib} MiB")),
            format!("{:.1} MiB", f64::from(u32::try_from(kib).unwrap()) / 1024.0),
            format!("{share:.2} x with no tool"),
            goal.map(|mib: u64| kib <= mib << 10),
        );
    }
}
