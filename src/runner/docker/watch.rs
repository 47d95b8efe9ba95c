//! Hearing of what happens to our servers without being asked.

use std::collections::HashMap;
use std::time::Duration;

use bollard::Docker;
use bollard::models::EventMessage;
use bollard::query_parameters::{EventsOptionsBuilder, InspectContainerOptions};
use futures::StreamExt;

use super::{Inner, labels};

/// Between two tries to listen: doubled up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Until the engine has written down what it told of: milliseconds, unless it is very busy.
const SETTLE: Duration = Duration::from_secs(5);

/// Listens until the runner is dropped; `inner.news` hears of each event, and of each new
/// connection, because something may have happened in between.
pub(super) async fn listen(inner: std::sync::Weak<Inner>) {
    let mut pause = BACKOFF.0;
    // The engine repeats what happened since then; a connection takes a while.
    let mut since = now();
    loop {
        let Some(runner) = inner.upgrade() else { return };
        let connected = runner.engine.patient(Duration::from_secs(u32::MAX.into())).await;
        let filters = filters(&runner.owner, runner.name.as_str());
        drop(runner);
        if let Ok(docker) = connected {
            let options = EventsOptionsBuilder::default().filters(&filters).since(&since).build();
            let mut events = std::pin::pin!(docker.events(Some(options)));
            while let Some(Ok(event)) = events.next().await {
                let Some(runner) = inner.upgrade() else { return };
                pause = BACKOFF.0;
                since = after(&event).unwrap_or(since);
                if !runner.expects(&event) {
                    settled(&docker, &event).await;
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

#[expect(clippy::disallowed_methods, reason = "asks the engine for what happens from now on")]
fn now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

/// The moment after an event, by the engine's clock.
fn after(event: &EventMessage) -> Option<String> {
    let nanoseconds = event.time_nano? + 1;
    Some(format!("{}.{:09}", nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000))
}

fn filters(owner: &str, runner: &str) -> HashMap<String, Vec<String>> {
    let wanted = [(labels::OWNER, owner), (labels::RUNNER, runner), (labels::ROLE, "server")];
    let mut filters = labels::filter(&wanted);
    filters.insert("type".to_owned(), vec!["container".to_owned()]);
    let events = ["die", "oom", "start", "pause", "unpause", "destroy"].map(str::to_owned).to_vec();
    filters.insert("event".to_owned(), events);
    filters
}

/// Engines tell of a death before their list shows it. Looking at the container itself waits until
/// its end is written down.
async fn settled(docker: &Docker, event: &EventMessage) {
    if let Some(id) = container(event) {
        let look = docker.inspect_container(id, None::<InspectContainerOptions>);
        if let Ok(Err(error)) = tokio::time::timeout(SETTLE, look).await {
            tracing::debug!(%error, container = id, "not there any more");
        }
    }
}

/// The container an event is about.
pub(super) fn container(event: &EventMessage) -> Option<&str> {
    event.actor.as_ref()?.id.as_deref()
}
