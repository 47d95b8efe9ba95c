//! Requests of 2026-07-28: everything is in each of them.

use std::sync::Arc;

use futures::FutureExt as _;
use http::{Response, StatusCode};
use tokio_util::sync::CancellationToken;

use super::request::{Method, Request};
use super::respond::{Call, Progress, Running};
use super::{Asked, Endpoint, Excess, Payload, Refusal, headers, listen, reply, respond};
use crate::mcp::wire::{Era, code, raw};
use crate::ports::{CallContext, Logs, Severity, Teller, telling};

pub(super) async fn request(
    endpoint: &Arc<Endpoint>,
    asked: &Asked,
    mut request: Request,
) -> Result<Response<Payload>, Refusal> {
    request.era = Era::Modern;
    headers::agree(&asked.headers, &request)?;
    let streams = headers::accepts_events(&asked.headers);
    match request.method {
        Method::Discover => {
            let answered =
                reply::success(&request, reply::discovered(&endpoint.handler.about(&request.scope)));
            return Ok(match answered {
                Ok(payload) => respond::json(StatusCode::OK, payload),
                Err(error) => respond::failed(&request, &error),
            });
        }
        Method::Listen if streams => {
            let held = endpoint.users.hold(&asked.user, Excess::Streams, Some(&request.id))?;
            // Rare, and larger than the others.
            return Box::pin(listen::subscribe(endpoint, request, held)).await;
        }
        Method::Listen => {
            let message = "a subscription is a stream: `Accept` has to name `text/event-stream`";
            return Err(Refusal::error(
                StatusCode::NOT_ACCEPTABLE,
                Some(&request.id),
                code::INVALID_REQUEST,
                message,
            ));
        }
        // Gone in this version.
        Method::Ping | Method::SetLevel | Method::Subscribe | Method::Unsubscribe | Method::Initialize => {
            let method = Method::Other(request.method.as_str().to_owned());
            request.method = method;
        }
        Method::ToolsCall => {
            let of_tool = |name| endpoint.handler.param_headers(&request.scope, name, &request.principal);
            let annotated = request.name.as_deref().map(of_tool);
            headers::params_agree(&asked.headers, &request, annotated.as_deref().unwrap_or_default())?;
        }
        _ => {}
    }
    let logs = log_level(&request)?.map(Logs::From);
    let hears = streams && (logs.is_some() || request.meta.progress_token.is_some());
    let (teller, told) = hears.then(telling).unzip();
    let request = Arc::new(request);
    let outcome = Running::attached(call(Arc::clone(endpoint), Arc::clone(&request), teller, logs).boxed());
    Ok(respond::answer(Call {
        request,
        outcome,
        events: told,
        asked: None,
        logs,
        streams,
        progress: Progress::default(),
    })
    .await)
}

/// Dropping it is the end of the call.
async fn call(
    endpoint: Arc<Endpoint>,
    request: Arc<Request>,
    events: Option<Teller>,
    logs: Option<Logs>,
) -> respond::Outcome {
    let cancel = CancellationToken::new();
    let _ends = cancel.clone().drop_guard();
    let progress = request.meta.progress_token.is_some();
    let context = CallContext { cancel, events, progress, logs, ..CallContext::default() };
    Some(endpoint.handler.request(&request, &context).await)
}

fn log_level(request: &Request) -> Result<Option<Severity>, Refusal> {
    let Some(given) = &request.meta.log_level else { return Ok(None) };
    let level = raw::text_of(given).and_then(|text| Severity::parse(&text));
    let unknown = || Refusal::bad(&request.id, code::INVALID_PARAMS, "`logLevel` is no level of RFC 5424");
    level.map(Some).ok_or_else(unknown)
}
