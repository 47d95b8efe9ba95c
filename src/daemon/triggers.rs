//! Tasks that tell the loop when to look; they say when, never what.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::config::JITTER_PERCENT;
use crate::http::grants::Grants;
use crate::ports::Source;
use crate::probe::Probe;
use crate::reconcile::{Ask, Cause, Event};

/// Hears of commits.
pub(super) async fn commits(source: Arc<dyn Source>, events: mpsc::Sender<Event>, ended: CancellationToken) {
    loop {
        tokio::select! {
            // Cancel-safe: both.
            () = ended.cancelled() => return,
            () = source.changed() => {}
        }
        if events.send(Event::Fetch(Cause::Commit)).await.is_err() {
            return;
        }
    }
}

/// Hears of users who authorized a server that is listed as them, which is then tried at once.
pub(super) async fn authorized(grants: Arc<Grants>, events: mpsc::Sender<Event>, ended: CancellationToken) {
    loop {
        tokio::select! {
            // Cancel-safe: both.
            () = ended.cancelled() => return,
            () = grants.listed() => {}
        }
        // Nobody waits for the answer.
        let (answer, _) = oneshot::channel();
        let ask = Ask::Reconcile { rebuild: None, wait: false, answer };
        if events.send(Event::Ask(ask)).await.is_err() {
            return;
        }
    }
}

/// Looks every `interval`, give or take the jitter, so that daemons of one forge spread out.
pub(super) async fn timer(interval: Duration, events: mpsc::Sender<Event>, ended: CancellationToken) {
    loop {
        tokio::select! {
            // Cancel-safe: both.
            () = ended.cancelled() => return,
            () = tokio::time::sleep(jittered(interval)) => {}
        }
        if events.send(Event::Fetch(Cause::Timer)).await.is_err() {
            return;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "randomness only spreads timers")]
fn jittered(interval: Duration) -> Duration {
    let spread = rand::rng().random_range(0..=2 * JITTER_PERCENT);
    interval * (100 - JITTER_PERCENT + spread) / 100
}

/// Hears of servers whose list changed or whose connection closed.
pub(super) async fn upstreams(probes: Arc<Probe>, events: mpsc::Sender<Event>, ended: CancellationToken) {
    loop {
        let key = tokio::select! {
            // Cancel-safe: both.
            () = ended.cancelled() => return,
            key = probes.changed() => key,
        };
        if events.send(Event::Upstream(key)).await.is_err() {
            return;
        }
    }
}
