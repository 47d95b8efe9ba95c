//! What the admin endpoint asks of the daemon.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::pool::Pool;
use super::publish::Published;
use crate::admin::audit::{AuditQuery, AuditRecord, Found};
use crate::admin::grants::{GrantAsk, GrantReply, GrantView};
use crate::admin::volumes::{VolumeAsk, VolumeReply, VolumeView};
use crate::admin::why::{WhyQuery, WhyReply};
use crate::admin::{Control, LockView, PlanView, ReconcileReply, ReconcileRequest};
use crate::catalog::Catalog;
use crate::http::grants::{Authorization, Grants};
use crate::plan;
use crate::ports::{PortError, PortResult, Publisher as _, Runners as _};
use crate::reconcile::survey::{self, Surveyed};
use crate::reconcile::volume::KnownVolume;
use crate::reconcile::{Ask, Event};
use crate::resource::ResourceId;
use crate::status::{ResourceStatus, Status, Timestamp};
use crate::telemetry::Journal;

/// The daemon as the admin endpoint sees it.
pub(super) struct DaemonControl {
    pub(super) published: Arc<Published>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) pool: Arc<Pool>,
    pub(super) journal: Arc<Journal>,
    pub(super) grants: Arc<Grants>,
}

impl DaemonControl {
    async fn tell(&self, ask: Ask) -> PortResult<()> {
        let gone = |_| PortError::retry("failed to ask the loop: the daemon is shutting down");
        self.events.send(Event::Ask(ask)).await.map_err(gone)
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> PortResult<T> {
        let gone = || PortError::retry("failed to ask the loop: the daemon is shutting down");
        let (sender, receiver) = oneshot::channel();
        self.events.send(Event::Ask(ask(sender))).await.map_err(|_| gone())?;
        receiver.await.map_err(|_| gone())
    }
}

/// A plan with the revision it is for, as the command line prints it.
pub(super) fn view(plan: &plan::PlanView, revision: Option<String>) -> PlanView {
    PlanView {
        hash: plan.hash.to_string(),
        revision: revision.unwrap_or_default(),
        changes: plan.steps.iter().filter(|step| step.change != "adopt").count() + plan.drift.len(),
        text: plan.to_string(),
        plan: serde_json::to_value(plan).unwrap_or_default(),
    }
}

#[async_trait]
impl Control for DaemonControl {
    fn status(&self) -> Arc<Status> {
        self.published.all()
    }

    fn catalog(&self) -> Option<Arc<Catalog>> {
        self.published.current()
    }

    async fn plan(&self) -> PortResult<PlanView> {
        let plan = self.ask(Ask::Plan).await?;
        let revision = self.status().attempted.as_ref().map(ToString::to_string);
        if revision.is_none() {
            return Err(PortError::retry("no revision was read yet")
                .hint("`toolcrib status` says what is waited for"));
        }
        Ok(view(&plan, revision))
    }

    async fn reconcile(&self, request: ReconcileRequest) -> PortResult<ReconcileReply> {
        let ReconcileRequest { rebuild, approve, wait } = request;
        if let Some(hash) = approve {
            self.tell(Ask::Approve(hash)).await?;
        }
        if let Some(resource) = &rebuild {
            known(&self.published.status.load(), resource)?;
        }
        let ended = self.ask(|answer| Ask::Reconcile { rebuild, wait, answer }).await?;
        let served = self.published.current();
        Ok(ReconcileReply {
            revision: served.as_ref().map(|catalog| catalog.revision.to_string()),
            generation: served.as_ref().map_or(0, |catalog| catalog.generation),
            succeeded: wait.then_some(ended.is_ok()),
            message: match (&ended, wait) {
                (Err(why), _) => why.clone(),
                (Ok(()), true) => "everything that is declared is served".to_owned(),
                (Ok(()), false) => "asked for: `toolcrib status` shows what comes of it".to_owned(),
            },
        })
    }

