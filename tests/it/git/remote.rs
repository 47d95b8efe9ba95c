//! Repositories elsewhere, over smart HTTP and ssh.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use toolcrib::git::{self, Network, Options};
use toolcrib::manifest::RepoPath;
use toolcrib::ports::{Disposition, PortError, PortResult, Source};
use toolcrib::resource::SecretRef;
use toolcrib::resource::server::GitCredentials;

use super::repo::Repo;
use super::server::{Http, Ssh};
use super::{names, network, path, text};

fn follow(
    url: &str,
    reference: Option<&str>,
    credentials: Option<GitCredentials>,
    network: Network,
) -> PortResult<Arc<dyn Source>> {
    git::open(Options {
        repo: url.to_owned(),
        reference: reference.map(str::to_owned),
        path: RepoPath::parse("").unwrap(),
        worktree: false,
        credentials,
        network,
    })
}

fn password(name: &str) -> GitCredentials {
    GitCredentials {
        username: Some("user".to_owned()),
        password: Some(SecretRef::Env(name.to_owned())),
        ssh_key: None,
    }
}

fn key(name: &str) -> GitCredentials {
    let ssh_key = Some(SecretRef::Env(name.to_owned()));
    GitCredentials { username: None, password: None, ssh_key }
}

fn hint(error: &PortError) -> &str {
    error.hint.as_deref().unwrap_or_default()
}

/// A repository `origin.git` below a folder of its own, which HTTP serves.
fn origin() -> (tempfile::TempDir, Repo) {
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join("origin.git");
    std::fs::create_dir(&place).unwrap();
    let repo = Repo::at(&place);
    repo.git(&["init", "-q", "-b", "main"]);
    (root, repo)
}

#[tokio::test]
async fn a_remote_branch_is_followed_and_only_news_travel() {
    let (root, repo) = origin();
    let state = tempfile::tempdir().unwrap();
    // Files that do not compress, so that bytes on the way tell what was sent.
    let noise = |seed: u64| {
        let mut value = seed;
        let mut next = || {
            value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'0' + u8::try_from(value >> 58).unwrap())
        };
        (0..20_000).map(|_| next()).collect::<String>()
    };
    for n in 0..50 {
        repo.write(&format!("old/{n}"), &noise(n));
    }
    repo.commit("large");
    repo.git(&["rm", "-rq", "old"]);
    for n in 0..20 {
        repo.write(&format!("files/{n}"), &noise(100 + n));
    }
    let first = repo.commit("first");
    let http = Http::start(root.path()).await;
    let source = follow(&http.url("origin.git"), None, None, network(state.path(), Vec::new())).unwrap();
    let snapshot = source.fetch().await.unwrap();
    assert_eq!(snapshot.revision.to_string(), format!("main@sha1:{first}"));
    assert_eq!(snapshot.files.len(), 20);
    let history = http.sent.swap(0, Ordering::Relaxed);
    assert!(history < 800_000, "history stays where it is: {history}");

    let again = source.fetch().await.unwrap();
    assert!(Arc::ptr_eq(&again.files, &snapshot.files));
    let nothing = http.sent.swap(0, Ordering::Relaxed);
    assert!(nothing < 2_000, "an unmoved ref downloads nothing: {nothing}");

    repo.write("files/0", "small").commit("second");
    let second = source.fetch().await.unwrap();
    assert_eq!(text(&*source, &second, "files/0").await, "small");
    assert_eq!(text(&*source, &second, "files/1").await, noise(101));
    let news = http.sent.swap(0, Ordering::Relaxed);
    assert!(news < 20_000, "one small file is all that travels: {news}");

    repo.git(&["checkout", "-q", "--orphan", "other"]);
    let forced = repo.write("files/0", "anew").commit("rewritten");
    repo.git(&["branch", "-f", "main", "other"]);
    assert_eq!(source.fetch().await.unwrap().revision.commit, forced);

    // The mirror is only a copy: damaged, it is made again.
    let mirrors = std::fs::read_dir(state.path().join("git")).unwrap();
    for mirror in mirrors {
        std::fs::write(mirror.unwrap().path().join("repo.git/HEAD"), "broken").unwrap();
    }
    repo.write("files/0", "mended").commit("third");
    let mended = source.fetch().await.unwrap();
    assert_eq!(text(&*source, &mended, "files/0").await, "mended");
}

