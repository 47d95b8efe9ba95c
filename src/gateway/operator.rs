//! `/mcp/operator`: what an agent may ask about the daemon itself. It reads, and changes nothing.
//!
//! Input: calls of a few tools of our own. Output: what [`Operations`] answers, as text and as structured
//! content. Invariant: nobody but those whom the `Crib` names, or who is local, gets here; every call
//! leaves a record. Not here: what the answers are made of.

use std::sync::LazyLock;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::audit::{Outcome, Timed};
use super::{Gateway, Reply, invalid, tool_error};
use crate::desired::OPERATOR;
use crate::mcp::server::{About, Method, Request, Scope, Unserved};
use crate::mcp::wire::{ErrorObject, code};
use crate::policy::Principal;

/// What the daemon tells operators.
#[async_trait]
pub trait Operations: Send + Sync {
    /// Answers a tool of [`TOOLS`].
    ///
    /// # Errors
    /// Why not, for a model: arguments that do not fit, or something that cannot be found out now.
    async fn answer(&self, tool: &str, arguments: Map<String, Value>) -> Result<Value, Refused>;
}

/// Why an operator's question has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The arguments do not fit.
    Invalid(String),
    /// What is asked about is not there, or gives no answer.
    Unavailable(String),
}

const INSTRUCTIONS: &str = "Tools about this Toolcrib itself: what it serves, why a tool is missing or refused, \
what the newest revision changed. They only read; what is declared is changed by a commit.";

/// Name, description and parameters of each tool.
pub(super) const TOOLS: [&str; 7] = [
    "list_resources",
    "get_resource",
    "why_tool",
    "what_changed",
    "show_plan",
    "recent_calls",
    "probe_server",
];

static DEFINITIONS: LazyLock<Bytes> =
    LazyLock::new(|| Value::Array(TOOLS.iter().map(|name| definition(name)).collect()).to_string().into());

fn definition(name: &str) -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let (title, description, properties, required): (&str, &str, Value, &[&str]) = match name {
        "list_resources" => (
            "List what is declared",
            "Every declared resource: whether it is ready, why not, and the tools it offers; the served revision and the toolsets.",
            json!({"kind": text("Only one kind: Server, Tool, Runner, Policy, Toolset, Integration or Crib")}),
            &[],
        ),
        "get_resource" => (
            "Show one resource",
            "Conditions, digests, instances and offers of one resource, and where it is declared.",
            json!({"resource": text("Kind and name, such as Server/weather")}),
            &["resource"],
        ),
        "why_tool" => (
            "Say why a tool is there or not",
            "Why a tool is listed, hidden, refused or missing for somebody, with the rules and places that decide it. Calls nothing.",
            json!({
                "tool": text("The published name"),
                "user": text("Who would call it"),
                "groups": {"type": "array", "items": {"type": "string"}, "description": "Groups of that user"},
                "arguments": {"type": "object", "description": "Arguments of the call; without, only lists are judged"},
                "toolset": text("The toolset at whose endpoint it would be called"),
            }),
            &["tool"],
        ),
        "what_changed" => (
            "Say what a revision changed",
            "Tools, prompts and resources that the served revision added, changed or removed, compared with one served lately.",
            json!({"since": text("A commit, or its first digits; without, the one served before")}),
            &[],
        ),
        "show_plan" => (
            "Show what comes next",
            "What the next pass would do: what would be built, started, replaced and pruned.",
            json!({}),
            &[],
        ),
        "recent_calls" => (
            "Show recent calls",
            "Records of calls, oldest first: who called what, what was decided, how it ended.",
            json!({
                "user": text("Only of one user"),
                "tool": text("Only of one tool; `*` at the end stands for any letters"),
                "decision": {"type": "string", "enum": ["allowed", "refused", "hidden", "unknown"]},
                "outcome": text("Only with one outcome, such as refused or timeout"),
                "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "description": "At most so many; 100 unless it is said"},
            }),
            &[],
        ),
        _ => (
            "Probe a server again",
            "Asks a running server anew which tools it has, and tells how that differs from what is served of it. What it offers is published by the rules of its lock, as after any change.",
            json!({"server": text("The name of the server")}),
            &["server"],
        ),
    };
    json!({
        "name": name,
        "title": title,
        "description": description,
        "inputSchema": {"type": "object", "properties": properties, "required": required, "additionalProperties": false},
        "annotations": {"readOnlyHint": true, "openWorldHint": false},
    })
}

