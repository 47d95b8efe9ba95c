//! The traits between the core and the world. Effects implement them; [`crate::reconcile`],
//! [`crate::execute`] and [`crate::gateway`] use them; tests may stand in for them.

mod execute;
mod instances;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::build::BuildSpec;
use crate::desired::{Limits, Program, Workload};
pub use crate::live::Offer;
use crate::live::{Instance, InstanceId, Inventory, UpstreamKey, Usage};
use crate::policy::{PolicySet, Remote};
use crate::resource::policy::Point;
use crate::resource::workload::{Egress, Mounts, Security};
use crate::resource::{Digest, EnvValue, Name, ResourceId, SecretRef};

pub use execute::{Ahead, Executed, Prepared, Start, ToolCall, ToolExecutor};
pub use instances::{Lender, Lent, Starter, Unmet};
pub use source::{Lookup, Source};

/// Whether trying again without a change can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Back off and try again.
    Retry,
    /// Wait for a new revision.
    Stalled,
}

/// A failed operation of an adapter: what failed, its cause in `source`, and what next.
#[derive(Debug, thiserror::Error)]
#[error("{operation}")]
pub struct PortError {
    /// "failed to pull image `x`".
    pub operation: String,
    pub disposition: Disposition,
    /// The next step for a person, when one is known.
    pub hint: Option<String>,
    /// The log of a failed build and the like, bounded by whoever made it.
    pub detail: Option<String>,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl PortError {
    pub fn retry(operation: impl Into<String>) -> Self {
        Self {
            operation: operation.into(),
            disposition: Disposition::Retry,
            hint: None,
            detail: None,
            source: None,
        }
    }

    pub fn stalled(operation: impl Into<String>) -> Self {
        Self { disposition: Disposition::Stalled, ..Self::retry(operation) }
    }

    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(cause.into());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The operation and every cause, joined with `: `.
    pub fn chain(&self) -> String {
        let mut text = self.operation.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

pub type PortResult<T> = Result<T, PortError>;

/// A secret in memory. It has no `Debug`, `Display` or `Serialize`, on purpose.
#[derive(Clone)]
pub struct SecretValue(Arc<[u8]>);

impl SecretValue {
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes: call it only where they leave for the workload.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// Takes secrets out of text, by value.
pub trait Mask: Send + Sync {
    /// The text with a mark where a secret stood.
    fn masked<'t>(&self, text: &'t str) -> std::borrow::Cow<'t, str>;
}

/// References to values.
pub trait Secrets: Send + Sync {
    /// # Errors
    /// When there is no such secret; the message names the reference, never a value.
    fn resolve(&self, reference: &SecretRef) -> PortResult<SecretValue>;
    /// What tells whether the same material is given again, without telling what it is: an HMAC under
    /// the installation's random key.
    fn tag(&self, material: &Material) -> String;
}

/// Environment and files of one start, secrets among them. Made by [`Material::resolve`].
#[derive(Clone, Default)]
pub struct Material {
    pub env: BTreeMap<String, SecretValue>,
    pub files: BTreeMap<String, SecretValue>,
    /// Those of the values above that are secrets: what the workload prints is redacted of them
    /// with [`crate::secret::Redactor`].
    pub secrets: Vec<SecretValue>,
}

impl Material {
    /// Resolves the declared environment and files of one start.
    ///
    /// # Errors
    /// When a secret is missing; the message says for which variable or file.
    pub fn resolve(
        secrets: &dyn Secrets,
        env: &BTreeMap<String, EnvValue>,
        files: &BTreeMap<String, EnvValue>,
    ) -> PortResult<Self> {
        let mut material = Self::default();
        for (declared, values, what) in
            [(env, &mut material.env, "environment variable"), (files, &mut material.files, "file")]
        {
            for (name, value) in declared {
                let value = match value {
                    EnvValue::Literal(text) => SecretValue::new(text.as_bytes()),
                    EnvValue::Secret(reference) => {
                        let secret = secrets.resolve(reference).map_err(|error| PortError {
                            operation: format!("failed to resolve {what} `{name}`: {}", error.operation),
                            ..error
                        })?;
                        material.secrets.push(secret.clone());
                        secret
                    }
                };
                values.insert(name.clone(), value);
            }
        }
        Ok(material)
    }
}

/// What an instance is called, and what is written on it, before it exists.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Unique: `<resource>-<digest>-<random>`; the inventory holds it first.
    pub name: String,
    pub resource: ResourceId,
    pub digest: Digest,
    pub revision: String,
}

/// The two ends of a spoken connection.
pub enum Channel {
    /// A stream each way, one JSON-RPC message a line.
    Stdio { reader: Box<dyn AsyncRead + Send + Unpin>, writer: Box<dyn AsyncWrite + Send + Unpin> },
    /// Streamable HTTP at this address.
    Http { url: String },
    /// HTTP+SSE, as of 2024-11-05: the stream of events is at this address.
    Sse { url: String, credentials: Option<Arc<dyn Credentials>> },
    /// HTTP, run by somebody else; which of the two is found out by asking.
    Remote { url: String, credentials: Option<Arc<dyn Credentials>> },
}

/// What requests to a server elsewhere carry, and what is done when that is refused.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// The headers, with a token that is good for a while yet. Their values are marked as sensitive.
    ///
    /// # Errors
    /// When no token can be had.
    async fn headers(&self) -> PortResult<http::HeaderMap>;
    /// Told that the server answered 401: whether it is worth asking once more, with other headers.
    async fn refused(&self, headers: &http::HeaderMap) -> bool;
    /// Told that the server answered 403, with this challenge (`WWW-Authenticate`): what that is about.
    fn forbidden(&self, challenge: &str) -> Refusal;
}

/// What a 403 of a server elsewhere is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not the scopes of a token.
    Other,
    /// The user's token has too few, and the user can be asked for more: which.
    Ask(String),
    /// The same, and asking is of no use: why.
    Final(String),
}

