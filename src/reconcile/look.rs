//! When the loop looks: at the repository, at the runners, and at servers that say something changed.

use std::sync::Arc;

use super::job::{self, Key};
use super::{Cause, Reconciler};
use crate::desired;
use crate::live::{Fault, UpstreamKey};

impl Reconciler {
    pub(super) fn fetch(&mut self, cause: Cause) {
        if self.suspended && cause != Cause::Asked {
            return;
        }
        tracing::debug!(%cause, "fetching");
        self.pass.begin(&*self.ports.clock, cause);
        let ports = self.ports.clone();
        if !self.spawn(Key::Fetch, None, |_| Box::pin(job::fetch(ports))) {
            self.fetch_again = true;
        }
    }

    /// Observes, and then plans and applies.
    pub(super) fn look(&mut self) {
        if self.desired.is_none() || self.suspended {
            return;
        }
        let (ports, watched) = (self.ports.clone(), self.watched());
        if !self.spawn(Key::Observe, None, |_| Box::pin(job::observe(ports, watched))) {
            self.observe_again = true;
        }
    }

    /// What an observation asks: also runners that are no longer declared, until nothing of ours is
    /// left on them.
    pub(super) fn watched(&self) -> job::Watched {
        let former = self.inventory.entries.values().map(|entry| &entry.runner);
        let former = former.chain(self.inventory.ahead.iter().map(|ahead| &ahead.runner));
        let runners = self.runners.keys().chain(former).cloned().collect();
        let desired = self.desired.as_deref();
        let servers = desired.into_iter().flat_map(|desired| desired.servers.values());
        let servers = servers.filter_map(|server| match &server.location {
            desired::Location::Runner(workload) => {
                Some((workload.runner.clone(), Arc::clone(server.build.as_ref()?)))
            }
            desired::Location::Remote { .. } => None,
        });
        let tools = desired.into_iter().flat_map(|desired| desired.tools.values());
        let tools = tools.filter_map(|tool| Some((tool.runner.clone(), Arc::clone(tool.build.as_ref()?))));
        let builds = servers
            .chain(tools)
            .filter(|(runner, build)| !self.built.contains(&(runner.clone(), build.digest)))
            .collect();
        let volumes = !self.observed_before || !self.inventory.volumes.is_empty();
        let ahead = !self.inventory.ahead.is_empty();
        job::Watched { runners, builds, volumes, ahead, epoch: self.epoch }
    }

    /// A server said that a list changed, or its connection closed.
    pub(super) fn upstream_changed(&mut self, key: UpstreamKey) {
        let serving = self.serving.get(&key.server);
        let Some(serving) = serving.filter(|_| self.serves(&key)) else {
            return self.look();
        };
        if !self.ports.prober.connected().contains(&key) {
            // A stream is there once: an instance that closed it is of no more use.
            if serving.over_stdio() && !self.broken.contains_key(&key.instance) {
                self.broken.insert(key.instance.clone(), Fault::Silent);
                let (id, digest) = (serving.server.id.clone(), serving.server.digests.workload);
                let text = "the instance closed its connection".to_owned();
                tracing::warn!(resource = %id, instance = %key.instance, "{text}");
                self.backoff.crashed(&id, digest, text, self.ports.clock.now());
            }
            self.stale = true;
            return self.look();
        }
        self.refresh(key);
    }

    /// Has a server list again.
    pub(super) fn refresh(&mut self, key: UpstreamKey) {
        let Some(serving) = self.serving.get(&key.server) else { return };
        let (ports, deadline) = (self.ports.clone(), serving.server.startup_timeout);
        self.spawn(Key::Refresh(key.clone()), None, |_| Box::pin(job::refresh(ports, key, deadline)));
    }
}
