//! Asks an OPA server, over its data API: `POST /v1/data/<package>` with `{"input": …}`.
//!
//! The answer is `{"result": …}`, without `result` when the package is not known there; errors have a
//! status other than 200 and `{"code": …, "message": …}`. Invariants: nothing is sent to another address
//! than the declared one, no answer is longer or later than its bound, and the token is in no error.

use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use serde_json::{Value, json};

use crate::outgoing::{Client, Options};
use crate::policy::Remote;
use crate::ports::{Judge, PortError, PortResult, Secrets};

/// Bytes of an answer: decisions have hundreds.
const MAX_ANSWER: usize = 1 << 20;
/// Characters of a server's own words in an error: it goes to the caller.
const MAX_WORDS: usize = 200;

/// The client for all OPA servers.
pub struct Opa {
    client: Client,
    secrets: Arc<dyn Secrets>,
}

impl Opa {
    /// # Errors
    /// When there is no TLS.
    pub fn new(secrets: Arc<dyn Secrets>) -> PortResult<Self> {
        Ok(Self { client: Client::new(&Options::default())?, secrets })
    }

    async fn exchange(&self, remote: &Remote, input: &Value) -> PortResult<Value> {
        let body = serde_json::to_vec(&json!({"input": input}))
            .map_err(|error| PortError::retry("the question cannot be written").caused_by(error))?;
        let mut request = self
            .client
            .request(Method::POST, &remote.address())?
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body);
        if let Some(token) = &remote.opa.token {
            request = request.header(http::header::AUTHORIZATION, self.bearer(&token.secret)?);
        }
        let mut response = request.send().await.map_err(|error| failed(&error))?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error))? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(PortError::retry(format!("its answer has more than {MAX_ANSWER} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        let answer: Result<Value, _> = serde_json::from_slice(&bytes);
        if status != http::StatusCode::OK {
            let words = answer.ok().and_then(|answer| Some(answer.get("message")?.as_str()?.to_owned()));
            let words: String = words.unwrap_or_default().chars().take(MAX_WORDS).collect();
            let said = if words.is_empty() { String::new() } else { format!(": {words}") };
            return Err(PortError::retry(format!("it answered with status {}{said}", status.as_u16())));
        }
        let mut answer = answer.map_err(|_| PortError::retry("its answer is not JSON"))?;
        match answer.get_mut("result") {
            Some(result) => Ok(result.take()),
            None => Err(PortError::retry(format!("it knows no package `{}`", remote.package))),
        }
    }

    fn bearer(&self, secret: &crate::resource::SecretRef) -> PortResult<http::HeaderValue> {
        let token = self.secrets.resolve(secret)?;
        let value = [b"Bearer ", token.expose()].concat();
        let mut value = http::HeaderValue::from_bytes(&value)
            .map_err(|_| PortError::stalled("the token cannot stand in a header"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

#[async_trait]
impl Judge for Opa {
    async fn ask(&self, remote: &Remote, input: &Value) -> PortResult<Value> {
        let limit = remote.opa.limit();
        let late = || PortError::retry(format!("no answer within {} ms", limit.as_millis()));
        tokio::time::timeout(limit, self.exchange(remote, input)).await.unwrap_or_else(|_| Err(late()))
    }
}

/// Without the address: it is the operator's to know.
fn failed(error: &reqwest::Error) -> PortError {
    PortError::retry(if error.is_connect() { "it cannot be reached" } else { "the exchange with it failed" })
}
