//! The last standard error of an instance, without the secrets it was given.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::ports::SecretValue;
use crate::secret::Redactor;

/// Of one instance, as [`crate::ports::Runner::logs`] promises.
const MAX_TAIL: usize = 64 << 10;

/// What is shown instead of the output of a container whose secrets are not known here.
const WITHHELD: &[u8] =
    b"(not kept: it was given secrets by an earlier process, which alone could redact them)\n";

/// Shared by the task that reads and whoever asks for the log.
pub(super) struct Tail(Mutex<State>);

struct State {
    bytes: VecDeque<u8>,
    /// None: nothing may be stored.
    redactor: Option<Redactor>,
}

impl Tail {
    pub(super) fn new(secrets: &[SecretValue]) -> Self {
        Self(Mutex::new(State { bytes: VecDeque::new(), redactor: Some(Redactor::new(secrets)) }))
    }

    /// Of a container whose secrets are not known: nothing of its output is stored.
    pub(super) fn withheld() -> Self {
        Self(Mutex::new(State { bytes: WITHHELD.iter().copied().collect(), redactor: None }))
    }

    pub(super) fn push(&self, piece: &[u8]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let clean = state.redactor.as_mut().map(|redactor| redactor.feed(piece));
        state.keep(clean);
    }

    /// At the end of the stream.
    pub(super) fn finish(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let clean = state.redactor.as_mut().map(Redactor::finish);
        state.keep(clean);
    }

    /// What is stored, as text.
    pub(super) fn text(&self) -> String {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (front, back) = state.bytes.as_slices();
        String::from_utf8_lossy(&[front, back].concat()).into_owned()
    }
}

impl State {
    fn keep(&mut self, clean: Option<Vec<u8>>) {
        self.bytes.extend(clean.unwrap_or_default());
        let over = self.bytes.len().saturating_sub(MAX_TAIL);
        self.bytes.drain(..over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_kept_and_no_secret() {
        let tail = Tail::new(&[SecretValue::new(&b"canary"[..])]);
        tail.push(&vec![b'a'; MAX_TAIL]);
        tail.push(b"x can");
        tail.push(b"ary y");
        tail.finish();
        assert_eq!(tail.text().len(), MAX_TAIL);
        assert!(tail.text().ends_with(" y") && !tail.text().contains("canary"));

        let tail = Tail::withheld();
        tail.push(b"canary");
        assert!(tail.text().starts_with("(not kept") && !tail.text().contains("canary"));
    }
}
