//! One connection, whatever it runs over.

use std::sync::Arc;

use ::http::HeaderValue;
use serde_json::value::RawValue;
use tokio_util::task::TaskTracker;

use super::http::Http;
use super::http_sse::HttpSse;
use super::inbox::Inbox;
use super::stdio::Stdio;
use super::{Failure, Outgoing, era};
use crate::ports::Channel;

#[derive(Clone)]
pub(super) enum Link {
    Stdio(Arc<Stdio>),
    Http(Arc<Http>),
    Sse(Arc<HttpSse>),
}

impl Link {
    pub(super) fn new(channel: Channel, inbox: &Arc<Inbox>, tasks: &TaskTracker) -> Result<Self, Failure> {
        let (inbox, tasks) = (Arc::clone(inbox), tasks.clone());
        Ok(match channel {
            Channel::Stdio { reader, writer } => {
                Self::Stdio(Arc::new(Stdio::start(reader, writer, inbox, tasks)))
            }
            Channel::Sse { url, credentials } => Self::Sse(HttpSse::to(&url, credentials, inbox, tasks)?),
            Channel::Http { url } => Self::Http(Http::new(&url, None, inbox, tasks)?),
            Channel::Remote { url, credentials } => Self::Http(Http::new(&url, credentials, inbox, tasks)?),
        })
    }

    pub(super) async fn exchange(&self, request: Outgoing<'_>) -> Result<Box<RawValue>, Failure> {
        match self {
            Self::Stdio(stdio) => stdio.exchange(request).await,
            Self::Http(http) => http.exchange(request).await,
            // Rare, and larger than the others.
            Self::Sse(sse) => Box::pin(sse.exchange(request)).await,
        }
    }

    pub(super) async fn send(&self, message: String) -> Result<(), Failure> {
        match self {
            Self::Stdio(stdio) => stdio.send(message).await,
            Self::Http(http) => http.send(message).await,
            Self::Sse(sse) => Box::pin(sse.send(message)).await,
        }
    }

    /// Opens a new session where `lost` is over. However many calls notice it, one session is opened.
    pub(super) async fn renew(&self, lost: &HeaderValue, inbox: &Inbox) -> Result<(), Failure> {
        let Self::Http(http) = self else { return Ok(()) };
        let _one = http.renewing.lock().await;
        if http.spoken().is_some_and(|spoken| spoken.session.as_ref() != Some(lost)) {
            return Ok(());
        }
        match era::initialize_http(http, inbox).await {
            Ok(_) => {
                inbox.tell_renewed();
                Ok(())
            }
            Err(error) => Err(Failure::Gone(format!("its session is over: {error}"))),
        }
    }
}
