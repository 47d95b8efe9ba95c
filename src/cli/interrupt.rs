//! SIGINT and SIGTERM: the first asks for an end, the second does not wait for it.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::error::{CliError, CliResult};

/// Does `work`, which ends when `cancel` is cancelled, until it is done.
///
/// # Errors
/// When a second signal comes before the work has ended, or signals cannot be heard.
pub(super) async fn until_done<T>(cancel: &CancellationToken, work: impl Future<Output = T>) -> CliResult<T> {
    let deaf = |error: std::io::Error| CliError::failure("failed to listen for signals").caused_by(&error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(deaf)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(deaf)?;
    let mut work = std::pin::pin!(work);
    loop {
        // Cancel-safe: `recv` loses nothing when dropped, and the work is only polled by reference.
        let name = tokio::select! {
            done = &mut work => return Ok(done),
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        if cancel.is_cancelled() {
            return Err(CliError::failure(format!(
                "ended by a second signal, {name}, before all was in order"
            ))
            .hint("the next start puts right what was left"));
        }
        tracing::info!(signal = name, "ending; once more ends at once");
        cancel.cancel();
    }
}
