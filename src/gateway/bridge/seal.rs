//! `requestState` as clients get it: sealed, so that it comes back as it was given, from whom it was
//! given to, for the call it was given for, and in time.
//!
//! It is HMAC-SHA256 under a key of the installation over what is inside and all it is bound to. What
//! is inside can be read: it is the server's own state, which the protocol lets clients see, or a number.
//! Source: MCP 2026-07-28 `basic/patterns/mrtr`.

#![expect(clippy::disallowed_methods, reason = "what is sealed expires, also over a restart")]

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::policy::Principal;
use crate::resource::Digest;

/// How long a state is good: people answer in minutes, or not at all.
pub(super) const LIFE: Duration = Duration::from_mins(15);

const MAC: usize = 32;
const HEAD: usize = 9;

/// What a state is bound to.
#[derive(Clone, Copy)]
pub(super) struct Bound<'a> {
    pub(super) principal: &'a Principal,
    pub(super) method: &'a str,
    /// The published name of the tool or prompt, or the URI of the resource.
    pub(super) name: &'a str,
    /// The digest of the offer it was asked of.
    pub(super) offer: &'a Digest,
}

/// What is inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The state of a server that keeps nothing.
    Relayed(String),
    /// The same of an instance of which there are several, with the mark of that one.
    At(String, String),
    /// The number of a call that is held open.
    Held(u128),
}

/// The key, made of the key of the installation.
pub(super) struct Seal([u8; 32]);

impl Seal {
    pub(super) fn new(installation: &[u8; 32]) -> Self {
        Self(derived(installation, b"toolcrib request state 1"))
    }

    pub(super) fn seal(&self, state: &State, to: Bound<'_>) -> String {
        self.seal_until(state, to, now() + LIFE.as_secs())
    }

    fn seal_until(&self, state: &State, to: Bound<'_>, expires: u64) -> String {
        let mut bytes = Vec::new();
        let (held, at);
        let (kind, inside): (u8, &[u8]) = match state {
            State::Relayed(text) => (b'r', text.as_bytes()),
            State::At(mark, text) => {
                // A mark is a digest in hex, without spaces.
                at = format!("{mark} {text}");
                (b'a', at.as_bytes())
            }
            State::Held(id) => {
                held = id.to_be_bytes();
                (b'h', &held)
            }
        };
        bytes.push(kind);
        bytes.extend_from_slice(&expires.to_be_bytes());
        bytes.extend_from_slice(inside);
        let mac = self.mac(&bytes, to).finalize().into_bytes();
        bytes.extend_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What is inside, when it was sealed here, to the same, and is still good.
    pub(super) fn open(&self, text: &str, to: Bound<'_>) -> Option<State> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (payload, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC)?)?;
        self.mac(payload, to).verify_slice(mac).ok()?;
        let (head, inside) = payload.split_at_checked(HEAD)?;
        let (kind, expires) = head.split_first()?;
        if u64::from_be_bytes(expires.try_into().ok()?) < now() {
            return None;
        }
        match kind {
            b'r' => Some(State::Relayed(String::from_utf8(inside.to_vec()).ok()?)),
            b'a' => {
                let (mark, text) = std::str::from_utf8(inside).ok()?.split_once(' ')?;
                Some(State::At(mark.to_owned(), text.to_owned()))
            }
            b'h' => Some(State::Held(u128::from_be_bytes(inside.try_into().ok()?))),
            _ => None,
        }
    }

    fn mac(&self, payload: &[u8], to: Bound<'_>) -> Hmac<Sha256> {
        let Bound { principal, method, name, offer } = to;
        let principal = serde_json::to_vec(principal).unwrap_or_default();
        let offer = offer.to_string();
        let mut mac = keyed(&self.0);
        for part in [&principal, method.as_bytes(), name.as_bytes(), offer.as_bytes(), payload] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

/// A key for one purpose, made of the key of the installation.
pub(in crate::gateway) fn derived(installation: &[u8; 32], purpose: &[u8]) -> [u8; 32] {
    let mut mac = keyed(installation);
    mac.update(purpose);
    mac.finalize().into_bytes().into()
}

pub(in crate::gateway) fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = [0; 64];
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    Hmac::<Sha256>::new(&block.into())
}

/// Seconds since the epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_opens_only_for_what_it_was_sealed_for() {
        let seal = Seal::new(&[7; 32]);
        let (me, other) = (super::super::super::authorize::local(), Principal::default());
        let (offer, newer) = (Digest::of_bytes(b"1"), Digest::of_bytes(b"2"));
        let to = Bound { principal: &me, method: "tools/call", name: "t", offer: &offer };
        let at = State::At("0f".to_owned(), "of one \"".to_owned());
        for state in
            [State::Relayed("ä\"".to_owned()), State::Relayed(String::new()), at, State::Held(9 << 90)]
        {
            let text = seal.seal(&state, to);
            assert_eq!(seal.open(&text, to), Some(state.clone()));
            for foreign in [
                Bound { principal: &other, ..to },
                Bound { method: "prompts/get", ..to },
                Bound { name: "u", ..to },
                Bound { offer: &newer, ..to },
            ] {
                assert_eq!(seal.open(&text, foreign), None);
            }
            assert_eq!(Seal::new(&[8; 32]).open(&text, to), None, "another installation");
            assert_eq!(seal.open(&seal.seal_until(&state, to, now() - 1), to), None, "expired");
            for at in 0..text.len() {
                let mut bytes = text.clone().into_bytes();
                bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
                let forged = String::from_utf8(bytes).expect("ASCII");
                // The last character has bits that say nothing.
                assert!(seal.open(&forged, to).is_none_or(|_| at == text.len() - 1), "{at}");
            }
        }
        for nonsense in ["", "AAAA", "?", "-TAMPERED"] {
            assert_eq!(seal.open(nonsense, to), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_was_not_sealed_here_is_never_opened(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
            text in ".{0,80}",
        ) {
            let (seal, me, offer) = (Seal::new(&[7; 32]), Principal::default(), Digest::of_bytes(b"1"));
            let to = Bound { principal: &me, method: "tools/call", name: "t", offer: &offer };
            proptest::prop_assert_eq!(seal.open(&URL_SAFE_NO_PAD.encode(bytes), to), None);
            proptest::prop_assert_eq!(seal.open(&text, to), None);
            // Whatever is inside comes back as it was.
            let state = State::Relayed(text);
            proptest::prop_assert_eq!(seal.open(&seal.seal(&state, to), to), Some(state));
        }
    }
}
