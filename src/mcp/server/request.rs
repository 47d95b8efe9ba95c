//! One request, read as far as the transport and routing need.

use std::borrow::Cow;
use std::sync::Arc;

use http::StatusCode;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::{Asked, Held, Refusal, Scope};
use crate::catalog::TASKS;
use crate::mcp::wire::{self, Era, Id, code, meta, raw};
use crate::policy::Principal;
use crate::ports::ClientLine;

/// A request on its way to the [`super::Handler`].
#[derive(Clone, Debug)]
pub struct Request {
    pub era: Era,
    pub id: Id,
    pub method: Method,
    /// The parameters as they came.
    pub params: Option<Box<RawValue>>,
    /// `params.name`, or `params.uri` or `params.taskId` of a method that has that.
    pub name: Option<String>,
    pub cursor: Option<String>,
    pub principal: Arc<Principal>,
    /// The endpoint it was sent to.
    pub scope: Scope,
    pub meta: Meta,
    /// Of a legacy client.
    pub session: Option<SessionOf>,
    /// Its place among those that are worked on for its principal.
    pub held: Held,
}

/// The session that a request came in.
#[derive(Clone)]
pub struct SessionOf {
    pub id: Arc<str>,
    /// Cancelled when it is over.
    pub ended: CancellationToken,
    /// Its client, while none of its calls is under way.
    pub line: Arc<dyn ClientLine>,
}

impl std::fmt::Debug for SessionOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Whoever has its id has the session.
        f.debug_struct("SessionOf").finish_non_exhaustive()
    }
}

/// What `_meta` of the parameters says to the transport; each as it came.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    pub protocol_version: Option<Stated>,
    /// Of a legacy client: what its `initialize` said.
    pub client_capabilities: Option<Box<RawValue>>,
    pub log_level: Option<Box<RawValue>>,
    /// A string or an integer.
    pub progress_token: Option<Box<RawValue>>,
}

/// A protocol version as a request states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stated {
    Modern,
    Other(String),
    /// It is no string.
    Nothing,
}

impl Stated {
    /// Out of its raw JSON.
    fn of(written: &str) -> Self {
        match raw::string(written) {
            Some(version) if version == wire::MODERN => Self::Modern,
            Some(version) => Self::Other(version.into_owned()),
            None => Self::Nothing,
        }
    }

    /// The version; none when it is no string.
    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Modern => Some(wire::MODERN),
            Self::Other(version) => Some(version),
            Self::Nothing => None,
        }
    }
}

/// The methods that are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    Initialize,
    Ping,
    Discover,
    Listen,
    SetLevel,
    ToolsList,
    ToolsCall,
    PromptsList,
    PromptsGet,
    ResourcesList,
    TemplatesList,
    ResourcesRead,
    Subscribe,
    Unsubscribe,
    Complete,
    TasksGet,
    TasksUpdate,
    TasksCancel,
    Other(String),
}

impl Request {
    /// Whether the client can be answered with a task (SEP-2663). Only requests of 2026-07-28 say so.
    pub fn takes_tasks(&self) -> bool {
        let said = self.meta.client_capabilities.as_deref().filter(|_| self.era == Era::Modern);
        let extensions = said.and_then(|said| raw::get(said, "extensions"));
        extensions.and_then(|all| raw::get(all, TASKS)).is_some_and(|it| it.get().starts_with('{'))
    }
}

