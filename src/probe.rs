//! Discovery: asks a server what it offers, and keeps the connection for calls.
//!
//! Input: a channel to a running server. Output: its [`Offer`], every definition byte for byte as the
//! server wrote it. Invariant: what a server lists is bounded in pages, items, bytes and time, and a
//! list that breaks a bound is refused as a whole, never cut. Not here: names under which anything is
//! published ([`crate::catalog`]), and when to ask ([`crate::reconcile`]).

mod list;
mod record;
pub mod undeclared;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::record::Record;

use self::list::{Known, ListError};
use crate::live::{UpstreamKey, Usage};
use crate::mcp::client::{CallError, GreetError, Params, Upstream, Upstreams};
use crate::ports::{CallContext, Channel, Greeting, Offer, PortError, PortResult, Prober};

/// The prober of the daemon: its connections are those that calls use.
pub struct Probe {
    upstreams: Arc<Upstreams>,
    /// What servers listed when they were asked last, of those there is a connection to.
    known: Mutex<BTreeMap<UpstreamKey, (Weak<Upstream>, Known)>>,
}

impl Probe {
    pub fn new(upstreams: Arc<Upstreams>) -> Self {
        Self { upstreams, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<UpstreamKey, (Weak<Upstream>, Known)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a server that said that a list changed, or whose connection ended by itself.
    pub async fn changed(&self) -> UpstreamKey {
        self.upstreams.changed().await
    }

    async fn connect(
        &self,
        key: &UpstreamKey,
        channel: Channel,
        greeting: Greeting<'_>,
        deadline: Duration,
    ) -> PortResult<(Arc<Upstream>, Offer)> {
        let until = Instant::now() + deadline;
        let changed = self.upstreams.teller(key);
        let upstream = Upstream::connect(channel, greeting, deadline, changed)
            .await
            .map_err(|error| not_greeted(key, error))?;
        match list::offer(&upstream, until).await {
            Ok(offer) => Ok((upstream, offer)),
            Err(error) => {
                upstream.close().await;
                Err(not_listed(key, error))
            }
        }
    }
}

#[async_trait]
impl Prober for Probe {
    async fn probe(
        &self,
        key: &UpstreamKey,
        channel: Channel,
        greeting: Greeting<'_>,
        deadline: Duration,
        cancel: &CancellationToken,
    ) -> PortResult<Offer> {
        if self.upstreams.get(key).is_some_and(|upstream| !upstream.is_closed()) {
            return self.refresh(key, deadline).await;
        }
        let (upstream, offer) = tokio::select! {
            // Cancel-safe: a connection that is given up closes itself.
            connected = self.connect(key, channel, greeting, deadline) => connected?,
            () = cancel.cancelled() => return Err(PortError::retry(format!("probe of {} was cancelled", name(key)))),
        };
        if let Some(before) = self.upstreams.insert(key.clone(), upstream) {
            before.close().await;
        }
        Ok(offer)
    }

    async fn refresh(&self, key: &UpstreamKey, deadline: Duration) -> PortResult<Offer> {
        let Some(upstream) = self.upstreams.get(key) else {
            return Err(PortError::retry(format!("there is no connection to {}", name(key))));
        };
        let until = Instant::now() + deadline;
        let own = |of: &Weak<Upstream>| std::ptr::eq(of.as_ptr(), Arc::as_ptr(&upstream));
        let known = self.known().get(key).filter(|(of, _)| own(of)).map(|(_, known)| known.clone());
        let known = list::again(&upstream, known.as_ref(), until).await;
        let known = known.map_err(|error| not_listed(key, error))?;
        let offer = known.offer.clone();
        let mut all = self.known();
        all.retain(|_, (of, _)| of.strong_count() > 0);
        all.insert(key.clone(), (Arc::downgrade(&upstream), known));
        Ok(offer)
    }

    async fn release(&self, key: &UpstreamKey, grace: Duration) {
        // Removed first: whoever comes now finds another, and whoever holds it is waited for.
        self.known().remove(key);
        if let Some(upstream) = self.upstreams.remove(key) {
            upstream.drain(grace).await;
        }
    }

    async fn call(
        &self,
        key: &UpstreamKey,
        params: &RawValue,
        deadline: Duration,
        cancel: &CancellationToken,
    ) -> PortResult<String> {
        let Some(upstream) = self.upstreams.get(key) else {
            return Err(PortError::retry(format!("there is no connection to {}", name(key))));
        };
        let context = CallContext { cancel: cancel.clone(), ..CallContext::default() };
        match upstream.call("tools/call", Params::of(params), deadline, &context).await {
            Ok(result) => Ok(result.get().to_owned()),
            Err(CallError::Server(error)) => {
                let text = serde_json::json!({"type": "text", "text": error.message});
                Ok(serde_json::json!({"isError": true, "content": [text]}).to_string())
            }
            Err(error) => Err(PortError::retry("the call failed").caused_by(error)),
        }
    }

    fn connected(&self) -> BTreeSet<UpstreamKey> {
        let works = |key: &UpstreamKey| self.upstreams.get(key).is_some_and(|upstream| !upstream.is_closed());
        self.upstreams.keys().into_iter().filter(works).collect()
    }

    fn admit(&self, any: &UpstreamKey, key: &UpstreamKey) {
        self.upstreams.admit(any, key);
    }

    fn dismiss(&self, key: &UpstreamKey) {
        self.upstreams.dismiss(key);
    }

    fn usage(&self, any: &UpstreamKey) -> Usage {
        self.upstreams.usage(any)
    }
}

fn name(key: &UpstreamKey) -> String {
    format!("server `{}`", key.server)
}

fn not_greeted(key: &UpstreamKey, error: GreetError) -> PortError {
    let failed = format!("failed to connect to {}", name(key));
    let logs = format!("see `toolcrib logs server/{}`", key.server);
    match error {
        GreetError::NotModern(cause) => PortError::retry(failed).caused_by(cause),
        GreetError::Version(_) => PortError::stalled(failed)
            .hint("use a version of the server that speaks MCP 2024-11-05 or newer")
            .caused_by(error),
        GreetError::Late(..) => PortError::retry(failed)
            .hint(format!("{logs}; a server that starts slowly needs a longer `startupTimeout`"))
            .caused_by(error),
        GreetError::Unusable(_) => {
            PortError::retry(failed).hint("check `transport`: its type, port and path").caused_by(error)
        }
        GreetError::Credentials(_) => PortError::retry(failed)
            .hint("see `headers`, `oauth` and `userOAuth` of the server")
            .caused_by(error),
        GreetError::Lacks(_) => PortError::retry(failed).hint(asks(key)).caused_by(error),
        GreetError::Gone(_) | GreetError::Refused(_) => PortError::retry(failed).hint(logs).caused_by(error),
    }
}

/// What a user does of whom a server wants more.
fn asks(key: &UpstreamKey) -> String {
    format!("`toolcrib authorizations start {} --user …` prints the address to open", key.server)
}

fn not_listed(key: &UpstreamKey, error: ListError) -> PortError {
    let failed = format!("failed to list what {} offers", name(key));
    let logs = format!("see `toolcrib logs server/{}`", key.server);
    match &error {
        ListError::Call { source: CallError::Lacks(_), .. } => {
            PortError::retry(failed).hint(asks(key)).caused_by(error)
        }
        ListError::Call { .. } | ListError::Late(_) => PortError::retry(failed).hint(logs).caused_by(error),
        ListError::TooMany { .. } | ListError::TooLarge => PortError::stalled(failed)
            .hint("nothing of it is offered; let the server offer less, or split it")
            .caused_by(error),
        _ => PortError::stalled(failed)
            .hint("nothing of it is offered; this is a fault of the server")
            .caused_by(error),
    }
}

#[cfg(test)]
mod tests;
