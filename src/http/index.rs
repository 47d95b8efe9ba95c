//! Asks a package index which versions there are, with the hashes of their files.
//!
//! Python: the JSON form of the simple index (PEP 691), `GET <index>/<name>/`. npm: `GET
//! <registry>/<name>`. Invariants: the address is the operator's, no answer is longer or later than its
//! bound, and what was withdrawn (yanked, deprecated) is left out.

#![expect(clippy::disallowed_methods, reason = "the file of certificates is read")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use http::Method;
use serde_json::Value;

use crate::outgoing::{Client, Options, Redirects};
use crate::ports::{PortError, PortResult};
use crate::resource::server::PackageRegistry;

/// Bytes of an answer: packages with thousands of releases have some 20 MB.
const MAX_ANSWER: usize = 64 << 20;
/// Of one request.
const LIMIT: Duration = Duration::from_mins(1);

/// The versions of a package, each with the hashes of its files by file name.
pub type Releases = BTreeMap<String, BTreeMap<String, String>>;

/// The client for all indexes.
pub struct Index {
    client: Client,
}

impl Index {
    /// `ca_file` is trusted besides the system's certificates.
    ///
    /// # Errors
    /// When there is no TLS, or the file holds no certificates.
    pub fn new(ca_file: Option<&Path>, proxy: Option<&str>) -> PortResult<Self> {
        Ok(Self { client: client(ca_file, proxy)? })
    }

    /// The versions of a package at the index `base`.
    ///
    /// # Errors
    /// When the index does not answer, or with something else.
    pub async fn releases(&self, registry: PackageRegistry, base: &str, name: &str) -> PortResult<Releases> {
        let base = base.trim_end_matches('/');
        let (url, accept) = match registry {
            PackageRegistry::Npm => (format!("{base}/{}", name.replace('/', "%2f")), "application/json"),
            _ => (format!("{base}/{}/", normal(name)), "application/vnd.pypi.simple.v1+json"),
        };
        let failed = || PortError::retry(format!("failed to look up the versions of `{name}`"));
        let request = self.client.request(Method::GET, &url)?.header(http::header::ACCEPT, accept);
        let response = request.send().await.map_err(|error| failed().caused_by(error.without_url()))?;
        if !response.status().is_success() {
            let error =
                failed().caused_by(format!("the index answered with status {}", response.status().as_u16()));
            return Err(error.hint("check the name of the package and the address of the index"));
        }
        let bytes = body(response).await.map_err(|error| failed().caused_by(error))?;
        let answer: Value = serde_json::from_slice(&bytes).map_err(|error| {
            failed().caused_by(error).hint("the index has to answer in JSON: PEP 691 for Python")
        })?;
        Ok(match registry {
            PackageRegistry::Npm => npm(&answer),
            _ => python(&answer),
        })
    }
}

/// The body of an answer, within its bound.
pub(super) async fn body(
    mut response: reqwest::Response,
) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        if bytes.len() + chunk.len() > MAX_ANSWER {
            return Err(format!("the answer has more than {} MiB", MAX_ANSWER >> 20).into());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// A client that trusts the certificates of `ca_file` besides the system's.
pub(super) fn client(ca_file: Option<&Path>, proxy: Option<&str>) -> PortResult<Client> {
    let read = |file: &Path| {
        std::fs::read(file).map_err(|error| {
            PortError::stalled(format!("failed to read `{}`", file.display())).caused_by(error)
        })
    };
    let authorities = ca_file.map(read).transpose()?.unwrap_or_default();
    Client::new(&Options {
        redirects: Redirects::SameOrigin,
        timeout: Some(LIMIT),
        authorities: &authorities,
        proxy,
        ..Options::default()
    })
}

/// The one spelling of a Python package's name (PEP 503).
fn normal(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        let c = if matches!(c, '_' | '.' | '-') { '-' } else { c.to_ascii_lowercase() };
        if !(c == '-' && out.ends_with('-')) {
            out.push(c);
        }
    }
    out
}

fn python(answer: &Value) -> Releases {
    let mut releases = Releases::new();
    for file in answer["files"].as_array().into_iter().flatten() {
        let withdrawn = match &file["yanked"] {
            Value::Bool(yanked) => *yanked,
            Value::Null => false,
            _ => true,
        };
        let (Some(name), false) = (file["filename"].as_str(), withdrawn) else { continue };
        let Some(version) = version_of(name) else { continue };
        let files = releases.entry(version.to_owned()).or_default();
        if let Some(hash) = file["hashes"]["sha256"].as_str() {
            files.insert(name.to_owned(), format!("sha256:{hash}"));
        }
    }
    releases
}

/// The version in the name of a wheel or a source archive.
fn version_of(file: &str) -> Option<&str> {
    if let Some(wheel) = file.strip_suffix(".whl") {
        return wheel.split('-').nth(1);
    }
    let archive = [".tar.gz", ".zip", ".tar.bz2"].into_iter().find_map(|end| file.strip_suffix(end))?;
    archive.rsplit_once('-').map(|(_, version)| version)
}

fn npm(answer: &Value) -> Releases {
    let mut releases = Releases::new();
    for (version, about) in answer["versions"].as_object().into_iter().flatten() {
        let deprecated = !matches!(&about["deprecated"], Value::Null | Value::Bool(false));
        if deprecated {
            continue;
        }
        let files = releases.entry(version.clone()).or_default();
        let tarball = about["dist"]["tarball"].as_str().and_then(|url| url.rsplit('/').next());
        if let (Some(file), Some(hash)) = (tarball, about["dist"]["integrity"].as_str()) {
            files.insert(file.to_owned(), hash.to_owned());
        }
    }
    releases
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions_are_read_without_what_was_withdrawn() {
        let simple = json!({"files": [
            {"filename": "mcp_server_time-1.0-py3-none-any.whl", "hashes": {"sha256": "aa"}},
            {"filename": "mcp-server-time-1.0.tar.gz", "hashes": {"sha256": "bb"}, "yanked": false},
            {"filename": "mcp_server_time-1.1-py3-none-any.whl", "hashes": {}, "yanked": "broken"},
            {"filename": "README"},
        ]});
        let found = python(&simple);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["1.0"]);
        assert_eq!(found["1.0"]["mcp-server-time-1.0.tar.gz"], "sha256:bb");
        let registry = json!({"versions": {
            "1.0.0": {"dist": {"tarball": "x/-/a-1.0.0.tgz", "integrity": "sha512-cc"}},
            "1.1.0": {"deprecated": "no", "dist": {}},
        }});
        let found = npm(&registry);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["1.0.0"]);
        assert_eq!(found["1.0.0"]["a-1.0.0.tgz"], "sha512-cc");
        assert_eq!(normal("Mcp__Server.Time"), "mcp-server-time");
    }
}
