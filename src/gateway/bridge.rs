//! Clients of one era and servers of the other: what a server has to ask while it works on a call.
//!
//! A legacy server sends a request on its connection; a modern one answers that it needs input, and is
//! called again with it. A legacy client is sent requests on its session; a modern one gets such answers
//! itself. Input: a call that rules and limits let pass. Output: a result as the client's era has it.
//! Invariants: servers are told of nothing that this client cannot be asked; whoever asks shares no
//! connection with another client. Source: MCP 2026-07-28 `basic/patterns/mrtr`.

mod began;
pub(super) mod core_task;
mod held;
pub(super) mod seal;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures::future::join_all;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

pub(super) use self::began::Began;
use self::held::{Came, Held, Talk};
use self::seal::{Bound, Seal, State};
use super::relay::Target;
use super::session::{Clients, Shared};
use super::{Gateway, demand, personal, task, wait};
use crate::catalog::{Entry, Route, TASKS};
use crate::desired::Server;
use crate::live::UpstreamKey;
use crate::mcp::client::{CallError, Params, Upstream, Upstreams};
use crate::mcp::server::{Method, Request};
use crate::mcp::wire::{self, Era, ErrorObject, code, raw};
use crate::ports::{CallContext, ClientRequest, Lender};
use crate::resource::server::Sessions;

/// Answers of a modern server that need input, to one call of a legacy client: more is a server that
/// never has enough.
const ROUNDS: usize = 16;
/// Requests to the client in one such answer.
const ASKED_AT_ONCE: usize = 16;
/// How long a legacy client may take to answer: its user reads, and types.
const PATIENCE: Duration = Duration::from_mins(10);

/// What bridging needs beyond one call.
pub(super) struct Bridge {
    clients: Clients,
    held: Held,
    seal: std::sync::OnceLock<Seal>,
}

impl Default for Bridge {
    fn default() -> Self {
        Self { clients: Clients::default(), held: Held::new(seal::LIFE), seal: std::sync::OnceLock::new() }
    }
}

impl Bridge {
    /// Who starts instances, and the key of the installation.
    pub(super) fn set(&self, lender: Arc<dyn Lender>, key: &[u8; 32]) {
        self.clients.lend_from(lender);
        // Said once, when the daemon is put together.
        drop(self.seal.set(Seal::new(key)));
    }

    fn seal(&self) -> &Seal {
        self.seal.get_or_init(|| Seal::new(&rand::random()))
    }

    /// Gives calls up that wait for their clients, and ends their connections.
    pub(super) fn close(&self) {
        self.held.close();
        self.clients.close();
    }
}

/// Sends a request on, and returns its result in terms of the client's era.
pub(super) async fn send(
    gateway: &Gateway,
    target: &Target,
    request: &Request,
    params: Params<'_>,
    context: &CallContext,
) -> Result<Box<RawValue>, CallError> {
    if let Route::Server { server, .. } = &target.entry.route
        && let Some(wanted) = personal::wanted(server)
    {
        let entry = (&*target.entry, &**server, &wanted);
        let params = edited(params.whole().map(Cow::into_owned))?;
        return Box::pin(personal::send(gateway, entry, request, &params, context)).await;
    }
    if target.connection.is_none() && target.upstream().is_some_and(UpstreamKey::is_any) {
        return Box::pin(demand::send(gateway, target, request, params, context)).await;
    }
    sent(gateway, target, request, params, context).await
}

/// The same over the connection of `target`. A task that is answered is one of ours from then on.
pub(super) async fn sent(
    gateway: &Gateway,
    target: &Target,
    request: &Request,
    params: Params<'_>,
    context: &CallContext,
) -> Result<Box<RawValue>, CallError> {
    let result = passed_on(gateway, target, request, params, context).await?;
    task::received(gateway, target, request, result)
}

