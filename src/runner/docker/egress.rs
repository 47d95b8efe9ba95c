//! Ways out of containers that have no network: one forwarder for each set of places.
//!
//! A forwarder is crib-init in a container of its own, on a network with a way out. It shares a volume
//! with the containers it serves and nothing else: one socket in it for each host and port
//! (`src/init/forward.rs`). In those containers each host has an address of the loopback, where crib-init
//! listens and hands every connection over. So whatever is not in the set cannot even be addressed, two
//! containers cannot reach each other over what they share, and names are resolved outside.
//!
//! A forwarder is known by what it is for: owner, runner, places and program make its name. It is found
//! by that name or made, by whoever needs it first, and removed when nobody wants its set and no
//! container has its volume; so it needs no record, and a daemon killed in between leaves nothing that
//! the next one does not find. Tools and servers with the same set share it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    InspectContainerOptions, ListContainersOptionsBuilder, ListVolumesOptionsBuilder, RemoveVolumeOptions,
};
use futures::StreamExt;

use super::engine::{ask, found, status};
use super::network::Which;
use super::{Inner, init, labels, launch, network};
use crate::ports::{PortError, PortResult};
use crate::resource::Digest;
use crate::resource::workload::Egress;

/// The user of forwarders, and the owner of the folder their sockets are in.
pub(super) const USER: u32 = 65534;
/// Where the volume with the sockets is mounted, on both sides.
const FOLDER: &str = "/.toolcrib-egress";
/// Until a forwarder listens: it does at once, unless the engine is very busy.
const READY: Duration = Duration::from_secs(30);
/// Of a forwarder: 256 connections with two threads of some 32 KiB each.
const MEMORY: i64 = 64 << 20;
/// Threads of a forwarder: those of its connections, and one for each place.
const PIDS: i64 = 640;
/// Two for each connection, and one while it is made.
const FILES: i64 = 2048;

/// The inner end, of one container.
#[derive(Clone, Debug)]
pub(super) struct Outlets {
    volume: String,
    /// `host:address`, for `/etc/hosts`.
    pub(super) hosts: Vec<String>,
    /// Where each place is listened for, in the order of the forwarder's.
    pub(super) addresses: Vec<SocketAddrV4>,
}

impl Outlets {
    /// Each host gets an address of the loopback.
    fn new(volume: String, to: &[Egress]) -> Self {
        let mut known = BTreeMap::new();
        let addresses = to
            .iter()
            .map(|Egress { host, port }| {
                let next = known.len();
                let number = *known.entry(host.as_str()).or_insert(next);
                // The number of places is bounded far below this.
                let last = u8::try_from(number + 1).unwrap_or(u8::MAX);
                SocketAddrV4::new(Ipv4Addr::new(127, 84, 0, last), *port)
            })
            .collect::<Vec<_>>();
        let mut hosts: Vec<String> =
            to.iter().zip(&addresses).map(|(to, address)| format!("{}:{}", to.host, address.ip())).collect();
        hosts.dedup();
        Self { volume, hosts, addresses }
    }

    pub(super) fn mount(&self) -> Mount {
        Mount {
            target: Some(FOLDER.to_owned()),
            source: Some(self.volume.clone()),
            typ: Some(MountType::VOLUME),
            read_only: Some(true),
            volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
            ..Mount::default()
        }
    }
}

/// What a forwarder and its volume are called.
fn name(inner: &Inner, to: &[Egress]) -> String {
    let set = Digest::of("docker-egress", &(&inner.name, to, init::program()));
    labels::container(&inner.owner, &format!("egress-{}", set.short()))
}

/// Makes sure that a forwarder to these places runs.
pub(super) async fn ensure(inner: &Inner, docker: &Docker, to: &[Egress]) -> PortResult<Option<Outlets>> {
    if to.is_empty() {
        return Ok(None);
    }
    let name = name(inner, to);
    if !runs(inner, docker, &name).await? {
        let _one_at_a_time = inner.forwarders.lock().await;
        if !runs(inner, docker, &name).await? {
            start(inner, docker, &name, to).await?;
        }
    }
    Ok(Some(Outlets::new(name, to)))
}

async fn runs(inner: &Inner, docker: &Docker, name: &str) -> PortResult<bool> {
    let operation = || format!("failed to look at container `{name}`");
    let look = async { found(docker.inspect_container(name, None::<InspectContainerOptions>).await) };
    let Some(container) = ask(operation, look).await? else { return Ok(false) };
    if !labels::owned_by(container.config.and_then(|config| config.labels).as_ref(), &inner.owner) {
        return Err(PortError::stalled(operation()).caused_by("it is not ours"));
    }
    Ok(container.state.and_then(|state| state.running).unwrap_or(false))
}

async fn start(inner: &Inner, docker: &Docker, name: &str, to: &[Egress]) -> PortResult<()> {
    let network = {
        let _one_at_a_time = inner.network.lock().await;
        network::ensure(docker, &inner.owner, Which::Outside).await?
    };
    let image = init::image(docker).await?;
    let body = body(inner, image, network, name, to);
    let id = launch::create(docker, &inner.owner, name, body).await?;
    let started = async {
        let mut output = launch::attach(docker, &id, false).await?.output;
        launch::start(docker, &inner.init, &id).await?;
        let mut said = String::new();
        let ready = async {
            while let Some(Ok(piece)) = output.next().await {
                said.push_str(&String::from_utf8_lossy(&piece.clone().into_bytes()));
                if matches!(piece, LogOutput::StdOut { .. }) {
                    return true;
                }
            }
            false
        };
        match tokio::time::timeout(READY, ready).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(failed(to).caused_by(said.trim().to_owned())),
            Err(_) => Err(failed(to).caused_by("it did not listen in time")),
        }
    };
    let started = started.await;
    if started.is_err()
        && let Err(error) = launch::remove(docker, &id).await
    {
        tracing::warn!(
            container = name,
            error = error.chain(),
            "a forwarder is left; the next start removes it"
        );
    }
    started
}

