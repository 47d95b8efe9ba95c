//! The last standard error of an instance, without the secrets it was given.
//!
//! Invariant: a secret is replaced before a byte of it is stored, also when it comes in pieces.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::ports::SecretValue;

/// Of one instance, as [`crate::ports::Runner::logs`] promises.
const MAX_TAIL: usize = 64 << 10;
/// Shorter values are no secrets, and replacing them would make a log unreadable.
const MIN_SECRET: usize = 4;
/// Of one line of a secret of several lines (a key): programs print such lines one by one.
const MIN_LINE: usize = 8;
const REDACTED: &[u8] = b"[redacted]";

#[derive(Default)]
pub(super) struct Tail(Mutex<State>);

#[derive(Default)]
struct State {
    /// Longest first.
    secrets: Vec<Vec<u8>>,
    stored: VecDeque<u8>,
    /// The end of what came: it may be the beginning of a secret.
    held: Vec<u8>,
    /// Nothing may be stored.
    withheld: bool,
}

/// What is shown instead of the output of a container whose secrets are not known here.
const WITHHELD: &str =
    "(not kept: it was given secrets by an earlier process, which alone could redact them)\n";

impl Tail {
    /// Of a container whose secrets are not known: nothing of its output is stored.
    pub(super) fn withheld() -> Self {
        let stored = WITHHELD.bytes().collect();
        Self(Mutex::new(State { withheld: true, stored, ..State::default() }))
    }

    pub(super) fn new<'a>(secrets: impl Iterator<Item = &'a SecretValue>) -> Self {
        let mut found = Vec::new();
        for secret in secrets {
            let value = secret.expose();
            let lines = value.split(|byte| *byte == b'\n').filter(|line| line.len() >= MIN_LINE);
            found.extend(lines.map(<[u8]>::to_vec));
            if value.trim_ascii().len() >= MIN_SECRET {
                found.push(value.trim_ascii().to_vec());
            }
        }
        found.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        found.dedup();
        Self(Mutex::new(State { secrets: found, ..State::default() }))
    }

    pub(super) fn push(&self, bytes: &[u8]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.withheld {
            return;
        }
        state.held.extend_from_slice(bytes);
        let mut held = std::mem::take(&mut state.held);
        while let Some((at, length)) = first(&state.secrets, &held) {
            state.store(&held[..at]);
            state.store(REDACTED);
            held.drain(..at + length);
        }
        let keep = beginning(&state.secrets, &held);
        let rest = held.split_off(held.len() - keep);
        state.store(&held);
        state.held = rest;
    }

    /// What is stored, as text.
    pub(super) fn text(&self) -> String {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (front, back) = state.stored.as_slices();
        String::from_utf8_lossy(&[front, back].concat()).into_owned()
    }
}

impl State {
    fn store(&mut self, bytes: &[u8]) {
        self.stored.extend(bytes);
        let over = self.stored.len().saturating_sub(MAX_TAIL);
        self.stored.drain(..over);
    }
}

/// Place and length of the first secret; of the longest one where several begin.
fn first(secrets: &[Vec<u8>], text: &[u8]) -> Option<(usize, usize)> {
    let places = secrets.iter().filter_map(|secret| {
        let at = text.windows(secret.len()).position(|window| window == secret)?;
        Some((at, secret.len()))
    });
    places.min_by_key(|(at, length)| (*at, usize::MAX - length))
}

/// How many of the last bytes may be the beginning of a secret.
fn beginning(secrets: &[Vec<u8>], text: &[u8]) -> usize {
    let longest = secrets.first().map_or(0, Vec::len).saturating_sub(1).min(text.len());
    let begins = |count: &usize| {
        let end = &text[text.len() - count..];
        secrets.iter().any(|secret| secret.len() > *count && secret.starts_with(end))
    };
    (1..=longest).rev().find(begins).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_replaced_however_they_come() {
        let secrets = ["canary-one", "canary", "-----KEY-----\nabcdefgh\n", "ab"];
        let secrets: Vec<_> = secrets.iter().map(|s| SecretValue::new(s.as_bytes())).collect();
        let text = "x canary-one y canary z abcdefgh ab c";
        for size in 1..text.len() {
            let tail = Tail::new(secrets.iter());
            for piece in text.as_bytes().chunks(size) {
                tail.push(piece);
            }
            assert_eq!(tail.text(), "x [redacted] y [redacted] z [redacted] ab c", "pieces of {size}");
        }
    }

    #[test]
    fn only_the_end_is_kept() {
        let tail = Tail::default();
        tail.push(&vec![b'a'; MAX_TAIL]);
        tail.push(b"end");
        assert_eq!(tail.text().len(), MAX_TAIL);
        assert!(tail.text().ends_with("aend"));
    }
}
