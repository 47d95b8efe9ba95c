//! What the C library gives and `std` does not: for sockets, processes, and what processes share.

use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr::null;
use std::sync::atomic::{AtomicI32, Ordering};

const SOL_SOCKET: i32 = 1;
const SO_KEEPALIVE: i32 = 9;
const SO_LINGER: i32 = 13;
const IPPROTO_TCP: i32 = 6;
const TCP_KEEPIDLE: i32 = 4;
const SCM_RIGHTS: i32 = 1;
const MSG_NOSIGNAL: i32 = 0x4000;
const MSG_CMSG_CLOEXEC: i32 = 0x4000_0000;
pub const POLLIN: i16 = 1;
pub const POLLOUT: i16 = 4;
const WNOHANG: i32 = 1;
const PR_SET_DUMPABLE: i32 = 4;
const IPC_RMID: i32 = 0;

#[repr(C)]
struct IoVec {
    base: *const u8,
    length: usize,
}

/// `struct msghdr`. Where a C library has shorter lengths it has padding of zeros after them.
#[repr(C)]
struct Message {
    name: *const u8,
    name_length: u32,
    parts: *mut IoVec,
    count: usize,
    control: *mut Control,
    control_length: usize,
    flags: i32,
}

/// `struct cmsghdr` with one file descriptor after it.
#[repr(C)]
struct Control {
    length: usize,
    level: i32,
    kind: i32,
    fd: i32,
}

/// What `CMSG_LEN(sizeof(int))` is.
const CONTROL_LENGTH: usize = std::mem::offset_of!(Control, fd) + size_of::<i32>();

#[repr(C)]
struct Polled {
    fd: i32,
    events: i16,
    happened: i16,
}

mod c {
    use super::{Message, Polled};

    unsafe extern "C" {
        pub fn sendmsg(fd: i32, message: *const Message, flags: i32) -> isize;
        pub fn recvmsg(fd: i32, message: *mut Message, flags: i32) -> isize;
        pub fn setsockopt(fd: i32, level: i32, name: i32, value: *const i32, length: u32) -> i32;
        pub fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
        pub fn kill(pid: i32, signal: i32) -> i32;
        pub fn signal(signal: i32, handler: usize) -> usize;
        pub fn write(fd: i32, bytes: *const u8, count: usize) -> isize;
        pub fn geteuid() -> u32;
        pub fn prctl(operation: i32, ...) -> i32;
        pub fn shmctl(id: i32, command: i32, buffer: *const u8) -> i32;
        pub fn semctl(id: i32, which: i32, command: i32, ...) -> i32;
        pub fn msgctl(id: i32, command: i32, buffer: *const u8) -> i32;
        pub fn poll(polled: *mut Polled, count: core::ffi::c_ulong, timeout: i32) -> i32;
    }
}

/// One byte, and the descriptor with it.
fn with_message<T>(byte: &mut u8, fd: RawFd, work: impl FnOnce(&mut Message) -> T) -> (T, Control) {
    let mut control = Control { length: CONTROL_LENGTH, level: SOL_SOCKET, kind: SCM_RIGHTS, fd };
    let mut part = IoVec { base: byte, length: 1 };
    let mut message = Message {
        name: null(),
        name_length: 0,
        parts: &mut part,
        count: 1,
        control: &mut control,
        // Room for one: the kernel closes what does not fit.
        control_length: CONTROL_LENGTH,
        flags: 0,
    };
    let done = work(&mut message);
    if message.control_length < CONTROL_LENGTH || message.control.is_null() {
        control.length = 0;
    }
    (done, control)
}

