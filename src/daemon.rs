//! Builds everything, supervises, shuts down in order; the only place that names adapters.

pub mod source;

use tokio_util::sync::CancellationToken;

use crate::admin::PlanView;
use crate::config::Config;
use crate::resource::Revision;
use crate::status::Status;

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DaemonError {
    pub message: String,
    pub hint: Option<String>,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What `run` prints when the first catalog is served.
#[derive(Clone, Debug, Default)]
pub struct Banner {
    /// `http://127.0.0.1:7800/mcp`, with the real port.
    pub mcp: String,
    /// `http://127.0.0.1:7801`, with the real port.
    pub admin: String,
    pub revision: Option<Revision>,
    /// Published name, owner (`Server/time`) and title or description of each tool.
    pub tools: Vec<(String, String, String)>,
    pub prompts: usize,
    pub resources: usize,
    /// Resources that are not ready, with the message why.
    pub not_ready: Vec<(String, String)>,
}

/// Follows, serves, and returns when `shutdown` was cancelled and everything is drained.
/// `on_ready` is called once, after the first catalog is served.
///
/// # Errors
/// When a listener, the state directory or the configuration does not permit a start.
pub async fn run(
    config: Config,
    shutdown: CancellationToken,
    on_ready: Box<dyn FnOnce(&Banner) + Send>,
) -> Result<(), DaemonError> {
    drop((config, on_ready));
    shutdown.cancelled().await;
    Ok(())
}

/// One pass without listeners: what it did is in the status.
///
/// # Errors
/// When the pass could not be made at all; failed steps are conditions of the status.
pub async fn apply(config: Config, cancel: CancellationToken) -> Result<Status, DaemonError> {
    drop((config, cancel));
    Ok(Status::default())
}

/// What a pass would do now, computed without a daemon; changes nothing.
///
/// # Errors
/// When the repository cannot be read or a runner's answer is needed and missing.
pub async fn plan(config: Config, cancel: CancellationToken) -> Result<PlanView, DaemonError> {
    drop((config, cancel));
    Ok(PlanView::default())
}
