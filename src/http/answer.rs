//! What answers the requests of a listener, and what stands before it.
//!
//! Layers are types that hold the next one, so that a request passes through all of them as one future: a
//! router with middleware makes a box for each, which costs a call through the gateway some 7 % of its time.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use axum::body::Body;
use axum::{Extension, Router};
use http::{Request, Response};
use tower_service::Service as _;

use super::Peer;

/// Answers requests.
pub trait Answer: Send + Sync + 'static {
    /// Answers one request of `peer`. The future is dropped when its connection is lost.
    fn answer(&self, request: Request<Body>, peer: Peer) -> impl Future<Output = Response<Body>> + Send;
}

impl Answer for Router {
    /// Handlers find the peer among the extensions.
    async fn answer(&self, mut request: Request<Body>, peer: Peer) -> Response<Body> {
        request.extensions_mut().insert(peer);
        let answered: Result<_, Infallible> = self.clone().call(request).await;
        answered.unwrap_or_else(|never| match never {})
    }
}

/// A router, and whoever answers where it has no route. What is at none of its paths for certain does not
/// go through it.
pub struct At<A> {
    /// Whether a path may be one of the router's.
    may_be: fn(&str) -> bool,
    router: Router,
    rest: Arc<A>,
}

impl<A: Answer> At<A> {
    pub fn new(may_be: fn(&str) -> bool, router: Router, rest: A) -> Self {
        let rest = Arc::new(rest);
        let behind = Arc::clone(&rest);
        let router = router.fallback(move |Extension(peer): Extension<Peer>, request| {
            let behind = Arc::clone(&behind);
            async move { behind.answer(request, peer).await }
        });
        Self { may_be, router, rest }
    }
}

impl<A: Answer> Answer for At<A> {
    async fn answer(&self, request: Request<Body>, peer: Peer) -> Response<Body> {
        if (self.may_be)(request.uri().path()) {
            return self.router.answer(request, peer).await;
        }
        self.rest.answer(request, peer).await
    }
}
