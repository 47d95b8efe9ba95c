//! What comes over standard input before a program starts: its environment and files, and where a
//! container was started ahead also what is to be run. The formats are in `main.rs` and `wait.rs`.
//!
//! Invariant: exactly one message is read and not a byte more. What follows belongs to the program.

use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// What a frame brings.
#[derive(Default)]
pub struct Frame {
    pub env: Vec<(String, String)>,
    pub files: Vec<(String, Vec<u8>)>,
}

/// A standard stream, which is open as long as this process lives and is not closed here.
pub fn stream(fd: RawFd) -> ManuallyDrop<File> {
    // SAFETY: see above.
    ManuallyDrop::new(unsafe { File::from_raw_fd(fd) })
}

/// Reads a message that begins with `kind`: its length, and at most so many bytes of which `parse` has to
/// take all.
pub fn read<T>(
    kind: &[u8; 4],
    most: usize,
    parse: impl FnOnce(&mut &[u8]) -> Option<T>,
) -> Result<T, Error> {
    let mut input = stream(0);
    let mut head = [0; 8];
    input.read_exact(&mut head)?;
    let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
    if !head.starts_with(kind) || length > most {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    let mut rest = body.as_slice();
    parse(&mut rest).filter(|_| rest.is_empty()).ok_or_else(|| ErrorKind::InvalidData.into())
}

/// Environment and files.
pub fn tables(body: &mut &[u8]) -> Option<Frame> {
    let mut frame = Frame::default();
    for _ in 0..number(body)? {
        let (name, value) = (bytes(body)?, bytes(body)?);
        frame.env.push((String::from_utf8(name).ok()?, String::from_utf8(value).ok()?));
    }
    for _ in 0..number(body)? {
        let (path, contents) = (bytes(body)?, bytes(body)?);
        frame.files.push((String::from_utf8(path).ok()?, contents));
    }
    Some(frame)
}

pub fn number(body: &mut &[u8]) -> Option<u32> {
    let (head, rest) = body.split_first_chunk::<4>()?;
    *body = rest;
    Some(u32::from_be_bytes(*head))
}

pub fn bytes(body: &mut &[u8]) -> Option<Vec<u8>> {
    let length = number(body)? as usize;
    let (head, rest) = body.split_at_checked(length)?;
    *body = rest;
    Some(head.to_vec())
}

impl Frame {
    /// Writes the files, readable by the container's user alone; or says which could not be.
    pub fn write(&self) -> Result<(), (String, Error)> {
        for (path, contents) in &self.files {
            write_file(path, contents).map_err(|error| (format!("cannot write `{path}`"), error))?;
        }
        Ok(())
    }
}

fn write_file(path: &str, contents: &[u8]) -> Result<(), Error> {
    if let Some(folder) = Path::new(path).parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    OpenOptions::new().write(true).create_new(true).mode(0o400).open(path)?.write_all(contents)
}
