//! Takes secrets out of what a workload prints, by value.

use crate::ports::SecretValue;

/// What stands where a secret stood.
const REDACTED: &[u8] = b"[secret]";
/// Shorter values are left alone: they would turn ordinary output into holes, and protect nothing.
pub(super) const MIN_BYTES: usize = 4;

/// Removes secrets from a stream, also where they are split over chunks.
///
/// Invariant: no byte of a secret leaves that belongs to a whole occurrence of it. Secrets that were
/// encoded or cut by the workload itself are not recognised.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Longest first, so that of two secrets that begin alike the whole one is taken.
    secrets: Vec<SecretValue>,
    held: Vec<u8>,
}

impl Redactor {
    pub fn new(secrets: &[SecretValue]) -> Self {
        let mut secrets: Vec<_> =
            secrets.iter().filter(|secret| secret.expose().len() >= MIN_BYTES).cloned().collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        Self { secrets, held: Vec::new() }
    }

    /// Bytes of the longest secret; 0 when there is nothing to redact.
    pub fn longest(&self) -> usize {
        self.secrets.first().map_or(0, |secret| secret.expose().len())
    }

    /// Takes the next chunk and gives what is certainly clean.
    pub fn feed(&mut self, chunk: &[u8]) -> Vec<u8> {
        if self.secrets.is_empty() {
            return chunk.to_vec();
        }
        self.held.extend_from_slice(chunk);
        let (clean, used) = self.scan(false);
        self.held.drain(..used);
        clean
    }

    /// The rest, at the end of the stream.
    pub fn finish(&mut self) -> Vec<u8> {
        let (clean, _) = self.scan(true);
        self.held.clear();
        clean
    }

    /// A whole text at once.
    pub fn whole(&self, bytes: &[u8]) -> Vec<u8> {
        let mut once = Self { secrets: self.secrets.clone(), held: Vec::new() };
        let mut clean = once.feed(bytes);
        clean.extend(once.finish());
        clean
    }

    /// Clean bytes, and how many of `held` they stand for. Stops where a secret may have begun,
    /// unless this is the end.
    fn scan(&self, end: bool) -> (Vec<u8>, usize) {
        let mut clean = Vec::with_capacity(self.held.len());
        let mut at = 0;
        while at < self.held.len() {
            // Most bytes begin no secret; they go as one.
            let begins = |byte: &u8| self.secrets.iter().any(|secret| secret.expose().first() == Some(byte));
            let plain = self.held[at..].iter().position(begins).unwrap_or(self.held.len() - at);
            clean.extend_from_slice(&self.held[at..at + plain]);
            at += plain;
            let rest = &self.held[at..];
            if rest.is_empty() {
                break;
            }
            let open = |secret: &SecretValue| {
                secret.expose().len() > rest.len() && secret.expose().starts_with(rest)
            };
            if !end && self.secrets.iter().any(open) {
                break;
            }
            if let Some(secret) = self.secrets.iter().find(|secret| rest.starts_with(secret.expose())) {
                clean.extend_from_slice(REDACTED);
                at += secret.expose().len();
            } else {
                clean.push(rest[0]);
                at += 1;
            }
        }
        (clean, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        let values: Vec<_> = secrets.iter().map(|secret| SecretValue::new(secret.as_bytes())).collect();
        Redactor::new(&values)
    }

    #[test]
    fn redacts_however_it_is_cut() {
        let secrets = ["canary", "canary-long", "line\nbreak", "xyz"];
        let text = "a canary b canary-long c line\nbreak cana canaryxyz end can";
        let expected = "a [secret] b [secret] c [secret] cana [secret]xyz end can";
        assert_eq!(redactor(&secrets).whole(text.as_bytes()), expected.as_bytes());
        for size in 1..text.len() {
            let mut stream = redactor(&secrets);
            let mut clean: Vec<u8> =
                text.as_bytes().chunks(size).flat_map(|chunk| stream.feed(chunk)).collect();
            clean.extend(stream.finish());
            assert_eq!(String::from_utf8(clean).unwrap(), expected, "in chunks of {size}");
        }
    }

    #[test]
    fn holds_nothing_back_without_need() {
        assert_eq!(redactor(&["canary"]).feed(b"plain"), b"plain");
        assert_eq!(redactor(&[]).feed(b"canary"), b"canary");
        assert_eq!(redactor(&["canary"]).feed(b"x can"), b"x ");
    }
}
