//! Who reaches the endpoint, how encrypted, and how much of it: what the configuration says, put together.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::DaemonError;
use super::publish::Published;
use crate::config::{Config, Limits, Oidc, TlsFiles};
use crate::http::access::{Issuer, IssuerConfig, Tokens};
use crate::http::grants::Grants;
use crate::http::{self, Answer, Tls, tls};
use crate::mcp::server::Quotas;
use crate::status::{CertificateStatus, Timestamp};
use crate::{gateway, ports};

/// The certificate of the MCP listener, where there is one.
pub(super) fn certificate(config: &Config) -> ports::PortResult<Option<Arc<Tls>>> {
    let Some(TlsFiles { certificate, key }) = config.tls.clone() else {
        let clear = config.public_url.as_deref().is_some_and(|url| url.starts_with("http://"));
        if clear && !config.listen.ip().is_loopback() {
            tracing::warn!("tokens of callers cross the network unencrypted: see --tls-cert");
        }
        return Ok(None);
    };
    Ok(Some(Arc::new(Tls::read(&tls::Files { certificate, key })?)))
}

/// Tells in status and metrics how the certificate is.
pub(super) async fn tell(
    published: Arc<Published>,
    mut state: watch::Receiver<tls::State>,
    ended: CancellationToken,
) {
    loop {
        let tls::State { not_after, problem } = state.borrow_and_update().clone();
        published.metrics.certificate(not_after, problem.is_some());
        published
            .certificate
            .store(Some(Arc::new(CertificateStatus { not_after: Timestamp(not_after), problem })));
        // Cancel-safe: a token, and a watch that keeps its newest value.
        tokio::select! {
            () = ended.cancelled() => return,
            changed = state.changed() => if changed.is_err() { return },
        }
    }
}

/// The MCP endpoint for those who may use it.
pub(super) fn routes(
    config: &Config,
    local: SocketAddr,
    published: &Arc<Published>,
    grants: &Arc<Grants>,
    ended: CancellationToken,
) -> Result<impl Answer + use<>, DaemonError> {
    let metrics = Arc::clone(&published.metrics);
    let on_excess = Arc::new(move |excess: crate::mcp::server::Excess| metrics.refused(excess.as_str()));
    let endpoint = published.gateway.limited_endpoint(ended, quotas(config.limits), on_excess);
    super::counted::count(published, &endpoint);
    let routes = gateway::router(endpoint, Arc::clone(&published.gateway) as _);
    let public = config.public_endpoint(local);
    let public = public.strip_suffix("/mcp").unwrap_or(&public);
    let access = known(config, public, published)?.map(Arc::new);
    grants.serve_at(public, access.clone());
    Ok(http::grants::pages(Arc::clone(grants), http::authenticated(routes, access)))
}

/// Who callers are, where that is said.
fn known(
    config: &Config,
    public: &str,
    published: &Arc<Published>,
) -> Result<Option<http::Access>, DaemonError> {
    let Some(callers) = &config.callers else { return Ok(None) };
    let tokens = callers.tokens.as_deref().map(Tokens::read).transpose()?;
    let issuer = callers.oidc.clone().map(|oidc| {
        let Oidc { issuer, audience, name_claim, groups_claim, scopes } = oidc;
        Issuer::new(IssuerConfig { issuer, audience, name_claim, groups_claim, scopes })
    });
    let metrics = Arc::clone(&published.metrics);
    let on_refused = Arc::new(move |reason: &'static str| metrics.refused(reason));
    let gateway = Arc::clone(&published.gateway);
    let scopes_at = Arc::new(move |path: &str| gateway.scopes_at(path));
    Ok(http::Access::new(tokens, issuer.transpose()?, public, on_refused, scopes_at))
}

fn quotas(limits: Limits) -> Quotas {
    let Limits { rate, requests, sessions, streams, body } = limits;
    Quotas { rate, requests, sessions, streams, body }
}
