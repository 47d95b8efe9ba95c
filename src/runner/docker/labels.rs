//! What is written on everything that we make on an engine, and how it is read back.
//!
//! Invariant: a thing is ours exactly when it carries our owner. Labels of images are never read
//! as configuration; the two we read from images (`build` and `owner`) only say whose they are.

use std::collections::HashMap;

use crate::live::{Instance, InstanceId, InstanceState};
use crate::ports::{Channel, Identity};
use crate::resource::server::Transport;
use crate::resource::workload::Egress;
use crate::resource::{Digest, Name, ResourceId};

pub(super) const OWNER: &str = "dev.toolcrib/owner";
/// `server`, `run`, `warm`, `init`, `egress` or, on volumes, `volume`.
pub(super) const ROLE: &str = "dev.toolcrib/role";
/// The runner's name: two runners may be the same engine.
pub(super) const RUNNER: &str = "dev.toolcrib/runner";
const KIND: &str = "dev.toolcrib/kind";
const NAME: &str = "dev.toolcrib/name";
const DIGEST: &str = "dev.toolcrib/digest";
const REVISION: &str = "dev.toolcrib/revision";
/// The name the inventory has for it.
const INSTANCE: &str = "dev.toolcrib/instance";
/// `stdio`, or port and path of streamable HTTP (`8000/mcp`), or the same of HTTP+SSE (`sse 8000/sse`).
const ENDPOINT: &str = "dev.toolcrib/endpoint";
const SSE: &str = "sse ";
/// Set when it was given secrets: whoever adopts it does not know them and cannot redact.
const SECRETS: &str = "dev.toolcrib/secrets";
/// `host:port`, separated by commas: what a server may reach.
const EGRESS: &str = "dev.toolcrib/egress";
/// On images: the build digest.
pub(super) const BUILD: &str = "dev.toolcrib/build";

pub(super) type Labels = HashMap<String, String>;

/// What a container is called: an engine may serve several daemons, and their instances' names know
/// nothing of each other.
pub(super) fn container(owner: &str, name: &str) -> String {
    format!("toolcrib-{}-{name}", Digest::of("docker-container", owner).short())
}

/// A filter of the engine's lists: all of these labels.
pub(super) fn filter(labels: &[(&str, &str)]) -> HashMap<String, Vec<String>> {
    let labels = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    HashMap::from([("label".to_owned(), labels)])
}

pub(super) fn owned_by(labels: Option<&Labels>, owner: &str) -> bool {
    labels.and_then(|labels| labels.get(OWNER)).is_some_and(|found| found == owner)
}

/// For a container that only fills a volume.
pub(super) fn filler(owner: &str) -> Labels {
    HashMap::from([(OWNER.to_owned(), owner.to_owned()), (ROLE.to_owned(), "init".to_owned())])
}

