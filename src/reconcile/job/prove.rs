//! From a server that is wanted to one that answered: started, adopted or reached, greeted as it was
//! before, listed and tested.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::observe::OBSERVE_LIMIT;
use super::{Done, FAILED_GRACE, Failed, Proven, located, recall, remember};
use crate::desired::{Location, Program, Server, Workload};
use crate::live::{Instance, InstanceId, InstanceState, UpstreamKey};
use crate::manifest::Snapshot;
use crate::ports::{
    Channel, Greeting, Handshake, Identity, Material, PortError, PortResult, Runner, SecretValue,
};
use crate::reconcile::{Ports, rehearse};
use crate::resource::Digest;
use crate::resource::server::Transport;

/// How often it is looked whether an instance that is to answer is still there.
const LOOK: Duration = Duration::from_secs(1);

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

/// Waits until an instance is seen to have ended, and says so.
async fn ended(runner: &dyn Runner, instance: &InstanceId) -> PortError {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Some(error) = has_ended(runner, instance).await {
            return error;
        }
    }
}

/// How an instance ended, if it has. A runner that cannot be asked says nothing.
async fn has_ended(runner: &dyn Runner, instance: &InstanceId) -> Option<PortError> {
    let seen = timeout(OBSERVE_LIMIT, runner.observe()).await.ok()?.ok()?;
    let text = match seen.iter().find(|seen| seen.id == *instance).map(|seen| &seen.state) {
        None => "the instance was removed before it answered".to_owned(),
        Some(InstanceState::Exited { code: Some(code) }) => {
            format!("the instance ended with code {code} before it answered")
        }
        Some(InstanceState::Exited { code: None }) => "the instance ended before it answered".to_owned(),
        Some(_) => return None,
    };
    Some(PortError::retry(text))
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
    let channel = match runner.connect(&instance.id).await {
        Ok(channel) => channel,
        // What has ended has no address either: its end says more.
        Err(error) => return Err(has_ended(&*runner, &instance.id).await.unwrap_or(error)),
    };
    // Over HTTP nobody answers for an instance that has ended; a stream is closed with it.
    let ends = !matches!(channel, Channel::Stdio { .. });
    let offer = tokio::select! {
        // Cancel-safe: a connection that is given up closes itself.
        offer = ports.prober.probe(&key, channel, greeting, server.startup_timeout, cancel) => offer?,
        error = ended(&*runner, &instance.id), if ends => return Err(error),
    };
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
    let instance = InstanceId::remote(&url, &digest);
    let key = UpstreamKey { server: server.id.name.clone(), instance };
    let found = async {
        let shown = match &server.location {
            Location::Remote { credentials: Some(declared), .. } => {
                Some(ports.identities.of(&server.id.name, &url, declared)?)
            }
            _ => None,
        };
        let channel = Channel::Remote { url, credentials: shown };
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
