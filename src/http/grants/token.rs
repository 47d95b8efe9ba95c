//! What a token endpoint is asked: codes and refresh tokens for tokens, and the end of them.
//!
//! Sources: RFC 6749 and 7636 (codes and tokens), RFC 8707 (what for), RFC 7009 (revocation).

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;

use super::super::presented::{encoded, error_code, reached, refusal};
use super::Grants;
use super::client::{Known, Shows};
use super::provider::{Endpoints, read};
use super::vault::Tokens;
use crate::ports::SecretValue;

/// How long a token is used whose life is not said.
const LIFE: Duration = Duration::from_mins(5);
/// The longest life that is believed.
const MAX_LIFE: Duration = Duration::from_hours(24);

/// What a token endpoint gave.
pub(super) struct Granted {
    pub(super) tokens: Tokens,
    pub(super) life: Duration,
}

/// Why a token endpoint gave nothing.
pub(super) enum Failed {
    /// It said no: what was shown is not good any more.
    Refused(String),
    /// It does not know us (any more).
    Stranger(String),
    /// It could not be asked, or not answer.
    Unavailable(String),
}

impl Failed {
    pub(super) fn why(self) -> String {
        match self {
            Self::Refused(why) | Self::Stranger(why) | Self::Unavailable(why) => why,
        }
    }
}

impl Grants {
    /// Asks a token endpoint. `grant` are the members of the form besides those that say who asks and for what.
    pub(super) async fn ask(
        &self,
        endpoints: &Endpoints,
        known: &Known,
        resource: &str,
        grant: &[(&str, &str)],
    ) -> Result<Granted, Failed> {
        #[derive(Deserialize)]
        struct Given {
            access_token: String,
            token_type: String,
            expires_in: Option<u64>,
            refresh_token: Option<String>,
        }
        let members = [grant, &[("resource", resource)]].concat();
        let (status, body) =
            self.post(&endpoints.token, known, &members).await.map_err(Failed::Unavailable)?;
        if !status.is_success() {
            let why = refusal(status, &body);
            let code = error_code(&body);
            // Without a code it was not the token endpoint that spoke, but something before it.
            return Err(match code.as_deref() {
                Some("invalid_client") => Failed::Stranger(why),
                Some(_) if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                    Failed::Refused(why)
                }
                _ => Failed::Unavailable(why),
            });
        }
        let unusable = |why: &str| Failed::Unavailable(why.to_owned());
        let given: Given = serde_json::from_slice(&body).map_err(|_| unusable("its answer is no token"))?;
        let sendable = HeaderValue::from_str(&given.access_token).is_ok();
        if !given.token_type.eq_ignore_ascii_case("bearer") || !sendable {
            return Err(unusable("its tokens are no bearer tokens"));
        }
        let secret = |text: String| SecretValue::new(text.into_bytes());
        Ok(Granted {
            tokens: Tokens { access: secret(given.access_token), refresh: given.refresh_token.map(secret) },
            life: given.expires_in.map_or(LIFE, Duration::from_secs).min(MAX_LIFE),
        })
    }

    /// Tells the provider that a token is not to be used any more (RFC 7009). False: it revokes none of this
    /// kind (section 2.2.1).
    pub(super) async fn tell_revoked(
        &self,
        endpoint: &str,
        known: &Known,
        (token, kind): (&str, &str),
    ) -> Result<bool, String> {
        let members = [("token", token), ("token_type_hint", kind)];
        let (status, body) = self.post(endpoint, known, &members).await?;
        if status.is_success() {
            return Ok(true);
        }
        let other_kind = error_code(&body).as_deref() == Some("unsupported_token_type");
        if other_kind { Ok(false) } else { Err(refusal(status, &body)) }
    }

    /// Sends a form as a client (RFC 6749, section 2.3.1).
    async fn post(
        &self,
        url: &str,
        known: &Known,
        members: &[(&str, &str)],
    ) -> Result<(StatusCode, Vec<u8>), String> {
        let mut request = self.client.request(Method::POST, url).map_err(|error| error.chain())?;
        let form = members.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
        let mut form = form.collect::<Vec<_>>().join("&");
        let text = |secret: &SecretValue| {
            let text = std::str::from_utf8(secret.expose()).map_err(|_| "the client's secret is no text")?;
            Ok::<_, String>(encoded(text))
        };
        match &known.shows {
            Shows::Basic(secret) => {
                // Each is encoded before they are joined.
                let basic = format!("{}:{}", encoded(&known.id), text(secret)?);
                let basic = format!("Basic {}", BASE64_STANDARD.encode(basic));
                let mut basic = HeaderValue::from_str(&basic).map_err(|error| error.to_string())?;
                basic.set_sensitive(true);
                request = request.header(AUTHORIZATION, basic);
            }
            Shows::Post(secret) => {
                form.extend(["&client_id=", &encoded(&known.id), "&client_secret=", &text(secret)?]);
            }
            Shows::Nothing => form.extend(["&client_id=", &encoded(&known.id)]),
        }
        let request = request
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(form);
        let response = request.send().await.map_err(|error| reached(&error))?;
        let status = response.status();
        Ok((status, read(response).await?))
    }
}