async fn passed_on(
    gateway: &Gateway,
    target: &Target,
    request: &Request,
    params: Params<'_>,
    context: &CallContext,
) -> Result<Box<RawValue>, CallError> {
    let (Route::Server { server, .. }, Some(upstream), Some(connection)) =
        (&target.entry.route, target.upstream(), &target.connection)
    else {
        return Err(CallError::Gone("there is no connection to it".to_owned()));
    };
    let method = request.method.as_str();
    let legacy = connection.era() == Era::Legacy && request.method == Method::ToolsCall;
    let given = if legacy {
        core_task::without(params.given(), &["task"]).map_err(|error| unusable(&error))?
    } else {
        Cow::Borrowed(params.given())
    };
    let params = params.with(&given);
    let as_task = legacy && core_task::is_needed(&target.entry, connection);
    if server.sessions == Sessions::Shared || !request.method.may_ask() {
        let capabilities = Some(told(request, Sessions::Shared));
        let context = CallContext { capabilities, ..context.clone() };
        return core_task::call(connection, method, params, server.timeout, &context, as_task).await;
    }
    let (bridge, upstreams) = (&gateway.bridge, &*gateway.upstreams);
    // Apart: calls of shared servers, which are most, need no room for any of these.
    let asking = async {
        let whole = params.whole().map_err(|error| unusable(&error))?;
        let call = Call { bridge, upstreams, server, upstream, request, params: &whole, context, as_task };
        match (connection.era(), request.era) {
            (Era::Modern, Era::Modern) => call.relayed(connection, target).await,
            (Era::Modern, Era::Legacy) => call.in_rounds(connection).await,
            (Era::Legacy, Era::Modern) => call.held(connection, target).await,
            (Era::Legacy, Era::Legacy) => {
                let lease = call.lease(connection).await?;
                core_task::call(&lease, method, params, server.timeout, context, as_task).await
            }
        }
    };
    Box::pin(asking).await
}

/// One call to a server that may ask.
struct Call<'a> {
    bridge: &'a Bridge,
    upstreams: &'a Upstreams,
    server: &'a Arc<Server>,
    upstream: &'a UpstreamKey,
    request: &'a Request,
    params: &'a RawValue,
    context: &'a CallContext,
    /// Whether a legacy server wants it to be a task.
    as_task: bool,
}

