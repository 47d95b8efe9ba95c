//! The parent's side of a fetch: a mirror below the state directory, filled by a child.
//!
//! Input: an address, a ref, credentials by reference. Output: the commit, and objects to read.
//! Invariants: the child's environment holds a home folder of its own and nothing of ours; secrets
//! go through its standard input; when time is up its whole process group ends; mirrors of different
//! credentials are different mirrors.
#![expect(clippy::disallowed_methods, reason = "starts the fetching child and keeps its home folder")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use git2::Oid;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::checkout::Checkouts;
use super::committed::Committed;
use super::fetch::{Answer, Failure, Request, SUBCOMMAND, repository};
use super::objects::{Objects, Resolved};
use super::url::{GitUrl, RefName};
use super::{Network, blocking};
use crate::manifest::{BlobId, RepoPath, Snapshot};
use crate::ports::{PortError, PortResult, SecretValue, Source};
use crate::resource::server::GitCredentials;
use crate::resource::signers::Signature;
use crate::resource::{Digest, Revision};

/// Bytes of an answer and of what a child that fell over says: a few lines, or the names of all tags.
const MAX_ANSWER: u64 = 4 << 20;

/// A repository elsewhere: its address, how to sign in, and where its copy is.
pub(super) struct Mirror {
    url: GitUrl,
    credentials: Option<GitCredentials>,
    network: Network,
    folder: PathBuf,
    pub(super) objects: Arc<Objects>,
}

impl Mirror {
    pub(super) fn new(url: GitUrl, credentials: Option<GitCredentials>, network: Network) -> Self {
        let key = Digest::of("mirror", &(url.as_str(), &credentials));
        let folder = network.state.join("git").join(&key.hex()[..32]);
        let objects = Arc::new(Objects::new(repository(&folder)));
        Self { url, credentials, network, folder, objects }
    }

    /// The commit `reference` names there now; with `files`, its tree is in `objects` afterwards.
    pub(super) async fn ask(&self, reference: Option<&RefName>, files: bool) -> PortResult<Resolved> {
        let what = if files { "fetch" } else { "look up refs of" };
        let operation = format!("failed to {what} `{}`", self.url.as_str());
        match self.exchange(&operation, reference, files, false).await? {
            Answer::Commit { commit, label } => match Oid::from_str(&commit) {
                Ok(commit) => Ok(Resolved { label, commit }),
                Err(error) => Err(super::objects::from_git(operation, error)),
            },
            _ => Err(PortError::retry(operation).caused_by("the child answered something else")),
        }
    }

    /// The names of all tags there.
    pub(super) async fn tags(&self) -> PortResult<Vec<String>> {
        let operation = format!("failed to look up tags of `{}`", self.url.as_str());
        match self.exchange(&operation, None, false, true).await? {
            Answer::Tags(tags) => Ok(tags),
            _ => Err(PortError::retry(operation).caused_by("the child answered something else")),
        }
    }

