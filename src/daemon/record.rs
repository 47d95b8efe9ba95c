//! Calls as metrics and as records.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::publish::SystemClock;
use crate::gateway::{CallRecord, Observer, Outcome};
use crate::ports::{Clock as _, Start};
use crate::status::Timestamp;
use crate::telemetry::{Journal, Metrics};

/// Bytes of a record without arguments, and some more.
const USUAL: usize = 512;

/// Tells metrics and journal of each call.
pub(super) fn observer(metrics: &Arc<Metrics>, journal: &Arc<Journal>) -> Observer {
    let (metrics, journal) = (Arc::clone(metrics), Arc::clone(journal));
    Arc::new(move |call| {
        if let (Some(entry), Some(start)) = (call.entry, call.start) {
            metrics.start(&entry.name, start.as_str());
        }
        // A task is counted when it has ended.
        if let Some(entry) = call.entry.filter(|_| call.outcome != Outcome::Task) {
            metrics.execution(&entry.name, call.outcome == Outcome::Success, call.duration);
        }
        // A record is JSON whatever it says.
        let mut line = Vec::with_capacity(USUAL);
        if serde_json::to_writer(&mut line, &Line::of(call, SystemClock.now().into())).is_ok() {
            journal.keep(line);
        }
    })
}

/// An [`crate::admin::audit::AuditRecord`] as it is written, out of what a call has: nothing of it is
/// copied before.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    time: Timestamp,
    user: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    groups: &'a [String],
    endpoint: Shown<'a>,
    tool: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<Shown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Shown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runner: Option<&'a str>,
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    audited: &'a [String],
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'a str>,
    duration_us: u64,
    request_bytes: usize,
    response_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<&'a Map<String, Value>>,
}

impl<'a> Line<'a> {
    fn of(call: &CallRecord<'a>, time: Timestamp) -> Self {
        Self {
            time,
            user: &call.principal.name,
            groups: &call.principal.groups,
            endpoint: Shown(call.scope),
            tool: call.tool,
            resource: call.entry.map(|entry| Shown(&entry.owner)),
            revision: call.entry.map(|entry| &*entry.revision),
            digest: call.entry.map(|entry| Shown(&entry.digests().workload)),
            runner: call.runner,
            decision: call.decision,
            rule: call.rule,
            audited: call.audited,
            outcome: call.outcome.as_str(),
            start: call.start.map(Start::as_str),
            task: call.task,
            duration_us: u64::try_from(call.duration.as_micros()).unwrap_or(u64::MAX),
            request_bytes: call.request_bytes,
            response_bytes: call.response_bytes,
            arguments: call.arguments,
        }
    }
}

/// What is written as it is shown.
struct Shown<'a>(&'a dyn fmt::Display);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::admin::audit::AuditRecord;
    use crate::mcp::server::Scope;
    use crate::policy::Principal;

    #[test]
    fn what_is_written_is_the_record_that_is_read() {
        let principal = Principal {
            name: "ada \"l\"".to_owned(),
            groups: vec!["dev".to_owned(), "é".to_owned()],
            ..Principal::default()
        };
        let arguments = serde_json::json!({"city": "Bern"});
        let (scope, audited) = (Scope::Toolset("data".into()), ["p: r".to_owned()]);
        let full = CallRecord {
            principal: &principal,
            scope: &scope,
            tool: "git_log",
            entry: None,
            decision: "refused",
            rule: Some("not\nhere"),
            audited: &audited,
            arguments: arguments.as_object(),
            runner: Some("local"),
            outcome: Outcome::Refused,
            start: Some(Start::Warm),
            task: Some("t1"),
            duration: Duration::from_micros(7),
            request_bytes: 1,
            response_bytes: 2,
        };
        let nobody = Principal::default();
        let bare = CallRecord {
            principal: &nobody,
            scope: &Scope::All,
            rule: None,
            audited: &[],
            arguments: None,
            runner: None,
            start: None,
            task: None,
            ..full
        };
        for call in [full, bare] {
            let line = serde_json::to_string(&Line::of(&call, Timestamp(86_400))).expect("JSON");
            let read: AuditRecord = serde_json::from_str(&line).expect("a record");
            assert_eq!(serde_json::to_string(&read).expect("JSON"), line);
            assert_eq!((read.user, read.outcome), (call.principal.name.clone(), "refused".to_owned()));
        }
    }
}
