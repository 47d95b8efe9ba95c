//! Images: what an image says about how it starts, and fetching one that is not there.
//!
//! Of an image only its id, command, working folder's environment and declared volumes are read.
//! Its labels are never configuration.

use std::collections::HashMap;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::{CreateImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptions};
use futures::TryStreamExt;

use super::engine::{Engine, ask, fault, found, status};
use crate::ports::{PortError, PortResult};

/// Of one pull. Images of several gigabytes over slow lines take minutes.
const PULL: Duration = Duration::from_mins(15);

/// How an image starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    /// `sha256:…`
    pub(super) id: String,
    pub(super) entrypoint: Vec<String>,
    pub(super) command: Vec<String>,
    /// Whether it sets `HOME`.
    pub(super) home: bool,
    /// Paths it declares as volumes.
    pub(super) volumes: Vec<String>,
}

/// The image of that name or id; `None` when it is not on the engine.
pub(super) async fn inspect(docker: &Docker, reference: &str) -> PortResult<Option<Image>> {
    let operation = || format!("failed to look for image `{reference}`");
    let answer = ask(operation, async { found(docker.inspect_image(reference).await) }).await?;
    let Some(answer) = answer else { return Ok(None) };
    let id = answer.id.ok_or_else(|| PortError::retry(operation()).caused_by("it has no id"))?;
    let config = answer.config.unwrap_or_default();
    Ok(Some(Image {
        id,
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        home: config.env.unwrap_or_default().iter().any(|variable| variable.starts_with("HOME=")),
        volumes: config.volumes.unwrap_or_default(),
    }))
}

/// The first name by which a registry knows the image, in the order of names.
pub(super) async fn registry_digest(docker: &Docker, reference: &str) -> PortResult<Option<String>> {
    let operation = || format!("failed to look for image `{reference}`");
    let answer = ask(operation, async { found(docker.inspect_image(reference).await) }).await?;
    let digests = answer.and_then(|image| image.repo_digests).unwrap_or_default();
    Ok(digests.into_iter().filter(|digest| digest.contains("@sha256:")).min())
}

/// The tags of a repository's images that are on the engine.
pub(super) async fn tags(docker: &Docker, repository: &str) -> PortResult<Vec<String>> {
    let filters = HashMap::from([("reference".to_owned(), vec![format!("{repository}:*")])]);
    let options = ListImagesOptionsBuilder::default().filters(&filters).build();
    let operation = || format!("failed to list the images of `{repository}`");
    let images = ask(operation, docker.list_images(Some(options))).await?;
    let names = images.into_iter().flat_map(|image| image.repo_tags);
    let tags = names
        .filter_map(|name| Some(name.rsplit_once(':').filter(|(name, _)| *name == repository)?.1.to_owned()));
    Ok(tags.collect())
}

/// The image, which must be there.
pub(super) async fn present(docker: &Docker, reference: &str) -> PortResult<Image> {
    inspect(docker, reference).await?.ok_or_else(|| missing(reference))
}

/// The id of the image, pulled when it is not there.
pub(super) async fn ensure(engine: &Engine, runner: &str, reference: &str) -> PortResult<String> {
    let docker = engine.client().await?;
    if let Some(image) = inspect(&docker, reference).await? {
        return Ok(image.id);
    }
    let docker = engine.patient(PULL).await?;
    let operation = || format!("failed to pull image `{reference}` on runner `{runner}`");
    let options = CreateImageOptionsBuilder::default().from_image(&with_tag(reference)).build();
    let pull = async {
        let mut steps = docker.create_image(Some(options), None, None);
        while let Some(step) = steps.try_next().await? {
            tracing::debug!(image = reference, layer = step.id, "{}", step.status.unwrap_or_default());
        }
        Ok(())
    };
    let hint = format!(
        "is `{reference}` the right name, and may the engine of runner `{runner}` reach its registry? \
         `docker pull {reference}` there shows more"
    );
    match tokio::time::timeout(PULL, pull).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(again(fault(operation(), error)).hint(hint)),
        Err(_) => return Err(PortError::retry(operation()).caused_by("not done after 15 min").hint(hint)),
    }
    let docker = engine.client().await?;
    Ok(present(&docker, reference).await?.id)
}

/// Removes all tags of a repository but one. What is in use stays.
pub(super) async fn keep_only(docker: &Docker, repository: &str, tag: &str) -> PortResult<()> {
    let operation = || format!("failed to remove earlier images `{repository}`");
    let filters = HashMap::from([("reference".to_owned(), vec![repository.to_owned()])]);
    let options = ListImagesOptionsBuilder::default().filters(&filters).build();
    let images = ask(operation, docker.list_images(Some(options))).await?;
    for old in images.iter().flat_map(|image| &image.repo_tags).filter(|name| *name != tag) {
        ask(operation, async {
            match found(docker.remove_image(old, None::<RemoveImageOptions>, None).await) {
                // 409: a container needs it.
                Err(error) if status(&error) == Some(409) => Ok(()),
                other => other.map(|_| ()),
            }
        })
        .await?;
    }
    Ok(())
}

/// A registry may come to have what it has not now.
fn again(mut error: PortError) -> PortError {
    error.disposition = crate::ports::Disposition::Retry;
    error
}

fn missing(reference: &str) -> PortError {
    PortError::retry(format!("image `{reference}` is not on the engine"))
        .hint("it was removed after it was looked up; the next pass fetches or builds it again")
}

/// Without a tag, the engine would pull all of them.
fn with_tag(reference: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    if name.contains([':', '@']) { reference.to_owned() } else { format!("{reference}:latest") }
}

#[cfg(test)]
mod tests {
    use super::with_tag;

    #[test]
    fn one_tag_is_pulled() {
        for (written, pulled) in [
            ("busybox", "busybox:latest"),
            ("host:5000/a/b", "host:5000/a/b:latest"),
            ("host:5000/a/b:1", "host:5000/a/b:1"),
            ("a@sha256:00", "a@sha256:00"),
        ] {
            assert_eq!(with_tag(written), pulled);
        }
    }
}
