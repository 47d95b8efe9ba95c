//! Instances that clients and calls ask for.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Channel, PortError, PortResult};
use crate::live::{Instance, UpstreamKey};

/// An instance of a server that belongs to one client, and the way to speak with it.
pub struct Lent {
    pub channel: Channel,
    pub instance: Instance,
}

/// Starts instances for one client each, where a server declares `sessions: perClient`.
#[async_trait]
pub trait Lender: Send + Sync {
    /// Starts one and returns when it runs.
    async fn lend(&self, server: &Arc<crate::desired::Server>) -> PortResult<Lent>;
    /// Takes one back, which ends it.
    fn give_back(&self, instance: Instance);
}

/// Why no instance takes a call.
#[derive(Debug)]
pub enum Unmet {
    /// Another version is served by now: it is in the newest catalog.
    Replaced,
    Failed(PortError),
}

/// Has instances started, where a server has none or too few for the calls that come.
#[async_trait]
pub trait Starter: Send + Sync {
    /// Returns when one takes calls for `any` ([`UpstreamKey::any_of`]).
    async fn start(&self, any: &UpstreamKey) -> Result<(), Unmet>;
    /// Says that those there are may be too few.
    fn more(&self);
}
