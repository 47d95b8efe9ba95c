//! Where the loop's results go: the gateway, the status, the metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::watch;

use super::control::Failures;
use crate::admin::view::counts;
use crate::catalog::Catalog;
use crate::gateway::{Gateway, Rules};
use crate::policy::PolicySet;
use crate::ports::{Clock, DeclaredRunners, Judge, Publisher, ToolExecutor};
use crate::resource::ResourceId;
use crate::resource::crib::Registration;
use crate::status::{CertificateStatus, ConditionType, RegistrationStatus, Status, get};
use crate::telemetry::Metrics;

/// What is published now.
pub(super) struct Published {
    pub(super) gateway: Arc<Gateway>,
    pub(super) status: ArcSwap<Status>,
    pub(super) failures: Failures,
    pub(super) metrics: Arc<Metrics>,
    pub(super) judge: Arc<dyn Judge>,
    /// True from the first catalog on.
    pub(super) served: watch::Sender<bool>,
    /// True while the loop has nothing to do.
    pub(super) quiet: watch::Sender<bool>,
    /// Told whenever what is published, or how it is, may have changed.
    pub(super) changed: watch::Sender<()>,
    /// Outside registration APIs, as declared.
    pub(super) register: watch::Sender<Arc<[Registration]>>,
    /// How they are.
    pub(super) registered: ArcSwap<Vec<RegistrationStatus>>,
    /// Knows what waits for calls.
    pub(super) executor: Arc<dyn ToolExecutor>,
    /// How the certificate of the MCP listener is, where there is one.
    pub(super) certificate: ArcSwapOption<CertificateStatus>,
}

impl Published {
    /// Everything that is known of how things are.
    pub(super) fn all(&self) -> Arc<Status> {
        let (status, registered) = (self.status.load_full(), self.registered.load_full());
        let certificate = self.certificate.load_full();
        let warm = self.executor.warm();
        if registered.is_empty() && certificate.is_none() && warm.is_empty() {
            return status;
        }
        let mut status = (*status).clone();
        status.registrations = registered.to_vec();
        status.warm = warm;
        status.daemon.certificate = certificate.map(|certificate| (*certificate).clone());
        Arc::new(status)
    }
}

impl Publisher for Published {
    fn current(&self) -> Option<Arc<Catalog>> {
        self.served.borrow().then(|| self.gateway.catalogs.current())
    }

    fn publish(&self, catalog: Arc<Catalog>, policies: Arc<PolicySet>, runners: &DeclaredRunners) {
        let (revision, generation) = (catalog.revision.to_string(), catalog.generation);
        let entries = counts(&catalog);
        self.gateway.set_rules(Arc::new(Rules {
            policies,
            runners: runners.clone(),
            judge: Some(Arc::clone(&self.judge)),
        }));
        self.gateway.catalogs.swap(catalog);
        // Not before it is so.
        self.metrics.published(&revision, generation, entries);
        self.gateway.served_since(SystemClock.now());
        self.served.send_replace(true);
    }

    fn register(&self, registrations: &Arc<[Registration]>) {
        self.register.send_if_modified(|before| {
            let changed = before != registrations;
            if changed {
                *before = Arc::clone(registrations);
            }
            changed
        });
    }

    fn status(&self, status: Arc<Status>) {
        let mut tally: BTreeMap<(&'static str, Option<bool>), u64> = BTreeMap::new();
        for (id, resource) in &status.resources {
            *tally.entry((id.kind.as_str(), resource.ready())).or_default() += 1;
        }
        for kind in crate::resource::Kind::ALL {
            for ready in [Some(true), Some(false), None] {
                let count = tally.get(&(kind.as_str(), ready)).copied().unwrap_or(0);
                self.metrics.resources(kind.as_str(), ready, count);
            }
        }
        let mut standing: BTreeMap<&str, u64> = BTreeMap::new();
        for resource in status.resources.values() {
            if let Some(locked) = get(&resource.conditions, ConditionType::Locked) {
                *standing.entry(&locked.reason).or_default() += 1;
            }
        }
        self.metrics.locks(&standing);
        let servers = status.resources.iter().filter(|(id, _)| id.kind == crate::resource::Kind::Server);
        let running = servers.map(|(id, resource)| {
            let running = resource.instances.iter().filter(|instance| instance.state == "running");
            (id.name.as_str(), running.count() as u64)
        });
        self.metrics.instances(&running.collect());
        self.status.store(status);
        self.changed.send_replace(());
    }

    fn failures(&self, failures: BTreeMap<ResourceId, String>) {
        self.failures.store(Arc::new(failures));
    }

    fn definitions_changed(&self, server: &ResourceId, count: u64) {
        self.metrics.definitions_changed(server.name.as_str(), count);
    }

    fn quiet(&self, pass: Option<(&'static str, Duration)>) {
        if let Some((result, took)) = pass {
            self.metrics.pass(result, took);
        }
        self.quiet.send_replace(pass.is_some());
    }
}

/// The wall clock.
pub(super) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    fn now(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}
