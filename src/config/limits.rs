//! How much one caller may use: what the flags about it mean.

use super::{ConfigError, Settings};
use crate::resource::Memory;

/// Bounds of each principal. None: no bound but those of the daemon as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests per second.
    pub rate: Option<u32>,
    /// Requests that are worked on at a time.
    pub requests: Option<u32>,
    pub sessions: Option<u32>,
    pub streams: Option<u32>,
    /// Bytes of one request.
    pub body: usize,
}

/// More than an agent asks for, and a fraction of what a small machine can do.
const RATE: u32 = 100;
/// A model calls some tools side by side, and a few of them work for one caller.
const REQUESTS: u32 = 64;
/// Some clients open one for each conversation, and few close them.
const SESSIONS: u32 = 100;
/// Each session of a caller can have one.
const STREAMS: u32 = 100;
/// What the SDKs take, and several times what a model can write.
const BODY: usize = 4 << 20;
/// Below this no client can say what it is; above, one request is a burden on all others.
const BODIES: std::ops::RangeInclusive<u64> = 4 << 10..=64 << 20;

/// Where nobody says who they are, everybody is on this machine: there limits are what is typed.
pub(super) fn limits(settings: &Settings, known: bool) -> Result<Limits, ConfigError> {
    let limit = |typed: Option<u32>, usual: u32| match typed {
        Some(0) => None,
        Some(most) => Some(most),
        None => known.then_some(usual),
    };
    let body = match settings.max_body.as_deref() {
        None => BODY,
        Some(text) => {
            let Memory(bytes) =
                Memory::parse(text).map_err(|error| ConfigError::setting("max-body", &error))?;
            let fits = BODIES.contains(&bytes).then(|| usize::try_from(bytes).ok()).flatten();
            fits.ok_or_else(|| {
                ConfigError::new(format!("`max-body`: `{text}` is out of bounds"))
                    .hint("4Ki is the least and 64Mi the most")
            })?
        }
    };
    Ok(Limits {
        rate: limit(settings.max_rate, RATE),
        requests: limit(settings.max_requests, REQUESTS),
        sessions: limit(settings.max_sessions, SESSIONS),
        streams: limit(settings.max_streams, STREAMS),
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_that_are_known_have_limits_and_those_of_this_machine_what_is_typed() {
        let parse = |text: &str| Settings::parse(text).unwrap();
        let known = limits(&parse("{max-rate: 5, max-sessions: 0, max-body: 1Mi}"), true).unwrap();
        let expected = Limits {
            rate: Some(5),
            requests: Some(REQUESTS),
            sessions: None,
            streams: Some(STREAMS),
            body: 1 << 20,
        };
        assert_eq!(known, expected);
        let local = limits(&parse("max-requests: 2"), false).unwrap();
        let expected = Limits { rate: None, requests: Some(2), sessions: None, streams: None, body: BODY };
        assert_eq!(local, expected);
        for wrong in ["1k", "65Mi", "much"] {
            let error = limits(&parse(&format!("max-body: {wrong}")), true).unwrap_err();
            assert!(error.to_string().starts_with("`max-body`"), "{error}");
        }
    }
}
