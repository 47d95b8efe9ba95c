//! Placeholders to argument vectors. No shell is ever added.

use crate::resource::tool::ArgTemplate;

/// A command with its placeholders, checked against the parameters when it was compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub command: Vec<String>,
    pub args: Vec<ArgTemplate>,
    pub stdin: Option<String>,
    /// Parameters with `split: words`.
    pub split: std::collections::BTreeSet<String>,
    /// Parameters with `allowDash`.
    pub allow_dash: std::collections::BTreeSet<String>,
}
