//! Hearing of tasks (the extension `io.modelcontextprotocol/tasks`, SEP-2663): a subscription for each
//! listener, as long as it listens.
//!
//! Input: tasks by the server's own ids. Output: which of them the server tells of, and their states as it
//! tells them. Invariants: of each task the newest state waits, so that a slow listener hears once of many
//! changes and keeps no more than that; what is told of other tasks is dropped; a subscription that breaks
//! is made again, and said again what is served, as states in between were not heard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::value::RawValue;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::inbox::Events;
use super::listen::{self, Pause};
use super::{Upstream, compose::Wishes};
use crate::mcp::wire::{Era, raw};

/// Listeners to tasks on one connection: each has a stream of its own.
pub(super) const MAX_LISTENERS: usize = 256;

pub(super) const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
pub(super) const TOLD: &str = "notifications/tasks";

/// What a listener hears.
#[derive(Debug)]
pub enum TaskNews {
    /// The server tells of these from now on.
    Served(BTreeSet<Arc<str>>),
    /// The state of this task: the notification's parameters.
    State(Arc<str>, Box<RawValue>),
}

/// A listener to tasks. Dropping it ends the subscription.
pub struct Hearing {
    said: Arc<Said>,
    /// The server does not tell of tasks, or the connection is closed.
    ended: CancellationToken,
    _listens: DropGuard,
    _place: OwnedSemaphorePermit,
}

impl Upstream {
    /// Begins to hear of tasks of a modern server. `capabilities` is what it is told of the client, as
    /// with calls. None: too many listen.
    pub fn hear(&self, ids: BTreeSet<Arc<str>>, capabilities: Arc<str>) -> Option<Hearing> {
        let place = Arc::clone(&self.listeners).try_acquire_owned().ok()?;
        let wanted = raw::object_of(&[("taskIds", &raw::strings_of(&ids))]);
        let filter = raw::object_of(&[("notifications", &wanted)]);
        let filter = raw::into_raw(filter).ok().filter(|_| self.era == Era::Modern)?;
        let said = Arc::new(Said { ids, news: Mutex::default(), came: Notify::new() });
        let (listens, ended) = (CancellationToken::new(), CancellationToken::new());
        let (link, events) = (self.link.clone(), Events::of_tasks(&said));
        let (over, ends) = (listens.clone(), ended.clone().drop_guard());
        self.spawn(Arc::clone(&self.inbox), |inbox| async move {
            let _ends = ends;
            let wishes = Wishes { capabilities: &capabilities, ..Wishes::NONE };
            let listening = async {
                let mut pause = Pause::new();
                while listen::subscription(&link, &inbox, &filter, &wishes, Some(&events)).await {
                    pause.wait().await;
                }
            };
            over.run_until_cancelled(listening).await;
        });
        Some(Hearing { said, ended, _listens: listens.drop_guard(), _place: place })
    }
}

impl Hearing {
    /// What comes next; none when nothing comes any more. Cancel-safe.
    pub async fn next(&mut self) -> Option<TaskNews> {
        loop {
            if let Some(news) = self.said.take() {
                return Some(news);
            }
            tokio::select! {
                biased;
                // Cancel-safe: one that is told while nobody waits is kept.
                () = self.said.came.notified() => {}
                // Cancel-safe: tokens stay cancelled.
                () = self.ended.cancelled() => return None,
            }
        }
    }
}

/// What a server said on one subscription and nobody took yet.
pub(super) struct Said {
    ids: BTreeSet<Arc<str>>,
    news: Mutex<News>,
    came: Notify,
}

#[derive(Default)]
struct News {
    served: Option<BTreeSet<Arc<str>>>,
    states: BTreeMap<Arc<str>, Box<RawValue>>,
}

impl Said {
    /// Takes in a notification.
    pub(super) fn note(&self, method: &str, params: &RawValue) {
        if method == ACKNOWLEDGED {
            let served = served(params).into_iter().filter_map(|id| self.ids.get(&*id).cloned());
            self.news().served = Some(served.collect());
        } else {
            let id = raw::get_str(params, "taskId").and_then(|id| self.ids.get(&*id));
            let Some(id) = id else { return };
            self.news().states.insert(Arc::clone(id), params.to_owned());
        }
        self.came.notify_one();
    }

    /// What is served comes before states.
    fn take(&self) -> Option<TaskNews> {
        let mut news = self.news();
        if let Some(served) = news.served.take() {
            return Some(TaskNews::Served(served));
        }
        news.states.pop_first().map(|(id, state)| TaskNews::State(id, state))
    }

    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tasks that an acknowledgement names.
fn served(params: &RawValue) -> Vec<String> {
    let named = raw::get(params, "notifications").and_then(|served| raw::get(served, "taskIds"));
    named.and_then(|ids| serde_json::from_str(ids.get()).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(ids: &[&str]) -> Said {
        let ids = ids.iter().map(|id| Arc::from(*id)).collect();
        Said { ids, news: Mutex::default(), came: Notify::new() }
    }

    fn note(said: &Said, method: &str, params: &str) {
        said.note(method, serde_json::from_str(params).expect("JSON"));
    }

    #[test]
    fn of_each_task_the_newest_state_waits_behind_what_is_served() {
        let said = said(&["a", "b"]);
        for (id, state) in [("b", 1), ("a", 2), ("other", 3), ("b", 4)] {
            note(&said, TOLD, &format!("{{\"taskId\":\"{id}\",\"state\":{state}}}"));
        }
        note(&said, TOLD, "{}");
        note(&said, ACKNOWLEDGED, r#"{"notifications":{"taskIds":["b","other"]}}"#);
        let news: Vec<_> = std::iter::from_fn(|| said.take()).map(|news| format!("{news:?}")).collect();
        assert_eq!(
            news,
            [
                r#"Served({"b"})"#,
                r#"State("a", RawValue({"taskId":"a","state":2}))"#,
                r#"State("b", RawValue({"taskId":"b","state":4}))"#,
            ]
        );
    }

    #[test]
    fn an_acknowledgement_without_tasks_serves_none() {
        for params in ["{}", r#"{"notifications":{}}"#, r#"{"notifications":{"taskIds":[1]}}"#] {
            let said = said(&["a"]);
            note(&said, ACKNOWLEDGED, params);
            assert!(matches!(said.take(), Some(TaskNews::Served(served)) if served.is_empty()), "{params}");
        }
    }
}
