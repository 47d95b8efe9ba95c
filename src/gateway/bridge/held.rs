//! Calls of clients without sessions that legacy servers work on: when the server asks something, the
//! call is held open until the client comes back with the answer.
//!
//! Invariants: a call is held for whom it belongs to, a bounded time; when it is given up the server is
//! told; answers reach the request they are for, by the id the server gave it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::super::audit::Outcome;
use super::super::session::Lease;
use super::core_task;
use super::seal::LIFE;
use crate::mcp::client::{CallError, Params};
use crate::mcp::wire::{ErrorObject, code, raw};
use crate::ports::{CallContext, ClientRequest, Told, heard, telling};

/// Calls held open, by all and for one user: each holds a connection.
const MAX_HELD: usize = 512;
const MAX_HELD_OF_ONE: usize = 32;
/// Requests that a server makes at the same time are asked together; this long is waited for more.
const GATHER: Duration = Duration::from_millis(15);
/// Requests of a call that wait to be looked at.
const REQUESTS: usize = 64;

/// A call under way.
pub(super) struct Talk {
    call: BoxFuture<'static, Result<Box<RawValue>, CallError>>,
    events: Option<Told>,
    requests: mpsc::Receiver<ClientRequest>,
    /// What was asked and is not answered.
    pending: Vec<ClientRequest>,
    /// What the client can be asked, and what of it the server wanted and there is not.
    offered: Arc<str>,
    missing: Option<&'static str>,
    _cancel: DropGuard,
}

/// How far a call came.
pub(super) enum Came {
    Ended(Result<Box<RawValue>, CallError>),
    /// The client has to answer first: the members of `inputRequests`.
    Asks(Box<Talk>, Vec<(String, String)>),
}

impl Talk {
    pub(super) fn begin(
        lease: Lease,
        (method, params, as_task): (&'static str, Box<RawValue>, bool),
        begun_for: &CallContext,
        offered: Arc<str>,
    ) -> Self {
        let cancel = CancellationToken::new();
        let (teller, told) = begun_for.events.is_some().then(telling).unzip();
        let (asks, requests) = mpsc::channel(REQUESTS);
        let context = CallContext {
            cancel: cancel.clone(),
            events: teller,
            progress: begun_for.progress,
            requests: Some(asks),
            capabilities: None,
            logs: begun_for.logs,
        };
        let call = async move {
            // Time without the client is counted where the call is carried on.
            let outcome =
                core_task::call(&lease, method, Params::of(&params), LIFE * 8, &context, as_task).await;
            if matches!(outcome, Ok(_) | Err(CallError::Server(_))) {
                lease.done();
            }
            outcome
        };
        Self {
            call: Box::pin(call),
            events: told,
            requests,
            pending: Vec::new(),
            offered,
            missing: None,
            _cancel: cancel.drop_guard(),
        }
    }

    /// Goes on until there is a result, or something that `answers` (the client's `inputResponses`)
    /// does not say; for at most `limit`.
    pub(super) async fn go_on(
        mut self,
        answers: Option<&RawValue>,
        limit: Duration,
        context: &CallContext,
    ) -> Came {
        for request in std::mem::take(&mut self.pending) {
            self.pending.extend(answered(request, answers));
        }
        let until = Instant::now() + limit;
        let mut gathered = None;
        loop {
            if !self.pending.is_empty() {
                gathered.get_or_insert_with(|| Instant::now() + GATHER);
            }
            // Cancel-safe: receiving loses nothing, and the call is polled by reference.
            tokio::select! {
                biased;
                event = heard(&mut self.events) => {
                    if let Some(events) = &context.events {
                        events.tell(event);
                    }
                }
                Some(request) = self.requests.recv() => {
                    let offered = self.offer(request);
                    self.pending.extend(offered.and_then(|request| answered(request, answers)));
                }
                outcome = &mut self.call => return Came::Ended(self.judged(outcome)),
                () = context.cancel.cancelled() => return Came::Ended(Err(CallError::Cancelled)),
                () = tokio::time::sleep_until(gathered.unwrap_or(until)) => {
                    if gathered.is_none() {
                        return Came::Ended(Err(CallError::Timeout(limit)));
                    }
                    let asked = self.pending.iter().map(asked).collect();
                    return Came::Asks(Box::new(self), asked);
                }
            }
        }
    }
}

impl Talk {
    /// Refuses what the client never offered; the server may well do without.
    fn offer(&mut self, request: ClientRequest) -> Option<ClientRequest> {
        let capability = super::capability(&request.method);
        let offers = serde_json::from_str::<&RawValue>(&self.offered)
            .is_ok_and(|offered| raw::get(offered, capability).is_some());
        if offers {
            return Some(request);
        }
        self.missing = Some(capability);
        let message = format!("this client does not offer `{}`", request.method);
        // Nobody waits any more: the server gave it up.
        drop(request.answer.send(Err(ErrorObject::new(code::METHOD_NOT_FOUND, message).to_json())));
        None
    }

