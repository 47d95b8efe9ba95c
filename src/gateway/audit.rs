//! One record for each call: who, what, where it went, what was decided, how it ended.
//!
//! Of its arguments only what a policy's `recorded` names, bounded, and never what is a secret by its
//! name, schema or value.

#![expect(clippy::disallowed_methods, reason = "calls are timed")]

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::authorize::{Judged, Verdict, runner_of};
use crate::catalog::Entry;
use crate::manifest::credential;
use crate::mcp::server::{Request, Scope};
use crate::mcp::wire::raw;
use crate::policy::{Principal, Recorded};
use crate::ports::{Mask, Start};
use crate::resource::Digest;

/// Characters of one recorded argument; longer ones are cut and say so.
const MAX_VALUE: usize = 200;
/// Arguments that one record holds.
const MAX_ARGUMENTS: usize = 32;
/// Bytes of a name that nothing need have: of an unknown tool, or an argument.
const MAX_UNKNOWN: usize = 64;
/// What stands where a secret would.
const MASKED: &str = "[secret]";

/// Hears of each call when it has ended.
pub type Observer = Arc<dyn Fn(&CallRecord<'_>) + Send + Sync>;

/// Who hears of calls, and what takes secrets out before.
pub(super) struct Recorder {
    observer: Observer,
    mask: OnceLock<Arc<dyn Mask>>,
}

impl Recorder {
    pub(super) fn new(observer: Observer) -> Self {
        Self { observer, mask: OnceLock::new() }
    }

    /// Said once, when the daemon is put together.
    pub(super) fn set(&self, mask: Arc<dyn Mask>) {
        drop(self.mask.set(mask));
    }
}

impl Mask for Recorder {
    fn masked<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.mask.get().map_or(Cow::Borrowed(text), |mask| mask.masked(text))
    }
}

/// A call that has ended.
#[derive(Clone, Copy, Debug)]
pub struct CallRecord<'a> {
    pub principal: &'a Principal,
    /// The endpoint it came to.
    pub scope: &'a Scope,
    /// The name that was called; bounded.
    pub tool: &'a str,
    /// None: there is no such tool at that endpoint.
    pub entry: Option<&'a Entry>,
    /// `allowed`, `refused`, `hidden` or `unknown`.
    pub decision: &'static str,
    /// The rules that refuse, in their words.
    pub rule: Option<&'a str>,
    /// What policies with `enforcement: audit` would have refused.
    pub audited: &'a [String],
    /// Those that may be recorded.
    pub arguments: Option<&'a Map<String, Value>>,
    pub runner: Option<&'a str>,
    pub outcome: Outcome,
    /// What a tool with containers that are started ahead ran in.
    pub start: Option<Start>,
    /// The task that the call began, or whose end this is.
    pub task: Option<&'a str>,
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
    /// A rule refused it, or there is no such tool for whoever asked.
    Refused,
    /// The server answered with an error of the protocol.
    ServerError,
    Timeout,
    /// The server is not there, or says nothing that can be used.
    Unavailable,
    Cancelled,
    /// The server answered with a task; how that ends has a record of its own.
    Task,
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
            Self::Task => "task",
        }
    }
}

/// Measures a call. Dropped without [`Timed::end`], the call was cancelled.
pub(super) struct Timed<'a> {
    began: Instant,
    request: &'a Request,
    tool: &'a str,
    entry: Option<&'a Entry>,
    observer: &'a Recorder,
    decision: &'static str,
    rule: Option<String>,
    audited: Vec<String>,
    arguments: Option<Map<String, Value>>,
    outcome: Outcome,
    pub(super) start: Option<Start>,
    task: Option<String>,
    response_bytes: usize,
}

impl<'a> Timed<'a> {
    pub(super) fn begin(
        request: &'a Request,
        tool: &'a str,
        entry: Option<&'a Entry>,
        observer: &'a Recorder,
    ) -> Self {
        Self {
            began: Instant::now(),
            request,
            tool,
            entry,
            observer,
            decision: if entry.is_some() { "undecided" } else { "unknown" },
            rule: None,
            audited: Vec::new(),
            arguments: None,
            outcome: if entry.is_some() { Outcome::Cancelled } else { Outcome::Refused },
            start: None,
            task: None,
            response_bytes: 0,
        }
    }