/// Makes what servers elsewhere are shown of what is declared.
pub trait Identities: Send + Sync {
    /// # Errors
    /// When a secret is missing, or no token can ever be asked for.
    fn of(
        &self,
        server: &crate::resource::Name,
        url: &str,
        declared: &Arc<crate::desired::remote::Credentials>,
    ) -> PortResult<Arc<dyn Credentials>>;
}

/// Hears one line a step. A type of its own, because `async_trait` would give the line of an
/// inline `Fn(&str)` one fixed lifetime.
pub type Progress<'a> = &'a (dyn for<'b> Fn(&'b str) + Send + Sync + 'a);

/// The contents a build is made from.
#[derive(Clone, Debug, Default)]
pub struct BuildInput {
    pub files: BuildFiles,
    /// The contents of [`BuildSpec::ca`], exactly when that is given.
    pub ca: Option<Bytes>,
}

/// Contents in the shape the build's [`crate::build::Context`] asks for.
#[derive(Clone, Debug, Default)]
pub enum BuildFiles {
    /// Of `Context::Snapshot`: one each for its `files`, in their order.
    Snapshot(Vec<Bytes>),
    /// Of `Context::Git`: the uncompressed tar of [`Lookup::archive`].
    Archive(Bytes),
    /// Of `Context::Empty`.
    #[default]
    Empty,
}

/// One command to run once.
#[derive(Clone)]
pub struct Run {
    /// Unique name, as in [`Identity::name`].
    pub name: String,
    pub resource: ResourceId,
    pub revision: String,
    pub digest: Digest,
    pub program: Program,
    pub stdin: Option<Bytes>,
    pub material: Material,
    pub limits: Limits,
    pub security: Arc<Security>,
    pub volumes: Arc<Mounts>,
    /// As in [`Workload::egress`].
    pub egress: Arc<[Egress]>,
    pub timeout: Duration,
}

/// What a run says while it goes on; ends with `Exit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEvent {
    Stdout(Bytes),
    Stderr(Bytes),
    /// The exit code; negative: the signal that ended it.
    Exit(i64),
}

/// A run in progress. Dropping it ends the run and removes what it left.
pub struct Running {
    pub events: tokio::sync::mpsc::Receiver<PortResult<RunEvent>>,
    /// Cancels on drop.
    pub guard: tokio_util::sync::DropGuard,
}

