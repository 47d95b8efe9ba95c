//! Requests that a server answers: sent on under the server's own names, answered as it answers.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::audit::Outcome;
use super::links::Links;
use super::sight::Sight;
use super::{Gateway, Reply, bridge, call, demand, invalid, personal, task, tool_error};
use crate::catalog::{Entry, List, Route};
use crate::live::UpstreamKey;
use crate::mcp::client::{CallError, Held, Params, Watch};
use crate::mcp::server::Request;
use crate::mcp::wire::{self, Era, ErrorObject, code, raw};
use crate::ports::CallContext;

/// Resource not found, before 2026-07-28; there it is `INVALID_PARAMS`.
const RESOURCE_NOT_FOUND: i64 = -32002;

/// An entry, and the connection to its server.
pub(super) struct Target {
    pub(super) entry: Arc<Entry>,
    pub(super) connection: Option<Held>,
    /// The instance that it leads to, where the entry leads to any.
    pub(super) at: Option<Box<UpstreamKey>>,
    /// Bytes that a result may have, where rules limit that.
    pub(super) most: Option<u64>,
}

impl Target {
    /// The instance that the connection leads to.
    pub(super) fn upstream(&self) -> Option<&UpstreamKey> {
        match &self.entry.route {
            Route::Server { upstream, .. } => Some(self.at.as_deref().unwrap_or(upstream)),
            Route::Tool(_) => None,
        }
    }
}

/// Finds an entry at the endpoint of a request. Between the look at the catalog and the look at the
/// connection an instance may be replaced; then the newer catalog knows the other one.
pub(super) fn target(
    gateway: &Gateway,
    request: &Request,
    find: impl Fn(&Sight) -> Option<&Arc<Entry>>,
) -> Option<Target> {
    let scope = &request.scope;
    let mut catalog = gateway.catalogs.at(scope)?;
    loop {
        let sight = Sight::of(Arc::clone(&catalog), scope)?;
        let entry = Arc::clone(find(&sight)?);
        let Route::Server { upstream, .. } = &entry.route else {
            return Some(Target { entry, connection: None, at: None, most: None });
        };
        let connection = gateway.upstreams.hold(upstream);
        let newest = gateway.catalogs.at(scope)?;
        if connection.is_some() || Arc::ptr_eq(&catalog, &newest) {
            return Some(Target { entry, connection, at: None, most: None });
        }
        catalog = newest;
    }
}

/// Sends a call of a tool on. What keeps the server from answering is told in the result.
pub(super) async fn tool(
    gateway: &Gateway,
    target: &Target,
    request: &Request,
    context: &CallContext,
) -> (Result<Reply, ErrorObject>, Outcome) {
    let entry = &target.entry;
    let params = renamed(entry, request);
    match bridge::send(gateway, target, request, params, context).await {
        Ok(result) => {
            let result = published(gateway, entry, request, &result).unwrap_or(result);
            let outcome = if task::is_task(&result) { Outcome::Task } else { call::ended(result.get()) };
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
    let unknown = || invalid(format!("unknown prompt `{name}`"));
    let target = target(gateway, request, |sight| sight.get(List::Prompts, name)).ok_or_else(unknown)?;
    if gateway.rules.load().hides(List::Prompts, &target.entry, request.user()) {
        return Err(unknown());
    }
    relayed(gateway, &target, request, renamed(&target.entry, request), context).await
}

pub(super) async fn resource(
    gateway: &Gateway,
    request: &Request,
    context: &CallContext,
) -> Result<Reply, ErrorObject> {
    let uri = request.name.as_deref().ok_or_else(|| invalid("`params.uri` is no string"))?;
    let target = resource_of(gateway, request, uri)?;
    let params = match own(&target.entry, uri) {
        Some(own) => Params::renamed_to(given(request), "uri", own),
        None => Params::of(given(request)),
    };
    relayed(gateway, &target, request, params, context).await
}

/// Who answers for a resource, to this principal.
fn resource_of(gateway: &Gateway, request: &Request, uri: &str) -> Result<Target, ErrorObject> {
    let (rules, user) = (gateway.rules.load_full(), request.user());
    let found = target(gateway, request, |sight| {
        sight.resource(uri).filter(|entry| !rules.hides_uri(&sight.catalog, uri, entry, user))
    });
    found.ok_or_else(|| {
        let code = if request.era == Era::Modern { code::INVALID_PARAMS } else { RESOURCE_NOT_FOUND };
        ErrorObject::new(code, format!("unknown resource `{uri}`"))
    })
}

/// Begins to hear of changes of a resource.
pub(super) fn watch(gateway: &Gateway, request: &Request, uri: &str) -> Result<Watch, ErrorObject> {
    let target = resource_of(gateway, request, uri)?;
    let server = &target.entry.owner.name;
    let is_personal =
        matches!(&target.entry.route, Route::Server { server, .. } if personal::wanted(server).is_some());
    if is_personal {
        // Its only standing connection is somebody's own.
        let message =
            format!("server `{server}` is asked as each user, and changes of its resources are not told");
        return Err(ErrorObject::new(code::METHOD_NOT_FOUND, message));
    }
    if target.connection.as_ref().is_some_and(|connection| !connection.tells_of_resources()) {
        let message = format!("server `{server}` does not tell of changes of its resources");
        return Err(ErrorObject::new(code::METHOD_NOT_FOUND, message));
    }
    let watch = gateway.upstreams.watch(server, own(&target.entry, uri).unwrap_or(uri)).ok_or_else(|| {
        let message = format!("too many resources of server `{server}` are subscribed to; try again later");
        ErrorObject::new(code::INTERNAL_ERROR, message)
    })?;
    if target.connection.is_none() {
        // Nobody tells of anything before it runs.
        demand::wake(gateway);
    }
    Ok(watch)
}

/// The server's own URI, where it is published under another.
fn own<'a>(entry: &Entry, uri: &'a str) -> Option<&'a str> {
    let Route::Server { server, .. } = &entry.route else { return None };
    uri.strip_prefix(server.presented.resources_prefix.as_deref()?)
}

