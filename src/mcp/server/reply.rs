//! Results as each era wants them, around what came from elsewhere as it came.

use std::fmt::Write as _;

use bytes::Bytes;

use super::body::JOINED;
use super::request::Request;
use super::{About, Payload};
use crate::catalog::TASKS;
use crate::mcp::wire::{self, Era, ErrorObject, Id, code, meta, raw};

macro_rules! server_info {
    () => {
        concat!(
            "{\"name\":\"toolcrib\",\"title\":\"Toolcrib\",\"version\":\"",
            env!("CARGO_PKG_VERSION"),
            "\"}"
        )
    };
}

/// Who we are.
const SERVER_INFO: &str = server_info!();
/// The same as the member of `_meta` that says who answers ([`meta::SERVER_INFO`]).
const TAG: &str = concat!("\"io.modelcontextprotocol/serverInfo\":", server_info!());
/// How long a client may keep a list. Not at all: the next commit can change it, and asking again is
/// answered from memory.
const LIST_TTL_MS: u32 = 0;
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
pub(super) fn success(request: &Request, reply: Reply) -> Result<Payload, ErrorObject> {
    let modern = request.era == Era::Modern;
    let [open, id, begin] = opening(&request.id);
    Ok(match reply {
        Reply::Empty if modern => {
            let meta = our_meta();
            Payload::full([open, id, begin, "{\"resultType\":\"complete\",", &meta, "}}"].concat())
        }
        Reply::Empty => Payload::full([open, id, begin, "{}}"].concat()),
        Reply::List { member, items, next, private } => {
            let mut head = [open, id, begin, "{"].concat();
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
            Payload::parts([head.into(), items, Bytes::from_static(b"}}")])
        }
        Reply::Whole(text) => whole(text, request)?,
    })
}

/// A response up to its result.
fn opening(id: &Id) -> [&str; 3] {
    ["{\"jsonrpc\":\"2.0\",\"id\":", id.as_json(), ",\"result\":"]
}

fn our_meta() -> String {
    format!("\"_meta\":{{{TAG}}}")
}

/// A result from elsewhere: what 2026-07-28 requires is put in where it is missing.
fn whole(text: Box<str>, request: &Request) -> Result<Payload, ErrorObject> {
    let unusable = || ErrorObject::new(code::INTERNAL_ERROR, "the result is not a JSON object");
    if !text.starts_with('{') {
        return Err(unusable());
    }
    let [kind, own_meta, ttl, scope] =
        raw::unique(&text, ["resultType", "_meta", "ttlMs", "cacheScope"]).map_err(|_| unusable())?;
    let [open, id, begin] = opening(&request.id);
    if request.era == Era::Legacy {
        if kind == Some("\"input_required\"") {
            let message = "the server asks for input that a client of this protocol version cannot give";
            return Err(ErrorObject::new(code::INTERNAL_ERROR, message));
        }
        return Ok(put(&[open, id, begin], text, 0, None));
    }
    let complete = kind.is_none_or(|kind| kind == "\"complete\"");
    let kept = request.method.is_cacheable() && complete;
    let missing = |is: bool, member: &'static str| if is { member } else { "" };
    let mut members = [
        missing(kind.is_none(), "\"resultType\":\"complete\","),
        missing(kept && ttl.is_none(), "\"ttlMs\":0,"),
        missing(kept && scope.is_none(), "\"cacheScope\":\"private\","),
        missing(own_meta.is_none(), "\"_meta\":{"),
        missing(own_meta.is_none(), TAG),
        missing(own_meta.is_none(), "},"),
    ];
    if is_empty(&text)
        && let Some(last) = members.iter_mut().rfind(|member| !member.is_empty())
    {
        *last = last.trim_end_matches(',');
    }
    // Where the inside of `_meta` begins, when it is there and does not say who answers.
    let untagged = own_meta.filter(|own| {
        own.starts_with('{') && raw::unique(own, [meta::SERVER_INFO]).is_ok_and(|[said]| said.is_none())
    });
    let inside = untagged.map(|own| (own.as_ptr() as usize - text.as_ptr() as usize + 1, is_empty(own)));
    let [kind, ttl, scope, meta, tag, end] = members;
    Ok(put(&[open, id, begin, "{", kind, ttl, scope, meta, tag, end], text, 1, inside))
}

/// A response out of its beginning and a result, which is written from the byte `from` on. `inside` is
/// where its `_meta` begins, and whether that is empty: there is written who answers.
fn put(before: &[&str], text: Box<str>, from: usize, inside: Option<(usize, bool)>) -> Payload {
    let (at, tag, comma) = match inside {
        Some((at, true)) => (at, TAG, ""),
        Some((at, false)) => (at, TAG, ","),
        None => (text.len(), "", ""),
    };
    let slice = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    if text.len() <= JOINED {
        let rest = [slice(from, at), tag, comma, slice(at, text.len()), "}"];
        let size = before.iter().chain(&rest).map(|part| part.len()).sum();
        let mut whole = String::with_capacity(size);
        whole.extend(before.iter().chain(&rest).copied());
        return Payload::full(whole);
    }
    let body = Bytes::from(text.into_boxed_bytes());
    let tag = Bytes::from([tag, comma].concat());
    let (head, tail) = (body.slice(from..at), body.slice(at..));
    Payload::parts([before.concat().into(), head, tag, tail, Bytes::from_static(b"}")])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_named_under_the_key_of_the_protocol() {
        let object = format!("{{{TAG}}}");
        assert_eq!(raw::unique(&object, [meta::SERVER_INFO]), Ok([Some(SERVER_INFO)]));
    }
}
