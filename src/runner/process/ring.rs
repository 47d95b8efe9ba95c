//! The last output of a process, bounded and redacted.

use std::collections::VecDeque;

use crate::secret::Redactor;

/// Bytes of standard error kept for each instance: some hundred lines, enough for a stack trace.
pub(super) const MAX_BYTES: usize = 64 << 10;

/// Keeps the last [`MAX_BYTES`] of what was written, already without secrets.
#[derive(Default)]
pub(super) struct Ring {
    bytes: VecDeque<u8>,
    redactor: Redactor,
}

impl Ring {
    pub(super) fn new(redactor: Redactor) -> Self {
        Self { bytes: VecDeque::new(), redactor }
    }

    pub(super) fn write(&mut self, chunk: &[u8]) {
        let clean = self.redactor.feed(chunk);
        self.keep(&clean);
    }

    /// At the end of the stream.
    pub(super) fn finish(&mut self) {
        let clean = self.redactor.finish();
        self.keep(&clean);
    }

    fn keep(&mut self, clean: &[u8]) {
        let clean = &clean[clean.len().saturating_sub(MAX_BYTES)..];
        let excess = (self.bytes.len() + clean.len()).saturating_sub(MAX_BYTES);
        self.bytes.drain(..excess);
        self.bytes.extend(clean);
    }

    pub(super) fn text(&self) -> String {
        let (front, back) = self.bytes.as_slices();
        String::from_utf8_lossy(&[front, back].concat()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::SecretValue;

    #[test]
    fn keeps_the_end_without_secrets() {
        let mut ring = Ring::new(Redactor::new(&[SecretValue::new(&b"canary"[..])]));
        for at in 0..20_000 {
            ring.write(format!("{at} can").as_bytes());
            ring.write(b"ary\n");
        }
        ring.write(b"the end");
        let text = ring.text();
        assert_eq!(text.len(), MAX_BYTES);
        assert!(text.ends_with("19999 [secret]\nthe end") && !text.contains("canary"));
        ring.write(&vec![b'x'; 3 * MAX_BYTES]);
        assert_eq!(ring.text(), "x".repeat(MAX_BYTES));
    }
}
