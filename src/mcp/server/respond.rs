//! One call to one response: JSON when the result comes first, a stream of events when anything else
//! does.

use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Response, StatusCode, header};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::task::TaskTracker;

use super::request::Request;
use super::session::Session;
use super::sse::Told as _;
use super::{Payload, Reply, reply, sse};
use crate::mcp::wire::{self, Era, ErrorObject, code, raw};
use crate::ports::{CallEvent, ClientRequest, Logs, Severity, Told, heard};

/// A result that takes longer is sent as an event, so that comments can keep the connection open
/// until then.
const PATIENCE: Duration = Duration::from_secs(2);
/// Calls that may go on without a client.
const MAX_DETACHED: usize = 1000;

/// None: the client cancelled it and expects no answer.
pub(super) type Outcome = Option<Result<Reply, ErrorObject>>;

/// A call under way.
pub(super) struct Call {
    pub(super) request: Arc<Request>,
    pub(super) outcome: Running,
    /// There when the client can hear of it.
    pub(super) events: Option<Told>,
    /// There when the client can be asked: its session, and what is asked.
    pub(super) asked: Option<(Arc<Session>, mpsc::Receiver<ClientRequest>)>,
    /// Which log messages the client wants; none: none.
    pub(super) logs: Option<Logs>,
    /// Whether the client reads events at all.
    pub(super) streams: bool,
    /// Where the progress that is told stands.
    pub(super) progress: Progress,
}

/// Progress has to grow with each message (MCP `basic/utilities/progress`), also from what is said while a
/// call waits to what its server counts from then on.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// What was told last, when a wait was told at all.
    last: Option<f64>,
}

/// What one message of a wait adds: so little that whatever a server counts begins above it.
const WAITED: f64 = 0.001;

impl Progress {
    fn waiting(&mut self) -> f64 {
        let next = self.last.unwrap_or_default() + WAITED;
        self.last = Some(next);
        next
    }

    /// As the server has it, unless it would not grow.
    fn of_server(&mut self, progress: f64) -> f64 {
        let Some(last) = &mut self.last else { return progress };
        *last = if progress > *last { progress } else { last.next_up() };
        *last
    }
}

/// A call; when `tracker` is there, it survives being dropped.
pub(super) struct Running {
    work: Work,
    tracker: Option<TaskTracker>,
}

enum Work {
    /// It goes on while it is looked at.
    Here(BoxFuture<'static, Outcome>),
    /// It is a task of its own, which ends when the set is dropped.
    Apart(JoinSet<Outcome>),
    Over,
}

impl Running {
    /// It ends when it is dropped.
    pub(super) fn attached(future: BoxFuture<'static, Outcome>) -> Self {
        Self { work: Work::Here(future), tracker: None }
    }

    /// It goes on when it is dropped, within bounds.
    pub(super) fn detachable(future: BoxFuture<'static, Outcome>, tracker: &TaskTracker) -> Self {
        Self { work: Work::Here(future), tracker: Some(tracker.clone()) }
    }

    /// Makes it a task of its own. A stream is looked at only while its client reads; a call that goes on
    /// only then would keep what it holds, such as its place among the calls of a tool, from others for
    /// as long as somebody does not read.
    fn apart(&mut self) {
        self.work = match std::mem::replace(&mut self.work, Work::Over) {
            Work::Here(future) => {
                let mut task = JoinSet::new();
                task.spawn(future);
                Work::Apart(task)
            }
            other => other,
        };
    }
}

impl std::future::Future for Running {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let outcome = std::task::ready!(match &mut self.work {
            Work::Here(future) => future.as_mut().poll(context),
            Work::Apart(task) => task.poll_join_next(context).map(|ended| ended.and_then(ended_task)),
            Work::Over => return Poll::Ready(None),
        });
        self.work = Work::Over;
        Poll::Ready(outcome)
    }
}

