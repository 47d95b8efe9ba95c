//! Tools that a server of 2025-11-25 only runs as tasks of that version (`execution.taskSupport:
//! required`), for clients that know no such tasks: the call is made a task, and its result is waited for.
//!
//! Clients are offered no tasks of that version: they would be of one connection, and there is nobody to
//! list them to. A client that asks for one all the same (`task` in the call) gets a plain answer, as the
//! version says of who does not offer them. Source: MCP 2025-11-25 `basic/utilities/tasks`.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{edited, object};
use crate::catalog::Entry;
use crate::mcp::client::{CallError, Params, Upstream};
use crate::mcp::wire::{Era, WireError, quote, raw};
use crate::ports::CallContext;

/// Marks what belongs to a task, which nobody here was told of.
const RELATED: &str = "io.modelcontextprotocol/related-task";
/// How long a server may take to note that a task is not wanted any more.
const CANCEL: Duration = Duration::from_secs(5);

/// Whether calls of a tool have to be made tasks.
pub(in crate::gateway) fn is_needed(entry: &Entry, connection: &Upstream) -> bool {
    let definition = &entry.definition;
    // Most tools are told apart at sight.
    connection.era() == Era::Legacy
        && definition.contains("taskSupport")
        && serde_json::from_str::<&RawValue>(definition)
            .ok()
            .and_then(|tool| raw::get_str(raw::get(tool, "execution")?, "taskSupport"))
            .is_some_and(|support| support == "required")
}

/// The parameters without members that this server should not see.
pub(in crate::gateway) fn without<'a>(
    params: &'a RawValue,
    keys: &[&str],
) -> Result<Cow<'a, RawValue>, WireError> {
    if params.get() == "null" {
        return Ok(Cow::Borrowed(params));
    }
    if !keys.iter().any(|key| raw::get(params, key).is_some()) {
        return Ok(Cow::Borrowed(params));
    }
    let members = raw::pairs(params, "`params`")?;
    let kept = members.iter().filter(|(key, _)| !keys.contains(&key.as_ref()));
    let kept: Vec<_> = kept.map(|(key, value)| (key.to_string(), value.get().to_owned())).collect();
    raw::into_raw(object(&kept)).map(Cow::Owned)
}

/// Calls a tool, as a task if it has to be one.
pub(in crate::gateway) async fn call(
    connection: &Upstream,
    method: &str,
    params: Params<'_>,
    timeout: Duration,
    context: &CallContext,
    as_task: bool,
) -> Result<Box<RawValue>, CallError> {
    if !as_task {
        return connection.call(method, params, timeout, context).await;
    }
    let params = edited(params.whole().map(Cow::into_owned))?;
    Box::pin(waited(connection, method, &params, timeout, context)).await
}

/// Makes the call a task, and waits for its result.
async fn waited(
    connection: &Upstream,
    method: &str,
    params: &RawValue,
    timeout: Duration,
    context: &CallContext,
) -> Result<Box<RawValue>, CallError> {
    let until = Instant::now() + timeout;
    // Should nobody wait any more, it is over when this is.
    let task = format!("{{\"ttl\":{}}}", timeout.as_millis());
    let params = edited(raw::set(params, &[("task", &task)]).and_then(raw::into_raw))?;
    let begun = connection.call(method, Params::of(&params), timeout, context).await?;
    let id = raw::get(&begun, "task").and_then(|task| raw::get_str(task, "taskId"));
    let Some(id) = id else { return Ok(begun) };
    let about = edited(raw::into_raw(raw::object_of(&[("taskId", &quote(&id))])))?;
    let left = until.saturating_duration_since(Instant::now());
    let result = connection.call("tasks/result", Params::of(&about), left, context).await;
    if matches!(result, Err(CallError::Cancelled | CallError::Timeout(_))) {
        let told = connection.call("tasks/cancel", Params::of(&about), CANCEL, &CallContext::default()).await;
        if let Err(error) = told {
            tracing::debug!(%error, "the server does not take that a task is cancelled");
        }
    }
    let result = result.map_err(|error| match error {
        CallError::Timeout(_) => CallError::Timeout(timeout),
        other => other,
    })?;
    let text = raw::edit_meta(Some(&result), &[], &[RELATED]).map(Cow::into_owned);
    edited(text.and_then(raw::into_raw))
}
