//! What is held for clients, as metrics: whatever ends has to leave these as they were.

use std::sync::{Arc, Weak};

use super::publish::Published;
use crate::gateway::Gateway;
use crate::mcp::server::Endpoint;

/// Counts what the endpoint holds whenever metrics are asked for.
pub(super) fn count(published: &Published, endpoint: &Arc<Endpoint>) {
    let of = |count: fn(&Endpoint) -> usize| {
        let endpoint = Arc::downgrade(endpoint);
        move || endpoint.upgrade().map_or(0, |endpoint| count(&endpoint))
    };
    let metrics = &published.metrics;
    metrics.look("mcp_sessions", "Sessions of clients", of(Endpoint::sessions));
    metrics.look("mcp_streams", "Streams that tell of changes", of(Endpoint::streams));
    metrics.look("mcp_calls_detached", "Calls whose clients went away", of(Endpoint::detached));
    let of = |count: fn(&Gateway) -> usize| {
        let gateway: Weak<Gateway> = Arc::downgrade(&published.gateway);
        move || gateway.upgrade().map_or(0, |gateway| count(&gateway))
    };
    let retained = |gateway: &Gateway| gateway.catalogs.retained();
    let there = |gateway: &Gateway| gateway.connections();
    metrics.look("server_connections", "Connections to servers that are kept", of(there));
    metrics.look("catalogs_retained", "Catalogs kept for listings under way", of(retained));
    metrics.look("resources_watched", "Resources that clients want to hear of", of(Gateway::watched));
}
