//! Named volumes: what workloads write that outlives them.
//!
//! A volume is made before the container that mounts it, by a container that is never started and puts
//! nothing into it but the owner of its folder: an image's own files at the path do not matter, so that
//! what is there depends on no image. Its name carries the owner and the runner, as that of a container.
//!
//! Invariant: a volume of that name which does not carry our labels is neither mounted nor removed.

use std::collections::BTreeSet;

use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions, Volume,
};
use bollard::query_parameters::{
    DownloadFromContainerOptionsBuilder, ListVolumesOptionsBuilder, RemoveVolumeOptions,
    UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use futures::TryStreamExt;

use super::engine::{ask, found, status};
use super::{Inner, init, labels, launch};
use crate::ports::{PortError, PortResult};
use crate::resource::workload::Mounts;
use crate::resource::{Digest, Name};

/// Where the container that makes a volume has it.
const FOLDER: &str = "volume";
/// Of what a volume holds, as an archive: enough to see whether there is a second entry.
const PEEK: usize = 64 << 10;

/// What a volume is called on the engine.
fn called(owner: &str, runner: &Name, name: &Name) -> String {
    let place = Digest::of("docker-volume", &(owner, runner.as_str())).short();
    format!("toolcrib-{place}-{name}")
}

fn mount(called: String, target: String, read_only: bool, labels: labels::Labels) -> Mount {
    Mount {
        target: Some(target),
        source: Some(called),
        typ: Some(MountType::VOLUME),
        read_only: Some(read_only),
        // Labels for where somebody removed it a moment ago: the engine then makes it with the container.
        volume_options: Some(MountVolumeOptions {
            no_copy: Some(true),
            labels: Some(labels),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    }
}

impl Inner {
    /// The mounts of a container, whose volumes are there when this returns.
    pub(super) async fn mounts(
        &self,
        docker: &Docker,
        mounts: &Mounts,
        user: &str,
    ) -> PortResult<Vec<Mount>> {
        let names: BTreeSet<&Name> = mounts.values().map(|volume| &volume.name).collect();
        for name in names {
            self.make_volume(docker, name, user).await?;
        }
        let mount = |(path, volume): (&String, &crate::resource::workload::Volume)| {
            let called = called(&self.owner, &self.name, &volume.name);
            let labels = labels::volume(&self.owner, &self.name, &volume.name);
            self::mount(called, path.clone(), volume.read_only, labels)
        };
        Ok(mounts.iter().map(mount).collect())
    }

    /// Makes sure that a volume is there, is ours and has an owner.
    async fn make_volume(&self, docker: &Docker, name: &Name, user: &str) -> PortResult<()> {
        let called = called(&self.owner, &self.name, name);
        let mut made = self.volumes.lock().await;
        let there = self.look_for(docker, &called).await?;
        if there && made.contains(name) {
            return Ok(());
        }
        made.remove(name);
        let _filling = init::FILLING.lock().await;
        let image = init::image(docker).await?;
        let operation = || format!("failed to make volume `{name}`");
        let labels = labels::volume(&self.owner, &self.name, name);
        let body = ContainerCreateBody {
            image: Some(image),
            entrypoint: Some(vec![init::PATH.to_owned()]),
            labels: Some(labels::filler(&self.owner)),
            host_config: Some(HostConfig {
                mounts: Some(vec![mount(called, format!("/{FOLDER}"), false, labels)]),
                network_mode: Some("none".to_owned()),
                log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let filler = ask(operation, docker.create_container(None, body)).await?.id;
        let given = give(docker, &filler, user).await;
        launch::remove(docker, &filler).await?;
        given.map_err(|error| PortError::retry(operation()).caused_by(error))?;
        made.insert(name.clone());
        Ok(())
    }

    /// Whether a volume is there.
    ///
    /// # Errors
    /// When it is not ours.
    async fn look_for(&self, docker: &Docker, called: &str) -> PortResult<bool> {
        let operation = || format!("failed to look at volume `{called}`");
        let look = async { found(docker.inspect_volume(called).await) };
        let Some(volume) = ask(operation, look).await? else { return Ok(false) };
        if !labels::owned_by(Some(&volume.labels), &self.owner) {
            return Err(PortError::stalled(operation())
                .caused_by("a volume of that name is there, and it is not ours")
                .hint("give the volume another name"));
        }
        Ok(true)
    }

    /// The volumes of this runner, by the names they are declared with.
    pub(super) async fn list_volumes(&self) -> PortResult<BTreeSet<Name>> {
        let docker = self.engine.client().await?;
        let wanted =
            [(labels::OWNER, &*self.owner), (labels::RUNNER, self.name.as_str()), (labels::ROLE, "volume")];
        let filters = labels::filter(&wanted);
        let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
        let listed = ask(|| "failed to list volumes".to_owned(), docker.list_volumes(Some(options))).await?;
        let name = |volume: &Volume| labels::volume_name(&volume.labels);
        Ok(listed.volumes.iter().flatten().filter_map(name).collect())
    }

    /// Removes a volume with what it holds. One that is gone is removed.
    pub(super) async fn remove_volume(&self, name: &Name) -> PortResult<()> {
        let docker = self.engine.client().await?;
        let called = called(&self.owner, &self.name, name);
        let mut made = self.volumes.lock().await;
        if !self.look_for(&docker, &called).await? {
            return Ok(());
        }
        made.remove(name);
        let operation = || format!("failed to remove volume `{name}`");
        let in_use = ask(operation, async {
            match found(docker.remove_volume(&called, None::<RemoveVolumeOptions>).await) {
                Err(error) if status(&error) == Some(409) => Ok(true),
                other => other.map(|_| false),
            }
        });
        if in_use.await? {
            return Err(PortError::retry(operation())
                .caused_by("a container mounts it")
                .hint("wait until what mounts it is gone, and try again"));
        }
        Ok(())
    }
}

/// Gives a volume that holds nothing yet to the user. Whoever else mounts it may write as well.
async fn give(docker: &Docker, filler: &str, user: &str) -> PortResult<()> {
    let operation = || format!("failed to give the volume to user `{user}`");
    if holds_something(docker, filler).await? {
        return Ok(());
    }
    let tar = owned(user).map_err(|error| PortError::stalled(operation()).caused_by(error))?;
    let options = UploadToContainerOptionsBuilder::default().path("/").build();
    let body = bollard::body_full(Bytes::from(tar));
    ask(operation, docker.upload_to_container(filler, Some(options), body)).await
}

async fn holds_something(docker: &Docker, filler: &str) -> PortResult<bool> {
    let options = DownloadFromContainerOptionsBuilder::default().path(&format!("/{FOLDER}")).build();
    let mut read = docker.download_from_container(filler, Some(options));
    let peeked = ask(|| "failed to look into the volume".to_owned(), async {
        let mut all = Vec::new();
        while all.len() < PEEK
            && let Some(piece) = read.try_next().await?
        {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    })
    .await?;
    let mut archive = tar::Archive::new(peeked.as_slice());
    // An entry that is cut off is one as well.
    Ok(archive.entries().is_ok_and(|entries| entries.take(2).count() > 1))
}

/// An archive of the folder alone, with its owner; a user whom only the image knows has none.
fn owned(user: &str) -> Result<Vec<u8>, std::io::Error> {
    let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
    let mut tar = tar::Builder::new(Vec::new());
    let mut folder = tar::Header::new_gnu();
    folder.set_entry_type(tar::EntryType::Directory);
    folder.set_mode(0o777);
    folder.set_uid(uid.parse::<u32>().unwrap_or(0).into());
    folder.set_gid(gid.parse::<u32>().unwrap_or(0).into());
    folder.set_size(0);
    tar.append_data(&mut folder, format!("{FOLDER}/"), std::io::empty())?;
    tar.into_inner()
}
