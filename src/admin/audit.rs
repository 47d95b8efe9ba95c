//! Records of calls as they are kept, and the question which of them somebody wants.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::status::Timestamp;

/// Records that are answered unless somebody wants more.
pub const USUAL: usize = 100;
/// Records that one answer holds at most: about 10 MB.
pub const MOST: usize = 10_000;

/// One call. What is not known of it is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AuditRecord {
    /// When it ended.
    pub time: Timestamp,
    pub user: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// `/mcp`, `/mcp/<toolset>` or `/mcp@<revision>`.
    pub endpoint: String,
    /// The published name.
    pub tool: String,
    /// `Tool/greet`, `Server/weather`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The revision that last changed what was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The workload's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner: Option<String>,
    /// `allowed`, `refused`, `hidden` or `unknown`.
    pub decision: String,
    /// The rules that refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What policies with `enforcement: audit` would have refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audited: Vec<String>,
    /// `success`, `tool_error`, `invalid`, `refused`, `server_error`, `timeout`, `unavailable`,
    /// `cancelled` or `task`.
    pub outcome: String,
    /// Of a tool with containers that are started ahead: `warm` when one was there, else `cold`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// The same in the record of a call that was answered with a task and in that of its end, which is
    /// written when the end is first told to whoever called, or when the task is cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    pub duration_us: u64,
    pub request_bytes: usize,
    pub response_bytes: usize,
    /// Those that a policy's `recorded` names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Map<String, Value>>,
    /// Records before this one that the disk was too slow for; such a line has nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
}

/// Which records are wanted: those that fit all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditQuery {
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub user: Option<String>,
    /// A published name; `*` at its end stands for any letters.
    pub tool: Option<String>,
    pub outcome: Option<String>,
    pub decision: Option<String>,
    /// The newest so many. None: [`USUAL`].
    pub limit: Option<usize>,
}

impl AuditQuery {
    pub fn takes(&self, record: &AuditRecord) -> bool {
        let Self { since, until, user, tool, outcome, decision, limit: _ } = self;
        let is = |wanted: &Option<String>, had: &str| wanted.as_ref().is_none_or(|wanted| wanted == had);
        let named = tool.as_ref().is_none_or(|tool| match tool.strip_suffix('*') {
            Some(begin) => record.tool.starts_with(begin),
            None => *tool == record.tool,
        });
        record.lost.is_none()
            && since.is_none_or(|since| record.time >= since)
            && until.is_none_or(|until| record.time < until)
            && is(user, &record.user)
            && is(outcome, &record.outcome)
            && is(decision, &record.decision)
            && named
    }
}

/// The newest records that fit, oldest first.
#[derive(Debug)]
pub struct Found {
    query: AuditQuery,
    limit: usize,
    records: VecDeque<AuditRecord>,
}

impl Found {
    pub fn new(query: AuditQuery) -> Self {
        let limit = query.limit.unwrap_or(USUAL).min(MOST);
        Self { query, limit, records: VecDeque::new() }
    }

    /// Takes a line that was kept. What is no record, such as half a line after a kill, is passed over.
    pub fn line(&mut self, line: &str) {
        let Ok(record) = serde_json::from_str::<AuditRecord>(line) else { return };
        if self.limit > 0 && self.query.takes(&record) {
            if self.records.len() == self.limit {
                self.records.pop_front();
            }
            self.records.push_back(record);
        }
    }

    pub fn records(self) -> Vec<AuditRecord> {
        self.records.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_that_fit_are_found() {
        let line = |n: u64, user: &str, tool: &str| {
            let record = AuditRecord {
                time: Timestamp(n),
                user: user.to_owned(),
                tool: tool.to_owned(),
                outcome: "success".to_owned(),
                ..AuditRecord::default()
            };
            serde_json::to_string(&record).expect("JSON")
        };
        let find = |query: AuditQuery| {
            let mut found = Found::new(query);
            for n in 0..10 {
                found.line(&line(n, if n % 2 == 0 { "ada" } else { "bob" }, "git_log"));
                found.line("{\"lost\":3}");
                found.line("{\"time\":");
            }
            found.records().iter().map(|record| record.time.0).collect::<Vec<_>>()
        };
        let of = |text: &str| serde_json::from_str::<AuditQuery>(text).expect("a query");
        assert_eq!(find(AuditQuery::default()).len(), 10);
        assert_eq!(find(of(r#"{"limit": 2}"#)), [8, 9]);
        assert_eq!(find(of(r#"{"user": "ada", "limit": 2}"#)), [6, 8]);
        assert_eq!(find(of(r#"{"tool": "git_*", "since": "1970-01-01T00:00:08Z"}"#)), [8, 9]);
        assert_eq!(find(of(r#"{"until": "1970-01-01T00:00:02Z"}"#)), [0, 1]);
        assert!(find(of(r#"{"tool": "git"}"#)).is_empty());
        assert!(find(of(r#"{"outcome": "refused"}"#)).is_empty());
        assert!(find(of(r#"{"limit": 0}"#)).is_empty());
    }
}
