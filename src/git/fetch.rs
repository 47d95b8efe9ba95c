//! The child process that talks to other people's Git servers.
//!
//! Input: one request on standard input: a line of JSON, then the secrets it announces. Output: one
//! answer as JSON on standard output. Invariants: limits are set before libgit2 is used; only the
//! mirror's own configuration is read; no other host is followed to; secrets are in no type that can
//! be written. The parent ends it when time is up; it ends itself when the parent is gone.
#![expect(clippy::disallowed_methods, reason = "owns the mirror's files while it runs")]

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use git2::{
    AutotagOption, CertificateCheckStatus, Config, Cred, CredentialType, Direction, ErrorClass, ErrorCode,
    FetchOptions, Oid, ProxyOptions, RemoteCallbacks, RemoteRedirect, Repository, RepositoryInitOptions,
};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, raise};
use serde::{Deserialize, Serialize};

use super::url::{RefName, short};

/// What the binary is called with to become this child.
pub const SUBCOMMAND: &str = "__git-fetch";

/// Address space: packs are mapped, so it is the largest pack taken plus what resolving deltas needs.
const MAX_MEMORY: u64 = 4 << 30;
/// Bytes of one pack, and of any file written: more is no repository of manifests or servers.
const MAX_RECEIVED: u64 = 2 << 30;
/// Objects of one pack: the listing of a snapshot ends at a million files, and folders come on top.
const MAX_OBJECTS: usize = 3_000_000;
/// Refs a server may advertise: big hosting services show some hundred thousand pull requests.
const MAX_REFS: usize = 2_000_000;
/// Bytes of the request's line and of its secrets: paths, an address, one key.
const MAX_REQUEST: u64 = 256 << 10;
/// Packs after which the mirror is made anew: each fetch adds one, and each slows every lookup.
const MAX_PACKS: usize = 64;
/// Tags that are told: the kernel has about a thousand.
const MAX_TAGS: usize = 20_000;
/// The ref of the mirror that keeps what was fetched last.
const KEPT: &str = "refs/toolcrib/followed";

/// What the parent asks. Holds no secret: those follow it as plain bytes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    pub(super) url: String,
    /// None: the branch HEAD names there.
    pub(super) reference: Option<String>,
    /// Whether the files are wanted, or only the commit's id.
    pub(super) files: bool,
    /// Whether only the names of tags are wanted.
    #[serde(default)]
    pub(super) tags: bool,
    /// The folder of the mirror; exists.
    pub(super) folder: PathBuf,
    pub(super) username: Option<String>,
    pub(super) proxy: Option<String>,
    /// Bytes of the password and of the ssh key after the line; none: not given.
    pub(super) password: Option<usize>,
    pub(super) ssh_key: Option<usize>,
}

/// What the child answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Answer {
    Commit {
        commit: String,
        /// What people call the ref.
        label: String,
    },
    /// The names of tags, without what stands before them.
    Tags(Vec<String>),
    Failed {
        failure: Failure,
        message: String,
    },
}

/// What went wrong, as far as a hint depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Failure {
    NoRepository,
    NoRef,
    NoCommit,
    Auth,
    HostKey,
    Certificate,
    Unreachable,
    Redirect,
    TooLarge,
    Other,
}

/// The bare repository of a mirror's folder.
pub(super) fn repository(folder: &Path) -> PathBuf {
    folder.join("repo.git")
}

