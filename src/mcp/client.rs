//! Our side as a client: connections to servers, by instance.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use super::wire::{Era, ErrorObject};
use crate::live::UpstreamKey;
use crate::ports::CallContext;

/// All connections there are. Probes make them, calls use them.
pub struct Upstreams {}

/// One connection to one instance of a server.
pub struct Upstream {}

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The server answered with an error.
    #[error("the server answered: {}", .0.message)]
    Server(ErrorObject),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the call was cancelled")]
    Cancelled,
    /// The connection is gone: the server died, or was stopped.
    #[error("the server is not there: {0}")]
    Gone(String),
    /// The server answered something that is no result: another status, garbage, too much.
    #[error("the server's answer cannot be used: {0}")]
    Unusable(String),
}

impl Upstreams {
    pub fn get(&self, _key: &UpstreamKey) -> Option<Arc<Upstream>> {
        None
    }
}

impl Upstream {
    pub fn era(&self) -> Era {
        Era::Modern
    }

    /// Sends a request and waits for its result. `params` is the JSON object of the client's
    /// parameters; what the protocol wants in `_meta` towards this server is put in here.
    pub async fn call(
        &self,
        _method: &str,
        _params: &RawValue,
        _timeout: Duration,
        _context: &CallContext,
    ) -> Result<Box<RawValue>, CallError> {
        Err(CallError::Gone("not connected".to_owned()))
    }
}
