//! What the signature of a commit proves.
//!
//! Input: a commit of an object database. Output: a [`Signature`]: which key signed it, if one did.
//! Invariants: what is checked is the commit's own bytes, which name its tree by its hash: what is
//! served is what was signed. Only SSH signatures are checked; no program is started and nobody's
//! configuration read. Not here: whose key that is, and whether it counts.

use git2::{ErrorCode, Oid, Repository};
use ssh_key::{Algorithm, PublicKey, SshSig};

use super::objects::from_git;
use crate::ports::PortResult;
use crate::resource::signers::{NAMESPACE, Signature};

/// Bytes of a commit that is looked at: its message is read by people.
const MAX_COMMIT: usize = 1 << 20;

/// The signature of a commit.
pub(super) fn signature(repo: &Repository, commit: Oid) -> PortResult<Signature> {
    let failed = |error| from_git(format!("failed to read the signature of commit `{commit}`"), error);
    let (size, _) = repo.odb().and_then(|odb| odb.read_header(commit)).map_err(failed)?;
    if size > MAX_COMMIT {
        return Ok(Signature::Unusable(format!(
            "belongs to a commit of {size} bytes; the limit is {MAX_COMMIT}"
        )));
    }
    let at = repo.find_commit(commit).map_err(failed)?.time().seconds();
    match repo.extract_signature(&commit, None) {
        Ok((armoured, signed)) => Ok(check(&armoured, &signed, at)),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(Signature::Absent),
        Err(error) => Err(failed(error)),
    }
}

fn check(armoured: &[u8], signed: &[u8], at: i64) -> Signature {
    let unusable = |why: &str| Signature::Unusable(why.to_owned());
    if !armoured.trim_ascii_start().starts_with(b"-----BEGIN SSH SIGNATURE-----") {
        return unusable("is none of SSH, and others are not checked: sign with `git config gpg.format ssh`");
    }
    let Ok(signature) = SshSig::from_pem(armoured) else {
        return unusable("cannot be read");
    };
    let key = PublicKey::from(signature.public_key().clone());
    if matches!(key.algorithm(), Algorithm::Dsa) {
        return unusable("is made with a DSA key, which proves nothing any more");
    }
    // Checks the namespace too: a signature of a mail or a file is none of a commit.
    if key.verify(NAMESPACE, signed, &signature).is_err() {
        return unusable("does not match the commit");
    }
    match key.to_bytes() {
        Ok(key) => Signature::Good { key, at },
        Err(_) => unusable("has a key that cannot be written"),
    }
}
