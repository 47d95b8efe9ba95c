//! Keeps outside registration APIs in step with what is served.
//!
//! Input: [`Registration`]s and the tools that are served. Output: requests, and a [`Report`] for each
//! address. Invariants: what is created is on the disk before it is asked for; only what is recorded is
//! changed or deleted; the key is read anew for each round and goes nowhere but to that address, which
//! is https or on this machine, and redirects are not followed. Not here: when to try again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use serde_json::Value;

use crate::outgoing::{Client, Options};
use crate::ports::{PortError, PortResult, Secrets, Store};
use crate::registration::{Known, Record, Step, Wanted, plan};
use crate::resource::ResourceId;
use crate::resource::crib::Registration;

/// Where the store keeps what is registered.
const STATE: &str = "registrations";
/// Of one request, where nothing else is declared.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Of the first packet.
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read: an id and what stands around it.
const MAX_ANSWER: usize = 256 << 10;
/// The longest that an API may ask us to wait.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// Failures of one round after which the rest is left for the next.
const MAX_FAILURES: usize = 10;

/// What came of one round at one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub url: String,
    /// Tools that are registered there now.
    pub tools: usize,
    /// Requests that were made.
    pub requests: usize,
    /// What failed, with the tool it was about.
    pub failures: Vec<String>,
    /// How long the API asked us to wait.
    pub wait: Option<Duration>,
}

/// Why a request came to nothing.
struct Failure {
    text: String,
    /// Others would fail the same way.
    stops: bool,
    wait: Option<Duration>,
}

/// Speaks with registration APIs.
pub struct Registrar {
    client: Client,
    store: Arc<dyn Store>,
    secrets: Arc<dyn Secrets>,
    /// What our entries say whose they are.
    mark: String,
}

/// One round at one address.
struct Round<'a> {
    registrar: &'a Registrar,
    url: Url,
    key: Option<HeaderValue>,
    timeout: Duration,
}