/// What became of a task; one that panicked has no outcome of its own.
fn ended_task(ended: Result<Outcome, JoinError>) -> Outcome {
    let broken = |_| Some(Err(ErrorObject::new(code::INTERNAL_ERROR, "the call broke off")));
    ended.unwrap_or_else(broken)
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(tracker) = &self.tracker else { return };
        // Without a runtime there is nothing to go on in: the process ends.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if tracker.len() >= MAX_DETACHED || tracker.is_closed() {
            return;
        }
        match std::mem::replace(&mut self.work, Work::Over) {
            Work::Here(future) => drop(tracker.spawn_on(async move { drop(future.await) }, &runtime)),
            Work::Apart(mut task) => {
                drop(tracker.spawn_on(async move { drop(task.join_next().await) }, &runtime));
            }
            Work::Over => {}
        }
    }
}

/// Waits for the first thing the call says.
pub(super) async fn answer(mut call: Call) -> Response<Payload> {
    if !call.streams {
        let outcome = (&mut call.outcome).await;
        return whole(&call.request, outcome);
    }
    let late = tokio::time::sleep(PATIENCE);
    tokio::pin!(late);
    loop {
        // Cancel-safe: receiving and waiting lose nothing, and the call is polled by reference.
        tokio::select! {
            biased;
            event = heard(&mut call.events) => {
                if let Some(first) = call.notification(&event) {
                    return Telling::begin(call, first).into_response();
                }
            }
            Some(question) = ask(&mut call.asked) => {
                return Telling::begin(call, question).into_response();
            }
            outcome = &mut call.outcome => return last(call, outcome),
            () = &mut late => return Telling::begin(call, sse::COMMENT).into_response(),
        }
    }
}

/// The outcome came first, unless something was said in the same moment.
fn last(mut call: Call, outcome: Outcome) -> Response<Payload> {
    let mut said = Vec::new();
    while let Some(event) = call.events.as_mut().and_then(Told::now) {
        said.extend(call.notification(&event));
    }
    let mut said = said.into_iter();
    let Some(first) = said.next() else { return whole(&call.request, outcome) };
    let mut telling = Telling::begin(call, first);
    for part in said {
        telling.queue.push(part);
    }
    telling.end(outcome);
    telling.into_response()
}

/// The next request to the client, as an event. One that cannot be sent refuses itself.
async fn ask(asked: &mut Option<(Arc<Session>, mpsc::Receiver<ClientRequest>)>) -> Option<Bytes> {
    let (session, receiver) = asked.as_mut()?;
    loop {
        if let Some(message) = session.asking(receiver.recv().await?) {
            return Some(sse::event([message.as_bytes()]));
        }
    }
}

fn whole(request: &Request, outcome: Outcome) -> Response<Payload> {
    let outcome = outcome.unwrap_or_else(|| Err(cancelled()));
    match outcome.and_then(|reply| reply::success(request, reply)) {
        Ok(payload) => json(StatusCode::OK, payload),
        Err(error) => failed(request, &error),
    }
}

/// An error in the era's way: legacy errors are always in a 200.
pub(super) fn failed(request: &Request, error: &ErrorObject) -> Response<Payload> {
    let status = if request.era == Era::Modern { reply::status(error) } else { StatusCode::OK };
    json(status, Payload::full(reply::failure(Some(&request.id), error)))
}

fn cancelled() -> ErrorObject {
    ErrorObject::new(code::INTERNAL_ERROR, "the request was cancelled")
}