/// The life of the child: reads a request, does it, answers.
pub fn run_child(stdin: impl Read + Send + 'static, mut stdout: impl Write) -> ExitCode {
    limit();
    let mut stdin = BufReader::new(stdin);
    let answer = match Input::read(&mut stdin) {
        Ok(input) => {
            end_with_parent(stdin);
            answer(&input)
        }
        Err(error) => {
            Answer::Failed { failure: Failure::Other, message: format!("the request is not one: {error}") }
        }
    };
    let written = serde_json::to_writer(&mut stdout, &answer).map_err(io::Error::from);
    match written.and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Sets what this process may use. A limit that cannot be set is one that is stricter already.
fn limit() {
    for (resource, most) in [
        (Resource::RLIMIT_AS, MAX_MEMORY),
        (Resource::RLIMIT_FSIZE, MAX_RECEIVED + (MAX_RECEIVED >> 1)),
        // A core file would hold secrets.
        (Resource::RLIMIT_CORE, 0),
    ] {
        let _ = setrlimit(resource, most, most);
    }
}

/// The parent keeps its end open until it has the answer: when it closes, nobody waits any more.
fn end_with_parent(mut stdin: impl Read + Send + 'static) {
    std::thread::spawn(move || {
        let mut byte = [0];
        while matches!(stdin.read(&mut byte), Ok(1..)) {}
        let _ = raise(Signal::SIGKILL);
    });
}

/// A request and its secrets.
struct Input {
    request: Request,
    password: Option<String>,
    ssh_key: Option<String>,
}

impl Input {
    fn read(stdin: &mut impl io::BufRead) -> io::Result<Self> {
        let mut line = Vec::new();
        stdin.take(MAX_REQUEST).read_until(b'\n', &mut line)?;
        let request: Request = serde_json::from_slice(&line)?;
        let mut secret = |length: Option<usize>| -> io::Result<Option<String>> {
            let Some(length) = length else { return Ok(None) };
            if length as u64 > MAX_REQUEST {
                return Err(io::Error::other("a secret is too long"));
            }
            let mut bytes = vec![0; length];
            stdin.read_exact(&mut bytes)?;
            String::from_utf8(bytes).map(Some).map_err(|_| io::Error::other("a secret is not UTF-8"))
        };
        let password = secret(request.password)?;
        let ssh_key = secret(request.ssh_key)?;
        Ok(Self { request, password, ssh_key })
    }
}

fn answer(input: &Input) -> Answer {
    match work(input) {
        Ok(answer) => answer,
        Err(stop) => {
            let mut message = stop.message;
            for secret in [&input.password, &input.ssh_key].into_iter().flatten().filter(|s| !s.is_empty()) {
                message = message.replace(secret.as_str(), "***");
            }
            Answer::Failed { failure: stop.failure, message }
        }
    }
}

/// A failure on its way out.
struct Stop {
    failure: Failure,
    message: String,
}

impl Stop {
    fn new(failure: Failure, message: impl Into<String>) -> Self {
        Self { failure, message: message.into() }
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::new(Failure::Other, format!("the mirror cannot be written: {error}"))
    }
}

impl From<git2::Error> for Stop {
    fn from(error: git2::Error) -> Self {
        let message = error.message();
        let says = |needle: &str| message.to_ascii_lowercase().contains(needle);
        let failure = match (error.code(), error.class()) {
            (ErrorCode::Auth, _) => Failure::Auth,
            (ErrorCode::User, _) => Failure::TooLarge,
            (ErrorCode::Certificate, ErrorClass::Ssh) => Failure::HostKey,
            (ErrorCode::Certificate, _) => Failure::Certificate,
            (_, ErrorClass::Ssl) if says("certificate") => Failure::Certificate,
            _ if says("cannot redirect") || says("unexpected redirect") => Failure::Redirect,
            _ if says("status code: 404") || says("does not appear to be a git") => Failure::NoRepository,
            _ if says("status code: 401") || says("status code: 403") || says("authenticat") => Failure::Auth,
            // sshd says on standard error, which libgit2 does not show, that there is no such place.
            (ErrorCode::Eof, ErrorClass::Ssh | ErrorClass::Net) => Failure::NoRepository,
            _ if says("resolve address") || says("failed to connect") || says("could not connect") => {
                Failure::Unreachable
            }
            (_, ErrorClass::Os | ErrorClass::Net | ErrorClass::Ssh | ErrorClass::Ssl) => Failure::Unreachable,
            _ => Failure::Other,
        };
        Self::new(failure, message)
    }
}

fn work(input: &Input) -> Result<Answer, Stop> {
    let folder = &input.request.folder;
    // One at a time for each mirror, whichever process asks.
    let lock = File::options().create(true).truncate(false).write(true).open(folder.join("lock"))?;
    lock.lock()?;
    let repo = mirror(&repository(folder))?;
    let reference = input
        .request
        .reference
        .as_deref()
        .map(RefName::parse)
        .transpose()
        .map_err(|refused| Stop::new(Failure::NoRef, refused.to_string()))?;
    if let Some(commit) = reference.as_ref().and_then(RefName::commit) {
        return exact(&repo, input, &commit);
    }
    let mut remote = repo.remote_anonymous(&input.request.url)?;
    let wanted = {
        let connection = remote.connect_auth(Direction::Fetch, Some(callbacks(input)), Some(proxy(input)))?;
        let heads = connection.list()?;
        if heads.len() > MAX_REFS {
            return Err(Stop::new(Failure::TooLarge, format!("the server shows more than {MAX_REFS} refs")));
        }
        if input.request.tags {
            let tags = heads.iter().filter_map(|head| head.name().strip_prefix("refs/tags/"));
            let tags = tags.filter(|tag| !tag.ends_with("^{}")).take(MAX_TAGS);
            return Ok(Answer::Tags(tags.map(str::to_owned).collect()));
        }
        choose(heads, reference.as_ref())?
    };
    let commit = match wanted.peeled {
        // Known without a download: the commit itself, or what an annotated tag names.
        commit if !input.request.files => commit,
        commit if has(&repo, commit) => commit,
        _ => {
            fetch(&mut remote, input, &[format!("+{}:{KEPT}", wanted.full)], depth(&input.request.url))?;
            repo.find_reference(KEPT)?.peel_to_commit()?.id()
        }
    };
    if input.request.files {
        // Kept also when nothing was downloaded: the mirror may be cleaned of all else.
        repo.reference(KEPT, commit, true, "fetched")?;
    }
    Ok(Answer::Commit { commit: commit.to_string(), label: wanted.label })
}

/// Whether the mirror has a commit with all its files. Fetches are all or nothing, so its root is enough.
fn has(repo: &Repository, commit: Oid) -> bool {
    repo.find_commit(commit).and_then(|commit| commit.tree()).is_ok()
}

/// One commit, by its id.
fn exact(repo: &Repository, input: &Input, commit: &str) -> Result<Answer, Stop> {
    let id = Oid::from_str(commit)?;
    let found = || Answer::Commit { commit: commit.to_owned(), label: "detached".to_owned() };
    if !input.request.files || has(repo, id) {
        return Ok(found());
    }
    let url = &input.request.url;
    let mut remote = repo.remote_anonymous(url)?;
    // Most servers give any commit they can reach; plain ones only what a ref names.
    let asked = fetch(&mut remote, input, &[format!("+{commit}:{KEPT}")], depth(url));
    if asked.is_ok() && has(repo, id) {
        return Ok(found());
    }
    if let Err(stop) = asked
        && matches!(stop.failure, Failure::Auth | Failure::HostKey | Failure::Certificate | Failure::Redirect)
    {
        return Err(stop);
    }
    let mut remote = repo.remote_anonymous(url)?;
    let tip = {
        let connection = remote.connect_auth(Direction::Fetch, Some(callbacks(input)), Some(proxy(input)))?;
        let tip = connection.list()?.iter().find(|head| head.oid() == id).map(|head| head.name().to_owned());
        tip.map(|name| name.trim_end_matches("^{}").to_owned())
    };
    if let Some(name) = tip {
        fetch(&mut remote, input, &[format!("+{name}:{KEPT}")], depth(url))?;
    } else {
        let all = ["+refs/heads/*:refs/toolcrib/heads/*", "+refs/tags/*:refs/toolcrib/tags/*"];
        // All of history, also where an earlier fetch cut it off.
        let depth = if depth(url) == 0 { 0 } else { i32::MAX };
        fetch(&mut remote, input, &all.map(str::to_owned), depth)?;
    }
    if has(repo, id) {
        return Ok(found());
    }
    Err(Stop::new(Failure::NoCommit, format!("no branch or tag there leads to commit `{commit}`")))
}

/// A ref of the server.
struct Wanted {
    full: String,
    label: String,
    /// The commit it names, tags peeled.
    peeled: Oid,
}

fn choose(heads: &[git2::RemoteHead<'_>], reference: Option<&RefName>) -> Result<Wanted, Stop> {
    let find = |name: &str| heads.iter().find(|head| head.name() == name);
    let Some(reference) = reference else {
        let head =
            find("HEAD").ok_or_else(|| Stop::new(Failure::NoRef, "the repository has no commit yet"))?;
        // Servers that do not say which branch HEAD is are old; a branch at the same commit will do.
        let branch = head.symref_target().map(str::to_owned).or_else(|| {
            let same = |other: &&git2::RemoteHead<'_>| {
                other.oid() == head.oid() && other.name().starts_with("refs/heads/")
            };
            heads.iter().find(same).map(|other| other.name().to_owned())
        });
        let full = branch.unwrap_or_else(|| "HEAD".to_owned());
        return Ok(Wanted { label: short(&full).to_owned(), full, peeled: head.oid() });
    };
    let mut candidates = reference.candidates();
    candidates.retain(|name| !name.starts_with("refs/remotes/"));
    let found = candidates.iter().find_map(|name| find(name));
    let found = found.ok_or_else(|| {
        Stop::new(Failure::NoRef, format!("there is no branch or tag `{}` there", reference.as_str()))
    })?;
    let peeled = find(&format!("{}^{{}}", found.name())).unwrap_or(found).oid();
    Ok(Wanted { full: found.name().to_owned(), label: short(found.name()).to_owned(), peeled })
}

/// One commit deep: nothing here needs history, since the new commit wins however it came about.
/// libgit2 cannot cut history off when it reads another folder of this machine.
fn depth(url: &str) -> i32 {
    i32::from(!url.starts_with('/'))
}

fn fetch(remote: &mut git2::Remote<'_>, input: &Input, specs: &[String], depth: i32) -> Result<(), Stop> {
    let mut options = FetchOptions::new();
    options.remote_callbacks(callbacks(input)).proxy_options(proxy(input));
    options.follow_redirects(RemoteRedirect::None).download_tags(AutotagOption::None).depth(depth);
    options.update_fetchhead(false);
    Ok(remote.fetch(specs, Some(&mut options), Some("fetched"))?)
}

fn proxy(input: &Input) -> ProxyOptions<'_> {
    let mut options = ProxyOptions::new();
    if let Some(proxy) = &input.request.proxy {
        options.url(proxy);
    }
    options
}

