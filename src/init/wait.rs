//! A container that was started ahead of a call: it waits for one, and runs it.
//!
//! `crib-init wait [--reuse] [--egress ADDRESS:PORT]...`
//!
//! A request comes over standard input: what is to be run, with its environment, files and standard
//! input. Everything is big-endian:
//!
//! ```text
//! "TCR1"  u32 length of the rest, without what follows it
//!         u32 count  (u32 length, ARGUMENT)                       the program first
//!         u32 count  (u32 length, NAME)  (u32 length, VALUE)      environment
//!         u32 count  (u32 length, PATH)  (u32 length, CONTENTS)   files, absolute paths
//!         u32 1 with standard input, 0 without  u32 its length
//! then that many bytes of standard input
//! ```
//!
//! What is said goes to standard output, each piece as `u8 kind  u32 length` and as many bytes:
//!
//! ```text
//! 'R'  nothing                             it waits
//! 'B'  nothing                             the program is about to start; not said: it did not
//! 'O'  bytes of the program's standard output, 'E' of its standard error
//! 'X'  u32 code  u8 1 when the kernel killed for want of memory
//! ```
//!
//! The run ends when the program does: every other process is killed then, and what was printed up to
//! that moment is passed on before `X`. Then crib-init ends, or with `--reuse` cleans ([`super::clean`])
//! and says `R` again. When its standard input ends there is nobody any more, and it ends at once.

use std::fs::{self, File};
use std::io::{Error, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::process::{Child, Command, Stdio, exit};
use std::sync::atomic::Ordering;

use super::frame::{self, Frame, stream};
use super::{BAD_START, CHILD, FORWARDED, NOT_EXECUTABLE, NOT_FOUND, SIGTERM, c, clean, on, sys};

/// Of a whole request: a frame, and as long a command line as there can be. The sender keeps the same bound.
const MAX_REQUEST: usize = (4 << 20) + (512 << 10);
/// Of one piece of output, as engines read it.
const PIECE: usize = 32 << 10;
/// Of standard input that is passed on: what a pipe takes without waiting when it takes anything.
const CHUNK: usize = 4096;
const SIGINT: i32 = 2;
const SIGCHLD: i32 = 17;
const KILLED: i32 = 137;

/// What is to be run.
struct Request {
    args: Vec<String>,
    frame: Frame,
    /// Bytes of standard input that follow; none: it is empty.
    input: Option<usize>,
}

/// Where the kernel counts what it killed for want of memory, in both generations of control groups.
const MEMORY_EVENTS: [&str; 2] =
    ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];

/// Waits, and serves what comes.
pub fn wait(reuse: bool) -> ! {
    let folders = clean::folders();
    if reuse {
        // A program of one call must not read what the next one is given.
        sys::hide();
    }
    for signal in FORWARDED {
        on(signal, hand_on_or_end);
    }
    let mut killed = 0;
    let ended = sys::on_child(SIGCHLD).unwrap_or_else(|error| super::fail(BAD_START, "cannot wait", &error));
    loop {
        say(b'R', &[]);
        let request = read_request().unwrap_or_else(|error| {
            if error.kind() == ErrorKind::UnexpectedEof {
                exit(0);
            }
            super::fail(BAD_START, "no request on standard input", &error)
        });
        let (code, left) = serve(request, &ended);
        let before = killed;
        if code == KILLED {
            killed = killed_for_memory();
        }
        let mut said = (code as u32).to_be_bytes().to_vec();
        said.push((killed > before).into());
        say(b'X', &said);
        if !reuse {
            exit(0);
        }
        skip(left).and_then(|()| clean::clean(&folders)).unwrap_or_else(|error| {
            super::fail(BAD_START, "cannot clean up after a call", &error);
        });
    }
}

extern "C" fn hand_on_or_end(signal: i32) {
    let child = CHILD.load(Ordering::SeqCst);
    if child > 0 {
        // SAFETY: `kill` may be called in a signal handler.
        unsafe { c::kill(child, signal) };
    } else if signal == SIGTERM || signal == SIGINT {
        // SAFETY: `_exit` may be called in a signal handler.
        unsafe { c::_exit(0) };
    }
}

fn read_request() -> Result<Request, Error> {
    frame::read(b"TCR1", MAX_REQUEST, parse)
}

fn parse(body: &mut &[u8]) -> Option<Request> {
    let mut args = Vec::new();
    for _ in 0..frame::number(body)? {
        args.push(String::from_utf8(frame::bytes(body)?).ok()?);
    }
    let frame = frame::tables(body)?;
    let given = frame::number(body)? == 1;
    let length = frame::number(body)? as usize;
    (!args.is_empty()).then_some(Request { args, frame, input: given.then_some(length) })
}

/// Says something, in one piece. Nobody listens: then there is nothing to do any more.
fn say(kind: u8, bytes: &[u8]) {
    let mut piece = vec![kind];
    piece.extend((bytes.len() as u32).to_be_bytes());
    piece.extend(bytes);
    say_whole(&piece);
}

fn say_whole(piece: &[u8]) {
    if stream(1).write_all(piece).is_err() {
        exit(BAD_START);
    }
}