impl Method {
    fn parse(text: &str) -> Self {
        match text {
            "initialize" => Self::Initialize,
            "ping" => Self::Ping,
            "server/discover" => Self::Discover,
            "subscriptions/listen" => Self::Listen,
            "logging/setLevel" => Self::SetLevel,
            "tools/list" => Self::ToolsList,
            "tools/call" => Self::ToolsCall,
            "prompts/list" => Self::PromptsList,
            "prompts/get" => Self::PromptsGet,
            "resources/list" => Self::ResourcesList,
            "resources/templates/list" => Self::TemplatesList,
            "resources/read" => Self::ResourcesRead,
            "resources/subscribe" => Self::Subscribe,
            "resources/unsubscribe" => Self::Unsubscribe,
            "completion/complete" => Self::Complete,
            "tasks/get" => Self::TasksGet,
            "tasks/update" => Self::TasksUpdate,
            "tasks/cancel" => Self::TasksCancel,
            other => Self::Other(other.to_owned()),
        }
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::Initialize => "initialize",
            Self::Ping => "ping",
            Self::Discover => "server/discover",
            Self::Listen => "subscriptions/listen",
            Self::SetLevel => "logging/setLevel",
            Self::ToolsList => "tools/list",
            Self::ToolsCall => "tools/call",
            Self::PromptsList => "prompts/list",
            Self::PromptsGet => "prompts/get",
            Self::ResourcesList => "resources/list",
            Self::TemplatesList => "resources/templates/list",
            Self::ResourcesRead => "resources/read",
            Self::Subscribe => "resources/subscribe",
            Self::Unsubscribe => "resources/unsubscribe",
            Self::Complete => "completion/complete",
            Self::TasksGet => "tasks/get",
            Self::TasksUpdate => "tasks/update",
            Self::TasksCancel => "tasks/cancel",
            Self::Other(method) => method,
        }
    }

    /// Whether its results carry how long they may be kept (2026-07-28, `server/utilities/caching`).
    pub(super) fn is_cacheable(&self) -> bool {
        matches!(
            self,
            Self::Discover
                | Self::ToolsList
                | Self::PromptsList
                | Self::ResourcesList
                | Self::TemplatesList
                | Self::ResourcesRead
        )
    }

    /// Whether a server may ask the client something before it answers (2026-07-28,
    /// `basic/patterns/mrtr`).
    pub fn may_ask(&self) -> bool {
        matches!(self, Self::ToolsCall | Self::PromptsGet | Self::ResourcesRead)
    }

    /// Whether it is about a task (SEP-2663).
    pub fn is_of_task(&self) -> bool {
        matches!(self, Self::TasksGet | Self::TasksUpdate | Self::TasksCancel)
    }

    /// Whether `Mcp-Name` must repeat the name (2026-07-28, "Standard Request Headers"; SEP-2663,
    /// "Routing Headers").
    pub(super) fn is_named(&self) -> bool {
        self.may_ask() || self.is_of_task()
    }
}

/// Bytes of a progress token, which every message about a call repeats.
const MAX_TOKEN: usize = 1024;

/// Reads what of the parameters concerns the transport. The era is settled afterwards.
pub(super) fn read(
    id: Id,
    method: &str,
    params: Option<&RawValue>,
    asked: &Asked,
) -> Result<Request, Refusal> {
    let malformed =
        |what: &str| Refusal::error(StatusCode::BAD_REQUEST, Some(&id), code::INVALID_PARAMS, what);
    let method = Method::parse(method);
    let params_text = params.map_or("{}", RawValue::get);
    if !params_text.starts_with('{') {
        return Err(malformed("`params` is not an object"));
    }
    let twice = |object: &str, key: &str| malformed(&format!("`{object}` has `{key}` twice"));
    let [meta, name, uri, task_id, cursor] =
        raw::unique(params_text, ["_meta", "name", "uri", "taskId", "cursor"])
            .map(given)
            .map_err(|key| twice("params", key))?;
    if meta.is_some_and(|meta| !meta.starts_with('{')) {
        return Err(malformed("`_meta` is not an object"));
    }
    let [protocol_version, client_capabilities, log_level, progress_token] = raw::unique(
        meta.unwrap_or("{}"),
        [meta::PROTOCOL_VERSION, meta::CLIENT_CAPABILITIES, meta::LOG_LEVEL, "progressToken"],
    )
    .map(given)
    .map_err(|key| twice("_meta", key))?;
    if progress_token.is_some_and(|token| token.len() > MAX_TOKEN) {
        return Err(malformed(&format!("`progressToken` has more than {MAX_TOKEN} bytes")));
    }
    let about_uri = matches!(method, Method::ResourcesRead | Method::Subscribe | Method::Unsubscribe);
    let named = match &method {
        _ if about_uri => uri,
        method if method.is_of_task() => task_id,
        _ => name,
    };
    let text = |value: Option<&str>| value.and_then(raw::string).map(Cow::into_owned);
    // A cursor that is no string is as good as one nobody made.
    let cursor = cursor.map(|cursor| text(Some(cursor)).unwrap_or_default());
    let own = |value: Option<&str>| value.and_then(|value| RawValue::from_string(value.to_owned()).ok());
    Ok(Request {
        era: Era::Legacy,
        name: text(named),
        cursor,
        principal: Arc::clone(&asked.principal),
        scope: asked.scope.clone(),
        params: params.map(RawValue::to_owned),
        meta: Meta {
            protocol_version: protocol_version.map(Stated::of),
            client_capabilities: own(client_capabilities),
            log_level: own(log_level),
            progress_token: own(progress_token.filter(|token| is_token(token))),
        },
        session: None,
        held: Held::default(),
        id,
        method,
    })
}

/// What is null is as good as absent.
fn given<const N: usize>(values: [Option<&str>; N]) -> [Option<&str>; N] {
    values.map(|value| value.filter(|written| *written != "null"))
}

/// A progress token is a string or an integer.
fn is_token(written: &str) -> bool {
    written.starts_with('"') || written.parse::<i64>().is_ok()
}
