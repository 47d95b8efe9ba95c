//! `tools/call`: find the entry, ask the rules, check arguments, send it where it goes.

use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::audit::{Outcome, Timed};
use super::authorize::{Rules, Verdict};
use super::limit::{Busy, Leave};
use super::search::{self, Form};
use super::{Gateway, Reply, error_text, invalid, relay, task, tool_error, wait};
use crate::catalog::{Entry, List, ReadyTool, Route};
use crate::mcp::server::{Request, Scope};
use crate::mcp::wire::{ErrorObject, raw};
use crate::policy::limit::{self, Given};
use crate::ports::{CallContext, Executed, ToolCall};
use crate::resource::{Kind, ResourceId};

/// A result, or what could not be answered with one; and how it ended.
type Ended = (Result<Reply, ErrorObject>, Outcome);

pub(super) async fn call(
    gateway: &Gateway,
    request: &Request,
    context: &CallContext,
) -> Result<Reply, ErrorObject> {
    if request.scope != Scope::All
        && let (Ok(sight), Some(name)) = (gateway.catalogs.sight(&request.scope), request.name.as_deref())
    {
        match search::form(&sight, name) {
            Some(Form::Find(form)) => return Box::pin(search::find(gateway, &sight, request, form)).await,
            Some(Form::Call) => return Box::pin(search::call(gateway, request, context)).await,
            None => {}
        }
    }
    direct(gateway, request, context).await
}

/// A call of a tool under its own name.
pub(super) async fn direct(
    gateway: &Gateway,
    request: &Request,
    context: &CallContext,
) -> Result<Reply, ErrorObject> {
    let name = request.name.as_deref().ok_or_else(|| invalid("`params.name` is no string"))?;
    let unknown = || invalid(format!("unknown tool `{name}`"));
    let found = relay::target(gateway, request, |sight| sight.get(List::Tools, name));
    let entry = found.as_ref().map(|target| Arc::clone(&target.entry));
    let mut timed = Timed::begin(request, name, entry.as_deref(), &gateway.observer);
    let (Some(mut target), Some(entry)) = (found, entry.as_deref()) else { return Err(unknown()) };
    let rules = gateway.rules.load_full();
    let needed = rules.asks() || matches!(entry.route, Route::Tool(_));
    let arguments = match if needed { arguments(request) } else { Ok(Map::new()) } {
        Ok(arguments) => arguments,
        Err(error) => {
            timed.end(Outcome::Invalid, 0);
            return Err(error);
        }
    };
    let judged = rules.decide(entry, request.user(), &arguments).await;
    timed.judged(&judged, &arguments);
    if !judged.limits.is_empty() {
        target.entry = Arc::new(lowered(entry, &judged.limits));
        target.most = limit::output(&judged.limits);
    }
    let entry = &*target.entry;
    let (result, outcome) = match judged.verdict {
        Verdict::Hidden => (Err(unknown()), Outcome::Refused),
        Verdict::Refused(reason) => {
            (Ok(tool_error(&format!("the call of `{name}` was refused: {reason}"))), Outcome::Refused)
        }
        Verdict::Allowed => match enter(gateway, &rules, entry, context).await {
            Err(busy) => refused(&busy),
            Ok(leave) => match &entry.route {
                Route::Tool(tool) => run(gateway, (entry, tool), arguments, context, &mut timed).await,
                Route::Server { server, .. } => {
                    let ended = relay::tool(gateway, &target, request, context).await;
                    if let (Ok(Reply::Whole(text)), Outcome::Task) = &ended {
                        task::counts(gateway, text, leave, server.timeout);
                    }
                    short(ended, &judged.limits)
                }
            },
        },
    };
    let bytes = match &result {
        Ok(Reply::Whole(text)) => text.len(),
        _ => 0,
    };
    if let (Outcome::Task, Ok(Reply::Whole(text))) = (outcome, &result) {
        timed.began_task(text);
    }
    timed.end(outcome, bytes);
    result
}

