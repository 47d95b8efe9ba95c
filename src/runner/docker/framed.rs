//! What is spoken with crib-init in a container that waits. Pure.
//!
//! The formats are described in `src/init/wait.rs`, which has the other end.

use bytes::{Buf as _, Bytes, BytesMut};

use super::frame;
use crate::ports::{Material, PortResult};

/// Of one piece of output: crib-init reads as much at a time.
const MAX_PIECE: u32 = 64 << 10;
/// Kind and length.
const HEAD: usize = 5;

/// A request: everything but the standard input that follows it.
///
/// # Errors
/// When it does not fit: see [`frame`].
pub(super) fn request(argv: &[String], material: &Material, stdin: Option<&Bytes>) -> PortResult<Vec<u8>> {
    let mut body = Vec::new();
    frame::number(&mut body, argv.len());
    for arg in argv {
        frame::bytes(&mut body, arg.as_bytes());
    }
    body.extend(frame::tables(material)?);
    frame::number(&mut body, usize::from(stdin.is_some()));
    frame::number(&mut body, stdin.map_or(0, Bytes::len));
    let mut request = b"TCR1".to_vec();
    frame::bytes(&mut request, &body);
    Ok(request)
}

/// What crib-init says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Waiting,
    /// From here on the program may have been started.
    Begins,
    Stdout(Bytes),
    Stderr(Bytes),
    Exit {
        code: u32,
        out_of_memory: bool,
    },
}

/// Something that crib-init does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what the container said is not what crib-init says")]
pub(super) struct Gibberish;

/// Takes bytes as they come, gives what they say.
#[derive(Default)]
pub(super) struct Decoder {
    held: BytesMut,
    /// Of a piece of output that is not whole yet: its kind, and how much is missing.
    open: Option<(u8, usize)>,
}

impl Decoder {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next thing that is said whole, or the part of a piece that is there.
    pub(super) fn next(&mut self) -> Result<Option<Said>, Gibberish> {
        if self.open.is_none() {
            let Some((head, _)) = self.held.split_first_chunk::<HEAD>() else { return Ok(None) };
            let [kind, length @ ..] = *head;
            let length = u32::from_be_bytes(length);
            match (kind, length) {
                (b'R' | b'B', 0) => {
                    self.held.advance(HEAD);
                    return Ok(Some(if kind == b'R' { Said::Waiting } else { Said::Begins }));
                }
                (b'X', 5) => return Ok(self.exit()),
                (b'O' | b'E', 1..=MAX_PIECE) => {
                    self.held.advance(HEAD);
                    self.open = Some((kind, length as usize));
                }
                _ => return Err(Gibberish),
            }
        }
        let Some((kind, missing)) = self.open.filter(|_| !self.held.is_empty()) else { return Ok(None) };
        let piece = self.held.split_to(missing.min(self.held.len())).freeze();
        let missing = missing - piece.len();
        self.open = (missing > 0).then_some((kind, missing));
        Ok(Some(if kind == b'O' { Said::Stdout(piece) } else { Said::Stderr(piece) }))
    }

    fn exit(&mut self) -> Option<Said> {
        let whole = self.held.get(HEAD..HEAD + 5)?;
        let (code, flag) = whole.split_first_chunk::<4>()?;
        let said = Said::Exit { code: u32::from_be_bytes(*code), out_of_memory: flag == [1] };
        self.held.advance(HEAD + 5);
        Some(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::SecretValue;

    /// All that was said, with pieces of one stream joined.
    fn said(bytes: &[u8], at_a_time: usize) -> Result<Vec<Said>, Gibberish> {
        let mut decoder = Decoder::default();
        let mut all: Vec<Said> = Vec::new();
        for part in bytes.chunks(at_a_time) {
            decoder.feed(part);
            while let Some(next) = decoder.next()? {
                match (all.last_mut(), next) {
                    (Some(Said::Stdout(before)), Said::Stdout(more)) => {
                        *before = [&before[..], &more[..]].concat().into();
                    }
                    (_, next) => all.push(next),
                }
            }
        }
        Ok(all)
    }

    #[test]
    fn what_is_said_is_understood_however_it_is_cut() {
        let bytes = b"R\0\0\0\0B\0\0\0\0O\0\0\0\x05helloE\0\0\0\x01!O\0\0\0\x02ab\
            X\0\0\0\x05\0\0\0\x89\x01R\0\0\0\0";
        let expected = [
            Said::Waiting,
            Said::Begins,
            Said::Stdout("hello".into()),
            Said::Stderr("!".into()),
            Said::Stdout("ab".into()),
            Said::Exit { code: 137, out_of_memory: true },
            Said::Waiting,
        ];
        for at_a_time in [1, 2, 3, 7, bytes.len()] {
            assert_eq!(said(bytes, at_a_time).unwrap(), expected, "{at_a_time}");
        }
    }

    #[test]
    fn what_crib_init_never_says_is_an_error() {
        for bytes in [
            &b"hello world"[..],
            b"R\0\0\0\x01x",
            b"X\0\0\0\x04\0\0\0\0",
            b"O\0\0\0\0R",
            b"O\0\x02\0\0x",
            b"\0\0\0\0\0",
        ] {
            assert_eq!(said(bytes, 3), Err(Gibberish), "{bytes:?}");
        }
    }

    #[test]
    fn requests_are_exact() {
        let mut material = Material::default();
        material.env.insert("A".to_owned(), SecretValue::new(&b"b"[..]));
        let argv = ["ls".to_owned(), String::new()];
        let written = request(&argv, &material, Some(&Bytes::from("in"))).unwrap();
        let expected = b"TCR1\0\0\0\x28\0\0\0\x02\0\0\0\x02ls\0\0\0\0\
            \0\0\0\x01\0\0\0\x01A\0\0\0\x01b\0\0\0\0\0\0\0\x01\0\0\0\x02";
        assert_eq!(written, expected);
    }
}
