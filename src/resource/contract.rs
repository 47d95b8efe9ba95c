//! Contract tests: what a tool has to answer before it is published.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Period;

/// One call and what it has to answer. A version whose tests fail is not published: the one before stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ContractTest {
    /// What is tested, unique among the tests of its resource. Example: `greets`.
    pub name: String,
    /// Of a server: the tool that is called, by the server's own name for it.
    ///
    /// Default: none, since a `Tool` is one. Example: `forecast`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The arguments of the call. Default: none. Example: `{city: Paris}`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub arguments: Map<String, Value>,
    /// What the answer has to be. Default: no error. Example: `{contains: Paris}`.
    #[serde(default)]
    pub expect: Expectation,
    /// How long the call may take, at most 5 min. Default: 30 s. Example: `2m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
}

/// What an answer has to be: everything that is named has to hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Expectation {
    /// The whole text; white space at the end does not count. Default: any. Example: `hello Ada`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A part of the text. Default: any. Example: `Ada`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// A regular expression that some part of the text matches. Default: any. Example: `^hello`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
    /// The text, read as JSON. Default: any. Example: `{degrees: 21}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// The structured content. Default: any. Example: `{degrees: 21}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured: Option<Value>,
    /// Whether the answer has to be an error. Default: false. Example: `true`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub error: bool,
}