    /// A call that failed for want of a capability says so in the words of the client's era.
    fn judged(&self, outcome: Result<Box<RawValue>, CallError>) -> Result<Box<RawValue>, CallError> {
        let failed = match &outcome {
            Ok(result) => super::super::call::ended(result.get()) != Outcome::Success,
            Err(error) => matches!(error, CallError::Server(_)),
        };
        match self.missing.filter(|_| failed) {
            Some(capability) => Err(super::missing(capability)),
            None => outcome,
        }
    }
}

/// Answers a request with what the client said; gives it back when that is not there, or no object.
fn answered(request: ClientRequest, answers: Option<&RawValue>) -> Option<ClientRequest> {
    let answer = answers.and_then(|answers| raw::get(answers, &request.id));
    match answer.filter(|answer| answer.get().starts_with('{')) {
        Some(answer) => {
            // Nobody waits any more: the server gave it up.
            drop(request.answer.send(Ok(answer.get().to_owned())));
            None
        }
        None => Some(request),
    }
}

/// Its key and its request, as `inputRequests` has them.
fn asked(request: &ClientRequest) -> (String, String) {
    let method = crate::mcp::wire::quote(&request.method);
    let params = request.params.as_deref().map_or_else(String::new, |params| format!(",\"params\":{params}"));
    (request.id.to_string(), format!("{{\"method\":{method}{params}}}"))
}

/// The calls that wait for their clients.
#[derive(Clone)]
pub(super) struct Held {
    life: Duration,
    waiting: Arc<Mutex<HashMap<u128, (String, Talk)>>>,
    tasks: TaskTracker,
}

impl Held {
    /// Calls are kept for so long.
    pub(super) fn new(life: Duration) -> Self {
        Self { life, waiting: Arc::default(), tasks: TaskTracker::new() }
    }

    /// Keeps a call for its client, for as long as its state is good. None: too many are kept; the call
    /// is given up.
    pub(super) fn keep(&self, user: &str, talk: Talk) -> Option<u128> {
        let id = rand::random();
        let mut waiting = self.lock();
        let of_one = waiting.values().filter(|(of, _)| of == user).count();
        if waiting.len() >= MAX_HELD || of_one >= MAX_HELD_OF_ONE {
            return None;
        }
        waiting.insert(id, (user.to_owned(), talk));
        drop(waiting);
        let (held, life) = (Arc::downgrade(&self.waiting), self.life);
        self.tasks.spawn(async move {
            tokio::time::sleep(life).await;
            if let Some(held) = held.upgrade() {
                let gone = held.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                drop(gone);
            }
        });
        Some(id)
    }

    /// Takes a call up again, once.
    pub(super) fn take(&self, id: u128) -> Option<Talk> {
        self.lock().remove(&id).map(|(_, talk)| talk)
    }

    /// Gives all of them up.
    pub(super) fn close(&self) {
        let all = std::mem::take(&mut *self.lock());
        drop(all);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u128, (String, Talk)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_that_nobody_comes_back_to_is_given_up() {
        let held = Held::new(Duration::from_millis(20));
        let talk = || {
            let (asks, requests) = mpsc::channel(1);
            let cancel = CancellationToken::new();
            let told = cancel.clone();
            let talk = Talk {
                call: Box::pin(std::future::pending()),
                events: None,
                requests,
                pending: Vec::new(),
                offered: "{}".into(),
                missing: None,
                _cancel: cancel.drop_guard(),
            };
            (talk, asks, told)
        };
        let (first, asks, told) = talk();
        let id = held.keep("ada", first).expect("room");
        tokio::join!(told.cancelled(), asks.closed());
        assert!(held.take(id).is_none());

        let held = Held::new(LIFE);
        for _ in 0..MAX_HELD_OF_ONE {
            assert!(held.keep("ada", talk().0).is_some());
        }
        assert!(held.keep("ada", talk().0).is_none(), "no more for one");
        assert!(held.keep("eve", talk().0).is_some());
    }
}
