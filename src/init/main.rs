//! crib-init: the first process of every container that Toolcrib starts.
//!
//! A program of its own: no dependencies, compiled by `src/init/build.rs` as one static file, embedded in
//! Toolcrib and brought to the engine in a volume. It must run in any image, as any user, with a
//! read-only root and without capabilities.
//!
//! `crib-init run [--frame] [--egress ADDRESS:PORT]... -- PROGRAM [ARG...]`
//!
//! It starts PROGRAM as its child with the container's own standard streams, hands on signals,
//! reaps whatever else is orphaned, and ends with the code of PROGRAM (128 + signal when one ended
//! it). Staying as PID 1 instead of replacing itself gives PROGRAM the usual meaning of SIGTERM,
//! which the kernel ignores for a PID 1 without a handler, and leaves no zombies.
//!
//! With `--frame`, it first reads one frame from standard input: environment and files that the
//! engine must not know. What follows the frame belongs to PROGRAM. Everything in a frame is
//! big-endian:
//!
//! ```text
//! "TCF1"  u32 length of the rest
//!         u32 count  (u32 length, NAME)  (u32 length, VALUE)      environment
//!         u32 count  (u32 length, PATH)  (u32 length, CONTENTS)   files, absolute paths
//! ```
//!
//! With `--egress`, it listens there and hands each connection to a forwarder ([`egress`]), which is
//! this program again, in a container of its own ([`forward`]): `crib-init forward HOST:PORT...`
//!
//! With `wait` instead of `run` it was started ahead of a call, and waits for it ([`wait`]).
//!
//! Invariants: a frame that is late, cut or too large starts nothing; nothing of a frame is ever
//! printed. Codes of its own: 125 for a bad frame or usage, 126 not executable, 127 not found.

mod clean;
mod egress;
#[path = "../outgoing/forbidden.rs"]
mod forbidden;
mod forward;
mod frame;
mod sys;
mod wait;

use std::ffi::OsString;
use std::io::{Error, ErrorKind};
use std::net::SocketAddrV4;
use std::process::{Command, exit};
use std::sync::atomic::{AtomicI32, Ordering};

/// Of a whole frame. The sender keeps the same bound; more does not fit the tmpfs for files.
const MAX_FRAME: usize = 4 << 20;
/// Seconds until the frame must be there: the sender is dead if it is not.
const FRAME_SECONDS: u32 = 30;

const BAD_START: i32 = 125;
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGWINCH: the same numbers on every Linux
/// this program is built for.
const FORWARDED: [i32; 7] = [1, 2, 3, 10, 12, 15, 28];
const SIGALRM: i32 = 14;
const SIGTERM: i32 = 15;

/// What the C library gives and `std` does not.
mod c {
    unsafe extern "C" {
        pub fn signal(signal: i32, handler: usize) -> usize;
        pub fn kill(pid: i32, signal: i32) -> i32;
        pub fn alarm(seconds: u32) -> u32;
        pub fn _exit(code: i32) -> !;
    }
}

/// The child, once there is one; before, the last signal that came for it, negative.
static CHILD: AtomicI32 = AtomicI32::new(0);

extern "C" fn hand_on(signal: i32) {
    let child = CHILD.load(Ordering::SeqCst);
    if child > 0 {
        // SAFETY: `kill` may be called in a signal handler.
        unsafe { c::kill(child, signal) };
    } else {
        CHILD.store(-signal, Ordering::SeqCst);
    }
}

extern "C" fn too_late(_: i32) {
    // SAFETY: `_exit` may be called in a signal handler.
    unsafe { c::_exit(BAD_START) }
}

fn on(signal: i32, handler: extern "C" fn(i32)) {
    // SAFETY: the handlers call async-signal-safe functions and touch one atomic only.
    unsafe { c::signal(signal, handler as *const () as usize) };
}

fn fail(code: i32, what: &str, cause: &Error) -> ! {
    eprintln!("crib-init: {what}: {cause}");
    exit(code)
}

/// Reaps until the child has ended; its code.
fn wait(child: i32) -> i32 {
    loop {
        match sys::reap(true) {
            Some((pid, code)) if pid == child => return code,
            Some(_) => {}
            None => return BAD_START,
        }
    }
}

/// What follows `--egress`, as often as it is there; none when one of them is no address.
fn addresses(args: &mut std::iter::Peekable<impl Iterator<Item = OsString>>) -> Option<Vec<SocketAddrV4>> {
    let mut addresses = Vec::new();
    while args.next_if(|arg| arg == "--egress").is_some() {
        addresses.push(args.next()?.to_str()?.parse().ok()?);
    }
    Some(addresses)
}

/// Listens for what may be reached.
fn listen(egress: Vec<SocketAddrV4>) {
    if !egress.is_empty() {
        egress::listen(&egress)
            .unwrap_or_else(|error| fail(BAD_START, "cannot listen where hosts are reached", &error));
    }
}

fn misused() -> ! {
    fail(
        BAD_START,
        "usage: crib-init run [--frame] [--egress ADDRESS:PORT]... -- PROGRAM [ARG...]",
        &ErrorKind::InvalidInput.into(),
    )
}

extern "C" fn end(_: i32) {
    // SAFETY: `_exit` may be called in a signal handler.
    unsafe { c::_exit(0) }
}

fn main() {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.next_if(|arg| arg == "forward").is_some() {
        on(SIGTERM, end);
        let targets = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
        if let Err(error) = forward::forward(targets) {
            fail(BAD_START, "cannot listen for connections", &error);
        }
        return;
    }
    if args.next_if(|arg| arg == "wait").is_some() {
        let reuse = args.next_if(|arg| arg == "--reuse").is_some();
        listen(addresses(&mut args).filter(|_| args.next().is_none()).unwrap_or_else(|| misused()));
        wait::wait(reuse);
    }
    for signal in FORWARDED {
        on(signal, hand_on);
    }
    let run = args.next().is_some_and(|arg| arg == "run");
    let framed = args.next_if(|arg| arg == "--frame").is_some();
    let egress = addresses(&mut args);
    let separated = args.next().is_some_and(|arg| arg == "--");
    let (true, Some(egress), true, Some(program)) = (run, egress, separated, args.next()) else {
        misused();
    };
    listen(egress);
    let mut command = Command::new(&program);
    command.args(args);
    if framed {
        on(SIGALRM, too_late);
        // SAFETY: no preconditions.
        unsafe { c::alarm(FRAME_SECONDS) };
        let frame = frame::read(b"TCF1", MAX_FRAME, frame::tables)
            .unwrap_or_else(|error| fail(BAD_START, "no frame on standard input", &error));
        // SAFETY: no preconditions.
        unsafe { c::alarm(0) };
        frame.write().unwrap_or_else(|(what, error)| fail(BAD_START, &what, &error));
        command.envs(frame.env);
    }
    let child = command.spawn().unwrap_or_else(|error| {
        let code = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
        fail(code, &format!("cannot start `{}`", program.display()), &error)
    });
    let pid = child.id() as i32;
    let early = CHILD.swap(pid, Ordering::SeqCst);
    if early < 0 {
        // SAFETY: no preconditions.
        unsafe { c::kill(pid, -early) };
    }
    exit(wait(pid))
}
