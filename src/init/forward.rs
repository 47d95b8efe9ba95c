//! The outer end of the ways out: a container of its own, which has a network and nothing else.
//!
//! `crib-init forward HOST:PORT...`
//!
//! Listens on one socket for each target, in the folder that it shares with the containers that may
//! reach them ([`super::egress`]). Who connects there hands over a TCP connection; it is joined to one
//! that is made to that target, and to no other. The name is resolved here, for each connection, and
//! what was resolved is judged before it is dialled: the container's own loopback and the addresses of
//! [`super::forbidden`] are never reached, whatever a name leads to.
//!
//! Says `ready` when all sockets are there. Each direction ends by itself; an error ends both.

use std::fs::{self, Permissions};
use std::io::{Error, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::egress::FOLDER;
use super::forbidden::forbidden;
use super::sys;

/// Connections of all targets together. Each has two threads and little memory.
const MAX_CONNECTIONS: usize = 256;
/// Until the connection is handed over: it is, at once, by whoever means it.
const HAND_OVER: Duration = Duration::from_secs(5);
/// Of one address of a target.
const CONNECT: Duration = Duration::from_secs(5);
/// Addresses of a target that are tried.
const MAX_ADDRESSES: usize = 4;
/// Before accepting is tried again when descriptors ran out: they come back as connections end, and nothing
/// tells of that.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Seconds of silence after which the kernel looks whether an end is still there.
const SILENCE: i32 = 60;
/// Of a thread. Resolving a name takes the most.
const STACK: usize = 256 << 10;

static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

/// Serves until it is ended.
pub fn forward(targets: Vec<String>) -> Result<(), Error> {
    let mut serving = Vec::new();
    for (at, target) in targets.into_iter().enumerate() {
        let path = format!("{FOLDER}/{at}");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        // Whatever user a container runs as, it was given the folder to connect to what is in it.
        fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        serving.push(spawn(move || serve(&listener, &target))?);
    }
    println!("ready");
    for thread in serving {
        // It ends with the process.
        let _ = thread.join();
    }
    Ok(())
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<thread::JoinHandle<()>, Error> {
    thread::Builder::new().stack_size(STACK).spawn(work)
}

/// Counts one connection as long as it lives.
struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
    }
}

fn serve(listener: &UnixListener, target: &str) {
    loop {
        let Ok((mut stream, _)) = listener.accept() else {
            thread::sleep(ACCEPT_PAUSE);
            continue;
        };
        let many = CONNECTIONS.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS;
        let (counted, target) = (Counted, target.to_owned());
        // Where there are too many the thread only says so.
        let spawned = spawn(move || {
            let connection = stream.set_read_timeout(Some(HAND_OVER)).and_then(|()| sys::receive(&stream));
            let Ok(connection) = connection.map(TcpStream::from) else { return };
            let dialled = if many {
                Err(Error::other(format!("{MAX_CONNECTIONS} connections are open already")))
            } else {
                dial(&target)
            };
            match dialled {
                Ok(outside) => {
                    drop(stream);
                    join(&connection, &outside);
                }
                Err(error) => {
                    sys::reset_on_close(&connection);
                    refuse(&mut stream, &target, &error);
                }
            }
            drop(counted);
        });
        drop(spawned);
    }
}

fn refuse(stream: &mut UnixStream, target: &str, error: &Error) {
    // Who went away need not know.
    let _ = stream.write_all(format!("cannot reach {target}: {error}").as_bytes());
}

/// Resolves, judges and connects.
fn dial(target: &str) -> Result<TcpStream, Error> {
    let found: Vec<SocketAddr> = target.to_socket_addrs()?.collect();
    let inside = |address: &SocketAddr| {
        let ip = address.ip().to_canonical();
        ip.is_loopback() || ip.is_unspecified() || forbidden(ip)
    };
    let mut last = match found.first() {
        Some(first) => Error::other(format!("{} is an address that is never dialled", first.ip())),
        None => Error::other("the name leads to no address"),
    };
    for address in found.iter().filter(|address| !inside(address)).take(MAX_ADDRESSES) {
        match TcpStream::connect_timeout(address, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Copies both ways until both are over.
fn join(inside: &TcpStream, outside: &TcpStream) {
    for socket in [inside, outside] {
        // An answer that waits for more to send with it is late.
        let _ = socket.set_nodelay(true);
        sys::keep_alive(socket, SILENCE);
    }
    let (Ok(from), Ok(to)) = (inside.try_clone(), outside.try_clone()) else { return };
    let Ok(other) = spawn(move || copy(&from, &to)) else { return };
    copy(outside, inside);
    // It ended by itself.
    let _ = other.join();
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = [0; 16 << 10];
    loop {
        let copied = match from.read(&mut buffer) {
            Ok(0) => {
                // The other direction may go on.
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Ok(length) => to.write_all(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        };
        if copied.is_err() {
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
}
