//! `.toolcribignore`: which files are not manifests.
//!
//! The syntax and the rules are those of `.gitignore`: a file in any folder at or below the manifest
//! path speaks for what is below its folder, the last matching line wins, a deeper file wins over a
//! higher one, and what is inside an ignored folder cannot be taken back.

use std::collections::BTreeMap;

use bytes::Bytes;
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::{BlobId, RepoPath, Snapshot};

/// What the files are called.
const NAME: &str = ".toolcribignore";

/// The ignore files of a snapshot with their blobs.
pub(super) fn files(snapshot: &Snapshot) -> impl Iterator<Item = (RepoPath, BlobId)> {
    super::below(snapshot)
        .filter(|(path, _)| path.as_str().rsplit('/').next() == Some(NAME))
        .map(|(path, entry)| (path.clone(), entry.id))
}

/// The rules of a snapshot, by the folder they speak for.
#[derive(Default)]
pub(super) struct Rules(BTreeMap<RepoPath, Gitignore>);

impl Rules {
    /// Lines that are not patterns are passed over, as Git does.
    pub(super) fn new(snapshot: &Snapshot, contents: &BTreeMap<BlobId, Bytes>) -> Self {
        let rules = |(path, id): (RepoPath, BlobId)| {
            let mut builder = GitignoreBuilder::new("");
            for line in String::from_utf8_lossy(contents.get(&id)?).lines() {
                let _ = builder.add_line(None, line);
            }
            Some((path.parent(), builder.build().ok()?))
        };
        Self(files(snapshot).filter_map(rules).collect())
    }

    pub(super) fn ignores(&self, path: &RepoPath) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let text = path.as_str();
        // Every folder above, from the root down, and then the file itself.
        let folders = text.match_indices('/').map(|(at, _)| (&text[..at], true));
        folders.chain([(text, false)]).any(|(path, folder)| self.says(path, folder))
    }

    /// What the nearest file with an opinion says of one path.
    fn says(&self, path: &str, folder: bool) -> bool {
        let mut above = path;
        loop {
            above = above.rsplit_once('/').map_or("", |(above, _)| above);
            let rules = RepoPath::parse(above).and_then(|above| self.0.get(&above));
            if let Some(rules) = rules {
                let inside = path[above.len()..].trim_start_matches('/');
                match rules.matched(inside, folder) {
                    Match::Ignore(_) => return true,
                    Match::Whitelist(_) => return false,
                    Match::None => {}
                }
            }
            if above.is_empty() {
                return false;
            }
        }
    }
}
