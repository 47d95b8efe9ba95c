//! What servers elsewhere are shown: headers with secrets in them, and tokens of OAuth 2.1.
//!
//! The client credentials grant: `POST` to the token endpoint with HTTP Basic (OAuth 2.1 section 4.2) or a
//! signed text ([`super::assertion`]), for the server's address (RFC 8707). Invariants: a secret goes to the endpoint it is declared for, a token to
//! its server, neither into an error or a log; a token that will soon expire is not used; however many
//! calls need one, one request is made.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;
use tokio::time::Instant;

use super::assertion::{KIND, assertion};
use super::grants::{Grants, Wanted, seconds};
use crate::desired::remote::Credentials as Declared;
use crate::outgoing::{Client, Options};
use crate::ports::{Credentials, Identities, Material, PortError, PortResult, Refusal, Secrets};
use crate::resource::Name;
use crate::resource::remote::{ClientKey, OAuth};
use crate::resource::value::Reference;

/// Authorization servers answer at once, or are not there.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer: tokens have some hundred, with many claims some thousand.
const MAX_ANSWER: usize = 64 << 10;
/// How long a token is used whose life is not said.
const LIFE: Duration = Duration::from_mins(5);
/// The longest life that is believed.
const MAX_LIFE: Duration = Duration::from_hours(24);
/// Before its end a token is asked for anew; at most half its life.
const EARLY: Duration = Duration::from_secs(30);
/// How long headers are sent before their secrets are read again.
const KEPT: Duration = Duration::from_secs(10);
/// Between two requests that failed, so that a server that refuses everything does not make a storm.
const PAUSE: Duration = Duration::from_secs(5);

/// Makes what servers are shown.
pub struct Presented {
    client: Client,
    secrets: Arc<dyn Secrets>,
    grants: Arc<Grants>,
}

impl Presented {
    /// # Errors
    /// When there is no TLS.
    pub fn new(secrets: Arc<dyn Secrets>, grants: Arc<Grants>) -> PortResult<Self> {
        let client = Client::new(&Options { timeout: Some(TIMEOUT), ..Options::default() })?;
        Ok(Self { client, secrets, grants })
    }

    /// What users authorized for themselves.
    pub fn grants(&self) -> &Arc<Grants> {
        &self.grants
    }

    /// What a server is shown as one user.
    pub fn of_user(&self, user: &str, wanted: &Wanted) -> Arc<dyn Credentials> {
        Arc::new(self.shown(&wanted.url, &wanted.declared, Some((user.to_owned(), wanted.clone()))))
    }

    fn shown(&self, url: &str, declared: &Arc<Declared>, person: Option<(String, Wanted)>) -> Shown {
        Shown {
            client: self.client.clone(),
            secrets: Arc::clone(&self.secrets),
            url: url.to_owned(),
            declared: Arc::clone(declared),
            kept: Mutex::default(),
            token: tokio::sync::Mutex::default(),
            person: person.map(|(user, wanted)| (Arc::clone(&self.grants), user, wanted)),
        }
    }
}

impl Identities for Presented {
    fn of(&self, server: &Name, url: &str, declared: &Arc<Declared>) -> PortResult<Arc<dyn Credentials>> {
        let person = declared.user.as_ref().and_then(|user| {
            let (server, url) = (server.clone(), url.to_owned());
            let wanted = Wanted { server, url, declared: Arc::clone(declared) };
            self.grants.know(&wanted);
            Some((user.list_as.clone()?, wanted))
        });
        let shown = self.shown(url, declared, person);
        // A secret that is missing is told at the start, not at the first call.
        shown.resolved()?;
        Ok(Arc::new(shown))
    }
}

/// What one server is shown.
struct Shown {
    client: Client,
    secrets: Arc<dyn Secrets>,
    url: String,
    declared: Arc<Declared>,
    kept: Mutex<Option<(HeaderMap, Instant)>>,
    /// Held while a token is asked for.
    token: tokio::sync::Mutex<Token>,
    /// As whom it is asked, where users authorize for themselves.
    person: Option<(Arc<Grants>, String, Wanted)>,
}

