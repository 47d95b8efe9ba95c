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
    CreateImageOptionsBuilder, DownloadFromContainerOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveVolumeOptions,
};
use bytes::Bytes;
use futures::TryStreamExt;
use std::io::Read;

use super::engine::{ask, found, status};
use super::{image, labels};
use crate::ports::{PortError, PortResult};
use crate::resource::Digest;

static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/crib-init"));

/// Where the volume is mounted, in every container.
pub(super) const FOLDER: &str = "/.toolcrib";
/// The program there.
pub(super) const PATH: &str = "/.toolcrib/crib-init";

/// The volume on this engine, once it is known to hold the program.
#[derive(Default)]
pub(super) struct Init(tokio::sync::Mutex<bool>);

pub(super) fn volume() -> String {
    format!("toolcrib-init-{}", Digest::of_bytes(PROGRAM).short())
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
            let image = import(docker).await?;
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

/// The tiny image: nothing but the program.
async fn import(docker: &Docker) -> PortResult<String> {
    let tag = Digest::of_bytes(PROGRAM).short();
    let name = format!("toolcrib.local/crib-init:{tag}");
    if let Some(image) = image::inspect(docker, &name).await? {
        return Ok(image.id);
    }
    let tar = tar().map_err(|error| PortError::stalled(operation()).caused_by(error))?;
    let options =
        CreateImageOptionsBuilder::default().from_src("-").repo("toolcrib.local/crib-init").tag(&tag).build();
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
    mount.volume_options = None;
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
    Ok(held? == Some(Digest::of_bytes(PROGRAM)))
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
