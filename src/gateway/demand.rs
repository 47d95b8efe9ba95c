//! Calls of servers of which there may be no instance, or several: each goes to the one with the fewest calls,
//! and waits for one where there is none, or where all work on as many calls as they may.
//!
//! Invariants: rules have let the call pass before anything is started for it; a call goes to an instance of
//! the version that is served; what a client began on one instance goes on there; a server that is started
//! and turns out to offer something else than was listed is not called for what it does not offer.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;

use super::bridge::Began;
use super::relay::Target;
use super::sight::Sight;
use super::{Gateway, bridge, wait};
use crate::catalog::{Entry, List, Route};
use crate::desired::{Scale, Server};
use crate::live::{InstanceId, UpstreamKey};
use crate::mcp::client::{CallError, Group, Lacking, Params, Taken};
use crate::mcp::server::{Method, Request};
use crate::mcp::wire::{ErrorObject, code};
use crate::ports::{CallContext, Unmet};
use crate::resource::server::Sessions;

/// Beyond `startupTimeout`: whoever starts it knows better why it does not come up, and says so by then.
const MARGIN: Duration = Duration::from_secs(15);
/// Versions of a server that come one after the other while a call waits, and instances that end again
/// before it has begun.
const TRIES: usize = 8;
/// How often a call that waits for room says that it does: an instance may have ended.
const AGAIN: Duration = Duration::from_secs(1);

/// Sends a request on to an instance.
pub(super) async fn send(
    gateway: &Gateway,
    target: &Target,
    request: &Request,
    params: Params<'_>,
    context: &CallContext,
) -> Result<Box<RawValue>, CallError> {
    let what = format!("waiting for {} to have an instance for this call", target.entry.owner);
    let choice = Choice { gateway, request, params };
    // What is started for nobody ends when it has not been used for a while.
    let (entry, taken) = wait::told_until_cancelled(context, &what, choice.find(&target.entry)).await?;
    let target = Target {
        entry,
        connection: Some(taken.connection.clone()),
        at: Some(Box::new(taken.key.clone())),
        most: target.most,
    };
    if !choice.is_offered(&target.entry) {
        let message = format!(
            "`{}` is not offered any more: since it was started, its server lists it otherwise or not at all",
            target.entry.name
        );
        return Err(CallError::Server(ErrorObject::new(code::INVALID_PARAMS, message)));
    }
    bridge::sent(gateway, &target, request, params, context).await
}

/// What is wanted of a server, to be told of changes of its resources for example: one of its instances runs
/// from now on.
pub(super) fn wake(gateway: &Gateway) {
    if let Some(starter) = gateway.starter.get() {
        starter.more();
    }
}

/// A call that looks for an instance.
struct Choice<'a> {
    gateway: &'a Gateway,
    request: &'a Request,
    params: Params<'a>,
}

