//! Tokens of an identity provider: JWTs, checked against the keys it publishes (OIDC).
//!
//! Checked are signature, issuer, audience, expiry and beginning, with a minute of clock skew, and scopes;
//! only asymmetric algorithms are taken. Keys are asked for again in the background while the known ones
//! serve, so that a slow provider holds up nobody but those whose key is new. Source: RFC 7519, RFC 8725,
//! RFC 8707, `OpenID` Connect Discovery 1.0.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use http::Method;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::Denied;
use crate::outgoing::{Client, Options};
use crate::policy::Principal;
use crate::ports::{PortError, PortResult};
use crate::resource::Digest;

/// What is taken: no shared secrets, and never `none`.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// How far apart the clocks of provider and daemon may be.
const SKEW: Duration = Duration::from_mins(1);
/// Keys are asked for again when they are so old: providers rotate them within days.
const FRESH: Duration = Duration::from_mins(10);
/// A token with an unknown key makes us ask again, at most so often: anybody can write such tokens.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// One answer of the provider.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of one answer: a set of keys has some KiB.
const MAX_ANSWER: usize = 1 << 20;
/// Keys in a set.
const MAX_KEYS: usize = 64;
/// Tokens whose check is remembered: RSA takes as long as the rest of a call.
const MAX_REMEMBERED: usize = 4096;
/// Groups and scopes of one principal, and audiences of a token.
const MAX_GROUPS: usize = 1000;
/// It is for somebody else.
const ELSEWHERE: Denied = Denied::Invalid("the token is for another audience");

/// Which provider, and what of its tokens is who.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerConfig {
    /// The `iss` of tokens, and where `/.well-known/openid-configuration` is found.
    pub issuer: String,
    /// The `aud` that names us.
    pub audience: String,
    /// The claim that is the principal's name: `sub`, `email`, …
    pub name_claim: String,
    /// The claim that lists its groups.
    pub groups_claim: String,
    /// What every token has to be good for.
    pub scopes: Vec<String>,
}

/// An identity provider.
pub struct Issuer(Arc<Inner>);

struct Inner {
    config: IssuerConfig,
    client: Client,
    keys: ArcSwap<Keys>,
    asked: tokio::sync::Mutex<Option<Instant>>,
    remembered: Mutex<HashMap<Digest, Remembered>>,
    /// Asks for keys while requests go on.
    asking: TaskTracker,
}

#[derive(Default)]
struct Keys {
    by_id: Vec<(Option<String>, Option<Algorithm>, DecodingKey)>,
    at: Option<Instant>,
}

struct Remembered {
    principal: Arc<Principal>,
    /// Whom it is for, of those that are us.
    audiences: Vec<String>,
    /// Seconds since the epoch; the skew is in it.
    until: u64,
}

#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

impl Issuer {
    /// # Errors
    /// When there can be no client for its address.
    pub fn new(config: IssuerConfig) -> PortResult<Self> {
        let client = Client::new(&Options { timeout: Some(TIMEOUT), ..Options::default() })?;
        Ok(Self(Arc::new(Inner {
            config,
            client,
            keys: ArcSwap::default(),
            asked: tokio::sync::Mutex::default(),
            remembered: Mutex::default(),
            asking: TaskTracker::new(),
        })))
    }

    pub(super) fn name(&self) -> &str {
        &self.0.config.issuer
    }

    pub(super) fn scopes(&self) -> &[String] {
        &self.0.config.scopes
    }

    /// Whose token it is, when it was checked lately. `resource` is the endpoint that is asked.
    pub(super) fn remembered(&self, token: &str, resource: &str) -> Option<Result<Arc<Principal>, Denied>> {
        let digest = Digest::of_bytes(token.as_bytes());
        let remembered = self.0.remembered();
        let found = remembered.get(&digest).filter(|found| found.until > seconds())?;
        let ours = found.audiences.iter().any(|audience| self.0.is_for(audience, resource));
        Some(if ours { self.0.scoped(&found.principal) } else { Err(ELSEWHERE) })
    }

