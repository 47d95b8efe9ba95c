//! What a build consists of: the context's listing, the Dockerfile, the digest that names it.
//!
//! Input: resolved sources and tree entries; output: [`BuildSpec`], which leaves no choice to the
//! builder. Invariant: equal inputs give equal bytes. Not here: reading files, talking to an engine.
//! The Dockerfiles we write, and what they run, are files to read in `build/dockerfiles/`.

pub mod context;
mod generated;
mod patterns;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::manifest::{RepoPath, TreeEntry};
use crate::resource::server::{GitSource, PackageRegistry, PackageSource, Transport};
use crate::resource::workload::BuildSource;
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
    /// Files of ours by name, sent below `.toolcrib/` of the context.
    pub helpers: BTreeMap<&'static str, &'static str>,
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
    /// Nothing but what is below `.toolcrib/`.
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

/// What the runner adds to each build on it.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub network: Option<String>,
    pub args: BTreeMap<String, String>,
    pub ca: Option<TreeEntry>,
}

/// A Git source with everything looked up.
#[derive(Clone, Debug)]
pub struct GitRecipe<'a> {
    pub source: &'a GitSource,
    pub commit: String,
    /// The image to build on.
    pub base: String,
    pub transport: &'a Transport,
}

/// What installs packages and starts their programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ecosystem {
    Python,
    Node,
}

impl Ecosystem {
    /// None for a registry of images, which need no build.
    pub fn of(registry: PackageRegistry) -> Option<Self> {
        match registry {
            PackageRegistry::Pypi => Some(Self::Python),
            PackageRegistry::Npm => Some(Self::Node),
            PackageRegistry::Oci => None,
        }
    }
}

/// A package and the image to build on.
#[derive(Clone, Debug)]
pub struct PackageRecipe<'a> {
    pub source: &'a PackageSource,
    pub ecosystem: Ecosystem,
    pub base: String,
}

impl BuildSpec {
    /// The images it is built on, where we write the Dockerfile: one of the repository is not read here.
    pub fn bases(&self) -> Vec<String> {
        let Dockerfile::Generated(text) = &self.dockerfile else { return Vec::new() };
        let from = text.lines().filter_map(|line| line.strip_prefix("FROM "));
        from.filter_map(|rest| rest.split_whitespace().find(|word| !word.starts_with("--")))
            .map(str::to_owned)
            .collect()
    }

    /// A build from a folder of this repository, of which `files` is the listing.
    pub fn of_folder(
        resource: ResourceId,
        source: &BuildSource,
        dockerfile: RepoPath,
        files: BTreeMap<RepoPath, TreeEntry>,
        settings: Settings,
    ) -> Self {
        let Settings { network, mut args, ca } = settings;
        args.extend(source.args.clone());
        Self {
            context: Context::Snapshot { files },
            dockerfile: Dockerfile::InContext(dockerfile),
            helpers: BTreeMap::new(),
            target: source.target.clone(),
            ..Self::bare(resource, Settings { network, args, ca })
        }
        .named()
    }

    /// A build of a FastMCP server in another repository.
    pub fn of_git(resource: ResourceId, recipe: GitRecipe<'_>, settings: Settings) -> Self {
        let text = generated::git(&recipe, &settings.args);
        let GitRecipe { source, commit, base: _, transport: _ } = recipe;
        Self {
            context: Context::Git {
                url: source.url.clone(),
                commit,
                subdir: source.subdir.clone(),
                credentials: source.credentials.clone(),
            },
            dockerfile: Dockerfile::Generated(text),
            helpers: generated::helpers(),
            ..Self::bare(resource, settings)
        }
        .named()
    }

    /// A build of a package.
    pub fn of_package(resource: ResourceId, recipe: &PackageRecipe<'_>, settings: Settings) -> Self {
        let text = generated::package(recipe, &settings.args);
        Self { dockerfile: Dockerfile::Generated(text), ..Self::bare(resource, settings) }.named()
    }

    fn bare(resource: ResourceId, settings: Settings) -> Self {
        let Settings { network, args, ca } = settings;
        Self {
            digest: Digest::of_bytes(&[]),
            resource,
            context: Context::Empty,
            dockerfile: Dockerfile::Generated(String::new()),
            // A file at least: a folder that is copied must be there.
            helpers: BTreeMap::from([("README", README)]),
            target: None,
            args,
            network,
            ca,
            tag: String::new(),
        }
    }

    /// Fills in the digest and the tag, of which everything else is the input.
    fn named(mut self) -> Self {
        self.digest = Digest::of("build", &self);
        let kind = self.resource.kind.as_str().to_ascii_lowercase();
        self.tag = format!("toolcrib.local/{kind}-{}:{}", self.resource.name, self.digest.hex());
        self
    }
}

const README: &str = "Put here by Toolcrib for the build.\n";
