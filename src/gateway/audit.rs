//! One record for each call: who, what, where it went, how it ended. Never its arguments.

#![expect(clippy::disallowed_methods, reason = "calls are timed")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::catalog::Entry;
use crate::mcp::server::Request;

/// Hears of each call when it has ended.
pub type Observer = Arc<dyn Fn(&CallRecord<'_>) + Send + Sync>;

/// A call that has ended.
#[derive(Clone, Copy, Debug)]
pub struct CallRecord<'a> {
    pub principal: &'a str,
    pub entry: &'a Entry,
    pub outcome: Outcome,
    pub duration: Duration,
    /// Bytes of the parameters and of the result.
    pub request_bytes: usize,
    pub response_bytes: usize,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Success,
    /// The tool says that it failed.
    ToolError,
    /// The arguments do not fit the schema.
    Invalid,
    /// A rule refused it.
    Refused,
    /// The server answered with an error of the protocol.
    ServerError,
    Timeout,
    /// The server is not there, or says nothing that can be used.
    Unavailable,
    Cancelled,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ToolError => "tool_error",
            Self::Invalid => "invalid",
            Self::Refused => "refused",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Measures a call. Dropped without [`Timed::end`], the call was cancelled.
pub(super) struct Timed<'a> {
    began: Instant,
    request: &'a Request,
    entry: &'a Entry,
    observer: &'a Observer,
    outcome: Outcome,
    response_bytes: usize,
}

impl<'a> Timed<'a> {
    pub(super) fn begin(request: &'a Request, entry: &'a Entry, observer: &'a Observer) -> Self {
        let outcome = Outcome::Cancelled;
        Self { began: Instant::now(), request, entry, observer, outcome, response_bytes: 0 }
    }

    pub(super) fn end(mut self, outcome: Outcome, response_bytes: usize) {
        self.outcome = outcome;
        self.response_bytes = response_bytes;
    }
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        let record = CallRecord {
            principal: &self.request.user().name,
            entry: self.entry,
            outcome: self.outcome,
            duration: self.began.elapsed(),
            request_bytes: self.request.params.as_ref().map_or(0, |params| params.get().len()),
            response_bytes: self.response_bytes,
        };
        tracing::info!(
            target: "toolcrib::audit",
            tool = &*self.entry.name,
            resource = %self.entry.owner,
            revision = &*self.entry.revision,
            principal = record.principal,
            outcome = record.outcome.as_str(),
            duration_us = u64::try_from(record.duration.as_micros()).unwrap_or(u64::MAX),
            request_bytes = record.request_bytes,
            response_bytes = record.response_bytes,
            "call"
        );
        (self.observer)(&record);
    }
}
