//! Whose commits are followed, as `Crib.verify` names them.

use std::sync::Arc;

use super::context::Context;
use super::files;
use super::place::Findings;
use crate::manifest::{Declared, MAX_MANIFEST_BYTES};
use crate::resource::crib::Verify;
use crate::resource::signers::Signers;

const FIELD: [&str; 2] = ["verify", "allowedSigners"];

/// None: it cannot be said, and there is a fault.
pub(super) fn read(
    context: &Context<'_>,
    declared: &Arc<Declared>,
    verify: &Verify,
    findings: &mut Findings<'_>,
) -> Option<Signers> {
    let (path, entry) = files::file(context.snapshot, declared, &FIELD, &verify.allowed_signers, findings)?;
    let Some(bytes) = context.resolutions.blobs.get(&entry.id) else {
        // All that is asked for is read, but what is larger.
        let message = format!("`{path}` has more than {} MiB", MAX_MANIFEST_BYTES >> 20);
        findings.error(&FIELD, "too-large", message, "name those who sign commits of this repository alone");
        return None;
    };
    let read = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned());
    match read.and_then(|text| Signers::parse(text).map_err(|fault| fault.to_string())) {
        Ok(signers) => Some(signers),
        Err(why) => {
            let hint = "write a line `name@example.com ssh-ed25519 AAAA…` for everybody who signs; the key is in \
                        the file that ends in `.pub`";
            findings.error(&FIELD, "invalid-signers", format!("`{path}`: {why}"), hint);
            None
        }
    }
}