/// For a volume of that name in the repository.
pub(super) fn volume(owner: &str, runner: &Name, name: &Name) -> Labels {
    [(OWNER, owner), (RUNNER, runner.as_str()), (ROLE, "volume"), (NAME, name.as_str())]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// The name a volume of ours has in the repository.
pub(super) fn volume_name(labels: &Labels) -> Option<Name> {
    Name::parse(labels.get(NAME)?).ok()
}

/// For a forwarder and what it shares with those it serves.
pub(super) fn forwarder(owner: &str, runner: &Name) -> Labels {
    let labels = [(OWNER, owner), (ROLE, "egress"), (RUNNER, runner.as_str())];
    labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Writes on a server what it may reach.
pub(super) fn egress(labels: &mut Labels, to: &[Egress]) {
    if !to.is_empty() {
        let places: Vec<String> = to.iter().map(ToString::to_string).collect();
        labels.insert(EGRESS.to_owned(), places.join(","));
    }
}

/// What a server may reach.
pub(super) fn reaches(labels: &Labels) -> Vec<Egress> {
    labels.get(EGRESS).iter().flat_map(|places| places.split(',')).filter_map(Egress::parse).collect()
}

/// For a container of `identity` by `owner` on `runner`.
pub(super) fn of((owner, runner): (&str, &Name), role: &str, identity: &Identity) -> Labels {
    let Identity { name, resource, digest, revision } = identity;
    [
        (OWNER, owner.to_owned()),
        (RUNNER, runner.to_string()),
        (ROLE, role.to_owned()),
        (KIND, resource.kind.to_string()),
        (NAME, resource.name.to_string()),
        (DIGEST, digest.to_string()),
        (REVISION, revision.clone()),
        (INSTANCE, name.clone()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// How a server is spoken to, and whether it was given secrets.
pub(super) fn endpoint(labels: &mut Labels, transport: &Transport, secrets: bool) {
    let endpoint = match transport {
        Transport::Stdio => "stdio".to_owned(),
        Transport::StreamableHttp { port, path } => format!("{port}{path}"),
        Transport::Sse { port, path } => format!("{SSE}{port}{path}"),
    };
    labels.insert(ENDPOINT.to_owned(), endpoint);
    if secrets {
        labels.insert(SECRETS.to_owned(), "given".to_owned());
    }
}

/// Where in its container a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place<'a> {
    /// HTTP+SSE, in place of streamable HTTP.
    sse: bool,
    port: u16,
    path: &'a str,
}

impl Place<'_> {
    pub(super) fn channel(self, address: &str) -> Channel {
        let Self { sse, port, path } = self;
        let url = format!("http://{address}:{port}{path}");
        if sse { Channel::Sse { url, credentials: None } } else { Channel::Http { url } }
    }
}

/// `None` for stdio.
pub(super) fn http(labels: &Labels) -> Option<Place<'_>> {
    let endpoint = labels.get(ENDPOINT)?;
    let (sse, place) = endpoint.strip_prefix(SSE).map_or((false, endpoint.as_str()), |rest| (true, rest));
    let (port, path) = place.split_at_checked(place.find('/')?)?;
    Some(Place { sse, port: port.parse().ok()?, path })
}

/// The workload it was made for.
pub(super) fn digest(labels: &Labels) -> Option<Digest> {
    Digest::parse(labels.get(DIGEST)?)
}

/// The name the inventory has for it.
pub(super) fn name(labels: &Labels) -> Option<&str> {
    labels.get(INSTANCE).map(String::as_str)
}

pub(super) fn has_secrets(labels: &Labels) -> bool {
    labels.contains_key(SECRETS)
}

/// The instance a container is, when its labels are ours and whole.
pub(super) fn instance(id: &str, runner: &Name, labels: &Labels) -> Option<Instance> {
    let text = |key: &str| labels.get(key).map(String::as_str);
    Some(Instance {
        id: InstanceId(id.to_owned()),
        name: text(INSTANCE)?.to_owned(),
        runner: runner.clone(),
        resource: ResourceId::parse(&format!("{}/{}", text(KIND)?, text(NAME)?))?,
        digest: Digest::parse(text(DIGEST)?)?,
        revision: text(REVISION)?.to_owned(),
        state: InstanceState::Starting,
        adoptable: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Kind;

    #[test]
    fn what_is_written_is_read_back() {
        let identity = Identity {
            name: "weather-0123".to_owned(),
            resource: ResourceId::new(Kind::Server, Name::parse("weather").unwrap()),
            digest: Digest::of_bytes(b"x"),
            revision: "main@sha1:00".to_owned(),
        };
        let local = Name::parse("local").unwrap();
        let mut labels = of(("me", &local), "server", &identity);
        endpoint(&mut labels, &Transport::StreamableHttp { port: 8000, path: "/mcp".to_owned() }, true);
        assert_eq!(http(&labels), Some(Place { sse: false, port: 8000, path: "/mcp" }));
        endpoint(&mut labels, &Transport::Sse { port: 9000, path: "/sse".to_owned() }, true);
        assert_eq!(http(&labels), Some(Place { sse: true, port: 9000, path: "/sse" }));
        endpoint(&mut labels, &Transport::Stdio, true);
        assert_eq!(http(&labels), None);
        assert!(has_secrets(&labels));
        assert!(owned_by(Some(&labels), "me") && !owned_by(Some(&labels), "m") && !owned_by(None, "me"));

        let read = instance("abc", &local, &labels).unwrap();
        assert_eq!((read.name, read.resource), (identity.name, identity.resource));
        assert_eq!((read.digest, read.revision), (identity.digest, identity.revision));

        labels.remove(DIGEST);
        assert!(instance("abc", &local, &labels).is_none());
    }
}
