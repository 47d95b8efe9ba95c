//! `Tool`: one command, run for each call.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::workload::{BuildSource, Resources, Security};
use super::{EnvValue, Memory, Name, Packed, Period};

/// A command that runs in a container of its own for each call; without image or build it runs on
/// a process runner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ToolSpec {
    /// The published name. Default: the Crib's prefix and the resource's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish_as: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    pub description: String,
    /// MCP tool annotations (`readOnlyHint`, …), published as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<serde_json::Map<String, Value>>,
    /// `image` or `build`, or neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildSource>,
    /// The program and its fixed arguments. Replaces the image's entry point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Arguments with placeholders: `${city}`, `${paths...}`, `{if: name, args: [...]}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<ArgTemplate>,
    /// The short form of an input schema: parameters by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Packed<serde_json::Map<String, Value>>>,
    /// The full form: JSON Schema 2020-12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Packed<Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// Text for standard input, with placeholders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, EnvValue>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, EnvValue>,
    #[serde(default)]
    pub resources: Resources,
    /// Replaces the Crib's as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
    /// Of one call. Default 300 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// Of stdout and stderr each; the rest is cut, and the result says so. Default 1Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output: Option<Memory>,
    /// Default `[0]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_exit_codes: Option<Vec<i64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<Name>,
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