/// A result with the URIs under which resources of the server are published. None: as it is.
pub(super) fn published(
    gateway: &Gateway,
    entry: &Entry,
    request: &Request,
    result: &RawValue,
) -> Option<Box<RawValue>> {
    let Route::Server { server, .. } = &entry.route else { return None };
    let prefix = server.presented.resources_prefix.as_deref()?;
    let catalog = gateway.catalogs.at(&request.scope)?;
    Links { prefix, catalog: &catalog }.published(result)
}

/// Completes an argument of a prompt or of a resource template.
pub(super) async fn complete(
    gateway: &Gateway,
    request: &Request,
    context: &CallContext,
) -> Result<Reply, ErrorObject> {
    let params = given(request);
    let reference = raw::get(params, "ref").ok_or_else(|| invalid("`params.ref` is missing"))?;
    let kind = raw::get_str(reference, "type").unwrap_or_default();
    let unknown = |name: &str| invalid(format!("unknown reference `{name}`"));
    match kind.as_ref() {
        "ref/prompt" => {
            let name = raw::get_str(reference, "name").ok_or_else(|| invalid("`ref.name` is no string"))?;
            let target = target(gateway, request, |sight| sight.get(List::Prompts, &name));
            let target = target.ok_or_else(|| unknown(&name))?;
            if gateway.rules.load().hides(List::Prompts, &target.entry, request.user()) {
                return Err(unknown(&name));
            }
            let Route::Server { name: own, .. } = &target.entry.route else { return Err(unknown(&name)) };
            let reference = raw::set_str(reference, "name", own).map_err(|error| unreadable(&error))?;
            let text = raw::set(params, &[("ref", reference.get())]).map_err(|error| unreadable(&error))?;
            let params = raw::into_raw(text).map_err(|error| unreadable(&error))?;
            relayed(gateway, &target, request, Params::of(&params), context).await
        }
        "ref/resource" => {
            let uri = raw::get_str(reference, "uri").ok_or_else(|| invalid("`ref.uri` is no string"))?;
            let (rules, user) = (gateway.rules.load_full(), request.user());
            let target = target(gateway, request, |sight| {
                let found = sight.get(List::Templates, &uri).or_else(|| sight.resource(&uri));
                found.filter(|entry| !rules.hides_uri(&sight.catalog, &uri, entry, user))
            });
            let target = target.ok_or_else(|| unknown(&uri))?;
            let Some(own) = own(&target.entry, &uri) else {
                return relayed(gateway, &target, request, Params::of(params), context).await;
            };
            let reference = raw::set_str(reference, "uri", own).map_err(|error| unreadable(&error))?;
            let text = raw::set(params, &[("ref", reference.get())]).map_err(|error| unreadable(&error))?;
            let params = raw::into_raw(text).map_err(|error| unreadable(&error))?;
            relayed(gateway, &target, request, Params::of(&params), context).await
        }
        other => Err(invalid(format!("`ref.type` is `{other}`, not `ref/prompt` or `ref/resource`"))),
    }
}

async fn relayed(
    gateway: &Gateway,
    target: &Target,
    request: &Request,
    params: Params<'_>,
    context: &CallContext,
) -> Result<Reply, ErrorObject> {
    match bridge::send(gateway, target, request, params, context).await {
        Ok(result) => {
            Ok(Reply::Whole(published(gateway, &target.entry, request, &result).unwrap_or(result).into()))
        }
        Err(CallError::Server(error)) => Err(translated(error, request.era)),
        Err(error) => Err(failed(&target.entry, &error)),
    }
}

/// The parameters under the server's own name, otherwise as they came.
fn renamed<'a>(entry: &'a Entry, request: &'a Request) -> Params<'a> {
    match &entry.route {
        Route::Server { name, .. } if *name != entry.name => Params::renamed_to(given(request), "name", name),
        _ => Params::of(given(request)),
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

pub(super) fn failed(entry: &Entry, error: &CallError) -> ErrorObject {
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