/// The entry with what rules limit lowered for this call.
fn lowered(entry: &Entry, limits: &Given) -> Entry {
    let mut entry = entry.clone();
    match &mut entry.route {
        Route::Tool(ready) => ready.tool = Arc::new(limit::lowered(&ready.tool, limits)),
        Route::Server { server, .. } => {
            if let Some(most) = limit::timeout(limits).filter(|most| *most < server.timeout) {
                Arc::make_mut(server).timeout = most;
            }
        }
    }
    entry
}

/// What a server answered, unless rules allow less.
fn short((result, outcome): Ended, limits: &Given) -> Ended {
    match (&result, limit::output(limits)) {
        (Ok(Reply::Whole(text)), Some(most)) if text.len() as u64 > most && outcome != Outcome::Task => {
            (Ok(Reply::Whole(too_long(text.len(), most).into())), Outcome::ToolError)
        }
        _ => (result, outcome),
    }
}

/// Instead of a result of `bytes`, of which rules allow at most so many.
pub(super) fn too_long(bytes: usize, most: u64) -> String {
    error_text(&format!("the answer has {bytes} bytes, and {most} are allowed (rule `limits`)"))
}

/// Waits until what is called may work on one more call.
async fn enter(
    gateway: &Gateway,
    rules: &Rules,
    entry: &Entry,
    context: &CallContext,
) -> Result<Leave, Busy> {
    let (most, timeout, runner) = match &entry.route {
        Route::Tool(ready) => {
            (ready.tool.concurrency, ready.tool.timeout, rules.runners.get(&ready.tool.runner))
        }
        Route::Server { server, .. } => {
            let most = server.concurrency.map(|most| most.saturating_mul(server.scale.max));
            (most, server.timeout, None)
        }
    };
    let own = most.map(|most| (entry.owner.clone(), most));
    let slots =
        runner.and_then(|runner| Some((ResourceId::new(Kind::Runner, runner.name.clone()), runner.slots?)));
    if own.is_none() && slots.is_none() {
        return Ok(Leave::default());
    }
    let wanted: Vec<_> = own.into_iter().chain(slots).collect();
    let what = format!("waiting until {} has room for this call", entry.owner);
    wait::told(context, &what, gateway.limits.enter(&wanted, timeout, &context.cancel)).await
}

fn refused(busy: &Busy) -> Ended {
    match busy {
        Busy::Cancelled => (Ok(tool_error("the call was cancelled before it began")), Outcome::Cancelled),
        Busy::Full(why) => (Ok(tool_error(why)), Outcome::Unavailable),
    }
}

async fn run(
    gateway: &Gateway,
    (entry, tool): (&Entry, &ReadyTool),
    arguments: Map<String, Value>,
    context: &CallContext,
    timed: &mut Timed<'_>,
) -> Ended {
    let arguments = Value::Object(arguments);
    if let Some(schema) = entry.input_schema()
        && let Err(error) = gateway.schemas.check(schema, &arguments)
    {
        return (Ok(tool_error(&error.to_string())), Outcome::Invalid);
    }
    // It was made from a map above.
    let Value::Object(arguments) = arguments else { return (Err(invalid("no arguments")), Outcome::Invalid) };
    let call =
        ToolCall { arguments: &arguments, revision: &entry.revision, principal: Some(timed.principal()) };
    let Executed { result, start } = gateway.executor.execute(tool, call, context).await;
    timed.start = start;
    let outcome = ended(&result);
    (Ok(Reply::Whole(result.into())), outcome)
}

/// Whether a result says that the tool failed. In a JSON string the quotes would be escaped, so that
/// only a member can match.
pub(super) fn ended(result: &str) -> Outcome {
    let failed = result.contains("\"isError\":true") || result.contains("\"isError\": true");
    if failed { Outcome::ToolError } else { Outcome::Success }
}

/// The arguments; none are an empty object.
pub(super) fn arguments(request: &Request) -> Result<Map<String, Value>, ErrorObject> {
    let given = request.params.as_deref().and_then(|params: &RawValue| raw::get(params, "arguments"));
    match given {
        None => Ok(Map::new()),
        Some(raw) if raw.get() == "null" => Ok(Map::new()),
        Some(raw) => serde_json::from_str(raw.get()).map_err(|_| invalid("`params.arguments` is no object")),
    }
}
