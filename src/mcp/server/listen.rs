//! Streams that tell of changes: `subscriptions/listen`, and the GET of a session.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt as _};
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::request::Request;
use super::session::{Passed, Session, lock};
use super::sse::Told as _;
use super::{Changes, Endpoint, Held, Payload, Refusal, Scope, TaskStates, respond, sse};
use crate::mcp::client::{Updated, Watch};
use crate::mcp::wire::{self, Id, code, meta, raw};

/// Changes closer together than this are told as one: many servers turning ready in a row.
const GAP: Duration = Duration::from_millis(25);

/// Resources that one client may watch.
pub(super) const MAX_WATCHED: usize = 256;

/// Tasks that one stream may tell of.
const MAX_TASKS: usize = 64;

/// Bytes of a URI that is watched: each is kept for every client that watches it.
pub(super) const MAX_URI: usize = 2048;

pub(super) fn long_uri() -> String {
    format!("a resource whose URI has more than {MAX_URI} bytes cannot be subscribed to")
}

/// What the client wants to hear of.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Filter {
    tools_list_changed: bool,
    prompts_list_changed: bool,
    resources_list_changed: bool,
    resource_subscriptions: Vec<String>,
    task_ids: BTreeSet<String>,
}

impl Filter {
    const ALL: Self = Self {
        tools_list_changed: true,
        prompts_list_changed: true,
        resources_list_changed: true,
        resource_subscriptions: Vec::new(),
        task_ids: BTreeSet::new(),
    };

