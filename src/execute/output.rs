//! What a tool prints: redacted, bounded, counted.

use crate::ports::SecretValue;
use crate::secret::Redactor;

/// Both streams of one call.
pub(super) struct Output {
    pub(super) stdout: Stream,
    pub(super) stderr: Stream,
}

/// The head of one stream.
pub(super) struct Stream {
    max: usize,
    redactor: Redactor,
    kept: Vec<u8>,
    /// Bytes that came, before redaction.
    came: u64,
    /// Bytes that were dropped; once some were, what comes is counted and not looked at.
    cut: u64,
}

impl Output {
    pub(super) fn new(max: u64) -> Self {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        Self { stdout: Stream::new(max), stderr: Stream::new(max) }
    }

    pub(super) fn redact(&mut self, secrets: &[SecretValue]) {
        for stream in [&mut self.stdout, &mut self.stderr] {
            stream.redactor = Redactor::new(secrets);
        }
    }

    pub(super) fn finish(&mut self) {
        for stream in [&mut self.stdout, &mut self.stderr] {
            let rest = stream.redactor.finish();
            stream.keep(&rest);
        }
    }

    pub(super) fn printed(&self) -> u64 {
        self.stdout.came + self.stderr.came
    }

    /// Without secrets, for messages that somebody else wrote.
    pub(super) fn clean(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.stdout.redactor.whole(text.as_bytes())).into_owned()
    }
}

impl Stream {
    fn new(max: usize) -> Self {
        Self { max, redactor: Redactor::default(), kept: Vec::new(), came: 0, cut: 0 }
    }

    /// Takes a chunk; gives the part that was kept, without secrets.
    pub(super) fn take(&mut self, chunk: &[u8]) -> Vec<u8> {
        self.came += chunk.len() as u64;
        if self.cut > 0 {
            self.cut += chunk.len() as u64;
            return Vec::new();
        }
        let clean = self.redactor.feed(chunk);
        let kept = self.keep(&clean);
        clean[..kept].to_vec()
    }

    fn keep(&mut self, clean: &[u8]) -> usize {
        let kept = clean.len().min(self.max - self.kept.len());
        self.kept.extend_from_slice(&clean[..kept]);
        self.cut += (clean.len() - kept) as u64;
        kept
    }

    /// How many bytes are missing at the end.
    pub(super) fn cut(&self) -> u64 {
        self.cut
    }

    /// The text, and whether bytes that are no UTF-8 were replaced in it. A character that was cut
    /// in two is left out.
    pub(super) fn text(&self) -> (String, bool) {
        let whole = if self.cut > 0 { self.kept.len() - partial(&self.kept) } else { self.kept.len() };
        let text = String::from_utf8_lossy(&self.kept[..whole]);
        let replaced = matches!(text, std::borrow::Cow::Owned(_));
        (text.into_owned(), replaced)
    }
}

/// How many bytes at the end are the beginning of a character that goes on.
pub(super) fn partial(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    let begins = tail.iter().rposition(|byte| *byte >= 0xc0);
    begins.map_or(0, |at| match std::str::from_utf8(&tail[at..]) {
        Err(error) if error.error_len().is_none() => tail.len() - at,
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_head_and_counts_the_rest() {
        let mut output = Output::new(8);
        output.redact(&[SecretValue::new(&b"canary"[..])]);
        assert_eq!(output.stdout.take("añb can".as_bytes()), "añb ".as_bytes());
        assert_eq!(output.stdout.take(b"ary and more"), b"[se");
        assert_eq!(output.stdout.take(b"even more can"), b"");
        output.finish();
        assert_eq!(output.stdout.text(), ("añb [se".to_owned(), false));
        let cut = "cret] and more".len() + "even more can".len();
        assert_eq!((output.stdout.cut(), output.printed()), (cut as u64, 33));
        assert_eq!(output.clean("the canary"), "the [secret]");
    }

    #[test]
    fn characters_are_whole_or_replaced() {
        let texts = [
            (&b"a\xff"[..], 8, "a\u{fffd}", true),
            ("aaé".as_bytes(), 3, "aa", false),
            ("aaé".as_bytes(), 4, "aaé", false),
            (b"aa\xc3", 8, "aa\u{fffd}", true),
        ];
        for (bytes, max, expected, replaced) in texts {
            let mut output = Output::new(max);
            output.stdout.take(bytes);
            assert_eq!(output.stdout.text(), (expected.to_owned(), replaced), "{bytes:?}");
        }
        for (bytes, expected) in
            [("é".as_bytes(), 0), (b"\xc3", 1), (b"\xf0\x9f\x98", 3), (b"\xff", 0), (b"", 0)]
        {
            assert_eq!(partial(bytes), expected, "{bytes:?}");
        }
    }
}