pub(super) fn json(status: StatusCode, payload: Payload) -> Response<Payload> {
    let mut response = Response::new(payload);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A response that is a stream of events.
pub(super) fn events(payload: Payload) -> Response<Payload> {
    let mut response = Response::new(payload);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    // Proxies that buffer would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// A call told event by event, its response last.
struct Telling {
    call: Call,
    queue: sse::Queue,
}

impl sse::Told for Telling {
    fn queue(&mut self) -> &mut sse::Queue {
        &mut self.queue
    }

    async fn more(&mut self) -> bool {
        // Cancel-safe: as in `answer`.
        tokio::select! {
            biased;
            event = heard(&mut self.call.events) => self.tell(&event),
            Some(question) = ask(&mut self.call.asked) => self.queue.push(question),
            outcome = &mut self.call.outcome => self.end(outcome),
            () = self.queue.quiet() => {}
        }
        true
    }
}

impl Telling {
    fn begin(mut call: Call, first: Bytes) -> Self {
        call.outcome.apart();
        let mut queue = sse::Queue::new();
        queue.push(first);
        Self { call, queue }
    }

    fn tell(&mut self, event: &CallEvent) {
        if let Some(part) = self.call.notification(event) {
            self.queue.push(part);
        }
    }

    /// What was said before the end is told before the response.
    fn end(&mut self, outcome: Outcome) {
        while let Some(event) = self.call.events.as_mut().and_then(Told::now) {
            self.tell(&event);
        }
        self.queue.end();
        let request = &self.call.request;
        // A cancelled request gets no response.
        let Some(outcome) = outcome else { return };
        self.queue.push(match outcome.and_then(|reply| reply::success(request, reply)) {
            Ok(payload) => sse::event(payload.pieces()),
            Err(error) => sse::event([reply::failure(Some(&request.id), &error).as_bytes()]),
        });
    }
}

impl Call {
    /// What is told of an event; none when the client did not ask for such.
    fn notification(&mut self, event: &CallEvent) -> Option<Bytes> {
        let text = match event {
            CallEvent::Progress { progress, total, message } => {
                let token = self.request.meta.progress_token.as_ref()?.get();
                progressed(token, self.progress.of_server(*progress), *total, message.as_deref())
            }
            CallEvent::Waiting { message } => {
                let token = self.request.meta.progress_token.as_ref()?.get();
                progressed(token, self.progress.waiting(), None, Some(message))
            }
            CallEvent::Log(params) => {
                let wanted = self.logs?.lowest();
                let raw: &serde_json::value::RawValue = serde_json::from_str(params).ok()?;
                let severity = raw::get_str(raw, "level").and_then(|text| Severity::parse(&text))?;
                if severity < wanted {
                    return None;
                }
                wire::notification("notifications/message", Some(params))
            }
            // 2026-07-28 has no such: its clients come back by themselves.
            CallEvent::Elicited(_) if self.request.era == Era::Modern => return None,
            CallEvent::Elicited(params) => wire::notification(wire::ELICITED, Some(params)),
        };
        Some(sse::event([text.as_bytes()]))
    }
}

fn progressed(token: &str, progress: f64, total: Option<f64>, message: Option<&str>) -> String {
    let mut params = format!("{{\"progressToken\":{token},\"progress\":{}", number(progress));
    if let Some(total) = total {
        let _ = write!(params, ",\"total\":{}", number(total));
    }
    if let Some(message) = message {
        let _ = write!(params, ",\"message\":{}", wire::quote(message));
    }
    params.push('}');
    wire::notification("notifications/progress", Some(&params))
}

/// Whole numbers are written as such: some clients take progress for an integer.
fn number(value: f64) -> serde_json::Value {
    let exact = value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and below 2^53")]
    if exact { (value as i64).into() } else { value.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_grows_from_waiting_to_what_the_server_counts() {
        // Without a wait it is as it came.
        let mut plain = Progress::default();
        assert!(
            [plain.of_server(5.0), plain.of_server(0.0)].map(f64::to_bits) == [5.0, 0.0].map(f64::to_bits)
        );
        let mut waited = Progress::default();
        let told = [
            waited.waiting(),
            waited.waiting(),
            waited.of_server(0.0),
            waited.of_server(0.0),
            waited.of_server(1.0),
            waited.of_server(2.5),
        ];
        assert!(told.is_sorted_by(|before, after| before < after), "{told:?}");
        assert!(told[4].to_bits() == 1.0_f64.to_bits() && told[5].to_bits() == 2.5_f64.to_bits(), "{told:?}");
    }
}
