//! Instances that belong to one client each (`sessions: perClient`).
//!
//! They are started when a client needs one and end with it, so that no plan speaks of them: it does
//! not see an instance that is lent. The inventory holds each before it exists. One that a killed
//! daemon left is lent to nobody, and then the plan stops it as superseded.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::job::{self, Done, Key};
use super::{Event, Reconciler};
use crate::desired::{Location, Server, Workload};
use crate::live::{Instance, Live, Observation};
use crate::manifest::Snapshot;
use crate::ports::{Identity, Lent, Material, PortError, PortResult};

/// Instances lent at a time, by all servers: each is a process or a container.
const MAX_LENT: usize = 256;
/// Lent instances that start at the same time.
const MAX_STARTING: usize = 8;
/// How long clients' connections may take to end when the daemon does.
const RECALL: Duration = Duration::from_secs(8);

/// Where the answer to a loan goes.
pub(super) type Answer = oneshot::Sender<PortResult<Lent>>;

impl Reconciler {
    /// Starts an instance for one client.
    pub(super) fn lend(&mut self, server: &Arc<Server>, answer: Answer) {
        if let Err((error, answer)) = self.try_lend(server, answer) {
            drop(answer.send(Err(error)));
        }
    }

    fn try_lend(&mut self, server: &Arc<Server>, answer: Answer) -> Result<(), (PortError, Answer)> {
        let id = &server.id;
        let refuse = |why: &str| PortError::retry(format!("{id} cannot be started for this client: {why}"));
        let digest = server.digests.workload;
        let current = self.serving.get(&id.name).filter(|it| it.server.digests.workload == digest);
        let snapshot = self.accepted.as_ref().or(self.snapshot.as_ref());
        let (Some(_), Some(snapshot), Location::Runner(workload)) = (current, snapshot, &server.location)
        else {
            return Err((refuse("it has just been replaced; try again"), answer));
        };
        let starting = self.running.keys().filter(|key| matches!(key, Key::Lend(_))).count();
        if self.lent.len() >= MAX_LENT || starting >= MAX_STARTING {
            return Err((refuse("too many clients have one or wait for one; try again later"), answer));
        }
        let identity = Identity {
            name: self.name_for_client(server),
            resource: id.clone(),
            digest,
            revision: snapshot.revision.to_string(),
        };
        let (ports, snapshot, workload) = (self.ports.clone(), Arc::clone(snapshot), Arc::clone(workload));
        if !self.claim(&identity.name, &workload.runner, server) {
            return Err((refuse("the inventory cannot be written"), answer));
        }
        self.lent.insert(identity.name.clone());
        let name = identity.name.clone();
        tracing::info!(resource = %id, instance = name, "starting for one client");
        self.spawn(Key::Lend(name), None, |_| {
            Box::pin(async move {
                let name = identity.name.clone();
                let result = started(&ports, &workload, &identity, &snapshot).await;
                let instance = result.as_ref().ok().map(|lent| lent.instance.clone());
                let unwanted = answer.send(result).is_err();
                Done::Lent { name, instance, unwanted }
            })
        });
        Ok(())
    }

    /// As `free_name` of the plan, but told apart at sight.
    fn name_for_client(&self, server: &Server) -> String {
        let stem = format!("{}-{}-client", server.id.name, server.digests.workload.short());
        let mut n = 1_u64;
        loop {
            let name = format!("{stem}-{n}");
            if !self.inventory.entries.contains_key(&name) && !self.lent.contains(&name) {
                return name;
            }
            n += 1;
        }
    }

    pub(super) fn lent(&mut self, name: &str, instance: Option<Instance>, unwanted: bool) {
        match instance {
            Some(instance) if unwanted => self.take_back(instance),
            Some(_) => {}
            None => {
                self.lent.remove(name);
                self.epoch += 1;
                self.look();
            }
        }
    }

    /// Ends an instance whose client is gone.
    pub(super) fn take_back(&mut self, instance: Instance) {
        let ports = self.ports.clone();
        self.spawn(Key::Stop(instance.name.clone()), None, |_| {
            Box::pin(job::stop(ports, instance, Duration::ZERO))
        });
    }

    /// What a plan sees: everything that is not lent.
    pub(super) fn unlent(&self) -> Live {
        let mut live = self.live.clone();
        if !self.lent.is_empty() {
            for seen in live.runners.values_mut() {
                if let Observation::Present(instances) = seen {
                    instances.retain(|instance| !self.lent.contains(&instance.name));
                }
            }
        }
        live
    }

    /// At the end of the daemon: waits until clients let go, so that no instance is left that nobody
    /// could use.
    pub(super) async fn recall(&mut self, events: &mut mpsc::Receiver<Event>) {
        let all_back = async {
            while !self.lent.is_empty() {
                tokio::select! {
                    // Cancel-safe: `recv` loses nothing, and jobs stay in their set.
                    event = events.recv() => match event {
                        Some(Event::Return(instance)) => self.take_back(instance),
                        Some(Event::Lend { answer, .. }) => {
                            drop(answer.send(Err(PortError::retry("the daemon ends"))));
                        }
                        Some(_) => {}
                        None => return,
                    },
                    Some((key, done)) = futures::StreamExt::next(&mut self.jobs) => {
                        self.running.remove(&key);
                        match done {
                            Done::Stopped { instance, result: Ok(()) } => {
                                self.lent.remove(&instance.name);
                                self.inventory.entries.remove(&instance.name);
                            }
                            Done::Stopped { instance, result: Err(_) } => {
                                self.lent.remove(&instance.name);
                            }
                            Done::Lent { name, instance, .. } => self.lent(&name, instance, true),
                            _ => {}
                        }
                    }
                }
            }
        };
        if tokio::time::timeout(RECALL, all_back).await.is_err() {
            tracing::warn!(
                instances = self.lent.len(),
                "instances of clients are left; the next start ends them"
            );
        }
        self.save_inventory();
    }
}

async fn started(
    ports: &super::Ports,
    workload: &Workload,
    identity: &Identity,
    snapshot: &Snapshot,
) -> PortResult<Lent> {
    let Some(runner) = ports.runners.get(&workload.runner) else {
        return Err(PortError::retry(format!("runner `{}` is not set up", workload.runner)));
    };
    let workload = job::located(ports, workload, snapshot).await?;
    let material = Material::resolve(&*ports.secrets, &workload.env, &workload.files)?;
    let instance = runner.start(identity, &workload, material).await?;
    match runner.connect(&instance.id).await {
        Ok(channel) => Ok(Lent { channel, instance }),
        Err(error) => {
            drop(runner.stop(&instance.id, Duration::ZERO).await);
            Err(error)
        }
    }
}
