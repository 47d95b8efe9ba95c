//! `Tool`: one command, run for each call.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::contract::ContractTest;
use super::workload::{BuildSource, Egress, Resources, Security, Volumes};
use super::{EnvValue, Memory, Name, Packed, Period};

/// A command that runs in a container of its own for each call; without image or build it runs on
/// a process runner.
///
/// ```yaml
/// apiVersion: toolcrib.dev/v1alpha1
/// kind: Tool
/// metadata: {name: greet}
/// spec:
///   description: Greets somebody.
///   command: [echo, hello]
///   args: ["${name}"]
///   parameters:
///     name: {type: string, description: Whom to greet, required: true}
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("not" = {"anyOf": [
    {"required": ["image", "build"]},
    {"required": ["parameters", "inputSchema"]},
]}))]
pub struct ToolSpec {
    /// The published name. Default: the Crib's prefix and the resource's name. Example: `kube_get`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish_as: Option<String>,
    /// The title people see. Default: none. Example: `Greeting`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it does and when to use it: models choose by this. Example: `Greets somebody by name.`
    pub description: String,
    /// Annotations of the protocol, published as written. Default: none.
    ///
    /// Example: `{readOnlyHint: true}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<serde_json::Map<String, Value>>,
    /// The image it runs in. With neither `image` nor `build` it runs on a process runner.
    ///
    /// Example: `registry.example.com/kubectl:1.31.2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// A folder of this repository its image is built from. Example: `{context: ./greet}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildSource>,
    /// The program and its fixed arguments. Replaces the image's entry point.
    ///
    /// Default: the image's entry point. Example: `[kubectl, get]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Arguments with placeholders: `${city}`, `${paths...}`, `{if: name, args: [...]}`.
    ///
    /// Default: none. Example: `["${resource}", {if: namespace, args: ["-n", "${namespace}"]}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<ArgTemplate>,
    /// The short form of an input schema: parameters by name.
    ///
    /// Default: none. Example: `{city: {type: string, description: Where, required: true}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<super::shape::Parameters>")]
    pub parameters: Option<Packed<serde_json::Map<String, Value>>>,
    /// The full form of an input schema, instead of `parameters`: JSON Schema 2020-12.
    ///
    /// Example: `{type: object, properties: {city: {type: string}}, required: [city]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Packed<Value>>,
    /// The schema of its structured results: JSON Schema 2020-12. Standard output is then read as JSON.
    ///
    /// Default: none, and results are text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// Text for standard input, with placeholders. Default: none. Example: `${query}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Integrations whose variables and files it gets. Default: none. Example: `[kubernetes]`.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub integrations: Box<[Name]>,
    /// Environment variables: text, or references to secrets.
    ///
    /// Default: none. Example: `{NO_COLOR: "1", API_KEY: {secret: {env: API_KEY}}}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, EnvValue>,
    /// Files by absolute path, on a memory file system below `/run/toolcrib` unless said otherwise.
    ///
    /// Default: none. Example: `{/run/toolcrib/kubeconfig: {secret: {file: /etc/toolcrib/kubeconfig}}}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, EnvValue>,
    /// Named volumes by the path at which they are mounted, on Docker runners: for what outlives calls.
    ///
    /// A new volume is empty and belongs to the user of the container that mounts it first; other users may
    /// write as well. Whatever names the same one on the same runner shares it, calls side by side among them
    /// (`concurrency: 1` allows one at a time). When nothing declares it any more it is kept with its data,
    /// until somebody says `toolcrib volumes delete`.
    ///
    /// Default: none. Example: `{/var/cache/terraform: terraform}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Volumes,
    /// Hosts it may reach over TCP, as `host` or `host:port` (443 where there is none). In its container they
    /// have their names, and nothing else can be reached. `host.docker.internal` is the engine's machine.
    ///
    /// Default: none. Example: `[api.example.com, db.example.com:5432]`.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub egress: Box<[Egress]>,
    /// Limits of one call. Example: `{memory: 128Mi}`.
    #[serde(default)]
    pub resources: Resources,
    /// How it is confined. Replaces the Crib's as a whole.
    ///
    /// Default: everything hardened. Example: `{readOnlyRoot: false}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
    /// How long one call may take. Default: the Crib's, else 300 s. Example: `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// Bytes of standard output and error each; the rest is cut, and the result says so.
    ///
    /// Default: 1Mi. Example: `64Ki`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output: Option<Memory>,
    /// Exit codes that are no failure. Default: `[0]`. Example: `[0, 1]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_exit_codes: Option<Vec<i64>>,
    /// How far a container that was started ahead (`warm`) is used again for another call.
    ///
    /// Between two calls every process in it is killed and its file systems in memory are emptied, and one
    /// whose call was cancelled or ran out of time is not used again. It needs a read-only root and a user
    /// that is not root. Default: call, not at all. Example: `principal`.
    #[serde(default, skip_serializing_if = "Isolation::is_call")]
    pub isolation: Isolation,
    /// Containers that are started ahead and wait for calls, on Docker runners: a call then begins in
    /// milliseconds. They hold no secrets while they wait. A call that finds none starts its own.
    ///
    /// All tools together have at most as many as the daemon's `max-warm` says. Default: 0. Example: `2`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub warm: u32,
    /// Calls that run at once; further ones wait. Default: no limit. Example: `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Where it runs. Default: the Crib's, or the only runner that can. Example: `docker`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<Name>,
    /// Calls and what they have to answer. A version whose tests fail is not published.
    ///
    /// Default: none. Example: `[{name: greets, arguments: {name: Ada}, expect: {text: hello Ada}}]`.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub tests: Box<[ContractTest]>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// How far a container is used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Each call has its own.
    #[default]
    Call,
    /// Calls of one principal may share one; it is removed after five minutes without a call.
    Principal,
    /// All calls of the tool may share one, and `warm` is how many there are.
    Tool,
}

impl Isolation {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
    fn is_call(&self) -> bool {
        *self == Self::Call
    }
}

/// One entry of `args`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ArgTemplate {
    /// One element, or several for `${name...}` and `split: words`.
    Text(String),
    /// Elements that are there only when the parameter was given.
    When {
        #[serde(rename = "if")]
        parameter: String,
        args: Vec<String>,
    },
}

impl<'de> Deserialize<'de> for ArgTemplate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct When {
            r#if: String,
            args: Vec<String>,
        }
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = ArgTemplate;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string, or {if: parameter, args: [...]}")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ArgTemplate, E> {
                Ok(ArgTemplate::Text(text.to_owned()))
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<ArgTemplate, A::Error> {
                let when = When::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(ArgTemplate::When { parameter: when.r#if, args: when.args })
            }
        }
        // As text, so that `no`, `014`, `1.10` and dates arrive as they are written.
        deserializer.deserialize_str(Visitor)
    }
}
