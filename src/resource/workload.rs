//! What servers and tools share: how much they may use and how they are confined.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cpu, Memory, Name};

/// Limits of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Resources {
    /// Memory of one instance. Default: 512Mi. Example: `1Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Processor time in cores. Default: 1. Example: `500m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Processes and threads. Default: 256. Example: `64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Graphics processors, on Docker runners that declare some as their `capacity`.
    ///
    /// The container sees so many of the engine's; others may see the same ones. Default: none. Example: `1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<u32>,
    /// What one container may write, besides volumes, on Docker runners.
    ///
    /// With a read-only root it is what the file systems of `security.tmpfs` may have together. Where the root can
    /// be written, it is also the size of the container's own layer, which only some engines can limit: btrfs,
    /// zfs, or overlay2 on xfs with project quotas. Others refuse to start it.
    ///
    /// Default: no limit besides that of `security.tmpfs`. Example: `2Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<Memory>,
}

/// Confinement. Everything starts hardened; each field loosens one thing, within the floor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Security {
    /// The user it runs as: `uid`, `uid:gid` or a name of the image. Root needs the operator's leave.
    ///
    /// Default: `65534:65534`. Example: `1000:1000`.
    pub user: String,
    /// Whether the image's own files cannot be changed. Default: true. Example: `false`.
    pub read_only_root: bool,
    /// Linux capabilities, added to none at all. They need the operator's leave.
    ///
    /// Default: none. Example: `[NET_BIND_SERVICE]`.
    pub capabilities: Vec<String>,
    /// Writable file systems in memory, by path, with their size.
    ///
    /// Default: `{/tmp: 64Mi}`. Example: `{/tmp: 256Mi, /home/node: 16Mi}`.
    pub tmpfs: BTreeMap<String, Memory>,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            user: "65534:65534".to_owned(),
            read_only_root: true,
            capabilities: Vec::new(),
            tmpfs: BTreeMap::from([("/tmp".to_owned(), Memory(64 << 20))]),
        }
    }
}

/// A build from files of this repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BuildSource {
    /// The context folder, relative to this file. Example: `./server`.
    pub context: String,
    /// The Dockerfile, relative to the context. Default: `Dockerfile`. Example: `docker/Dockerfile`.
    #[serde(default = "dockerfile")]
    pub dockerfile: String,
    /// The stage to build. Default: the last one. Example: `server`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Build arguments. They stay in the image's history: never a secret.
    ///
    /// Default: none. Example: `{VERSION: 1.2.3}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
}

fn dockerfile() -> String {
    "Dockerfile".to_owned()
}

/// Volumes by the absolute path at which they are mounted. Most workloads have none.
pub type Volumes = Option<Box<BTreeMap<String, Volume>>>;

/// Volumes that a container mounts, by path. Most containers have none.
pub type Mounts = BTreeMap<String, Volume>;

/// A named volume of the runner, which outlives instances: `cache`, or `{name: cache, readOnly: true}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields, transform = crate::resource::shape::or_volume)]
pub struct Volume {
    /// Its name in this repository: what names the same one on the same runner shares it. Example: `cache`.
    pub name: Name,
    /// Whether it cannot be written. Default: false. Example: `true`.
    #[schemars(default)]
    pub read_only: bool,
}

impl<'de> Deserialize<'de> for Volume {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        struct Full {
            name: Name,
            #[serde(default)]
            read_only: bool,
        }
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Volume;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the name of a volume, or {name, readOnly}")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Volume, E> {
                Ok(Volume { name: Name::parse(text).map_err(E::custom)?, read_only: false })
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Volume, A::Error> {
                let Full { name, read_only } =
                    Full::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Volume { name, read_only })
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// A host and port that may be reached: `api.example.com` or `api.example.com:8443`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Egress {
    /// A DNS name.
    pub host: String,
    /// Default: 443.
    pub port: u16,
}

impl Egress {
    /// Whether it is an address rather than a name, as the URL Standard tells the two apart: its last part
    /// is a number.
    pub fn is_address(&self) -> bool {
        let last = self.host.rsplit('.').next().unwrap_or_default();
        let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
        match hex {
            Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
            None => last.bytes().all(|b| b.is_ascii_digit()),
        }
    }

    /// Whether it names the machine it is asked on (RFC 6761, section 6.3).
    pub fn is_local(&self) -> bool {
        let last = self.host.rsplit('.').next().unwrap_or_default();
        last.eq_ignore_ascii_case("localhost")
    }

    /// Reads `host` or `host:port`.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)?),
            None => (text, 443),
        };
        let label = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        (host.len() <= 253 && host.split('.').all(label)).then(|| Self { host: host.to_owned(), port })
    }
}

impl std::fmt::Display for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Serialize for Egress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Egress {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            let why = if text.contains('*') {
                "stands for many hosts, and each has to be named"
            } else {
                "is not a host: write `host` or `host:port`"
            };
            serde::de::Error::custom(format!("`{text}` {why}"))
        })
    }
}