impl Call<'_> {
    async fn lease(&self, main: &Upstream) -> Result<super::session::Lease, CallError> {
        let shared =
            Shared { server: self.server, key: self.upstream, connection: main, all: self.upstreams };
        let lease = self.bridge.clients.of(self.request, shared, offered(self.request));
        let what = format!("waiting for {} to start for this client", self.server.id);
        // What was started for nobody is given back.
        wait::told_until_cancelled(self.context, &what, lease).await
    }

    fn bound<'a>(&'a self, target: &'a Target) -> Bound<'a> {
        bound(self.request, &target.entry)
    }

    /// The state that the client came back with, if it did.
    fn state(&self, target: &Target) -> Result<Option<State>, CallError> {
        let Some(given) = raw::get(self.params, "requestState") else { return Ok(None) };
        let opened = raw::text_of(given).and_then(|text| self.bridge.seal().open(&text, self.bound(target)));
        opened.map(Some).ok_or_else(not_ours)
    }

    /// Both are modern: only the state is wrapped.
    async fn relayed(&self, connection: &Upstream, target: &Target) -> Result<Box<RawValue>, CallError> {
        let params = match self.state(target)? {
            None => Cow::Borrowed(self.params),
            Some(State::Relayed(own) | State::At(_, own)) => {
                Cow::Owned(edited(raw::set_str(self.params, "requestState", &own))?)
            }
            Some(State::Held(_)) => return Err(not_ours()),
        };
        let capabilities = Some(told(self.request, Sessions::PerClient));
        let context = CallContext { capabilities, ..self.context.clone() };
        let method = self.request.method.as_str();
        let result = connection.call(method, Params::of(&params), self.server.timeout, &context).await?;
        let own = asks(&result).then(|| raw::get_str(&result, "requestState")).flatten();
        match own {
            None => Ok(result),
            Some(own) => {
                let at = target.at.as_deref().filter(|_| self.server.scale.max > 1);
                let state = match at {
                    Some(key) => State::At(task::id::mark(&key.instance), own.into_owned()),
                    None => State::Relayed(own.into_owned()),
                };
                let sealed = self.bridge.seal().seal(&state, self.bound(target));
                edited(raw::set_str(&result, "requestState", &sealed))
            }
        }
    }

    /// A modern server asks a legacy client: on its session, and the server is called again.
    async fn in_rounds(&self, connection: &Upstream) -> Result<Box<RawValue>, CallError> {
        let mut context = self.context.clone();
        if context.requests.is_some() {
            context.capabilities = Some(offered(self.request));
        }
        let method = self.request.method.as_str();
        let mut params = Cow::Borrowed(self.params);
        for _ in 0..ROUNDS {
            let result = connection.call(method, Params::of(&params), self.server.timeout, &context).await?;
            if !asks(&result) {
                return Ok(result);
            }
            let asked = raw::get(&result, "inputRequests").map_or(Ok(Vec::new()), |all| {
                raw::pairs(all, "`inputRequests`").map_err(|error| unusable(&error))
            })?;
            if asked.len() > ASKED_AT_ONCE {
                return Err(CallError::Unusable(format!(
                    "it asks for more than {ASKED_AT_ONCE} things at once"
                )));
            }
            let answers = asked.iter().map(|(key, asked)| self.ask(key, asked));
            let answers: Vec<(String, String)> = tokio::select! {
                answers = join_all(answers) => answers.into_iter().collect::<Result<_, _>>()?,
                () = context.cancel.cancelled() => return Err(CallError::Cancelled),
            };
            let responses = object(&answers);
            let mut entries = vec![("inputResponses", responses.as_str())];
            let state = raw::get(&result, "requestState").map(|state| state.get().to_owned());
            entries.extend(state.as_deref().map(|state| ("requestState", state)));
            params = Cow::Owned(edited(raw::set(self.params, &entries).and_then(raw::into_raw))?);
        }
        Err(CallError::Unusable(format!("it asked for input {ROUNDS} times")))
    }

    /// Asks the client one thing: the key and the result.
    async fn ask(&self, key: &str, asked: &RawValue) -> Result<(String, String), CallError> {
        let nobody = || CallError::Unusable("it asks for input that this client cannot give".to_owned());
        let requests = self.context.requests.as_ref().ok_or_else(nobody)?;
        let method = raw::get_str(asked, "method").unwrap_or_default();
        let offers = self.request.meta.client_capabilities.as_deref();
        if offers.is_none_or(|offers| raw::get(offers, capability(&method)).is_none()) {
            return Err(nobody());
        }
        let (answer, receiver) = oneshot::channel();
        let request = ClientRequest {
            id: key.into(),
            method: method.as_ref().into(),
            params: raw::get(asked, "params").map(|params| params.get().into()),
            answer,
        };
        requests.send(request).await.map_err(|_| nobody())?;
        match tokio::time::timeout(PATIENCE, receiver).await {
            Ok(Ok(Ok(result))) => Ok((key.to_owned(), result)),
            Ok(Ok(Err(error))) => {
                let error = serde_json::from_str::<ErrorObject>(&error);
                let why = error.map_or_else(|_| "an error".to_owned(), |error| error.message);
                Err(CallError::Unusable(format!("it asked the client (`{method}`), which answered: {why}")))
            }
            Ok(Err(_)) => Err(nobody()),
            Err(_) => Err(CallError::Timeout(PATIENCE)),
        }
    }

    /// A legacy server asks a modern client: the call is held until the client comes back.
    async fn held(&self, main: &Upstream, target: &Target) -> Result<Box<RawValue>, CallError> {
        let talk = match self.state(target)? {
            Some(State::Held(id)) => self.bridge.held.take(id).ok_or_else(not_ours)?,
            Some(State::Relayed(_) | State::At(..)) => return Err(not_ours()),
            None => {
                let answers = ["inputResponses", "requestState"];
                let params = core_task::without(self.params, &answers).map(Cow::into_owned);
                let params = edited(params)?;
                let lease = self.lease(main).await?;
                let method = named(&self.request.method);
                Talk::begin(lease, (method, params, self.as_task), self.context, offered(self.request))
            }
        };
        let answers = raw::get(self.params, "inputResponses");
        match talk.go_on(answers, self.server.timeout, self.context).await {
            Came::Ended(outcome) => outcome,
            Came::Asks(talk, asked) => {
                let user = &self.request.principal.name;
                let busy = || CallError::Gone("too many calls wait for an answer of their client".to_owned());
                let id = self.bridge.held.keep(user, *talk).ok_or_else(busy)?;
                let state = self.bridge.seal().seal(&State::Held(id), self.bound(target));
                let text = raw::object_of(&[
                    ("resultType", "\"input_required\""),
                    ("inputRequests", &object(&asked)),
                    ("requestState", &wire::quote(&state)),
                ]);
                edited(raw::into_raw(text))
            }
        }
    }
}

