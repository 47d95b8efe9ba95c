//! The catalog that is served, and those that were until lately.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::Instant;

use super::invalid;
use super::sight::Sight;
use crate::catalog::{Catalog, Changed, Cursor, List};
use crate::desired::{OPERATOR, Toolset};
use crate::mcp::server::{Changes, Scope};
use crate::mcp::wire::ErrorObject;

/// Catalogs kept after they were replaced, so that listings under way finish on theirs. They share
/// what did not change.
const RETAINED: usize = 8;
/// How long each of them is kept at least, unless there are newer ones than that.
const RETENTION: Duration = Duration::from_mins(1);
/// How long catalogs are kept while many follow one another closely: longer than a client takes from page
/// to page.
const BURST: Duration = Duration::from_secs(10);
/// How many these are, however large: with large catalogs, passes are far between.
const RETAINED_IN_A_BURST: usize = 64;
/// How many there are of small ones, and the entries they have in sum: some 100 MB if none is shared.
const RETAINED_AT_MOST: usize = 1024;
const ENTRIES_AT_MOST: usize = 200_000;
/// Digits of a commit that name it at least, as Git has it.
const MIN_COMMIT: usize = 4;

/// The current catalog, swapped whole.
pub struct Catalogs {
    current: ArcSwap<Catalog>,
    /// With the time of their replacement, oldest first.
    retained: Mutex<VecDeque<(Arc<Catalog>, Instant)>>,
    changes: watch::Sender<Changes>,
    /// Of each toolset that somebody follows. Dropped with the toolset, which ends their streams.
    of_toolsets: Mutex<BTreeMap<Arc<str>, watch::Sender<Changes>>>,
    /// Of what never changes.
    still: watch::Sender<Changes>,
}

/// What changed: of everything, and of each toolset that somebody follows.
#[derive(Default)]
pub(super) struct Differences {
    all: Changed,
    toolsets: BTreeMap<Arc<str>, Changed>,
}

impl Catalogs {
    pub(super) fn new(first: Catalog) -> Self {
        Self {
            current: ArcSwap::from_pointee(first),
            retained: Mutex::default(),
            changes: watch::Sender::new(Changes::default()),
            of_toolsets: Mutex::default(),
            still: watch::Sender::new(Changes::default()),
        }
    }

    pub fn current(&self) -> Arc<Catalog> {
        self.current.load_full()
    }