    /// Whose token it is. `resource` is the endpoint that is asked.
    pub(super) async fn verify(&self, token: &str, resource: &str) -> Result<Arc<Principal>, Denied> {
        let header =
            jsonwebtoken::decode_header(token).map_err(|_| Denied::Invalid("the token is not known"))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(Denied::Invalid("the token is signed in a way that is not taken"));
        }
        let key = self.key(header.kid.as_deref(), header.alg).await?;
        let inner = &self.0;
        let claims = inner.claims(token, &key, header.alg, resource)?;
        let principal = Arc::new(inner.principal(&claims)?);
        let now = seconds();
        let until = claims.get("exp").and_then(Value::as_u64).unwrap_or(0).saturating_add(SKEW.as_secs());
        // No longer than keys are: one that was withdrawn must not live on in what it signed.
        let until = until.min(now.saturating_add(FRESH.as_secs()));
        let audiences = match claims.get("aud") {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(several)) => {
                several.iter().filter_map(Value::as_str).take(MAX_GROUPS).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        let mut remembered = inner.remembered();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.retain(|_, found| found.until > now);
            if remembered.len() >= MAX_REMEMBERED {
                remembered.clear();
            }
        }
        let digest = Digest::of_bytes(token.as_bytes());
        remembered.insert(digest, Remembered { principal: Arc::clone(&principal), audiences, until });
        drop(remembered);
        inner.scoped(&principal)
    }

    /// The key a token names, asked for when it is not known.
    async fn key(&self, id: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, Denied> {
        let inner = &self.0;
        let keys = inner.keys.load();
        if let Some(key) = keys.find(id, algorithm) {
            if keys.at.is_none_or(|at| at.elapsed() >= FRESH) && inner.asking.is_empty() {
                let asking = Arc::clone(inner);
                inner.asking.spawn(async move { asking.refresh().await });
            }
            return Ok(key);
        }
        drop(keys);
        let reached = inner.refresh().await;
        let keys = inner.keys.load();
        match keys.find(id, algorithm) {
            Some(key) => Ok(key),
            None if reached || keys.at.is_some() => Err(Denied::Invalid("the token's key is not known")),
            None => Err(Denied::Unavailable),
        }
    }
}

impl Inner {
    /// Whether an audience is us. An endpoint below ours is its own resource, and tokens can be for it
    /// alone (RFC 8707).
    fn is_for(&self, audience: &str, resource: &str) -> bool {
        let ours = self.config.audience.as_str();
        let below = resource.strip_prefix(ours).is_some_and(|rest| rest.starts_with(['/', '@']));
        audience == ours || (below && audience == resource)
    }

    /// A principal whose token is good for what is needed.
    fn scoped(&self, principal: &Arc<Principal>) -> Result<Arc<Principal>, Denied> {
        let all = self.config.scopes.iter().all(|scope| principal.scopes.contains(scope));
        if all { Ok(Arc::clone(principal)) } else { Err(Denied::Scope) }
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Remembered>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claims(
        &self,
        token: &str,
        key: &DecodingKey,
        algorithm: Algorithm,
        resource: &str,
    ) -> Result<Map<String, Value>, Denied> {
        use jsonwebtoken::errors::ErrorKind;
        let mut validation = Validation::new(algorithm);
        let ours = self.config.audience.as_str();
        let resource = if self.is_for(resource, resource) { resource } else { ours };
        validation.set_audience(&[ours, resource]);
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.validate_nbf = true;
        validation.leeway = SKEW.as_secs();
        let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, key, &validation);
        decoded.map(|token| token.claims).map_err(|error| {
            Denied::Invalid(match error.kind() {
                ErrorKind::ExpiredSignature => "the token has expired",
                ErrorKind::ImmatureSignature => "the token is not valid yet",
                ErrorKind::InvalidAudience => return ELSEWHERE,
                ErrorKind::InvalidIssuer => "the token is of another issuer",
                ErrorKind::MissingRequiredClaim(_) => "the token lacks one of `exp`, `iss` and `aud`",
                _ => "the token's signature does not hold",
            })
        })
    }

