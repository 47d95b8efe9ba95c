//! The handshake: which era a server is of, and what it says of itself.
//!
//! A server that is not known is greeted the modern way first. What answers with anything but modern
//! evidence, or not at all for a while, is legacy. Source: MCP 2026-07-28 `basic/versioning`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::compose::{CLIENT_INFO, Wishes, compose};
use super::http::Http;
use super::http::headers::{Mirrored, Spoken};
use super::http_sse::{HttpSse, Session};
use super::inbox::Inbox;
use super::link::Link;
use super::stdio::Stdio;
use super::{Failure, Outgoing};
use crate::mcp::wire::raw;
use crate::mcp::wire::{self, Era, ErrorObject, LEGACY, LEGACY_VERSIONS, MODERN, code, meta};
use crate::ports::{Greeting, Handshake, NotModern};

/// Silence after the modern greeting, before the legacy one is sent as well. Legacy servers that
/// ignore what they do not know answer nothing, so this is what each of them costs at its first start;
/// servers that are only slow answer whichever greeting they like, later.
const SILENCE: Duration = Duration::from_secs(2);

/// The same over HTTP, where each request is answered on its own and silence is rare.
const HTTP_SILENCE: Duration = Duration::from_secs(10);

/// Between two attempts at a server whose port is not open yet: from the first to the last.
const RETRY: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(400)];

/// Why there is no connection to a server.
#[derive(Debug, thiserror::Error)]
pub enum GreetError {
    #[error("the server refused the handshake: {}", .0.message)]
    Refused(ErrorObject),
    #[error("the server speaks only {0}, which is not supported")]
    Version(String),
    #[error("the server is not there: {0}")]
    Gone(String),
    /// Not tried again within a start: a secret or an authorization server is wrong, not the server.
    #[error("the server cannot be asked: {0}")]
    Credentials(String),
    /// Its user can be asked for more: which scopes.
    #[error("the server wants more of the user's authorization: {0}")]
    Lacks(String),
    #[error("the server did not answer as an MCP server does: {0}")]
    Unusable(String),
    #[error(transparent)]
    NotModern(#[from] NotModern),
    #[error("the server did not answer the handshake within {0:.1?}{1}")]
    Late(Duration, String),
}

impl From<Failure> for GreetError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Answered(error) => Self::Refused(error),
            Failure::Credentials(reason) => Self::Credentials(reason),
            Failure::Lacks(scopes) => Self::Lacks(scopes),
            Failure::Unreached(reason) | Failure::Gone(reason) => Self::Gone(reason),
            // What stands before a server that is about to start.
            Failure::Status(status @ 502..=504, reason) => Self::Gone(format!("HTTP {status} {reason}")),
            Failure::Status(status, reason) => Self::Unusable(format!("HTTP {status} {reason}")),
            Failure::SessionLost(_) => Self::Gone("its session is over".to_owned()),
            Failure::Unusable(reason) => Self::Unusable(reason),
            Failure::TooLong(max) => Self::Unusable(format!("its answer is longer than {max} bytes")),
        }
    }
}

/// What a server says of one of its capabilities; none when it does not have it.
pub(super) fn capability<'a>(handshake: &'a Handshake, name: &str) -> Option<&'a RawValue> {
    let all: &RawValue = serde_json::from_str(handshake.capabilities.as_deref()?).ok()?;
    raw::get(all, name)
}

/// The era that [`crate::ports::Offer::protocol`] names.
pub(super) fn era_of(protocol: &str) -> Era {
    if protocol.starts_with("modern") { Era::Modern } else { Era::Legacy }
}