    /// How many catalogs that were replaced are kept.
    pub fn retained(&self) -> usize {
        self.retained.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Serves `next` from now on and tells subscribers what of it they can see. Called by one pass at
    /// a time.
    pub fn swap(&self, next: Arc<Catalog>) -> Changed {
        // The first page is what is asked for next, by everybody at once.
        let _ = next.page(List::Tools, 0);
        let mut retained = self.retained.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.current.load_full();
        let changed = next.changed_since(&before);
        self.current.store(next);
        // From here on: whoever follows a toolset only now sees the new catalog anyway.
        let next = self.current();
        self.close_toolsets(&next, &before);
        let differences = self.differences(|toolset| match toolset {
            None => changed,
            Some(toolset) => {
                let name = toolset.id.name.as_str();
                let parts = next.part(name).zip(before.part(name));
                parts.map(|(part, before)| part.changed_since(before)).unwrap_or_default()
            }
        });
        let now = Instant::now();
        retained.push_back((before, now));
        let mut entries = retained.iter().map(|(catalog, _)| catalog.len()).sum();
        while let Some((oldest, since)) = retained.front()
            && is_over(retained.len(), entries, now - *since)
        {
            entries -= oldest.len();
            retained.pop_front();
        }
        drop(retained);
        self.tell(&differences);
        changed
    }

    /// Toolsets that are gone, or open to others than before, are no longer followed: clients come
    /// back, and are told.
    fn close_toolsets(&self, next: &Catalog, before: &Catalog) {
        let access =
            |catalog: &Catalog, name: &str| catalog.toolset(name).map(|toolset| toolset.access.clone());
        self.followed().retain(|name, _| {
            let now = access(next, name);
            now.is_some() && now == access(before, name)
        });
    }

    /// What `differs` says of everything, and of each toolset that somebody follows.
    pub(super) fn differences(&self, differs: impl Fn(Option<&Toolset>) -> Changed) -> Differences {
        let names: Vec<_> = self.followed().keys().cloned().collect();
        let current = self.current();
        let of = |name: Arc<str>| {
            let changed = differs(Some(&**current.toolset(&name)?));
            Some((name, changed))
        };
        Differences { all: differs(None), toolsets: names.into_iter().filter_map(of).collect() }
    }

    /// Tells subscribers which lists they see differently.
    pub(super) fn tell(&self, differences: &Differences) {
        count(&self.changes, differences.all);
        let followed = self.followed();
        for (name, changed) in &differences.toolsets {
            if let Some(changes) = followed.get(name) {
                count(changes, *changed);
            }
        }
    }

    pub(super) fn changes(&self, scope: &Scope) -> watch::Receiver<Changes> {
        match scope {
            Scope::All => self.changes.subscribe(),
            Scope::Revision(_) => self.still.subscribe(),
            Scope::Toolset(name) if &**name == OPERATOR => self.still.subscribe(),
            Scope::Toolset(name) => {
                let mut followed = self.followed();
                // Looked at under the lock: a toolset that goes later takes its stream with it.
                match self.current().toolset(name) {
                    Some(_) => followed.entry(Arc::clone(name)).or_default().subscribe(),
                    None => watch::Sender::default().subscribe(),
                }
            }
        }
    }

    fn followed(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, watch::Sender<Changes>>> {
        self.of_toolsets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The catalog that an endpoint serves. None: of a revision that is not served any more.
    pub(super) fn at(&self, scope: &Scope) -> Option<Arc<Catalog>> {
        match scope {
            Scope::All | Scope::Toolset(_) => Some(self.current()),
            Scope::Revision(commit) => self.pinned(commit).ok(),
        }
    }

    /// What is seen at an endpoint.
    ///
    /// # Errors
    /// Why there is no such endpoint.
    pub(super) fn sight(&self, scope: &Scope) -> Result<Sight, String> {
        let catalog = match scope {
            Scope::All | Scope::Toolset(_) => self.current(),
            Scope::Revision(commit) => self.pinned(commit)?,
        };
        Sight::of(catalog, scope).ok_or_else(|| match scope {
            Scope::Toolset(name) => {
                format!("there is no toolset `{name}`: declare a `Toolset` of that name, or use /mcp")
            }
            Scope::All | Scope::Revision(_) => "there is no such endpoint".to_owned(),
        })
    }

    /// The catalog that was served before the current commit; or of the commit of that name.
    ///
    /// # Errors
    /// Why there is none.
    pub fn before(&self, commit: Option<&str>) -> Result<Arc<Catalog>, String> {
        if let Some(commit) = commit {
            return self.pinned(commit);
        }
        let current = self.current();
        let retained = self.retained.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = |catalog: &Catalog| {
            !catalog.revision.commit.is_empty() && catalog.revision.commit != current.revision.commit
        };
        let other = retained.iter().rev().find(|(catalog, _)| is_other(catalog));
        other.map(|(catalog, _)| Arc::clone(catalog)).ok_or_else(|| {
            "no catalog of an earlier commit is kept; `toolcrib diff` compares any two".to_owned()
        })
    }

    /// The newest catalog of a commit, named by its first digits.
    fn pinned(&self, commit: &str) -> Result<Arc<Catalog>, String> {
        let commit = commit.to_ascii_lowercase();
        if commit.len() < MIN_COMMIT || !commit.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!(
                "`{commit}` is no commit: at least {MIN_COMMIT} of its digits follow `/mcp@`"
            ));
        }
        let current = self.current();
        let retained = self.retained.lock().unwrap_or_else(PoisonError::into_inner);
        let newest_first = std::iter::once(&current).chain(retained.iter().rev().map(|(catalog, _)| catalog));
        let mut found = newest_first.filter(|catalog| catalog.revision.commit.starts_with(&commit));
        let Some(first) = found.next() else {
            return Err(format!(
                "no catalog of commit `{commit}` is kept: of those that were replaced the last {RETAINED} are, for {} s; use /mcp",
                RETENTION.as_secs()
            ));
        };
        match found.find(|catalog| catalog.revision.commit != first.revision.commit) {
            Some(other) => Err(format!(
                "`{commit}` begins the names of two commits that are kept, {} and {}: write more digits",
                first.revision.commit, other.revision.commit
            )),
            None => Ok(Arc::clone(first)),
        }
    }

    /// What is seen where a listing began, and the place where it goes on. `list`: what is listed.
    pub(super) fn of(
        &self,
        scope: &Scope,
        list: &str,
        cursor: Option<&str>,
    ) -> Result<(Sight, usize), ErrorObject> {
        let gone = |_| invalid("this endpoint is not served any more");
        let Some(text) = cursor else { return Ok((self.sight(scope).map_err(gone)?, 0)) };
        let cursor = Cursor::decode(text).filter(|cursor| cursor.list == list).ok_or_else(expired)?;
        let now = self.at(scope).ok_or_else(expired)?;
        let began = if is_of(&now, &cursor) {
            now
        } else {
            let retained = self.retained.lock().unwrap_or_else(PoisonError::into_inner);
            let found = retained.iter().find(|(catalog, _)| is_of(catalog, &cursor));
            found.map(|(catalog, _)| Arc::clone(catalog)).ok_or_else(expired)?
        };
        Ok((Sight::of(began, scope).ok_or_else(expired)?, cursor.offset))
    }
}

fn count(told: &watch::Sender<Changes>, changed: Changed) {
    if changed.any() {
        told.send_modify(|changes| {
            changes.tools += u64::from(changed.tools);
            changes.prompts += u64::from(changed.prompts);
            changes.resources += u64::from(changed.resources);
        });
    }
}

/// A list at an endpoint, as cursors say it: everything at one commit is the same list wherever it is
/// asked for.
pub(super) fn place(member: &str, scope: &Scope) -> String {
    match scope {
        Scope::All | Scope::Revision(_) => member.to_owned(),
        Scope::Toolset(name) => format!("{member}/{name}"),
    }
}

/// For a cursor that leads nowhere.
pub(super) fn expired() -> ErrorObject {
    invalid("the cursor is not one of this endpoint, or of a catalog that is gone: list again without it")
}

/// Whether the oldest of `count` catalogs with `entries` in all goes, so long after it was replaced.
fn is_over(count: usize, entries: usize, age: Duration) -> bool {
    let crowded = count > RETAINED_IN_A_BURST && (entries > ENTRIES_AT_MOST || count > RETAINED_AT_MOST);
    crowded || age > RETENTION || (count > RETAINED && age > BURST)
}

fn is_of(catalog: &Catalog, cursor: &Cursor) -> bool {
    catalog.generation == cursor.generation && catalog.revision.short() == cursor.revision
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catalogs_are_kept_for_those_that_list_them_and_within_bounds() {
        let (now, page, burst) = (Duration::ZERO, Duration::from_secs(9), Duration::from_secs(11));
        let cases = [
            (1, 1, Duration::from_secs(59), false),
            (1, 1, Duration::from_secs(61), true),
            (8, 8, burst, false),
            (9, 9, burst, true),
            (64, 64 * 100_000, page, false),
            (65, 65 * 100_000, now, true),
            (180, 180 * 1_100, page, false),
            (182, 182 * 1_100, now, true),
            (1024, 1024 * 10, page, false),
            (1025, 1025 * 10, now, true),
        ];
        for (count, entries, age, expected) in cases {
            assert_eq!(is_over(count, entries, age), expected, "{count} of {entries} after {age:?}");
        }
    }
}
