//! What users authorize for themselves: the authorization code grant with PKCE, one token for each user and
//! server.
//!
//! A user opens an address of ours, in the browser that is then bound to it by a cookie; the provider sends
//! that browser back with a code. Invariants: whoever opens the address is who asked (off loopback by their
//! token); a state is used once, by the browser it was given to, for minutes; a token is sent to its server
//! and its provider only, and is in no page, log or error; one refresh at a time. Sources: MCP 2025-11-25
//! `client/elicitation` (URL mode), `basic/authorization`; RFC 7636, 9207.

mod bearer;
mod client;
mod page;
mod provider;
mod scopes;
#[cfg(test)]
mod tests;
mod token;
mod vault;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use self::client::Known;
use self::provider::Endpoints;
use self::vault::Vault;
use super::Access;
use crate::desired::remote::Credentials as Declared;
use crate::outgoing::{Client, Options};
use crate::ports::{PortError, PortResult, Secrets, Store};
use crate::resource::remote::UserOAuth;
use crate::resource::{Digest, Name};

pub use self::page::pages;
pub use self::vault::Authorization;

/// Providers answer at once, or are not there.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long an address to open is good: people read, and log in.
const LIFE: Duration = Duration::from_mins(10);
/// Addresses that wait to be opened: one for each user and server.
const MAX_PENDING: usize = 1024;
/// How long what was found out about a provider is used.
const FRESH: Duration = Duration::from_hours(1);

/// A server whose users authorize for themselves.
#[derive(Clone)]
pub struct Wanted {
    pub server: Name,
    pub url: String,
    pub declared: Arc<Declared>,
}

impl Wanted {
    /// None: it is not declared so.
    fn user(&self) -> Option<&UserOAuth> {
        self.declared.user.as_ref()
    }

    /// What tokens are for: as declared, or exactly as the server publishes it (RFC 8707, RFC 9728).
    fn resource<'a>(&'a self, endpoints: &'a Endpoints) -> &'a str {
        let declared = self.user().and_then(|user| user.resource.as_deref());
        declared.or(endpoints.resource.as_deref()).unwrap_or(&self.url)
    }

    /// Another server, provider or client is another authorization.
    fn digest(&self) -> String {
        let user = self.user();
        let of =
            (&self.url, user.map(|user| (&user.client_id, &user.provider, &user.scopes, &user.resource)));
        match user.and_then(|user| user.issuer.as_ref()) {
            None => Digest::of("authorization", &of),
            Some(issuer) => Digest::of("authorization", &(of, issuer)),
        }
        .to_string()
    }
}

/// Somebody who has been asked to authorize.
struct Pending {
    /// In the address that is opened.
    id: String,
    user: String,
    wanted: Wanted,
    since: Instant,
    /// From when it was opened: what the redirect has to bring back.
    opened: Option<Opened>,
}

struct Opened {
    state: String,
    verifier: String,
    /// The digest of the cookie.
    browser: Digest,
    endpoints: Endpoints,
    known: Known,
    scopes: Vec<String>,
}

/// Where the endpoint is, for browsers, and who has to say who they are.
struct Place {
    /// Scheme and authority.
    origin: String,
    access: Option<Arc<Access>>,
}

/// Scopes, and when a call was refused last for want of them.
type Lacking = (Vec<String>, Instant);

/// Held by whoever asks a provider for one user and server.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// All authorizations.
pub struct Grants {
    client: Client,
    secrets: Arc<dyn Secrets>,
    vault: Vault,
    place: OnceLock<Place>,
    pending: Mutex<Vec<Pending>>,
    /// By user and server: held while tokens are refreshed.
    turns: Mutex<HashMap<(String, Name), Turn>>,
    /// Servers that were spoken of.
    known: Mutex<HashMap<Name, Wanted>>,
    found: Mutex<HashMap<String, (Endpoints, Instant)>>,
    /// Held while we register as a client.
    registering: tokio::sync::Mutex<()>,
    /// Scopes that servers refused users for want of, and since when, until they are asked for or old.
    lacking: Mutex<HashMap<(String, Name), Lacking>>,
    /// Exchanges with providers that are finished whoever waits for them.
    tasks: TaskTracker,
    /// Somebody authorized a server that is listed as them.
    listed: tokio::sync::Notify,
}