    async fn logs(&self, resource: &ResourceId) -> PortResult<String> {
        let status = self.published.status.load_full();
        let known = known(&status, resource)?;
        let mut text = String::new();
        let runner = known.runner.as_ref().and_then(|name| self.pool.get(name));
        if let Some(runner) = runner {
            for instance in &known.instances {
                let log = runner.logs(&instance.id).await?;
                text.extend(["==> ", &instance.name, " (", &instance.state, ")\n", &log]);
            }
        }
        if let Some(failure) = self.published.failures.load().get(resource) {
            text.extend(["==> what failed last\n", failure.trim_end(), "\n"]);
        }
        Ok(text)
    }

    async fn audit(&self, query: AuditQuery) -> PortResult<Vec<AuditRecord>> {
        let journal = Arc::clone(&self.journal);
        let reading = tokio::task::spawn_blocking(move || {
            let mut found = Found::new(query);
            journal.read(|line| found.line(line)).map(|()| found.records())
        });
        let failed = || PortError::retry("failed to read the records of calls");
        reading.await.map_err(|error| failed().caused_by(error))?.map_err(|error| failed().caused_by(error))
    }

    async fn why(&self, query: WhyQuery) -> PortResult<WhyReply> {
        Ok(super::why::why(&self.published.gateway, &self.published.all(), query).await)
    }

    async fn authorizations(&self, ask: GrantAsk) -> PortResult<GrantReply> {
        match ask {
            GrantAsk::List => {
                let view = |about: Authorization| GrantView {
                    user: about.user,
                    server: about.server,
                    issuer: about.issuer,
                    refreshed: Timestamp(about.since),
                    expires: Timestamp(about.until),
                };
                Ok(GrantReply {
                    list: self.grants.list().into_iter().map(view).collect(),
                    ..GrantReply::default()
                })
            }
            GrantAsk::Start { user, server } => {
                let url = Some(self.grants.begin(&user, &server).await?);
                Ok(GrantReply { url, ..GrantReply::default() })
            }
            GrantAsk::Revoke { user, server } => {
                let not_told = self.grants.revoke(&user, &server).await?;
                Ok(GrantReply { not_told, ..GrantReply::default() })
            }
        }
    }

    async fn volumes(&self, ask: VolumeAsk) -> PortResult<VolumeReply> {
        if let VolumeAsk::Delete(id) = ask {
            self.ask(|answer| Ask::DeleteVolume(id, answer)).await??;
        }
        let known = self.ask(Ask::Volumes).await?;
        let view = |known: KnownVolume| VolumeView { volume: known.id.to_string(), used_by: known.used_by };
        Ok(VolumeReply { volumes: known.into_iter().map(view).collect() })
    }

    async fn locks(&self) -> PortResult<Vec<LockView>> {
        let found = survey::complete(self.ask(Ask::Survey).await?, &*self.pool).await;
        Ok(found.into_iter().map(lock_view).collect())
    }

    async fn suspend(&self, suspended: bool) -> PortResult<()> {
        self.tell(Ask::Suspend(suspended)).await
    }
}

/// What was found of one resource, as the command line writes it.
pub(super) fn lock_view(found: Surveyed) -> LockView {
    let (lock, error) = match found.lock {
        Ok(lock) => (Some(lock.write()), None),
        Err(why) => (None, Some(why)),
    };
    LockView { resource: found.id, lock, error }
}

/// Details of failures, by resource: logs of builds and of instances that did not start.
pub(super) type Failures = ArcSwap<std::collections::BTreeMap<ResourceId, String>>;

/// What is known of a declared resource.
fn known<'a>(status: &'a Status, resource: &ResourceId) -> PortResult<&'a ResourceStatus> {
    status.resources.get(resource).map(AsRef::as_ref).ok_or_else(|| {
        PortError::stalled(format!("there is no resource `{resource}`"))
            .hint("`toolcrib get` lists what is declared")
    })
}
