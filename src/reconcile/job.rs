//! The work that takes time, each piece by itself: fetch, look up, observe, build, start, adopt,
//! refresh, stop. A job owns what it needs, decides nothing and ends in a [`Done`].

mod build;
mod files;
mod observe;
mod prove;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Ports;
use crate::contract::Report;
use crate::desired::{Question, Server, VolumeId};
use crate::live::{Instance, Live, UpstreamKey};
use crate::manifest::Snapshot;
use crate::ports::{Offer, PortError, PortResult};
use crate::resource::{Digest, Name, ResourceId};

pub use build::{Wanted, build, collect};
pub(super) use files::located;
pub use files::{folder, keep_checkouts, read};
pub use observe::{Watched, observe};
pub use prove::{adopt, reach, start};

/// A stopped probe leaves this long to its instance before it is killed.
const FAILED_GRACE: Duration = Duration::from_secs(2);

/// What a job is known by: at most one of each runs at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Fetch,
    Observe,
    Lookup(Question),
    /// By runner and digest: resources that want the same image share its build.
    Build(Name, Digest),
    /// Removing images that nothing wants.
    Collect(Name),
    /// Removing checkouts that nothing runs in.
    Checkouts,
    /// Start, adopt or reach: one change of a resource at a time.
    Resource(ResourceId),
    /// The contract tests of a tool.
    Rehearsal(ResourceId),
    Refresh(UpstreamKey),
    /// The start of an instance for one client, by instance name.
    Lend(String),
    /// By instance name.
    Stop(String),
    /// The removal of a volume.
    Volume(VolumeId),
}

impl Key {
    /// What people are told of it while it goes on; none of what nobody waits for. A build tells by
    /// itself for whom it is.
    pub fn told(&self) -> Option<String> {
        match self {
            Self::Fetch => Some("fetching the repository".to_owned()),
            Self::Lookup(Question::Git { url, reference, .. }) => {
                Some(format!("looking up `{reference}` of {url}"))
            }
            Self::Lookup(Question::Image { reference, .. }) => Some(format!("fetching image {reference}")),
            Self::Resource(id) => Some(format!("starting {id}")),
            Self::Rehearsal(id) => Some(format!("testing {id}")),
            Self::Stop(name) => Some(format!("stopping {name}")),
            Self::Volume(id) => Some(format!("removing volume {id}")),
            Self::Observe
            | Self::Build(..)
            | Self::Collect(_)
            | Self::Checkouts
            | Self::Lend(_)
            | Self::Refresh(_) => None,
        }
    }
}

/// How a job ended.
pub enum Done {
    Fetched(PortResult<Snapshot>),
    Observed {
        epoch: u64,
        live: Live,
        built: BTreeSet<(Name, Digest)>,
    },
    Answered(Question, Result<String, String>),
    Built {
        id: ResourceId,
        runner: Name,
        digest: Digest,
        result: PortResult<()>,
    },
    Collected,
    LetGo,
    Serving {
        id: ResourceId,
        digest: Digest,
        result: Result<Box<Proven>, Failed>,
    },
    Rehearsed {
        id: ResourceId,
        digest: Digest,
        cancelled: bool,
        result: PortResult<Vec<Report>>,
    },
    Refreshed {
        key: UpstreamKey,
        result: PortResult<Offer>,
    },
    /// None: it did not start. `unwanted`: whoever asked for it is gone.
    Lent {
        name: String,
        instance: Option<Instance>,
        unwanted: bool,
    },
    Stopped {
        instance: Instance,
        result: PortResult<()>,
    },
    VolumeDeleted {
        id: VolumeId,
        result: PortResult<()>,
        answer: super::volume::Answer,
    },
}

/// A server that answered.
pub struct Proven {
    pub server: Arc<Server>,
    pub key: UpstreamKey,
    pub offer: Offer,
    /// The checkout its command runs in, where this job started it.
    pub folder: Option<PathBuf>,
    /// What its contract tests came to, when they ran.
    pub reports: Vec<Report>,
}

/// A server that did not.
pub struct Failed {
    pub error: PortError,
    /// The instance that was tried and still runs.
    pub instance: Option<Instance>,
    /// Nobody wants the answer any more.
    pub cancelled: bool,
}

pub async fn fetch(ports: Ports) -> Done {
    Done::Fetched(ports.source.fetch().await)
}

pub async fn look_up(ports: Ports, question: Question) -> Done {
    let answer = match &question {
        Question::Git { url, reference, credentials } => {
            ports.lookup.commit(url, reference, credentials.as_ref()).await
        }
        Question::Image { runner, reference } => match ports.runners.get(runner) {
            Some(runner) => runner.image(reference).await,
            None => Err(PortError::retry(format!("runner `{runner}` is not set up"))),
        },
    };
    let answer = answer.map_err(|error| match &error.hint {
        Some(hint) => format!("{}; {hint}", error.chain()),
        None => error.chain(),
    });
    Done::Answered(question, answer)
}

/// What is remembered only saves time: a store that fails is logged, not obeyed.
pub(super) fn remember(ports: &Ports, key: &str, value: &[u8]) {
    if let Err(error) = ports.store.put(key, value) {
        tracing::warn!(key, error = %error.chain(), "not remembered");
    }
}

pub(super) fn recall(ports: &Ports, key: &str) -> Option<Vec<u8>> {
    ports.store.get(key).ok().flatten()
}

/// Lists again what a server offers.
pub async fn refresh(ports: Ports, key: UpstreamKey, deadline: Duration) -> Done {
    let result = ports.prober.refresh(&key, deadline).await;
    Done::Refreshed { key, result }
}

/// Closes the connection to a server that does not answer over it.
pub async fn let_go(ports: Ports, key: UpstreamKey) -> Done {
    ports.prober.release(&key, Duration::ZERO).await;
    Done::LetGo
}

/// Lets calls end, then stops the instance and removes what it left.
pub async fn stop(ports: Ports, instance: Instance, grace: Duration) -> Done {
    let key = UpstreamKey { server: instance.resource.name.clone(), instance: instance.id.clone() };
    ports.prober.release(&key, grace).await;
    let result = match ports.runners.get(&instance.runner) {
        Some(runner) => runner.stop(&instance.id, FAILED_GRACE.max(Duration::from_secs(10))).await,
        None => Err(PortError::retry(format!("runner `{}` is not set up", instance.runner))),
    };
    Done::Stopped { instance, result }
}

/// Removes a volume with what it holds.
pub async fn delete_volume(ports: Ports, id: VolumeId, answer: super::volume::Answer) -> Done {
    let result = match ports.runners.get(&id.runner) {
        Some(runner) => runner.remove_volume(&id.name).await,
        None => Err(PortError::retry(format!("runner `{}` is not set up", id.runner))),
    };
    Done::VolumeDeleted { id, result, answer }
}
