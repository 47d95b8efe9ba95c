//! Servers: starting, finding again, connecting, stopping.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum as State};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder};
use tokio::io::AsyncWriteExt;

use super::container::{Container, First, Stdin, file_path};
use super::engine::{ask, found};
use super::network::Which;
use super::session::Session;
use super::tail::Tail;
use super::{Inner, disk, egress, frame, image, init, labels, launch, lock, network};
use crate::desired::{Program, Workload};
use crate::live::{Instance, InstanceId, InstanceState};
use crate::ports::{Channel, Identity, Material, PortError, PortResult};
use crate::resource::EnvValue;
use crate::resource::server::Transport;

/// Marks a container as being started for as long as it lives.
struct Starting<'a> {
    inner: &'a Inner,
    names: Vec<String>,
}

impl Starting<'_> {
    fn add(&mut self, name: &str) {
        lock(&self.inner.starting).insert(name.to_owned());
        self.names.push(name.to_owned());
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        let mut starting = lock(&self.inner.starting);
        for name in &self.names {
            starting.remove(name);
        }
    }
}

impl Inner {
    pub(super) async fn observe(&self) -> PortResult<Vec<Instance>> {
        let listed = self.list("server").await?;
        let there: HashSet<_> = listed.iter().filter_map(|container| container.id.clone()).collect();
        lock(&self.sessions).retain(|id, _| there.contains(&id.0) || lock(&self.starting).contains(&id.0));
        Ok(listed.iter().filter_map(|container| self.instance(container)).collect())
    }

    pub(super) async fn list(&self, role: &str) -> PortResult<Vec<ContainerSummary>> {
        let docker = self.engine.client().await?;
        let mut wanted = vec![(labels::OWNER, self.owner.as_str()), (labels::ROLE, role)];
        if role != "init" {
            wanted.push((labels::RUNNER, self.name.as_str()));
        }
        let filters = labels::filter(&wanted);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        ask(|| "failed to list containers".to_owned(), docker.list_containers(Some(options))).await
    }

    fn instance(&self, container: &ContainerSummary) -> Option<Instance> {
        let id = container.id.as_deref()?;
        let labels = container.labels.as_ref()?;
        let mut instance = labels::instance(id, &self.name, labels)?;
        let starting = {
            let starting = lock(&self.starting);
            starting.contains(&instance.name) || starting.contains(id)
        };
        instance.state = match container.state? {
            _ if starting => InstanceState::Starting,
            State::RUNNING | State::STOPPING => InstanceState::Running,
            State::PAUSED => InstanceState::Paused,
            State::RESTARTING => InstanceState::Starting,
            // Created and never started: whoever made it died before.
            _ => InstanceState::Exited { code: exit_code(container.status.as_deref()) },
        };
        let session = lock(&self.sessions).get(&instance.id).cloned();
        instance.adoptable = match session {
            _ if labels::http(labels).is_some() => true,
            Some(session) => session.fresh() || session.connected(),
            None => self.clean || starting,
        };
        Some(instance)
    }