/// What the state of a call is bound to.
fn bound<'a>(request: &'a Request, entry: &'a Entry) -> Bound<'a> {
    Bound {
        principal: &request.principal,
        method: request.method.as_str(),
        name: request.name.as_deref().unwrap_or_default(),
        offer: &entry.digests().offer,
    }
}

/// What of the client's capabilities is about being asked, as raw JSON; that is all a server has to
/// know. Its roots may change, but nobody tells.
fn offered(request: &Request) -> Arc<str> {
    raw::object_of(&asked_for(request)).into()
}

/// The same for a modern server, which is also told whether this client takes tasks. One that all share
/// is told of nothing that it could ask.
pub(super) fn told(request: &Request, sessions: Sessions) -> Arc<str> {
    if sessions == Sessions::Shared {
        return Arc::clone(if request.takes_tasks() { &SHARED.1 } else { &SHARED.0 });
    }
    let tasks = tasks();
    let mut entries = asked_for(request);
    if request.takes_tasks() {
        entries.push(("extensions", &tasks));
    }
    raw::object_of(&entries).into()
}

/// What a shared server is told: of nothing, or of tasks alone.
static SHARED: LazyLock<(Arc<str>, Arc<str>)> =
    LazyLock::new(|| ("{}".into(), raw::object_of(&[("extensions", &tasks())]).into()));

fn tasks() -> String {
    format!("{{\"{TASKS}\":{{}}}}")
}

fn asked_for(request: &Request) -> Vec<(&'static str, &str)> {
    let Some(all) = request.meta.client_capabilities.as_deref() else { return Vec::new() };
    let of = |key: &'static str| Some((key, raw::get(all, key)?.get())).filter(|(_, it)| it.starts_with('{'));
    let roots = of("roots").map(|(key, _)| (key, "{}"));
    [roots, of("sampling"), of("elicitation")].into_iter().flatten().collect()
}

/// The capability that a client has to have for a request of a server.
fn capability(method: &str) -> &'static str {
    match method {
        "sampling/createMessage" => "sampling",
        "roots/list" => "roots",
        _ => "elicitation",
    }
}

/// For a call that cannot be done without what the client does not offer.
fn missing(capability: &str) -> CallError {
    let message = format!("the server needs `{capability}`, which this client does not offer");
    let data = format!("{{\"requiredCapabilities\":{{\"{capability}\":{{}}}}}}");
    let data = raw::into_raw(data).ok();
    CallError::Server(ErrorObject { data, ..ErrorObject::new(code::MISSING_CLIENT_CAPABILITY, message) })
}

/// Whether a result asks for input.
fn asks(result: &RawValue) -> bool {
    // Most results are told apart at sight.
    result.get().contains("input_required")
        && raw::get_str(result, "resultType").is_some_and(|kind| kind == "input_required")
}

/// An object of keys that may need escapes, and raw values.
fn object(members: &[(String, String)]) -> String {
    let members: Vec<_> =
        members.iter().map(|(key, value)| format!("{}:{value}", wire::quote(key))).collect();
    format!("{{{}}}", members.join(","))
}

/// The methods that may ask, by name.
fn named(method: &Method) -> &'static str {
    match method {
        Method::PromptsGet => "prompts/get",
        Method::ResourcesRead => "resources/read",
        _ => "tools/call",
    }
}

fn edited(text: Result<Box<RawValue>, wire::WireError>) -> Result<Box<RawValue>, CallError> {
    text.map_err(|error| unusable(&error))
}

fn unusable(error: &wire::WireError) -> CallError {
    CallError::Unusable(error.to_string())
}

/// For a state that was changed, or given to somebody else, for another call or long ago.
fn not_ours() -> CallError {
    let message = "`requestState` is not one that was given for this call, or is not good any more: call again without it";
    CallError::Server(ErrorObject::new(code::INVALID_PARAMS, message))
}