#[tokio::test]
async fn a_remote_that_is_gone_slow_or_elsewhere_says_so() {
    let (root, repo) = origin();
    repo.write("a", "1").commit("first");
    let http = Http::start(root.path()).await;
    let state = tempfile::tempdir().unwrap();
    let network = network(state.path(), vec![("WRONG", "hunter3".to_owned())]);
    let fail = async |url: String, reference: Option<&str>, credentials| {
        let source = follow(&url, reference, credentials, network.clone()).unwrap();
        let error = source.fetch().await.unwrap_err();
        assert_eq!(error.disposition, Disposition::Retry, "{}", error.chain());
        assert!(!format!("{error:?} {}", error.chain()).contains("hunter3"), "a secret is shown");
        error
    };
    let missing = fail(http.url("missing.git"), None, None).await;
    assert!(hint(&missing).contains("address"), "{}", missing.chain());
    let no_ref = fail(http.url("origin.git"), Some("gone"), None).await;
    assert!(hint(&no_ref).contains("branch or tag"), "{}", no_ref.chain());
    let private = fail(http.url("private/origin.git"), None, None).await;
    assert!(hint(&private).contains("`password`"), "{}", private.chain());
    let wrong = fail(http.url("private/origin.git"), None, Some(password("WRONG"))).await;
    assert!(hint(&wrong).contains("still valid"), "{}", wrong.chain());
    let away = fail(http.url("away/origin.git"), None, None).await;
    assert!(hint(&away).contains("redirects"), "{}", away.chain());
    let closed = fail("http://127.0.0.1:1/x.git".to_owned(), None, None).await;
    assert!(hint(&closed).contains("host"), "{}", closed.chain());

    let hasty = Network { timeout: Duration::from_millis(300), ..network.clone() };
    let slow = follow(&http.url("slow/origin.git"), None, None, hasty).unwrap().fetch().await.unwrap_err();
    assert!(hint(&slow).contains("time limit"), "{}", slow.chain());

    for url in
        ["http://example.com/a.git", "https://user:secret@example.com/a", "git://example.com/a", "ext::sh"]
    {
        let refused = follow(url, None, None, network.clone()).err().unwrap();
        assert_eq!(refused.disposition, Disposition::Stalled, "{url}");
        assert!(!refused.chain().contains("secret"));
    }
}

#[tokio::test]
async fn a_private_repository_is_fetched_with_its_password() {
    let (root, repo) = origin();
    let first = repo.write("a", "1").commit("first");
    let http = Http::start(root.path()).await;
    let state = tempfile::tempdir().unwrap();
    let network = network(state.path(), vec![("TOKEN", "hunter2".to_owned())]);
    let url = http.url("private/origin.git");
    let source = follow(&url, Some("main"), Some(password("TOKEN")), network.clone()).unwrap();
    assert_eq!(source.fetch().await.unwrap().revision.commit, first);
    let unknown = follow(&url, None, Some(password("ABSENT")), network).unwrap().fetch().await.unwrap_err();
    assert!(unknown.chain().contains("ABSENT"), "a missing secret is named");
    assert!(!contains(state.path(), b"hunter2"), "the secret is in no file");
}

/// Whether any file below a folder holds `needle`.
fn contains(folder: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let place = entry.unwrap().path();
        if place.is_dir() {
            return contains(&place, needle);
        }
        std::fs::read(&place).unwrap().windows(needle.len()).any(|window| window == needle)
    })
}

#[tokio::test]
async fn ssh_trusts_known_hosts_and_nobody_else() {
    let (_root, repo) = origin();
    let first = repo.write("a", "1").commit("first");
    let ssh = Ssh::start().await;
    let state = tempfile::tempdir().unwrap();
    let secrets = vec![("CLIENT", ssh.key("client")), ("STRANGER", ssh.key("stranger"))];
    let base = network(state.path(), secrets);
    let url = ssh.url(repo.path());
    let trusting = Network { known_hosts: Some(ssh.known_hosts("host")), ..base.clone() };
    let source = follow(&url, None, Some(key("CLIENT")), trusting.clone()).unwrap();
    let snapshot = source.fetch().await.unwrap();
    assert_eq!((snapshot.revision.commit.as_str(), names(&snapshot)), (first.as_str(), vec!["a"]));
    let second = repo.write("a", "2").commit("second");
    assert_eq!(source.fetch().await.unwrap().revision.commit, second);

    let fail = async |credentials, network, url: &str| {
        follow(url, None, credentials, network).unwrap().fetch().await.unwrap_err()
    };
    let unknown = fail(Some(key("CLIENT")), base, &url).await;
    assert!(hint(&unknown).contains("known hosts"), "{}", unknown.chain());
    let other = Network { known_hosts: Some(ssh.known_hosts("stranger")), ..trusting.clone() };
    let changed = fail(Some(key("CLIENT")), other, &url).await;
    assert!(hint(&changed).contains("host key"), "{}", changed.chain());
    let stranger = fail(Some(key("STRANGER")), trusting.clone(), &url).await;
    assert!(hint(&stranger).contains("still valid"), "{}", stranger.chain());
    let nobody = fail(None, trusting.clone(), &url).await;
    assert!(hint(&nobody).contains("`sshKey`"), "{}", nobody.chain());
    let missing = fail(Some(key("CLIENT")), trusting, &format!("{url}-gone")).await;
    assert!(hint(&missing).contains("address"), "{}", missing.chain());
}

