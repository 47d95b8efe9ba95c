//! What a legacy client agreed on with the endpoint, agreed on again when the endpoint restarts.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderValue, Method};
use serde_json::value::RawValue;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{FAREWELL, Forward, PATIENCE, RETRY, may_return};
use crate::mcp::client::http::headers::{self, Mirrored, Spoken};
use crate::mcp::client::http::{Kind, sse};
use crate::mcp::client::{CallError, Failure};
use crate::mcp::wire::{self, Id, LEGACY, MAX_MESSAGE, Message, code, raw};

/// The session of a legacy client; none for a modern one.
#[derive(Default)]
pub(super) struct Session {
    agreed: Mutex<Option<Agreed>>,
    /// Held by whoever greets again, so that one does.
    renewing: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Agreed {
    /// The client's own `initialize`.
    greeting: Bytes,
    spoken: Spoken,
}

impl Session {
    pub(super) fn spoken(&self) -> Option<Spoken> {
        self.get().map(|agreed| agreed.spoken)
    }

    fn get(&self) -> Option<Agreed> {
        self.agreed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, agreed: Agreed) {
        *self.agreed.lock().unwrap_or_else(PoisonError::into_inner) = Some(agreed);
    }
}

impl Forward {
    /// The client's `initialize`: its answer goes to the client, and what it agreed on is kept.
    pub(super) async fn initialize(self: &Arc<Self>, id: &Id, line: Bytes, tasks: &TaskTracker) {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = RETRY[0];
        let outcome = loop {
            match self.greet(&line).await {
                Err(failure) if may_return(&failure) && Instant::now() < deadline => {}
                outcome => break outcome,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY[1]);
        };
        match outcome {
            Ok(answer) => {
                self.say(answer).await;
                if self.session.spoken().is_some() {
                    let forward = Arc::clone(self);
                    tasks.spawn(async move {
                        let over = forward.over.clone();
                        over.run_until_cancelled(forward.listen()).await;
                    });
                }
            }
            Err(Failure::Answered(error)) => self.say(wire::failure(Some(id), &error).into()).await,
            Err(failure) => {
                let message = format!("the endpoint cannot be greeted: {}", CallError::from(failure));
                self.refuse(Some(id), code::INTERNAL_ERROR, message).await;
            }
        }
    }

    /// Sends an `initialize` and keeps what was agreed. An answer that refuses is an answer.
    async fn greet(&self, greeting: &Bytes) -> Result<Bytes, Failure> {
        let response = self.post(headers::post(None, Mirrored::default()), greeting.clone()).await?;
        let (status, session) = (response.status(), response.headers().get(headers::SESSION).cloned());
        let events = Kind::of(response.headers()) == Kind::Events;
        let mut text = response.into_body().all(MAX_MESSAGE).await?;
        if events {
            let mut stream = sse::Events::new(MAX_MESSAGE);
            stream.push(&text);
            while let Some(event) = stream.next().map_err(|_| Failure::TooLong(MAX_MESSAGE))? {
                text = event;
            }
        }
        let Ok(Message::Response { outcome, .. }) = wire::parse(&text, MAX_MESSAGE) else {
            let reason = status.canonical_reason().unwrap_or_default().to_owned();
            return Err(Failure::Status(status.as_u16(), reason));
        };
        if let Ok(result) = outcome {
            let spoken = Spoken { version: version(result), modern: false, session };
            self.session.set(Agreed { greeting: greeting.clone(), spoken });
        }
        Ok(text)
    }

    /// Greets the endpoint again, because it does not know the session any more.
    pub(super) async fn renew(&self, lost: &HeaderValue) -> Result<(), Failure> {
        let _one = self.session.renewing.lock().await;
        let Some(agreed) = self.session.get() else { return Ok(()) };
        if agreed.spoken.session.as_ref() != Some(lost) {
            return Ok(());
        }
        self.greet(&agreed.greeting).await?;
        let initialized = wire::notification("notifications/initialized", None);
        let spoken = self.session.spoken();
        self.post(headers::post(spoken.as_ref(), Mirrored::default()), initialized.into()).await?;
        for list in ["tools", "prompts", "resources"] {
            let changed = wire::notification(&format!("notifications/{list}/list_changed"), None);
            self.say(changed.into()).await;
        }
        Ok(())
    }

    /// Writes what the endpoint says outside of answers, for as long as the client is there.
    async fn listen(self: &Arc<Self>) {
        let mut pause = RETRY[0];
        while let Some(spoken) = self.session.spoken() {
            match self.follow(&spoken).await {
                Ok(true) => pause = RETRY[0],
                // It has no such stream.
                Ok(false) => return,
                Err(Failure::SessionLost(lost)) => {
                    let _again = self.renew(&lost).await;
                }
                Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY[1]);
        }
    }

    /// Reads the stream of the session to its end; false when there is none to read.
    async fn follow(self: &Arc<Self>, spoken: &Spoken) -> Result<bool, Failure> {
        let response = self.send(Method::GET, headers::session(spoken), Bytes::new()).await?;
        let status = response.status();
        match &spoken.session {
            Some(lost) if status == http::StatusCode::NOT_FOUND => {
                return Err(Failure::SessionLost(lost.clone()));
            }
            _ if status.is_server_error() => return Err(Failure::Status(status.as_u16(), String::new())),
            _ if !status.is_success() || Kind::of(response.headers()) != Kind::Events => return Ok(false),
            _ => {}
        }
        let mut body = response.into_body();
        let mut events = sse::Events::new(MAX_MESSAGE);
        while let Some(chunk) = body.chunk().await? {
            events.push(&chunk);
            while let Some(event) = events.next().map_err(|_| Failure::TooLong(MAX_MESSAGE))? {
                if !event.is_empty() {
                    self.say(event).await;
                }
            }
        }
        Ok(true)
    }

    /// Tells the endpoint that the client is gone.
    pub(super) async fn end_session(&self) {
        if let Some(spoken) = self.session.spoken().filter(|spoken| spoken.session.is_some()) {
            let ended = self.send(Method::DELETE, headers::session(&spoken), Bytes::new());
            let _ = tokio::time::timeout(FAREWELL, ended).await;
        }
    }
}

fn version(result: &RawValue) -> HeaderValue {
    let agreed = raw::get_str(result, "protocolVersion");
    let agreed = agreed.and_then(|version| HeaderValue::from_str(&version).ok());
    agreed.unwrap_or(HeaderValue::from_static(LEGACY))
}
