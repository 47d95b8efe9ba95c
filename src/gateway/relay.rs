//! Requests that a server answers: sent on under the server's own names, answered as it answers.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::audit::Outcome;
use super::{Gateway, Reply, call, invalid, tool_error};
use crate::catalog::{Entry, Route};
use crate::mcp::client::CallError;
use crate::mcp::server::Request;
use crate::mcp::wire::{self, Era, ErrorObject, code, raw};
use crate::ports::CallContext;

/// Resource not found, before 2026-07-28; there it is `INVALID_PARAMS`.
const RESOURCE_NOT_FOUND: i64 = -32002;

/// Sends a call of a tool on. What keeps the server from answering is told in the result.
pub(super) async fn tool(
    gateway: &Gateway,
    entry: &Entry,
    request: &Request,
    context: &CallContext,
) -> (Result<Reply, ErrorObject>, Outcome) {
    let params = match renamed(entry, request) {
        Ok(params) => params,
        Err(error) => return (Err(error), Outcome::Invalid),
    };
    match send(gateway, entry, request, params.as_ref(), context).await {
        Ok(result) => {
            let outcome = call::ended(result.get());
            (Ok(Reply::Whole(result.into())), outcome)
        }
        Err(CallError::Server(error)) => (Err(translated(error, request.era)), Outcome::ServerError),
        Err(CallError::Cancelled) => (Err(failed(entry, &CallError::Cancelled)), Outcome::Cancelled),
        Err(error) => {
            let outcome =
                if matches!(error, CallError::Timeout(_)) { Outcome::Timeout } else { Outcome::Unavailable };
            (Ok(tool_error(&explained(entry, &error))), outcome)
        }
    }
}

pub(super) async fn prompt(
    gateway: &Gateway,
    request: &Request,
    context: &CallContext,
) -> Result<Reply, ErrorObject> {
    let name = request.name.as_deref().ok_or_else(|| invalid("`params.name` is no string"))?;
    let catalog = gateway.catalogs.current();
    let entry = catalog.prompts.get(name).ok_or_else(|| invalid(format!("unknown prompt `{name}`")))?;
    let params = renamed(entry, request)?;
    relayed(gateway, entry, request, params.as_ref(), context).await
}

pub(super) async fn resource(
    gateway: &Gateway,
    request: &Request,
    context: &CallContext,
) -> Result<Reply, ErrorObject> {
    let uri = request.name.as_deref().ok_or_else(|| invalid("`params.uri` is no string"))?;
    let catalog = gateway.catalogs.current();
    let Some(entry) = catalog.resource(uri).map(Arc::clone) else {
        let code = if request.era == Era::Modern { code::INVALID_PARAMS } else { RESOURCE_NOT_FOUND };
        return Err(ErrorObject::new(code, format!("unknown resource `{uri}`")));
    };
    relayed(gateway, &entry, request, given(request), context).await
}

/// Completes an argument of a prompt or of a resource template.
pub(super) async fn complete(
    gateway: &Gateway,
    request: &Request,
    context: &CallContext,
) -> Result<Reply, ErrorObject> {
    let params = given(request);
    let reference = raw::get(params, "ref").ok_or_else(|| invalid("`params.ref` is missing"))?;
    let catalog = gateway.catalogs.current();
    let kind = raw::get_str(reference, "type").unwrap_or_default();
    let unknown = |name: &str| invalid(format!("unknown reference `{name}`"));
    match kind.as_ref() {
        "ref/prompt" => {
            let name = raw::get_str(reference, "name").ok_or_else(|| invalid("`ref.name` is no string"))?;
            let entry = catalog.prompts.get(name.as_ref()).ok_or_else(|| unknown(&name))?;
            let Route::Server { name: own, .. } = &entry.route else { return Err(unknown(&name)) };
            let reference = raw::set_str(reference, "name", own).map_err(|error| unreadable(&error))?;
            let text = raw::set(params, &[("ref", reference.get())]).map_err(|error| unreadable(&error))?;
            let params = raw::into_raw(text).map_err(|error| unreadable(&error))?;
            relayed(gateway, entry, request, &params, context).await
        }
        "ref/resource" => {
            let uri = raw::get_str(reference, "uri").ok_or_else(|| invalid("`ref.uri` is no string"))?;
            let template = catalog.templates.get(uri.as_ref());
            let entry = template.or_else(|| catalog.resource(&uri)).ok_or_else(|| unknown(&uri))?;
            relayed(gateway, entry, request, params, context).await
        }
        other => Err(invalid(format!("`ref.type` is `{other}`, not `ref/prompt` or `ref/resource`"))),
    }
}

async fn relayed(
    gateway: &Gateway,
    entry: &Entry,
    request: &Request,
    params: &RawValue,
    context: &CallContext,
) -> Result<Reply, ErrorObject> {
    match send(gateway, entry, request, params, context).await {
        Ok(result) => Ok(Reply::Whole(result.into())),
        Err(CallError::Server(error)) => Err(translated(error, request.era)),
        Err(error) => Err(failed(entry, &error)),
    }
}

async fn send(
    gateway: &Gateway,
    entry: &Entry,
    request: &Request,
    params: &RawValue,
    context: &CallContext,
) -> Result<Box<RawValue>, CallError> {
    let Route::Server { server, upstream, .. } = &entry.route else {
        return Err(CallError::Gone("it is no server".to_owned()));
    };
    let connection = gateway
        .upstreams
        .get(upstream)
        .ok_or_else(|| CallError::Gone("there is no connection to it".to_owned()))?;
    connection.call(request.method.as_str(), params, server.timeout, context).await
}

/// The parameters under the server's own name, otherwise as they came.
fn renamed<'a>(entry: &Entry, request: &'a Request) -> Result<Cow<'a, RawValue>, ErrorObject> {
    match &entry.route {
        Route::Server { name, .. } if *name != entry.name => {
            raw::set_str(given(request), "name", name).map(Cow::Owned).map_err(|error| unreadable(&error))
        }
        _ => Ok(Cow::Borrowed(given(request))),
    }
}

fn given(request: &Request) -> &RawValue {
    request.params.as_deref().unwrap_or(RawValue::NULL)
}

fn unreadable(error: &wire::WireError) -> ErrorObject {
    invalid(format!("`params` cannot be read: {error}"))
}

/// An error of the server, in codes that a client of this era knows.
fn translated(mut error: ErrorObject, era: Era) -> ErrorObject {
    if era == Era::Modern && error.code == RESOURCE_NOT_FOUND {
        error.code = code::INVALID_PARAMS;
    }
    error
}

fn failed(entry: &Entry, error: &CallError) -> ErrorObject {
    ErrorObject::new(code::INTERNAL_ERROR, explained(entry, error))
}

/// For a model or a person: whose fault it is, and what can be done.
fn explained(entry: &Entry, error: &CallError) -> String {
    let server = &entry.owner.name;
    match error {
        CallError::Cancelled => "the request was cancelled".to_owned(),
        CallError::Timeout(limit) => {
            format!("server `{server}` gave no answer within {} s (its `timeout`)", limit.as_secs())
        }
        CallError::Gone(reason) => {
            format!("server `{server}` cannot be reached: {reason}; it is started again by itself, try later")
        }
        other => format!("server `{server}`: {other}"),
    }
}
