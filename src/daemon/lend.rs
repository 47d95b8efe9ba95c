//! Instances for one client each, asked of the loop.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::desired::Server;
use crate::live::Instance;
use crate::ports::{Lender, Lent, PortError, PortResult};
use crate::reconcile::Event;

/// How long the return of an instance is tried to be told: the loop takes events at once.
const TELL: Duration = Duration::from_secs(10);

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
