//! Bringing crib-init to an engine: a named volume, filled from a tiny image of our own.
//!
//! It works on any engine, also a remote one, and with read-only roots. The volume's name carries
//! the digest of the program, and its contents are compared before the first use: whatever a
//! killed engine or somebody else left there is not run.

use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions,
};
use bollard::query_parameters::{
    CreateImageOptionsBuilder, DownloadFromContainerOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveVolumeOptions,
};
use bytes::Bytes;
use futures::TryStreamExt;
use std::collections::HashMap;
use std::io::Read;
use std::time::Duration;

use super::engine::{ask, found, status};
use super::{egress, image, labels};
use crate::ports::{PortError, PortResult};
use crate::resource::Digest;
use crate::status::Timestamp;

/// The tiny image that holds the program, of all daemons on an engine.
const IMAGE: &str = "toolcrib.local/crib-init";
/// How the names of its volumes begin.
const VOLUMES: &str = "toolcrib-init-";
/// How long a volume of another program is left alone: a daemon of another version may want it.
const KEPT: Duration = Duration::from_hours(7 * 24);

/// Where a C library looks for names of hosts. Without it, some look where a static program crashes.
const NAMES: &[u8] = b"hosts: files dns\n";

static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/crib-init"));

/// Where the volume is mounted, in every container.
pub(super) const FOLDER: &str = "/.toolcrib";
/// The program there.
pub(super) const PATH: &str = "/.toolcrib/crib-init";

/// Held while a container of this process fills a volume, by all its runners: several may be of one
/// engine and owner, and a sweep of one must not take away what another makes.
pub(super) static FILLING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The volume on this engine, once it is known to hold the program.
#[derive(Default)]
pub(super) struct Init(tokio::sync::Mutex<bool>);

pub(super) fn volume() -> String {
    format!("{VOLUMES}{}", program().short())
}

/// What the program is known by.
pub(super) fn program() -> Digest {
    Digest::of_bytes(PROGRAM)
}

/// Removes volumes and images of earlier programs. They are of no owner: a volume that a container
/// uses stays, and so does a young one, which a daemon of another version may still fill.
pub(super) async fn collect(docker: &Docker) -> PortResult<()> {
    let operation = || "failed to remove what is left of an earlier crib-init".to_owned();
    let filters = labels::filter(&[(labels::ROLE, "init")]);
    let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
    let listed = ask(operation, docker.list_volumes(Some(options))).await?;
    let now = super::now();
    let old = |volume: &&bollard::models::Volume| {
        let created = volume.created_at.as_deref().and_then(seconds);
        volume.name.starts_with(VOLUMES)
            && volume.name != self::volume()
            && created.is_some_and(|created| created + KEPT.as_secs() < now)
    };
    for volume in listed.volumes.iter().flatten().filter(old) {
        ask(operation, async {
            match found(docker.remove_volume(&volume.name, None::<RemoveVolumeOptions>).await) {
                // 409: a container uses it.
                Err(error) if status(&error) == Some(409) => Ok(()),
                other => other.map(|_| ()),
            }
        })
        .await?;
    }
    let current = format!("{IMAGE}:{}", program().short());
    image::keep_only(docker, IMAGE, &current).await
}

/// The Unix time of what an engine writes as `2026-11-20T16:10:35Z` or with an offset, to a day.
fn seconds(text: &str) -> Option<u64> {
    Timestamp::parse(&format!("{}Z", text.get(..19)?)).map(|Timestamp(seconds)| seconds)
}

/// The read-only mount of the volume; never filled from the image that is started.
pub(super) fn mount() -> Mount {
    Mount {
        target: Some(FOLDER.to_owned()),
        source: Some(volume()),
        typ: Some(MountType::VOLUME),
        read_only: Some(true),
        volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
        ..Mount::default()
    }
}

impl Init {
    /// Makes sure that the volume is there and holds the program.
    pub(super) async fn ensure(&self, docker: &Docker, owner: &str) -> PortResult<()> {
        let mut ready = self.0.lock().await;
        if !*ready {
            let _filling = FILLING.lock().await;
            let image = self::image(docker).await?;
            if !fill(docker, owner, &image).await? {
                ask(operation, async {
                    found(docker.remove_volume(&volume(), None::<RemoveVolumeOptions>).await)
                })
                .await?;
                if !fill(docker, owner, &image).await? {
                    return Err(PortError::retry(operation())
                        .caused_by(format!("volume `{}` holds something else", volume()))
                        .hint(format!("remove it: `docker volume rm {}`", volume())));
                }
            }
            *ready = true;
        }
        Ok(())
    }

