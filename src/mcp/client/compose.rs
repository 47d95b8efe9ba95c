//! Writing messages to a server, as its era wants them.

use super::params::Params;
use crate::mcp::wire::raw;
use crate::mcp::wire::{self, Era, meta};
use crate::ports::Logs;

/// What we say of ourselves.
pub(super) const CLIENT_INFO: &str =
    concat!("{\"name\":\"toolcrib\",\"version\":\"", env!("CARGO_PKG_VERSION"), "\"}");

/// What the client of a request wants, and can be asked. Legacy servers were told in the handshake, or are
/// told in messages of their own.
pub(super) struct Wishes<'a> {
    pub(super) progress: bool,
    /// Raw JSON.
    pub(super) capabilities: &'a str,
    pub(super) logs: Option<Logs>,
}

impl Wishes<'_> {
    /// Of requests of our own.
    pub(super) const NONE: Wishes<'static> = Wishes { progress: false, capabilities: "{}", logs: None };
}

/// A request with the `_meta` that a server of that era wants: modern servers are told version and
/// client in each request, legacy ones must not see those keys. Our own id is the progress token; the
/// client's token stays with us.
pub(super) fn compose(
    era: Era,
    id: u64,
    method: &str,
    params: Option<Params<'_>>,
    wishes: &Wishes<'_>,
) -> Result<String, wire::WireError> {
    const TOKEN: &str = "progressToken";
    const FOREIGN: [&str; 5] =
        [TOKEN, meta::PROTOCOL_VERSION, meta::CLIENT_INFO, meta::CLIENT_CAPABILITIES, meta::LOG_LEVEL];
    let modern = [
        (meta::PROTOCOL_VERSION, "\"2026-07-28\""),
        (meta::CLIENT_INFO, CLIENT_INFO),
        (meta::CLIENT_CAPABILITIES, wishes.capabilities),
    ];
    let id = wire::Id::number(id);
    let mut entries = Vec::with_capacity(5);
    let mut remove: &[&str] = &[TOKEN];
    match era {
        Era::Modern => {
            entries.extend(modern);
            entries.extend(wishes.logs.map(|logs| (meta::LOG_LEVEL, logs.lowest().as_json())));
        }
        Era::Legacy => remove = &FOREIGN,
    }
    if wishes.progress {
        entries.push((TOKEN, id.as_json()));
    }
    let Some(params) = params else {
        let made = (!entries.is_empty()).then(|| raw::edit_meta(None, &entries, remove)).transpose()?;
        return Ok(wire::request(&id, method, made.as_deref()));
    };
    let meta = raw::edited_meta(params.given(), &entries, remove)?;
    let renamed = params.renamed().map(|(key, own)| (key, wire::quote(own)));
    let changes: &[(&str, &str)] = match (&renamed, &meta) {
        (Some((key, own)), Some(meta)) => &[(key, own), ("_meta", meta)],
        (Some((key, own)), None) => &[(key, own)],
        (None, Some(meta)) => &[("_meta", meta)],
        (None, None) => return Ok(wire::request(&id, method, Some(params.given().get()))),
    };
    let mut text = wire::open_request(&id, method, raw::room(params.given(), changes));
    wire::push_key(&mut text, "params");
    raw::write(&mut text, params.given(), changes, "`params`")?;
    text.push('}');
    Ok(text)
}

/// `notifications/cancelled` for a request of ours.
pub(super) fn cancelled(id: u64) -> String {
    let params = format!("{{\"requestId\":{id},\"reason\":\"the call was cancelled or ran out of time\"}}");
    wire::notification("notifications/cancelled", Some(&params))
}
