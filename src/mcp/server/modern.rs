//! Requests of 2026-07-28: everything is in each of them.

use std::sync::Arc;

use futures::FutureExt as _;
use http::{Response, StatusCode};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::request::{Level, Method, Request};
use super::respond::{Call, MAX_EVENTS, Progress, Running};
use super::{Asked, Endpoint, Excess, Payload, Refusal, headers, listen, reply, respond};
use crate::mcp::wire::{Era, code, raw};
use crate::ports::CallContext;

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
            return listen::subscribe(endpoint, &request, held);
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
    let level = log_level(&request)?;
    let hears = streams && (level.is_some() || request.meta.progress_token.is_some());
    let (sender, receiver) = if hears {
        let (sender, receiver) = mpsc::channel(MAX_EVENTS);
        (Some(sender), Some(receiver))
    } else {
        (None, None)
    };
    let request = Arc::new(request);
    let outcome = Running::attached(
        call(Arc::clone(endpoint), Arc::clone(&request), sender, level.map(Level::as_str)).boxed(),
    );
    Ok(respond::answer(Call {
        request,
        outcome,
        events: receiver,
        asked: None,
        level,
        streams,
        progress: Progress::default(),
    })
    .await)
}

/// Dropping it is the end of the call.
async fn call(
    endpoint: Arc<Endpoint>,
    request: Arc<Request>,
    events: Option<mpsc::Sender<crate::ports::CallEvent>>,
    level: Option<&'static str>,
) -> respond::Outcome {
    let cancel = CancellationToken::new();
    let _ends = cancel.clone().drop_guard();
    let context = CallContext { cancel, events, level, ..CallContext::default() };
    Some(endpoint.handler.request(&request, &context).await)
}

fn log_level(request: &Request) -> Result<Option<Level>, Refusal> {
    let Some(given) = &request.meta.log_level else { return Ok(None) };
    let level = raw::text_of(given).and_then(|text| Level::parse(&text));
    let unknown = || Refusal::bad(&request.id, code::INVALID_PARAMS, "`logLevel` is no level of RFC 5424");
    level.map(Some).ok_or_else(unknown)
}