impl Registrar {
    /// # Errors
    /// When there can be no client.
    pub fn new(store: Arc<dyn Store>, secrets: Arc<dyn Secrets>, mark: String) -> PortResult<Self> {
        let client = Client::new(&Options { connect_timeout: CONNECT, ..Options::default() })?;
        Ok(Self { client, store, secrets, mark })
    }

    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// What is registered, by address.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn known(&self) -> PortResult<BTreeMap<String, Known>> {
        let bytes = self.store.get(STATE)?;
        let read = bytes.map(|bytes| serde_json::from_slice(&bytes)).transpose();
        read.map(Option::unwrap_or_default)
            .map_err(|error| PortError::stalled("failed to read what is registered").caused_by(error))
    }

    fn keep(&self, known: &BTreeMap<String, Known>) -> PortResult<()> {
        let bytes = serde_json::to_vec(known)
            .map_err(|error| PortError::stalled("failed to record what is registered").caused_by(error))?;
        self.store.put_durably(STATE, &bytes)
    }

    /// One round: whatever differs is sent. `declared` is whether the address still is; if not, all that we
    /// have there is taken out.
    ///
    /// # Errors
    /// When the store fails; what an API answers is in the report.
    pub async fn bring(
        &self,
        registration: &Registration,
        wanted: &BTreeMap<String, Wanted>,
        settled: impl Fn(&ResourceId) -> bool + Send + Sync,
    ) -> PortResult<Report> {
        let mut all = self.known()?;
        let url = registration.url.clone();
        let known = all.entry(url.clone()).or_default();
        let changed = known.declare(registration);
        let steps = plan(wanted, &known.tools, settled);
        if changed {
            self.keep(&all)?;
        }
        let mut report = Report { url: url.clone(), ..Report::default() };
        if !steps.is_empty() {
            match self.round(registration) {
                Ok(round) => self.steps(&round, &url, steps, &mut all, &mut report).await?,
                Err(failure) => report.failures.push(failure.text),
            }
        }
        report.tools = all
            .get(&url)
            .map_or(0, |known| known.tools.values().filter(|record| record.digest.is_some()).count());
        Ok(report)
    }

    /// Forgets an address at which nothing is left.
    ///
    /// # Errors
    /// When the store fails.
    pub fn forget(&self, url: &str) -> PortResult<()> {
        let mut all = self.known()?;
        if all.get(url).is_some_and(|known| known.tools.is_empty()) {
            all.remove(url);
            self.keep(&all)?;
        }
        Ok(())
    }

    async fn steps(
        &self,
        round: &Round<'_>,
        url: &str,
        steps: Vec<Step>,
        all: &mut BTreeMap<String, Known>,
        report: &mut Report,
    ) -> PortResult<()> {
        for step in steps {
            let (name, outcome) = match step {
                Step::Create { name, wanted } => {
                    let begun = Record { owner: wanted.owner.clone(), digest: None, id: None };
                    if record(all, url, &name).is_none() {
                        set(all, url, &name, Some(begun));
                        self.keep(all)?;
                    }
                    let created = round.create(&name, &wanted).await;
                    (name, created)
                }
                Step::Update { name, wanted } => {
                    let id = record(all, url, &name).and_then(|record| record.id.clone());
                    let updated = round.update(&name, id, &wanted).await;
                    (name, updated)
                }
                Step::Delete { name } => {
                    let known = record(all, url, &name).cloned();
                    let deleted = round.delete(&name, known).await;
                    (name, deleted)
                }
            };
            report.requests += 1;
            match outcome {
                Ok(after) => {
                    set(all, url, &name, after);
                    self.keep(all)?;
                }
                Err(Refused { failure, ours }) => {
                    if !ours {
                        set(all, url, &name, None);
                        self.keep(all)?;
                    }
                    report.wait = report.wait.max(failure.wait);
                    report.failures.push(format!("`{name}`: {}", failure.text));
                    if failure.stops || report.failures.len() >= MAX_FAILURES {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn round(&self, registration: &Registration) -> Result<Round<'_>, Failure> {
        let stop = |text: String| Failure { text, stops: true, wait: None };
        let url = Url::parse(&registration.url).map_err(|_| stop("its address cannot be read".to_owned()))?;
        if url.scheme() != "https" && !is_here(&url) {
            return Err(stop("its address is neither https nor on this machine".to_owned()));
        }
        let key = match &registration.key {
            Some(key) => {
                let value = self.secrets.resolve(&key.secret).map_err(|error| stop(error.chain()))?;
                let bytes = [b"Bearer ", value.expose()].concat();
                // The error would not say more, and must not say the key.
                let mut header = HeaderValue::from_bytes(&bytes)
                    .map_err(|_| stop("its key has characters that no header can have".to_owned()))?;
                header.set_sensitive(true);
                Some(header)
            }
            None => None,
        };
        let timeout = registration.timeout.map_or(TIMEOUT, |period| period.0);
        Ok(Round { registrar: self, url, key, timeout })
    }
}

fn record<'k>(all: &'k BTreeMap<String, Known>, url: &str, name: &str) -> Option<&'k Record> {
    all.get(url)?.tools.get(name)
}

fn set(all: &mut BTreeMap<String, Known>, url: &str, name: &str, record: Option<Record>) {
    let Some(known) = all.get_mut(url) else { return };
    match record {
        Some(record) => known.tools.insert(name.to_owned(), record),
        None => known.tools.remove(name),
    };
}

fn is_here(url: &Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

/// A request that failed, and whether what it was about is still ours.
struct Refused {
    failure: Failure,
    ours: bool,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { failure, ours: true }
    }
}

impl Round<'_> {
    /// What is recorded afterwards.
    async fn create(&self, name: &str, wanted: &Wanted) -> Result<Option<Record>, Refused> {
        let response = self.send(Method::POST, self.url.clone(), Some(&wanted.body)).await?;
        let done = |id| Some(Record { owner: wanted.owner.clone(), digest: Some(wanted.digest), id });
        match response.status() {
            status if status.is_success() => Ok(done(id_of(response, name).await)),
            StatusCode::CONFLICT => {
                // Ours, when an earlier request came through and its answer did not.
                let there = self.send(Method::GET, self.item(name), None).await?;
                let found = if there.status().is_success() { body_of(there).await } else { None };
                let entry = found.unwrap_or_default();
                if entry["managed_by"] != self.registrar.mark.as_str() {
                    let text = "it is registered there already, by somebody else".to_owned();
                    let failure = Failure { text, stops: false, wait: None };
                    return Err(Refused { failure, ours: false });
                }
                let id = id_in(&entry, name);
                self.update(name, id, wanted).await
            }
            _ => Err(failed("create it", &response).into()),
        }
    }

    async fn update(
        &self,
        name: &str,
        id: Option<String>,
        wanted: &Wanted,
    ) -> Result<Option<Record>, Refused> {
        let place = self.item(id.as_deref().unwrap_or(name));
        let response = self.send(Method::PUT, place, Some(&wanted.body)).await?;
        let record = |digest| Some(Record { owner: wanted.owner.clone(), digest, id });
        match response.status() {
            status if status.is_success() => Ok(record(Some(wanted.digest))),
            // Somebody took it out: it is created anew.
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                let response = self.send(Method::POST, self.url.clone(), Some(&wanted.body)).await?;
                if !response.status().is_success() {
                    return Err(failed("create it again", &response).into());
                }
                let id = id_of(response, name).await;
                Ok(Some(Record { owner: wanted.owner.clone(), digest: Some(wanted.digest), id }))
            }
            _ => Err(failed("update it", &response).into()),
        }
    }

    async fn delete(&self, name: &str, known: Option<Record>) -> Result<Option<Record>, Refused> {
        let Some(known) = known else { return Ok(None) };
        let place = self.item(known.id.as_deref().unwrap_or(name));
        if known.digest.is_none() {
            // Perhaps it was never made, and what is there is somebody else's.
            let there = self.send(Method::GET, place.clone(), None).await?;
            let found = if there.status().is_success() { body_of(there).await } else { None };
            if found.unwrap_or_default()["managed_by"] != self.registrar.mark.as_str() {
                return Ok(None);
            }
        }
        let response = self.send(Method::DELETE, place, None).await?;
        match response.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            status if status.is_success() => Ok(None),
            _ => Err(failed("delete it", &response).into()),
        }
    }

    /// The address of one entry.
    fn item(&self, id: &str) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().push(id);
        }
        url
    }

    async fn send(&self, method: Method, url: Url, body: Option<&Arc<str>>) -> Result<Response, Failure> {
        let verb = method.clone();
        let begun = self.registrar.client.request(method, url.as_str());
        let mut request = begun.map_err(|error| unsent(&verb, &error))?.timeout(self.timeout);
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key.clone());
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.as_bytes().to_vec());
        }
        request.send().await.map_err(|error| {
            let what = if error.is_timeout() {
                format!("no answer within {} s", self.timeout.as_secs_f32())
            } else if error.is_connect() {
                "it cannot be reached".to_owned()
            } else {
                "the connection broke off".to_owned()
            };
            Failure { text: format!("{verb} failed: {what}"), stops: true, wait: None }
        })
    }
}

