//! What runs, and what is there to run it: every runner is asked, all at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;

use super::Done;
use crate::build::BuildSpec;
use crate::live::{Live, Observation};
use crate::reconcile::Ports;
use crate::resource::Name;

/// An engine answers a listing in milliseconds; past this it counts as unknown.
pub(super) const OBSERVE_LIMIT: Duration = Duration::from_secs(5);

/// What to ask the runners.
pub struct Watched {
    pub runners: BTreeSet<Name>,
    /// Builds that are wanted and not known to have an image.
    pub builds: Vec<(Name, Arc<BuildSpec>)>,
    /// Whether there may be volumes.
    pub volumes: bool,
    /// Whether there may be containers that were started ahead.
    pub ahead: bool,
    pub epoch: u64,
}

/// Asks every runner what runs, and which images are there.
pub async fn observe(ports: Ports, watched: Watched) -> Done {
    let Watched { runners, builds, volumes, ahead, epoch } = watched;
    let holders = runners.iter().filter(|_| volumes).map(|name| {
        let (name, runner) = (name.clone(), ports.runners.get(name));
        async move {
            match timeout(OBSERVE_LIMIT, runner?.volumes()).await {
                Ok(Ok(volumes)) => Some((name, volumes)),
                Ok(Err(_)) | Err(_) => None,
            }
        }
    });
    let held = join_all(holders.collect::<Vec<_>>());
    let starters = runners.iter().filter(|_| ahead).map(|name| {
        let (name, runner) = (name.clone(), ports.runners.get(name));
        async move {
            match timeout(OBSERVE_LIMIT, runner?.ahead()).await {
                Ok(Ok(digests)) => Some((name, digests)),
                Ok(Err(_)) | Err(_) => None,
            }
        }
    });
    let ahead = join_all(starters.collect::<Vec<_>>());
    let asked = runners.into_iter().map(|name| {
        let runner = ports.runners.get(&name);
        async move {
            let seen = match runner {
                None => Observation::Unknown("it is not set up".to_owned()),
                Some(runner) => match timeout(OBSERVE_LIMIT, runner.observe()).await {
                    Err(_) => Observation::Unknown(format!("no answer within {} s", OBSERVE_LIMIT.as_secs())),
                    Ok(Err(error)) => Observation::Unknown(error.chain()),
                    Ok(Ok(instances)) => Observation::Present(instances),
                },
            };
            (name, seen)
        }
    });
    let images = builds.into_iter().map(|(name, build)| {
        let runner = ports.runners.get(&name);
        async move {
            let there = timeout(OBSERVE_LIMIT, runner?.built(&build)).await;
            matches!(there, Ok(Ok(true))).then_some((name, build.digest))
        }
    });
    let (runners, built, held, ahead) = futures::join!(join_all(asked), join_all(images), held, ahead);
    let (volumes, ahead) = (held.into_iter().flatten().collect(), ahead.into_iter().flatten().collect());
    let live = Live { runners: runners.into_iter().collect(), volumes, ahead };
    Done::Observed { epoch, live, built: built.into_iter().flatten().collect() }
}
