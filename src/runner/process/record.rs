//! What is written about each process group, so that the next daemon can end what this one left.

#![expect(clippy::disallowed_methods, reason = "writes and reads small files of the state folder")]

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::{Config, group};
use crate::resource::{Digest, ResourceId};

/// Bytes of one record; they have some 400.
const MAX_RECORD: u64 = 64 << 10;

/// Written right after a process is spawned. In the moment before, the death signal of the
/// process and its marker cover for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) name: String,
    pub(super) group: i32,
    /// Of the group's leader, see [`group::Stat::start`].
    pub(super) start: u64,
    pub(super) resource: ResourceId,
    pub(super) digest: Digest,
    pub(super) revision: String,
}

impl Record {
    pub(super) fn write(&self, state: &Path) -> std::io::Result<Written> {
        let written = Written(state.join(format!("{}.json", self.name)));
        std::fs::write(&written.0, serde_json::to_vec(self)?)?;
        Ok(written)
    }
}

/// A record that is there; removed on drop.
pub(super) struct Written(PathBuf);

impl Drop for Written {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(record = %self.0.display(), %error, "failed to remove the record of a process");
        }
    }
}

/// Ends every process group an earlier daemon left and removes its folders; those in `live` stay.
pub(super) fn sweep(config: &Config, live: &dyn Fn(&str) -> bool) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(&config.state) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let marked = group::marked(&config.installation);
    for entry in entries {
        let path = entry?.path();
        let Some(file) = path.file_name().and_then(|file| file.to_str()) else { continue };
        let name = file.strip_suffix(".json").unwrap_or(file);
        if live(name) {
            continue;
        }
        if name == file {
            std::fs::remove_dir_all(&path)?;
            continue;
        }
        if let Some(record) = read(&path) {
            end(&record, &marked);
        } else {
            tracing::warn!(path = %path.display(), "the record of a process cannot be read");
        }
        std::fs::remove_file(&path)?;
    }
    group::kill_marked(&config.installation, &|name| !live(name));
    for entry in config.memory.iter().filter_map(|memory| std::fs::read_dir(memory).ok()).flatten().flatten()
    {
        if !entry.file_name().to_str().is_some_and(live) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Option<Record> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MAX_RECORD).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Ends the group of a record if it is still the group that was recorded: its leader lives and
/// began when the record says, or a member carries its name.
fn end(record: &Record, marked: &[group::Marked]) {
    let leads = group::stat(record.group)
        .is_some_and(|stat| stat.start == record.start && stat.group == record.group);
    let member = |process: &group::Marked| process.group == record.group && process.name == record.name;
    if leads || marked.iter().any(member) {
        tracing::info!(name = record.name, group = record.group, "ending what an earlier daemon left");
        group::signal(record.group, Signal::SIGKILL);
    }
}