    pub(super) async fn start(
        &self,
        identity: &Identity,
        workload: &Workload,
        material: Material,
    ) -> PortResult<Instance> {
        let docker = self.engine.client().await?;
        let mut starting = Starting { inner: self, names: Vec::new() };
        starting.add(&identity.name);
        let (plain, hidden) = part(workload, material)?;
        let frame = frame::encode(&hidden)?;
        let network = self.prepare(&docker, &workload.transport).await?;
        let egress = egress::ensure(self, &docker, &workload.egress).await?;
        let image = program_image(&docker, &workload.program).await?;
        disk::check(&docker, &workload.limits, &workload.security).await?;
        let mounts = self.mounts(&docker, &workload.volumes, &workload.security.user).await?;
        let input = match (&workload.transport, &frame) {
            (Transport::Stdio, _) => Stdin::Open,
            (Transport::StreamableHttp { .. } | Transport::Sse { .. }, Some(_)) => Stdin::Once,
            (Transport::StreamableHttp { .. } | Transport::Sse { .. }, None) => Stdin::Empty,
        };
        let mut labels = labels::of((&self.owner, &self.name), "server", identity);
        labels::egress(&mut labels, &workload.egress);
        labels::endpoint(&mut labels, &workload.transport, !hidden.secrets.is_empty());
        let body = Container {
            image: &image,
            first: First::Run { program: &workload.program, framed: frame.is_some() },
            limits: &workload.limits,
            security: &workload.security,
            env: plain,
            files: hidden.files.keys().map(String::as_str).collect(),
            stdin: input,
            network,
            mounts,
            egress,
            labels,
        }
        .body()?;
        let name = labels::container(&self.owner, &identity.name);
        let id = launch::create(&docker, &self.owner, &name, body).await.map_err(disk::explained)?;
        starting.add(&id);
        let stdio = workload.transport == Transport::Stdio;
        let mut attached = launch::attach(&docker, &id, input != Stdin::Empty).await?;
        launch::start(&docker, &self.init, &id).await?;
        if let Some(frame) = frame {
            launch::send_frame(&mut attached.input, &frame).await?;
        }
        let tail = Tail::new(&hidden.secrets);
        let session = if stdio {
            Session::stdio(attached, tail, &self.tasks)
        } else {
            // The engine closes the container's standard input: nothing more will come.
            let _ = attached.input.shutdown().await;
            Session::log(attached, tail, &self.tasks)
        };
        let id = InstanceId(id);
        lock(&self.sessions).insert(id.clone(), Arc::new(session));
        Ok(Instance {
            id,
            name: identity.name.clone(),
            runner: self.name.clone(),
            resource: identity.resource.clone(),
            digest: identity.digest,
            revision: identity.revision.clone(),
            state: InstanceState::Running,
            adoptable: true,
        })
    }

    /// What a container needs on the engine before it can be created; the network it joins.
    async fn prepare(&self, docker: &Docker, transport: &Transport) -> PortResult<Option<String>> {
        self.init.ensure(docker, &self.owner).await?;
        match transport {
            Transport::Stdio => Ok(None),
            Transport::StreamableHttp { .. } | Transport::Sse { .. } => {
                let _one_at_a_time = self.network.lock().await;
                network::ensure(docker, &self.owner, Which::Inside).await.map(Some)
            }
        }
    }

    pub(super) async fn connect(&self, id: &InstanceId) -> PortResult<Channel> {
        let docker = self.engine.client().await?;
        let operation = || format!("failed to connect to container `{id}`");
        let look = async { found(docker.inspect_container(&id.0, None::<InspectContainerOptions>).await) };
        let container = ask(operation, look)
            .await?
            .ok_or_else(|| PortError::retry(operation()).caused_by("it is gone"))?;
        let labels = container.config.and_then(|config| config.labels).unwrap_or_default();
        if !labels::owned_by(Some(&labels), &self.owner) {
            return Err(PortError::stalled(operation()).caused_by("it is not ours"));
        }
        let known = lock(&self.sessions).get(id).cloned();
        let Some(place) = labels::http(&labels) else {
            return self.connect_stdio(&docker, id, known, &labels).await;
        };
        if known.is_none() {
            self.attach_log(&docker, id, &labels).await?;
        }
        let network = network::name(&self.owner, Which::Inside);
        let address = container
            .network_settings
            .and_then(|settings| settings.networks)
            .and_then(|mut networks| networks.remove(&network))
            .and_then(|endpoint| endpoint.ip_address)
            .filter(|address| !address.is_empty());
        match address {
            Some(address) => Ok(place.channel(&address)),
            None => Err(PortError::retry(operation()).caused_by("it has no address: it does not run")),
        }
    }

    async fn connect_stdio(
        &self,
        docker: &Docker,
        id: &InstanceId,
        known: Option<Arc<Session>>,
        labels: &labels::Labels,
    ) -> PortResult<Channel> {
        let session = match known {
            Some(session) => session,
            None if self.clean => {
                let attached = launch::attach(docker, &id.0, true).await?;
                let session = Arc::new(Session::stdio(attached, self.adopted(id, labels), &self.tasks));
                lock(&self.sessions).insert(id.clone(), Arc::clone(&session));
                session
            }
            None => return Err(lost(id)),
        };
        session.take().ok_or_else(|| lost(id))
    }