#[derive(Default)]
enum Token {
    #[default]
    None,
    Good {
        header: HeaderValue,
        until: Instant,
    },
    /// Asking failed, and is not tried before.
    Failed {
        why: String,
        until: Instant,
    },
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: String,
    expires_in: Option<u64>,
}

#[async_trait]
impl Credentials for Shown {
    async fn headers(&self) -> PortResult<HeaderMap> {
        let mut headers = self.declared_headers()?;
        if let Some(oauth) = &self.declared.oauth {
            headers.insert(AUTHORIZATION, self.bearer(oauth).await?);
        }
        if let Some((grants, user, wanted)) = &self.person {
            headers.insert(AUTHORIZATION, grants.bearer(user, wanted, None).await?);
        }
        Ok(headers)
    }

    async fn refused(&self, headers: &HeaderMap) -> bool {
        if let Some((grants, user, wanted)) = &self.person {
            let refused = headers.get(AUTHORIZATION);
            return grants.bearer(user, wanted, refused).await.is_ok_and(|now| Some(&now) != refused);
        }
        if self.declared.oauth.is_none() {
            // A secret may have been rotated meanwhile.
            return self.resolved().is_ok_and(|now| now != *headers);
        }
        let mut token = self.token.lock().await;
        let same =
            matches!(&*token, Token::Good { header, .. } if headers.get(AUTHORIZATION) == Some(header));
        if same {
            *token = Token::None;
        }
        !matches!(&*token, Token::Failed { .. })
    }

    fn forbidden(&self, challenge: &str) -> Refusal {
        match &self.person {
            Some((grants, user, wanted)) => grants.lacks(user, wanted, challenge),
            None => Refusal::Other,
        }
    }
}

