//! Instances, asked of the loop: for one client each, and for calls that find none.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::desired::Server;
use crate::live::{Instance, UpstreamKey};
use crate::ports::{Lender, Lent, PortError, PortResult, Starter, Unmet};
use crate::reconcile::{Cause, Event};

/// How long the return of an instance is tried to be told: the loop takes events at once.
const TELL: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(super) struct FromLoop {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) tasks: TaskTracker,
}

#[async_trait]
impl Lender for FromLoop {
    async fn lend(&self, server: &Arc<Server>) -> PortResult<Lent> {
        let gone = |_| PortError::retry("the daemon ends");
        let (answer, lent) = oneshot::channel();
        let event = Event::Lend { server: Arc::clone(server), answer };
        self.events.send(event).await.map_err(|_| PortError::retry("the daemon ends"))?;
        lent.await.map_err(gone)?
    }

    fn give_back(&self, instance: Instance) {
        let events = self.events.clone();
        self.tasks.spawn(async move {
            drop(events.send_timeout(Event::Return(instance), TELL).await);
        });
    }
}

#[async_trait]
impl Starter for FromLoop {
    async fn start(&self, any: &UpstreamKey) -> Result<(), Unmet> {
        let ends = || Unmet::Failed(PortError::retry("the daemon ends"));
        let (answer, started) = oneshot::channel();
        let event = Event::Demand { any: any.clone(), answer };
        self.events.send(event).await.map_err(|_| ends())?;
        started.await.map_err(|_| ends())?
    }

    fn more(&self) {
        // A full queue is of events that make the loop look.
        let _ = self.events.try_send(Event::Look(Cause::Demand));
    }
}
