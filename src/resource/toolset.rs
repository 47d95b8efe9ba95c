//! `Toolset`: a named part of the catalog.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Name;

/// A named part of the catalog, for one team or one task.
///
/// An entry belongs to it when any of the selectors takes it.
///
/// ```yaml
/// apiVersion: toolcrib.dev/v1alpha1
/// kind: Toolset
/// metadata: {name: data}
/// spec:
///   select:
///     - matchLabels: {team: data}
///     - servers: [postgres]
///       names: ["postgres_read_*"]
///   access: {groups: [data]}
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ToolsetSpec {
    /// What belongs to it: whatever any of these selectors takes. At least one.
    ///
    /// Example: `[{servers: [weather]}, {names: ["git_*"]}]`; `[{names: ["*"]}]` takes everything.
    pub select: Vec<Selector>,
    /// Whether it is served as a search over its tools instead of a list of them: `true`, or its form.
    ///
    /// Default: false. Example: `true`.
    #[serde(default, skip_serializing_if = "Search::is_off")]
    pub search: Search,
    /// What a model reads about this toolset before its tools.
    ///
    /// Default: the instructions of the servers in it. Example: `Ask for the region first.`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// Who may use its endpoint. It grants no tool: policies still decide each call.
    ///
    /// Default: everybody who may use the daemon's endpoint. Example: `{groups: [data]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
}

/// Takes the entries that fit all of what it says; it must say something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Selector {
    /// Labels that the `Server` or `Tool` must have in its `metadata.labels`, all of them.
    ///
    /// Default: any. Example: `{team: data}`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Servers, one of which must own the entry.
    ///
    /// Default: any, and every `Tool`. Example: `[weather]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Name>,
    /// Patterns over published names, one of which must fit: `*` stands for any letters, `?` for one.
    ///
    /// Default: any. Example: `["git_*", "kubectl"]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

/// Who may use a toolset's endpoint: a principal that is named, or is in a group that is; where neither is
/// given, anybody whose token has the scopes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Access {
    /// Names of principals. Default: none. Example: `[ada]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// Groups of principals. Default: none. Example: `[developers]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Scopes of OAuth that a token must have, all of them. Static tokens have none, and neither has who is
    /// local; clients are told which are missing.
    ///
    /// Default: none are needed. Example: `[data:read]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

impl Access {
    /// Whether it is for somebody, by their name or one of their groups.
    pub fn names(&self, user: &str, groups: &[String]) -> bool {
        let anybody = self.users.is_empty() && self.groups.is_empty() && !self.scopes.is_empty();
        anybody
            || self.users.iter().any(|name| name == user)
            || self.groups.iter().any(|group| groups.contains(group))
    }

    /// Whether a token with these scopes is good for it.
    pub fn is_within(&self, scopes: &[String]) -> bool {
        self.scopes.iter().all(|scope| scopes.contains(scope))
    }
}

/// `search: true`, or `search: {results: 10}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Search {
    /// The tools are listed.
    #[default]
    #[serde(serialize_with = "serialize_off")]
    Off,
    /// Two tools are listed, by which a model finds and calls the others.
    On(SearchForm),
}

/// How a toolset is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct SearchForm {
    /// Tools that one search answers at most. Default: 10. Example: `20`.
    pub results: u16,
}

impl Default for SearchForm {
    fn default() -> Self {
        Self { results: 10 }
    }
}

fn serialize_off<S: serde::Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(false)
}

impl Search {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
    fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

impl<'de> Deserialize<'de> for Search {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Search;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`true`, `false` or {results}")
            }
            fn visit_bool<E: serde::de::Error>(self, on: bool) -> Result<Search, E> {
                Ok(if on { Search::On(SearchForm::default()) } else { Search::Off })
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Search, A::Error> {
                SearchForm::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(Search::On)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
