//! The followed repository on real Git: what a person does with `git` is what a snapshot shows.
#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests make repositories and start programs"
)]

mod remote;
pub(crate) mod repo;
pub(crate) mod server;
pub(crate) mod signed;

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use toolcrib::git::{self, Allow, Network, Options};
use toolcrib::manifest::{Mode, RepoPath, Snapshot};
use toolcrib::ports::{Disposition, PortError, PortResult, SecretValue, Secrets, Source};
use toolcrib::resource::SecretRef;

use repo::Repo;

/// Secrets by the name of an environment variable, from a list.
struct Known(Vec<(&'static str, String)>);

impl Secrets for Known {
    fn tag(&self, _: &toolcrib::ports::Material) -> String {
        String::new()
    }

    fn resolve(&self, reference: &SecretRef) -> PortResult<SecretValue> {
        let SecretRef::Env(name) = reference else { return Err(PortError::stalled("not in this test")) };
        let found = self.0.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| SecretValue::new(value.as_bytes()))
            .ok_or_else(|| PortError::stalled(format!("no secret `{name}`")))
    }
}

fn network(state: &Path, secrets: Vec<(&'static str, String)>) -> Network {
    Network {
        state: state.to_owned(),
        program: env!("CARGO_BIN_EXE_toolcrib").into(),
        known_hosts: None,
        ca_file: None,
        proxy: None,
        timeout: Duration::from_mins(1),
        allow: Allow { local: true, http: true },
        secrets: Arc::new(Known(secrets)),
    }
}

fn follow(repo: &Path, reference: Option<&str>, state: &Path) -> PortResult<Arc<dyn Source>> {
    git::open(Options {
        repo: repo.to_str().unwrap().to_owned(),
        reference: reference.map(str::to_owned),
        path: RepoPath::parse("").unwrap(),
        worktree: false,
        credentials: None,
        network: network(state, Vec::new()),
    })
}

fn follow_worktree(repo: &Path, state: &Path) -> Arc<dyn Source> {
    git::open(Options {
        repo: repo.to_str().unwrap().to_owned(),
        reference: None,
        path: RepoPath::parse("").unwrap(),
        worktree: true,
        credentials: None,
        network: network(state, Vec::new()),
    })
    .unwrap()
}

fn path(text: &str) -> RepoPath {
    RepoPath::parse(text).unwrap()
}

fn names(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.files.keys().map(RepoPath::as_str).collect()
}

async fn text(source: &dyn Source, snapshot: &Snapshot, file: &str) -> String {
    let entry = snapshot.files[&path(file)];
    let mut contents = source.read(&[entry.id], 1 << 20).await.unwrap();
    String::from_utf8(contents.remove(0).to_vec()).unwrap()
}

#[tokio::test]
async fn a_branch_is_followed_through_commits_reverts_and_force_pushes() {
    let (repo, state) = (Repo::new(), tempfile::tempdir().unwrap());
    repo.write("a.yaml", "one").write("sub/run.sh", "x").commit("first");
    std::fs::set_permissions(repo.path().join("sub/run.sh"), Permissions::from_mode(0o755)).unwrap();
    let first = repo.commit("executable");
    let source = follow(repo.path(), None, state.path()).unwrap();
    let snapshot = source.fetch().await.unwrap();
    assert_eq!(snapshot.revision.to_string(), format!("main@sha1:{first}"));
    assert_eq!(names(&snapshot), ["a.yaml", "sub/run.sh"]);
    assert_eq!(snapshot.files[&path("sub/run.sh")].mode, Mode::Executable);
    assert_eq!(text(&*source, &snapshot, "a.yaml").await, "one");

    let again = source.fetch().await.unwrap();
    assert!(Arc::ptr_eq(&again.files, &snapshot.files), "nothing changed, nothing is made anew");

    repo.write("a.yaml", "two").commit("second");
    let second = source.fetch().await.unwrap();
    assert_eq!(text(&*source, &second, "a.yaml").await, "two");

    repo.git(&["revert", "--no-edit", "HEAD"]);
    let reverted = source.fetch().await.unwrap();
    assert_eq!(reverted.files, snapshot.files);
    assert_ne!(reverted.revision, snapshot.revision);

    repo.git(&["checkout", "-q", "--orphan", "other"]);
    let rewritten = repo.write("a.yaml", "anew").commit("rewritten");
    assert_eq!(source.fetch().await.unwrap().revision, reverted.revision, "HEAD is elsewhere, main is not");
    repo.git(&["branch", "-f", "main", "other"]);
    assert_eq!(source.fetch().await.unwrap().revision.commit, rewritten);

    repo.git(&["checkout", "-q", "main"]);
    repo.git(&["pack-refs", "--all"]);
    repo.git(&["gc", "-q", "--prune=now"]);
    let packed = source.fetch().await.unwrap();
    assert_eq!(text(&*source, &packed, "a.yaml").await, "anew");
    let last = repo.write("a.yaml", "after packing").commit("loose again");
    assert_eq!(source.fetch().await.unwrap().revision.commit, last);
}

#[tokio::test]
async fn refs_by_every_name() {
    let (repo, state) = (Repo::new(), tempfile::tempdir().unwrap());
    let first = repo.write("a", "1").commit("first");
    repo.git(&["tag", "-a", "-m", "annotated", "v1"]);
    repo.git(&["branch", "feature/x"]);
    let second = repo.write("a", "2").commit("second");
    repo.git(&["tag", "main-tag"]);
    // A tag called like a branch: the branch is meant.
    repo.git(&["tag", "both", &first]);
    repo.git(&["branch", "both"]);
    for (reference, label, commit) in [
        ("main", "main", &second),
        ("refs/heads/main", "main", &second),
        ("feature/x", "feature/x", &first),
        ("v1", "v1", &first),
        ("refs/tags/v1", "v1", &first),
        ("both", "both", &second),
        ("refs/tags/both", "both", &first),
        (first.as_str(), "detached", &first),
        (&first[..9], "detached", &first),
    ] {
        let source = follow(repo.path(), Some(reference), state.path()).unwrap();
        let revision = source.fetch().await.unwrap().revision;
        assert_eq!((revision.reference.as_str(), &revision.commit), (label, commit), "{reference}");
    }
    let missing = follow(repo.path(), Some("gone"), state.path()).unwrap().fetch().await.unwrap_err();
    assert_eq!(missing.disposition, Disposition::Retry, "the branch may be pushed yet");
    assert!(missing.hint.unwrap().contains("main"), "the hint names the branches there are");
    for reference in ["-x", "--upload-pack=x", "a..b", "a b"] {
        let refused = follow(repo.path(), Some(reference), state.path()).err().unwrap();
        assert_eq!(refused.disposition, Disposition::Stalled, "{reference}");
    }
    repo.git(&["checkout", "-q", "--detach", &first]);
    let detached = follow(repo.path(), None, state.path()).unwrap();
    repo.git(&["checkout", "-q", "main"]);
    let revision = detached.fetch().await.unwrap().revision;
    assert_eq!((revision.reference.as_str(), &revision.commit), ("detached", &first), "pinned at start");
}

#[tokio::test]
async fn every_kind_of_clone() {
    let (repo, state) = (Repo::new(), tempfile::tempdir().unwrap());
    repo.write("a", "1").commit("first");
    let head = repo.write("a", "2").commit("second");
    let clones = tempfile::tempdir().unwrap();
    let url = format!("file://{}", repo.path().display());
    let clone = |name: &str, options: &[&str]| -> PathBuf {
        let to = clones.path().join(name);
        let mut args = vec!["clone", "-q"];
        args.extend_from_slice(options);
        args.extend_from_slice(&[&url, to.to_str().unwrap()]);
        repo.git(&args);
        to
    };
    let shallow = clone("shallow", &["--depth", "1"]);
    let bare = clone("bare", &["--bare"]);
    let no_checkout = clone("none", &["--no-checkout"]);
    let linked = clones.path().join("linked");
    repo.git(&["worktree", "add", "-q", "-b", "side", linked.to_str().unwrap()]);
    for (place, branch) in [(&shallow, "main"), (&bare, "main"), (&no_checkout, "main"), (&linked, "side")] {
        let source = follow(place, None, state.path()).unwrap();
        let snapshot = source.fetch().await.unwrap();
        assert_eq!(snapshot.revision.to_string(), format!("{branch}@sha1:{head}"), "{}", place.display());
        assert_eq!(text(&*source, &snapshot, "a").await, "2");
    }
    let linked_source = follow(&linked, None, state.path()).unwrap();
    linked_source.fetch().await.unwrap();
    let moved = Repo::at(&linked).write("a", "3").commit("in the linked work tree");
    assert_eq!(linked_source.fetch().await.unwrap().revision.commit, moved);
}

#[tokio::test]
async fn repositories_that_cannot_be_followed_say_what_to_do() {
    let state = tempfile::tempdir().unwrap();
    let nothing = tempfile::tempdir().unwrap();
    let error = follow(nothing.path(), None, state.path()).err().unwrap();
    assert!(error.hint.unwrap().contains("git init"));

    let empty = Repo::new();
    let source = follow(empty.path(), None, state.path()).unwrap();
    let error = source.fetch().await.unwrap_err();
    assert!(error.hint.unwrap().contains("commit something"));
    let first = empty.write("a", "1").commit("first");
    assert_eq!(source.fetch().await.unwrap().revision.to_string(), format!("main@sha1:{first}"));

    std::fs::create_dir(empty.path().join("below")).unwrap();
    let error = follow(&empty.path().join("below"), None, state.path()).err().unwrap();
    let root = empty.path().file_name().unwrap().to_str().unwrap();
    assert!(error.hint.unwrap().contains(root), "the hint names the root");

    let reftable = tempfile::tempdir().unwrap();
    empty.git(&["init", "-q", "--ref-format=reftable", reftable.path().to_str().unwrap()]);
    let error = follow(reftable.path(), None, state.path()).err().unwrap();
    assert!(error.hint.as_ref().unwrap().contains("git refs migrate"), "{}", error.chain());

    let sha256 = tempfile::tempdir().unwrap();
    empty.git(&["init", "-q", "--object-format=sha256", sha256.path().to_str().unwrap()]);
    let error = follow(sha256.path(), None, state.path()).err().unwrap();
    assert!(error.hint.as_ref().unwrap().contains("SHA-1"), "{}", error.chain());
}

#[tokio::test]
async fn symlinks_submodules_and_large_blobs_are_told_apart() {
    let (repo, state) = (Repo::new(), tempfile::tempdir().unwrap());
    repo.write("a", "1").write("large", &"x".repeat(2 << 20));
    symlink("/etc/passwd", repo.path().join("link")).unwrap();
    let commit = repo.commit("first");
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},module")]);
    repo.git(&["commit", "-q", "-m", "submodule"]);
    let source = follow(repo.path(), None, state.path()).unwrap();
    let snapshot = source.fetch().await.unwrap();
    let mode = |name: &str| snapshot.files[&path(name)].mode;
    assert_eq!((mode("a"), mode("link"), mode("module")), (Mode::File, Mode::Symlink, Mode::Submodule));
    assert_eq!(text(&*source, &snapshot, "link").await, "/etc/passwd", "the link itself, not its target");

    let large = snapshot.files[&path("large")].id;
    assert_eq!(source.sizes(&[large]).await.unwrap(), [2 << 20]);
    let error = source.read(&[large], 1 << 20).await.unwrap_err();
    assert_eq!(error.disposition, Disposition::Stalled);
    assert!(source.read(&[snapshot.files[&path("module")].id], 10).await.is_err());
}

#[tokio::test]
async fn changes_are_noticed_at_once() {
    let (repo, state) = (Repo::new(), tempfile::tempdir().unwrap());
    repo.write("a", "1").commit("first");
    let linked = tempfile::tempdir().unwrap();
    let linked = linked.path().join("linked");
    repo.git(&["worktree", "add", "-q", "-b", "side", linked.to_str().unwrap()]);
    for place in [repo.path(), linked.as_path()] {
        let source = follow(place, None, state.path()).unwrap();
        source.fetch().await.unwrap();
        // Whatever happens before the watch stands is found by comparing.
        Repo::at(place).write("a", "before the watch").commit("before");
        tokio::time::timeout(Duration::from_mins(1), source.changed()).await.unwrap();
        for round in 0..5 {
            source.fetch().await.unwrap();
            let waiting = tokio::spawn({
                let source = Arc::clone(&source);
                async move {
                    source.changed().await;
                    Instant::now()
                }
            });
            tokio::task::yield_now().await;
            let commit = Repo::at(place).write("a", &round.to_string()).commit("next");
            // Below the poll: an event told it.
            tokio::time::timeout(Duration::from_secs(4), waiting).await.unwrap().unwrap();
            assert_eq!(source.fetch().await.unwrap().revision.commit, commit);
        }
    }
}

#[tokio::test]
async fn checkouts_are_shared_by_contents_and_read_only() {
    let (repo, state) = (Repo::new(), tempfile::tempdir().unwrap());
    repo.write("tools/run.sh", "#!/bin/sh\necho hi\n").write("tools/lib/x", "1").write("other", "1");
    std::fs::set_permissions(repo.path().join("tools/run.sh"), Permissions::from_mode(0o755)).unwrap();
    symlink("/etc/passwd", repo.path().join("tools/link")).unwrap();
    repo.commit("first");
    let source = follow(repo.path(), None, state.path()).unwrap();
    let first = source.fetch().await.unwrap();
    let tools = path("tools");
    let folder = source.checkout_dir(&first, &tools).await.unwrap().unwrap();
    // Not by its own name: whoever forks meanwhile may hold what was just written, and the kernel
    // executes no file that somebody has open for writing.
    let ran = std::process::Command::new("sh").arg(folder.join("run.sh")).output().unwrap();
    assert_eq!(ran.stdout, b"hi\n");
    let mode = std::fs::metadata(folder.join("run.sh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o555);
    assert!(!folder.join("link").exists(), "symlinks are left out");
    assert!(!folder.join("other").exists());
    let mode = std::fs::metadata(folder.join("lib/x")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o444);

    repo.write("other", "2").commit("elsewhere");
    let second = source.fetch().await.unwrap();
    assert_eq!(source.checkout_dir(&second, &tools).await.unwrap().unwrap(), folder);
    repo.write("tools/lib/x", "2").commit("inside");
    let third = source.fetch().await.unwrap();
    let changed = source.checkout_dir(&third, &tools).await.unwrap().unwrap();
    assert_ne!(changed, folder);
    assert_eq!(std::fs::read_to_string(folder.join("lib/x")).unwrap(), "1", "who runs there keeps it");
    let whole = source.checkout(&third).await.unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(whole.join("tools/lib/x")).unwrap(), "2");
    assert!(whole.join("other").exists());
    source.keep_checkouts(&BTreeSet::new()).await;
    assert!(folder.exists(), "asked for a moment ago");
}

#[tokio::test]
async fn a_work_tree_shows_uncommitted_edits() {
    let (repo, state) = (Repo::new(), tempfile::tempdir().unwrap());
    repo.write("a", "1").write("b", "1").write("c", "1").write(".gitignore", "*.log\n").commit("first");
    let source = follow_worktree(repo.path(), state.path());
    let clean = source.fetch().await.unwrap();
    assert!(!clean.revision.dirty);
    assert_eq!(names(&clean), [".gitignore", "a", "b", "c"]);
    let same = source.fetch().await.unwrap();
    assert!(Arc::ptr_eq(&same.files, &clean.files));

    repo.write("a", "edited").write("new/file", "n").write("x.log", "ignored");
    std::fs::remove_file(repo.path().join("b")).unwrap();
    symlink("/etc/passwd", repo.path().join("link")).unwrap();
    let dirty = source.fetch().await.unwrap();
    assert!(dirty.revision.to_string().ends_with("+dirty"));
    assert_eq!(names(&dirty), [".gitignore", "a", "c", "link", "new/file"]);
    assert_eq!(dirty.files[&path("link")].mode, Mode::Symlink);
    assert_eq!(text(&*source, &dirty, "a").await, "edited");
    assert_eq!(text(&*source, &dirty, "c").await, "1");

    // The ids are Git's: the commit of the same files has the same listing.
    let listed = dirty.files.clone();
    repo.commit("all of it");
    let committed = source.fetch().await.unwrap();
    assert!(!committed.revision.dirty);
    assert_eq!(committed.files, listed);

    repo.write("a", "again");
    let before = source.fetch().await.unwrap();
    let entry = before.files[&path("a")];
    repo.write("a", "and again");
    let error = source.read(&[entry.id], 1 << 20).await.unwrap_err();
    assert_eq!(error.disposition, Disposition::Retry, "what was listed is no longer there");
    assert_eq!(source.checkout(&before).await.unwrap().as_deref(), Some(repo.path()));
}
