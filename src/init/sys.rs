//! What the C library gives and `std` does not, for sockets.

use std::io::{Error, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr::null;

const SOL_SOCKET: i32 = 1;
const SO_KEEPALIVE: i32 = 9;
const SO_LINGER: i32 = 13;
const IPPROTO_TCP: i32 = 6;
const TCP_KEEPIDLE: i32 = 4;
const SCM_RIGHTS: i32 = 1;
const MSG_NOSIGNAL: i32 = 0x4000;
const MSG_CMSG_CLOEXEC: i32 = 0x4000_0000;
const POLLIN: i16 = 1;

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
    let mut polled: Vec<Polled> =
        sockets.iter().map(|fd| Polled { fd: *fd, events: POLLIN, happened: 0 }).collect();
    // SAFETY: the list outlives the call. An interrupted call says that nothing happened.
    unsafe { c::poll(polled.as_mut_ptr(), polled.len() as core::ffi::c_ulong, -1) };
    polled.iter().map(|one| one.happened != 0).collect()
}