/// A place where things run.
#[async_trait]
pub trait Runner: Send + Sync {
    /// All instances of ours, by label.
    async fn observe(&self) -> PortResult<Vec<Instance>>;
    /// The id of an image on this engine, pulled when it is not there. Process runners have none.
    async fn image(&self, reference: &str) -> PortResult<String>;
    /// Whether an image of that build digest is here, so that nothing need be read or fetched for
    /// [`Runner::build`]. Process runners build nothing.
    async fn built(&self, _build: &BuildSpec) -> PortResult<bool> {
        Ok(false)
    }
    /// Where a registry has that very image: `name@sha256:…`; none when it was made on the engine.
    async fn registry_digest(&self, _reference: &str) -> PortResult<Option<String>> {
        Ok(None)
    }
    /// Builds unless an image of that digest is there; `progress` hears one line a step.
    async fn build(
        &self,
        build: &BuildSpec,
        input: BuildInput,
        rebuild: bool,
        progress: Progress<'_>,
    ) -> PortResult<()>;
    /// Starts one instance; returns when it runs, not when it is healthy.
    async fn start(
        &self,
        identity: &Identity,
        workload: &Workload,
        material: Material,
    ) -> PortResult<Instance>;
    /// Says which secrets an instance that an earlier daemon started was given, so that its output
    /// can be kept without them. Without this nothing of it is kept.
    async fn reveal(&self, _instance: &InstanceId, _secrets: Vec<SecretValue>) {}
    /// Connects to a running instance.
    async fn connect(&self, instance: &InstanceId) -> PortResult<Channel>;
    /// Stops it (a polite signal, then an end after `grace`) and removes what it left.
    async fn stop(&self, instance: &InstanceId, grace: Duration) -> PortResult<()>;
    /// The last standard error of an instance, at most 64 KiB.
    async fn logs(&self, instance: &InstanceId) -> PortResult<String>;
    /// Runs a command once.
    async fn run(&self, run: Run) -> PortResult<Running>;
    /// Starts a container that waits for a run; returns when it does.
    ///
    /// # Errors
    /// When it did not start, or the runner starts nothing ahead.
    async fn prepare(&self, _ahead: Ahead) -> PortResult<Box<dyn Prepared>> {
        Err(PortError::stalled("this runner starts nothing ahead of calls"))
    }
    /// The digests of what was started ahead and is there, or is being made.
    async fn ahead(&self) -> PortResult<BTreeSet<Digest>> {
        Ok(BTreeSet::new())
    }
    /// Volumes of ours on it, by the names they have in the repository. Process runners have none.
    async fn volumes(&self) -> PortResult<BTreeSet<Name>> {
        Ok(BTreeSet::new())
    }
    /// Removes a volume with all it holds. One that is gone is removed.
    ///
    /// # Errors
    /// When something mounts it.
    async fn remove_volume(&self, _name: &Name) -> PortResult<()> {
        Ok(())
    }
    /// Whether the place can be used.
    async fn healthy(&self) -> PortResult<()>;
    /// Waits until something of ours died or appeared.
    async fn changed(&self);
    /// Removes what earlier runs left; those that go on are left alone.
    async fn sweep(&self) -> PortResult<()> {
        Ok(())
    }
    /// Removes images of ours whose build digest is not in `keep`.
    async fn collect(&self, _keep: &BTreeSet<Digest>) -> PortResult<()> {
        Ok(())
    }
    /// Removes the ways out of containers but those to one of these sets of places, and to what
    /// instances that run may reach.
    async fn keep_egress(&self, _wanted: &BTreeSet<Arc<[Egress]>>) -> PortResult<()> {
        Ok(())
    }
}

impl Offer {
    /// What to remember for [`Greeting::Resumed`].
    pub fn handshake(&self) -> Handshake {
        Handshake {
            protocol: self.protocol.clone(),
            server_info: self.server_info.clone(),
            capabilities: self.capabilities.clone(),
            instructions: self.instructions.clone(),
        }
    }
}

/// What was agreed with a server: enough to go on in the same session without asking again.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Handshake {
    /// As in [`Offer::protocol`].
    pub protocol: String,
    pub server_info: Option<Arc<str>>,
    pub capabilities: Option<Arc<str>>,
    pub instructions: Option<String>,
}

