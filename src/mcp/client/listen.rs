//! Hearing of changes: the stream of a legacy HTTP session, the subscription of a modern server.
//! A legacy server over stdio or HTTP+SSE tells on the connection itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::Instant;

use super::compose::{Wishes, compose};
use super::http::Http;
use super::http::headers::Mirrored;
use super::inbox::{Events, Inbox};
use super::link::Link;
use super::{Failure, Outgoing, Params, Upstream, era};
use crate::mcp::wire::{Era, raw};
use crate::ports::Handshake;

/// Between the end of a stream and the next attempt: from the first to the last. Servers that restart
/// are back soon; those that are gone are noticed by their runner.
const RETRY: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(30)];

/// How long a server may take to answer whether it has a stream for a session; it does so at once.
const LISTENING: Duration = Duration::from_secs(1);

const LISTEN: &str = "subscriptions/listen";

impl Upstream {
    /// Starts to listen, where that takes a stream of its own. It ends with the connection.
    pub(super) fn listen(&self) {
        let inbox = Arc::clone(&self.inbox);
        match (&self.link, self.era) {
            (Link::Stdio(_) | Link::Sse(_), Era::Legacy) => {}
            (Link::Http(http), Era::Legacy) => {
                let http = Arc::clone(http);
                self.spawn(inbox, |inbox| async move { follow_session(&http, &inbox).await });
            }
            (link, Era::Modern) => {
                let lists = lists(&self.handshake);
                if lists.is_empty() && !self.tells_of_resources() {
                    return;
                }
                let (link, resources) = (link.clone(), self.listened.subscribe());
                self.spawn(inbox, |inbox| async move { subscribe(&link, &inbox, &lists, resources).await });
            }
        }
    }

    /// Waits until a legacy server over HTTP has a stream to ask on: what it asks before, it may drop.
    pub(super) async fn listening(&self) {
        if let (Link::Http(http), Era::Legacy) = (&self.link, self.era) {
            let mut opened = http.opened.subscribe();
            // One that says nothing of it is called anyway.
            let _ = tokio::time::timeout(LISTENING, opened.wait_for(|opened| *opened)).await;
        }
    }

    /// Works at something until the connection is closed.
    pub(super) fn spawn<F: Future<Output = ()> + Send + 'static>(
        &self,
        inbox: Arc<Inbox>,
        work: impl FnOnce(Arc<Inbox>) -> F,
    ) {
        let closed = inbox.closed().clone();
        let work = work(inbox);
        self.tasks.spawn(async move { closed.run_until_cancelled(work).await });
    }
}

/// The lists whose changes the server says it tells.
fn lists(handshake: &Handshake) -> Vec<&'static str> {
    let tells = |list: &&str| {
        let told = era::capability(handshake, list).and_then(|list| raw::get(list, "listChanged"));
        told.is_some_and(|told| told.get() == "true")
    };
    ["tools", "prompts", "resources"].into_iter().filter(tells).collect()
}

/// What to subscribe to; none when it is nothing.
fn filter(lists: &[&str], resources: &BTreeSet<Arc<str>>) -> Option<Box<RawValue>> {
    let mut members: Vec<_> = lists.iter().map(|list| format!("\"{list}ListChanged\":true")).collect();
    if !resources.is_empty() {
        members.push(format!("\"resourceSubscriptions\":{}", raw::strings_of(resources)));
    }
    let filter = format!("{{\"notifications\":{{{}}}}}", members.join(","));
    (!members.is_empty()).then(|| raw::into_raw(filter).ok())?
}

async fn subscribe(
    link: &Link,
    inbox: &Inbox,
    lists: &[&str],
    mut resources: watch::Receiver<BTreeSet<Arc<str>>>,
) {
    let mut pause = Pause::new();
    loop {
        let wanted = filter(lists, &resources.borrow_and_update());
        let Some(filter) = wanted else {
            if resources.changed().await.is_err() {
                return;
            }
            continue;
        };
        tokio::select! {
            // Cancel-safe: dropping it ends the subscription.
            again = subscription(link, inbox, &filter, &Wishes::NONE, None) => {
                if !again {
                    // The period and each reconnect are left.
                    return;
                }
                pause.wait().await;
            }
            // Cancel-safe: a watch keeps its newest value. Other resources are another subscription.
            changed = resources.changed() => if changed.is_err() { return },
        }
        // Changes in between were not heard.
        inbox.tell_changed();
    }
}

/// One subscription, until it ends in good order or the connection breaks. False: the server does not do
/// such subscriptions after all.
pub(super) async fn subscription(
    link: &Link,
    inbox: &Inbox,
    filter: &RawValue,
    wishes: &Wishes<'_>,
    events: Option<&Events>,
) -> bool {
    let (id, params) = (inbox.next_id(), Some(Params::of(filter)));
    let Ok(body) = compose(Era::Modern, id, LISTEN, params, wishes) else { return false };
    let mirrored = Mirrored::of(LISTEN, params);
    let request = Outgoing { id, body, mirrored, events, standing: true, cancellable: true };
    let outcome = link.exchange(request).await;
    matches!(outcome, Ok(_) | Err(Failure::Gone(_) | Failure::Unreached(_)))
}

async fn follow_session(http: &Arc<Http>, inbox: &Inbox) {
    let mut pause = Pause::new();
    loop {
        let Some(spoken) = http.spoken() else { return };
        let outcome = http.follow(&spoken).await;
        if matches!(outcome, Ok(false)) {
            return;
        }
        pause.wait().await;
        if let Err(failure) = outcome {
            if let Failure::SessionLost(lost) = failure {
                let _ = Link::Http(Arc::clone(http)).renew(&lost, inbox).await;
            }
            // Changes in between were not heard.
            inbox.tell_changed();
        }
    }
}

/// The time between attempts: it doubles until a stream has lasted longer than the longest of them.
pub(super) struct Pause {
    next: Duration,
    since: Instant,
}

impl Pause {
    pub(super) fn new() -> Self {
        Self { next: RETRY[0], since: Instant::now() }
    }

    pub(super) async fn wait(&mut self) {
        if self.since.elapsed() > RETRY[1] {
            self.next = RETRY[0];
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(RETRY[1]);
        self.since = Instant::now();
    }
}
