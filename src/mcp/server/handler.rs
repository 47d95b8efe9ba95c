//! What the transport asks of whoever knows what the methods mean.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde_json::value::RawValue;
use tokio::sync::{broadcast, watch};

use super::{Reply, Request, Scope, Unserved};
use crate::catalog::ParamHeader;
use crate::mcp::client::{Updated, Watch};
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

    /// Begins to hear of changes of the resource that `request` names in `uri`, until what is returned
    /// is dropped.
    ///
    /// # Errors
    /// When there is no such resource for this principal, or its server does not tell of changes.
    fn watch(&self, request: &Request, uri: &str) -> Result<Watch, ErrorObject>;

    /// Begins to hear of tasks, by the ids that `request`'s client has for them, until what is returned is
    /// dropped.
    ///
    /// # Errors
    /// When the client does not say that it takes tasks.
    async fn tasks(
        self: Arc<Self>,
        request: Request,
        ids: BTreeSet<String>,
    ) -> Result<TaskStates, ErrorObject>;

    /// Resources that changed, of those that anybody watches.
    fn updates(&self) -> broadcast::Receiver<Updated>;

    /// The parameters of a tool that clients mirror into headers; none of a tool that is hidden.
    fn param_headers(&self, scope: &Scope, tool: &str, user: &Principal) -> Arc<[ParamHeader]>;
}

/// Tasks that a client hears of.
pub struct TaskStates {
    /// Those of which it does: there are such, for this client, and their servers tell of them.
    pub ids: BTreeSet<String>,
    /// Their states: the parameters of notifications, but for what ties them to a subscription. It ends when
    /// one of them cannot be told of any more.
    pub states: BoxStream<'static, Box<RawValue>>,
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
    /// Whether changes of resources are told.
    pub subscribe: bool,
    /// Whether calls may be answered with tasks.
    pub tasks: bool,
}
