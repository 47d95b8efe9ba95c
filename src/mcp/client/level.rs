//! Which log messages a legacy server is to send.

use std::sync::PoisonError;
use std::time::Duration;

use futures::future::BoxFuture;

use super::{CallError, Params, Upstream};
use crate::mcp::wire::{Era, raw};
use crate::ports::{CallContext, Logs};

/// How long a server may take to note which messages are wanted.
const SET_LEVEL: Duration = Duration::from_secs(5);

impl Upstream {
    /// Has a legacy server log what somebody asked for; modern ones are told in each request. What is
    /// more than others asked for is not shown to them.
    /// None: there is nothing to tell it.
    pub(super) fn set_level(&self, logs: Option<Logs>) -> Option<BoxFuture<'_, ()>> {
        let Some(Logs::From(wanted)) = logs.filter(|_| self.era == Era::Legacy) else { return None };
        // What a lost session was told, the one in its place has not heard.
        let session = *self.inbox.renewed().borrow();
        {
            let mut told = self.level.lock().unwrap_or_else(PoisonError::into_inner);
            if told.is_some_and(|(of, lowest)| of == session && lowest <= wanted) || !self.logs {
                return None;
            }
            *told = Some((session, wanted));
        }
        let params = raw::into_raw(format!("{{\"level\":{}}}", wanted.as_json())).ok()?;
        Some(Box::pin(async move {
            let alone = CallContext::default();
            let told = self.exchange("logging/setLevel", Some(Params::of(&params)), &alone);
            // A server that does not answer it may well answer the call.
            if let Ok(Err(failure)) = tokio::time::timeout(SET_LEVEL, told).await {
                tracing::debug!(error = %CallError::from(failure), "the server does not take a log level");
            }
        }))
    }
}
