//! Task ids as clients get them: which server's task it is, sealed, so that nobody can make one up or
//! use another's.
//!
//! It is HMAC-SHA256 under a key of the installation over what is inside and who called. What is inside
//! can be read: the server's own id, which a client of the server itself would be given. It holds no
//! address: the instance is told by a digest. How long a task lives is for its server to say.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac as _;
use serde::{Deserialize, Serialize};

use super::super::bridge::seal::{derived, keyed};
use crate::live::InstanceId;
use crate::policy::Principal;
use crate::resource::Digest;

const MAC: usize = 32;
/// Bytes of a server's own id: it travels in a header, where much more does not fit.
pub(super) const MAX_OWN: usize = 1024;

/// A task, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TaskId {
    pub(super) server: String,
    /// See [`mark`].
    pub(super) instance: String,
    /// The server's own name of the tool.
    pub(super) tool: String,
    /// Bytes that its result may have (rule `limits`).
    pub(super) most: Option<u64>,
    /// The server's own id.
    pub(super) own: String,
}

/// An instance, by a digest.
pub(in crate::gateway) fn mark(instance: &InstanceId) -> String {
    Digest::of_bytes(instance.0.as_bytes()).short()
}

/// The key, made of the key of the installation.
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn new(installation: &[u8; 32]) -> Self {
        Self(derived(installation, b"toolcrib task 1"))
    }

    /// The same task of the same user is always the same text.
    pub(super) fn seal(&self, id: &TaskId, user: &Principal) -> String {
        // Of strings and a number, it is JSON whatever they are.
        let mut bytes = serde_json::to_vec(id).unwrap_or_default();
        let mac = self.mac(&bytes, user).finalize().into_bytes();
        bytes.extend_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What is inside, when it was sealed here for the same user.
    pub(super) fn open(&self, text: &str, user: &Principal) -> Option<TaskId> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (inside, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC)?)?;
        self.mac(inside, user).verify_slice(mac).ok()?;
        serde_json::from_slice(inside).ok()
    }

    fn mac(&self, inside: &[u8], user: &Principal) -> hmac::Hmac<sha2::Sha256> {
        let mut mac = keyed(&self.0);
        for part in [user.name.as_bytes(), inside] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_opens_only_as_it_was_sealed_and_for_whom() {
        let key = Key::new(&[7; 32]);
        let named = |name: &str| Principal { name: name.to_owned(), ..Principal::default() };
        let id = TaskId {
            server: "s".to_owned(),
            instance: mark(&InstanceId("remote https://x.test/?k=secret".to_owned())),
            tool: "t".to_owned(),
            most: Some(9),
            own: "ä\"1".to_owned(),
        };
        let text = key.seal(&id, &named("ada"));
        assert_eq!(key.open(&text, &named("ada")), Some(id.clone()));
        assert_eq!(key.seal(&id, &named("ada")), text);
        assert_eq!(key.open(&text, &named("eve")), None);
        assert_eq!(Key::new(&[8; 32]).open(&text, &named("ada")), None, "another installation");
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(bytes).expect("ASCII");
            // The last character has bits that say nothing.
            assert!(key.open(&forged, &named("ada")).is_none_or(|_| at == text.len() - 1), "{at}");
        }
        for nonsense in ["", "AAAA", "?", "gate-test"] {
            assert_eq!(key.open(nonsense, &named("ada")), None);
        }
        let inside = URL_SAFE_NO_PAD.decode(&text).expect("Base64");
        assert!(!String::from_utf8_lossy(&inside).contains("secret"));
    }
}
