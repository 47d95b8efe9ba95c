//! Resources whose changes clients want to hear of.
//!
//! Input: who watches what of which server. Output: the servers are asked to tell (`resources/subscribe`,
//! or a `subscriptions/listen` that names them), and what they tell reaches whoever watches. A server that
//! is replaced is asked again. Invariants: each is asked once, however many watch; what a server tells of
//! a resource that nobody watches is dropped. Sources: MCP 2025-11-25 `server/resources`, 2026-07-28
//! `basic/patterns/subscriptions`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{broadcast, watch};

use super::{Params, Upstream, Upstreams, era};
use crate::mcp::wire::{Era, quote, raw};
use crate::ports::CallContext;
use crate::resource::Name;

/// Resources of one server that are watched at a time.
const MAX_WATCHED: usize = 4096;
/// Told changes kept for a slow stream; one that falls behind further tells all that it watches.
const UPDATES: usize = 256;
/// How long a server may take to note what is watched.
const SUBSCRIBE: Duration = Duration::from_secs(30);

/// By server: how many watch each resource.
type Counts = watch::Sender<BTreeMap<Arc<str>, usize>>;

/// What is watched, of all servers.
pub(super) struct Watched {
    by_server: Mutex<HashMap<Name, Arc<Counts>>>,
    updates: broadcast::Sender<Updated>,
}

impl Default for Watched {
    fn default() -> Self {
        Self { by_server: Mutex::default(), updates: broadcast::channel(UPDATES).0 }
    }
}

/// A resource that changed, as its server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updated {
    pub server: Name,
    pub uri: Arc<str>,
}

/// As long as it lives, its server is asked to tell of the resource.
pub struct Watch {
    pub resource: Updated,
    counts: Arc<Counts>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let uri = &self.resource.uri;
        self.counts.send_modify(|counts| {
            let left = counts.get_mut(uri).map_or(0, |count| {
                *count -= 1;
                *count
            });
            if left == 0 {
                counts.remove(uri);
            }
        });
    }
}

impl Watched {
    fn of(&self, server: &Name) -> Arc<Counts> {
        let mut all: MutexGuard<'_, _> = self.by_server.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(server.clone()).or_default())
    }
}

impl Upstreams {
    /// Begins to watch a resource; none when too many of the server are watched.
    pub fn watch(&self, server: &Name, uri: &str) -> Option<Watch> {
        let counts = self.watched.of(server);
        let uri: Arc<str> = uri.into();
        let mut room = true;
        counts.send_if_modified(|counts| {
            room = counts.len() < MAX_WATCHED || counts.contains_key(&uri);
            if !room {
                return false;
            }
            let count = counts.entry(Arc::clone(&uri)).or_default();
            *count += 1;
            *count == 1
        });
        room.then(|| Watch { resource: Updated { server: server.clone(), uri }, counts })
    }

    /// How many resources are watched.
    pub fn watched(&self) -> usize {
        let all = self.watched.by_server.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().map(|counts| counts.borrow().len()).sum()
    }

    /// Whether any resource of a server is watched.
    pub(super) fn watches(&self, server: &Name) -> bool {
        let all = self.watched.by_server.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(server).is_some_and(|counts| !counts.borrow().is_empty())
    }

    /// What servers tell of watched resources from now on.
    pub fn updates(&self) -> broadcast::Receiver<Updated> {
        self.watched.updates.subscribe()
    }

    /// Keeps a new connection told of what is watched, until it closes.
    pub(super) fn keep_watching(&self, server: &Name, upstream: &Arc<Upstream>) {
        if !upstream.tells_of_resources() {
            return;
        }
        let (counts, updates) = (self.watched.of(server), self.watched.updates.clone());
        let (mut wanted, mut notices) = (counts.subscribe(), upstream.notices());
        let mut renewed = upstream.inbox.renewed();
        let (weak, server) = (Arc::downgrade(upstream), server.clone());
        let closed = upstream.inbox.closed().clone();
        let telling = async move {
            let mut asked = BTreeSet::new();
            loop {
                let now: BTreeSet<_> = wanted.borrow_and_update().keys().cloned().collect();
                let Some(upstream) = weak.upgrade() else { return };
                upstream.watch_these(&now, &mut asked).await;
                drop(upstream);
                let changed = loop {
                    tokio::select! {
                        // Cancel-safe: a watch keeps its newest value.
                        changed = wanted.changed() => break changed.is_ok(),
                        // Cancel-safe, as above. Another session was told nothing yet, and what changed
                        // before it was opened was not heard.
                        renewal = renewed.changed() => {
                            if renewal.is_ok() {
                                asked.clear();
                                tell_all(&counts, &updates, &server);
                            }
                            break renewal.is_ok();
                        }
                        // Cancel-safe: receiving loses nothing.
                        notice = notices.recv() => match notice {
                            Ok(notice) if &*notice.method == "notifications/resources/updated" => {
                                let uri = notice.params.as_deref().and_then(uri_of);
                                let known = uri.filter(|uri| counts.borrow().contains_key(uri));
                                // Without receivers nobody watches any more.
                                drop(known.map(|uri| updates.send(Updated { server: server.clone(), uri })));
                            }
                            Ok(_) => {}
                            Err(broadcast::error::RecvError::Lagged(_)) => {
                                tell_all(&counts, &updates, &server);
                            }
                            Err(broadcast::error::RecvError::Closed) => return,
                        },
                    }
                };
                if !changed {
                    return;
                }
            }
        };
        upstream.tasks.spawn(async move { closed.run_until_cancelled(telling).await });
    }
}

/// Which changes were missed is not known: all that is watched may have changed.
fn tell_all(counts: &Counts, updates: &broadcast::Sender<Updated>, server: &Name) {
    let all: Vec<_> = counts.borrow().keys().cloned().collect();
    for uri in all {
        // Without receivers nobody watches any more.
        drop(updates.send(Updated { server: server.clone(), uri }));
    }
}

fn uri_of(params: &str) -> Option<Arc<str>> {
    let params: &RawValue = serde_json::from_str(params).ok()?;
    raw::get_str(params, "uri").map(|uri| uri.as_ref().into())
}

impl Upstream {
    /// Whether it says that it tells of changes of resources.
    pub fn tells_of_resources(&self) -> bool {
        let resources = era::capability(&self.handshake, "resources");
        let subscribe = resources.and_then(|resources| raw::get(resources, "subscribe"));
        subscribe.is_some_and(|subscribe| subscribe.get() == "true")
    }

    /// Asks the server to tell of exactly these. `asked`: what it was asked for before.
    async fn watch_these(&self, now: &BTreeSet<Arc<str>>, asked: &mut BTreeSet<Arc<str>>) {
        if self.era == Era::Modern {
            self.listened.send_if_modified(|listened| {
                let changed = listened != now;
                if changed {
                    listened.clone_from(now);
                }
                changed
            });
            return;
        }
        for (uris, method) in [
            (now.difference(asked).cloned().collect::<Vec<_>>(), "resources/subscribe"),
            (asked.difference(now).cloned().collect(), "resources/unsubscribe"),
        ] {
            for uri in uris {
                let Ok(params) = raw::into_raw(format!("{{\"uri\":{}}}", quote(&uri))) else { continue };
                let told = self.call(method, Params::of(&params), SUBSCRIBE, &CallContext::default()).await;
                if let Err(error) = told {
                    tracing::debug!(method, %error, "the server does not take it");
                }
            }
        }
        asked.clone_from(now);
    }
}

#[cfg(test)]
mod tests;