#[tokio::test]
async fn sources_are_looked_up_and_archived() {
    let (root, repo) = origin();
    let first = repo.write("pkg/server.py", "x").write("pkg/data", "y").write("readme", "z").commit("first");
    repo.git(&["tag", "-a", "-m", "one", "v1"]);
    let second = repo.write("pkg/server.py", "x2").commit("second");
    let old = repo.write("pkg/server.py", "x3").commit("third");
    let tip = repo.write("pkg/server.py", "x4").commit("fourth");
    let http = Http::start(root.path()).await;
    let state = tempfile::tempdir().unwrap();
    let lookup = git::lookup(network(state.path(), Vec::new()));
    let local = repo.path().to_str().unwrap().to_owned();
    for url in [http.url("origin.git"), local.clone()] {
        for (reference, expected) in
            [("main", &tip), ("v1", &first), ("refs/heads/main", &tip), (&*second, &second)]
        {
            assert_eq!(&lookup.commit(&url, reference, None).await.unwrap(), expected, "{url} {reference}");
        }
        assert!(lookup.commit(&url, "gone", None).await.is_err());
        // A tip, a tag, and one no ref names.
        for (commit, content) in [(&tip, "x4"), (&first, "x"), (&old, "x3")] {
            let tar = lookup.archive(&url, commit, Some("pkg"), None).await.unwrap();
            assert_eq!(
                unpacked(&tar),
                [("data".to_owned(), "y".to_owned()), ("server.py".to_owned(), content.to_owned())]
            );
        }
        let error = lookup.archive(&url, &tip, Some("gone"), None).await.unwrap_err();
        assert!(hint(&error).contains("subdir"));
        assert!(lookup.archive(&url, &tip, Some("../x"), None).await.is_err());
        assert!(lookup.archive(&url, "main", None, None).await.is_err(), "only commits are archived");
        let absent = "0123456789012345678901234567890123456789";
        assert!(lookup.archive(&url, absent, None, None).await.is_err());
    }
    let remote = lookup.archive(&http.url("origin.git"), &tip, None, None).await.unwrap();
    assert_eq!(
        remote,
        lookup.archive(&local, &tip, None, None).await.unwrap(),
        "the same bytes however they came"
    );

    std::os::unix::fs::symlink("pkg/data", repo.path().join("inside")).unwrap();
    let inside = repo.commit("a symlink that stays");
    assert!(lookup.archive(&local, &inside, None, None).await.is_ok());
    std::os::unix::fs::symlink("../../etc/passwd", repo.path().join("pkg/outside")).unwrap();
    let outside = repo.commit("a symlink that leaves");
    let error = lookup.archive(&local, &outside, None, None).await.unwrap_err();
    assert!(error.chain().contains("pkg/outside"), "{}", error.chain());

    let strict = Network { allow: git::Allow::default(), ..network(state.path(), Vec::new()) };
    let error = git::lookup(strict).commit(&local, "main", None).await.unwrap_err();
    assert_eq!(error.disposition, Disposition::Stalled);
    assert_eq!(path("pkg").as_str(), "pkg");
}

fn unpacked(tar: &[u8]) -> Vec<(String, String)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap();
    entries
        .map(|entry| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut content = String::new();
            std::io::Read::read_to_string(&mut entry, &mut content).unwrap();
            assert_eq!(entry.header().mtime().unwrap(), 0);
            (name, content)
        })
        .collect()
}
