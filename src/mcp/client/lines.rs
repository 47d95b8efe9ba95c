//! Lines out of a stream of bytes, each at most so long.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How much is asked of the stream at a time: a pipe holds 64 KiB.
const READ: usize = 64 << 10;

/// How much of a line that is too long is kept: enough to find the id of an answer at its front.
const HEAD: usize = 256;

/// One line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Whole(Bytes),
    /// It was longer than the limit and is skipped; this is how it began.
    TooLong(Bytes),
}

pub(super) struct Lines<R> {
    reader: R,
    buffer: BytesMut,
    /// Bytes of the buffer that are known to hold no line end.
    scanned: usize,
    max: usize,
    /// The beginning of the line that is being skipped.
    skipping: Option<Bytes>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R, max: usize) -> Self {
        Self { reader, buffer: BytesMut::new(), scanned: 0, max, skipping: None }
    }

    /// The next line that is not blank; none at the end. What stands after the last line end is no line.
    pub(super) async fn next(&mut self) -> std::io::Result<Option<Line>> {
        loop {
            while let Some(line) = self.take() {
                if !matches!(&line, Line::Whole(text) if text.trim_ascii().is_empty()) {
                    return Ok(Some(line));
                }
            }
            if self.buffer.len() > self.max {
                let head = self.buffer.split_to(HEAD.min(self.buffer.len())).freeze();
                self.skipping.get_or_insert(head);
                self.buffer = BytesMut::new();
                self.scanned = 0;
            }
            self.buffer.reserve(READ);
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn take(&mut self) -> Option<Line> {
        let fresh = self.buffer.get(self.scanned..).unwrap_or_default();
        let Some(end) = fresh.iter().position(|byte| *byte == b'\n') else {
            self.scanned = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.scanned + end + 1).freeze();
        self.scanned = 0;
        let line = line.slice(..line.len() - 1);
        Some(match self.skipping.take() {
            Some(head) => Line::TooLong(head),
            None if line.len() > self.max => Line::TooLong(line.slice(..HEAD.min(line.len()))),
            None => Line::Whole(line),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8], max: usize) -> Vec<Line> {
        let mut lines = Lines::new(input, max);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.expect("memory") {
            all.push(line);
        }
        all
    }

    #[tokio::test]
    async fn lines_end_with_a_newline_and_blank_ones_are_skipped() {
        let whole = |text: &'static str| Line::Whole(Bytes::from_static(text.as_bytes()));
        assert_eq!(lines(b"\n{1}\r\n \n{2}\n{3", 99).await, [whole("{1}\r"), whole("{2}")]);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_skipped_and_the_next_one_read() {
        let mut input = vec![b'x'; 3 * READ];
        input.extend_from_slice(b"\nok\n");
        let read = lines(&input, READ).await;
        assert_eq!(read.len(), 2);
        assert!(matches!(&read[0], Line::TooLong(head) if head.len() == HEAD));
        assert_eq!(read[1], Line::Whole(Bytes::from_static(b"ok")));
    }
}
