//! When refs or a work tree may have changed.
//!
//! Input: events of the file system. Output: a wake-up, a few milliseconds after the last event of a
//! burst. Invariant: it says *when*, never *what*; a lost event costs time, not correctness, because
//! whoever waits also polls. Not here: reading refs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;

use super::blocking;
use crate::ports::PortResult;

/// A commit moves a lock file, a ref and a log within a millisecond; an editor saves in two steps.
const QUIET: Duration = Duration::from_millis(2);
/// A burst that does not end (a build in the work tree) is told this late at the latest.
const LONGEST: Duration = Duration::from_millis(100);

/// How often whatever is followed is looked at although the system reports changes: events get lost
/// on network and overlay file systems.
const RESYNC: Duration = Duration::from_secs(5);
/// How often it is looked at when the system reports nothing.
const POLL: Duration = Duration::from_millis(500);

/// Something that can be watched, and looked at. Both block.
pub(super) trait Watched: Send + Sync + 'static {
    fn targets(&self) -> PortResult<Vec<Target>>;
    /// Whether it differs from what was fetched last.
    fn moved(&self) -> bool;
}

/// The changes of one source, one waiter at a time.
#[derive(Default)]
pub(super) struct Changes(tokio::sync::Mutex<Option<Watch>>);

impl Changes {
    /// Waits for the next change. The watch begins with the first call. Safe to cancel.
    pub(super) async fn next<W: Watched>(&self, watched: &Arc<W>) {
        let mut watch = self.0.lock().await;
        let ask = || {
            let watched = Arc::clone(watched);
            blocking(move || Ok(watched.moved()))
        };
        if watch.is_none() {
            let watched = Arc::clone(watched);
            // A source that cannot be opened now is polled, and watched from the next call on.
            if let Ok(targets) = blocking(move || watched.targets()).await {
                *watch = Some(Watch::start(&targets));
            }
            // Whatever happened before the watch began was told to nobody.
            if ask().await.unwrap_or(false) {
                return;
            }
        }
        loop {
            match watch.as_mut() {
                Some(watch) if watch.works => tokio::select! {
                    () = watch.burst() => return,
                    () = tokio::time::sleep(RESYNC) => {}
                },
                _ => tokio::time::sleep(POLL).await,
            }
            if ask().await.unwrap_or(false) {
                return;
            }
        }
    }
}

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Refs: HEAD below the first folder, `refs` and `packed-refs` below the second.
    Refs { git_dir: PathBuf, common_dir: PathBuf },
    /// Everything below a folder except `.git`.
    Tree(PathBuf),
}

/// A running watch. Dropping it ends it.
struct Watch {
    events: watch::Receiver<u64>,
    /// Whether the system tells us at all; if not, whoever waits must poll often.
    works: bool,
    _watcher: Option<RecommendedWatcher>,
}

impl Watch {
    /// Begins to watch. Where the system refuses (too many watches), `works` is false.
    fn start(targets: &[Target]) -> Self {
        let (sender, events) = watch::channel(0_u64);
        match begin(targets, sender) {
            Ok(watcher) => Self { events, works: true, _watcher: Some(watcher) },
            Err(error) => {
                tracing::warn!(%error, "files cannot be watched; changes are found by polling");
                Self { events, works: false, _watcher: None }
            }
        }
    }

    /// Waits for the end of the next burst. Safe to cancel: the burst is then told to the next call.
    async fn burst(&mut self) {
        if self.events.changed().await.is_err() {
            // The watcher ended: nothing is ever told again.
            return std::future::pending().await;
        }
        // Not seen until the burst has ended, so that a cancelled wait loses nothing.
        self.events.mark_changed();
        let settle = async {
            loop {
                let before = *self.events.borrow();
                tokio::time::sleep(QUIET).await;
                if *self.events.borrow() == before {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(LONGEST, settle).await;
        self.events.mark_unchanged();
    }
}

fn begin(targets: &[Target], sender: watch::Sender<u64>) -> notify::Result<RecommendedWatcher> {
    let wanted = targets.to_vec();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error (a queue that ran over) means that something may have happened.
        let matters = event.map_or(true, |event| {
            event.need_rescan()
                || (changes(event.kind)
                    && event.paths.iter().any(|path| wanted.iter().any(|t| t.holds(path))))
        });
        if matters {
            sender.send_modify(|count| *count += 1);
        }
    })?;
    for target in targets {
        match target {
            Target::Refs { git_dir, common_dir } => {
                watcher.watch(git_dir, RecursiveMode::NonRecursive)?;
                if common_dir != git_dir {
                    watcher.watch(common_dir, RecursiveMode::NonRecursive)?;
                }
                watcher.watch(&common_dir.join("refs"), RecursiveMode::Recursive)?;
            }
            Target::Tree(root) => watcher.watch(root, RecursiveMode::Recursive)?,
        }
    }
    Ok(watcher)
}

fn changes(kind: EventKind) -> bool {
    matches!(kind, EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Any)
}

impl Target {
    /// Whether an event at `path` is of interest.
    fn holds(&self, path: &Path) -> bool {
        match self {
            Self::Refs { git_dir, common_dir } => {
                if path.extension().is_some_and(|extension| extension == "lock") {
                    return false;
                }
                path.starts_with(common_dir.join("refs"))
                    || path == git_dir.join("HEAD")
                    || path == common_dir.join("packed-refs")
            }
            Self::Tree(root) => path
                .strip_prefix(root)
                .is_ok_and(|rest| rest.components().all(|part| part.as_os_str() != ".git")),
        }
    }
}