/// Finds out how to speak with the server, and makes the link speak so, or takes another one.
pub(super) async fn greet(
    link: Link,
    inbox: &Inbox,
    greeting: Greeting<'_>,
    deadline: Duration,
) -> Result<(Link, Handshake), GreetError> {
    let known = match greeting {
        Greeting::Resumed(handshake) => match (&link, era_of(&handshake.protocol)) {
            // A stream, or a server without sessions, goes on as it was; a legacy HTTP session
            // belonged to the daemon that opened it.
            (Link::Stdio(_), _) => return Ok((link, handshake.clone())),
            (Link::Http(_) | Link::Sse(_), era) => Some(era),
        },
        Greeting::Known(protocol) => Some(era_of(protocol)),
        Greeting::Unknown => None,
    };
    let last = Mutex::new(String::new());
    let greeted = async {
        let handshake = match (&link, known) {
            (Link::Stdio(stdio), Some(Era::Legacy)) => match initialize_stdio(stdio, inbox).await {
                // What was remembered is not so any more.
                Err(error @ GreetError::Refused(_)) => {
                    discover_stdio(stdio, inbox, discover(inbox)).await?.modern().ok_or(error)
                }
                handshake => handshake,
            },
            (Link::Stdio(stdio), _) => negotiate_stdio(stdio, inbox).await,
            (Link::Http(http), known) => return negotiate_http(http, inbox, known, &last).await,
            (Link::Sse(sse), _) => negotiate_sse(sse, inbox, &last).await,
        };
        handshake.map(|handshake| (link, handshake))
    };
    let Ok(greeted) = tokio::time::timeout(deadline, greeted).await else {
        let mut last = last.into_inner().unwrap_or_else(PoisonError::into_inner);
        if inbox.garbage() > 0 {
            last = format!(", but wrote {} lines to its standard output that are no MCP", inbox.garbage());
        }
        return Err(GreetError::Late(deadline, last));
    };
    greeted
}

async fn negotiate_stdio(stdio: &Stdio, inbox: &Inbox) -> Result<Handshake, GreetError> {
    let mut discover = std::pin::pin!(discover_stdio(stdio, inbox, discover(inbox)));
    if let Ok(verdict) = tokio::time::timeout(SILENCE, &mut discover).await {
        return match verdict? {
            Verdict::Modern(handshake) => Ok(handshake),
            Verdict::Legacy => initialize_stdio(stdio, inbox).await.map_err(after_modern),
        };
    }
    let mut initialize = std::pin::pin!(initialize_stdio(stdio, inbox));
    // Whichever is answered first decides; the other one is waited for when that was a no. A server of both
    // eras that was slow to start answers them together: it is greeted the modern way every time.
    tokio::select! {
        biased;
        verdict = &mut discover => match verdict? {
            Verdict::Modern(handshake) => Ok(handshake),
            Verdict::Legacy => initialize.await.map_err(after_modern),
        },
        handshake = &mut initialize => match handshake {
            Err(error @ GreetError::Refused(_)) => match discover.await? {
                Verdict::Modern(handshake) => Ok(handshake),
                Verdict::Legacy => Err(after_modern(error)),
            },
            handshake => handshake.map_err(after_modern),
        },
    }
}

/// Greets a server the modern way; once more, when it refuses the version and names the same.
async fn discover_stdio(
    stdio: &Stdio,
    inbox: &Inbox,
    first: Outgoing<'static>,
) -> Result<Verdict, GreetError> {
    match stdio.exchange(first).await {
        Err(Failure::Answered(error)) if names_ours(&error) => judge(stdio.exchange(discover(inbox)).await),
        answer => judge(answer),
    }
}

/// A legacy server that failed after a modern greeting may do better without it.
fn after_modern(error: GreetError) -> GreetError {
    match error {
        GreetError::Version(_) => error,
        _ => NotModern.into(),
    }
}

async fn negotiate_http(
    http: &Arc<Http>,
    inbox: &Inbox,
    known: Option<Era>,
    last: &Mutex<String>,
) -> Result<(Link, Handshake), GreetError> {
    let mut patience = Patience::new(last, inbox);
    loop {
        let outcome = match known {
            Some(Era::Legacy) => match initialize_either(http, inbox).await {
                // What was remembered is not so any more.
                Err(GreetError::Refused(_) | GreetError::Unusable(_)) => discover_http(http, inbox).await,
                outcome => outcome,
            },
            _ => discover_http(http, inbox).await,
        };
        match outcome {
            Err(GreetError::Gone(reason)) => patience.wait(reason).await?,
            outcome => return outcome,
        }
    }
}

async fn negotiate_sse(
    sse: &Arc<HttpSse>,
    inbox: &Inbox,
    last: &Mutex<String>,
) -> Result<Handshake, GreetError> {
    let mut patience = Patience::new(last, inbox);
    loop {
        match sse.open().await.map_err(GreetError::from) {
            Ok(()) => return initialize_sse(sse, &sse.session().await?, inbox).await,
            Err(GreetError::Gone(reason)) => patience.wait(reason).await?,
            Err(error) => return Err(error),
        }
    }
}

/// A server may be about to start: the time limit of the start ends the attempts. For a client there is one
/// attempt, since its server was there before: who calls a server that is down hears so at once.
struct Patience<'a> {
    pause: Duration,
    last: &'a Mutex<String>,
    once: bool,
}

