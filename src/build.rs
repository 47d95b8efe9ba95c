//! What a build consists of: the context's listing, the Dockerfile, the digest that names it.
//!
//! Input: resolved sources and tree entries; output: [`BuildSpec`], which leaves no choice to the
//! builder. Not here: reading files, talking to an engine.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::manifest::{RepoPath, TreeEntry};
use crate::resource::{Digest, ResourceId};

/// One image to make. Equal digests mean equal images: a digest is built once.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildSpec {
    /// Over everything below and the files of the context.
    pub digest: Digest,
    pub resource: ResourceId,
    pub context: Context,
    pub dockerfile: Dockerfile,
    pub target: Option<String>,
    pub args: BTreeMap<String, String>,
    /// The network of build steps; none: the engine's default.
    pub network: Option<String>,
    /// A CA bundle of the repository, put in the context as `.toolcrib/ca.pem`.
    pub ca: Option<TreeEntry>,
    /// What the image is called: `toolcrib.local/<name>:<digest>`.
    pub tag: String,
}

/// Where the files of a build come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Context {
    /// Files of the snapshot: path inside the context to entry, `.dockerignore` applied.
    Snapshot { files: BTreeMap<RepoPath, TreeEntry> },
    /// The tree of a commit of another repository, fetched by the daemon; `subdir` is the root.
    Git {
        url: String,
        commit: String,
        subdir: Option<String>,
        credentials: Option<crate::resource::server::GitCredentials>,
    },
    /// Nothing but the Dockerfile.
    Empty,
}

/// The recipe of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Dockerfile {
    /// A file of the context.
    InContext(RepoPath),
    /// Written by us; sent as `.toolcrib/Dockerfile`.
    Generated(String),
}
