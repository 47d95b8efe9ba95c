//! What goes on beside a call: its end, its course, and what its client is asked.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Logs, Teller};

/// What goes on beside a call: hearing of its end, telling of its course.
#[derive(Clone, Default)]
pub struct CallContext {
    /// Cancelled when the client went away or said so.
    pub cancel: CancellationToken,
    /// Where progress and log messages go; none when nobody listens.
    pub events: Option<Teller>,
    /// Whether the client wants to hear of progress: of log messages alone it hears without.
    pub progress: bool,
    /// Where requests of the server to the client go; none when nobody can be asked.
    pub requests: Option<tokio::sync::mpsc::Sender<ClientRequest>>,
    /// What the client offers to servers: the raw JSON of its capabilities. None: nothing.
    pub capabilities: Option<Arc<str>>,
    /// Which log messages the client wants. None: none.
    pub logs: Option<Logs>,
}

/// A request of a server to the client whose call it works on: for a completion of a model, for what
/// the user has to say, or for the client's roots. Dropping it refuses it.
#[derive(Debug)]
pub struct ClientRequest {
    /// As the server wrote it: text, or a number in digits. Unique among what it waits for.
    pub id: Arc<str>,
    pub method: Arc<str>,
    /// Raw JSON.
    pub params: Option<Arc<str>>,
    pub answer: tokio::sync::oneshot::Sender<ClientAnswer>,
}

/// A client that may be asked while none of its calls is under way.
pub trait ClientLine: Send + Sync {
    /// Passes a request to the client. False: it cannot be asked now, and the request is dropped.
    fn ask(&self, request: ClientRequest) -> bool;

    /// Passes a notification to the client, whose parameters are raw JSON; one that cannot be told now
    /// misses it.
    fn tell(&self, method: &str, params: &str);
}

/// The raw JSON of a result, or of an error object.
pub type ClientAnswer = Result<String, String>;

/// A message about a call under way: the `params` of the notification, as raw JSON.
#[derive(Clone, Debug)]
pub enum CallEvent {
    /// `notifications/progress`, without its token: the receiver puts in the one of its own client.
    Progress { progress: f64, total: Option<f64>, message: Option<String> },
    /// The call has not begun, and this is why.
    Waiting { message: String },
    /// `notifications/message`: raw params.
    Log(Arc<str>),
    /// `notifications/elicitation/complete` (2025-11-25): raw params.
    Elicited(Arc<str>),
}