fn failed(to: &[Egress]) -> PortError {
    let places: Vec<String> = to.iter().map(ToString::to_string).collect();
    PortError::retry(format!("failed to start the forwarder to {}", places.join(", ")))
}

fn body(inner: &Inner, image: String, network: String, name: &str, to: &[Egress]) -> ContainerCreateBody {
    let labels = labels::forwarder(&inner.owner, &inner.name);
    let mut entrypoint = vec![init::PATH.to_owned(), "forward".to_owned()];
    entrypoint.extend(to.iter().map(ToString::to_string));
    let volume = Mount {
        target: Some(FOLDER.to_owned()),
        source: Some(name.to_owned()),
        typ: Some(MountType::VOLUME),
        volume_options: Some(MountVolumeOptions {
            labels: Some(labels.clone()),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    };
    let files = ResourcesUlimits { name: Some("nofile".to_owned()), soft: Some(FILES), hard: Some(FILES) };
    ContainerCreateBody {
        image: Some(image),
        entrypoint: Some(entrypoint),
        user: Some(format!("{USER}:{USER}")),
        labels: Some(labels),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        host_config: Some(HostConfig {
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            readonly_rootfs: Some(true),
            mounts: Some(vec![volume]),
            memory: Some(MEMORY),
            memory_swap: Some(MEMORY),
            pids_limit: Some(PIDS),
            ulimits: Some(vec![files]),
            network_mode: Some(network),
            // The machine the engine is on, as Docker Desktop calls it everywhere.
            extra_hosts: Some(vec!["host.docker.internal:host-gateway".to_owned()]),
            ipc_mode: Some("private".to_owned()),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::ON_FAILURE),
                maximum_retry_count: None,
            }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// Removes forwarders, with their volumes, whose set is not wanted and that no other container uses; then
/// the networks that nothing uses.
pub(super) async fn keep(inner: &Inner, wanted: &BTreeSet<Arc<[Egress]>>) -> PortResult<()> {
    let docker = inner.engine.client().await?;
    let _one_at_a_time = inner.forwarders.lock().await;
    let wanted: HashSet<String> = wanted.iter().map(|to| name(inner, to)).collect();
    let listed = inner.list("egress").await?;
    let names = listed.into_iter().filter_map(|one| {
        let name = one.names?.into_iter().next()?.trim_start_matches('/').to_owned();
        Some((name, one.id))
    });
    let mut forwarders: BTreeMap<String, Option<String>> = names.collect();
    for volume in volumes(inner, &docker).await? {
        forwarders.entry(volume).or_default();
    }
    for (name, id) in forwarders.into_iter().filter(|(name, _)| !wanted.contains(name)) {
        if used(&docker, &name, id.as_deref()).await? {
            continue;
        }
        if let Some(id) = id {
            launch::remove(&docker, &id).await?;
        }
        remove_volume(&docker, &name).await?;
    }
    for which in [Which::Inside, Which::Outside] {
        network::remove(&docker, &inner.owner, which).await?;
    }
    Ok(())
}

async fn volumes(inner: &Inner, docker: &Docker) -> PortResult<Vec<String>> {
    let wanted = labels::forwarder(&inner.owner, &inner.name);
    let wanted: Vec<(&str, &str)> =
        wanted.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let options = ListVolumesOptionsBuilder::default().filters(&labels::filter(&wanted)).build();
    let listed = ask(|| "failed to list volumes".to_owned(), docker.list_volumes(Some(options))).await?;
    Ok(listed.volumes.into_iter().flatten().map(|volume| volume.name).collect())
}

/// Whether a container has the volume, besides the forwarder itself.
async fn used(docker: &Docker, volume: &str, forwarder: Option<&str>) -> PortResult<bool> {
    let filters = std::collections::HashMap::from([("volume".to_owned(), vec![volume.to_owned()])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let operation = || format!("failed to list what uses volume `{volume}`");
    let listed = ask(operation, docker.list_containers(Some(options))).await?;
    Ok(listed.iter().any(|one| one.id.as_deref() != forwarder))
}

async fn remove_volume(docker: &Docker, name: &str) -> PortResult<()> {
    ask(|| format!("failed to remove volume `{name}`"), async {
        match found(docker.remove_volume(name, None::<RemoveVolumeOptions>).await) {
            // 409: a container has it after all.
            Err(error) if status(&error) == Some(409) => Ok(()),
            other => other.map(|_| ()),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_has_an_address_and_each_place_its_port_there() {
        let to: Vec<Egress> = ["a.example:443", "a.example:8443", "b.example:443"]
            .iter()
            .filter_map(|text| Egress::parse(text))
            .collect();
        let outlets = Outlets::new("volume".to_owned(), &to);
        assert_eq!(outlets.hosts, ["a.example:127.84.0.1", "b.example:127.84.0.2"]);
        let addresses: Vec<String> = outlets.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["127.84.0.1:443", "127.84.0.1:8443", "127.84.0.2:443"]);
    }
}
