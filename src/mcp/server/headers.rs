//! The rules for headers: which era they speak of, and that they agree with the body.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use super::Refusal;
use super::request::{Method, Request, Stated};
use crate::catalog::ParamHeader;
use crate::mcp::wire::{self, code, raw};

const VERSION: &str = "mcp-protocol-version";
pub(super) const SESSION: &str = "mcp-session-id";
const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";

/// JSON only: what a page of a browser can send without asking first is not taken. Nor is what has to
/// be unpacked (RFC 9110 section 8.4).
pub(super) fn content_type(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.get_all(header::CONTENT_ENCODING).iter().any(|value| value != "identity") {
        let message = "bodies with a `Content-Encoding` are not taken";
        return Err(Refusal::status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = value.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Refusal::status(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be `application/json`"))
}

/// Whether the client can read a stream of events. One that names nothing is not assumed to.
pub(super) fn accepts_events(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        let mut medias = value.split(',').map(|media| media.split(';').next().unwrap_or_default().trim());
        medias
            .any(|media| ["text/event-stream", "text/*", "*/*"].iter().any(|m| media.eq_ignore_ascii_case(m)))
    })
}

/// The protocol version of the header.
pub(super) fn version(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    single(headers, VERSION).map_err(|fault| {
        Refusal::error(
            StatusCode::BAD_REQUEST,
            None,
            code::HEADER_MISMATCH,
            format!("header mismatch: {fault}"),
        )
    })
}

/// Whether the request is to be served by the rules of 2026-07-28. `initialize` belongs to the
/// earlier ones, whatever the header says, unless it has the `_meta` of a version that has none.
pub(super) fn is_modern(headers: &HeaderMap, request: &Request) -> Result<bool, Refusal> {
    let modern = match request.method {
        Method::Initialize => request.meta.protocol_version.is_some(),
        Method::Discover | Method::Listen => true,
        _ if request.meta.protocol_version.is_some() => true,
        _ => {
            let version = version(headers);
            version.map_err(|refusal| refusal.about(&request.id))? == Some(wire::MODERN)
        }
    };
    Ok(modern)
}

/// The checks of "Request Metadata", in an order in which each message is the one that helps most.
pub(super) fn agree(headers: &HeaderMap, request: &Request) -> Result<(), Refusal> {
    let id = &request.id;
    let mismatch =
        |fault: String| Refusal::bad(id, code::HEADER_MISMATCH, format!("header mismatch: {fault}"));
    let meta = &request.meta;
    let Some(stated) = meta.protocol_version.as_ref().and_then(Stated::as_str) else {
        return Err(missing(id, wire::meta::PROTOCOL_VERSION));
    };
    match single(headers, VERSION).map_err(mismatch)? {
        None => return Err(mismatch("there is no `MCP-Protocol-Version` header".to_owned())),
        Some(header) if header != stated => {
            return Err(mismatch(format!("`MCP-Protocol-Version` is `{header}`, the body says `{stated}`")));
        }
        Some(_) => {}
    }
    if stated != wire::MODERN {
        return Err(unsupported(id, stated));
    }
    if !meta.client_capabilities.as_ref().is_some_and(|value| value.get().starts_with('{')) {
        return Err(missing(id, wire::meta::CLIENT_CAPABILITIES));
    }
    let method = request.method.as_str();
    match single(headers, METHOD).map_err(mismatch)? {
        None => return Err(mismatch("there is no `Mcp-Method` header".to_owned())),
        Some(header) if header != method => {
            return Err(mismatch(format!("`Mcp-Method` is `{header}`, the body says `{method}`")));
        }
        Some(_) => {}
    }
    if let (true, Some(name)) = (request.method.is_named(), &request.name) {
        let Some(header) = single(headers, NAME).map_err(mismatch)? else {
            return Err(mismatch("there is no `Mcp-Name` header".to_owned()));
        };
        let decoded = decode(header).ok_or_else(|| mismatch("`Mcp-Name` is no valid Base64".to_owned()))?;
        if decoded != *name {
            return Err(mismatch(format!("`Mcp-Name` is `{decoded}`, the body says `{name}`")));
        }
    }
    Ok(())
}

/// The headers of annotated parameters against the arguments.
pub(super) fn params_agree(
    headers: &HeaderMap,
    request: &Request,
    annotated: &[ParamHeader],
) -> Result<(), Refusal> {
    if annotated.is_empty() {
        return Ok(());
    }
    let arguments = request.params.as_deref().and_then(|params| raw::get(params, "arguments"));
    let arguments: Value = arguments.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    for ParamHeader { header, path } in annotated {
        let mismatch = |fault: String| {
            Refusal::bad(&request.id, code::HEADER_MISMATCH, format!("header mismatch: {fault}"))
        };
        let value =
            path.iter().try_fold(&arguments, |value, key| value.get(key)).filter(|value| !value.is_null());
        let given = single(headers, header).map_err(mismatch)?;
        match (given, value) {
            (None, None) => {}
            (Some(_), None) => return Err(mismatch(format!("`{header}` is there, and its argument is not"))),
            (None, Some(_)) => return Err(mismatch(format!("there is no `{header}` header"))),
            (Some(given), Some(value)) => {
                let given =
                    decode(given).ok_or_else(|| mismatch(format!("`{header}` is no valid Base64")))?;
                if !equal(&given, value) {
                    return Err(mismatch(format!("`{header}` is not what the body says")));
                }
            }
        }
    }
    Ok(())
}

/// Integers are compared as numbers: `42.0` is 42.
fn equal(header: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => text == header,
        Value::Bool(flag) => header == if *flag { "true" } else { "false" },
        Value::Number(number) => {
            number.to_string() == header
                || header.parse::<f64>().ok().is_some_and(|given| Some(given) == number.as_f64())
        }
        // The schema decides about anything else; there is no text to compare.
        _ => true,
    }
}

fn missing(id: &wire::Id, key: &str) -> Refusal {
    Refusal::bad(id, code::INVALID_PARAMS, format!("`_meta` has no valid `{key}`"))
}

/// # Panics
/// Never: the data is JSON.
pub(super) fn unsupported(id: &wire::Id, requested: &str) -> Refusal {
    let supported: Vec<_> = std::iter::once(wire::MODERN).chain(wire::LEGACY_VERSIONS).collect();
    let data = serde_json::json!({ "supported": supported, "requested": requested });
    let mut refusal = Refusal::bad(id, code::UNSUPPORTED_PROTOCOL_VERSION, "unsupported protocol version");
    refusal.error.data = serde_json::value::to_raw_value(&data).ok();
    refusal
}

/// The only value of a header that must not be there twice.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, String> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(format!("`{name}` is there twice")),
        (Some(value), None) => value
            .to_str()
            .map(|value| Some(value.trim()))
            .map_err(|_| format!("`{name}` has characters that no header may have")),
    }
}

pub(super) fn session(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    single(headers, SESSION).map_err(|fault| Refusal::status(StatusCode::BAD_REQUEST, &fault))
}

/// Plain, or `=?base64?…?=`.
fn decode(value: &str) -> Option<Cow<'_, str>> {
    match value.strip_prefix("=?base64?").and_then(|value| value.strip_suffix("?=")) {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).ok()?).ok().map(Cow::Owned),
        None => Some(Cow::Borrowed(value)),
    }
}
