//! The lock: the definitions and resolutions a revision was reviewed with, one file per resource.
//!
//! Input: what a reader ([`crate::manifest`]) found in `locks/`, or what a server offers. Output: the
//! text of a lock ([`Lock::write`]), differences field by field ([`compare`]) and, from lock, offer and
//! trust, what is offered ([`judge()`]). Invariants: equal locks have equal bytes; nothing of a
//! definition is dropped; definitions are equal when every JSON reader reads the same from them. Not
//! here: asking a server, and files.

mod compare;
mod judge;
mod json;
pub mod stale;
mod write;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::resource::{Digest, Kind, Name, ResourceId};

pub use compare::{Change, Difference, FieldChange, compare};
pub use json::{MAX_DEPTH, canonical, compact, pretty};
pub use judge::{Case, Judged, State, Verdict, judge};

/// The folder below `--path` that holds locks.
pub const FOLDER: &str = "locks";
/// The kind that the document of a lock says.
pub const KIND: &str = "Lock";

/// What one resource was reviewed with.
#[derive(Clone, Debug, PartialEq)]
pub struct Lock {
    /// A `Server` or a `Tool`.
    pub resource: ResourceId,
    /// `spec.source` of a server, `image` or `build` of a tool, as it was written then.
    pub source: serde_json::Value,
    pub resolved: Resolved,
    pub signer: Signer,
    /// None for a `Tool`: its definition is in its manifest.
    pub offer: Option<Definitions>,
}

/// What the source resolved to; what does not apply is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Resolved {
    /// The commit that the ref of a Git source named: 40 hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The id of the image on an engine: `sha256:…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Where a registry has that very image: `name@sha256:…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The exact version of a package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Of the files of that version, by file name, as the index says: `sha256:…` or `sha512-…`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hashes: BTreeMap<String, String>,
    /// What the image is made of, when one is built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<Digest>,
    /// The files of this repository that a command uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Digest>,
}

/// Who vouched for the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// Nobody, and the lock says so.
    Unsigned,
    /// The name of a signer whose signature was verified.
    By(String),
}

/// Everything a server offers that a model or a person reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definitions {
    pub instructions: Option<String>,
    pub tools: Vec<Definition>,
    pub prompts: Vec<Definition>,
    pub resources: Vec<Definition>,
    pub templates: Vec<Definition>,
}

/// One definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The server's own name for it: `name`, `uri` or `uriTemplate`. Empty: it has none that is text.
    pub name: Arc<str>,
    /// Raw JSON.
    pub text: Arc<str>,
}

/// The lists of a lock, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Section {
    Tools,
    Prompts,
    Resources,
    Templates,
}

impl Section {
    pub const ALL: [Self; 4] = [Self::Tools, Self::Prompts, Self::Resources, Self::Templates];

    /// The field of the document.
    pub fn field(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "templates",
        }
    }

    /// What one of it is called.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Tools => "tool",
            Self::Prompts => "prompt",
            Self::Resources => "resource",
            Self::Templates => "resource template",
        }
    }

    /// The member of a definition that is its name.
    pub fn key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
        }
    }
}

impl Definition {
    /// Reads the name out of a definition.
    pub fn new(section: Section, text: &Arc<str>) -> Self {
        let name = json::member(text, section.key()).unwrap_or_default();
        Self { name: name.into(), text: Arc::clone(text) }
    }

    /// Whether every reader of JSON reads the same: white space, the order of members and the spelling
    /// of characters aside.
    pub fn same(&self, other: &Self) -> bool {
        self.text == other.text || canonical(&self.text) == canonical(&other.text)
    }
}

impl Definitions {
    pub fn list(&self, section: Section) -> &[Definition] {
        match section {
            Section::Tools => &self.tools,
            Section::Prompts => &self.prompts,
            Section::Resources => &self.resources,
            Section::Templates => &self.templates,
        }
    }

    pub fn list_mut(&mut self, section: Section) -> &mut Vec<Definition> {
        match section {
            Section::Tools => &mut self.tools,
            Section::Prompts => &mut self.prompts,
            Section::Resources => &mut self.resources,
            Section::Templates => &mut self.templates,
        }
    }

    /// The first definition of that name.
    pub fn get(&self, section: Section, name: &str) -> Option<&Definition> {
        self.list(section).iter().find(|definition| &*definition.name == name)
    }

    /// As a lock holds them: in the order of names, each name once (the first a server listed), and
    /// nothing without a name, since nothing of that can be offered.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        for section in Section::ALL {
            let list = self.list_mut(section);
            list.retain(|definition| !definition.name.is_empty());
            list.sort_by(|a, b| a.name.cmp(&b.name));
            list.dedup_by(|later, first| later.name == first.name);
        }
        self.instructions = self.instructions.filter(|text| !text.is_empty());
        self
    }
}

impl Lock {
    /// Where the lock of a resource stands, relative to `--path`: `locks/server/weather.yaml`.
    pub fn path(resource: &ResourceId) -> String {
        format!("{FOLDER}/{}/{}.yaml", resource.kind.as_str().to_lowercase(), resource.name)
    }

    /// Whose lock a file is; `path` is relative to `--path`. None: it is no lock.
    pub fn owner(path: &str) -> Option<ResourceId> {
        let (kind, file) = path.strip_prefix(FOLDER)?.strip_prefix('/')?.split_once('/')?;
        let kind =
            [Kind::Server, Kind::Tool].into_iter().find(|known| known.as_str().to_lowercase() == kind)?;
        Some(ResourceId::new(kind, Name::parse(file.strip_suffix(".yaml")?).ok()?))
    }
}
