//! Requests of 2025-11-25 and older: a handshake, then a session.

use std::sync::Arc;

use futures::FutureExt as _;
use http::{HeaderValue, Response, StatusCode};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::request::{Method, Request, SessionOf};
use super::respond::{Call, Outcome, Progress, Running};
use super::session::{CallInFlight, Session, lock};
use super::{Asked, Endpoint, Excess, Payload, Refusal, Reply, accepted, headers, listen, reply, respond};
use crate::mcp::wire::{self, Id, code, raw};
use crate::ports::{CallContext, ClientLine, Logs, Severity, telling};

/// Requests to a client about one call that may wait to be sent.
const MAX_ASKED: usize = 16;
/// What a client says it can be asked is kept as long as its session; nobody needs more.
const MAX_CAPABILITIES: usize = 16 << 10;

pub(super) async fn request(
    endpoint: &Arc<Endpoint>,
    asked: &Asked,
    mut request: Request,
) -> Result<Response<Payload>, Refusal> {
    if request.method == Method::Initialize {
        return initialize(endpoint, asked, &request);
    }
    let session = session(endpoint, asked, Some(&request.id))?;
    match request.method {
        Method::Ping => return Ok(answer(&request, Ok(Reply::Empty))),
        Method::SetLevel => return Ok(answer(&request, set_level(&session, &request))),
        Method::Subscribe => return Ok(answer(&request, watch(endpoint, &session, &request))),
        Method::Unsubscribe => return Ok(answer(&request, unwatch(&session, &request))),
        _ => {}
    }
    let streams = headers::accepts_events(&asked.headers);
    let (teller, told) = streams.then(telling).unzip();
    // Before it said so, the server may choose: everything.
    let logs = Some(session.level().map_or(Logs::Unsaid, Logs::From));
    let used = || {
        let message = "a request of this `id` is still being answered: each needs its own";
        Refusal::bad(&request.id, code::INVALID_REQUEST, message)
    };
    let in_flight = session.begin(&request.id).ok_or_else(used)?;
    request.meta.client_capabilities.clone_from(&session.capabilities);
    let line = Arc::clone(&session) as Arc<dyn ClientLine>;
    request.session = Some(SessionOf { id: Arc::clone(&session.id), ended: session.ended.clone(), line });
    let (asks, asked) = if streams && session.capabilities.is_some() && request.method.may_ask() {
        let (sender, receiver) = mpsc::channel(MAX_ASKED);
        (Some(sender), Some((Arc::clone(&session), receiver)))
    } else {
        (None, None)
    };
    let request = Arc::new(request);
    let context = CallContext {
        cancel: in_flight.cancel.clone(),
        events: teller,
        progress: request.meta.progress_token.is_some(),
        requests: asks,
        logs,
        capabilities: None,
    };
    let call = call(Arc::clone(endpoint), Arc::clone(&request), in_flight, context).boxed();
    let outcome = Running::detachable(call, &endpoint.detached);
    Ok(respond::answer(Call {
        request,
        outcome,
        events: told,
        asked,
        logs,
        streams,
        progress: Progress::default(),
    })
    .await)
}

/// Losing the connection does not end it; the client's word, or the end of its session, does.
async fn call(
    endpoint: Arc<Endpoint>,
    request: Arc<Request>,
    in_flight: CallInFlight,
    context: CallContext,
) -> Outcome {
    // Cancel-safe: a dropped request is a cancelled one.
    tokio::select! {
        biased;
        () = in_flight.cancel.cancelled() => None,
        result = endpoint.handler.request(&request, &context) => Some(result),
    }
}

fn answer(request: &Request, result: Result<Reply, wire::ErrorObject>) -> Response<Payload> {
    match result.and_then(|reply| reply::success(request, reply)) {
        Ok(payload) => respond::json(StatusCode::OK, payload),
        Err(error) => respond::failed(request, &error),
    }
}

fn initialize(endpoint: &Endpoint, asked: &Asked, request: &Request) -> Result<Response<Payload>, Refusal> {
    let asks = request.params.as_deref().and_then(|params| raw::get_str(params, "protocolVersion"));
    let Some(asks) = asks else {
        return Err(Refusal::bad(&request.id, code::INVALID_PARAMS, "`params.protocolVersion` is no string"));
    };
    // A version that is not known gets the newest; the client decides whether it can speak that.
    let version = wire::LEGACY_VERSIONS.into_iter().find(|version| *version == asks).unwrap_or(wire::LEGACY);
    let heard = *endpoint.handler.changes(&asked.scope).borrow();
    let offered = request.params.as_deref().and_then(|params| raw::get(params, "capabilities"));
    let offered = offered.filter(|raw| raw.get().starts_with('{') && raw.get().len() <= MAX_CAPABILITIES);
    let offered = offered.map(ToOwned::to_owned);
    let held = if let Some(held) = endpoint.users.try_hold(&asked.user, Excess::Sessions) {
        held
    } else {
        endpoint.sessions.make_room(&asked.principal);
        endpoint.users.hold(&asked.user, Excess::Sessions, Some(&request.id))?
    };
    let Some(session) = endpoint.sessions.open(version, asked, offered, heard, held) else {
        let message = "too many sessions are open; try again later";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return Err(Refusal::error(status, Some(&request.id), code::INTERNAL_ERROR, message));
    };
    let mut response =
        answer(request, Ok(reply::initialized(&endpoint.handler.about(&asked.scope), version)));
    if let Ok(id) = HeaderValue::from_str(&session.id) {
        response.headers_mut().insert(headers::SESSION, id);
    }
    Ok(response)
}

