//! What comes in on a connection, and who waits for it.
//!
//! Input: one message of the server. Output: an answer handed to the call that waits, an event to the
//! call it belongs to, a notice to whoever listens, or a reply the transport must send. Invariant:
//! an id is given once, and an answer reaches only the call whose id it has.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::Failure;
use super::task::{self, Said};
use crate::mcp::wire::{self, ErrorObject, Id, Message, WireError, code, meta, raw};
use crate::ports::{CallContext, CallEvent, ClientAnswer, ClientLine, ClientRequest, Teller};

/// Notices kept for a slow listener; one that falls behind further lists again anyway.
const NOTICES: usize = 64;

/// Requests to a client that may wait for their answers on one connection.
const REQUESTS: usize = 64;

/// How long a client may take to answer: its user reads, and types. As long as the gateway waits.
const ANSWER: Duration = Duration::from_mins(10);

/// Where what a server says about one call goes.
#[derive(Clone, Default)]
pub(super) struct Events {
    /// Progress and log messages.
    heard: Option<Teller>,
    /// Requests to the client.
    asked: Option<mpsc::Sender<ClientRequest>>,
    /// What is told of tasks, on a subscription to them.
    said: Option<Arc<Said>>,
}

impl Events {
    /// None when nobody listens.
    pub(super) fn of(context: &CallContext) -> Option<Self> {
        let CallContext { events, requests, cancel: _, progress: _, capabilities: _, logs: _ } = context;
        let there = events.is_some() || requests.is_some();
        there.then(|| Self { heard: events.clone(), asked: requests.clone(), said: None })
    }

    /// Of a subscription to tasks.
    pub(super) fn of_tasks(said: &Arc<Said>) -> Self {
        Self { said: Some(Arc::clone(said)), ..Self::default() }
    }

    fn tell(&self, event: CallEvent) {
        if let Some(heard) = &self.heard {
            heard.tell(event);
        }
    }
}

/// A notification of the server that belongs to no call.
#[derive(Clone, Debug)]
pub struct Notice {
    pub method: Arc<str>,
    /// Raw JSON.
    pub params: Option<Arc<str>>,
}

impl Notice {
    /// Whether a list of tools, prompts or resources changed.
    pub fn is_list_changed(&self) -> bool {
        is_list_changed(&self.method)
    }
}

fn is_list_changed(method: &str) -> bool {
    matches!(
        method,
        "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/list_changed"
    )
}

/// A call that waits on a connection all calls share.
struct Waiting {
    /// None on HTTP, where an answer comes on the stream of its call.
    answer: Option<oneshot::Sender<Result<Box<RawValue>, Failure>>>,
    events: Option<Events>,
    /// A subscription.
    standing: bool,
}

/// What the transport must do with a message.
pub(super) enum Incoming {
    /// The answer to the request of that id.
    Answer(u64, Result<Box<RawValue>, ErrorObject>),
    /// Send this back.
    Reply(String),
    /// The client is asked: send its answer back when it comes.
    Asked(Asked),
    /// It was dealt with.
    Nothing,
}

/// A request of the server that waits for the client's answer.
pub(super) struct Asked {
    id: Id,
    answer: oneshot::Receiver<ClientAnswer>,
    _place: OwnedSemaphorePermit,
}

impl Asked {
    /// The response, as soon as there is an answer. Nobody to answer is one, too.
    pub(super) async fn response(self) -> String {
        match tokio::time::timeout(ANSWER, self.answer).await {
            Ok(Ok(Ok(result))) => wire::response(&self.id, &result),
            Ok(Ok(Err(error))) => {
                let error = serde_json::from_str(&error);
                let error = error.unwrap_or_else(|_| ErrorObject::new(code::INTERNAL_ERROR, "no answer"));
                wire::failure(Some(&self.id), &error)
            }
            Ok(Err(_)) | Err(_) => {
                let error = ErrorObject::new(code::INTERNAL_ERROR, "the client gave no answer");
                wire::failure(Some(&self.id), &error)
            }
        }
    }
}