impl Shown {
    /// The headers that are declared.
    fn declared_headers(&self) -> PortResult<HeaderMap> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((headers, _)) = kept.as_ref().filter(|(_, at)| at.elapsed() < KEPT) {
            return Ok(headers.clone());
        }
        drop(kept);
        self.resolved()
    }

    /// The same, with the secrets as they are now.
    fn resolved(&self) -> PortResult<HeaderMap> {
        let material = Material::resolve(&*self.secrets, &self.declared.env, &BTreeMap::new())?;
        let value = |name: &str| {
            let value = material.env.get(name)?;
            String::from_utf8(value.expose().to_vec()).ok()
        };
        let mut headers = HeaderMap::new();
        for header in self.declared.headers(&value) {
            let (name, text) =
                header.ok_or_else(|| PortError::stalled("a variable of a header is no text"))?;
            let unusable = || {
                PortError::stalled(format!("the value of header `{name}` cannot be sent"))
                    .hint("a header is one line of visible ASCII: look for a line break in a secret")
            };
            let name: HeaderName = name.parse().map_err(|_| unusable())?;
            let mut sent = HeaderValue::from_str(&text).map_err(|_| unusable())?;
            sent.set_sensitive(true);
            headers.insert(name, sent);
        }
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some((headers.clone(), Instant::now()));
        Ok(headers)
    }

    async fn bearer(&self, oauth: &OAuth) -> PortResult<HeaderValue> {
        let failed = |why: &str| {
            PortError::retry(format!("failed to get a token from `{}`", oauth.token_url))
                .caused_by(why.to_owned())
        };
        let mut token = self.token.lock().await;
        match &*token {
            Token::Good { header, until } if Instant::now() < *until => return Ok(header.clone()),
            Token::Failed { why, until } if Instant::now() < *until => return Err(failed(why)),
            _ => {}
        }
        match self.grant(oauth).await {
            Ok((header, life)) => {
                let until = Instant::now() + life.saturating_sub(EARLY.min(life / 2));
                *token = Token::Good { header: header.clone(), until };
                Ok(header)
            }
            Err(why) => {
                let error = failed(&why);
                *token = Token::Failed { why, until: Instant::now() + PAUSE };
                Err(error)
            }
        }
    }

    /// Who asks, with a secret.
    fn basic(&self, oauth: &OAuth, secret: &Reference) -> Result<HeaderValue, String> {
        let secret = self.secrets.resolve(&secret.secret).map_err(|error| error.operation)?;
        let secret =
            String::from_utf8(secret.expose().to_vec()).map_err(|_| "the client's secret is no text")?;
        // Each is encoded before they are joined (RFC 6749 section 2.3.1).
        let basic = BASE64_STANDARD.encode(format!("{}:{}", encoded(&oauth.client_id), encoded(&secret)));
        let mut basic =
            HeaderValue::from_str(&format!("Basic {basic}")).map_err(|error| error.to_string())?;
        basic.set_sensitive(true);
        Ok(basic)
    }

    /// The same with a key, as further members of the form.
    fn signed(&self, oauth: &OAuth, key: &ClientKey) -> Result<String, String> {
        let secret = self.secrets.resolve(&key.private_key.secret).map_err(|error| error.operation)?;
        let audience = key.audience.as_deref().unwrap_or(&oauth.token_url);
        let signed = assertion(&oauth.client_id, (&secret, key.key_id.as_deref()), audience, seconds())?;
        let [client, kind, signed] = [oauth.client_id.as_str(), KIND, &signed].map(encoded);
        Ok(format!("&client_id={client}&client_assertion_type={kind}&client_assertion={signed}"))
    }

    /// Asks for a token: what is sent, and how long it is good.
    async fn grant(&self, oauth: &OAuth) -> Result<(HeaderValue, Duration), String> {
        let mut form = format!(
            "grant_type=client_credentials&resource={}",
            encoded(oauth.resource.as_deref().unwrap_or(&self.url))
        );
        if !oauth.scopes.is_empty() {
            form.push_str("&scope=");
            form.push_str(&encoded(&oauth.scopes.join(" ")));
        }
        let mut request =
            self.client.request(Method::POST, &oauth.token_url).map_err(|error| error.chain())?;
        if let Some(secret) = &oauth.client_secret {
            request = request.header(AUTHORIZATION, self.basic(oauth, secret)?);
        } else if let Some(key) = &oauth.client_key {
            form.push_str(&self.signed(oauth, key)?);
        }
        let request = request
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(http::header::ACCEPT, "application/json")
            .body(form);
        let mut response = request.send().await.map_err(|error| reached(&error))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| reached(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(format!("its answer is longer than {MAX_ANSWER} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            return Err(refusal(status, &body));
        }
        let granted: Granted =
            serde_json::from_slice(&body).map_err(|_| "its answer is no token".to_owned())?;
        if !granted.token_type.eq_ignore_ascii_case("bearer") {
            return Err("its tokens are no bearer tokens".to_owned());
        }
        let mut header = HeaderValue::from_str(&format!("Bearer {}", granted.access_token))
            .map_err(|_| "its token cannot be sent in a header".to_owned())?;
        header.set_sensitive(true);
        Ok((header, granted.expires_in.map_or(LIFE, Duration::from_secs).min(MAX_LIFE)))
    }
}

/// What an endpoint says that gives no token: the code of RFC 6749 section 5.2, not its own words, which
/// may repeat what it was sent.
pub(super) fn refusal(status: http::StatusCode, body: &[u8]) -> String {
    const CODES: [&str; 11] = [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
        "temporarily_unavailable",
        // RFC 7591 section 3.2.2.
        "invalid_redirect_uri",
        "invalid_client_metadata",
        "invalid_software_statement",
    ];
    match error_code(body).filter(|code| CODES.contains(&code.as_str())) {
        Some(code) => format!("it answered {}: {code}", status.as_u16()),
        None => format!("it answered {}", status.as_u16()),
    }
}

/// The code of such an answer, as the endpoint wrote it.
pub(super) fn error_code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Refused {
        error: String,
    }
    serde_json::from_slice::<Refused>(body).ok().map(|refused| refused.error)
}

pub(super) fn reached(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "it cannot be reached"
    } else {
        "the connection broke off"
    };
    what.to_owned()
}

/// As in a form (`application/x-www-form-urlencoded`).
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => encoded.push(byte.into()),
            b' ' => encoded.push('+'),
            other => {
                // A `String` takes everything.
                let _ = write!(encoded, "%{other:02X}");
            }
        }
    }
    encoded
}