/// What became of a request that is not allowed out.
fn unsent(verb: &Method, error: &PortError) -> Failure {
    let cause = error.source.as_ref().map_or_else(|| error.operation.clone(), ToString::to_string);
    Failure { text: format!("{verb} failed: {cause}"), stops: true, wait: None }
}

/// What an answer that is no success says: its status alone, for its text could repeat the key.
fn failed(what: &str, response: &Response) -> Failure {
    let status = response.status();
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let wait = header.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
    // The same for every tool: who we are, how much we ask, or how the API is.
    let stops = matches!(status.as_u16(), 401 | 403 | 404 | 405 | 429)
        || status.is_server_error()
        || status.is_redirection();
    Failure { text: format!("failed to {what}: it answered {status}"), stops, wait }
}

async fn body_of(mut response: Response) -> Option<Value> {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_ANSWER {
            return None;
        }
    }
    serde_json::from_slice(&bytes).ok()
}

async fn id_of(response: Response, name: &str) -> Option<String> {
    id_in(&body_of(response).await?, name)
}

/// The id an API gave: none where it calls a tool by its name.
fn id_in(entry: &Value, name: &str) -> Option<String> {
    const MOST: usize = 256;
    let id = ["id", "uuid"].iter().find_map(|key| match entry.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })?;
    (id != name && !id.is_empty() && id.len() <= MOST).then_some(id)
}
