//! What the transport asks of whoever knows what the methods mean.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Reply, Request, Scope, Unserved};
use crate::catalog::ParamHeader;
use crate::mcp::wire::ErrorObject;
use crate::policy::Principal;
use crate::ports::CallContext;

/// The meaning of requests.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Answers a request. [`CallContext::events`] is there when the client can hear them.
    async fn request(&self, request: &Request, context: &CallContext) -> Result<Reply, ErrorObject>;

    /// Whether there is such an endpoint, and this principal may use it. Asked before anything else.
    ///
    /// # Errors
    /// Why not.
    fn admit(&self, scope: &Scope, user: &Principal) -> Result<(), Unserved>;

    /// Counts changes of what clients of an endpoint see. Its end is the end of the endpoint.
    fn changes(&self, scope: &Scope) -> watch::Receiver<Changes>;

    /// What `initialize` and `server/discover` tell.
    fn about(&self, scope: &Scope) -> About;

    /// The parameters of a tool that clients mirror into headers; none of a tool that is hidden.
    fn param_headers(&self, scope: &Scope, tool: &str, user: &Principal) -> Arc<[ParamHeader]>;
}

/// How often each list has changed since the daemon started. A watch of it holds only the newest, so
/// that a slow subscriber hears once of many changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub tools: u64,
    pub prompts: u64,
    pub resources: u64,
}

/// What is told of the endpoint as a whole.
#[derive(Clone, Debug, Default)]
pub struct About {
    pub instructions: Option<Arc<str>>,
    /// Whether arguments are completed.
    pub completions: bool,
}
