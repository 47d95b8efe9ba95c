//! The work that takes time, each piece by itself: fetch, look up, observe, build, start, adopt,
//! refresh, stop. A job owns what it needs, decides nothing and ends in a [`Done`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{Ports, rehearse};
use crate::build::{BuildSpec, Context};
use crate::contract::Report;
use crate::desired::{Location, Program, Question, Server, VolumeId, Workload};
use crate::live::{Instance, Live, Observation, UpstreamKey};
use crate::manifest::{BlobId, MAX_MANIFEST_BYTES, RepoPath, Snapshot};
use crate::ports::{
    BuildFiles, BuildInput, Greeting, Handshake, Identity, Material, Offer, PortError, PortResult,
    SecretValue,
};
use crate::resource::server::Transport;
use crate::resource::workload::Egress;
use crate::resource::{Digest, Name, ResourceId};
use crate::telemetry::progress;

/// An engine answers a listing in milliseconds; past this it counts as unknown.
const OBSERVE_LIMIT: Duration = Duration::from_secs(5);
/// A stopped probe leaves this long to its instance before it is killed.
const FAILED_GRACE: Duration = Duration::from_secs(2);
/// A file of a build context; larger ones belong in an image or a volume.
const MAX_CONTEXT_FILE: usize = 512 << 20;

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

