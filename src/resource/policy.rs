//! `Policy`: Rego rules.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Period, SecretRef};

/// Rules that admit resources, show entries of lists, and allow calls.
///
/// ```yaml
/// apiVersion: toolcrib.dev/v1alpha1
/// kind: Policy
/// metadata: {name: no-production}
/// spec:
///   package: team.tools
///   rego: |
///     package team.tools
///     deny contains "not in production" if input.tool.args.cluster == "production"
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("oneOf" = [{"required": ["modules"]}, {"required": ["rego"]}, {"required": ["opa"]}]))]
pub struct PolicySpec {
    /// Rego files, relative to this file. Example: `[rules.rego]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
    /// Rego written in place, instead of `modules`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rego: Option<String>,
    /// Rules asked elsewhere, over the data API of Open Policy Agent, instead of `modules`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opa: Option<OpaSource>,
    /// The package whose rules decide: `deny`, `allow`, `visible`, `allowed_runners`, `limits`, and
    /// `recorded` (arguments that audit records may hold: a set of names, or `true`).
    ///
    /// `limits` is an object of numbers: `timeout` (seconds), `memory` and `maxOutput` (bytes), `cpu` (cores),
    /// `pids`. A call of a tool is lowered to them; a server that runs with more is not called, and with the
    /// point `admission` what declares more is not run. Example: `team.tools`.
    pub package: String,
    /// The language the rules are written in. Default: v1.
    #[serde(default)]
    pub rego_version: RegoVersion,
    /// Where it is asked. Default: `[call]`. Example: `[list, call]`.
    #[serde(default = "points")]
    pub points: Vec<Point>,
    /// What a refusal does. Default: deny.
    #[serde(default)]
    pub enforcement: Enforcement,
}

/// A server that speaks the data API of Open Policy Agent, asked for each call. No answer is a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct OpaSource {
    /// Where it listens; `/v1/data/` and the package follow. Example: `https://opa.example:8181`.
    pub url: String,
    /// What its package decides. OPA leaves out what is undefined: an `allow` that is named here and
    /// missing in an answer does not hold. Default: deny and allow. Example: `[deny]`.
    #[serde(default = "answers")]
    pub answers: Vec<OpaAnswer>,
    /// How long one question may take, at most 30 s. Default: 1 s. Example: `500ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// Sent as bearer token. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
}

impl OpaSource {
    /// How long one question may take.
    pub fn limit(&self) -> Duration {
        self.timeout.map_or(Duration::from_secs(1), |period| period.0)
    }
}

/// A token: never its value, only where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Token {
    /// Resolved by the daemon each time.
    pub secret: SecretRef,
}

/// A rule that decides something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OpaAnswer {
    Deny,
    Allow,
    Visible,
    AllowedRunners,
    Limits,
}

impl OpaAnswer {
    /// As the rule is called.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Allow => "allow",
            Self::Visible => "visible",
            Self::AllowedRunners => "allowed_runners",
            Self::Limits => "limits",
        }
    }
}

fn answers() -> Vec<OpaAnswer> {
    vec![OpaAnswer::Deny, OpaAnswer::Allow]
}

fn points() -> Vec<Point> {
    vec![Point::Call]
}

/// The version of the language Rego.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RegoVersion {
    /// As before OPA 1.0: `deny[msg] { … }`.
    V0,
    /// As since OPA 1.0: `deny contains msg if { … }`.
    #[default]
    V1,
}

/// Where a policy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Point {
    /// Before a resource is applied.
    Admission,
    /// Before an entry is listed.
    List,
    /// Before a tool is called.
    Call,
}

/// What a refusal does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// It refuses.
    #[default]
    Deny,
    /// What would be refused is let through and recorded.
    Audit,
}
