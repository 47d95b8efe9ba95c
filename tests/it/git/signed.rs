//! Signatures of commits, made by `git` and `ssh-keygen` themselves.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use toolcrib::resource::signers::{Refusal, Signature, Signers};

use super::follow;
use super::repo::{Repo, git};

/// A pair of keys in files.
pub(crate) struct Key(PathBuf);

impl Key {
    pub(crate) fn new(folder: &Path, kind: &str) -> Self {
        let path = folder.join(format!("id-{kind}-{}", std::fs::read_dir(folder).unwrap().count()));
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", kind, "-N", "", "-C", "no comment", "-f"]).arg(&path);
        assert!(command.status().unwrap().success());
        Self(path)
    }

    /// A line of a file of allowed signers.
    pub(crate) fn allowed(&self, who: &str) -> String {
        format!("{who} {}", std::fs::read_to_string(self.0.with_added_extension("pub")).unwrap())
    }

    /// Commits everything, signed; the id of the commit.
    pub(crate) fn commit(&self, repo: &Repo, message: &str) -> String {
        let key = format!("user.signingkey={}", self.0.display());
        repo.git(&["add", "-A"]);
        repo.git(&["-c", "gpg.format=ssh", "-c", &key, "commit", "-q", "--allow-empty", "-S", "-m", message]);
        repo.git(&["rev-parse", "HEAD"])
    }

    /// Signs a text for something.
    fn sign(&self, namespace: &str, text: &str) -> String {
        let mut command = Command::new("ssh-keygen");
        command.args(["-Y", "sign", "-q", "-n", namespace, "-f"]).arg(&self.0);
        fed(command, text)
    }
}

fn fed(mut command: Command, text: &str) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// Makes a commit of these bytes what `main` names.
fn put(repo: &Repo, raw: &str) {
    let mut command = git(repo.path());
    command.args(["hash-object", "-t", "commit", "-w", "--stdin"]);
    repo.git(&["update-ref", "refs/heads/main", fed(command, raw).trim()]);
}

fn signature(repo: &Repo) -> Signature {
    let state = tempfile::tempdir().unwrap();
    let source = follow(repo.path(), Some("main"), state.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let snapshot = source.fetch().await.unwrap();
        source.signature(&snapshot).await.unwrap()
    })
}

fn why(signature: &Signature) -> &str {
    match signature {
        Signature::Unusable(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn signatures_of_git_are_known_by_their_keys() {
    let keys = tempfile::tempdir().unwrap();
    let repo = Repo::new();
    repo.write("a", "1").commit("plain");
    assert_eq!(signature(&repo), Signature::Absent);
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let (key, other) = (Key::new(keys.path(), kind), Key::new(keys.path(), kind));
        key.commit(&repo, kind);
        let signature = signature(&repo);
        let allowed = |key: &Key| Signers::parse(&key.allowed("ada@example.com")).unwrap();
        let (allowed, strangers) = (allowed(&key), allowed(&other));
        assert!(allowed.judge(&signature).unwrap().told().starts_with("ada@example.com (SHA256:"), "{kind}");
        assert!(matches!(strangers.judge(&signature), Err(Refusal::Stranger(_))), "{kind}");
    }
}

#[test]
fn a_signature_of_something_else_proves_nothing() {
    let keys = tempfile::tempdir().unwrap();
    let key = Key::new(keys.path(), "ed25519");
    let repo = Repo::new();
    repo.write("a", "1");
    let first = key.commit(&repo, "as signed");
    let raw = repo.git(&["cat-file", "commit", &first]) + "\n";
    put(&repo, &raw);
    assert!(matches!(signature(&repo), Signature::Good { .. }), "the same bytes are the same commit");

    let tree = repo.git(&["rev-parse", "HEAD^{tree}"]);
    repo.write("a", "2").commit("another tree");
    let other = repo.git(&["rev-parse", "HEAD^{tree}"]);
    for forged in [raw.replace("as signed", "as forged"), raw.replace(&tree, &other)] {
        put(&repo, &forged);
        assert_eq!(why(&signature(&repo)), "does not match the commit");
    }

    let plain = format!("tree {tree}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n");
    let with = |armoured: &str| format!("{plain}gpgsig {}\n\nx\n", armoured.trim_end().replace('\n', "\n "));
    put(&repo, &with(&key.sign("git", &format!("{plain}\nx\n"))));
    assert!(matches!(signature(&repo), Signature::Good { at: 1, .. }), "made by hand, and right");
    put(&repo, &with(&key.sign("file", &format!("{plain}\nx\n"))));
    assert_eq!(why(&signature(&repo)), "does not match the commit");
    put(&repo, &with("-----BEGIN PGP SIGNATURE-----\n\nxxxx\n-----END PGP SIGNATURE-----"));
    assert!(why(&signature(&repo)).contains("gpg.format ssh"));
    put(&repo, &with("-----BEGIN SSH SIGNATURE-----\nxxxx\n-----END SSH SIGNATURE-----"));
    assert_eq!(why(&signature(&repo)), "cannot be read");
}