/// Removes checkouts that are not in use.
pub async fn keep_checkouts(ports: Ports, in_use: BTreeSet<PathBuf>) -> Done {
    ports.source.keep_checkouts(&in_use).await;
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

/// Starts an instance and proves it healthy; takes it away again when it is not.
pub async fn start(
    ports: Ports,
    server: Arc<Server>,
    workload: Arc<Workload>,
    identity: Identity,
    snapshot: Arc<Snapshot>,
    cancel: CancellationToken,
) -> Done {
    let id = server.id.clone();
    let digest = server.digests.workload;
    let result = started(&ports, &server, &workload, &identity, &snapshot, &cancel).await;
    Done::Serving { id, digest, result }
}

async fn started(
    ports: &Ports,
    server: &Arc<Server>,
    workload: &Workload,
    identity: &Identity,
    snapshot: &Snapshot,
    cancel: &CancellationToken,
) -> Result<Box<Proven>, Failed> {
    let nothing = |error| Failed { error, instance: None, cancelled: false };
    let Some(runner) = ports.runners.get(&workload.runner) else {
        return Err(nothing(PortError::retry(format!("runner `{}` is not set up", workload.runner))));
    };
    let workload = located(ports, workload, snapshot).await.map_err(nothing)?;
    // Twice at most: a server that dies of the modern greeting is started anew and greeted the legacy way.
    let mut greeted_anew = false;
    loop {
        let material = Material::resolve(&*ports.secrets, &workload.env, &workload.files).map_err(nothing)?;
        let instance = runner.start(identity, &workload, material).await.map_err(nothing)?;
        let proven = match prove(ports, server, &instance, None, cancel).await {
            Ok(proven) => rehearse::server(ports, proven, false, cancel).await,
            Err(error) => Err(error),
        };
        let mut error = match proven {
            Ok(mut proven) => {
                proven.folder = match &workload.program {
                    Program::Command { dir, .. } => Some(PathBuf::from(dir)),
                    Program::Image { .. } => None,
                };
                return Ok(proven);
            }
            Err(error) if cancel.is_cancelled() => {
                return Err(Failed { error, instance: Some(instance), cancelled: true });
            }
            Err(error) => error,
        };
        if let Ok(log) = runner.logs(&instance.id).await
            && !log.trim().is_empty()
        {
            error.detail.get_or_insert(log);
        }
        let key = UpstreamKey { server: server.id.name.clone(), instance: instance.id.clone() };
        ports.prober.release(&key, Duration::ZERO).await;
        let left = runner.stop(&instance.id, FAILED_GRACE).await.is_err().then_some(instance);
        if !error.is_not_modern() || greeted_anew || left.is_some() {
            return Err(Failed { error, instance: left, cancelled: false });
        }
        greeted_anew = true;
        remember(ports, &protocol_key(server.digests.workload), b"legacy");
    }
}

/// Where the protocol a digest spoke is remembered.
fn protocol_key(digest: Digest) -> String {
    format!("protocol/{}", digest.hex())
}

/// Where the handshake with an instance is remembered.
fn handshake_key(instance: &str) -> String {
    format!("handshake/{instance}")
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

async fn prove(
    ports: &Ports,
    server: &Arc<Server>,
    instance: &Instance,
    resumed: Option<&Handshake>,
    cancel: &CancellationToken,
) -> PortResult<Box<Proven>> {
    let key = UpstreamKey { server: server.id.name.clone(), instance: instance.id.clone() };
    let Some(runner) = ports.runners.get(&instance.runner) else {
        return Err(PortError::retry(format!("runner `{}` is not set up", instance.runner)));
    };
    let known = recall(ports, &protocol_key(server.digests.workload));
    let known = known.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok());
    let greeting = match (resumed, known) {
        (Some(handshake), _) => Greeting::Resumed(handshake),
        (None, Some(protocol)) => Greeting::Known(protocol),
        (None, None) => Greeting::Unknown,
    };
    let channel = runner.connect(&instance.id).await?;
    let offer = ports.prober.probe(&key, channel, greeting, server.startup_timeout, cancel).await?;
    remember(ports, &protocol_key(server.digests.workload), offer.protocol.as_bytes());
    if let Ok(handshake) = serde_json::to_vec(&offer.handshake()) {
        remember(ports, &handshake_key(&instance.name), &handshake);
    }
    Ok(Box::new(Proven { server: Arc::clone(server), key, offer, folder: None, reports: Vec::new() }))
}

/// Connects to an instance that runs already. `secrets`: what it was given, where that is known.
pub async fn adopt(
    ports: Ports,
    server: Arc<Server>,
    instance: Instance,
    secrets: Option<Vec<SecretValue>>,
    cancel: CancellationToken,
) -> Done {
    if let (Some(secrets), Some(runner)) = (secrets, ports.runners.get(&instance.runner)) {
        runner.reveal(&instance.id, secrets).await;
    }
    let id = server.id.clone();
    let digest = server.digests.workload;
    // A session over stdio goes on where the last daemon left it; over HTTP a new one is cheap.
    let stdio =
        matches!(&server.location, Location::Runner(workload) if workload.transport == Transport::Stdio);
    let resumed = recall(&ports, &handshake_key(&instance.name))
        .filter(|_| stdio)
        .and_then(|bytes| serde_json::from_slice::<Handshake>(&bytes).ok());
    let result = match prove(&ports, &server, &instance, resumed.as_ref(), &cancel).await {
        Ok(proven) => rehearse::server(&ports, proven, true, &cancel).await,
        Err(error) => Err(error),
    };
    let result =
        result.map_err(|error| Failed { error, instance: Some(instance), cancelled: cancel.is_cancelled() });
    Done::Serving { id, digest, result }
}

/// Connects to a server that runs elsewhere.
pub async fn reach(ports: Ports, server: Arc<Server>, url: String, cancel: CancellationToken) -> Done {
    let id = server.id.clone();
    let digest = server.digests.workload;
    let instance = crate::live::InstanceId::remote(&url, &digest);
    let key = UpstreamKey { server: server.id.name.clone(), instance };
    let found = async {
        let shown = match &server.location {
            Location::Remote { credentials: Some(declared), .. } => {
                Some(ports.identities.of(&server.id.name, &url, declared)?)
            }
            _ => None,
        };
        let channel = crate::ports::Channel::Remote { url, credentials: shown };
        ports.prober.probe(&key, channel, Greeting::Unknown, server.startup_timeout, &cancel).await
    };
    let result = match found.await {
        Ok(offer) => {
            let proven = Box::new(Proven { server, key, offer, folder: None, reports: Vec::new() });
            rehearse::server(&ports, proven, false, &cancel).await
        }
        Err(error) => Err(error),
    };
    let cancelled = cancel.is_cancelled();
    let result = result.map_err(|error| Failed { error, instance: None, cancelled });
    Done::Serving { id, digest, result }
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

/// A command's folder as an absolute path, with the files of the commit in it.
pub(super) async fn located(ports: &Ports, workload: &Workload, snapshot: &Snapshot) -> PortResult<Workload> {
    let mut workload = workload.clone();
    if let Program::Command { dir, .. } = &mut workload.program {
        *dir = folder(ports, snapshot, dir).await?;
    }
    Ok(workload)
}

/// The absolute path of a folder of the snapshot, its files checked out.
pub async fn folder(ports: &Ports, snapshot: &Snapshot, dir: &str) -> PortResult<String> {
    let Some(path) = RepoPath::parse(dir) else {
        return Err(PortError::stalled(format!("`{dir}` is not a folder of the repository")));
    };
    match ports.source.checkout_dir(snapshot, &path).await? {
        Some(folder) => Ok(folder.to_string_lossy().into_owned()),
        None => Err(PortError::stalled(format!("the source cannot check out `{dir}`"))),
    }
}

/// Reads blobs as a map; one that is larger than a manifest may be is left out.
pub async fn read(ports: &Ports, ids: &[BlobId]) -> PortResult<BTreeMap<BlobId, Bytes>> {
    let sizes = ports.source.sizes(ids).await?;
    let fits = |(id, size): (&BlobId, u64)| (size <= MAX_MANIFEST_BYTES as u64).then_some(*id);
    let ids: Vec<BlobId> = ids.iter().zip(sizes).filter_map(fits).collect();
    let bytes = ports.source.read(&ids, MAX_MANIFEST_BYTES).await?;
    Ok(ids.into_iter().zip(bytes).collect())
}

/// Removes a volume with what it holds.
pub async fn delete_volume(ports: Ports, id: VolumeId, answer: super::volume::Answer) -> Done {
    let result = match ports.runners.get(&id.runner) {
        Some(runner) => runner.remove_volume(&id.name).await,
        None => Err(PortError::retry(format!("runner `{}` is not set up", id.runner))),
    };
    Done::VolumeDeleted { id, result, answer }
}