/// How a server is greeted.
#[derive(Clone, Copy, Debug, Default)]
pub enum Greeting<'a> {
    /// Nothing is known of it: the modern way first, then the legacy one.
    #[default]
    Unknown,
    /// Its workload digest spoke this before ([`Offer::protocol`]), or `legacy` after [`NotModern`].
    Known(&'a str),
    /// An earlier daemon greeted this very instance and ended cleanly: no handshake.
    Resumed(&'a Handshake),
}

/// The cause in a [`PortError`] when a server died of, or answered nonsense to, a modern greeting:
/// start it anew and greet it as `Greeting::Known("legacy")`.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the server did not survive being greeted in the modern way; it is greeted the legacy way next")]
pub struct NotModern;

impl PortError {
    /// Whether [`NotModern`] is the cause.
    pub fn is_not_modern(&self) -> bool {
        self.source.as_ref().and_then(|cause| cause.downcast_ref::<NotModern>()).is_some()
    }
}

/// Asks a server what it offers, and keeps the connection for calls.
#[async_trait]
pub trait Prober: Send + Sync {
    /// Connects (or uses the connection there is) and lists everything, within `deadline`.
    async fn probe(
        &self,
        key: &UpstreamKey,
        channel: Channel,
        greeting: Greeting<'_>,
        deadline: Duration,
        cancel: &CancellationToken,
    ) -> PortResult<Offer>;
    /// Lists again over the connection there is.
    async fn refresh(&self, key: &UpstreamKey, deadline: Duration) -> PortResult<Offer>;
    /// Lets calls in flight finish for at most `grace`, then closes.
    async fn release(&self, key: &UpstreamKey, grace: Duration);
    /// Calls a tool over the connection there is, before it is offered to anybody: the raw JSON of its
    /// `CallToolResult`. An error of the protocol is a result that says so.
    async fn call(
        &self,
        key: &UpstreamKey,
        params: &RawValue,
        deadline: Duration,
        cancel: &CancellationToken,
    ) -> PortResult<String>;
    /// The connections that work now.
    fn connected(&self) -> BTreeSet<UpstreamKey>;
    /// From now on this connection takes calls for what a catalog leads to ([`UpstreamKey::any_of`]).
    fn admit(&self, any: &UpstreamKey, key: &UpstreamKey);
    /// From now on it takes none. It stays connected, and calls under way go on.
    fn dismiss(&self, key: &UpstreamKey);
    /// How much those are used that take calls for `any`.
    fn usage(&self, any: &UpstreamKey) -> Usage;
}

/// Policies that are answered elsewhere.
#[async_trait]
pub trait Judge: Send + Sync {
    /// The document of the policy's package for this input, within its time limit.
    ///
    /// # Errors
    /// Whenever there is none: the caller refuses then. The message goes to whoever asked.
    async fn ask(&self, remote: &Remote, input: &serde_json::Value) -> PortResult<serde_json::Value>;
}

/// What every policy of `point` that is answered elsewhere says, in the order of
/// [`PolicySet::remotes`].
pub async fn judged(
    judge: &dyn Judge,
    policies: &PolicySet,
    point: Point,
    input: &serde_json::Value,
) -> Vec<Result<serde_json::Value, String>> {
    let asked = policies.remotes(point).map(|remote| judge.ask(remote, input));
    let said = futures::future::join_all(asked).await;
    said.into_iter().map(|said| said.map_err(|error| error.chain())).collect()
}

/// What survives the daemon.
pub trait Store: Send + Sync {
    fn inventory(&self) -> PortResult<Inventory>;
    fn save_inventory(&self, inventory: &Inventory) -> PortResult<()>;
    /// Small values by key, such as the era of a digest or the last applied revision.
    fn get(&self, key: &str) -> PortResult<Option<Vec<u8>>>;
    fn put(&self, key: &str, value: &[u8]) -> PortResult<()>;
    /// As `put`, and it is on the disk when the call returns.
    fn put_durably(&self, key: &str, value: &[u8]) -> PortResult<()> {
        self.put(key, value)
    }
}

/// Time, passed in so that the core never asks for it.
pub trait Clock: Send + Sync {
    /// Since the Unix epoch.
    fn now(&self) -> Duration;
}

/// The runners there are now, by name.
pub trait Runners: Send + Sync {
    fn get(&self, name: &crate::resource::Name) -> Option<Arc<dyn Runner>>;
}

/// Runners as declared, by name.
pub type DeclaredRunners = BTreeMap<crate::resource::Name, Arc<crate::desired::Runner>>;

/// Makes and drops adapters as the repository declares runners.
pub trait RunnerPool: Runners {
    /// From now on these and no others; adapters of unchanged runners stay.
    fn set(&self, runners: &DeclaredRunners);
}

/// Where a pass puts what it made.
pub trait Publisher: Send + Sync {
    /// What is served now.
    fn current(&self) -> Option<Arc<crate::catalog::Catalog>>;
    /// Serves this from now on. Rules first, so that nobody sees an entry its rules would hide.
    fn publish(
        &self,
        catalog: Arc<crate::catalog::Catalog>,
        policies: Arc<crate::policy::PolicySet>,
        runners: &DeclaredRunners,
    );
    /// Outside registration APIs that have to be told of what is served.
    fn register(&self, _registrations: &Arc<[crate::resource::crib::Registration]>) {}
    /// Says how everything is.
    fn status(&self, status: Arc<crate::status::Status>);
    /// Details of what failed: logs of builds and of instances that did not start.
    fn failures(&self, failures: BTreeMap<ResourceId, String>);
    /// Counts definitions that a server changed by itself, without a commit.
    fn definitions_changed(&self, _server: &ResourceId, _count: u64) {}
    /// Says whether anything is left to do: `Some` with how the pass ended and how long it took.
    fn quiet(&self, pass: Option<(&'static str, Duration)>);
}

/// What goes on beside a call: hearing of its end, telling of its course.
#[derive(Clone, Default)]
pub struct CallContext {
    /// Cancelled when the client went away or said so.
    pub cancel: CancellationToken,
    /// Where progress and log messages go; none when nobody listens. Bounded: a full channel drops
    /// messages of progress, never the result.
    pub events: Option<tokio::sync::mpsc::Sender<CallEvent>>,
    /// Where requests of the server to the client go; none when nobody can be asked.
    pub requests: Option<tokio::sync::mpsc::Sender<ClientRequest>>,
    /// What the client offers to servers: the raw JSON of its capabilities. None: nothing.
    pub capabilities: Option<Arc<str>>,
    /// The lowest severity of log messages (RFC 5424) that the client asked for, if it did.
    pub level: Option<&'static str>,
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
}