    /// An identity without a name is none.
    fn principal(&self, claims: &Map<String, Value>) -> Result<Principal, Denied> {
        let name = claims.get(&self.config.name_claim).and_then(Value::as_str).map(str::trim);
        let name = name.filter(|name| !name.is_empty());
        let name = name.ok_or(Denied::Invalid("the token does not say who it is for"))?;
        let scopes = ["scope", "scp"].into_iter().flat_map(|claim| words(claims.get(claim)));
        Ok(Principal {
            name: name.to_owned(),
            groups: words(claims.get(&self.config.groups_claim)).take(MAX_GROUPS).collect(),
            scopes: scopes.take(MAX_GROUPS).collect(),
        })
    }

    /// Asks for the keys, unless that was done just now. Keys that are known outlive a failure.
    async fn refresh(&self) -> bool {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|at| at.elapsed() < ASK_AGAIN) {
            return false;
        }
        let outcome = self.fetch().await;
        *asked = Some(Instant::now());
        match outcome {
            Ok(keys) => {
                self.keys.store(Arc::new(keys));
                self.remembered().clear();
                true
            }
            Err(error) => {
                tracing::warn!(error = %error.chain(), issuer = self.config.issuer, "failed to ask for the keys of tokens");
                false
            }
        }
    }

    async fn fetch(&self) -> PortResult<Keys> {
        let issuer = self.config.issuer.trim_end_matches('/');
        let found: Discovered = self.get(&format!("{issuer}/.well-known/openid-configuration")).await?;
        if found.issuer != self.config.issuer {
            return Err(PortError::stalled(format!("the provider calls itself `{}`", found.issuer))
                .hint("write its name in --oidc-issuer as it does"));
        }
        let set: JwkSet = self.get(&found.jwks_uri).await?;
        let key = |jwk: &jsonwebtoken::jwk::Jwk| {
            let algorithm = jwk.common.key_algorithm.and_then(|name| name.to_string().parse().ok());
            Some((jwk.common.key_id.clone(), algorithm, DecodingKey::from_jwk(jwk).ok()?))
        };
        let by_id = set.keys.iter().take(MAX_KEYS).filter_map(key).collect();
        Ok(Keys { by_id, at: Some(Instant::now()) })
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, url: &str) -> PortResult<T> {
        let failed = || PortError::retry("failed to ask the identity provider");
        let safe = url.starts_with("https://") || url.starts_with("http://127.0.0.1:");
        if !safe {
            return Err(failed().hint("its addresses have to begin with https://"));
        }
        let mut response =
            self.client.request(Method::GET, url)?.send().await.map_err(|error| failed().caused_by(error))?;
        if !response.status().is_success() {
            return Err(PortError::retry(format!("the identity provider answered {}", response.status())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failed().caused_by(error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(PortError::retry("the identity provider answered more than 1 MiB"));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|error| failed().caused_by(error))
    }
}

impl Keys {
    /// By the id a token names; a token that names none is of the only key there is.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let fits = |of: &Option<Algorithm>| of.is_none_or(|of| of == algorithm);
        let found = match id {
            Some(_) => self.by_id.iter().find(|(known, of, _)| known.as_deref() == id && fits(of)),
            None => self.by_id.first().filter(|(_, of, _)| self.by_id.len() == 1 && fits(of)),
        };
        found.map(|(_, _, key)| key.clone())
    }
}

/// A list of strings, or one string of words.
fn words(claim: Option<&Value>) -> impl Iterator<Item = String> {
    let words: Vec<String> = match claim {
        Some(Value::String(text)) => text.split_ascii_whitespace().map(str::to_owned).collect(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    words.into_iter()
}

#[expect(clippy::disallowed_methods, reason = "tokens expire by the clock")]
fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
