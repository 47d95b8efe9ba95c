//! Whether a revision is signed by somebody who may: before anything in it is read, and once more by
//! what it says itself.
//!
//! Invariants: the floor's signers count for every revision; those of the revision taken last count
//! for the next one, whatever that says; the revision that names signers first has to be signed by
//! one of them. What is not taken changes nothing: not the rules, not who may sign.

use super::Reconciler;
use crate::desired::Desired;
use crate::live::Trusted;
use crate::manifest::Snapshot;
use crate::ports::{PortError, PortResult};
use crate::resource::Revision;
use crate::resource::signers::{Signature, Signer, Signers};

const HINT: &str = "sign it with the key of somebody who may (`git commit -S`, `gpg.format ssh`), or go back to a \
                    commit that is signed";

impl Reconciler {
    /// Looks at the signature of a revision that is to be read.
    ///
    /// # Errors
    /// When somebody has to have signed it and did not.
    pub(super) async fn verify(&mut self, snapshot: &Snapshot) -> PortResult<Signature> {
        let signature = self.ports.source.signature(snapshot).await?;
        self.unverified = true;
        if let Some(signers) = &self.floor.signers {
            judge(signers, "--verify-signers", &signature, &snapshot.revision)?;
        }
        // The repository's own signers are about what others commit, not about files of this machine
        // that somebody here asked for by --worktree. The floor, above, is about both.
        if signature != Signature::Uncommitted
            && let Some(trusted) = &self.inventory.trusted
            && let Some(signers) = &trusted.signers
            && trusted.revision.commit != snapshot.revision.commit
        {
            judge(signers, "the revision applied before", &signature, &snapshot.revision)?;
        }
        self.unverified = false;
        Ok(signature)
    }

    /// After a start: what was taken last, when the newest revision is not.
    pub(super) async fn fall_back(&mut self, refused: &Snapshot) {
        let nothing_yet = self.snapshot.is_none() && self.unverified;
        let Some(trusted) = self.inventory.trusted.clone().filter(|_| nothing_yet) else { return };
        if trusted.revision.commit == refused.revision.commit {
            return;
        }
        let read = match self.ports.source.recall(&trusted.revision).await {
            Ok(Some(snapshot)) => Box::pin(self.read(snapshot)).await,
            Ok(None) => return,
            Err(error) => Err(error),
        };
        match read {
            Ok(()) => {
                tracing::info!(revision = %trusted.revision, "the revision taken last is served meanwhile");
                self.ask_questions();
                self.publish().await;
            }
            Err(error) => {
                tracing::warn!(error = %error.chain(), "the revision taken last cannot be read any more");
            }
        }
        self.unverified = true;
    }

    /// Whether the revision keeps what it says itself: the first that names signers is signed by one.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn vouched(&self, desired: &Desired) -> PortResult<()> {
        let Some(signers) = &desired.signers else { return Ok(()) };
        let trusted = self.inventory.trusted.as_ref();
        let settled = trusted.is_some_and(|trusted| {
            trusted.signers.is_some() || trusted.revision.commit == desired.revision.commit
        });
        if settled || self.signature == Signature::Uncommitted {
            return Ok(());
        }
        judge(signers, "the commit itself, which brings `verify` in", &self.signature, &desired.revision)
    }

    /// Notes that a revision is taken; whether that changed anything.
    pub(super) fn trust(&mut self, desired: &Desired) -> bool {
        if self.signature == Signature::Uncommitted {
            self.status.signed_by = None;
            return false;
        }
        let last = self.inventory.trusted.as_ref();
        let asked = [
            self.floor.signers.as_ref(),
            desired.signers.as_ref(),
            last.and_then(|last| last.signers.as_ref()),
        ];
        let signer = asked.into_iter().flatten().find_map(|signers| signers.judge(&self.signature).ok());
        let same = last.is_some_and(|last| last.revision.commit == desired.revision.commit);
        // Those who count from this very revision on may be others than those who signed it.
        if signer.is_some() || !same {
            self.status.signed_by = signer.map(Signer::told);
        }
        let now = Trusted { revision: desired.revision.clone(), signers: desired.signers.clone() };
        if last == Some(&now) {
            return false;
        }
        if let Some(last) = last.filter(|last| last.signers != now.signers) {
            tracing::warn!(
                revision = %now.revision,
                before = last.signers.is_some(),
                after = now.signers.is_some(),
                "who has to sign commits changed"
            );
        }
        self.inventory.trusted = Some(now);
        true
    }
}

fn judge(signers: &Signers, whose: &str, signature: &Signature, commit: &Revision) -> PortResult<()> {
    signers.judge(signature).map(|_| ()).map_err(|refusal| {
        PortError::stalled(format!(
            "`{commit}` is not followed: it {refusal}; who may sign is said by {whose}"
        ))
        .hint(HINT)
    })
}
