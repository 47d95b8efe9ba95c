//! Speaking with servers: how they are greeted and what they offer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::{Credentials, PortError, PortResult};
use crate::live::{Offer, UpstreamKey, Usage};

/// The two ends of a spoken connection.
pub enum Channel {
    /// A stream each way, one JSON-RPC message a line.
    Stdio { reader: Box<dyn AsyncRead + Send + Unpin>, writer: Box<dyn AsyncWrite + Send + Unpin> },
    /// Streamable HTTP at this address.
    Http { url: String },
    /// HTTP+SSE, as of 2024-11-05: the stream of events is at this address.
    Sse { url: String, credentials: Option<Arc<dyn Credentials>> },
    /// HTTP, run by somebody else; which of the two is found out by asking.
    Remote { url: String, credentials: Option<Arc<dyn Credentials>> },
}

impl Offer {
    /// What to remember for [`Greeting::Resumed`].
    pub fn handshake(&self) -> Handshake {
        Handshake {
            protocol: self.protocol.clone(),
            server_info: self.server_info.clone(),
            capabilities: self.capabilities.clone(),
            instructions: self.instructions.clone(),
        }
    }
}

/// What was agreed with a server: enough to go on in the same session without asking again.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Handshake {
    /// As in [`Offer::protocol`].
    pub protocol: String,
    pub server_info: Option<Arc<str>>,
    pub capabilities: Option<Arc<str>>,
    pub instructions: Option<String>,
}

/// How a server is greeted.
#[derive(Clone, Copy, Debug, Default)]
pub enum Greeting<'a> {
    /// Nothing is known of it: the modern way first, then the legacy one.
    #[default]
    Unknown,
    /// Its workload digest spoke this before ([`Offer::protocol`]), or `legacy` after [`NotModern`].
    Known(&'a str),
    /// An earlier daemon greeted this very instance and ended cleanly: no handshake.
    Resumed(&'a Handshake),
}

/// The cause in a [`PortError`] when a server died of, or answered nonsense to, a modern greeting:
/// start it anew and greet it as `Greeting::Known("legacy")`.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the server did not survive being greeted in the modern way; it is greeted the legacy way next")]
pub struct NotModern;

impl PortError {
    /// Whether [`NotModern`] is the cause.
    pub fn is_not_modern(&self) -> bool {
        self.source.as_ref().and_then(|cause| cause.downcast_ref::<NotModern>()).is_some()
    }
}

/// Asks a server what it offers, and keeps the connection for calls.
#[async_trait]
pub trait Prober: Send + Sync {
    /// Connects (or uses the connection there is) and lists everything, within `deadline`.
    async fn probe(
        &self,
        key: &UpstreamKey,
        channel: Channel,
        greeting: Greeting<'_>,
        deadline: Duration,
        cancel: &CancellationToken,
    ) -> PortResult<Offer>;
    /// Lists again over the connection there is.
    async fn refresh(&self, key: &UpstreamKey, deadline: Duration) -> PortResult<Offer>;
    /// Lets calls in flight finish for at most `grace`, then closes.
    async fn release(&self, key: &UpstreamKey, grace: Duration);
    /// Calls a tool over the connection there is, before it is offered to anybody: the raw JSON of its
    /// `CallToolResult`. An error of the protocol is a result that says so.
    async fn call(
        &self,
        key: &UpstreamKey,
        params: &RawValue,
        deadline: Duration,
        cancel: &CancellationToken,
    ) -> PortResult<String>;
    /// The connections that work now.
    fn connected(&self) -> BTreeSet<UpstreamKey>;
    /// From now on this connection takes calls for what a catalog leads to ([`UpstreamKey::any_of`]).
    fn admit(&self, any: &UpstreamKey, key: &UpstreamKey);
    /// From now on it takes none. It stays connected, and calls under way go on.
    fn dismiss(&self, key: &UpstreamKey);
    /// How much those are used that take calls for `any`.
    fn usage(&self, any: &UpstreamKey) -> Usage;
}
