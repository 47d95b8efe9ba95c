//! Calls to servers whose users authorize for themselves: over a connection of that user, or answered with
//! the address to open.
//!
//! Invariants: nobody's call runs on another user's connection or with another user's token; rules have let
//! the call pass before anybody is asked. Source: MCP 2025-11-25 and 2026-07-28 `client/elicitation`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::bridge::core_task;
use super::{Gateway, task, wait};
use crate::catalog::Entry;
use crate::desired::{Location, Server};
use crate::http::Presented;
use crate::http::grants::Wanted;
use crate::mcp::client::{CallError, GreetError, Params, Upstream};
use crate::mcp::server::{Method, Request};
use crate::mcp::wire::{Era, ErrorObject, code, raw};
use crate::ports::{CallContext, Channel, Greeting};
use crate::resource::{Digest, Name};

/// Connections of users at a time, over all servers.
const MAX_OPEN: usize = 1024;
/// How long one is kept without a call.
const IDLE: Duration = Duration::from_mins(10);
/// The key of what the client is asked.
const ASKED: &str = "authorization";

type Slot = tokio::sync::Mutex<Option<Arc<Upstream>>>;
type Key = (String, Name, Digest);

/// The connections of users.
#[derive(Default)]
pub(super) struct People {
    shown: OnceLock<Arc<Presented>>,
    open: Mutex<HashMap<Key, (Arc<Slot>, Instant)>>,
}

impl People {
    /// Who makes what servers are shown. Said once, when the daemon is put together.
    pub(super) fn set(&self, shown: Arc<Presented>) {
        drop(self.shown.set(shown));
    }

    pub(super) fn close(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The place of a user's connection. Idle ones end.
    fn slot(&self, key: Key) -> Option<Arc<Slot>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is in use is held by its call.
        open.retain(|_, (slot, used)| used.elapsed() < IDLE || Arc::strong_count(slot) > 1);
        if open.len() >= MAX_OPEN && !open.contains_key(&key) {
            return None;
        }
        let (slot, used) = open.entry(key).or_insert_with(|| (Arc::default(), Instant::now()));
        *used = Instant::now();
        Some(Arc::clone(slot))
    }

    async fn connection(
        &self,
        user: &str,
        server: &Server,
        wanted: &Wanted,
        shown: &Presented,
    ) -> Result<Arc<Upstream>, CallError> {
        let key = (user.to_owned(), server.id.name.clone(), server.digests.workload);
        let full = || CallError::Gone(format!("{MAX_OPEN} users use it at the same time"));
        let slot = self.slot(key).ok_or_else(full)?;
        let mut held = slot.lock().await;
        if let Some(upstream) = held.as_ref().filter(|upstream| !upstream.is_closed()) {
            return Ok(Arc::clone(upstream));
        }
        let credentials = shown.of_user(user, wanted);
        let channel = Channel::Remote { url: wanted.url.clone(), credentials: Some(credentials) };
        let greeted = Upstream::connect(channel, Greeting::Unknown, server.startup_timeout, || {}).await;
        let upstream = greeted.map_err(|error| match error {
            GreetError::Lacks(scopes) => CallError::Lacks(scopes),
            error => CallError::Gone(error.to_string()),
        })?;
        *held = Some(Arc::clone(&upstream));
        Ok(upstream)
    }
}

/// A server whose users authorize for themselves.
pub(super) fn wanted(server: &Server) -> Option<Wanted> {
    let Location::Remote { url, credentials: Some(declared) } = &server.location else { return None };
    declared.user.as_ref()?;
    Some(Wanted { server: server.id.name.clone(), url: url.clone(), declared: Arc::clone(declared) })
}

