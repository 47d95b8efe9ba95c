//! Results as each era wants them, around what came from elsewhere as it came.

use std::collections::VecDeque;
use std::fmt::Write as _;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::About;
use super::request::Request;
use crate::catalog::TASKS;
use crate::mcp::wire::{self, Era, ErrorObject, Id, code, meta};

/// Who we are.
const SERVER_INFO: &str =
    concat!("{\"name\":\"toolcrib\",\"title\":\"Toolcrib\",\"version\":\"", env!("CARGO_PKG_VERSION"), "\"}");
/// How long a client may keep a list. Not at all: the next commit can change it, and asking again is
/// answered from memory.
const LIST_TTL_MS: u32 = 0;
/// Below this, parts of a response are joined: one copy costs less than several writes.
const JOINED: usize = 16 << 10;

/// What a [`super::Handler`] answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A result, whole and as it came: a JSON object.
    Whole(Box<str>),
    /// One page of a list: the JSON array `items` under the name `member`.
    List {
        member: &'static str,
        items: Bytes,
        next: Option<String>,
        /// Whether other principals see another list.
        private: bool,
    },
    Empty,
}

/// The result of a request as a response.
///
/// # Errors
/// When what came is no result that a client of this era can be given.
pub(super) fn success(request: &Request, reply: Reply) -> Result<VecDeque<Bytes>, ErrorObject> {
    let opening = format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":", request.id.as_json());
    let modern = request.era == Era::Modern;
    let parts = match reply {
        Reply::Empty if modern => {
            vec![format!("{opening}{{\"resultType\":\"complete\",{}}}}}", our_meta()).into()]
        }
        Reply::Empty => vec![format!("{opening}{{}}}}").into()],
        Reply::List { member, items, next, private } => {
            let mut head = opening;
            head.push('{');
            if modern {
                let scope = if private { "private" } else { "public" };
                let _ = write!(
                    head,
                    "\"resultType\":\"complete\",\"ttlMs\":{LIST_TTL_MS},\"cacheScope\":\"{scope}\",{},",
                    our_meta()
                );
            }
            if let Some(next) = next {
                let _ = write!(head, "\"nextCursor\":{},", wire::quote(&next));
            }
            let _ = write!(head, "\"{member}\":");
            vec![head.into(), items, Bytes::from_static(b"}}")]
        }
        Reply::Whole(text) => whole(opening, text, request)?,
    };
    Ok(join(parts))
}

fn join(parts: Vec<Bytes>) -> VecDeque<Bytes> {
    let size: usize = parts.iter().map(Bytes::len).sum();
    if parts.len() > 1 && size <= JOINED {
        let mut joined = Vec::with_capacity(size);
        for part in &parts {
            joined.extend_from_slice(part);
        }
        return VecDeque::from([joined.into()]);
    }
    parts.into()
}

fn our_meta() -> String {
    format!("\"_meta\":{{\"{}\":{SERVER_INFO}}}", meta::SERVER_INFO)
}

/// What has to be known of a result.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Fields<'a> {
    #[serde(borrow)]
    result_type: Option<&'a RawValue>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'a RawValue>,
    #[serde(borrow)]
    ttl_ms: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_scope: Option<&'a RawValue>,
}