    /// Who calls.
    pub(super) fn principal(&self) -> &'a Principal {
        self.request.user()
    }

    /// A call of a tool of our own: whoever may use the endpoint may call it.
    pub(super) fn own(request: &'a Request, tool: &'a str, observer: &'a Recorder) -> Self {
        let mut timed = Self::begin(request, tool, None, observer);
        (timed.decision, timed.outcome) = ("allowed", Outcome::Cancelled);
        timed
    }

    /// Notes what was decided, and of the arguments what may be recorded.
    pub(super) fn judged(&mut self, judged: &Judged, arguments: &Map<String, Value>) {
        self.decision = match &judged.verdict {
            Verdict::Allowed => "allowed",
            Verdict::Hidden => "hidden",
            Verdict::Refused(why) => {
                self.rule = Some(self.observer.masked(why).into_owned());
                "refused"
            }
        };
        self.audited = judged.audited.iter().map(|why| self.observer.masked(why).into_owned()).collect();
        let schema = self.entry.and_then(Entry::input_schema);
        self.arguments =
            judged.recorded.as_ref().map(|recorded| shown(recorded, arguments, schema, self.observer));
    }

    /// The end of a task that a call began with.
    pub(super) fn task(
        request: &'a Request,
        entry: &'a Entry,
        observer: &'a Recorder,
        began: Instant,
        id: &str,
    ) -> Self {
        let mut timed = Self::begin(request, &entry.name, Some(entry), observer);
        (timed.began, timed.decision, timed.task) = (began, "allowed", Some(shortened(id)));
        timed
    }

    /// The call was answered with this task.
    pub(super) fn began_task(&mut self, result: &str) {
        let result: Option<&RawValue> = serde_json::from_str(result).ok();
        let id = result.and_then(|result| raw::get_str(result, "taskId"));
        self.task = id.map(|id| shortened(&id));
    }

    pub(super) fn end(mut self, outcome: Outcome, response_bytes: usize) {
        self.outcome = outcome;
        self.response_bytes = response_bytes;
    }
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        let made_up = match self.entry {
            Some(_) => Cow::Borrowed(""),
            None => self.observer.masked(self.tool),
        };
        let tool = self.entry.map_or_else(|| cut(&made_up), |entry| &entry.name);
        let record = CallRecord {
            principal: self.request.user(),
            scope: &self.request.scope,
            tool,
            entry: self.entry,
            decision: self.decision,
            rule: self.rule.as_deref(),
            audited: &self.audited,
            arguments: self.arguments.as_ref(),
            runner: self.entry.and_then(runner_of).map(crate::resource::Name::as_str),
            outcome: self.outcome,
            start: self.start,
            task: self.task.as_deref(),
            duration: self.began.elapsed(),
            request_bytes: self.request.params.as_ref().map_or(0, |params| params.get().len()),
            response_bytes: self.response_bytes,
        };
        // Every call is a record (`toolcrib audit`); a line of the log as well costs one in fifteen calls.
        tracing::debug!(
            target: "toolcrib::audit",
            tool = record.tool,
            resource = record.entry.map(|entry| tracing::field::display(&entry.owner)),
            revision = record.entry.map(|entry| &*entry.revision),
            principal = record.principal.name,
            decision = record.decision,
            outcome = record.outcome.as_str(),
            start = record.start.map(Start::as_str),
            task = record.task,
            duration_us = u64::try_from(record.duration.as_micros()).unwrap_or(u64::MAX),
            request_bytes = record.request_bytes,
            response_bytes = record.response_bytes,
            "call"
        );
        (self.observer.observer)(&record);
    }
}

/// The beginning of a name that anybody may have made up.
fn cut(name: &str) -> &str {
    name.get(..name.floor_char_boundary(MAX_UNKNOWN)).unwrap_or_default()
}

/// What a task is called in records: its id lets who has it ask for it.
fn shortened(id: &str) -> String {
    Digest::of_bytes(id.as_bytes()).short()
}

