//! Repositories that sources name: what a ref is now, and the files of a commit.
//!
//! Input: addresses and refs of manifests. Output: commit ids and archives. Invariant: what may be
//! asked is decided by [`super::Network::allow`]; a local repository is read in place, all else
//! through a mirror. Not here: remembering answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use git2::Oid;
use tokio::sync::Semaphore;

use super::archive::archive;
use super::objects::{Objects, from_git, resolve};
use super::remote::Mirror;
use super::url::{GitUrl, RefName};
use super::{Network, blocking, refused};
use crate::manifest::RepoPath;
use crate::ports::{Lookup, PortError, PortResult};
use crate::resource::server::GitCredentials;

/// Children at a time: each may use much memory, and servers count connections.
const CHILDREN: usize = 4;
/// Mirrors known at a time; beyond it they are opened anew.
const MIRRORS: usize = 256;

/// By address and credentials.
type Mirrors = BTreeMap<(String, Option<GitCredentials>), Arc<Mirror>>;

/// Answers about other repositories.
pub(super) struct GitLookup {
    network: Network,
    children: Semaphore,
    mirrors: Mutex<Mirrors>,
}

impl GitLookup {
    pub(super) fn new(network: Network) -> Self {
        Self { network, children: Semaphore::new(CHILDREN), mirrors: Mutex::default() }
    }

    fn mirror(&self, url: GitUrl, credentials: Option<&GitCredentials>) -> Arc<Mirror> {
        let key = (url.as_str().to_owned(), credentials.cloned());
        let mut mirrors = self.mirrors.lock().unwrap_or_else(PoisonError::into_inner);
        if mirrors.len() >= MIRRORS {
            mirrors.clear();
        }
        let make = || Arc::new(Mirror::new(url, credentials.cloned(), self.network.clone()));
        Arc::clone(mirrors.entry(key).or_insert_with(make))
    }

    fn parse(&self, url: &str, reference: &str) -> PortResult<(GitUrl, RefName)> {
        let url = GitUrl::parse(url, self.network.allow).map_err(refused)?;
        Ok((url, RefName::parse(reference).map_err(refused)?))
    }
}

#[async_trait]
impl Lookup for GitLookup {
    async fn commit(
        &self,
        url: &str,
        reference: &str,
        credentials: Option<&GitCredentials>,
    ) -> PortResult<String> {
        let (url, reference) = self.parse(url, reference)?;
        if let Some(commit) = reference.commit() {
            return Ok(commit);
        }
        if let GitUrl::Local(path) = url {
            let resolved =
                blocking(move || Objects::new(path).with(|repo| resolve(repo, &reference))).await?;
            return Ok(resolved.commit.to_string());
        }
        let mirror = self.mirror(url, credentials);
        let _permit = self.children.acquire().await;
        mirror.ask(Some(&reference), false).await.map(|resolved| resolved.commit.to_string())
    }

    async fn tags(&self, url: &str, credentials: Option<&GitCredentials>) -> PortResult<Vec<String>> {
        let url = GitUrl::parse(url, self.network.allow).map_err(refused)?;
        if let GitUrl::Local(path) = url {
            let names = move || {
                Objects::new(path).with(|repo| {
                    let names =
                        repo.tag_names(None).map_err(|error| from_git("failed to list tags", error))?;
                    Ok(names.iter().filter_map(|name| name.ok().flatten().map(str::to_owned)).collect())
                })
            };
            return blocking(names).await;
        }
        let mirror = self.mirror(url, credentials);
        let _permit = self.children.acquire().await;
        mirror.tags().await
    }

    async fn archive(
        &self,
        url: &str,
        commit: &str,
        subdir: Option<&str>,
        credentials: Option<&GitCredentials>,
    ) -> PortResult<Bytes> {
        let (url, reference) = self.parse(url, commit)?;
        let subdir = RepoPath::parse("").and_then(|root| root.join(subdir.unwrap_or_default()));
        let subdir =
            subdir.ok_or_else(|| PortError::stalled("failed to find `subdir`: it leaves the repository"))?;
        let id = reference.commit().ok_or_else(|| {
            PortError::stalled(format!("failed to archive `{commit}`: it is not the 40 digits of a commit"))
        })?;
        let id = Oid::from_str(&id).map_err(|error| from_git("failed to read a commit id", error))?;
        let objects = match url {
            GitUrl::Local(path) => Arc::new(Objects::new(path)),
            url => {
                let mirror = self.mirror(url, credentials);
                let _permit = self.children.acquire().await;
                mirror.ask(Some(&reference), true).await?;
                Arc::clone(&mirror.objects)
            }
        };
        blocking(move || archive(&objects, &objects.list(id)?.files, &subdir)).await
    }
}
