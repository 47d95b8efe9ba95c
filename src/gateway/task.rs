//! Tasks: calls that a server answers later (the extension `io.modelcontextprotocol/tasks`, SEP-2663).
//!
//! A server of 2026-07-28 may answer `tools/call` with a task, if the client says that it takes one.
//! Its id is exchanged for one of our own, with which whoever called asks for it, answers what it asks,
//! and cancels it. Invariants: a task is reached by who called, while rules show the tool; requests about
//! it go to the instance that works on it, and to no other; to everybody else there is no such task.
//! A task ends in the records when its end is first told, or when it is cancelled: one that nobody asks
//! for again has the record of its call alone.

pub(super) mod id;
mod listen;
mod open;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::value::RawValue;

use self::id::{Key, TaskId};
pub(super) use self::listen::listen;
use self::open::{Open, Opened};
use super::audit::{Outcome, Timed};
use super::limit::Leave;
use super::relay::{self, Target};
use super::{Gateway, Reply, bridge, call, invalid};
use crate::catalog::{Entry, List, Route, TASKS};
use crate::desired::Server;
use crate::live::UpstreamKey;
use crate::mcp::client::{CallError, Held, Params};
use crate::mcp::server::{Method, Request};
use crate::mcp::wire::{Era, ErrorObject, WireError, code, raw};
use crate::ports::CallContext;
use crate::resource::Name;

/// What is known of tasks here. Which there are, their servers know.
#[derive(Default)]
pub(super) struct Tasks {
    key: OnceLock<Key>,
    open: Open,
}

impl Tasks {
    /// The key of the installation, under which ids are sealed. Without, it is one of this process.
    pub(super) fn set(&self, installation: &[u8; 32]) {
        // Said once, when the daemon is put together.
        drop(self.key.set(Key::new(installation)));
    }

    fn key(&self) -> &Key {
        self.key.get_or_init(|| Key::new(&rand::random()))
    }

    /// Waits for no task any more.
    pub(super) fn close(&self) {
        self.open.clear();
    }
}

/// A call was answered with a task: it counts among the calls of its server as long as it goes on, for at
/// most `at_most`.
pub(super) fn counts(gateway: &Gateway, result: &str, leave: Leave, at_most: Duration) {
    let result: Option<&RawValue> = serde_json::from_str(result).ok();
    if let Some(id) = result.and_then(|result| raw::get_str(result, "taskId")) {
        gateway.tasks.open.keep(&id, leave, at_most);
    }
}

/// Whether a result is a task.
pub(super) fn is_task(result: &RawValue) -> bool {
    // Most results are told apart at sight.
    result.get().contains("\"task\"") && raw::get_str(result, "resultType").is_some_and(|it| it == "task")
}

/// A result as the client may have it: a task has an id of our own, and goes to nobody who did not say
/// that it takes one.
pub(super) fn received(
    gateway: &Gateway,
    target: &Target,
    request: &Request,
    result: Box<RawValue>,
) -> Result<Box<RawValue>, CallError> {
    if !is_task(&result) {
        return Ok(result);
    }
    let unusable = |why: &str| CallError::Unusable(why.to_owned());
    let (Route::Server { server, name, .. }, Some(upstream), Some(connection)) =
        (&target.entry.route, target.upstream(), &target.connection)
    else {
        return Err(unusable("it answered with a task"));
    };
    if request.method != Method::ToolsCall || !request.takes_tasks() || connection.era() != Era::Modern {
        return Err(unusable("it answered with a task, which this client did not say it takes"));
    }
    let own = raw::get_str(&result, "taskId").filter(|own| own.len() <= id::MAX_OWN);
    let own = own.ok_or_else(|| unusable("it answered with a task whose id is none, or too long"))?;
    let id = TaskId {
        server: server.id.name.to_string(),
        instance: id::mark(&upstream.instance),
        tool: name.to_string(),
        most: target.most,
        own: own.into_owned(),
    };
    let text = gateway.tasks.key().seal(&id, request.user());
    let opened = Opened::new(&target.entry, connection);
    gateway.tasks.open.begin(&text, &request.user().name, opened);
    raw::set_str(&result, "taskId", &text).map_err(|error| CallError::Unusable(error.to_string()))
}

/// Answers `tasks/get`, `tasks/update` and `tasks/cancel`.
pub(super) async fn request(
    gateway: &Gateway,
    request: &Request,
    context: &CallContext,
) -> Result<Reply, ErrorObject> {
    if request.era == Era::Legacy {
        let message = format!("there is no method `{}`", request.method.as_str());
        return Err(ErrorObject::new(code::METHOD_NOT_FOUND, message));
    }
    if !request.takes_tasks() {
        return Err(missing());
    }
    let text = request.name.as_deref().ok_or_else(|| invalid("`params.taskId` is no string"))?;
    let id = gateway.tasks.key().open(text, request.user()).ok_or_else(unknown)?;
    let task = reach(gateway, request, text, &id)?;
    let own = raw::set_str(given(request), "taskId", &id.own).map_err(|error| unreadable(&error))?;
    let capabilities = Some(bridge::told(request, task.server.sessions));
    let context = CallContext { capabilities, ..context.clone() };
    let answered =
        task.connection.call(request.method.as_str(), Params::of(&own), task.server.timeout, &context).await;
    match answered {
        Ok(result) if request.method == Method::TasksGet => {
            let told = task.told(gateway, request, text, &id, &result).map_err(|error| unreadable(&error))?;
            Ok(Reply::Whole(told.into()))
        }
        Ok(result) => {
            if request.method == Method::TasksCancel {
                task.ended(gateway, request, text, Outcome::Cancelled, 0);
            }
            Ok(Reply::Whole(result.into()))
        }
        Err(CallError::Server(error)) => Err(error),
        Err(error) => Err(relay::failed(&task.entry, &error)),
    }
}

