//! All connections there are, by the instance they lead to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::Notify;

use super::group::Groups;
use super::watched::Watched;
use super::{Held, Upstream};
use crate::live::UpstreamKey;

/// All connections there are. Probes make them, calls use them.
#[derive(Default)]
pub struct Upstreams {
    connections: RwLock<BTreeMap<UpstreamKey, Arc<Upstream>>>,
    changes: Arc<Changes>,
    pub(super) watched: Watched,
    pub(super) groups: Groups,
}

/// Whose lists changed or whose connection ended since somebody asked. It holds each key once, so it
/// is as large as there are servers at most.
#[derive(Default)]
struct Changes {
    keys: Mutex<BTreeSet<UpstreamKey>>,
    some: Notify,
}

impl Upstreams {
    pub fn get(&self, key: &UpstreamKey) -> Option<Arc<Upstream>> {
        self.connections.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// The connection for a call: once it is removed, draining waits for whoever holds it. None when it
    /// is closed.
    pub fn hold(&self, key: &UpstreamKey) -> Option<Held> {
        let connections = self.connections.read().unwrap_or_else(PoisonError::into_inner);
        connections
            .get(key)
            .filter(|upstream| !upstream.is_closed())
            .map(|found| Held::new(Arc::clone(found)))
    }

    /// Keeps a connection, and returns the one it replaces.
    pub fn insert(&self, key: UpstreamKey, upstream: Arc<Upstream>) -> Option<Arc<Upstream>> {
        self.keep_watching(&key.server, &upstream);
        self.connections.write().unwrap_or_else(PoisonError::into_inner).insert(key, upstream)
    }

    pub fn remove(&self, key: &UpstreamKey) -> Option<Arc<Upstream>> {
        self.groups.dismiss(key);
        self.connections.write().unwrap_or_else(PoisonError::into_inner).remove(key)
    }

    pub fn keys(&self) -> Vec<UpstreamKey> {
        self.connections.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Waits for a server whose lists changed or whose connection ended by itself. Several changes of
    /// one server are told once; none is lost when the future is dropped.
    pub async fn changed(&self) -> UpstreamKey {
        loop {
            if let Some(key) = self.changes.take() {
                return key;
            }
            self.changes.some.notified().await;
        }
    }

    /// What a connection to `key` calls when it changed.
    pub fn teller(&self, key: &UpstreamKey) -> impl Fn() + Send + Sync + 'static + use<> {
        let (changes, key) = (Arc::clone(&self.changes), key.clone());
        move || changes.tell(key.clone())
    }
}

impl Changes {
    fn take(&self) -> Option<UpstreamKey> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
    }

    fn tell(&self, key: UpstreamKey) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        self.some.notify_one();
    }
}