    /// As an object of what is honoured.
    fn to_json(&self) -> String {
        let wanted = [
            (self.tools_list_changed, "toolsListChanged"),
            (self.prompts_list_changed, "promptsListChanged"),
            (self.resources_list_changed, "resourcesListChanged"),
        ];
        let mut members: Vec<_> =
            wanted.iter().filter(|(wanted, _)| *wanted).map(|(_, key)| (*key, "true")).collect();
        let uris = raw::strings_of(&self.resource_subscriptions);
        let tasks = raw::strings_of(&self.task_ids);
        if !self.resource_subscriptions.is_empty() {
            members.push(("resourceSubscriptions", &uris));
        }
        if !self.task_ids.is_empty() {
            members.push(("taskIds", &tasks));
        }
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
    /// What servers send to the client of the session.
    passed: Option<mpsc::Receiver<Passed>>,
    updates: broadcast::Receiver<Updated>,
    /// Of a modern subscription; those of a session are with it.
    watched: HashMap<String, Watch>,
    /// States of tasks that are told of.
    tasks: Option<BoxStream<'static, Box<RawValue>>>,
    queue: sse::Queue,
    told: Option<Instant>,
    shutdown: CancellationToken,
    /// The session is over, or the client opened another stream.
    replaced: CancellationToken,
    _permit: OwnedSemaphorePermit,
    /// Its place among those of its principal.
    held: Held,
}

/// Answers `subscriptions/listen`.
pub(super) async fn subscribe(
    endpoint: &Endpoint,
    request: Request,
    held: Held,
) -> Result<Response<Payload>, Refusal> {
    let invalid = || Refusal::bad(&request.id, code::INVALID_PARAMS, "`params.notifications` is no filter");
    let given = request.params.as_deref().and_then(|params| raw::get(params, "notifications"));
    let filter: Filter = match given {
        Some(raw) if raw.get().starts_with('{') => serde_json::from_str(raw.get()).map_err(|_| invalid())?,
        _ => return Err(invalid()),
    };
    if filter.resource_subscriptions.len() > MAX_WATCHED {
        let message = format!("more than {MAX_WATCHED} resources are subscribed to");
        return Err(Refusal::bad(&request.id, code::INVALID_PARAMS, message));
    }
    if filter.resource_subscriptions.iter().any(|uri| uri.len() > MAX_URI) {
        return Err(Refusal::bad(&request.id, code::INVALID_PARAMS, long_uri()));
    }
    if filter.task_ids.len() > MAX_TASKS {
        let message = format!("more than {MAX_TASKS} tasks are listened to");
        return Err(Refusal::bad(&request.id, code::INVALID_PARAMS, message));
    }
    let mut subscription = Subscription::open(endpoint, &request.scope, filter, Some(&request.id))?;
    subscription.held = held;
    for uri in std::mem::take(&mut subscription.filter.resource_subscriptions) {
        // What is not honoured is not acknowledged.
        if let Ok(watch) = endpoint.handler.watch(&request, &uri) {
            subscription.watched.insert(uri.clone(), watch);
            subscription.filter.resource_subscriptions.push(uri);
        }
    }
    let asked = std::mem::take(&mut subscription.filter.task_ids);
    if !asked.is_empty() {
        // The request itself is answered with the acknowledgement.
        let about = Request { params: None, held: Held::default(), ..request.clone() };
        match Arc::clone(&endpoint.handler).tasks(about, asked).await {
            Ok(TaskStates { ids, states }) => {
                subscription.tasks = (!ids.is_empty()).then_some(states);
                subscription.filter.task_ids = ids;
            }
            Err(error) => return Ok(respond::failed(&request, &error)),
        }
    }
    let honoured = subscription.filter.to_json();
    let params = format!("{{{},\"notifications\":{honoured}}}", tag(&request.id));
    subscription.say("notifications/subscriptions/acknowledged", Some(&params));
    Ok(subscription.into_response())
}

/// Answers the GET of a session.
pub(super) fn stream(
    endpoint: &Endpoint,
    session: &Arc<Session>,
    held: Held,
) -> Result<Response<Payload>, Refusal> {
    let mut subscription = Subscription::open(endpoint, &session.scope, Filter::ALL, None)?;
    subscription.held = held;
    let (replaced, passed) = session.open_stream();
    (subscription.replaced, subscription.passed) = (replaced, Some(passed));
    // What changed while no stream was open is told on this one.
    subscription.heard = *lock(&session.heard);
    // Earlier versions have no events without data.
    let primed = session.version >= wire::LEGACY;
    let first = if primed { sse::priming(&format!("{:016x}", rand::random::<u64>())) } else { sse::COMMENT };
    subscription.queue.push(first);
    subscription.session = Some(Arc::clone(session));
    subscription.catch_up();
    let missed = lock(&session.missed).take();
    if let Some(missed) = missed {
        subscription.updates = missed;
        subscription.tell_missed();
    }
    Ok(subscription.into_response())
}

/// The member of `_meta` that every message of a subscription has.
fn tag(id: &Id) -> String {
    format!("\"_meta\":{{\"{}\":{}}}", meta::SUBSCRIPTION_ID, id.as_json())
}

impl Subscription {
    fn open(endpoint: &Endpoint, scope: &Scope, filter: Filter, id: Option<&Id>) -> Result<Self, Refusal> {
        let permit = Arc::clone(&endpoint.streams).try_acquire_owned().map_err(|_| {
            let message = "too many streams are open; try again later";
            Refusal::error(StatusCode::SERVICE_UNAVAILABLE, id, code::INTERNAL_ERROR, message)
        })?;
        let mut changes = endpoint.handler.changes(scope);
        let heard = *changes.borrow_and_update();
        Ok(Self {
            changes,
            heard,
            filter,
            id: id.cloned(),
            session: None,
            passed: None,
            updates: endpoint.handler.updates(),
            watched: HashMap::new(),
            tasks: None,
            queue: sse::Queue::new(),
            told: None,
            shutdown: endpoint.shutdown.clone(),
            replaced: CancellationToken::new(),
            _permit: permit,
            held: Held::default(),
        })
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
        self.queue.push(sse::event([wire::notification(method, params).as_bytes()]));
    }

    /// Tells of a resource, if it is watched here.
    fn updated(&mut self, updated: &Updated) {
        // Clients may know it by another URI than its server does.
        let names = |watched: &HashMap<String, Watch>| -> Vec<String> {
            let ours = watched.iter().filter(|(_, watch)| watch.resource == *updated);
            ours.map(|(uri, _)| uri.clone()).collect()
        };
        let known =
            self.session.as_ref().map_or_else(|| names(&self.watched), |it| names(&lock(&it.watched)));
        for uri in known {
            self.tell_updated(&uri);
        }
    }

