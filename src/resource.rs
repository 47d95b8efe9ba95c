//! The declared types: what one document of a repository may say.
//!
//! Input: nothing but text that [`crate::manifest`] hands to serde. Output: plain data.
//! Invariant: whatever has one of these types is well formed by itself; references between
//! resources are checked in [`crate::desired`]. No type here can hold a secret, only a reference
//! to one. Not here: defaults that depend on other resources.

pub mod contract;
pub mod crib;
pub mod digest;
pub mod integration;
pub mod policy;
pub mod quantity;
pub mod remote;
pub mod runner;
pub mod server;
pub mod signers;
pub mod tool;
pub mod toolset;
mod shape;
pub mod value;
pub mod workload;

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crib::CribSpec;
pub use digest::Digest;
pub use integration::IntegrationSpec;
pub use policy::PolicySpec;
pub use quantity::{Cpu, Memory, Period};
pub use runner::RunnerSpec;
pub use server::ServerSpec;
pub use tool::ToolSpec;
pub use toolset::ToolsetSpec;
pub use value::{EnvValue, Packed, Reference, SecretRef};

/// The group and version every document of ours carries.
pub const API_VERSION: &str = "toolcrib.dev/v1alpha1";
/// The group alone: a document of another group is skipped and counted.
pub const API_GROUP: &str = "toolcrib.dev";

/// A DNS-1123 label: 1 to 63 of `a-z`, `0-9` and `-`, beginning and ending with a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Name(Arc<str>);

/// A name that is not a DNS-1123 label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name: 1 to 63 of a-z, 0-9 and `-`, beginning and ending with a letter or digit")]
pub struct InvalidName(pub String);

impl Name {
    /// # Errors
    /// When `text` is not a DNS-1123 label.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let bytes = text.as_bytes();
        let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let fits = (1..=63).contains(&bytes.len())
            && bytes.iter().all(|b| edge(b) || *b == b'-')
            && bytes.first().is_some_and(edge)
            && bytes.last().is_some_and(edge);
        if fits { Ok(Self(text.into())) } else { Err(InvalidName(text.to_owned())) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|error| match error.near() {
            Some(near) => serde::de::Error::custom(format!("{error}; write `{near}`")),
            None => serde::de::Error::custom(error),
        })
    }
}

impl InvalidName {
    /// The name that was probably meant: `my-tool` of `My Tool`.
    fn near(&self) -> Option<Name> {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let text: String = self.0.chars().map(plain).collect();
        let parts: Vec<&str> = text.split('-').filter(|part| !part.is_empty()).collect();
        Name::parse(&parts.join("-")).ok()
    }
}

/// The kinds of resource, in the order in which they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    Crib,
    Runner,
    Policy,
    Integration,
    Server,
    Tool,
    Toolset,
}

impl Kind {
    pub const ALL: [Self; 7] =
        [Self::Crib, Self::Runner, Self::Policy, Self::Integration, Self::Server, Self::Tool, Self::Toolset];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crib => "Crib",
            Self::Runner => "Runner",
            Self::Policy => "Policy",
            Self::Integration => "Integration",
            Self::Server => "Server",
            Self::Tool => "Tool",
            Self::Toolset => "Toolset",
        }
    }

    /// By the spelling of a document (`Server`) or of a command line (`server`, `servers`).
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('s').unwrap_or(text);
        Self::ALL.into_iter().find(|kind| {
            let name = kind.as_str();
            name.eq_ignore_ascii_case(text) || (text == "policie" && *kind == Self::Policy)
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a resource is called everywhere: `Server/weather`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId {
    pub kind: Kind,
    pub name: Name,
}

impl ResourceId {
    pub fn new(kind: Kind, name: Name) -> Self {
        Self { kind, name }
    }

    /// From `Kind/name`, any case of the kind.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once('/')?;
        Some(Self { kind: Kind::parse(kind)?, name: Name::parse(name).ok()? })
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl fmt::Debug for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ResourceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ResourceId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not Kind/name")))
    }
}

/// A ref and the commit it resolved to, written `main@sha1:<commit>`; `+dirty` when a work tree
/// with uncommitted edits was read instead of the commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Revision {
    /// The ref as followed, short form (`main`), or `detached`.
    pub reference: String,
    /// The full object id in hex: 40 digits.
    pub commit: String,
    pub dirty: bool,
}

impl Revision {
    /// The first 8 digits of the commit, as people speak of it.
    pub fn short(&self) -> &str {
        self.commit.get(..8).unwrap_or(&self.commit)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dirty = if self.dirty { "+dirty" } else { "" };
        write!(f, "{}@sha1:{}{dirty}", self.reference, self.commit)
    }
}

/// `metadata` of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Metadata {
    /// What it is called: 1 to 63 of a-z, 0-9 and `-`, unique per kind. Example: `weather`.
    pub name: Name,
    /// For selection by a `Toolset`. Default: none. Example: `{team: data}`.
    #[serde(default, skip_serializing_if = "no_labels")]
    pub labels: Labels,
    /// For people and other programs; what is served and run does not depend on them.
    ///
    /// `toolcrib.dev/update` is read by `toolcrib update`: the range within which it moves the version of a
    /// `Server` or `Tool`. Default: none. Example: `{toolcrib.dev/update: ^1.2}`.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// Labels by key; shared by whatever is made of the resource.
pub type Labels = Arc<std::collections::BTreeMap<String, String>>;

fn no_labels(labels: &Labels) -> bool {
    labels.is_empty()
}

/// The declared part of a resource, by kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    Crib(Box<CribSpec>),
    Runner(Box<RunnerSpec>),
    Policy(Box<PolicySpec>),
    Integration(Box<IntegrationSpec>),
    Server(Box<ServerSpec>),
    Tool(Box<ToolSpec>),
    Toolset(Box<ToolsetSpec>),
}

impl Spec {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Crib(_) => Kind::Crib,
            Self::Runner(_) => Kind::Runner,
            Self::Policy(_) => Kind::Policy,
            Self::Integration(_) => Kind::Integration,
            Self::Server(_) => Kind::Server,
            Self::Tool(_) => Kind::Tool,
            Self::Toolset(_) => Kind::Toolset,
        }
    }
}
