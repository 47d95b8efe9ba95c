//! Where a server comes from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::SecretRef;
use super::super::workload::BuildSource;

/// Exactly one origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields, transform = crate::resource::shape::or_image)]
pub struct ImageSource {
    /// The image. Example: `registry.example.com/weather:1.4.2`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Replaces the image's entry point. Default: the image's. Example: `[python, server.py]`.
    pub command: Option<Vec<String>>,
    /// Replaces the image's command. Default: the image's. Example: `["--read-only"]`.
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GitSource {
    /// The repository: https, ssh or scp-like; a local path only by the operator's leave.
    ///
    /// Example: `https://github.com/acme/weather.git`.
    pub url: String,
    /// A branch, a tag or a commit. Example: `v1.2.0`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The folder of the project inside the repository. Default: its root. Example: `servers/weather`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdir: Option<String>,
    /// The file that holds the server, relative to `subdir`. Example: `server.py`.
    pub file: String,
    /// The variable of that file that is the FastMCP server. Default: `mcp`. Example: `app`.
    #[serde(default = "instance")]
    pub instance: String,
    /// How to sign in to the repository. Default: not at all.
    ///
    /// Example: `{username: git, password: {env: GIT_TOKEN}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<GitCredentials>,
    /// The image to build on. Default: `defaults.images.python` of the Crib. Example: `python:3.12-slim`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

fn instance() -> String {
    "mcp".to_owned()
}

/// Credentials for a Git repository: references only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GitCredentials {
    /// The user's name. Default: none. Example: `git`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password or token for https. Default: none. Example: `{env: GIT_TOKEN}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    /// Private key for ssh. Default: none. Example: `{file: /etc/toolcrib/deploy-key}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_key: Option<SecretRef>,
}

/// A package that is an MCP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PackageSource {
    /// Where it is published: `pypi`, `npm` or `oci`.
    pub registry: PackageRegistry,
    /// Its name there; for `oci` the image's name with its registry.
    ///
    /// Example: `mcp-server-time`, `@modelcontextprotocol/server-everything`, `ghcr.io/acme/weather`.
    pub name: String,
    /// The version, exactly: what runs is what was reviewed. For `oci` a tag or a digest.
    ///
    /// Example: `2025.9.25`, or `sha256:…` of an image.
    pub version: String,
    /// The program of the package. Default: the package's own name without its scope, or the image's.
    ///
    /// Example: `mcp-server-time`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bin: Option<String>,
    /// Arguments for the program. Default: none. Example: `["--local-timezone", "Europe/Berlin"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The image to build on; not for `oci`, which is an image already.
    ///
    /// Default: `defaults.images.python` or `.node` of the Crib. Example: `python:3.12-slim`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

/// Where a package is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PackageRegistry {
    /// Python packages.
    Pypi,
    /// Node packages.
    Npm,
    /// Images that are servers.
    Oci,
}

impl PackageSource {
    /// The image that the package is, when its registry is one of images.
    pub fn image(&self) -> Option<String> {
        let separator = if self.version.contains(':') { '@' } else { ':' };
        (self.registry == PackageRegistry::Oci).then(|| format!("{}{separator}{}", self.name, self.version))
    }
}
