//! Two networks for each owner: one of servers over HTTP, without a way out, and one of forwarders, which
//! is their way out and on which nothing of anybody listens.
//!
//! On the first this machine reaches the containers; they reach neither the outside nor each other. A limit: what
//! this machine offers on all its addresses they reach as well, over the network's gateway. Whatever
//! takes that address away (`bridge.inhibit_ipv4`, and `gateway_mode_ipv4=isolated` of newer engines)
//! also takes this machine's way to them, and a filter needs rights over the machine's network. The
//! daemon's own listeners are on loopback unless its operator says otherwise.

use std::collections::HashMap;

use bollard::Docker;
use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::InspectNetworkOptions;

use super::engine::{ask, found, status};
use super::labels;
use crate::ports::{PortError, PortResult};
use crate::resource::Digest;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Of servers over HTTP.
    Inside,
    /// Of forwarders. Whatever is connected to it as well they find by its name.
    Outside,
}

/// `toolcrib-<12 digits of the owner>`: a network's name is also shown to its containers.
pub(super) fn name(owner: &str, which: Which) -> String {
    let suffix = match which {
        Which::Inside => "",
        Which::Outside => "-out",
    };
    format!("toolcrib-{}{suffix}", Digest::of("docker-network", owner).short())
}

/// Creates a network of `owner` unless it is there.
pub(super) async fn ensure(docker: &Docker, owner: &str, which: Which) -> PortResult<String> {
    let name = name(owner, which);
    let internal = which == Which::Inside;
    let operation = || format!("failed to create network `{name}`");
    let look = async { found(docker.inspect_network(&name, None::<InspectNetworkOptions>).await) };
    if let Some(network) = ask(operation, look).await? {
        if network.internal == Some(internal) && labels::owned_by(network.labels.as_ref(), owner) {
            return Ok(name);
        }
        return Err(PortError::stalled(operation())
            .caused_by("there is another network of that name, or one of another kind")
            .hint(format!("look at it with `docker network inspect {name}` and remove it")));
    }
    let request = NetworkCreateRequest {
        name: name.clone(),
        driver: Some("bridge".to_owned()),
        internal: Some(internal),
        options: Some(HashMap::from([(
            "com.docker.network.bridge.enable_icc".to_owned(),
            (!internal).to_string(),
        )])),
        labels: Some(HashMap::from([(labels::OWNER.to_owned(), owner.to_owned())])),
        ..NetworkCreateRequest::default()
    };
    let created = ask(operation, docker.create_network(request)).await;
    created.map(|_| name.clone()).map_err(|error| match error.hint {
        None if error.chain().contains("address pool") => error.hint(
            "the engine has no addresses left for networks: remove some with `docker network prune`, or give it \
             more `default-address-pools`",
        ),
        _ => error,
    })
}

/// Removes a network of `owner` when nothing uses it.
pub(super) async fn remove(docker: &Docker, owner: &str, which: Which) -> PortResult<()> {
    let name = name(owner, which);
    ask(|| format!("failed to remove network `{name}`"), async {
        match found(docker.remove_network(&name).await) {
            // 403: containers are connected to it.
            Err(error) if status(&error) == Some(403) => Ok(()),
            other => other.map(|_| ()),
        }
    })
    .await
}