impl<'a> Patience<'a> {
    fn new(last: &'a Mutex<String>, inbox: &Inbox) -> Self {
        Self { pause: RETRY[0], last, once: inbox.is_for_client() }
    }

    async fn wait(&mut self, reason: String) -> Result<(), GreetError> {
        if self.once {
            return Err(GreetError::Gone(reason));
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = format!(", at last: {reason}");
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(RETRY[1]);
        Ok(())
    }
}

async fn discover_http(http: &Arc<Http>, inbox: &Inbox) -> Result<(Link, Handshake), GreetError> {
    let spoken = Spoken::modern();
    let answer = async {
        match http.answer(discover(inbox), Some(&spoken)).await {
            Err(Failure::Answered(error)) if names_ours(&error) => {
                http.answer(discover(inbox), Some(&spoken)).await
            }
            answer => answer,
        }
    };
    let verdict = match tokio::time::timeout(HTTP_SILENCE, answer).await {
        Ok(Err(
            failure @ (Failure::Unreached(_)
            | Failure::Credentials(_)
            | Failure::Lacks(_)
            | Failure::Status(502..=504, _)),
        )) => {
            return Err(failure.into());
        }
        Ok(answer) => match judge(answer.map(|answer| answer.result)) {
            Err(GreetError::NotModern(_)) => Verdict::Legacy,
            verdict => verdict?,
        },
        Err(_) => Verdict::Legacy,
    };
    match verdict {
        Verdict::Modern(handshake) => {
            http.speak(spoken);
            Ok((Link::Http(Arc::clone(http)), handshake))
        }
        Verdict::Legacy => initialize_either(http, inbox).await,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Discovered {
    supported_versions: Vec<String>,
    capabilities: Option<Box<RawValue>>,
    instructions: Option<String>,
}

enum Verdict {
    Modern(Handshake),
    Legacy,
}

impl Verdict {
    fn modern(self) -> Option<Handshake> {
        match self {
            Self::Modern(handshake) => Some(handshake),
            Self::Legacy => None,
        }
    }
}

/// What the answer to `server/discover` says about the era. Errors: nothing is left to try here.
fn judge(answer: Result<Box<RawValue>, Failure>) -> Result<Verdict, GreetError> {
    let result = match answer {
        Ok(result) => result,
        Err(Failure::Answered(error)) if error.code == code::UNSUPPORTED_PROTOCOL_VERSION => {
            return judge_versions(&supported(&error)).map(|()| Verdict::Legacy);
        }
        Err(Failure::Gone(_) | Failure::Unusable(_) | Failure::TooLong(_)) => {
            return Err(NotModern.into());
        }
        Err(_) => return Ok(Verdict::Legacy),
    };
    let Ok(found) = serde_json::from_str::<Discovered>(result.get()) else { return Ok(Verdict::Legacy) };
    if !found.supported_versions.iter().any(|version| version == MODERN) {
        return judge_versions(&found.supported_versions).map(|()| Verdict::Legacy);
    }
    Ok(Verdict::Modern(Handshake {
        protocol: format!("modern {MODERN}"),
        server_info: raw::get_meta(&result, meta::SERVER_INFO).map(|info| info.get().into()),
        capabilities: found.capabilities.map(|raw| raw.get().into()),
        instructions: found.instructions,
    }))
}

/// Versions a server names when ours is not among them: is there an older one that we speak?
fn judge_versions(supported: &[String]) -> Result<(), GreetError> {
    let ours = |version: &String| LEGACY_VERSIONS.contains(&version.as_str());
    if supported.is_empty() || supported.iter().any(ours) {
        return Ok(());
    }
    Err(GreetError::Version(supported.join(", ")))
}

/// Whether a server refuses the version and names the very same among those it supports: it is asked again,
/// once (SEP-2575: with a version that both support).
fn names_ours(error: &ErrorObject) -> bool {
    error.code == code::UNSUPPORTED_PROTOCOL_VERSION
        && supported(error).iter().any(|version| version == MODERN)
}

fn supported(error: &ErrorObject) -> Vec<String> {
    let list = error.data.as_deref().and_then(|data| raw::get(data, "supported"));
    list.and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default()
}

fn discover(inbox: &Inbox) -> Outgoing<'static> {
    let id = inbox.next_id();
    // No parameters of anybody's are edited here, so this cannot fail.
    let body = compose(Era::Modern, id, "server/discover", None, &Wishes::NONE).unwrap_or_default();
    Outgoing {
        id,
        body,
        mirrored: Mirrored::of("server/discover", None),
        events: None,
        standing: false,
        cancellable: false,
    }
}

fn initialize(inbox: &Inbox) -> Outgoing<'static> {
    let id = inbox.next_id();
    let offered = inbox.offered();
    let params = format!(
        "{{\"protocolVersion\":\"{LEGACY}\",\"capabilities\":{offered},\"clientInfo\":{CLIENT_INFO}}}"
    );
    let body = wire::request(&wire::Id::number(id), "initialize", Some(&params));
    Outgoing { id, body, mirrored: Mirrored::default(), events: None, standing: false, cancellable: false }
}

/// Tells a legacy server that its answer arrived.
fn initialized() -> String {
    wire::notification("notifications/initialized", None)
}

async fn initialize_stdio(stdio: &Stdio, inbox: &Inbox) -> Result<Handshake, GreetError> {
    let handshake = agree(&stdio.exchange(initialize(inbox)).await?)?.0;
    stdio.send(initialized()).await?;
    Ok(handshake)
}

/// Opens a legacy session over HTTP, or over HTTP+SSE where the server takes no POST at its address.
/// Source: MCP 2025-11-25 `basic/transports`, backwards compatibility.
async fn initialize_either(http: &Arc<Http>, inbox: &Inbox) -> Result<(Link, Handshake), GreetError> {
    let (status, reason) = match http.answer(initialize(inbox), None).await {
        Err(Failure::Status(status @ (400 | 404 | 405), reason)) => (status, reason),
        answer => {
            let handshake = opened(http, answer?).await?;
            return Ok((Link::Http(Arc::clone(http)), handshake));
        }
    };
    let sse = http.older();
    match sse.open().await {
        Ok(()) => {
            let handshake =
                initialize_sse(&sse, &sse.session().await?, inbox).await.inspect_err(|_| sse.give_up())?;
            Ok((Link::Sse(sse), handshake))
        }
        Err(Failure::Status(other, also)) => Err(GreetError::Unusable(format!(
            "HTTP {status} {reason} to a POST, and HTTP {other} {also} to the GET of HTTP+SSE"
        ))),
        Err(Failure::Unusable(why)) => Err(GreetError::Unusable(format!(
            "HTTP {status} {reason} to a POST, and it is no HTTP+SSE either: {why}"
        ))),
        Err(failure) => Err(failure.into()),
    }
}

/// Greets a server over HTTP+SSE.
pub(super) async fn initialize_sse(
    sse: &Arc<HttpSse>,
    session: &Arc<Session>,
    inbox: &Inbox,
) -> Result<Handshake, GreetError> {
    let handshake = agree(&sse.exchange_in(session, initialize(inbox)).await?)?.0;
    sse.post(session, initialized()).await?;
    Ok(handshake)
}

/// Opens a legacy session over HTTP, from then on spoken in.
pub(super) async fn initialize_http(http: &Arc<Http>, inbox: &Inbox) -> Result<Handshake, GreetError> {
    let answer = http.answer(initialize(inbox), None).await?;
    opened(http, answer).await
}

async fn opened(http: &Arc<Http>, answer: super::http::Answer) -> Result<Handshake, GreetError> {
    let (handshake, version) = agree(&answer.result)?;
    let version = http::HeaderValue::from_str(&version).map_err(|_| GreetError::Version(version))?;
    http.speak(Spoken { version, modern: false, session: answer.session });
    http.send(initialized()).await?;
    Ok(handshake)
}

fn agree(result: &RawValue) -> Result<(Handshake, String), GreetError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Initialized {
        protocol_version: String,
        capabilities: Option<Box<RawValue>>,
        server_info: Option<Box<RawValue>>,
        instructions: Option<String>,
    }
    let agreed: Initialized = serde_json::from_str(result.get())
        .map_err(|_| GreetError::Unusable("its answer to `initialize` lacks `protocolVersion`".to_owned()))?;
    let version = agreed.protocol_version;
    if !LEGACY_VERSIONS.contains(&version.as_str()) {
        return Err(GreetError::Version(version));
    }
    let handshake = Handshake {
        protocol: format!("legacy {version}"),
        server_info: agreed.server_info.map(|raw| raw.get().into()),
        capabilities: agreed.capabilities.map(|raw| raw.get().into()),
        instructions: agreed.instructions,
    };
    Ok((handshake, version))
}
