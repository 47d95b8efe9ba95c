//! A user's mistake: what, where, and what next.

use serde::Serialize;

use super::Place;
use crate::resource::ResourceId;

/// How bad it is: an error keeps the previous version of its resource (or refuses the revision).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// One mistake. Ordered by place, so that a list sorts as a person reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    pub place: Option<Place>,
    pub severity: Severity,
    /// Stable, in kebab case: `unknown-field`.
    pub code: &'static str,
    /// A sentence without its full stop.
    pub message: String,
    /// The line itself, for the excerpt with its caret.
    pub excerpt: Option<String>,
    /// The next step, a sentence without its full stop.
    pub hint: Option<String>,
    /// Whose condition shows it, when that is known.
    pub resource: Option<ResourceId>,
}
