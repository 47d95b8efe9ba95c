//! Threads that serve connections, each with a runtime of its own.
//!
//! A call through the gateway is some twenty microseconds of work between two waits. On one runtime of
//! several threads its task and the sockets it waits for wander between them, and each batch of news wakes
//! a thread that finds little to do: in front of many servers that costs more than the work. Here a
//! connection stays where it is, and with it the connections to servers that its calls open. What else the
//! daemon does, such as reading a commit, is done elsewhere, and takes no turn of a call.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::ports::{PortError, PortResult};

/// The threads; they end when this is dropped, and with them whatever still runs there.
pub struct Lanes {
    lanes: Vec<Lane>,
    _end: DropGuard,
}

struct Lane {
    runtime: Handle,
    /// Held by each connection.
    load: Arc<()>,
}

impl Lanes {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// When the system has no room for them.
    pub fn start(count: NonZeroUsize) -> PortResult<Self> {
        let end = CancellationToken::new();
        let lanes = (0..count.get()).map(|number| Lane::start(number, end.clone())).collect::<Result<_, _>>();
        let failed = |cause| PortError::stalled("failed to start a thread for connections").caused_by(cause);
        Ok(Self { lanes: lanes.map_err(failed)?, _end: end.drop_guard() })
    }

    /// How many connections each has.
    #[cfg(test)]
    pub(super) fn load(&self) -> Vec<usize> {
        self.lanes.iter().map(|lane| Arc::strong_count(&lane.load) - 1).collect()
    }

    /// Serves a connection on the lane that has the fewest. The lanes with as few take turns by chance: by
    /// number, a client that always opens two connections would have all its calls on one.
    pub(super) fn serve<F>(
        &self,
        stream: TcpStream,
        connections: &mut JoinSet<()>,
        connection: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send,
    {
        let load = |lane: &&Lane| (Arc::strong_count(&lane.load), rand::random::<u16>());
        // Its sockets are to be watched by the lane itself.
        let (Some(lane), Ok(stream)) = (self.lanes.iter().min_by_key(load), stream.into_std()) else {
            return;
        };
        let load = Arc::clone(&lane.load);
        let served = async move {
            if let Ok(stream) = TcpStream::from_std(stream) {
                connection(stream).await;
            }
            drop(load);
        };
        connections.spawn_on(served, &lane.runtime);
    }
}

impl Lane {
    fn start(number: usize, end: CancellationToken) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        std::thread::Builder::new().name(format!("connections-{number}")).spawn(move || {
            runtime.block_on(end.cancelled());
            // What blocks does not hold up the end.
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, load: Arc::default() })
    }
}
