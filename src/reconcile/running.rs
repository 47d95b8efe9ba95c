//! The jobs under way: at most one for each thing.

use std::future::Future;
use std::pin::Pin;

use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::Reconciler;
use super::job::{Done, Key};
use crate::resource::Digest;
use crate::telemetry::progress;

pub(super) type Jobs = FuturesUnordered<Pin<Box<dyn Future<Output = (Key, Done)> + Send>>>;

/// A job under way.
pub(super) struct Running {
    pub(super) cancel: CancellationToken,
    /// The digest it works for, when it works for one.
    pub(super) digest: Option<Digest>,
}

impl Reconciler {
    /// Starts a job unless one with this key is under way.
    pub(super) fn spawn(
        &mut self,
        key: Key,
        digest: Option<Digest>,
        job: impl FnOnce(CancellationToken) -> Pin<Box<dyn Future<Output = Done> + Send>>,
    ) -> bool {
        if self.running.contains_key(&key) {
            return false;
        }
        let cancel = CancellationToken::new();
        let shown = key.told().map(progress::work);
        let work = job(cancel.clone());
        self.running.insert(key.clone(), Running { cancel, digest });
        self.jobs.push(match shown {
            Some(shown) => Box::pin(async move { (key, work.await) }.instrument(shown)),
            None => Box::pin(async move { (key, work.await) }),
        });
        true
    }
}