    async fn exchange(
        &self,
        operation: &str,
        reference: Option<&RefName>,
        files: bool,
        tags: bool,
    ) -> PortResult<Answer> {
        let secrets = self.secrets()?;
        let request = Request {
            url: self.url.as_str().to_owned(),
            reference: reference.map(|name| name.as_str().to_owned()),
            files,
            tags,
            folder: self.folder.clone(),
            username: self.username(),
            proxy: self.network.proxy.clone(),
            password: secrets.password.as_ref().map(|secret| secret.expose().len()),
            ssh_key: secrets.ssh_key.as_ref().map(|secret| secret.expose().len()),
        };
        let failed = |error: std::io::Error| PortError::retry(operation).caused_by(error);
        let home = self.home().map_err(failed)?;
        let mut child = Group(self.command(&home).spawn().map_err(|error| {
            failed(error).hint("the daemon starts its own binary to fetch: it must still be where it was")
        })?);
        let talk = converse(&mut child.0, &request, &secrets);
        let answer = tokio::time::timeout(self.network.timeout, talk).await;
        // Ends it if it has not ended, and whatever it started.
        drop(child);
        match answer {
            Err(_) => Err(PortError::retry(operation)
                .caused_by(format!("no end after {} s", self.network.timeout.as_secs()))
                .hint("the server is slow or the repository large: raise the time limit of fetches")),
            Ok(Err(error)) => {
                Err(failed(error).hint("see the log of the daemon; the next fetch tries again"))
            }
            Ok(Ok(Answer::Failed { failure, message })) => {
                Err(PortError::retry(operation).caused_by(message).hint(self.hint(failure)))
            }
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    fn username(&self) -> Option<String> {
        let declared = self.credentials.as_ref().and_then(|credentials| credentials.username.clone());
        declared.or_else(|| match &self.url {
            GitUrl::Ssh { user, .. } => user.clone(),
            GitUrl::Http { .. } | GitUrl::Local(_) => None,
        })
    }

    fn secrets(&self) -> PortResult<Sent> {
        let Some(credentials) = &self.credentials else { return Ok(Sent::default()) };
        let resolve = |reference: &Option<_>| {
            reference.as_ref().map(|reference| self.network.secrets.resolve(reference)).transpose()
        };
        Ok(Sent { password: resolve(&credentials.password)?, ssh_key: resolve(&credentials.ssh_key)? })
    }

    /// A home folder with nothing in it but the known hosts: libgit2 looks for them there.
    fn home(&self) -> std::io::Result<PathBuf> {
        let home = self.folder.join("home");
        let ssh = home.join(".ssh");
        std::fs::create_dir_all(&ssh)?;
        let hosts = match &self.network.known_hosts {
            Some(file) => std::fs::read(file).map_err(|error| {
                std::io::Error::new(error.kind(), format!("known hosts `{}`: {error}", file.display()))
            })?,
            None => Vec::new(),
        };
        let (fresh, place) = (ssh.join("known_hosts.new"), ssh.join("known_hosts"));
        std::fs::write(&fresh, hosts)?;
        std::fs::rename(fresh, place)?;
        Ok(home)
    }

    fn command(&self, home: &Path) -> Command {
        let mut command = Command::new(&self.network.program);
        command.arg(SUBCOMMAND).env_clear().env("HOME", home).env("XDG_CONFIG_HOME", home);
        if let Some(ca) = &self.network.ca_file {
            command.env("SSL_CERT_FILE", ca);
        }
        command.current_dir(home).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn hint(&self, failure: Failure) -> &'static str {
        let ssh = matches!(self.url, GitUrl::Ssh { .. });
        match failure {
            Failure::NoRepository => {
                "check the address; a private repository without credentials looks absent too"
            }
            Failure::NoRef => "name a branch or tag that is there, or push it",
            Failure::NoCommit => "push a branch or tag that leads to the commit",
            Failure::Auth if self.credentials.is_some() => {
                "check that the credentials are still valid and may read this repository"
            }
            Failure::Auth if ssh => "declare `credentials` with an `sshKey` that may read this repository",
            Failure::Auth => "declare `credentials` with a `username` and a `password` or token",
            Failure::HostKey if self.network.known_hosts.is_none() => {
                "give the daemon a file of known hosts: without one no ssh server is trusted"
            }
            Failure::HostKey => {
                "add the server's host key to the file of known hosts, if it is really its key"
            }
            Failure::Certificate => {
                "give the daemon the CA certificate of the server, if it is really its own"
            }
            Failure::Unreachable => "check the name of the host, the network and the proxy",
            Failure::Redirect => "use the address the server redirects to: other hosts are not followed to",
            Failure::TooLarge => "use a smaller repository: fetches are bounded at 2 GiB",
            Failure::Other => "try `git ls-remote` with this address",
        }
    }
}

/// Secrets on their way to the child.
#[derive(Default)]
struct Sent {
    password: Option<SecretValue>,
    ssh_key: Option<SecretValue>,
}

/// A child and its process group, which end when this is dropped.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // No id: it has ended and was waited for, so the number may be somebody else's by now.
        if let Some(id) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

/// Sends the request and reads the answer. The child's input stays open meanwhile: it ends itself
/// when that closes.
async fn converse(child: &mut Child, request: &Request, secrets: &Sent) -> std::io::Result<Answer> {
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(std::io::Error::other("the child has no pipes"));
    };
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stdin.write_all(&line).await?;
    for secret in [&secrets.password, &secrets.ssh_key].into_iter().flatten() {
        stdin.write_all(secret.expose()).await?;
    }
    stdin.flush().await?;
    let (mut answer, mut said) = (Vec::new(), Vec::new());
    let (mut stdout, mut stderr) = (stdout.take(MAX_ANSWER), stderr.take(MAX_ANSWER));
    tokio::try_join!(stdout.read_to_end(&mut answer), stderr.read_to_end(&mut said))?;
    let status = child.wait().await?;
    drop(stdin);
    serde_json::from_slice(&answer).map_err(|_| {
        let said = String::from_utf8_lossy(&said);
        std::io::Error::other(format!("the fetching child ended with {status}: {}", said.trim()))
    })
}

/// A repository elsewhere as the followed source.
pub(super) struct RemoteSource {
    mirror: Mirror,
    reference: Option<RefName>,
    committed: Committed,
}

impl RemoteSource {
    pub(super) fn new(
        mirror: Mirror,
        reference: Option<RefName>,
        path: RepoPath,
        checkouts: Checkouts,
    ) -> Self {
        let committed = Committed::new(Arc::clone(&mirror.objects), path, checkouts);
        Self { mirror, reference, committed }
    }
}

#[async_trait]
impl Source for RemoteSource {
    async fn fetch(&self) -> PortResult<Snapshot> {
        let now = self.mirror.ask(self.reference.as_ref(), true).await?;
        let committed = self.committed.clone();
        blocking(move || {
            committed.snapshot(now, |former, now| {
                tracing::debug!(reference = now.label, %former, commit = %now.commit, "the ref moved");
            })
        })
        .await
    }

    async fn sizes(&self, blobs: &[BlobId]) -> PortResult<Vec<u64>> {
        self.committed.sizes(blobs).await
    }

    async fn read(&self, blobs: &[BlobId], max: usize) -> PortResult<Vec<Bytes>> {
        self.committed.read(blobs, max).await
    }

    /// Nothing tells: the caller polls.
    async fn changed(&self) {
        std::future::pending::<()>().await;
    }

    async fn signature(&self, snapshot: &Snapshot) -> PortResult<Signature> {
        self.committed.signature(snapshot).await
    }

    async fn recall(&self, revision: &Revision) -> PortResult<Option<Snapshot>> {
        self.committed.recall(revision).await.map(Some)
    }

    async fn checkout(&self, snapshot: &Snapshot) -> PortResult<Option<PathBuf>> {
        self.committed.checkout(snapshot).await
    }

    async fn checkout_dir(&self, snapshot: &Snapshot, dir: &RepoPath) -> PortResult<Option<PathBuf>> {
        self.committed.checkout_dir(snapshot, dir).await
    }

    async fn keep_checkouts(&self, in_use: &BTreeSet<PathBuf>) {
        self.committed.keep_checkouts(in_use).await;
    }
}