fn set_level(session: &Session, request: &Request) -> Result<Reply, wire::ErrorObject> {
    let given = request.params.as_deref().and_then(|params| raw::get_str(params, "level"));
    match given.as_deref().and_then(Severity::parse) {
        Some(level) => {
            session.set_level(level);
            Ok(Reply::Empty)
        }
        None => Err(wire::ErrorObject::new(code::INVALID_PARAMS, "`level` is no level of RFC 5424")),
    }
}

fn watch(endpoint: &Endpoint, session: &Session, request: &Request) -> Result<Reply, wire::ErrorObject> {
    let uri = uri_of(request)?;
    if uri.len() > listen::MAX_URI {
        return Err(wire::ErrorObject::new(code::INVALID_PARAMS, listen::long_uri()));
    }
    if lock(&session.watched).len() >= listen::MAX_WATCHED {
        let message = format!("more than {} resources are subscribed to", listen::MAX_WATCHED);
        return Err(wire::ErrorObject::new(code::INVALID_PARAMS, message));
    }
    let watch = endpoint.handler.watch(request, uri)?;
    if !session.is_told() {
        lock(&session.missed).get_or_insert_with(|| endpoint.handler.updates());
    }
    lock(&session.watched).insert(uri.to_owned(), watch);
    Ok(Reply::Empty)
}

fn unwatch(session: &Session, request: &Request) -> Result<Reply, wire::ErrorObject> {
    let gone = lock(&session.watched).remove(uri_of(request)?);
    drop(gone);
    Ok(Reply::Empty)
}

fn uri_of(request: &Request) -> Result<&str, wire::ErrorObject> {
    let missing = || wire::ErrorObject::new(code::INVALID_PARAMS, "`params.uri` is no string");
    request.name.as_deref().ok_or_else(missing)
}

pub(super) fn notification(
    endpoint: &Endpoint,
    asked: &Asked,
    method: &str,
    params: Option<&RawValue>,
) -> Result<Response<Payload>, Refusal> {
    let session = session(endpoint, asked, None)?;
    if method == "notifications/cancelled" {
        let id = params.and_then(|params| raw::get(params, "requestId")).and_then(Id::from_raw);
        if let Some(id) = id {
            session.cancel(&id);
        }
    }
    Ok(accepted())
}

/// The client's answer to a request of a server. One that nobody waits for is late or mistaken;
/// neither is a fault.
pub(super) fn response(
    endpoint: &Endpoint,
    asked: &Asked,
    id: Option<Id>,
    outcome: Result<&RawValue, wire::ErrorObject>,
) -> Result<Response<Payload>, Refusal> {
    let session = session(endpoint, asked, None)?;
    if let Some(id) = id {
        let answer = outcome.map(|result| result.get().to_owned()).map_err(|error| error.to_json());
        session.answered(&id, answer);
    }
    Ok(accepted())
}

pub(super) fn get(endpoint: &Endpoint, asked: &Asked) -> Result<Response<Payload>, Refusal> {
    only_legacy(asked)?;
    endpoint.users.rated(&asked.user, None)?;
    let session = session(endpoint, asked, None)?;
    if !headers::accepts_events(&asked.headers) {
        return Err(Refusal::status(StatusCode::NOT_ACCEPTABLE, "`Accept` has to name `text/event-stream`"));
    }
    let held = endpoint.users.hold(&asked.user, Excess::Streams, None)?;
    listen::stream(endpoint, &session, held)
}

pub(super) fn delete(endpoint: &Endpoint, asked: &Asked) -> Result<Response<Payload>, Refusal> {
    only_legacy(asked)?;
    let session = session(endpoint, asked, None)?;
    endpoint.sessions.close(&session);
    tracing::debug!(session = session.id.get(..8), "session ended: by its client");
    let mut response = Response::new(Payload::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// GET and DELETE are of sessions. Whoever has none, and does not speak of a version that has them,
/// is told that there is only POST.
fn only_legacy(asked: &Asked) -> Result<(), Refusal> {
    let version = headers::version(&asked.headers)?;
    let known = version.is_some_and(|version| wire::LEGACY_VERSIONS.contains(&version));
    if known || (version.is_none() && headers::session(&asked.headers)?.is_some()) {
        return Ok(());
    }
    Err(Refusal::status(StatusCode::METHOD_NOT_ALLOWED, "without a session there is only POST here"))
}

fn session(endpoint: &Endpoint, asked: &Asked, id: Option<&Id>) -> Result<Arc<Session>, Refusal> {
    let refuse = |status, message: &str| Refusal::error(status, id, code::INVALID_REQUEST, message);
    let about = |refusal: Refusal| match id {
        Some(id) => refusal.about(id),
        None => refusal,
    };
    if let Some(version) = headers::version(&asked.headers).map_err(about)?
        && !wire::LEGACY_VERSIONS.contains(&version)
    {
        let message = format!("`MCP-Protocol-Version: {version}` is not supported here");
        return Err(refuse(StatusCode::BAD_REQUEST, &message));
    }
    let Some(named) = headers::session(&asked.headers).map_err(about)? else {
        let message =
            "there is no `Mcp-Session-Id` header: say `initialize` first, or send the `_meta` of 2026-07-28";
        return Err(refuse(StatusCode::BAD_REQUEST, message));
    };
    let unknown =
        || refuse(StatusCode::NOT_FOUND, "there is no such session (any more): say `initialize` again");
    endpoint.sessions.get(named, asked).ok_or_else(unknown)
}
