//! The inner end of the ways out: inside a container that has no network.
//!
//! Each allowed host has a name in `/etc/hosts` and an address of the loopback. Here its ports are
//! listened on; each connection is handed, as it is, to the forwarder outside ([`super::forward`]), over
//! a socket in a folder that both containers see. Nothing is copied here, and nothing decided: the
//! folder has one socket for each host and port that may be reached, and the forwarder is at the other
//! end of it.

use std::io::{Error, Read};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use super::sys;

/// Where both containers have the sockets, named by the place of their target in the list.
pub const FOLDER: &str = "/.toolcrib-egress";
/// Connections whose target is being dialled. More wait in the kernel's queue.
const MAX_PENDING: usize = 64;
/// Bytes of the reason why a target cannot be reached.
const MAX_REASON: usize = 512;

/// Listens on these from now on, in a thread. The `n`th is the `n`th target.
pub fn listen(addresses: &[SocketAddrV4]) -> Result<(), Error> {
    let listeners = addresses.iter().map(TcpListener::bind).collect::<Result<Vec<_>, _>>()?;
    let pass_on = move || pass_on(&listeners);
    std::thread::Builder::new().stack_size(64 << 10).spawn(pass_on).map(|_| ())
}

fn pass_on(listeners: &[TcpListener]) {
    // The connection is held until its fate is told: it is reset only after that.
    let mut pending: Vec<(UnixStream, TcpStream)> = Vec::new();
    loop {
        let open = if pending.len() < MAX_PENDING { listeners.len() } else { 0 };
        let mut sockets: Vec<_> = listeners[..open].iter().map(AsRawFd::as_raw_fd).collect();
        sockets.extend(pending.iter().map(|(stream, _)| stream.as_raw_fd()));
        let ready = sys::readable(&sockets);
        let mut answered = ready[open..].iter().copied();
        pending.retain_mut(|(stream, _)| {
            let over = answered.next().unwrap_or_default();
            if over {
                tell(stream);
            }
            !over
        });
        for (at, listener) in listeners[..open].iter().enumerate().filter(|(at, _)| ready[*at]) {
            let Ok((connection, _)) = listener.accept() else { continue };
            match hand_over(at, &connection) {
                Ok(stream) => pending.push((stream, connection)),
                Err(error) => {
                    eprintln!("crib-init: the forwarder cannot be reached: {error}");
                    sys::reset_on_close(&connection);
                }
            }
        }
    }
}

fn hand_over(target: usize, connection: &TcpStream) -> Result<UnixStream, Error> {
    let stream = UnixStream::connect(format!("{FOLDER}/{target}"))?;
    sys::send(&stream, connection.as_raw_fd())?;
    Ok(stream)
}

/// What the forwarder says of a target that it cannot reach; nothing of one that it can.
fn tell(stream: &mut UnixStream) {
    let mut reason = [0; MAX_REASON];
    if let Ok(length @ 1..) = stream.read(&mut reason) {
        eprintln!("crib-init: {}", String::from_utf8_lossy(&reason[..length]).trim_end());
    }
}
