//! Server-sent events out of chunks of bytes, each event at most so long.
//!
//! Source: the event stream format of the HTML standard.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};

/// The event is longer than the limit.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::mcp::client) struct TooLong;

pub(in crate::mcp::client) struct Events {
    buffer: BytesMut,
    /// Bytes of the buffer that are known to hold no line end.
    scanned: usize,
    /// The line before ended with a carriage return: a line feed that follows belongs to it.
    after_cr: bool,
    begun: bool,
    data: BytesMut,
    has_data: bool,
    /// Of the event that is being read, and of the one that was returned last.
    name: [Bytes; 2],
    last_id: Option<String>,
    retry: Option<Duration>,
    max: usize,
}

impl Events {
    pub(in crate::mcp::client) fn new(max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            scanned: 0,
            after_cr: false,
            begun: false,
            data: BytesMut::new(),
            has_data: false,
            name: Default::default(),
            last_id: None,
            retry: None,
            max,
        }
    }

    /// Goes on with another stream, which begins after the last event that was whole.
    pub(in crate::mcp::client) fn resume(&mut self) {
        let Self { last_id, retry, max, .. } = self;
        *self = Self { last_id: last_id.take(), retry: *retry, ..Self::new(*max) };
    }

    /// What to ask for after a break, and how long to wait before; none when the server gave no id.
    pub(in crate::mcp::client) fn last_id(&self) -> Option<(&str, Option<Duration>)> {
        self.last_id.as_deref().map(|id| (id, self.retry))
    }

    /// What the event that was returned last calls itself; nothing for most.
    pub(in crate::mcp::client) fn name(&self) -> &[u8] {
        let [_, returned] = &self.name;
        returned
    }

    pub(in crate::mcp::client) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The data of the next event that is whole; none when more bytes are needed.
    pub(in crate::mcp::client) fn next(&mut self) -> Result<Option<Bytes>, TooLong> {
        while let Some(line) = self.line() {
            if line.is_empty() {
                let data = self.data.split().freeze();
                let [reading, returned] = &mut self.name;
                *returned = std::mem::take(reading);
                if std::mem::take(&mut self.has_data) && !data.is_empty() {
                    return Ok(Some(data));
                }
                continue;
            }
            self.field(&line);
            if self.data.len() > self.max {
                return Err(TooLong);
            }
        }
        if self.buffer.len() > self.max { Err(TooLong) } else { Ok(None) }
    }

    fn field(&mut self, line: &[u8]) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.extend_from_slice(b"\n");
                }
                self.data.extend_from_slice(value);
            }
            b"event" => self.name = [Bytes::copy_from_slice(value), Bytes::new()],
            b"id" => self.last_id = text(value).filter(|id| !id.contains('\0')),
            b"retry" => self.retry = text(value).and_then(|ms| ms.parse().ok()).map(Duration::from_millis),
            _ => {}
        }
    }

    fn line(&mut self) -> Option<Bytes> {
        if !self.begun && self.buffer.len() >= 3 {
            self.begun = true;
            if self.buffer.starts_with("\u{feff}".as_bytes()) {
                self.buffer.advance(3);
            }
        }
        if self.after_cr && !self.buffer.is_empty() {
            self.after_cr = false;
            if self.buffer.first() == Some(&b'\n') {
                self.buffer.advance(1);
            }
        }
        let fresh = self.buffer.get(self.scanned..).unwrap_or_default();
        let Some(end) = fresh.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            self.scanned = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.scanned + end).freeze();
        self.scanned = 0;
        self.after_cr = self.buffer.first() == Some(&b'\r');
        self.buffer.advance(1);
        Some(line)
    }
}

