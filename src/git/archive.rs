//! The files of a commit as a tar.
//!
//! Input: a listing and a folder in it. Output: the same bytes for the same files, whoever makes
//! them and when: sorted paths, no times, no owners, modes 644 and 755. Invariants: bounded in bytes
//! and entries; no symlink leads out of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use tar::{Builder, EntryType, Header};

use super::objects::Objects;
use crate::manifest::{Mode, RepoPath, TreeEntry};
use crate::ports::{PortError, PortResult};

/// Bytes of an archive. It is held in memory; the source of a server has a few megabytes.
const MAX_BYTES: usize = 256 << 20;
/// Files of an archive.
const MAX_ENTRIES: usize = 100_000;

/// The files below `subdir`, under their paths in it.
pub(super) fn archive(
    objects: &Objects,
    files: &BTreeMap<RepoPath, TreeEntry>,
    subdir: &RepoPath,
) -> PortResult<Bytes> {
    let prefix = if subdir.as_str().is_empty() { String::new() } else { format!("{subdir}/") };
    let mut builder = Builder::new(Vec::new());
    let mut entries = 0;
    for (path, entry) in files {
        let Some(inside) = path.as_str().strip_prefix(&prefix) else { continue };
        entries += 1;
        if entries > MAX_ENTRIES {
            return Err(refused(format!("it has more than {MAX_ENTRIES} files")));
        }
        append(&mut builder, objects, inside, *entry)?;
    }
    if entries == 0 {
        return Err(refused(format!("there is no folder `{subdir}` in it"))
            .hint("correct `subdir`, or leave it out for the root of the repository"));
    }
    builder.into_inner().map(Bytes::from).map_err(unwritten)
}

fn append(builder: &mut Builder<Vec<u8>>, objects: &Objects, path: &str, entry: TreeEntry) -> PortResult<()> {
    let mut header = Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(if entry.mode == Mode::Executable { 0o755 } else { 0o644 });
    header.set_size(0);
    if entry.mode == Mode::Submodule {
        // An empty folder, as `git clone` leaves it: submodules are not fetched.
        tracing::warn!(path, "a submodule is left out of the source of a build");
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        return builder.append_data(&mut header, format!("{path}/"), std::io::empty()).map_err(unwritten);
    }
    let left = MAX_BYTES.saturating_sub(builder.get_ref().len());
    let contents = objects.read(&[entry.id], left)?;
    let content = contents.first().map_or(&[][..], |bytes| bytes);
    if entry.mode == Mode::Symlink {
        let target = std::str::from_utf8(content).ok().filter(|target| stays(path, target));
        let Some(target) = target else {
            return Err(refused(format!("the symlink `{path}` leads out of it"))
                .hint("replace the symlink by the file it leads to, or name a `subdir` without it"));
        };
        header.set_entry_type(EntryType::Symlink);
        return builder.append_link(&mut header, path, target).map_err(unwritten);
    }
    header.set_size(content.len() as u64);
    builder.append_data(&mut header, path, content).map_err(unwritten)
}

/// Whether a symlink at `path` leads to a place inside.
fn stays(path: &str, target: &str) -> bool {
    let folder = RepoPath::parse(path).map(|path| path.parent());
    !target.is_empty() && folder.is_some_and(|folder| folder.join(target).is_some())
}

fn refused(why: String) -> PortError {
    PortError::stalled("failed to archive the source").caused_by(why)
}

fn unwritten(error: std::io::Error) -> PortError {
    PortError::stalled("failed to archive the source").caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::stays;

    #[test]
    fn symlinks_that_stay_inside() {
        for (path, target, expected) in [
            ("a", "b", true),
            ("a/b", "../c", true),
            ("a/b", "../../c", false),
            ("a", "..", false),
            ("a", "/etc/passwd", false),
            ("a", "", false),
            ("a/b/c", "./../d", true),
        ] {
            assert_eq!(stays(path, target), expected, "{path} -> {target}");
        }
    }
}
