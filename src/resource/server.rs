//! `Server`: an MCP server.

pub mod lifecycle;
pub mod source;
pub mod tools;
pub mod transport;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::contract::ContractTest;
use super::remote::{OAuth, UserOAuth};
use super::workload::{Egress, Resources, Security, Volumes};
use super::{EnvValue, Name, Period};

pub use lifecycle::{Lifecycle, Replicas, Running};
pub use source::{GitCredentials, GitSource, ImageSource, PackageRegistry, PackageSource, ServerSource};
pub use tools::{Override, ServerTools, Trust, WhenDown};
pub use transport::Transport;

/// An MCP server: where it comes from, how it is spoken to, how it runs.
///
/// ```yaml
/// apiVersion: toolcrib.dev/v1alpha1
/// kind: Server
/// metadata: {name: time}
/// spec:
///   source:
///     package: {registry: pypi, name: mcp-server-time, version: 2025.9.25, base: "python:3.12-slim"}
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServerSpec {
    /// Where it comes from: exactly one of `image`, `build`, `git`, `package`, `command` and `url`.
    ///
    /// Example: `{image: "registry.example.com/weather:1.4.2"}`.
    pub source: ServerSource,
    /// How it is spoken to: `stdio`, `streamable-http`, `sse`, or `{type: streamable-http, port, path}`.
    ///
    /// `sse` is how HTTP was used before 2025-03-26. How a server at an address (`source.url`) is spoken to
    /// is found out by asking it.
    /// Default: stdio. Example: `{type: streamable-http, port: 8000, path: /mcp}`.
    #[serde(default)]
    pub transport: Transport,
    /// `sync`: what it offers is in the catalog; `deploy`: it only runs. Default: sync.
    #[serde(default)]
    pub mode: Mode,
    /// Whether clients share one instance. Default: shared.
    ///
    /// With `perClient` a server can ask the client whose call it works on: for a completion of a
    /// model, for what the user has to say, for roots. Whoever opened a session has one of its own
    /// with the server, until that ends; a client without sessions (MCP 2026-07-28) has one for each
    /// call under way, kept a few minutes for the next call of the same user. A server of MCP
    /// 2026-07-28 has no sessions: it is told in each request what that client can be asked.
    /// Example: `perClient`.
    #[serde(default, skip_serializing_if = "Sessions::is_shared")]
    pub sessions: Sessions,
    /// When it runs and how often: `always`, `on-demand`, or `{mode, idleTimeout, replicas}`.
    ///
    /// An on-demand server starts with the first call of one of its tools, prompts or resources, and ends when
    /// nobody uses it any more. What it offers is listed meanwhile: from its lock, or as the same version listed
    /// it before. Where neither is there it is started once, and asked.
    /// Default: always. Example: `{mode: on-demand, idleTimeout: 5m}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Box<Lifecycle>>,
    /// Where it runs. Default: the Crib's, or the only runner that can. Example: `docker`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<Name>,
    /// Integrations whose variables and files it gets. Default: none. Example: `[github]`.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub integrations: Box<[Name]>,
    /// Environment variables: text, or references to secrets.
    ///
    /// Default: none. Example: `{LOG_LEVEL: info, API_KEY: {secret: {env: API_KEY}}}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, EnvValue>,
    /// Headers of each request to a `url`, besides those of the protocol: `${NAME}` is a variable of `env` or
    /// of an integration.
    ///
    /// Default: none. Example: `{Authorization: "Bearer ${API_TOKEN}"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// How a token for a `url` is got. Default: none.
    ///
    /// Example: `{tokenUrl: "https://login.example.com/token", clientId: toolcrib, clientSecret: {secret: {env: CLIENT_SECRET}}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth: Option<Box<OAuth>>,
    /// How each user gets a token of their own for a `url`. Default: all calls are made alike.
    ///
    /// Example: `{clientId: toolcrib, listAs: local}`.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "userOAuth")]
    pub user_oauth: Option<Box<UserOAuth>>,
    /// Files by absolute path, on a memory file system below `/run/toolcrib` unless said otherwise.
    ///
    /// Default: none. Example: `{/run/toolcrib/token: {secret: {file: /etc/toolcrib/token}}}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, EnvValue>,
    /// Named volumes by the path at which they are mounted, on Docker runners: for what outlives instances and versions.
    ///
    /// A new volume is empty and belongs to the user of the container that mounts it first; other users may
    /// write as well. Whatever names the same one on the same runner shares it, and so do the instances of
    /// `sessions: perClient`. When nothing declares it any more it is kept with its data, until somebody says `toolcrib volumes delete`.
    ///
    /// Default: none. Example: `{/var/cache/weather: weather-cache}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Volumes,
    /// Hosts it may reach over TCP, as `host` or `host:port` (443 where there is none). In its container they
    /// have their names, and nothing else can be reached. `host.docker.internal` is the engine's machine.
    ///
    /// Default: none. Example: `[api.example.com, db.example.com:5432]`.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub egress: Box<[Egress]>,
    /// Limits of an instance. Example: `{memory: 256Mi, cpu: 500m}`.
    #[serde(default)]
    pub resources: Resources,
    /// How it is confined. Replaces the Crib's as a whole.
    ///
    /// Default: everything hardened. Example: `{readOnlyRoot: false}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
    /// How often it is asked whether it still answers.
    ///
    /// A server is asked what it offers when it starts or is connected to, and when it says that its list
    /// changed; one that ends is started again. Default: never besides. Example: `{interval: 30s}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Box<Health>>,
    /// Whether the new instance starts before or after the old one ends.
    ///
    /// Default: surge; recreate where the server has a volume that it writes, so that two instances never
    /// write the same one. Example: `recreate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// Which of its tools are offered, and how.
    ///
    /// Default: all, as they are. Example: `{prefix: wx, exclude: ["debug_*"]}`.
    #[serde(default)]
    pub tools: ServerTools,
    /// Before the URIs of its resources, also in links of its results: lower-case letters, digits, `+`, `-`
    /// and `.`, as the scheme of a URI has them. For servers that use the same URIs.
    ///
    /// Default: none. Example: `weather+`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources_prefix: Option<String>,
    /// Servers that must be ready before this one starts. Default: none. Example: `[database]`.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub depends_on: Box<[Name]>,
    /// What a model reads about it: instead of what the server itself says, or `{append: …}` after it.
    ///
    /// Default: what the server says. Example: `Ask for the city first.`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<Box<Instructions>>,
    /// An image for its tools that have none of their own: an https address or a `data:` URI.
    ///
    /// Default: none. Example: `https://example.com/weather.png`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icon: Option<Box<str>>,
    /// Calls that an instance works on at once; further ones wait. One that is answered with a task counts until its
    /// end was told, or it was cancelled, for at most `timeout`. Default: no limit. Example: `4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// From start to the first complete list. Default: 60 s. Example: `2m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_timeout: Option<Period>,
    /// How long calls in flight may go on when an instance is replaced. Default: 30 s. Example: `2m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<Period>,
    /// How long one call may take. Default: the Crib's, else 300 s. Example: `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// Calls and what they have to answer. A version whose tests fail is not published.
    ///
    /// Default: none. Example: `[{name: greets, tool: greet, arguments: {name: Ada}, expect: {text: hello Ada}}]`.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub tests: Box<[ContractTest]>,
}

