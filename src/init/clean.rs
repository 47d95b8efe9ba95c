//! Between two calls in one container: nothing of the first is left for the second.
//!
//! Every other process is killed, file systems in memory are emptied, and what processes leave to each
//! other (System V, POSIX queues and shared memory) is removed. A read-only root has nothing else that a
//! program without rights can write, but declared volumes, which are meant to stay. As root it is not
//! tried: then too much can be changed.

use std::fs;
use std::io::Error;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::sys;

const SIGKILL: i32 = 9;

/// The folders that a program may have written to and that do not outlive the container: file systems in
/// memory, and message queues. Those of the engine's own (`/dev`, below `/proc` and `/sys`) are root's.
pub fn folders() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let folder = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (target, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        let ours = target != "/dev" && !target.starts_with("/proc") && !target.starts_with("/sys");
        let written = matches!(kind, "tmpfs" | "mqueue") && options.split(',').any(|option| option == "rw");
        let target = PathBuf::from(unescaped(target));
        (ours && written && target.is_dir()).then_some(target)
    };
    mounts.lines().filter_map(folder).collect()
}

/// Spaces and the like are written in octal (`proc(5)`).
fn unescaped(target: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(target.to_owned(), |text, (code, sign)| text.replace(code, sign))
}

/// Kills every other process and waits until they are gone. This is the first process of the container, so
/// whatever was orphaned is a child of it.
pub fn kill_all() {
    sys::kill_all(SIGKILL);
    while sys::reap(true).is_some() {
        sys::kill_all(SIGKILL);
    }
}

/// # Errors
/// When something is left; the container must not be used again.
pub fn clean(folders: &[PathBuf]) -> Result<(), Error> {
    if sys::is_root() {
        return Err(Error::other("it runs as root"));
    }
    kill_all();
    for folder in folders {
        empty(folder)?;
    }
    for (kind, file) in [(sys::Ipc::Memory, "shm"), (sys::Ipc::Semaphores, "sem"), (sys::Ipc::Queue, "msg")] {
        let listed = fs::read_to_string(format!("/proc/sysvipc/{file}")).unwrap_or_default();
        for line in listed.lines().skip(1) {
            let id = line.split_whitespace().nth(1).and_then(|id| id.parse().ok());
            sys::remove(kind, id.ok_or_else(|| Error::other("a list of what is shared cannot be read"))?)?;
        }
    }
    Ok(())
}

/// Removes what is in it, on this very file system: what is mounted below stays, with the way there. Links
/// are removed, not followed. Whether nothing is left.
fn empty(folder: &Path) -> Result<bool, Error> {
    let device = fs::symlink_metadata(folder)?.dev();
    let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut all = true;
    for path in entries.iter().map(fs::DirEntry::path) {
        let found = fs::symlink_metadata(&path)?;
        if found.dev() != device || found.is_dir() && !empty(&path)? {
            all = false;
        } else if found.is_dir() {
            fs::remove_dir(&path)?;
        } else {
            fs::remove_file(&path)?;
        }
    }
    Ok(all)
}
