//! Images: made once for each digest, and removed when nothing wants them.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::Done;
use crate::build::{BuildSpec, Context};
use crate::manifest::MAX_MANIFEST_BYTES;
use crate::ports::{BuildFiles, BuildInput, PortError, PortResult};
use crate::reconcile::Ports;
use crate::resource::workload::Egress;
use crate::resource::{Digest, Name, ResourceId};
use crate::telemetry::progress;

/// A file of a build context; larger ones belong in an image or a volume.
const MAX_CONTEXT_FILE: usize = 512 << 20;

/// An image that is wanted.
pub struct Wanted {
    /// By whom first.
    pub id: ResourceId,
    pub runner: Name,
    pub spec: Arc<BuildSpec>,
    /// Although there is one.
    pub rebuild: bool,
}

/// Makes an image, unless it is there. Where nobody wants it any more the wait for it ends.
pub async fn build(ports: Ports, wanted: Wanted, cancel: CancellationToken) -> Done {
    let Wanted { id, runner, spec, rebuild } = wanted;
    let digest = spec.digest;
    let shown = progress::work(format_args!("building {id}"));
    let making = async {
        let Some(engine) = ports.runners.get(&runner) else {
            return Err(PortError::retry(format!("runner `{runner}` is not set up")));
        };
        if !rebuild && engine.built(&spec).await? {
            return Ok(());
        }
        tracing::info!(resource = %id, digest = %digest.short(), image = %spec.tag, "building");
        let input = contents(&ports, &spec).await?;
        let told = id.clone();
        let progress = move |line: &str| {
            tracing::info!(resource = %told, "build: {line}");
            progress::step(line);
        };
        engine.build(&spec, input, rebuild, &progress).await
    }
    .instrument(shown);
    let unwanted = || PortError::retry("the build is not waited for: nobody wants it any more");
    let result = cancel.run_until_cancelled(making).await.unwrap_or_else(|| Err(unwanted()));
    Done::Built { id, runner, digest, result }
}

/// Removes images of ours whose digest is not in `keep`, and ways out that are not in `egress`.
pub async fn collect(
    ports: Ports,
    runner: Name,
    keep: BTreeSet<Digest>,
    egress: BTreeSet<Arc<[Egress]>>,
) -> Done {
    let Some(engine) = ports.runners.get(&runner) else { return Done::Collected };
    if let Err(error) = engine.collect(&keep).await {
        tracing::warn!(%runner, error = %error.chain(), "images that nothing wants stay");
    }
    if let Err(error) = engine.keep_egress(&egress).await {
        tracing::warn!(%runner, error = %error.chain(), "ways out that nothing wants stay");
    }
    Done::Collected
}

/// Reads what the build's context and CA consist of.
async fn contents(ports: &Ports, spec: &BuildSpec) -> PortResult<BuildInput> {
    let ca = match &spec.ca {
        Some(entry) => ports.source.read(&[entry.id], MAX_MANIFEST_BYTES).await?.into_iter().next(),
        None => None,
    };
    let files = match &spec.context {
        Context::Snapshot { files } => {
            let ids: Vec<_> = files.values().map(|entry| entry.id).collect();
            BuildFiles::Snapshot(ports.source.read(&ids, MAX_CONTEXT_FILE).await?)
        }
        Context::Git { url, commit, subdir, credentials } => {
            let tar = ports.lookup.archive(url, commit, subdir.as_deref(), credentials.as_ref()).await?;
            BuildFiles::Archive(tar)
        }
        Context::Empty => BuildFiles::Empty,
    };
    Ok(BuildInput { files, ca })
}
