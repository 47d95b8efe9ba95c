//! The two places where the admin endpoint listens.

#![expect(clippy::disallowed_methods, reason = "the socket of an earlier run is removed here")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::ports::{PortError, PortResult};

/// How long answers under way may go on after the end was asked for.
const GRACE: Duration = Duration::from_secs(2);
/// What the kernel allows for the path of a socket (`sun_path`), its final NUL not counted.
const MAX_SOCKET_PATH: usize = 107;

/// The socket for changes, removed again when this is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    _removed: Removed,
}

#[derive(Debug)]
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // Gone already, or left for the next start, which removes it.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Socket {
    /// Binds the socket. The caller holds the lock of the state directory, so that what is there is
    /// of an earlier run. Only its owner can connect.
    ///
    /// # Errors
    /// When the path is too long or cannot be written.
    pub fn bind(path: &Path) -> PortResult<Self> {
        let failed = || PortError::stalled(format!("failed to listen on `{}`", path.display()));
        if path.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(failed()
                .caused_by(format!("the path is longer than {MAX_SOCKET_PATH} bytes"))
                .hint("name a shorter state directory with --state"));
        }
        if path.symlink_metadata().is_ok() {
            std::fs::remove_file(path).map_err(|cause| failed().caused_by(cause))?;
        }
        let listener = UnixListener::bind(path).map_err(|cause| failed().caused_by(cause))?;
        let removed = Removed(path.to_owned());
        std::fs::set_permissions(path, Permissions::from_mode(0o600))
            .map_err(|cause| failed().caused_by(cause))?;
        Ok(Self { listener, _removed: removed })
    }

    /// Serves until `shutdown`; answers under way get a moment to end.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, router: Router, shutdown: CancellationToken) -> std::io::Result<()> {
        let ended = shutdown.clone().cancelled_owned();
        bounded(axum::serve(self.listener, router).with_graceful_shutdown(ended), shutdown).await
    }
}

/// Serves reads on a TCP listener until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub async fn serve_tcp(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let ended = shutdown.clone().cancelled_owned();
    bounded(axum::serve(listener, router).with_graceful_shutdown(ended), shutdown).await
}

async fn bounded(
    serving: impl IntoFuture<Output = std::io::Result<()>>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    // Cancel-safe: both futures are dropped for good when the other is done.
    tokio::select! {
        served = serving.into_future() => served,
        () = late => Ok(()),
    }
}