impl Grants {
    /// `key` encrypts tokens, and is kept apart from the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn new(secrets: Arc<dyn Secrets>, store: Arc<dyn Store>, key: &[u8; 32]) -> PortResult<Self> {
        Ok(Self {
            client: Client::new(&Options { timeout: Some(TIMEOUT), ..Options::default() })?,
            secrets,
            vault: Vault::open(store, key)?,
            place: OnceLock::new(),
            pending: Mutex::default(),
            turns: Mutex::default(),
            known: Mutex::default(),
            found: Mutex::default(),
            registering: tokio::sync::Mutex::default(),
            lacking: Mutex::default(),
            tasks: TaskTracker::new(),
            listed: tokio::sync::Notify::new(),
        })
    }

    /// Says where browsers reach [`pages`]. Without `access` everybody is the local user.
    pub fn serve_at(&self, public: &str, access: Option<Arc<Access>>) {
        let uri: http::Uri = public.parse().unwrap_or_default();
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let origin = format!("{}://{authority}", uri.scheme_str().unwrap_or("http"));
        // Said once, when the daemon is put together.
        drop(self.place.set(Place { origin, access }));
    }

    /// Remembers a server, and forgets what was authorized for what it was before.
    pub fn know(&self, wanted: &Wanted) {
        lock(&self.known).insert(wanted.server.clone(), wanted.clone());
        let declared = wanted.digest();
        let stale = |about: &Authorization| about.server == wanted.server && about.declared != declared;
        for about in self.vault.list().into_iter().filter(stale) {
            self.forget(&about.user, &about.server);
        }
    }

    fn forget(&self, user: &str, server: &Name) {
        lock(&self.lacking).remove(&(user.to_owned(), server.clone()));
        if let Err(error) = self.vault.forget(user, server) {
            tracing::error!(%server, user, error = %error.chain(), "an authorization is not deleted");
        }
    }

    /// Whether this user has authorized this server.
    pub fn has(&self, user: &str, wanted: &Wanted) -> bool {
        let found = self.vault.find(user, &wanted.server);
        match found {
            Some(about) if about.declared == wanted.digest() => true,
            Some(about) => {
                self.forget(&about.user, &about.server);
                false
            }
            None => false,
        }
    }

    /// The id and the address at which a user authorizes a server; the same until it is used or old.
    ///
    /// # Errors
    /// When too many wait, or nothing is served.
    pub fn address(&self, user: &str, wanted: &Wanted) -> PortResult<(String, String)> {
        let place = self.place.get().ok_or_else(|| PortError::retry("nothing is served yet"))?;
        let mut pending = lock(&self.pending);
        pending.retain(|one| one.since.elapsed() < LIFE);
        let same = |one: &&Pending| {
            one.user == user && one.wanted.server == wanted.server && one.wanted.digest() == wanted.digest()
        };
        let id = match pending.iter().find(same) {
            Some(one) => one.id.clone(),
            None if pending.len() >= MAX_PENDING => {
                return Err(PortError::retry("too many users are asked to authorize at the same time"));
            }
            None => {
                let (id, since) = (random(), Instant::now());
                let (user, wanted) = (user.to_owned(), wanted.clone());
                pending.push(Pending { id: id.clone(), user, wanted, since, opened: None });
                id
            }
        };
        let address = format!("{}/oauth/start/{id}", place.origin);
        Ok((id, address))
    }

    /// As [`Self::address`], of a server by its name, once it is known that it leads somewhere.
    ///
    /// # Errors
    /// When there is no such server, its provider cannot be asked, or does not know us.
    pub async fn begin(&self, user: &str, server: &Name) -> PortResult<String> {
        let wanted = lock(&self.known).get(server).cloned().ok_or_else(|| {
            PortError::stalled(format!("no server `{server}` is served whose users authorize for themselves"))
                .hint("it needs `userOAuth`; `toolcrib get` lists what is declared")
        })?;
        let failed = |why: String| {
            PortError::retry(format!("users cannot authorize server `{server}`")).caused_by(why)
        };
        let endpoints = self.endpoints(&wanted).await.map_err(failed)?;
        self.known(&wanted, &endpoints).await.map_err(|error| failed(error.why()))?;
        Ok(self.address(user, &wanted)?.1)
    }

    /// Waits until somebody authorized a server that is listed as them.
    pub async fn listed(&self) {
        self.listed.notified().await;
    }

    pub fn list(&self) -> Vec<Authorization> {
        self.vault.list()
    }

    async fn endpoints(&self, wanted: &Wanted) -> Result<Endpoints, String> {
        let user = wanted.user().ok_or("its users do not authorize for themselves")?;
        let key = wanted.digest();
        let found = lock(&self.found).get(&key).filter(|(_, at)| at.elapsed() < FRESH).cloned();
        if let Some((endpoints, _)) = found {
            return Ok(endpoints);
        }
        let endpoints = self.discover(wanted, user).await?;
        let mut found = lock(&self.found);
        found.retain(|_, (_, at)| at.elapsed() < FRESH);
        found.insert(key, (endpoints.clone(), Instant::now()));
        Ok(endpoints)
    }

    fn turn(&self, user: &str, server: &Name) -> Turn {
        let mut turns = lock(&self.turns);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry((user.to_owned(), server.clone())).or_default())
    }
}

/// 256 bits of the operating system's generator, as it stands in an address.
fn random() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::disallowed_methods, reason = "tokens expire by the clock, also over a restart")]
pub(super) fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