fn callbacks(input: &Input) -> RemoteCallbacks<'_> {
    let mut callbacks = RemoteCallbacks::new();
    // libgit2 asks again after a refusal, for ever: each kind is given once.
    let mut given = CredentialType::empty();
    callbacks.credentials(move |_, in_url, allowed| {
        let refused = |message: &str| Err(git2::Error::new(ErrorCode::Auth, ErrorClass::Net, message));
        let user = input.request.username.as_deref().or(in_url).unwrap_or("git");
        if allowed.contains(CredentialType::USERNAME) {
            return Cred::username(user);
        }
        if given.intersects(allowed) {
            return refused("the credentials were refused");
        }
        given |= allowed;
        match (&input.ssh_key, &input.password) {
            (Some(key), _) if allowed.contains(CredentialType::SSH_MEMORY) => {
                Cred::ssh_key_from_memory(user, None, key, None)
            }
            (_, Some(password)) if allowed.contains(CredentialType::USER_PASS_PLAINTEXT) => {
                Cred::userpass_plaintext(user, password)
            }
            _ => refused("the server asks for credentials"),
        }
    });
    // What libgit2 finds by itself counts: the known hosts in HOME, the certificates of OpenSSL.
    callbacks.certificate_check(|_, _| Ok(CertificateCheckStatus::CertificatePassthrough));
    callbacks.transfer_progress(|progress| {
        progress.received_bytes() as u64 <= MAX_RECEIVED && progress.total_objects() <= MAX_OBJECTS
    });
    callbacks
}