    /// Tells which resources changed while no stream was open, each once.
    fn tell_missed(&mut self) {
        let mut missed: Vec<Updated> = Vec::new();
        loop {
            match self.updates.try_recv() {
                Ok(updated) if missed.contains(&updated) => {}
                Ok(updated) => missed.push(updated),
                Err(broadcast::error::TryRecvError::Lagged(_)) => {
                    self.updates = self.updates.resubscribe();
                    return self.all_updated();
                }
                Err(_) => break,
            }
        }
        for updated in missed {
            self.updated(&updated);
        }
    }

    /// Some changes were missed: all that is watched may have changed.
    fn all_updated(&mut self) {
        let all: Vec<String> = match &self.session {
            Some(session) => lock(&session.watched).keys().cloned().collect(),
            None => self.watched.keys().cloned().collect(),
        };
        for uri in all {
            self.tell_updated(&uri);
        }
    }

    fn tell_updated(&mut self, uri: &str) {
        let tag = self.id.as_ref().map_or_else(String::new, |id| format!("{},", tag(id)));
        let params = format!("{{{tag}\"uri\":{}}}", wire::quote(uri));
        self.say("notifications/resources/updated", Some(&params));
    }

    /// Tells of a task. None: one of those that were acknowledged cannot be told of any more, so that the
    /// client has to ask anew.
    fn tell_task(&mut self, state: Option<&RawValue>) {
        let (Some(state), Some(id)) = (state, &self.id) else { return self.end() };
        // Its parameters were objects when they were read.
        if let Ok(params) = raw::edit_meta(Some(state), &[(meta::SUBSCRIPTION_ID, id.as_json())], &[]) {
            self.say("notifications/tasks", Some(&params));
        }
    }

    /// A modern subscription ends with the response to its request.
    fn end(&mut self) {
        self.queue.end();
        if let Some(id) = &self.id {
            let result = format!("{{\"resultType\":\"complete\",{}}}", tag(id));
            self.queue.push(sse::event([wire::response(id, &result).as_bytes()]));
        }
    }
}

impl Drop for Subscription {
    /// What changes from now on waits for the next stream of the session.
    fn drop(&mut self) {
        let Some(session) = self.session.as_ref().filter(|_| !self.replaced.is_cancelled()) else { return };
        let updates = std::mem::replace(&mut self.updates, broadcast::channel(1).1);
        *lock(&session.missed) = Some(updates);
        self.replaced.cancel();
    }
}

impl sse::Told for Subscription {
    fn queue(&mut self) -> &mut sse::Queue {
        &mut self.queue
    }

    async fn more(&mut self) -> bool {
        // Cancel-safe: a watch keeps its newest value, tokens stay cancelled.
        tokio::select! {
            biased;
            () = self.replaced.cancelled() => return false,
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
            updated = self.updates.recv() => match updated {
                Ok(updated) => self.updated(&updated),
                Err(broadcast::error::RecvError::Lagged(_)) => self.all_updated(),
                Err(broadcast::error::RecvError::Closed) => self.end(),
            },
            state = task(&mut self.tasks) => self.tell_task(state.as_deref()),
            Some(passed) = passed(&mut self.passed) => {
                let message = match passed {
                    // One that cannot be sent refuses itself.
                    Passed::Request(request) => self.session.as_ref().and_then(|it| it.asking(request)),
                    Passed::Notification(message) => Some(message),
                };
                if let Some(message) = message {
                    self.queue.push(sse::event([message.as_bytes()]));
                }
            }
            () = self.queue.quiet() => {}
        }
        true
    }
}

async fn passed(passed: &mut Option<mpsc::Receiver<Passed>>) -> Option<Passed> {
    match passed {
        Some(passed) => passed.recv().await,
        None => None,
    }
}

/// The next state of a task, where any are told of.
async fn task(tasks: &mut Option<BoxStream<'static, Box<RawValue>>>) -> Option<Box<RawValue>> {
    match tasks {
        Some(tasks) => tasks.next().await,
        None => std::future::pending().await,
    }
}
