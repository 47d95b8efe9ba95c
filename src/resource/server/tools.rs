//! Which of a server's tools are offered, and as what.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Which of a server's tools are offered, and under which names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ServerTools {
    /// Before each tool's name. May be empty. Default: the server's name. Example: `wx`.
    pub prefix: Option<String>,
    /// Patterns over the server's own tool names. Default: all. Example: `["get_*"]`.
    pub include: Vec<String>,
    /// Patterns over the server's own tool names, after `include`. Default: none. Example: `["debug_*"]`.
    pub exclude: Vec<String>,
    /// Changes of single tools, by the server's own name for them.
    ///
    /// Default: none. Example: `{forecast: {title: Forecast, annotations: {readOnlyHint: true}}}`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: BTreeMap<String, Override>,
    /// How far a server is believed when it lists something else than was reviewed.
    ///
    /// Default: `reviewed` where a lock exists, else `live`. Example: `locked`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,
    /// Whether its tools, prompts and resources stay in lists while it is down: it ended, or cannot be
    /// reached. Calls to it fail at once either way. Default: listed. Example: `hidden`.
    #[serde(skip_serializing_if = "WhenDown::is_listed")]
    pub when_down: WhenDown,
}

/// What is listed of a server that is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WhenDown {
    /// Everything, as before: lists do not change, and calls say that it cannot be reached.
    #[default]
    Listed,
    /// Nothing, until it answers again; clients are told that lists changed. Its names are free meanwhile.
    Hidden,
}

impl WhenDown {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
    pub(crate) fn is_listed(&self) -> bool {
        *self == Self::Listed
    }
}

/// What is published of one tool instead of what its server says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Override {
    /// The whole published name, without any prefix. Example: `weather_today`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The title people see. Example: `Weather of today`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The description models choose by. Example: `Tells the weather of a city, today.`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Annotations of the protocol, merged over the server's; `null` removes one.
    ///
    /// Example: `{readOnlyHint: true}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Map<String, Value>>,
    /// Whether it is left out of the catalog. Default: false. Example: `true`.
    pub hidden: bool,
}

/// How far a server is believed when it lists something else than was reviewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// Offered only as in the lock, listed before it has started; what differs is refused.
    Locked,
    /// What the lock holds is offered; what is new or changed waits for the lock.
    Reviewed,
    /// Offered as found; what differs from the lock is told.
    Live,
}