/// Sends a request on as its user, or says what the user has to do first.
pub(super) async fn send(
    gateway: &Gateway,
    (entry, server, wanted): (&Entry, &Server, &Wanted),
    request: &Request,
    params: &RawValue,
    context: &CallContext,
) -> Result<Box<RawValue>, CallError> {
    let people = &gateway.people;
    let nobody = || CallError::Gone("nobody can authorize here".to_owned());
    let shown = people.shown.get().ok_or_else(nobody)?;
    let user = &request.principal.name;
    if !shown.grants().has(user, wanted) {
        return needed(shown, wanted, None, request, params);
    }
    let unusable = |why: String| CallError::Unusable(why);
    let call = async {
        let opening = people.connection(user, server, wanted, shown);
        let what = format!("connecting to {} for this user", server.id);
        let connection = wait::told(context, &what, opening).await?;
        // It is told of nothing that it could ask, or answer later: nobody could come back to it.
        let context = CallContext { capabilities: None, ..context.clone() };
        let as_task = request.method == Method::ToolsCall && core_task::is_needed(entry, &connection);
        let params = core_task::without(params, &["inputResponses", "requestState", "task"]);
        let params = params.map_err(|error| unusable(error.to_string()))?;
        let method = request.method.as_str();
        let result =
            core_task::call(&connection, method, Params::of(&params), server.timeout, &context, as_task)
                .await?;
        if task::is_task(&result) {
            return Err(unusable("it answered with a task, which it was not told of".to_owned()));
        }
        Ok(result)
    };
    match call.await {
        // The token was refused and cannot be refreshed: the user is asked again.
        Err(CallError::Gone(_) | CallError::Unusable(_)) if !shown.grants().has(user, wanted) => {
            needed(shown, wanted, None, request, params)
        }
        Err(CallError::Lacks(scopes)) => needed(shown, wanted, Some(&scopes), request, params),
        outcome => outcome,
    }
}

/// The answer to whoever has to authorize first, as their client can show it; `more`: than they did.
fn needed(
    shown: &Presented,
    wanted: &Wanted,
    more: Option<&str>,
    request: &Request,
    params: &RawValue,
) -> Result<Box<RawValue>, CallError> {
    let server = &wanted.server;
    let address = shown.grants().address(&request.principal.name, wanted);
    let (id, url) = address.map_err(|error| CallError::Gone(error.chain()))?;
    let answer = raw::get(params, "inputResponses").and_then(|answers| raw::get(answers, ASKED));
    let action = answer.and_then(|answer| raw::get_str(answer, "action"));
    let declined = action.is_some_and(|action| matches!(&*action, "decline" | "cancel"));
    let what = more.map_or_else(String::new, |more| format!(" for more ({more})"));
    let said = if declined {
        format!("the user did not authorize server `{server}`{what}")
    } else {
        format!("the user has to authorize server `{server}` first{what}: open {url} and call again")
    };
    let message = format!("Server `{server}` needs your authorization{what}.");
    let asked = json!({"mode": "url", "elicitationId": id, "url": url, "message": message});
    if !declined && shows_addresses(request) {
        if request.era == Era::Legacy {
            let data = json!({"elicitations": [asked]}).to_string();
            let error = ErrorObject::new(code::URL_ELICITATION_REQUIRED, message);
            return Err(CallError::Server(ErrorObject { data: raw::into_raw(data).ok(), ..error }));
        }
        if request.method.may_ask() {
            let requests = json!({ASKED: {"method": "elicitation/create", "params": asked}});
            return result(&json!({"resultType": "input_required", "inputRequests": requests}));
        }
    }
    if request.method == Method::ToolsCall {
        return result(&json!({"content": [{"type": "text", "text": said}], "isError": true}));
    }
    Err(CallError::Server(ErrorObject::new(code::INTERNAL_ERROR, said)))
}

/// Whether the client can show its user an address.
fn shows_addresses(request: &Request) -> bool {
    let all = request.meta.client_capabilities.as_deref();
    all.and_then(|all| raw::get(all, "elicitation")).is_some_and(|it| raw::get(it, "url").is_some())
}

fn result(value: &serde_json::Value) -> Result<Box<RawValue>, CallError> {
    raw::into_raw(value.to_string()).map_err(|error| CallError::Unusable(error.to_string()))
}
