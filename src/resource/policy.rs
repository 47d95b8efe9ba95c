//! `Policy`: Rego rules.

use serde::{Deserialize, Serialize};

/// Rules that admit, list and allow. Semantics: [`crate::policy`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PolicySpec {
    /// Rego files, relative to the file that declares them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
    /// Rego written in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rego: Option<String>,
    /// The package whose rules decide, such as `kubiya.tools`.
    pub package: String,
    #[serde(default)]
    pub rego_version: RegoVersion,
    /// Where it is asked. Default: call.
    #[serde(default = "points")]
    pub points: Vec<Point>,
    #[serde(default)]
    pub enforcement: Enforcement,
}

fn points() -> Vec<Point> {
    vec![Point::Call]
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegoVersion {
    V0,
    #[default]
    V1,
}

/// Where a policy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Point {
    Admission,
    List,
    Call,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    #[default]
    Deny,
    /// What would be refused is let through and recorded.
    Audit,
}
