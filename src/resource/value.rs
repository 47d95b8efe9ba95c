//! Values given to a workload: literals, and references to secrets.

use serde::{Deserialize, Serialize};

/// Where a secret is found. The value itself is never part of a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SecretRef {
    /// A variable of the daemon's own environment.
    Env(String),
    /// A file on the daemon's machine, absolute; one trailing newline is dropped.
    File(String),
}

/// The value of an environment variable or of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum EnvValue {
    /// As written.
    Literal(String),
    /// Resolved in memory when a container starts.
    Secret(SecretRef),
}

impl<'de> Deserialize<'de> for EnvValue {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        struct Reference {
            secret: SecretRef,
        }
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = EnvValue;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string, or `secret: {env: NAME}`, or `secret: {file: PATH}`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<EnvValue, E> {
                Ok(EnvValue::Literal(text.to_owned()))
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<EnvValue, E> {
                Ok(EnvValue::Literal(number.to_string()))
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<EnvValue, E> {
                Ok(EnvValue::Literal(number.to_string()))
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<EnvValue, A::Error> {
                let reference = Reference::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(EnvValue::Secret(reference.secret))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