    async fn attach_log(&self, docker: &Docker, id: &InstanceId, labels: &labels::Labels) -> PortResult<()> {
        let attached = launch::attach(docker, &id.0, false).await?;
        let session = Session::log(attached, self.adopted(id, labels), &self.tasks);
        lock(&self.sessions).insert(id.clone(), Arc::new(session));
        Ok(())
    }

    /// The log of a container that another process started.
    fn adopted(&self, id: &InstanceId, labels: &labels::Labels) -> Tail {
        match lock(&self.revealed).remove(id) {
            Some(secrets) => Tail::new(&secrets),
            None if labels::has_secrets(labels) => Tail::withheld(),
            None => Tail::new(&[]),
        }
    }

    pub(super) async fn stop(&self, id: &InstanceId, grace: Duration) -> PortResult<()> {
        let docker = self.engine.client().await?;
        let Some(full) = launch::ours(&docker, &self.owner, &id.0).await? else {
            lock(&self.sessions).remove(id);
            return Ok(());
        };
        self.leaves(&full);
        launch::stop(&self.engine, &full, grace).await?;
        launch::remove(&docker, &full).await?;
        lock(&self.sessions).remove(id);
        Ok(())
    }

    pub(super) fn logs(&self, id: &InstanceId) -> String {
        let session = lock(&self.sessions).get(id).cloned();
        session.map(|session| session.tail.text()).unwrap_or_default()
    }

    /// Removes the containers of runs and of volume filling that a dead daemon left, and brings back the
    /// forwarders that servers need.
    pub(super) async fn sweep(&self) -> PortResult<()> {
        let docker = self.engine.client().await?;
        // What fills a volume has no name of its own: none of this process is there meanwhile.
        let _filling = init::FILLING.lock().await;
        for role in ["run", "warm", "init"] {
            for container in self.list(role).await? {
                let name = container.labels.as_ref().and_then(labels::name);
                let running = name.is_some_and(|name| {
                    lock(&self.starting).contains(name) || lock(&self.ahead).contains_key(name)
                });
                if let (Some(id), false) = (container.id, running) {
                    launch::remove(&docker, &id).await?;
                }
            }
        }
        for server in self.list("server").await? {
            let running = server.state == Some(State::RUNNING);
            let reaches = server.labels.as_ref().filter(|_| running).map(labels::reaches).unwrap_or_default();
            egress::ensure(self, &docker, &reaches).await?;
        }
        Ok(())
    }
}

/// Variables that may be seen, and all that may not.
fn part(workload: &Workload, material: Material) -> PortResult<(BTreeMap<&str, &str>, Material)> {
    let mut plain = BTreeMap::new();
    let Material { env, files, secrets } = material;
    let mut hidden = Material { env, files: BTreeMap::new(), secrets };
    for (name, value) in &workload.env {
        if let EnvValue::Literal(text) = value {
            hidden.env.remove(name);
            plain.insert(name.as_str(), text.as_str());
        }
    }
    for (path, contents) in files {
        hidden.files.insert(file_path(&path)?, contents);
    }
    Ok((plain, hidden))
}

pub(super) async fn program_image(docker: &Docker, program: &Program) -> PortResult<image::Image> {
    match program {
        Program::Image { reference, id, .. } => {
            image::present(docker, id.as_deref().unwrap_or(reference)).await
        }
        Program::Command { .. } => {
            Err(PortError::stalled("cannot run a command in a container without an image")
                .hint("give `image` or `build`, or choose a `process` runner"))
        }
    }
}

fn lost(id: &InstanceId) -> PortError {
    PortError::retry(format!("failed to connect to container `{id}`"))
        .caused_by("its standard streams were in use before, so a late answer may still come out of them")
        .hint("it is replaced by the next pass")
}

/// From `Exited (137) 2 minutes ago`.
fn exit_code(status: Option<&str>) -> Option<i64> {
    status?.strip_prefix("Exited (")?.split_once(')')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_read_from_the_status() {
        for (status, code) in [
            (Some("Exited (137) 2 minutes ago"), Some(137)),
            (Some("Exited (0) Less than a second ago"), Some(0)),
            (Some("Created"), None),
            (None, None),
        ] {
            assert_eq!(exit_code(status), code);
        }
    }
}