/// Opens the mirror, or makes it. Nothing but its own configuration is read.
fn mirror(path: &Path) -> Result<Repository, Stop> {
    if path.exists() {
        match reopened(path) {
            Ok(Some(repo)) => return Ok(repo),
            // Too many packs, or damaged by a crash: it is only a copy.
            Ok(None) | Err(_) => fs::remove_dir_all(path)?,
        }
    }
    let mut options = RepositoryInitOptions::new();
    options.bare(true).external_template(false).mkpath(true).no_reinit(true);
    let repo = Repository::init_opts(path, &options)?;
    isolate(&repo, path)?;
    // Asking for refs has no option of its own for this.
    repo.config()?.set_bool("http.followRedirects", false)?;
    Ok(repo)
}

fn isolate(repo: &Repository, path: &Path) -> Result<(), Stop> {
    Ok(repo.set_config(&Config::open(&path.join("config"))?)?)
}

/// `None`: better made anew.
fn reopened(path: &Path) -> Result<Option<Repository>, Stop> {
    for name in ["shallow.lock", "config.lock", "packed-refs.lock", &format!("{KEPT}.lock")] {
        // Left by a fetch that was ended; we hold the mirror's own lock.
        match fs::remove_file(path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let mut packs = 0;
    for entry in fs::read_dir(path.join("objects/pack"))? {
        let place = entry?.path();
        match place.extension().and_then(|extension| extension.to_str()) {
            Some("pack") => packs += 1,
            Some("idx" | "rev") => {}
            _ => fs::remove_file(place)?,
        }
    }
    let repo = Repository::open_bare(path)?;
    isolate(&repo, path)?;
    Ok((packs <= MAX_PACKS).then_some(repo))
}