fn text(value: &[u8]) -> Option<String> {
    String::from_utf8(value.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_id_is_kept_over_a_break() {
        let mut events = Events::new(64);
        events.push(b"id: 7\nretry: 20\ndata:\n\ndata: half an ev");
        assert_eq!(events.next(), Ok(None));
        events.resume();
        assert_eq!(events.last_id(), Some(("7", Some(Duration::from_millis(20)))));
        events.push(b"data: whole\n\n");
        assert_eq!(events.next(), Ok(Some(Bytes::from_static(b"whole"))));
    }

    #[test]
    fn events_have_names() {
        let mut events = Events::new(64);
        events.push(b"event: endpoint\ndata: /m\n\ndata: {}\n\nevent: message\ndata: {}\n\n");
        for name in ["endpoint", "", "message"] {
            assert!(matches!(events.next(), Ok(Some(_))));
            assert_eq!(events.name(), name.as_bytes());
        }
    }

    fn read(chunks: &[&[u8]]) -> Vec<String> {
        let mut events = Events::new(64);
        let mut read = Vec::new();
        for chunk in chunks {
            events.push(chunk);
            while let Some(event) = events.next().expect("short") {
                read.push(String::from_utf8(event.to_vec()).expect("text"));
            }
        }
        read
    }

    #[test]
    fn events_end_with_a_blank_line_however_it_is_written() {
        let cases: [(&str, &[&str]); 6] = [
            ("data: {1}\n\n", &["{1}"]),
            ("\u{feff}event: message\r\ndata:{1}\r\n\r\ndata: {2}\r\n\r\n", &["{1}", "{2}"]),
            (": ping\n\nretry: 5\nid: 7\ndata:\n\n", &[]),
            ("data: a\ndata:  b\nignored\n\n", &["a\n b"]),
            ("data: a\rdata: b\r\rdata: c\r\r", &["a\nb", "c"]),
            ("data: cut off\n", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(read(&[text.as_bytes()]), expected, "{text:?} at once");
            let bytes: Vec<_> = text.as_bytes().chunks(1).collect();
            assert_eq!(read(&bytes), expected, "{text:?} byte by byte");
        }
    }

    #[test]
    fn an_event_is_bounded_by_line_and_in_sum() {
        let mut events = Events::new(64);
        events.push(&[b'x'; 65]);
        assert_eq!(events.next(), Err(TooLong));
        let mut events = Events::new(64);
        events.push(&b"data: 0123456789\n".repeat(7));
        assert_eq!(events.next(), Err(TooLong));
    }

    /// What is read of chunks, and whether it ended for its length. What is held is bounded all the time.
    fn drained(chunks: &[&[u8]], max: usize) -> (Vec<Bytes>, bool) {
        let mut events = Events::new(max);
        let mut read = Vec::new();
        for chunk in chunks {
            events.push(chunk);
            loop {
                match events.next() {
                    Ok(Some(event)) => read.push(event),
                    Ok(None) => break,
                    Err(TooLong) => return (read, true),
                }
            }
            assert!(events.buffer.len() <= max && events.data.len() <= max);
        }
        (read, false)
    }

    /// Streams out of what they are made of.
    fn streams() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
        use proptest::prelude::*;
        let part = prop_oneof![
            proptest::sample::select(vec![
                &b"data: "[..],
                b"data",
                b"id: 7",
                b"retry: 5",
                b"event: x",
                b":",
                b"\n",
                b"\r",
                b"\r\n",
                b"\n\n",
                b"\xef\xbb\xbf",
                b"{}",
                b"\xff",
            ])
            .prop_map(<[u8]>::to_vec),
            proptest::collection::vec(any::<u8>(), 0..4),
        ];
        proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    proptest::proptest! {
        #[test]
        fn however_a_stream_is_cut_the_same_is_read(
            stream in streams(),
            cuts in proptest::collection::vec(1..20_usize, 1..40),
        ) {
            let mut chunks = Vec::new();
            let mut rest = stream.as_slice();
            for cut in cuts {
                let (chunk, after) = rest.split_at(cut.min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            chunks.push(rest);
            let whole = drained(&[&stream], 10_000);
            proptest::prop_assert!(!whole.1);
            proptest::prop_assert_eq!(drained(&chunks, 10_000), whole);
            // A short limit ends it, and nothing but what was whole before was read.
            let (short, _) = drained(&chunks, 16);
            proptest::prop_assert!(short.iter().all(|event| event.len() <= 16));
        }
    }
}