/// The one client that a connection belongs to.
pub struct Owner {
    /// What the client can be asked: the raw JSON of the capabilities that are offered to the server.
    pub capabilities: Arc<str>,
    /// Who passes requests to it that belong to no call; none when nobody can.
    pub line: Option<Weak<dyn ClientLine>>,
}

impl Owner {
    fn offers(&self, capability: &str) -> bool {
        let all = serde_json::from_str::<&RawValue>(&self.capabilities);
        all.is_ok_and(|all| raw::get(all, capability).is_some())
    }
}

pub(super) struct Inbox {
    /// The client, where the server may ask.
    owner: Option<Owner>,
    asking: Arc<Semaphore>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting>>,
    notices: broadcast::Sender<Notice>,
    /// Told when a list changed, or when the connection closed by itself.
    changed: Box<dyn Fn() + Send + Sync>,
    closed: CancellationToken,
    reason: OnceLock<String>,
    garbage: AtomicUsize,
    /// Sessions opened in the place of lost ones.
    renewed: watch::Sender<u64>,
}

impl Inbox {
    /// Ids count from `first`: on a connection taken over from an earlier daemon its late answers
    /// must meet no id of ours.
    pub(super) fn new(first: u64, owner: Option<Owner>, changed: Box<dyn Fn() + Send + Sync>) -> Self {
        Self {
            owner,
            asking: Arc::new(Semaphore::new(REQUESTS)),
            next: AtomicU64::new(first),
            waiting: Mutex::default(),
            notices: broadcast::channel(NOTICES).0,
            changed,
            closed: CancellationToken::new(),
            reason: OnceLock::new(),
            garbage: AtomicUsize::new(0),
            renewed: watch::Sender::default(),
        }
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether it is one client's own.
    pub(super) fn is_for_client(&self) -> bool {
        self.owner.is_some()
    }

    /// The capabilities of a legacy handshake.
    pub(super) fn offered(&self) -> &str {
        self.owner.as_ref().map_or("{}", |owner| &owner.capabilities)
    }

    pub(super) fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Why the connection is closed.
    pub(super) fn reason(&self) -> String {
        self.reason.get().cloned().unwrap_or_else(|| "the connection was closed".to_owned())
    }

    /// Notes that a lost session was replaced: what its server was told, the new one has not heard.
    pub(super) fn tell_renewed(&self) {
        self.renewed.send_modify(|count| *count += 1);
    }

    /// Sessions opened in the place of lost ones, counted.
    pub(super) fn renewed(&self) -> watch::Receiver<u64> {
        self.renewed.subscribe()
    }

    /// Counts a line that was no message.
    pub(super) fn count_garbage(&self) {
        self.garbage.fetch_add(1, Ordering::Relaxed);
    }

    /// Lines so far that were no messages.
    pub(super) fn garbage(&self) -> usize {
        self.garbage.load(Ordering::Relaxed)
    }

    /// Closes because we want to.
    pub(super) fn close(&self, reason: &str) {
        let _ = self.reason.set(reason.to_owned());
        self.closed.cancel();
        self.waiting().clear();
    }

    /// Closes because the server is gone or not usable, and tells whoever looks after it.
    pub(super) fn fail(&self, reason: &str) {
        if !self.closed.is_cancelled() {
            self.close(reason);
            (self.changed)();
        }
    }

    /// Ends all waits, as gone, on a connection that will be there again.
    pub(super) fn interrupt(&self, reason: &str) {
        for (_, waiting) in self.waiting().drain() {
            if let Some(answer) = waiting.answer {
                let _ = answer.send(Err(Failure::Gone(reason.to_owned())));
            }
        }
    }

    /// Tells whoever looks after the server that it should be looked at.
    pub(super) fn tell_changed(&self) {
        (self.changed)();
    }

    /// Begins to wait for an answer on a connection all calls share. After the close it comes as gone.
    pub(super) fn wait(
        &self,
        id: u64,
        events: Option<&Events>,
        standing: bool,
    ) -> oneshot::Receiver<Result<Box<RawValue>, Failure>> {
        let (answer, receiver) = oneshot::channel();
        let mut waiting = self.waiting();
        if !self.closed.is_cancelled() {
            waiting.insert(id, Waiting { answer: Some(answer), events: events.cloned(), standing });
        }
        receiver
    }

    /// Lets messages that name the call but come elsewhere than on its own stream reach it.
    pub(super) fn listen(&self, id: u64, events: &Events) {
        self.waiting().insert(id, Waiting { answer: None, events: Some(events.clone()), standing: false });
    }

    /// Stops waiting; false when there was nothing to wait for any more.
    pub(super) fn forget(&self, id: u64) -> bool {
        self.waiting().remove(&id).is_some()
    }

    /// Hands an answer to the call that waits for it. One that nobody waits for any more is dropped:
    /// its call was cancelled or ran out of time.
    pub(super) fn deliver(&self, id: u64, outcome: Result<Box<RawValue>, Failure>) {
        if let Some(Waiting { answer: Some(answer), .. }) = self.waiting().remove(&id) {
            let _ = answer.send(outcome);
        }
    }

    /// Takes one message in. `own`: the call on whose own stream it came.
    pub(super) fn receive(
        &self,
        bytes: &[u8],
        own: Option<(u64, Option<&Events>)>,
    ) -> Result<Incoming, WireError> {
        Ok(match wire::parse(bytes, wire::MAX_MESSAGE)? {
            Message::Response { id: Some(id), outcome } => match id.as_u64() {
                Some(id) => Incoming::Answer(id, outcome.map(ToOwned::to_owned)),
                None => Incoming::Nothing,
            },
            // A server that could not read an id can only mean the one request of its stream.
            Message::Response { id: None, outcome } => match own {
                Some((id, _)) => Incoming::Answer(id, outcome.map(ToOwned::to_owned)),
                None => Incoming::Nothing,
            },
            Message::Request { id, method, params } => self.requested(id, &method, params, own),
            Message::Notification { method, params } => {
                self.notified(&method, params, own);
                Incoming::Nothing
            }
        })
    }

    fn requested(
        &self,
        id: Id,
        method: &str,
        params: Option<&RawValue>,
        own: Option<(u64, Option<&Events>)>,
    ) -> Incoming {
        let refused = |code: i64, message: String| {
            Incoming::Reply(wire::failure(Some(&id), &ErrorObject::new(code, message)))
        };
        let unknown = || refused(code::METHOD_NOT_FOUND, format!("this client does not offer `{method}`"));
        let capability = match method {
            "ping" => return Incoming::Reply(wire::response(&id, "{}")),
            "sampling/createMessage" => "sampling",
            "elicitation/create" => "elicitation",
            "roots/list" => "roots",
            _ => return unknown(),
        };
        // Who shares a connection offers no capabilities, so there is nothing else it may ask.
        let Some(owner) = &self.owner else { return unknown() };
        let Ok(place) = Arc::clone(&self.asking).try_acquire_owned() else {
            let message = format!("more than {REQUESTS} requests wait for an answer");
            return refused(code::INTERNAL_ERROR, message);
        };
        let (answer, receiver) = oneshot::channel();
        let text = serde_json::from_str::<String>(id.as_json());
        let request = ClientRequest {
            id: text.map_or_else(|_| id.as_json().into(), Into::into),
            method: method.into(),
            params: params.map(|params| params.get().into()),
            answer,
        };
        let passed = match self.asked_of(own) {
            Some(asked) => asked.try_send(request).is_ok(),
            None if !owner.offers(capability) => return unknown(),
            None => {
                let line = owner.line.as_ref().and_then(Weak::upgrade);
                line.is_some_and(|line| line.ask(request))
            }
        };
        if passed {
            return Incoming::Asked(Asked { id, answer: receiver, _place: place });
        }
        let message =
            "the client cannot be asked now: none of its calls is under way, and it has no stream open";
        refused(code::INTERNAL_ERROR, message.to_owned())
    }

    fn notified(&self, method: &str, params: Option<&RawValue>, own: Option<(u64, Option<&Events>)>) {
        match method {
            "notifications/progress" => {
                if let Some((token, event)) = params.and_then(progress)
                    && let Some(events) = self.events_of(token, own)
                {
                    events.tell(event);
                }
                return;
            }
            "notifications/message" => {
                if let (Some(events), Some(params)) = (self.events_of_unnamed(own), params) {
                    events.tell(CallEvent::Log(params.get().into()));
                    return;
                }
            }
            task::TOLD | task::ACKNOWLEDGED => {
                if let Some(params) = params
                    && let Some(said) = self.said_on(params, own)
                {
                    said.note(method, params);
                }
                return;
            }
            wire::ELICITED => return self.elicited(params, own),
            method if is_list_changed(method) => (self.changed)(),
            _ => {}
        }
        if self.notices.receiver_count() > 0 {
            let params = params.map(|params| params.get().into());
            let _ = self.notices.send(Notice { method: method.into(), params });
        }
    }

    /// What the one client was asked to do elsewhere is done: told on its call under way, or on its line.
    /// Who shares a connection is asked nothing.
    fn elicited(&self, params: Option<&RawValue>, own: Option<(u64, Option<&Events>)>) {
        let (Some(owner), Some(params)) = (&self.owner, params) else { return };
        match self.events_of_unnamed(own).and_then(|events| events.heard) {
            Some(call) => call.tell(CallEvent::Elicited(params.get().into())),
            None => {
                if let Some(line) = owner.line.as_ref().and_then(Weak::upgrade) {
                    line.tell(wire::ELICITED, params.get());
                }
            }
        }
    }

    fn events_of(&self, token: u64, own: Option<(u64, Option<&Events>)>) -> Option<Events> {
        match own {
            Some((id, events)) if id == token => events.cloned(),
            _ => self.waiting().get(&token).and_then(|waiting| waiting.events.clone()),
        }
    }

    /// Whoever hears of tasks on the subscription that a message belongs to: the one on whose own stream it
    /// came, else the one it names.
    fn said_on(&self, params: &RawValue, own: Option<(u64, Option<&Events>)>) -> Option<Arc<Said>> {
        if let Some((_, events)) = own {
            return events?.said.clone();
        }
        let id = raw::get_meta(params, meta::SUBSCRIPTION_ID).and_then(Id::from_raw)?.as_u64()?;
        self.waiting().get(&id)?.events.as_ref()?.said.clone()
    }

    /// Log messages and their like name no call. On a stream that all share they belong to the only call
    /// there is, or to none: a guess could show one client what was meant for another.
    fn events_of_unnamed(&self, own: Option<(u64, Option<&Events>)>) -> Option<Events> {
        if let Some((_, events)) = own {
            return events.cloned();
        }
        let waiting = self.waiting();
        let calls = || waiting.values().filter(|waiting| !waiting.standing);
        match (calls().next(), calls().nth(1)) {
            (Some(only), None) => only.events.clone(),
            // All of them are calls of one client.
            (Some(_), Some(_)) if self.owner.is_some() => calls().find_map(|waiting| waiting.events.clone()),
            _ => None,
        }
    }

    /// Who is asked: requests name no call either, and only one client's calls run on a connection
    /// over which it may be asked.
    fn asked_of(&self, own: Option<(u64, Option<&Events>)>) -> Option<mpsc::Sender<ClientRequest>> {
        if let Some(asked) = own.and_then(|(_, events)| events?.asked.clone()) {
            return Some(asked);
        }
        self.waiting().values().find_map(|waiting| waiting.events.as_ref()?.asked.clone())
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn progress(params: &RawValue) -> Option<(u64, CallEvent)> {
    #[derive(Deserialize)]
    struct Params {
        #[serde(rename = "progressToken")]
        token: u64,
        progress: f64,
        total: Option<f64>,
        message: Option<String>,
    }
    let Params { token, progress, total, message } = serde_json::from_str(params.get()).ok()?;
    Some((token, CallEvent::Progress { progress, total, message }))
}
