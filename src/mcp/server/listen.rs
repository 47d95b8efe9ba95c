//! Streams that tell of changes: `subscriptions/listen`, and the GET of a session.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, Interval};
use tokio_util::sync::CancellationToken;

use super::request::Request;
use super::session::{Session, lock};
use super::{Changes, Endpoint, Payload, Refusal, respond, sse};
use crate::mcp::wire::{self, Id, code, meta, raw};

/// Changes closer together than this are told as one: many servers turning ready in a row.
const GAP: Duration = Duration::from_millis(25);

/// What the client wants to hear of.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Filter {
    tools_list_changed: bool,
    prompts_list_changed: bool,
    resources_list_changed: bool,
}

impl Filter {
    const ALL: Self =
        Self { tools_list_changed: true, prompts_list_changed: true, resources_list_changed: true };

    /// As an object of what is honoured.
    fn to_json(self) -> String {
        let wanted = [
            (self.tools_list_changed, "toolsListChanged"),
            (self.prompts_list_changed, "promptsListChanged"),
            (self.resources_list_changed, "resourcesListChanged"),
        ];
        let members: Vec<_> =
            wanted.iter().filter(|(wanted, _)| *wanted).map(|(_, key)| (*key, "true")).collect();
        raw::object_of(&members)
    }
}

/// One open stream.
struct Subscription {
    changes: watch::Receiver<Changes>,
    heard: Changes,
    filter: Filter,
    /// The request of a modern subscription.
    id: Option<Id>,
    session: Option<Arc<Session>>,
    queue: VecDeque<Bytes>,
    keep_alive: Interval,
    told: Option<Instant>,
    shutdown: CancellationToken,
    /// The session is over, or the client opened another stream.
    replaced: CancellationToken,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

/// Answers `subscriptions/listen`.
pub(super) fn subscribe(endpoint: &Endpoint, request: &Request) -> Result<Response<Payload>, Refusal> {
    let invalid = || Refusal::bad(&request.id, code::INVALID_PARAMS, "`params.notifications` is no filter");
    let given = request.params.as_deref().and_then(|params| raw::get(params, "notifications"));
    let filter: Filter = match given {
        Some(raw) if raw.get().starts_with('{') => serde_json::from_str(raw.get()).map_err(|_| invalid())?,
        _ => return Err(invalid()),
    };
    let mut subscription = Subscription::open(endpoint, filter, Some(&request.id))?;
    let params = format!("{{{},\"notifications\":{}}}", tag(&request.id), filter.to_json());
    subscription.say("notifications/subscriptions/acknowledged", Some(&params));
    Ok(subscription.into_response())
}

/// Answers the GET of a session.
pub(super) fn stream(endpoint: &Endpoint, session: &Arc<Session>) -> Result<Response<Payload>, Refusal> {
    let mut subscription = Subscription::open(endpoint, Filter::ALL, None)?;
    subscription.replaced = session.open_stream();
    // What changed while no stream was open is told on this one.
    subscription.heard = *lock(&session.heard);
    // Earlier versions have no events without data.
    let primed = session.version >= wire::LEGACY;
    let first = if primed { sse::priming(&format!("{:016x}", rand::random::<u64>())) } else { sse::COMMENT };
    subscription.queue.push_back(first);
    subscription.session = Some(Arc::clone(session));
    subscription.catch_up();
    Ok(subscription.into_response())
}

/// The member of `_meta` that every message of a subscription has.
fn tag(id: &Id) -> String {
    format!("\"_meta\":{{\"{}\":{}}}", meta::SUBSCRIPTION_ID, id.as_json())
}

impl Subscription {
    fn open(endpoint: &Endpoint, filter: Filter, id: Option<&Id>) -> Result<Self, Refusal> {
        let permit = Arc::clone(&endpoint.streams).try_acquire_owned().map_err(|_| {
            let message = "too many streams are open; try again later";
            Refusal::error(StatusCode::SERVICE_UNAVAILABLE, id, code::INTERNAL_ERROR, message)
        })?;
        let mut changes = endpoint.handler.changes();
        let heard = *changes.borrow_and_update();
        Ok(Self {
            changes,
            heard,
            filter,
            id: id.cloned(),
            session: None,
            queue: VecDeque::new(),
            keep_alive: respond::keep_alive(),
            told: None,
            shutdown: endpoint.shutdown.clone(),
            replaced: CancellationToken::new(),
            ended: false,
            _permit: permit,
        })
    }

    fn into_response(self) -> Response<Payload> {
        let told = futures::stream::unfold(self, |mut subscription| async move {
            let part = subscription.next().await?;
            Some((part, subscription))
        });
        respond::events(Payload::stream(told))
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(part) = self.queue.pop_front() {
                return Some(part);
            }
            if self.ended {
                return None;
            }
            // Cancel-safe: a watch keeps its newest value, tokens stay cancelled, a tick is only late.
            tokio::select! {
                biased;
                () = self.replaced.cancelled() => return None,
                () = self.shutdown.cancelled() => self.end(),
                changed = self.changes.changed() => match changed {
                    Ok(()) => {
                        if let Some(told) = self.told {
                            tokio::time::sleep_until(told + GAP).await;
                        }
                        self.catch_up();
                    }
                    Err(_) => self.end(),
                },
                _ = self.keep_alive.tick() => self.queue.push_back(sse::COMMENT),
            }
        }
    }

    /// Tells what changed since the client last heard.
    fn catch_up(&mut self) {
        let now = *self.changes.borrow_and_update();
        let before = std::mem::replace(&mut self.heard, now);
        if let Some(session) = &self.session {
            *lock(&session.heard) = now;
        }
        let params = self.id.as_ref().map(|id| format!("{{{}}}", tag(id)));
        let lists = [
            (self.filter.tools_list_changed && now.tools != before.tools, "notifications/tools/list_changed"),
            (
                self.filter.prompts_list_changed && now.prompts != before.prompts,
                "notifications/prompts/list_changed",
            ),
            (
                self.filter.resources_list_changed && now.resources != before.resources,
                "notifications/resources/list_changed",
            ),
        ];
        for (_, method) in lists.into_iter().filter(|(changed, _)| *changed) {
            self.told = Some(Instant::now());
            self.say(method, params.as_deref());
        }
    }

    fn say(&mut self, method: &str, params: Option<&str>) {
        self.queue.push_back(sse::event([wire::notification(method, params).as_bytes()]));
    }

    /// A modern subscription ends with the response to its request.
    fn end(&mut self) {
        self.ended = true;
        if let Some(id) = &self.id {
            let result = format!("{{\"resultType\":\"complete\",{}}}", tag(id));
            self.queue.push_back(sse::event([wire::response(id, &result).as_bytes()]));
        }
    }
}
