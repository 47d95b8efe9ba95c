//! Writing messages to a server, as its era wants them.

use serde_json::value::RawValue;

use crate::mcp::wire::raw;
use crate::mcp::wire::{self, Era, meta};

/// What we say of ourselves.
pub(super) const CLIENT_INFO: &str =
    concat!("{\"name\":\"toolcrib\",\"version\":\"", env!("CARGO_PKG_VERSION"), "\"}");

/// A request with the `_meta` that a server of that era wants: modern servers are told version and
/// client in each request, legacy ones must not see those keys. Our own id is the progress token; the
/// client's token stays with us. `capabilities`: what the client of this request can be asked, as
/// raw JSON; a legacy server was told in the handshake.
pub(super) fn compose(
    era: Era,
    id: u64,
    method: &str,
    params: Option<&RawValue>,
    progress: bool,
    capabilities: &str,
) -> Result<String, wire::WireError> {
    const TOKEN: &str = "progressToken";
    const FOREIGN: [&str; 5] =
        [TOKEN, meta::PROTOCOL_VERSION, meta::CLIENT_INFO, meta::CLIENT_CAPABILITIES, meta::LOG_LEVEL];
    let modern = [
        (meta::PROTOCOL_VERSION, "\"2026-07-28\""),
        (meta::CLIENT_INFO, CLIENT_INFO),
        (meta::CLIENT_CAPABILITIES, capabilities),
    ];
    let written = wire::Id::number(id);
    let mut entries = Vec::with_capacity(4);
    let mut remove: &[&str] = &[TOKEN];
    match era {
        Era::Modern => entries.extend(modern),
        Era::Legacy => remove = &FOREIGN,
    }
    if progress {
        entries.push((TOKEN, written.as_json()));
    }
    let params = match (params, entries.is_empty()) {
        (None, true) => None,
        (params, _) => Some(raw::edit_meta(params, &entries, remove)?),
    };
    Ok(wire::request(&written, method, params.as_deref()))
}

/// `notifications/cancelled` for a request of ours.
pub(super) fn cancelled(id: u64) -> String {
    let params = format!("{{\"requestId\":{id},\"reason\":\"the call was cancelled or ran out of time\"}}");
    wire::notification("notifications/cancelled", Some(&params))
}
