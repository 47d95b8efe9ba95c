//! Why a tool is listed, hidden, refused or missing for somebody: the question and the answer.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WhyQuery {
    /// A published name.
    pub tool: String,
    /// None, and no groups: whoever is local.
    pub user: Option<String>,
    pub groups: Vec<String>,
    /// Of the call. None: lists and rules that need no arguments.
    pub arguments: Option<Map<String, Value>>,
    /// The endpoint of a toolset instead of everything.
    pub toolset: Option<String>,
}

/// What becomes of a tool for somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It is listed, and a call goes through.
    Served,
    /// It is listed, and this call is refused by a rule.
    Refused,
    /// It is listed, and these arguments do not fit.
    Invalid,
    /// Rules leave it out of lists; a call is answered as one of an unknown tool.
    Hidden,
    /// It is not in the toolset.
    NotInToolset,
    /// The endpoint is not for this principal.
    Forbidden,
    /// It is declared, or may be, and is not offered now.
    NotOffered,
    /// Nothing declared has that name.
    Unknown,
}

/// One reason, or one thing that is good to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// `Tool/greet`, `Policy/p`, `Toolset/data`, or nothing in particular.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resource: Option<String>,
    pub says: String,
    /// Where that resource is declared: `file:line:column`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub place: Option<String>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyReply {
    pub tool: String,
    /// Who is spoken of.
    pub user: String,
    pub groups: Vec<String>,
    pub fate: Fate,
    /// One sentence.
    pub answer: String,
    /// Why, the decisive first.
    pub facts: Vec<Fact>,
    /// What is served: `main@sha1:<commit>`.
    pub revision: String,
}
