//! Values given to a workload: literals, and references to secrets.

use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Where a secret is found. The value itself is never part of a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
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
    /// As written: `no`, `014`, `1_000` and dates are the text that stands there.
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
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<EnvValue, A::Error> {
                let reference = Reference::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(EnvValue::Secret(reference.secret))
            }
        }
        // As text, so that `no`, `014`, `1.10` and dates arrive as they are written.
        deserializer.deserialize_str(Visitor)
    }
}

/// A value kept as its JSON text: a tree of small maps takes several times the memory, and a
/// repository has thousands of them that are read once.
pub struct Packed<T> {
    text: Box<str>,
    of: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned + Default> Packed<T> {
    /// The value.
    pub fn unpack(&self) -> T {
        // The text was written from a `T`.
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

impl<T> Clone for Packed<T> {
    fn clone(&self) -> Self {
        Self { text: self.text.clone(), of: PhantomData }
    }
}

impl<T> PartialEq for Packed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<T> Eq for Packed<T> {}

impl<T> fmt::Debug for Packed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<T: Serialize + DeserializeOwned + Default> Serialize for Packed<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.unpack().serialize(serializer)
    }
}

impl<'de, T: Serialize + Deserialize<'de>> Deserialize<'de> for Packed<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = serde_json::to_string(&T::deserialize(deserializer)?).map_err(serde::de::Error::custom)?;
        Ok(Self { text: text.into(), of: PhantomData })
    }
}

/// A value that must be a secret: `{secret: {env: NAME}}` or `{secret: {file: PATH}}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct Reference {
    /// Where the secret is found.
    pub secret: SecretRef,
}

impl From<&Reference> for EnvValue {
    fn from(reference: &Reference) -> Self {
        Self::Secret(reference.secret.clone())
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        struct Full {
            secret: SecretRef,
        }
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Reference;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`{secret: {env: NAME}}` or `{secret: {file: PATH}}`")
            }
            /// Does not repeat what may be the secret itself.
            fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Reference, E> {
                Err(E::custom(
                    "here stands where a secret is found, never its text: write `{secret: {env: NAME}}`",
                ))
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Reference, A::Error> {
                let Full { secret } = Full::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Reference { secret })
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}
