//! `Policy`: Rego rules.

use serde::{Deserialize, Serialize};

/// Rules that admit, list and allow. Semantics: [`crate::policy`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PolicySpec {
    /// Rego files, relative to this file. Example: `[rules.rego]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
    /// Rego written in place, instead of `modules`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rego: Option<String>,
    /// The package whose rules decide. Example: `team.tools`.
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

fn points() -> Vec<Point> {
    vec![Point::Call]
}

/// The version of the language Rego.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegoVersion {
    /// As before OPA 1.0: `deny[msg] { … }`.
    V0,
    /// As since OPA 1.0: `deny contains msg if { … }`.
    #[default]
    V1,
}

/// Where a policy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// It refuses.
    #[default]
    Deny,
    /// What would be refused is let through and recorded.
    Audit,
}
