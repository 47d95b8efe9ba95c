//! `Server`: an MCP server.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::workload::{BuildSource, Resources, Security};
use super::{EnvValue, Name, Period};

/// An MCP server: where it comes from, how it is spoken to, how it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServerSpec {
    pub source: ServerSource,
    #[serde(default)]
    pub transport: Transport,
    /// `sync`: its tools are in the catalog; `deploy`: it only runs.
    #[serde(default)]
    pub mode: Mode,
    /// Where it runs. Default: the Crib's, or the only runner that can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<Name>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, EnvValue>,
    /// Files by absolute path, on a memory file system below `/run/toolcrib` unless said otherwise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, EnvValue>,
    #[serde(default)]
    pub resources: Resources,
    /// Replaces the Crib's as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
    #[serde(default)]
    pub strategy: Strategy,
    #[serde(default)]
    pub tools: ServerTools,
    /// From start to the first complete list. Default 60 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_timeout: Option<Period>,
    /// How long calls in flight may go on when an instance is replaced. Default 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<Period>,
    /// Of one call. Default 300 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
}

/// Exactly one origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ServerSource {
    /// An image as it is.
    Image(ImageSource),
    /// An image built from a folder of this repository.
    Build(BuildSource),
    /// A FastMCP server in another Git repository.
    Git(GitSource),
    /// A package of a registry.
    Package(PackageSource),
    /// A command on a process runner; relative paths start at the file that declares it.
    Command(Vec<String>),
    /// A server that runs elsewhere.
    Url(String),
}

/// `image: NAME` or `image: {ref, command, args}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageSource {
    #[serde(rename = "ref")]
    pub reference: String,
    /// Replaces the image's entry point.
    pub command: Option<Vec<String>>,
    /// Replaces the image's command.
    pub args: Option<Vec<String>>,
}

impl<'de> Deserialize<'de> for ImageSource {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        struct Full {
            #[serde(rename = "ref")]
            reference: String,
            command: Option<Vec<String>>,
            args: Option<Vec<String>>,
        }
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = ImageSource;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an image reference, or {ref, command, args}")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ImageSource, E> {
                Ok(ImageSource { reference: text.to_owned(), command: None, args: None })
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<ImageSource, A::Error> {
                let Full { reference, command, args } =
                    Full::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(ImageSource { reference, command, args })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A FastMCP server in a Git repository: cloned by the daemon, installed by what its repository
/// says (requirements.txt, pyproject.toml, uv, Poetry, PDM), started by file and instance name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GitSource {
    /// https, ssh or scp-like; a local path only by the floor's leave.
    pub url: String,
    /// A branch, a tag or a commit.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The folder of the project inside the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdir: Option<String>,
    /// The file that holds the server, relative to `subdir`.
    pub file: String,
    /// The variable of that file that is the FastMCP server.
    #[serde(default = "instance")]
    pub instance: String,
    /// How to sign in to the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<GitCredentials>,
    /// The image to build on. Default: the Crib's `images.python`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

fn instance() -> String {
    "mcp".to_owned()
}

/// Credentials for a Git repository: references only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GitCredentials {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password or token for https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<super::SecretRef>,
    /// Private key for ssh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_key: Option<super::SecretRef>,
}

/// A package that is an MCP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PackageSource {
    pub registry: PackageRegistry,
    pub name: String,
    /// Exact: what runs is what was reviewed.
    pub version: String,
    /// The program of the package. Default: the package's own name without its scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bin: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The image to build on. Default: the Crib's `images.python` or `images.node`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PackageRegistry {
    Pypi,
    Npm,
}

/// `transport: stdio`, or `transport: {type: streamable-http, port: 8000, path: /mcp}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Transport {
    #[default]
    Stdio,
    StreamableHttp {
        /// Default 8000.
        port: u16,
        /// Default `/mcp`.
        path: String,
    },
}

impl<'de> Deserialize<'de> for Transport {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        enum Type {
            Stdio,
            StreamableHttp,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        struct Full {
            r#type: Type,
            port: Option<u16>,
            path: Option<String>,
        }
        fn http(port: Option<u16>, path: Option<String>) -> Transport {
            Transport::StreamableHttp {
                port: port.unwrap_or(8000),
                path: path.unwrap_or_else(|| "/mcp".to_owned()),
            }
        }
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Transport;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`stdio`, `streamable-http`, or {type, port, path}")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Transport, E> {
                match text {
                    "stdio" => Ok(Transport::Stdio),
                    "streamable-http" => Ok(http(None, None)),
                    _ => Err(E::unknown_variant(text, &["stdio", "streamable-http"])),
                }
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Transport, A::Error> {
                let full = Full::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                match full.r#type {
                    Type::StreamableHttp => Ok(http(full.port, full.path)),
                    Type::Stdio if full.port.is_none() && full.path.is_none() => Ok(Transport::Stdio),
                    Type::Stdio => Err(serde::de::Error::custom("`stdio` has neither port nor path")),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Sync,
    Deploy,
}

/// What happens when an instance is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The new one is healthy before the old one goes.
    #[default]
    Surge,
    /// The old one goes first.
    Recreate,
}

/// Which of a server's tools are offered, and under which names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ServerTools {
    /// Default: the server's name. May be empty.
    pub prefix: Option<String>,
    /// Globs over the server's own tool names. Empty: all.
    pub include: Vec<String>,
    /// Globs over the server's own tool names, after `include`.
    pub exclude: Vec<String>,
    /// How far what it lists is believed. Default: `reviewed` where a lock exists, else `live`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,
}

/// How far a server is believed when it lists something else than was reviewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// Offered only as in the lock, listed before it has started; what differs is refused.
    Locked,
    /// What the lock holds is offered; what is new or changed waits for the lock.
    Reviewed,
    /// Offered as found; what differs from the lock is told.
    Live,
}
