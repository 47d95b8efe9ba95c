//! One message of the client on its way to the endpoint, and what comes back.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, Response};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{Forward, PATIENCE, RETRY, is_modern, may_return};
use crate::mcp::client::http::headers::{self, Mirrored, Spoken};
use crate::mcp::client::http::sender::Body;
use crate::mcp::client::http::{Kind, lost_session, sse};
use crate::mcp::client::{CallError, Failure, Params, mirror};
use crate::mcp::wire::{self, Id, MAX_MESSAGE, Message, code, raw};

const LISTEN: &str = "subscriptions/listen";
/// Sessions that one request may open: an endpoint that forgets each of them will not answer.
const RENEWALS: usize = 3;

/// Requests that change nothing: asked twice, they answer twice. The first is a subscription, which
/// begins anew.
fn repeatable(method: &str) -> bool {
    matches!(
        method,
        LISTEN
            | "server/discover"
            | "ping"
            | "tools/list"
            | "prompts/list"
            | "prompts/get"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
            | "completion/complete"
            | "logging/setLevel"
    )
}

/// What a request is, read once.
struct Asked<'a> {
    id: &'a Id,
    method: &'a str,
    params: Option<&'a RawValue>,
    body: &'a Bytes,
}

impl Forward {
    /// Sends a request, for as long as it takes, and writes its answer.
    pub(super) async fn request(self: &Arc<Self>, id: &Id, line: Bytes) {
        let Ok(Message::Request { method, params, .. }) = wire::parse(&line, MAX_MESSAGE) else { return };
        let asked = Asked { id, method: &method, params, body: &line };
        let modern = is_modern(params);
        let mut deadline = Instant::now() + PATIENCE;
        let (mut pause, mut again, mut renewals) = (RETRY[0], false, 0);
        loop {
            let spoken = if modern { Some(Spoken::modern()) } else { self.session.spoken() };
            let failure = match self.attempt(&asked, spoken.as_ref(), again).await {
                Ok(()) if asked.method != LISTEN => return,
                // The endpoint ends subscriptions when it stops.
                Ok(()) => Failure::Gone("the subscription ended".to_owned()),
                Err(Failure::SessionLost(lost)) if renewals < RENEWALS => {
                    renewals += 1;
                    match self.renew(&lost).await {
                        Ok(()) => continue,
                        Err(failure) => failure,
                    }
                }
                Err(failure) => failure,
            };
            let repeated = matches!(failure, Failure::Gone(_)) && repeatable(asked.method);
            let patient = asked.method == LISTEN || Instant::now() < deadline;
            if !(may_return(&failure) || repeated) || !patient {
                return self.fail(&asked, failure).await;
            }
            again |= repeated && asked.method == LISTEN;
            if asked.method == LISTEN {
                deadline = Instant::now() + PATIENCE;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY[1]);
        }
    }

    async fn fail(&self, asked: &Asked<'_>, failure: Failure) {
        let message = match failure {
            Failure::Answered(error) => {
                return self.say(wire::failure(Some(asked.id), &error).into()).await;
            }
            Failure::Gone(_) => format!(
                "the connection to the endpoint broke during `{}`, which may have been carried out",
                asked.method
            ),
            failure => format!("the endpoint cannot be asked: {}", CallError::from(failure)),
        };
        self.refuse(Some(asked.id), code::INTERNAL_ERROR, message).await;
    }

    /// One attempt; what is not its failure has been written. `again` is a subscription begun anew.
    async fn attempt(&self, asked: &Asked<'_>, spoken: Option<&Spoken>, again: bool) -> Result<(), Failure> {
        let mut mirrored = Mirrored::of(asked.method, asked.params.map(Params::of));
        if asked.method == "tools/call" {
            let mirrors = self.mirrors.load();
            let name = asked.params.and_then(|params| raw::get_str(params, "name"));
            if let Some(wanted) = name.and_then(|name| mirrors.get(name.as_ref())) {
                mirror::add(&mut mirrored, wanted, asked.params);
            }
        }
        let response = self.post(headers::post(spoken, mirrored), asked.body.clone()).await?;
        let status = response.status();
        if status.is_success() && Kind::of(response.headers()) == Kind::Events {
            return self.stream(asked, response.into_body(), again).await;
        }
        let text = response.into_body().all(MAX_MESSAGE).await?;
        let session = spoken.and_then(|spoken| spoken.session.as_ref());
        if let Some(lost) = session.filter(|_| lost_session(status, &text)) {
            return Err(Failure::SessionLost(lost.clone()));
        }
        if self.is_answer(asked, &text) {
            self.say(text).await;
            return Ok(());
        }
        let reason = status.canonical_reason().unwrap_or_default().to_owned();
        Err(match wire::parse(&text, MAX_MESSAGE) {
            // One whose id the endpoint could not read, or did not repeat.
            Ok(Message::Response { outcome: Err(error), .. }) => Failure::Answered(error),
            _ if status.is_success() => Failure::Unusable("it is not the answer to the request".to_owned()),
            _ => Failure::Status(status.as_u16(), reason),
        })
    }

