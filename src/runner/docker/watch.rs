//! Hearing of what happens to our servers without being asked.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures::StreamExt;

use super::{Inner, labels};

/// Between two tries to listen: doubled up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Listens until the runner is dropped; `inner.news` hears of each event, and of each new
/// connection, because something may have happened in between.
pub(super) async fn listen(inner: std::sync::Weak<Inner>) {
    let mut pause = BACKOFF.0;
    loop {
        let Some(runner) = inner.upgrade() else { return };
        let connected = runner.engine.patient(Duration::from_secs(u32::MAX.into())).await;
        let filters = filters(&runner.owner);
        drop(runner);
        if let Ok(docker) = connected {
            let options = EventsOptionsBuilder::default().filters(&filters).build();
            let mut events = std::pin::pin!(docker.events(Some(options)));
            while let Some(Ok(event)) = events.next().await {
                let Some(runner) = inner.upgrade() else { return };
                pause = BACKOFF.0;
                if !runner.expects(&event) {
                    runner.news.notify_one();
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(BACKOFF.1);
        let Some(runner) = inner.upgrade() else { return };
        runner.news.notify_one();
    }
}

fn filters(owner: &str) -> HashMap<String, Vec<String>> {
    let mut filters = labels::filter(&[(labels::OWNER, owner), (labels::ROLE, "server")]);
    filters.insert("type".to_owned(), vec!["container".to_owned()]);
    let events = ["die", "oom", "start", "destroy"].map(str::to_owned).to_vec();
    filters.insert("event".to_owned(), events);
    filters
}

/// The container an event is about.
pub(super) fn container(event: &EventMessage) -> Option<&str> {
    event.actor.as_ref()?.id.as_deref()
}