/// Hands a descriptor to whoever listens at the other end.
pub fn send(stream: &UnixStream, fd: RawFd) -> Result<(), Error> {
    // SAFETY: everything the message points to outlives the call.
    let (sent, _) = with_message(&mut 0, fd, |message| unsafe {
        c::sendmsg(stream.as_raw_fd(), message, MSG_NOSIGNAL)
    });
    if sent == 1 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Takes the descriptor that the other end hands over.
pub fn receive(stream: &UnixStream) -> Result<OwnedFd, Error> {
    let mut byte = 0;
    // SAFETY: everything the message points to outlives the call, and has room for one descriptor.
    let (received, control) = with_message(&mut byte, -1, |message| unsafe {
        c::recvmsg(stream.as_raw_fd(), message, MSG_CMSG_CLOEXEC)
    });
    match received {
        -1 => Err(Error::last_os_error()),
        1 if control.length == CONTROL_LENGTH && control.kind == SCM_RIGHTS && control.fd >= 0 => {
            // SAFETY: the kernel made it for this process, and nobody else has it.
            Ok(unsafe { OwnedFd::from_raw_fd(control.fd) })
        }
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

fn set(fd: &impl AsRawFd, level: i32, name: i32, value: &[i32]) {
    // A connection without the option is a connection still.
    // SAFETY: the value outlives the call, and its length is right.
    unsafe { c::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr(), size_of_val(value) as u32) };
}

/// Has the kernel look, after so many seconds of silence, whether the other end is there.
pub fn keep_alive(socket: &impl AsRawFd, seconds: i32) {
    set(socket, SOL_SOCKET, SO_KEEPALIVE, &[1]);
    set(socket, IPPROTO_TCP, TCP_KEEPIDLE, &[seconds]);
}

/// Has closing the socket reset the connection: its other end hears an error, not an end.
pub fn reset_on_close(socket: &impl AsRawFd) {
    set(socket, SOL_SOCKET, SO_LINGER, &[1, 0]);
}

/// Waits until one of these can be read from, or is over; which.
pub fn readable(sockets: &[RawFd]) -> Vec<bool> {
    poll(&sockets.iter().map(|fd| (*fd, POLLIN)).collect::<Vec<_>>())
}

/// Waits until one of these is ready for what is asked of it, or is over; which.
pub fn poll(watched: &[(RawFd, i16)]) -> Vec<bool> {
    let mut polled: Vec<Polled> =
        watched.iter().map(|(fd, events)| Polled { fd: *fd, events: *events, happened: 0 }).collect();
    // SAFETY: the list outlives the call. An interrupted call says that nothing happened.
    unsafe { c::poll(polled.as_mut_ptr(), polled.len() as core::ffi::c_ulong, -1) };
    polled.iter().map(|one| one.happened != 0).collect()
}

/// Reaps a process that has ended: its id and its code, 128 + signal when one ended it. None: there is none,
/// or with `patient` no process at all.
pub fn reap(patient: bool) -> Option<(i32, i32)> {
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let ended = unsafe { c::waitpid(-1, &mut status, if patient { 0 } else { WNOHANG }) };
        let (signal, code) = (status & 0x7f, (status >> 8) & 0xff);
        match ended {
            1.. => return Some((ended, if signal == 0 { code } else { 128 + signal })),
            -1 if Error::last_os_error().kind() == ErrorKind::Interrupted => {}
            _ => return None,
        }
    }
}

/// Sends a signal to every process there is, but the first, which calls this.
pub fn kill_all(signal: i32) {
    // SAFETY: no preconditions.
    unsafe { c::kill(-1, signal) };
}

pub fn is_root() -> bool {
    // SAFETY: no preconditions.
    unsafe { c::geteuid() == 0 }
}

/// From now on no other process of the same user reads this one's memory or descriptors.
pub fn hide() {
    // SAFETY: a number alone.
    unsafe { c::prctl(PR_SET_DUMPABLE, 0_u64, 0_u64, 0_u64, 0_u64) };
}

/// What processes leave to each other (System V).
#[derive(Clone, Copy)]
pub enum Ipc {
    Memory,
    Semaphores,
    Queue,
}

pub fn remove(kind: Ipc, id: i32) -> Result<(), Error> {
    // SAFETY: removing takes nothing but the id.
    let removed = unsafe {
        match kind {
            Ipc::Memory => c::shmctl(id, IPC_RMID, null()),
            Ipc::Semaphores => c::semctl(id, 0, IPC_RMID),
            Ipc::Queue => c::msgctl(id, IPC_RMID, null()),
        }
    };
    if removed == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Where the end of a child is told.
static TOLD: AtomicI32 = AtomicI32::new(-1);

extern "C" fn tell(_: i32) {
    // SAFETY: `write` may be called in a signal handler. A full socket has told already.
    unsafe { c::write(TOLD.load(Ordering::SeqCst), [0].as_ptr(), 1) };
}

/// What can be read from when a child has ended, after `signal`, which says so.
pub fn on_child(signal: i32) -> Result<File, Error> {
    let (reader, writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    writer.set_nonblocking(true)?;
    TOLD.store(writer.into_raw_fd(), Ordering::SeqCst);
    // SAFETY: the handler calls an async-signal-safe function and reads one atomic.
    unsafe { c::signal(signal, tell as extern "C" fn(i32) as *const () as usize) };
    Ok(File::from(OwnedFd::from(reader)))
}

/// Reads whatever there is to be read.
pub fn drain(mut from: &File) {
    while matches!(from.read(&mut [0; 64]), Ok(1..)) {}
}
