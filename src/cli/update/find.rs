//! The version a resource is written with, and the newest one there is.

use super::Outcome;
use crate::cli::validate::Loaded;
use crate::daemon::update::{Tags, Versions};
use crate::manifest::RepoPath;
use crate::resource::server::{PackageRegistry, PackageSource, ServerSource};
use crate::resource::{Name, ResourceId, Spec};
use crate::update::{RANGE, Range, Version, newest as choose, tagged};

/// A version, where it stands and what it is one of.
pub(super) struct Written {
    pub(super) id: ResourceId,
    pub(super) file: RepoPath,
    pub(super) field: Vec<&'static str>,
    pub(super) version: String,
    /// As declared.
    pub(super) range: Option<String>,
    /// Line and column of it.
    place: String,
}

impl Written {
    pub(super) fn outcome(&self) -> Outcome {
        Outcome {
            resource: self.id.clone(),
            place: self.place.clone(),
            written: self.version.clone(),
            newest: None,
            differences: Vec::new(),
            why: None,
            failed: false,
        }
    }
}

/// None: there is no version to move, as of a command of the repository.
pub(super) fn written(loaded: &Loaded, id: &ResourceId) -> Option<Written> {
    let declared = loaded.manifest.resources.get(id)?;
    let (field, version) = match &declared.spec {
        Spec::Server(spec) => match &spec.source {
            ServerSource::Package(package) => {
                (vec!["spec", "source", "package", "version"], package.version.clone())
            }
            ServerSource::Git(git) => (vec!["spec", "source", "git", "ref"], git.reference.clone()),
            ServerSource::Image(image) => (vec!["spec", "source", "image", "ref"], image.reference.clone()),
            _ => return None,
        },
        Spec::Tool(spec) => (vec!["spec", "image"], spec.image.clone()?),
        _ => return None,
    };
    Some(Written {
        id: id.clone(),
        file: declared.place.file.clone(),
        place: format!("{} in {}", field.join("."), declared.place.file),
        field,
        version,
        range: declared.metadata.annotations.get(RANGE).cloned(),
    })
}

fn chain(error: &crate::ports::PortError) -> String {
    match &error.hint {
        Some(hint) => format!("{}; {hint}", error.chain()),
        None => error.chain(),
    }
}

/// The newest version within the range; none when the written one is that.
///
/// # Errors
/// Why it cannot be told, as a sentence with the next step.
pub(super) async fn newest(
    versions: &Versions<'_>,
    loaded: &Loaded,
    written: &Written,
    range: Option<&str>,
) -> Result<Option<String>, String> {
    let Some(range) = range else {
        return Err(format!("no range is declared; annotate it with `{RANGE}: \"^…\"`, or pass --range"));
    };
    let range = Range::parse(range)?;
    let declared = loaded.manifest.resources.get(&written.id).ok_or("it is not declared")?;
    let (reference, named) = match &declared.spec {
        Spec::Server(spec) => match &spec.source {
            ServerSource::Package(PackageSource {
                registry: PackageRegistry::Oci, name, version, ..
            }) => {
                let tags = image(versions, loaded, written, (name, spec.runner.as_ref()));
                return chosen(written, version, &range, tags.await?);
            }
            ServerSource::Package(PackageSource { registry, name, version, .. }) => {
                let releases = versions.releases(*registry, name).await.map_err(|error| chain(&error))?;
                return Ok(choose(version, &range, releases.keys().map(String::as_str)).map(str::to_owned));
            }
            ServerSource::Git(git) => {
                if Version::parse(&git.reference).is_none() {
                    return Err(format!(
                        "`{}` is a branch: `toolcrib lock {}` takes its newest commit",
                        git.reference, written.id.name
                    ));
                }
                let tags =
                    versions.tags(&git.url, git.credentials.as_ref()).await.map_err(|error| chain(&error))?;
                return Ok(choose(&git.reference, &range, tags.iter().map(String::as_str)).map(str::to_owned));
            }
            ServerSource::Image(image) => (image.reference.as_str(), spec.runner.as_ref()),
            _ => return Ok(None),
        },
        Spec::Tool(spec) => (spec.image.as_deref().unwrap_or_default(), spec.runner.as_ref()),
        _ => return Ok(None),
    };
    let (name, tag) = tagged(reference).ok_or("the image has no tag that could be moved, or a digest")?;
    let tags = image(versions, loaded, written, (name, named)).await?;
    Ok(chosen(written, tag, &range, tags)?.map(|tag| format!("{name}:{tag}")))
}

/// The tags of an image, on the engine of its runner and at its registry.
async fn image(
    versions: &Versions<'_>,
    loaded: &Loaded,
    written: &Written,
    (name, runner): (&str, Option<&Name>),
) -> Result<Tags, String> {
    let runner =
        runner_of(loaded, &written.id).or_else(|| runner.cloned()).ok_or("no runner has its image")?;
    let host = loaded.desired.runners.get(&runner).and_then(|runner| runner.host.clone());
    versions.images(&runner, host.as_deref(), name).await.map_err(|error| chain(&error))
}

/// The newest tag. What only the engine knows is taken, and never said to be the newest.
fn chosen(written: &Written, tag: &str, range: &Range, tags: Tags) -> Result<Option<String>, String> {
    let newest = choose(tag, range, tags.known.iter().map(String::as_str)).map(str::to_owned);
    match (&newest, tags.unsure) {
        (None, Some(error)) => Err(chain(&error)),
        (Some(_), Some(error)) => {
            tracing::warn!(resource = %written.id, error = %error.chain(), "only the engine was asked");
            Ok(newest)
        }
        _ => Ok(newest),
    }
}

fn runner_of(loaded: &Loaded, id: &ResourceId) -> Option<Name> {
    if let Some(tool) = loaded.desired.tools.get(&id.name).filter(|tool| tool.id == *id) {
        return Some(tool.runner.clone());
    }
    match &loaded.desired.servers.get(&id.name)?.location {
        crate::desired::Location::Runner(workload) => Some(workload.runner.clone()),
        crate::desired::Location::Remote { .. } => None,
    }
}
