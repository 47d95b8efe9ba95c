//! `lifecycle`: when a server runs, and how many instances of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::Period;

/// When a server runs, and how often: a word, or `{mode, idleTimeout, replicas}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields, transform = crate::resource::shape::or_running)]
pub struct Lifecycle {
    /// Whether it runs from the revision that declares it on, or from the first call on.
    ///
    /// Default: always.
    #[schemars(default)]
    pub mode: Running,
    /// How long an instance above `replicas.min` goes on that nobody uses: without calls, sessions of clients,
    /// and subscriptions to resources. Then calls that just came finish, and it ends. At least 1 s.
    ///
    /// Default: 10 min. Example: `5m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Period>,
    /// How many instances run side by side. Default: one.
    #[schemars(default)]
    pub replicas: Replicas,
}

/// When a server runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Running {
    /// From the revision that declares it on.
    #[default]
    Always,
    /// From the first call on, until nobody has called for a while.
    OnDemand,
}

/// How many instances of a server run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Replicas {
    /// At least. Default: 1; 0 on demand, which is the only number there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// At most. Each call goes to the instance with the fewest; one more is started when each of them works on
    /// as many as `concurrency` says (where it says nothing, on 8), and ends after `idleTimeout`.
    ///
    /// Default: 1, or `min` where that is more. Example: `3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

impl Lifecycle {
    /// Instances that run at least, with every default filled in.
    pub fn least(&self) -> u32 {
        self.replicas.min.unwrap_or(u32::from(self.mode == Running::Always))
    }

    /// Instances that run at most.
    pub fn most(&self) -> u32 {
        self.replicas.max.unwrap_or(self.least().max(1))
    }
}

impl<'de> Deserialize<'de> for Lifecycle {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        struct Full {
            #[serde(default)]
            mode: Running,
            idle_timeout: Option<Period>,
            #[serde(default)]
            replicas: Replicas,
        }
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Lifecycle;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`always`, `on-demand`, or {mode, idleTimeout, replicas}")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Lifecycle, E> {
                let mode = match text {
                    "always" => Running::Always,
                    "on-demand" => Running::OnDemand,
                    _ => return Err(E::unknown_variant(text, &["always", "on-demand"])),
                };
                Ok(Lifecycle { mode, ..Lifecycle::default() })
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Lifecycle, A::Error> {
                let Full { mode, idle_timeout, replicas } =
                    Full::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Lifecycle { mode, idle_timeout, replicas })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
