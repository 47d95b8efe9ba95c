//! Tokens and registrations at rest: each encrypted (ChaCha20-Poly1305) under a key of the installation that
//! is not in the store. Tokens are bound to their user, server, issuer, client and declaration, registrations
//! to their issuer and redirect URI, so that none can be put in another's place.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};

use super::client::Shows;
use crate::ports::{PortError, PortResult, SecretValue, Store};
use crate::resource::Name;

/// Where the store has them.
const KEY: &str = "authorizations";
const REGISTRATIONS: &str = "clients";
/// Authorizations kept: each has some KiB, and all are written together.
const MAX_KEPT: usize = 2000;
/// Registrations kept, one for each authorization server; the oldest makes room.
const MAX_REGISTERED: usize = 256;

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
    /// To which client, as a digest.
    #[serde(default)]
    pub(super) client: String,
    /// What was asked for.
    #[serde(default)]
    pub(super) scopes: Vec<String>,
    /// How often it was asked to grow.
    #[serde(default)]
    pub(super) raised: u8,
}

/// As what an authorization server registered us.
#[derive(Clone)]
pub(super) struct Registration {
    pub(super) issuer: String,
    pub(super) redirect: String,
    /// When its secret ends, in seconds since the epoch.
    pub(super) until: Option<u64>,
    pub(super) id: String,
    pub(super) shows: Shows,
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

#[derive(Clone, Serialize, Deserialize)]
struct RegistrationRecord {
    issuer: String,
    redirect: String,
    until: Option<u64>,
    sealed: String,
}

pub(super) struct Vault {
    store: Arc<dyn Store>,
    key: LessSafeKey,
    records: Mutex<Vec<Record>>,
    registrations: Mutex<Vec<RegistrationRecord>>,
}

impl Vault {
    pub(super) fn open(store: Arc<dyn Store>, key: &[u8; 32]) -> PortResult<Self> {
        let unusable = || PortError::stalled("the key of the authorizations cannot be used");
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).map_err(|_| unusable())?;
        let records = Mutex::new(read(&*store, KEY)?);
        let registrations = Mutex::new(read(&*store, REGISTRATIONS)?);
        Ok(Self { store, key: LessSafeKey::new(key), records, registrations })
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
            records.iter().find(|record| record.about == *about)?.sealed.clone()
        };
        let (access, refresh): (String, Option<String>) = self.opened(&sealed, &bound(about))?;
        Some(Tokens {
            access: SecretValue::new(access.into_bytes()),
            refresh: refresh.map(|refresh| SecretValue::new(refresh.into_bytes())),
        })
    }

    /// Keeps tokens in the place of those there were; they are on the disk when this returns.
    pub(super) fn keep(&self, about: Authorization, tokens: &Tokens) -> PortResult<()> {
        let plain = (text(&tokens.access), tokens.refresh.as_ref().map(text));
        let sealed = self.sealed(&plain, &bound(&about))?;
        let mut records = self.records();
        records.retain(|record| !is_of(record, &about.user, &about.server));
        if records.len() >= MAX_KEPT {
            return Err(PortError::stalled(format!(
                "{MAX_KEPT} authorizations are kept, which is as many as can be"
            ))
            .hint("revoke some with `toolcrib authorizations revoke`"));
        }
        records.push(Record { about, sealed });
        self.write(KEY, &records)
    }

    pub(super) fn forget(&self, user: &str, server: &Name) -> PortResult<()> {
        let mut records = self.records();
        let before = records.len();
        records.retain(|record| !is_of(record, user, server));
        if records.len() == before { Ok(()) } else { self.write(KEY, &records) }
    }

    /// As what an authorization server knows us: one for each redirect URI we had.
    pub(super) fn registered(&self, issuer: &str) -> Vec<Registration> {
        let registrations = self.registrations().clone().into_iter();
        registrations.filter(|one| one.issuer == issuer).filter_map(|one| self.registration(one)).collect()
    }

    fn registration(&self, record: RegistrationRecord) -> Option<Registration> {
        let RegistrationRecord { issuer, redirect, until, sealed } = record;
        let bound = registration_bound(&issuer, &redirect, until);
        let (id, post, secret): (String, bool, Option<String>) = self.opened(&sealed, &bound)?;
        let secret = secret.map(|secret| SecretValue::new(secret.into_bytes()));
        let shows = match (secret, post) {
            (None, _) => Shows::Nothing,
            (Some(secret), false) => Shows::Basic(secret),
            (Some(secret), true) => Shows::Post(secret),
        };
        Some(Registration { issuer, redirect, until, id, shows })
    }

    /// Keeps a registration in the place of the one there was.
    pub(super) fn keep_registration(&self, of: &Registration) -> PortResult<()> {
        let (post, secret) = match &of.shows {
            Shows::Nothing => (false, None),
            Shows::Basic(secret) => (false, Some(text(secret))),
            Shows::Post(secret) => (true, Some(text(secret))),
        };
        let bound = registration_bound(&of.issuer, &of.redirect, of.until);
        let sealed = self.sealed(&(&of.id, post, secret), &bound)?;
        let mut registrations = self.registrations();
        registrations.retain(|one| one.issuer != of.issuer || one.redirect != of.redirect);
        if registrations.len() >= MAX_REGISTERED {
            registrations.remove(0);
        }
        let (issuer, redirect) = (of.issuer.clone(), of.redirect.clone());
        registrations.push(RegistrationRecord { issuer, redirect, until: of.until, sealed });
        self.write(REGISTRATIONS, &registrations)
    }

    /// Forgets the registration with this id.
    pub(super) fn forget_registration(&self, issuer: &str, id: &str) -> PortResult<()> {
        let found = self.registered(issuer).into_iter().find(|one| one.id == id);
        let Some(found) = found else { return Ok(()) };
        let mut registrations = self.registrations();
        registrations.retain(|one| one.issuer != issuer || one.redirect != found.redirect);
        self.write(REGISTRATIONS, &registrations)
    }

    fn sealed(&self, plain: &impl Serialize, bound: &[u8]) -> PortResult<String> {
        let failed = || PortError::stalled("failed to encrypt an authorization");
        let mut sealed = serde_json::to_vec(plain).map_err(|_| failed())?;
        let nonce: [u8; NONCE_LEN] = rand::random();
        let unique = Nonce::assume_unique_for_key(nonce);
        let key = &self.key;
        key.seal_in_place_append_tag(unique, Aad::from(bound), &mut sealed).map_err(|_| failed())?;
        Ok(BASE64_STANDARD.encode([&nonce[..], &sealed].concat()))
    }

    /// What was sealed, if nothing of it or of what it is bound to was changed since.
    fn opened<T: serde::de::DeserializeOwned>(&self, sealed: &str, bound: &[u8]) -> Option<T> {
        let sealed = BASE64_STANDARD.decode(sealed).ok()?;
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.key.open_in_place(nonce, Aad::from(bound), &mut sealed).ok()?;
        serde_json::from_slice(opened).ok()
    }

    fn write(&self, key: &str, records: &[impl Serialize]) -> PortResult<()> {
        let text = serde_json::to_vec(records)
            .map_err(|error| PortError::stalled("failed to write authorizations").caused_by(error))?;
        self.store.put_durably(key, &text)
    }

    fn records(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn registrations(&self) -> MutexGuard<'_, Vec<RegistrationRecord>> {
        self.registrations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read<T: serde::de::DeserializeOwned>(store: &dyn Store, key: &str) -> PortResult<Vec<T>> {
    let Some(bytes) = store.get(key)? else { return Ok(Vec::new()) };
    Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        tracing::error!(%error, key, "authorizations cannot be read; users are asked again");
        Vec::new()
    }))
}

fn text(secret: &SecretValue) -> String {
    String::from_utf8_lossy(secret.expose()).into_owned()
}

fn is_of(record: &Record, user: &str, server: &Name) -> bool {
    record.about.user == user && record.about.server == *server
}

/// What tokens are bound to.
fn bound(about: &Authorization) -> Vec<u8> {
    let Authorization { user, server, issuer, declared, client, .. } = about;
    serde_json::to_vec(&(user, server, issuer, declared, client)).unwrap_or_default()
}

/// What a registration is bound to.
fn registration_bound(issuer: &str, redirect: &str, until: Option<u64>) -> Vec<u8> {
    serde_json::to_vec(&(REGISTRATIONS, issuer, redirect, until)).unwrap_or_default()
}