    /// Writes what a stream tells, until the answer was among it.
    async fn stream(&self, asked: &Asked<'_>, mut body: Body, again: bool) -> Result<(), Failure> {
        let mut events = sse::Events::new(MAX_MESSAGE);
        loop {
            while let Some(event) = events.next().map_err(|_| Failure::TooLong(MAX_MESSAGE))? {
                let answer = self.is_answer(asked, &event);
                if answer && asked.method == LISTEN {
                    return Ok(());
                }
                if again && is_acknowledgement(&event) {
                    // The client heard it before; what it does not know is what it missed.
                    for line in missed(asked) {
                        self.say(line.into()).await;
                    }
                } else {
                    self.say(event).await;
                }
                if answer {
                    return Ok(());
                }
            }
            match body.chunk().await? {
                Some(chunk) => events.push(&chunk),
                None => return Err(Failure::Gone("the stream ended before the answer".to_owned())),
            }
        }
    }

    /// Whether it answers the request. From lists of tools is learned what goes in headers.
    fn is_answer(&self, asked: &Asked<'_>, text: &[u8]) -> bool {
        let Ok(Message::Response { id: Some(id), outcome }) = wire::parse(text, MAX_MESSAGE) else {
            return false;
        };
        if let (Ok(result), "tools/list") = (&outcome, asked.method) {
            let tools: Vec<Arc<str>> = raw::get(result, "tools")
                .and_then(|tools| serde_json::from_str::<Vec<&RawValue>>(tools.get()).ok())
                .map(|tools| tools.into_iter().map(|tool| tool.get().into()).collect())
                .unwrap_or_default();
            let (found, _) = mirror::read(&tools);
            if !found.is_empty() {
                let mut mirrors = (**self.mirrors.load()).clone();
                mirrors.extend(found);
                self.mirrors.store(Arc::new(mirrors));
            }
        }
        id == *asked.id
    }

    /// Sends a message that has no answer, for as long as it takes.
    pub(super) async fn deliver(self: &Arc<Self>, line: Bytes) {
        let (method, params) = match wire::parse(&line, MAX_MESSAGE) {
            Ok(Message::Notification { method, params }) => (method, params),
            _ => (std::borrow::Cow::Borrowed(""), None),
        };
        let deadline = Instant::now() + PATIENCE;
        let mut pause = RETRY[0];
        loop {
            let Some(spoken) = self.session.spoken().or_else(|| is_modern(params).then(Spoken::modern))
            else {
                return;
            };
            let headers = headers::post(Some(&spoken), Mirrored::of(&method, params.map(Params::of)));
            match self.post(headers, line.clone()).await {
                // What it meant ended with the session.
                Err(failure) if may_return(&failure) && Instant::now() < deadline => {}
                _ => return,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY[1]);
        }
    }

    pub(super) async fn post(&self, headers: HeaderMap, body: Bytes) -> Result<Response<Body>, Failure> {
        self.send(Method::POST, headers, body).await
    }

    pub(super) async fn send(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, Failure> {
        debug_assert!(method != Method::POST || headers.contains_key(CONTENT_TYPE));
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.url.clone();
        *request.headers_mut() = headers;
        let shown = self.authorization.clone().map(|value| (AUTHORIZATION, value));
        request.headers_mut().extend(shown);
        self.sender.send(request).await
    }
}

fn is_acknowledgement(event: &[u8]) -> bool {
    matches!(wire::parse(event, MAX_MESSAGE), Ok(Message::Notification { method, .. })
        if method == "notifications/subscriptions/acknowledged")
}

/// What a subscription that was interrupted may have missed.
fn missed(asked: &Asked<'_>) -> Vec<String> {
    let wanted = asked.params.and_then(|params| raw::get(params, "notifications"));
    let tag = format!("{{\"_meta\":{{\"{}\":{}}}}}", wire::meta::SUBSCRIPTION_ID, asked.id.as_json());
    ["tools", "prompts", "resources"]
        .into_iter()
        .filter(|list| {
            let wanted = wanted.and_then(|wanted| raw::get(wanted, &format!("{list}ListChanged")));
            wanted.is_some_and(|wanted| wanted.get() == "true")
        })
        .map(|list| wire::notification(&format!("notifications/{list}/list_changed"), Some(&tag)))
        .collect()
}