pub(super) fn is_it(scope: &Scope) -> bool {
    matches!(scope, Scope::Toolset(name) if &**name == OPERATOR)
}

pub(super) fn admit(gateway: &Gateway, user: &Principal) -> Result<(), Unserved> {
    let catalog = gateway.catalogs.current();
    let admitted = match &catalog.operators {
        Some(access) if access.names(&user.name, &user.groups) => {
            return gateway.within(&Scope::Toolset(OPERATOR.into()), access, user);
        }
        Some(_) => false,
        None => user.groups.iter().any(|group| group == "local"),
    };
    if admitted {
        return Ok(());
    }
    let who = &user.name;
    Err(Unserved::Forbidden(format!("`operators` of the Crib does not include `{who}`")))
}

pub(super) fn about() -> About {
    About { instructions: Some(INSTRUCTIONS.into()), ..About::default() }
}

pub(super) async fn request(gateway: &Gateway, request: &Request) -> Result<Reply, ErrorObject> {
    let list = |member, items| Reply::List { member, items, next: None, private: true };
    match &request.method {
        _ if request.cursor.is_some() => Err(super::catalogs::expired()),
        Method::ToolsList => Ok(list("tools", DEFINITIONS.clone())),
        Method::PromptsList => Ok(list("prompts", Bytes::from_static(b"[]"))),
        Method::ResourcesList => Ok(list("resources", Bytes::from_static(b"[]"))),
        Method::TemplatesList => Ok(list("resourceTemplates", Bytes::from_static(b"[]"))),
        Method::ToolsCall => call(gateway, request).await,
        other => {
            let message = format!("there is nothing for `{}` here", other.as_str());
            Err(ErrorObject::new(code::METHOD_NOT_FOUND, message))
        }
    }
}

async fn call(gateway: &Gateway, request: &Request) -> Result<Reply, ErrorObject> {
    let name = request.name.as_deref().ok_or_else(|| invalid("`params.name` is no string"))?;
    let Some(tool) = TOOLS.iter().find(|tool| **tool == name) else {
        drop(Timed::begin(request, name, None, &gateway.observer));
        return Err(invalid(format!("unknown tool `{name}`")));
    };
    let timed = Timed::own(request, tool, &gateway.observer);
    let arguments = match super::call::arguments(request) {
        Ok(arguments) => arguments,
        Err(error) => {
            timed.end(Outcome::Invalid, 0);
            return Err(error);
        }
    };
    let answered = match gateway.operations.get() {
        Some(operations) => operations.answer(tool, arguments).await,
        None => Err(Refused::Unavailable("nobody answers operators here".to_owned())),
    };
    let (reply, outcome) = match answered {
        Ok(answer) => (Reply::Whole(result(&answer).into()), Outcome::Success),
        Err(Refused::Invalid(why)) => (tool_error(&why), Outcome::Invalid),
        Err(Refused::Unavailable(why)) => (tool_error(&why), Outcome::ToolError),
    };
    let bytes = if let Reply::Whole(text) = &reply { text.len() } else { 0 };
    timed.end(outcome, bytes);
    Ok(reply)
}

fn result(answer: &Value) -> String {
    let text = serde_json::to_string_pretty(answer).unwrap_or_default();
    json!({"content": [{"type": "text", "text": text}], "structuredContent": answer}).to_string()
}
