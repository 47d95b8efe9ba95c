//! The paths of the admin endpoint.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::view::view;
use super::{Control, Failure, ReconcileRequest};
use crate::ports::{Disposition, PortError, PortResult};
use crate::resource::{Kind, Name, ResourceId};
use crate::telemetry::Metrics;

/// Bytes of a request's body. The largest request names one resource.
const MAX_BODY_BYTES: usize = 64 << 10;
/// A plan looks at the repository and asks every runner; the slowest answer within a minute or so.
const PLAN_TIMEOUT: Duration = Duration::from_mins(2);
/// A pass that is waited for may build images.
const WAIT_TIMEOUT: Duration = Duration::from_hours(1);
/// Everything else is answered from memory, or by one runner.
const TIMEOUT: Duration = Duration::from_secs(30);
/// What `/metrics` is, as Prometheus asks for it.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// What `/` says.
const INDEX: &str = "Toolcrib admin endpoint\n\n\
    /livez            the process answers\n\
    /readyz           a catalog is served\n\
    /metrics          OpenMetrics\n\
    /api/v1/status    what is served, and how every resource is\n\
    /api/v1/catalog   tools, prompts and resources as they are served\n\
    /api/v1/plan      what the next apply would do\n";

/// What the handlers share.
#[derive(Clone)]
pub struct Admin {
    pub control: Arc<dyn Control>,
    pub metrics: Arc<Metrics>,
}

/// What changes nothing: for the TCP listener.
pub fn reads(admin: Admin) -> Router {
    Router::new()
        .route("/", get(async || text(StatusCode::OK, INDEX)))
        .route("/livez", get(async || text(StatusCode::OK, "ok\n")))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status))
        .route("/api/v1/catalog", get(catalog))
        .route("/api/v1/plan", get(plan))
        .fallback(async || failure(StatusCode::NOT_FOUND, "there is nothing at this path", None))
        .with_state(admin)
}

/// Everything: for the socket.
pub fn all(admin: Admin) -> Router {
    let changes = Router::new()
        .route("/api/v1/logs/{kind}/{name}", get(logs))
        .route("/api/v1/locks", get(locks))
        .route("/api/v1/audit", post(audit))
        .route("/api/v1/authorizations", post(authorizations))
        .route("/api/v1/volumes", post(volumes))
        .route("/api/v1/why", post(why))
        .route("/api/v1/reconcile", post(reconcile))
        .route("/api/v1/suspend", post(suspend))
        .route("/api/v1/resume", post(resume))
        .with_state(admin.clone());
    reads(admin).merge(changes)
}

async fn readyz(State(admin): State<Admin>) -> Response {
    match admin.control.catalog() {
        Some(catalog) => text(StatusCode::OK, format!("serving {}\n", catalog.revision)),
        None => text(StatusCode::SERVICE_UNAVAILABLE, "no catalog is served yet\n"),
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    response(StatusCode::OK, OPENMETRICS, admin.metrics.encode())
}

async fn status(State(admin): State<Admin>) -> Response {
    json(StatusCode::OK, &*admin.control.status())
}

async fn catalog(State(admin): State<Admin>) -> Response {
    match admin.control.catalog() {
        Some(catalog) => json(StatusCode::OK, &view(&catalog)),
        None => failure(
            StatusCode::SERVICE_UNAVAILABLE,
            "no catalog is served yet",
            Some("`toolcrib status` says what is waited for"),
        ),
    }
}

async fn plan(State(admin): State<Admin>) -> Response {
    answer(PLAN_TIMEOUT, admin.control.plan()).await
}

async fn logs(State(admin): State<Admin>, Path((kind, name)): Path<(String, String)>) -> Response {
    let id = Kind::parse(&kind).zip(Name::parse(&name).ok()).map(|(kind, name)| ResourceId { kind, name });
    let Some(id) = id else {
        return failure(StatusCode::BAD_REQUEST, &format!("`{kind}/{name}` is not Kind/name"), None);
    };
    match tokio::time::timeout(TIMEOUT, admin.control.logs(&id)).await {
        Ok(Ok(log)) => text(StatusCode::OK, log),
        Ok(Err(error)) => refused(&error),
        Err(_) => late(TIMEOUT),
    }
}

/// What is asked for, or the answer that it cannot be read.
async fn asked<T: DeserializeOwned>(body: Body) -> Result<T, Response> {
    let bytes = to_bytes(body, MAX_BODY_BYTES).await.unwrap_or_default();
    serde_json::from_slice(&bytes).map_err(|error| {
        failure(StatusCode::BAD_REQUEST, &format!("the body is not a request: {error}"), None)
    })
}

async fn audit(State(admin): State<Admin>, body: Body) -> Response {
    match asked(body).await {
        Ok(query) => answer(TIMEOUT, admin.control.audit(query)).await,
        Err(refusal) => refusal,
    }
}

async fn authorizations(State(admin): State<Admin>, body: Body) -> Response {
    match asked(body).await {
        Ok(ask) => answer(TIMEOUT, admin.control.authorizations(ask)).await,
        Err(refusal) => refusal,
    }
}

async fn volumes(State(admin): State<Admin>, body: Body) -> Response {
    match asked(body).await {
        Ok(ask) => answer(TIMEOUT, admin.control.volumes(ask)).await,
        Err(refusal) => refusal,
    }
}

async fn why(State(admin): State<Admin>, body: Body) -> Response {
    match asked(body).await {
        Ok(query) => answer(TIMEOUT, admin.control.why(query)).await,
        Err(refusal) => refusal,
    }
}

async fn reconcile(State(admin): State<Admin>, body: Body) -> Response {
    let request: ReconcileRequest = match asked(body).await {
        Ok(request) => request,
        Err(refusal) => return refusal,
    };
    let limit = if request.wait { WAIT_TIMEOUT } else { TIMEOUT };
    answer(limit, admin.control.reconcile(request)).await
}

async fn locks(State(admin): State<Admin>) -> Response {
    answer(PLAN_TIMEOUT, admin.control.locks()).await
}

async fn suspend(State(admin): State<Admin>) -> Response {
    answer(TIMEOUT, admin.control.suspend(true)).await
}

async fn resume(State(admin): State<Admin>) -> Response {
    answer(TIMEOUT, admin.control.suspend(false)).await
}

async fn answer<T: Serialize>(limit: Duration, work: impl Future<Output = PortResult<T>>) -> Response {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(value)) => json(StatusCode::OK, &value),
        Ok(Err(error)) => refused(&error),
        Err(_) => late(limit),
    }
}

fn refused(error: &PortError) -> Response {
    let status = match error.disposition {
        Disposition::Retry => StatusCode::SERVICE_UNAVAILABLE,
        Disposition::Stalled => StatusCode::CONFLICT,
    };
    let body = Failure { error: error.chain(), hint: error.hint.clone(), detail: error.detail.clone() };
    json(status, &body)
}

fn late(limit: Duration) -> Response {
    let message = format!("no answer within {} s", limit.as_secs());
    failure(StatusCode::GATEWAY_TIMEOUT, &message, Some("`toolcrib status` says what goes on"))
}

fn failure(status: StatusCode, error: &str, hint: Option<&str>) -> Response {
    json(status, &Failure { error: error.to_owned(), hint: hint.map(str::to_owned), detail: None })
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => response(status, "application/json", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: impl Into<Body>) -> Response {
    response(status, "text/plain; charset=utf-8", body)
}

fn response(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