/// Runs it; its code, and how much of its standard input nobody took.
fn serve(request: Request, ended: &File) -> (i32, usize) {
    let Request { args, frame, input } = request;
    let mut run = Run { input: None, left: input.unwrap_or(0), held: Vec::new() };
    if let Err((what, error)) = frame.write() {
        return (complain(BAD_START, &what, &error), run.left);
    }
    let mut command = Command::new(&args[0]);
    command.args(&args[1..]).envs(frame.env).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    say(b'B', &[]);
    match command.spawn() {
        Ok(child) => {
            CHILD.store(child.id() as i32, Ordering::SeqCst);
            let code = run.follow(child, ended);
            CHILD.store(0, Ordering::SeqCst);
            (code, run.left)
        }
        Err(error) => {
            let code = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
            (complain(code, &format!("cannot start `{}`", args[0]), &error), run.left)
        }
    }
}

/// What a run without the program prints: as it does where crib-init was started for it alone.
fn complain(code: i32, what: &str, cause: &Error) -> i32 {
    say(b'E', format!("crib-init: {what}: {cause}\n").as_bytes());
    code
}

/// The program's standard input, on its way.
struct Run {
    /// None: it has none, has it all, or does not want more.
    input: Option<std::process::ChildStdin>,
    /// Bytes that were not read yet.
    left: usize,
    /// Bytes that were read and not passed on.
    held: Vec<u8>,
}

impl Run {
    /// Passes on what comes and goes, until the program has ended and everything it said is said.
    fn follow(&mut self, mut child: Child, ended: &File) -> i32 {
        let pid = child.id() as i32;
        self.input = child.stdin.take().filter(|_| self.left > 0);
        let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
        let mut buffer = vec![0; 5 + PIECE];
        loop {
            let wants_more = self.input.is_some() && self.held.is_empty();
            let mut watched = vec![
                (ended.as_raw_fd(), sys::POLLIN),
                // Also without wanting anything, the end of it is told.
                (0, if wants_more { sys::POLLIN } else { 0 }),
            ];
            let at = [fd(&out), fd(&err)].map(|fd| fd.map(|fd| push(&mut watched, fd, sys::POLLIN)));
            let into = fd(&self.input).filter(|_| !self.held.is_empty());
            let into = into.map(|fd| push(&mut watched, fd, sys::POLLOUT));
            let ready = sys::poll(&watched);
            let is = |at: Option<usize>| at.is_some_and(|at| ready[at]);
            if ready[1] && (!wants_more || !self.read_more()) {
                // Whoever asked is gone.
                exit(0);
            }
            if is(into) {
                self.pass_on();
            }
            if is(at[0]) && !pass(&mut out, b'O', &mut buffer) {
                out = None;
            }
            if is(at[1]) && !pass(&mut err, b'E', &mut buffer) {
                err = None;
            }
            if ready[0] {
                sys::drain(ended);
                if let Some(code) = reap(pid) {
                    clean::kill_all();
                    // Nobody is left who could write: both end.
                    while pass(&mut out, b'O', &mut buffer) {}
                    while pass(&mut err, b'E', &mut buffer) {}
                    return code;
                }
            }
        }
    }

    /// False: there is no more, though there has to be.
    fn read_more(&mut self) -> bool {
        self.held.resize(self.left.min(CHUNK), 0);
        match stream(0).read(&mut self.held) {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.held.truncate(length);
                self.left -= length;
                true
            }
        }
    }

    fn pass_on(&mut self) {
        let Some(input) = &mut self.input else { return };
        let over = match input.write(&self.held) {
            Ok(length) => {
                self.held.drain(..length);
                self.held.is_empty() && self.left == 0
            }
            // A program that does not read its input.
            Err(_) => true,
        };
        if over {
            self.input = None;
        }
    }
}

fn fd(stream: &Option<impl AsRawFd>) -> Option<RawFd> {
    stream.as_ref().map(AsRawFd::as_raw_fd)
}

fn push(watched: &mut Vec<(RawFd, i16)>, fd: RawFd, events: i16) -> usize {
    watched.push((fd, events));
    watched.len() - 1
}

/// Passes on one piece of output; false at its end.
fn pass(from: &mut Option<impl Read>, kind: u8, buffer: &mut [u8]) -> bool {
    let Some(stream) = from else { return false };
    match stream.read(&mut buffer[5..]) {
        Ok(0) => false,
        Ok(length) => {
            buffer[0] = kind;
            buffer[1..5].copy_from_slice(&(length as u32).to_be_bytes());
            say_whole(&buffer[..5 + length]);
            true
        }
        Err(error) => error.kind() == ErrorKind::Interrupted,
    }
}

/// Reaps whatever has ended; the code of the child, when it is among it.
fn reap(child: i32) -> Option<i32> {
    let mut code = None;
    while let Some((pid, ended)) = sys::reap(false) {
        if pid == child {
            code = Some(ended);
        }
    }
    code
}

/// Reads standard input of which the program took nothing.
fn skip(mut left: usize) -> Result<(), Error> {
    let mut buffer = [0; CHUNK];
    while left > 0 {
        let most = left.min(CHUNK);
        match stream(0).read(&mut buffer[..most])? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            length => left -= length,
        }
    }
    Ok(())
}

/// How often the kernel killed a process of this container for want of memory.
fn killed_for_memory() -> u64 {
    let count = |text: String| {
        let counted = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok());
        counted.unwrap_or(0)
    };
    MEMORY_EVENTS.iter().filter_map(|path| fs::read_to_string(path).ok()).map(count).sum()
}