/// A task that may be asked for, and the connection to who works on it.
struct Reached {
    entry: Arc<Entry>,
    server: Arc<Server>,
    connection: Held,
}

/// Finds who works on a task: the instance it was begun on, also when it is about to be replaced.
fn reach(gateway: &Gateway, request: &Request, text: &str, id: &TaskId) -> Result<Reached, ErrorObject> {
    let sight = gateway.catalogs.sight(&request.scope).map_err(|_| unknown())?;
    let opened = gateway.tasks.open.get(text);
    // A tool that is not offered any more can be asked for what it was called for.
    let left = || opened.as_ref().map(|opened| &opened.entry).filter(|entry| sight.shows(entry));
    let entry = Arc::clone(sight.own(&id.server, &id.tool).or_else(left).ok_or_else(unknown)?);
    if gateway.rules.load().hides(List::Tools, &entry, request.user()) {
        return Err(unknown());
    }
    let Route::Server { server, upstream, .. } = &entry.route else { return Err(unknown()) };
    let server = Arc::clone(server);
    let connection = opened.and_then(|opened| opened.connection).filter(|connection| !connection.is_closed());
    let connection = connection.or_else(|| gateway.upstreams.hold(&instance(gateway, &server.id.name, id)?));
    match connection {
        Some(connection) => Ok(Reached { entry, server, connection }),
        // It may come back.
        None if id::mark(&upstream.instance) == id.instance => {
            Err(relay::failed(&entry, &CallError::Gone("there is no connection to it".to_owned())))
        }
        None => Err(invalid("unknown task: the instance of its server that worked on it is gone")),
    }
}

fn instance(gateway: &Gateway, server: &Name, id: &TaskId) -> Option<UpstreamKey> {
    let is = |key: &UpstreamKey| key.server == *server && id::mark(&key.instance) == id.instance;
    gateway.upstreams.keys().into_iter().find(is)
}

impl Reached {
    /// The state of a task as its client may have it; notes its end.
    fn told(
        &self,
        gateway: &Gateway,
        request: &Request,
        text: &str,
        id: &TaskId,
        state: &RawValue,
    ) -> Result<Box<RawValue>, WireError> {
        let mut told = Cow::Borrowed(state);
        if raw::get(state, "taskId").is_some() {
            told = Cow::Owned(raw::set_str(state, "taskId", text)?);
        }
        let result = raw::get(state, "result");
        if let Some(shown) = result.and_then(|result| self.published(gateway, request, id, result)) {
            told = Cow::Owned(raw::into_raw(raw::set(&told, &[("result", shown.get())])?)?);
        }
        let bytes = result.map_or(0, |result| result.get().len());
        if let Some(outcome) = raw::get_str(state, "status").and_then(|status| outcome(&status, result)) {
            self.ended(gateway, request, text, outcome, bytes);
        }
        Ok(told.into_owned())
    }

    /// The result of the call, where it may not be told as it is.
    fn published(
        &self,
        gateway: &Gateway,
        request: &Request,
        id: &TaskId,
        result: &RawValue,
    ) -> Option<Box<RawValue>> {
        match id.most {
            Some(most) if result.get().len() as u64 > most => {
                raw::into_raw(call::too_long(result.get().len(), most)).ok()
            }
            _ => relay::published(gateway, &self.entry, request, result),
        }
    }

    /// Records the end, the first time.
    fn ended(&self, gateway: &Gateway, request: &Request, text: &str, outcome: Outcome, bytes: usize) {
        if let Some(opened) = gateway.tasks.open.end(text) {
            Timed::task(request, &self.entry, &gateway.observer, opened.began, text).end(outcome, bytes);
        }
    }
}

/// How a task ended; none when it goes on.
fn outcome(status: &str, result: Option<&RawValue>) -> Option<Outcome> {
    match status {
        "completed" => Some(result.map_or(Outcome::Success, |result| call::ended(result.get()))),
        "failed" => Some(Outcome::ServerError),
        "cancelled" => Some(Outcome::Cancelled),
        _ => None,
    }
}

/// For a client that speaks of tasks without saying that it takes them.
fn missing() -> ErrorObject {
    let data = format!("{{\"requiredCapabilities\":{{\"extensions\":{{\"{TASKS}\":{{}}}}}}}}");
    let message = format!("tasks are for clients whose capabilities name the extension `{TASKS}`");
    ErrorObject {
        data: raw::into_raw(data).ok(),
        ..ErrorObject::new(code::MISSING_CLIENT_CAPABILITY, message)
    }
}

/// For an id that is none, is another's, or of a tool that is hidden.
fn unknown() -> ErrorObject {
    invalid("unknown task")
}

fn given(request: &Request) -> &RawValue {
    request.params.as_deref().unwrap_or(RawValue::NULL)
}

fn unreadable(error: &WireError) -> ErrorObject {
    invalid(format!("the task cannot be read: {error}"))
}