/// Whether a server is in the catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is.
    #[default]
    Sync,
    /// It only runs.
    Deploy,
}

/// Whether clients share one instance of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Sessions {
    /// All speak with the same one, which can ask none of them anything.
    #[default]
    Shared,
    /// Each client has an instance (stdio, and one more is started for the next client) or connection
    /// (HTTP) of its own; 32 at a time. It can be asked during its calls and, while it has a stream open,
    /// between them. Lists are those of an instance that all share: when a client's own says that its lists
    /// changed, that one is asked again, and all clients are told of what changed.
    PerClient,
}

impl Sessions {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
    fn is_shared(&self) -> bool {
        *self == Self::Shared
    }
}

/// How it is found out whether a server is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Health {
    /// How often it is asked what it offers, at least 1 s apart. Example: `30s`.
    pub interval: Period,
    /// How long the whole answer may take. Default: 10 s. Example: `5s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// How many checks in a row have to fail before it is started anew, with back-off, or connected to anew
    /// where it runs elsewhere.
    ///
    /// A server that answers nothing while it works on a call fails meanwhile. Default: 3. Example: `5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_threshold: Option<u32>,
}

/// What a model reads about a server: a text, or `{append: text}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Instructions {
    /// Instead of what the server says.
    Replace(String),
    /// After what the server says.
    Append(String),
}

impl<'de> Deserialize<'de> for Instructions {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        struct Full {
            append: String,
        }
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Instructions;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text, or {append}")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Instructions, E> {
                Ok(Instructions::Replace(text.to_owned()))
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Instructions, A::Error> {
                let Full { append } = Full::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Instructions::Append(append))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// What happens when an instance is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The new one is healthy before the old one goes.
    #[default]
    Surge,
    /// The old one goes first.
    Recreate,
}