/// The arguments that may be recorded, short ones as they are, secrets masked.
fn shown(
    recorded: &Recorded,
    arguments: &Map<String, Value>,
    schema: Option<&str>,
    mask: &dyn Mask,
) -> Map<String, Value> {
    let schema: Value = schema.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let named = arguments.iter().filter(|(name, _)| recorded.holds(name)).take(MAX_ARGUMENTS);
    let shown = named.map(|(name, value)| {
        let property = schema.get("properties").and_then(|all| all.get(name)).unwrap_or(&Value::Null);
        let secret = credential(name)
            || property.get("writeOnly") == Some(&Value::Bool(true))
            || property.get("format").is_some_and(|format| format == "password");
        // Before it is cut: of a secret nothing may be left.
        let value = if secret { MASKED.into() } else { masked(value, mask) };
        (cut(&mask.masked(name)).to_owned(), short(value))
    });
    shown.collect()
}

/// Without members that are secrets by their names, and without secrets by their values. As deep as JSON can
/// be read.
fn masked(value: &Value, mask: &dyn Mask) -> Value {
    match value {
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| {
                let value = if credential(name) { MASKED.into() } else { masked(value, mask) };
                (mask.masked(name).into_owned(), value)
            };
            Value::Object(members.iter().map(member).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| masked(item, mask)).collect()),
        Value::String(text) => mask.masked(text).into(),
        Value::Number(number) => {
            let text = number.to_string();
            let hidden = mask.masked(&text);
            if hidden == text { value.clone() } else { hidden.into() }
        }
        Value::Bool(_) | Value::Null => value.clone(),
    }
}

fn short(value: Value) -> Value {
    let text = match &value {
        Value::String(text) => text.clone(),
        Value::Object(_) | Value::Array(_) => value.to_string(),
        _ => return value,
    };
    let count = text.chars().count();
    if count <= MAX_VALUE {
        return value;
    }
    let begin: String = text.chars().take(MAX_VALUE).collect();
    format!("{begin}… ({count} characters)").into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Masks one word.
    struct Words;

    impl Mask for Words {
        fn masked<'t>(&self, text: &'t str) -> Cow<'t, str> {
            text.replace("kanarie", MASKED).replace("4711", MASKED).into()
        }
    }

    #[test]
    fn secrets_are_masked_by_value_wherever_they_stand() {
        let cut = format!("{}kanarie", "x".repeat(MAX_VALUE - 3));
        let arguments = json!({
            "a": "my kanarie!", "n": 47_110, "m": 12, "my kanarie": true,
            "deep": [{"kanarie": ["kanarie"]}], "cut": cut,
        });
        let arguments = arguments.as_object().expect("an object");
        let shown = Value::Object(shown(&Recorded::All, arguments, None, &Words));
        let expected = json!({
            "a": "my [secret]!", "n": "[secret]0", "m": 12, "my [secret]": true,
            "deep": [{"[secret]": ["[secret]"]}], "cut": shown["cut"],
        });
        assert_eq!(shown, expected);
        assert!(shown["cut"].as_str().expect("text").contains("x[se…"), "{shown}");
    }

    #[test]
    fn of_the_arguments_only_what_is_named_is_recorded_and_no_secret() {
        let arguments = json!({
            "city": "Bern", "api_key": "k1", "pin": "k2", "note": "x".repeat(300),
            "x".repeat(300): 1, "deep": {"auth_token": "k3", "list": [{"password": "k4"}], "n": 1},
        });
        let schema = json!({"properties": {"pin": {"writeOnly": true}}}).to_string();
        let arguments = arguments.as_object().expect("an object");
        let all = Value::Object(shown(&Recorded::All, arguments, Some(&schema), &Words));
        let text = all.to_string();
        assert_eq!(all["city"], "Bern");
        assert_eq!(all["deep"], json!({"auth_token": MASKED, "list": [{"password": MASKED}], "n": 1}));
        assert!(["k1", "k2", "k3", "k4"].iter().all(|secret| !text.contains(secret)), "{text}");
        assert!(all["note"].as_str().expect("text").ends_with("x… (300 characters)"));
        assert_eq!(all["x".repeat(64)], 1);
        let only = Recorded::Only(["city".to_owned(), "absent".to_owned()].into());
        assert_eq!(Value::Object(shown(&only, arguments, None, &Words)), json!({"city": "Bern"}));
    }
}