    /// After a start that failed for want of it: look again.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = false;
    }
}

fn operation() -> String {
    "failed to bring crib-init to the engine".to_owned()
}

/// The tiny image: nothing but the program, and an empty folder for the sockets of forwarders.
pub(super) async fn image(docker: &Docker) -> PortResult<String> {
    let tag = program().short();
    let name = format!("{IMAGE}:{tag}");
    if let Some(image) = image::inspect(docker, &name).await? {
        return Ok(image.id);
    }
    let tar = tar().map_err(|error| PortError::stalled(operation()).caused_by(error))?;
    let options = CreateImageOptionsBuilder::default().from_src("-").repo(IMAGE).tag(&tag).build();
    let body = bollard::body_full(Bytes::from(tar));
    ask(operation, docker.create_image(Some(options), Some(body), None).try_collect::<Vec<_>>()).await?;
    Ok(image::present(docker, &name).await?.id)
}

fn tar() -> Result<Vec<u8>, std::io::Error> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut folder = tar::Header::new_gnu();
    folder.set_entry_type(tar::EntryType::Directory);
    folder.set_mode(0o755);
    folder.set_size(0);
    tar.append_data(&mut folder, ".toolcrib/", std::io::empty())?;
    // A new volume takes the owner of what it covers.
    folder.set_uid(egress::USER.into());
    folder.set_gid(egress::USER.into());
    tar.append_data(&mut folder, ".toolcrib-egress/", std::io::empty())?;
    let mut names = tar::Header::new_gnu();
    names.set_mode(0o644);
    names.set_size(NAMES.len() as u64);
    tar.append_data(&mut names, "etc/nsswitch.conf", NAMES)?;
    let mut file = tar::Header::new_gnu();
    file.set_mode(0o755);
    file.set_size(PROGRAM.len() as u64);
    tar.append_data(&mut file, ".toolcrib/crib-init", PROGRAM)?;
    tar.into_inner()
}

/// Creates a container that is never started, which fills an empty volume; whether the volume now
/// holds the program.
async fn fill(docker: &Docker, owner: &str, image: &str) -> PortResult<bool> {
    let mut mount = mount();
    // Made with this container, and filled from its image.
    let labels = HashMap::from([(labels::ROLE.to_owned(), "init".to_owned())]);
    mount.volume_options = Some(MountVolumeOptions { labels: Some(labels), ..MountVolumeOptions::default() });
    mount.read_only = None;
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec![PATH.to_owned()]),
        labels: Some(labels::filler(owner)),
        host_config: Some(HostConfig {
            mounts: Some(vec![mount]),
            network_mode: Some("none".to_owned()),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let filler = ask(operation, docker.create_container(None, body)).await?.id;
    let held = held(docker, &filler).await;
    let options = RemoveContainerOptionsBuilder::default().force(true).build();
    ask(operation, async { found(docker.remove_container(&filler, Some(options)).await) }).await?;
    Ok(held? == Some(program()))
}

/// The digest of the program in the volume.
async fn held(docker: &Docker, filler: &str) -> PortResult<Option<Digest>> {
    let options = DownloadFromContainerOptionsBuilder::default().path(PATH).build();
    let read = docker.download_from_container(filler, Some(options));
    // A little more than the program and the two blocks of a tar: another file is another program.
    let limit = PROGRAM.len() + (64 << 10);
    let collected = ask(operation, async {
        let gathered = read.try_fold(Vec::new(), |mut all, piece| async move {
            if all.len() <= limit {
                all.extend_from_slice(&piece);
            }
            Ok(all)
        });
        match gathered.await {
            Err(error) if status(&error) == Some(404) => Ok(Vec::new()),
            other => other,
        }
    })
    .await?;
    let mut archive = tar::Archive::new(collected.as_slice());
    let Ok(mut entries) = archive.entries() else { return Ok(None) };
    let Some(Ok(mut entry)) = entries.next() else { return Ok(None) };
    let mut program = Vec::new();
    Ok(entry.read_to_end(&mut program).is_ok().then(|| Digest::of_bytes(&program)))
}
