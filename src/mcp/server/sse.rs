//! Framing of server-sent events.

use bytes::Bytes;

/// Between comments on a quiet stream: below the idle limits of common proxies, which begin at 30 s.
pub(super) const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(15);

/// What keeps a quiet stream open.
pub(super) const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// One JSON-RPC message as an event. Line breaks in JSON stand only between its tokens, so that they
/// can be blanks.
pub(super) fn event<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
    let mut out = b"event: message\ndata: ".to_vec();
    for part in parts {
        let from = out.len();
        out.extend_from_slice(part);
        for byte in out.iter_mut().skip(from).filter(|byte| matches!(byte, b'\n' | b'\r')) {
            *byte = b' ';
        }
    }
    out.extend_from_slice(b"\n\n");
    out.into()
}

/// The first event of a stream that a client may open again (2025-11-25): an id, and no data.
pub(super) fn priming(id: &str) -> Bytes {
    format!("id: {id}\nretry: 3000\ndata: \n\n").into()
}