impl Choice<'_> {
    /// An instance of the version that is served, and the entry that leads to it.
    async fn find(&self, first: &Arc<Entry>) -> Result<(Arc<Entry>, Taken), CallError> {
        let mut entry = Arc::clone(first);
        for _ in 0..TRIES {
            let Route::Server { server, upstream, .. } = &entry.route else { break };
            let began = self.began(&entry, server);
            match self.take(server, upstream, began).await? {
                Some(taken) => return Ok((entry, taken)),
                None => entry = self.newest(&entry).ok_or_else(replaced)?,
            }
        }
        Err(replaced())
    }

    /// An instance of this version; none when another one is served by now.
    async fn take(
        &self,
        server: &Server,
        any: &UpstreamKey,
        began: Option<Began>,
    ) -> Result<Option<Taken>, CallError> {
        let group = self.gateway.upstreams.group(any);
        let prefers = |instance: &InstanceId| began.as_ref().is_some_and(|began| began.is_on(instance));
        let most = server.concurrency.unwrap_or(u32::MAX);
        let until = Instant::now() + server.timeout;
        let mut waiting = None;
        let mut starts = 0;
        loop {
            let changed = group.changed();
            match group.take(any, most, prefers) {
                Ok((taken, calls)) => {
                    if calls >= Scale::busy(server.concurrency) && server.scale.max > 1 {
                        self.more(&group);
                    }
                    return Ok(Some(taken));
                }
                Err(Lacking::None) if starts == TRIES => return Err(replaced()),
                Err(Lacking::None) => {
                    starts += 1;
                    waiting.get_or_insert_with(|| group.wait());
                    if !self.start(server, any).await? {
                        return Ok(None);
                    }
                }
                Err(Lacking::Room(there)) => {
                    waiting.get_or_insert_with(|| group.wait());
                    if there < server.scale.max as usize {
                        self.more(&group);
                    }
                    if until <= Instant::now() {
                        let why = format!("each of its {there} instances works on as many calls as it may");
                        return Err(CallError::NotStarted(why));
                    }
                    // Cancel-safe: both are looked at again.
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(until.min(Instant::now() + AGAIN)) => {}
                    }
                }
            }
        }
    }

    /// Has one started; false when another version is served by now.
    async fn start(&self, server: &Server, any: &UpstreamKey) -> Result<bool, CallError> {
        let nobody = || CallError::NotStarted("nothing is started here".to_owned());
        let starter = self.gateway.starter.get().ok_or_else(nobody)?;
        let limit = server.startup_timeout + MARGIN;
        match tokio::time::timeout(limit, starter.start(any)).await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(Unmet::Replaced)) => Ok(false),
            Ok(Err(Unmet::Failed(error))) => {
                let hint = error.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
                Err(CallError::NotStarted(format!("{}{hint}", error.chain())))
            }
            Err(_) => Err(CallError::NotStarted(format!("it was not there within {} s", limit.as_secs()))),
        }
    }

    fn more(&self, group: &Arc<Group>) {
        if group.asks() {
            wake(self.gateway);
        }
    }

    /// Where the client went on before.
    fn began(&self, entry: &Entry, server: &Server) -> Option<Began> {
        let alone = server.sessions == Sessions::Shared || server.scale.max == 1;
        if alone { None } else { self.gateway.bridge.began(self.request, entry, self.params.given()) }
    }

    /// The same entry as the newest catalog routes it; none when that does so no otherwise.
    fn newest(&self, entry: &Arc<Entry>) -> Option<Arc<Entry>> {
        let Route::Server { upstream: before, name, .. } = &entry.route else { return None };
        let catalog = self.gateway.catalogs.at(&self.request.scope)?;
        let lists = [List::Tools, List::Prompts, List::Resources, List::Templates];
        let mut all = lists.into_iter().flat_map(|list| catalog.entries(list).values());
        let now = all.find(|other| other.owner == entry.owner)?;
        let Route::Server { server, upstream, .. } = &now.route else { return None };
        (upstream != before).then(|| {
            let (server, upstream, name) = (Arc::clone(server), upstream.clone(), Arc::clone(name));
            let mut entry = Entry::clone(entry);
            entry.route = Route::Server { server, upstream, name };
            Arc::new(entry)
        })
    }

    /// Whether the newest catalog has what is called.
    fn is_offered(&self, entry: &Entry) -> bool {
        let scope = &self.request.scope;
        let catalog = self.gateway.catalogs.at(scope);
        let Some(sight) = catalog.and_then(|catalog| Sight::of(catalog, scope)) else { return false };
        let found = match self.request.method {
            Method::ToolsCall => sight.get(List::Tools, &entry.name),
            Method::PromptsGet => sight.get(List::Prompts, &entry.name),
            Method::ResourcesRead => self.request.name.as_deref().and_then(|uri| sight.resource(uri)),
            _ => return true,
        };
        found.is_some_and(|found| found.owner == entry.owner)
    }
}

fn replaced() -> CallError {
    CallError::NotStarted("it has just been replaced, or ended again; try again".to_owned())
}