/// A result from elsewhere: what 2026-07-28 requires is put in where it is missing.
fn whole(opening: String, text: Box<str>, request: &Request) -> Result<Vec<Bytes>, ErrorObject> {
    let unusable = || ErrorObject::new(code::INTERNAL_ERROR, "the result is not a JSON object");
    if !text.starts_with('{') {
        return Err(unusable());
    }
    let fields: Fields<'_> = serde_json::from_str(&text).map_err(|_| unusable())?;
    let complete = fields.result_type.is_none_or(|kind| kind.get() == "\"complete\"");
    if request.era == Era::Legacy {
        if fields.result_type.is_some_and(|kind| kind.get() == "\"input_required\"") {
            let message = "the server asks for input that a client of this protocol version cannot give";
            return Err(ErrorObject::new(code::INTERNAL_ERROR, message));
        }
        return Ok(vec![opening.into(), text.into_boxed_bytes().into(), Bytes::from_static(b"}")]);
    }
    let mut members = String::new();
    if fields.result_type.is_none() {
        members.push_str("\"resultType\":\"complete\",");
    }
    if request.method.is_cacheable() && complete {
        if fields.ttl_ms.is_none() {
            members.push_str("\"ttlMs\":0,");
        }
        if fields.cache_scope.is_none() {
            members.push_str("\"cacheScope\":\"private\",");
        }
    }
    // Where the inside of `_meta` begins, when it is there and does not say who answers.
    let mut tagged = None;
    match fields.meta {
        None => {
            let _ = write!(members, "{},", our_meta());
        }
        Some(object)
            if object.get().starts_with('{') && wire::raw::get(object, meta::SERVER_INFO).is_none() =>
        {
            tagged =
                Some((object.get().as_ptr() as usize - text.as_ptr() as usize + 1, is_empty(object.get())));
        }
        Some(_) => {}
    }
    if is_empty(&text) && members.ends_with(',') {
        members.pop();
    }
    let body = Bytes::from(text.into_boxed_bytes());
    let mut parts = vec![format!("{opening}{{{members}").into()];
    match tagged {
        Some((at, empty)) => {
            let comma = if empty { "" } else { "," };
            parts.push(body.slice(1..at));
            parts.push(format!("\"{}\":{SERVER_INFO}{comma}", meta::SERVER_INFO).into());
            parts.push(body.slice(at..));
        }
        None => parts.push(body.slice(1..)),
    }
    parts.push(Bytes::from_static(b"}"));
    Ok(parts)
}

fn is_empty(object: &str) -> bool {
    object.get(1..).is_some_and(|rest| rest.trim_start().starts_with('}'))
}

/// An error as a response. Without `id` when it could not be read.
pub(super) fn failure(id: Option<&Id>, error: &ErrorObject) -> String {
    let id = id.map_or_else(String::new, |id| format!("\"id\":{},", id.as_json()));
    format!("{{\"jsonrpc\":\"2.0\",{id}\"error\":{}}}", error.to_json())
}

/// What is offered. The lists are always offered: a later commit may fill them. Clients of versions
/// without extensions are told of none.
fn capabilities(about: &About, era: Era) -> String {
    let completions = if about.completions { ",\"completions\":{}" } else { "" };
    let subscribe = if about.subscribe { ",\"subscribe\":true" } else { "" };
    let extensions = if about.tasks && era == Era::Modern {
        format!(",\"extensions\":{{\"{TASKS}\":{{}}}}")
    } else {
        String::new()
    };
    format!(
        "{{\"tools\":{{\"listChanged\":true}},\"prompts\":{{\"listChanged\":true}},\"resources\":{{\"listChanged\":true{subscribe}}},\"logging\":{{}}{completions}{extensions}}}"
    )
}

fn instructions(about: &About) -> String {
    let text = about.instructions.as_deref();
    text.map_or_else(String::new, |text| format!(",\"instructions\":{}", wire::quote(text)))
}

/// The result of `server/discover`.
pub(super) fn discovered(about: &About) -> Reply {
    let versions: Vec<_> =
        std::iter::once(wire::MODERN).chain(wire::LEGACY_VERSIONS).map(wire::quote).collect();
    let text = format!(
        "{{\"supportedVersions\":[{}],\"capabilities\":{}{},\"ttlMs\":{LIST_TTL_MS},\"cacheScope\":\"public\"}}",
        versions.join(","),
        capabilities(about, Era::Modern),
        instructions(about),
    );
    Reply::Whole(text.into())
}

/// The result of `initialize`.
pub(super) fn initialized(about: &About, version: &str) -> Reply {
    let text = format!(
        "{{\"protocolVersion\":\"{version}\",\"capabilities\":{},\"serverInfo\":{SERVER_INFO}{}}}",
        capabilities(about, Era::Legacy),
        instructions(about),
    );
    Reply::Whole(text.into())
}

/// The HTTP status of an error of the modern era.
pub(super) fn status(error: &ErrorObject) -> http::StatusCode {
    match error.code {
        code::METHOD_NOT_FOUND => http::StatusCode::NOT_FOUND,
        code::HEADER_MISMATCH | code::MISSING_CLIENT_CAPABILITY | code::UNSUPPORTED_PROTOCOL_VERSION => {
            http::StatusCode::BAD_REQUEST
        }
        _ => http::StatusCode::OK,
    }
}
