//! Tokens at rest: each encrypted (ChaCha20-Poly1305) under a key of the installation that is not in the
//! store, and bound to its user, server, issuer and declaration, so that none can be put in another's place.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};

use crate::ports::{PortError, PortResult, SecretValue, Store};
use crate::resource::Name;

/// Where the store has them.
const KEY: &str = "authorizations";
/// Authorizations kept: each has some KiB, and all are written together.
const MAX_KEPT: usize = 2000;

/// What can be told of an authorization: no secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorization {
    pub user: String,
    pub server: Name,
    pub issuer: String,
    /// When it was given or refreshed, and when its token ends: seconds since the epoch.
    pub since: u64,
    pub until: u64,
    /// What of the declaration it was given for, as a digest.
    pub(super) declared: String,
}

/// What is secret of it. It cannot be printed or serialised; [`Vault`] alone writes it, sealed.
#[derive(Clone)]
pub(super) struct Tokens {
    pub(super) access: SecretValue,
    pub(super) refresh: Option<SecretValue>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    about: Authorization,
    sealed: String,
}

pub(super) struct Vault {
    store: Arc<dyn Store>,
    key: LessSafeKey,
    records: Mutex<Vec<Record>>,
}

impl Vault {
    pub(super) fn open(store: Arc<dyn Store>, key: &[u8; 32]) -> PortResult<Self> {
        let unusable = || PortError::stalled("the key of the authorizations cannot be used");
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).map_err(|_| unusable())?;
        let records = match store.get(KEY)? {
            Some(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::error!(%error, "authorizations cannot be read; users are asked again");
                Vec::new()
            }),
            None => Vec::new(),
        };
        Ok(Self { store, key: LessSafeKey::new(key), records: Mutex::new(records) })
    }

    pub(super) fn list(&self) -> Vec<Authorization> {
        self.records().iter().map(|record| record.about.clone()).collect()
    }

    pub(super) fn find(&self, user: &str, server: &Name) -> Option<Authorization> {
        let records = self.records();
        records.iter().find(|record| is_of(record, user, server)).map(|record| record.about.clone())
    }

    /// The tokens, if nothing was changed since they were sealed.
    pub(super) fn tokens(&self, about: &Authorization) -> Option<Tokens> {
        let sealed = {
            let records = self.records();
            let record = records.iter().find(|record| record.about == *about)?;
            BASE64_STANDARD.decode(&record.sealed).ok()?
        };
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.key.open_in_place(nonce, Aad::from(bound(about)), &mut sealed).ok()?;
        let (access, refresh): (String, Option<String>) = serde_json::from_slice(opened).ok()?;
        Some(Tokens {
            access: SecretValue::new(access.into_bytes()),
            refresh: refresh.map(|refresh| SecretValue::new(refresh.into_bytes())),
        })
    }

    /// Keeps tokens in the place of those there were; they are on the disk when this returns.
    pub(super) fn keep(&self, about: Authorization, tokens: &Tokens) -> PortResult<()> {
        let failed = || PortError::stalled("failed to encrypt a token");
        let text = |secret: &SecretValue| String::from_utf8_lossy(secret.expose()).into_owned();
        let plain = (text(&tokens.access), tokens.refresh.as_ref().map(text));
        let mut sealed = serde_json::to_vec(&plain).map_err(|_| failed())?;
        let nonce: [u8; NONCE_LEN] = rand::random();
        let unique = Nonce::assume_unique_for_key(nonce);
        let key = &self.key;
        key.seal_in_place_append_tag(unique, Aad::from(bound(&about)), &mut sealed).map_err(|_| failed())?;
        let sealed = BASE64_STANDARD.encode([&nonce[..], &sealed].concat());
        let mut records = self.records();
        records.retain(|record| !is_of(record, &about.user, &about.server));
        if records.len() >= MAX_KEPT {
            return Err(PortError::stalled(format!(
                "{MAX_KEPT} authorizations are kept, which is as many as can be"
            ))
            .hint("revoke some with `toolcrib authorizations revoke`"));
        }
        records.push(Record { about, sealed });
        self.write(&records)
    }

    pub(super) fn forget(&self, user: &str, server: &Name) -> PortResult<()> {
        let mut records = self.records();
        let before = records.len();
        records.retain(|record| !is_of(record, user, server));
        if records.len() == before { Ok(()) } else { self.write(&records) }
    }

    fn write(&self, records: &[Record]) -> PortResult<()> {
        let text = serde_json::to_vec(records)
            .map_err(|error| PortError::stalled("failed to write authorizations").caused_by(error))?;
        self.store.put_durably(KEY, &text)
    }

    fn records(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_of(record: &Record, user: &str, server: &Name) -> bool {
    record.about.user == user && record.about.server == *server
}

/// What tokens are bound to.
fn bound(about: &Authorization) -> Vec<u8> {
    let Authorization { user, server, issuer, declared, since: _, until: _ } = about;
    serde_json::to_vec(&(user, server, issuer, declared)).unwrap_or_default()
}
