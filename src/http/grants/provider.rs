//! The authorization server: found, and asked for tokens.
//!
//! Sources: RFC 9728 (whom a server names), RFC 8414 and `OpenID` Connect Discovery (where that is asked),
//! RFC 6749 and 7636 (codes and tokens), RFC 8707 (what for), RFC 7009 (revocation).

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::presented::{encoded, reached, refusal};
use super::vault::Tokens;
use super::{Grants, Wanted};
use crate::desired::remote::is_safe;
use crate::ports::SecretValue;
use crate::resource::remote::UserOAuth;

/// Bytes of one answer: metadata and tokens have some KiB.
const MAX_ANSWER: usize = 64 << 10;
/// How long a token is used whose life is not said.
const LIFE: Duration = Duration::from_mins(5);
/// The longest life that is believed.
const MAX_LIFE: Duration = Duration::from_hours(24);

/// Where a provider is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoints {
    pub(super) issuer: String,
    pub(super) authorization: String,
    pub(super) token: String,
    pub(super) revocation: Option<String>,
    /// It says that it names itself in the redirect (RFC 9207).
    pub(super) names_itself: bool,
    /// As what the server names itself.
    pub(super) resource: Option<String>,
    /// What the server says that can be asked for; asked for where nothing is declared.
    pub(super) scopes: Vec<String>,
}

/// What a token endpoint gave.
pub(super) struct Granted {
    pub(super) tokens: Tokens,
    pub(super) life: Duration,
}

/// Why a token endpoint gave nothing.
pub(super) enum Failed {
    /// It said no: what was shown is not good any more.
    Refused(String),
    /// It could not be asked, or not answer.
    Unavailable(String),
}

impl Failed {
    pub(super) fn why(self) -> String {
        match self {
            Self::Refused(why) | Self::Unavailable(why) => why,
        }
    }
}

#[derive(Deserialize)]
struct Resource {
    #[serde(rename = "resource")]
    name: String,
    authorization_servers: Vec<String>,
    #[serde(default)]
    scopes_supported: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    revocation_endpoint: Option<String>,
    #[serde(default)]
    code_challenge_methods_supported: Vec<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl Grants {
    /// Finds the provider of a server, as declared or as the server names it.
    pub(super) async fn discover(&self, wanted: &Wanted, user: &UserOAuth) -> Result<Endpoints, String> {
        if let Some(declared) = &user.provider {
            return Ok(Endpoints {
                issuer: declared.issuer.clone(),
                authorization: declared.authorization_url.clone(),
                token: declared.token_url.clone(),
                revocation: declared.revocation_url.clone(),
                names_itself: false,
                resource: None,
                scopes: Vec::new(),
            });
        }
        let (origin, path) = split(&wanted.url).ok_or("the server's address is none")?;
        let challenge = self.challenge(&wanted.url).await?;
        let said = parameter(&challenge, "resource_metadata").filter(|place| is_safe(place));
        let usual = [path, ""].map(|path| format!("{origin}/.well-known/oauth-protected-resource{path}"));
        let mut named: Option<Resource> = None;
        for place in said.into_iter().chain(usual) {
            named = self.metadata(&place).await?;
            if named.is_some() {
                break;
            }
        }
        let named = named.ok_or("the server does not name its authorization server; declare `provider`")?;
        let of_server = named.name.trim_end_matches('/');
        if of_server != wanted.url.trim_end_matches('/') && of_server != origin {
            return Err("the server's metadata is of another resource".to_owned());
        }
        let issuer = named.authorization_servers.first().ok_or("the server names no authorization server")?;
        if !is_safe(issuer) {
            return Err("the authorization server's address does not begin with https://".to_owned());
        }
        let (origin, path) = split(issuer).ok_or("the authorization server's address is none")?;
        let path = path.trim_end_matches('/');
        for place in [
            format!("{origin}/.well-known/oauth-authorization-server{path}"),
            format!("{origin}/.well-known/openid-configuration{path}"),
            format!("{origin}{path}/.well-known/openid-configuration"),
        ] {
            if let Some(found) = self.metadata::<Metadata>(&place).await? {
                let endpoints = endpoints(issuer, found)?;
                let asked = parameter(&challenge, "scope");
                let asked = asked.map(|scopes| scopes.split_whitespace().map(str::to_owned).collect());
                let scopes = asked.unwrap_or(named.scopes_supported);
                return Ok(Endpoints { resource: Some(named.name), scopes, ..endpoints });
            }
        }
        Err("the authorization server publishes no metadata; declare `provider`".to_owned())
    }

    /// What a server says to somebody without a token (RFC 6750, section 3); empty when it lets them in.
    async fn challenge(&self, url: &str) -> Result<String, String> {
        const HELLO: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        let request = self.client.request(Method::POST, url).map_err(|error| error.chain())?;
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream")
            .body(HELLO.to_owned());
        let response = request.send().await.map_err(|error| reached(&error))?;
        let said = response.headers().get(WWW_AUTHENTICATE).filter(|_| response.status() == 401);
        Ok(said.and_then(|said| said.to_str().ok()).unwrap_or_default().to_owned())
    }

    /// A document of metadata; none when it is not there.
    async fn metadata<T: DeserializeOwned>(&self, url: &str) -> Result<Option<T>, String> {
        let request = self.client.request(Method::GET, url).map_err(|error| error.chain())?;
        let response = request.header(ACCEPT, "application/json").send().await.map_err(|e| reached(&e))?;
        if !response.status().is_success() {
            return Ok(None);
        }
        let body = read(response).await?;
        serde_json::from_slice(&body).map(Some).map_err(|_| "its metadata cannot be read".to_owned())
    }

    /// Asks a token endpoint. `grant` are the members of the form besides those that say who asks and for what.
    pub(super) async fn ask(
        &self,
        endpoints: &Endpoints,
        user: &UserOAuth,
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
            self.post(&endpoints.token, user, &members).await.map_err(Failed::Unavailable)?;
        if !status.is_success() {
            let why = refusal(status, &body);
            return Err(if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
                Failed::Refused(why)
            } else {
                Failed::Unavailable(why)
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

    /// Tells the provider that a token is not to be used any more (RFC 7009).
    pub(super) async fn tell_revoked(
        &self,
        endpoint: &str,
        user: &UserOAuth,
        (token, kind): (&str, &str),
    ) -> Result<(), String> {
        let members = [("token", token), ("token_type_hint", kind)];
        let (status, body) = self.post(endpoint, user, &members).await?;
        if status.is_success() { Ok(()) } else { Err(refusal(status, &body)) }
    }

    async fn post(
        &self,
        url: &str,
        user: &UserOAuth,
        members: &[(&str, &str)],
    ) -> Result<(StatusCode, Vec<u8>), String> {
        let mut request = self.client.request(Method::POST, url).map_err(|error| error.chain())?;
        let form = members.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
        let mut form = form.collect::<Vec<_>>().join("&");
        match &user.client_secret {
            Some(secret) => {
                let secret = self.secrets.resolve(&secret.secret).map_err(|error| error.operation)?;
                let secret =
                    std::str::from_utf8(secret.expose()).map_err(|_| "the client's secret is no text")?;
                // Each is encoded before they are joined (RFC 6749 section 2.3.1).
                let basic = format!("{}:{}", encoded(&user.client_id), encoded(secret));
                let basic = format!("Basic {}", BASE64_STANDARD.encode(basic));
                let mut basic = HeaderValue::from_str(&basic).map_err(|error| error.to_string())?;
                basic.set_sensitive(true);
                request = request.header(AUTHORIZATION, basic);
            }
            None => form.extend(["&client_id=", &encoded(&user.client_id)]),
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

fn endpoints(issuer: &str, found: Metadata) -> Result<Endpoints, String> {
    if found.issuer != issuer {
        return Err("the authorization server's metadata names another issuer".to_owned());
    }
    if !found.code_challenge_methods_supported.iter().any(|method| method == "S256") {
        return Err("the authorization server does not say that it supports PKCE with S256".to_owned());
    }
    let addresses = [
        Some(&found.authorization_endpoint),
        Some(&found.token_endpoint),
        found.revocation_endpoint.as_ref(),
    ];
    if addresses.into_iter().flatten().any(|url| !is_safe(url)) {
        return Err("an address of the authorization server does not begin with https://".to_owned());
    }
    Ok(Endpoints {
        issuer: found.issuer,
        authorization: found.authorization_endpoint,
        token: found.token_endpoint,
        revocation: found.revocation_endpoint,
        names_itself: found.authorization_response_iss_parameter_supported,
        resource: None,
        scopes: Vec::new(),
    })
}

/// A parameter of a challenge (RFC 9110, section 11.2).
fn parameter(challenge: &str, name: &str) -> Option<String> {
    let mut rest = challenge;
    while let Some((before, after)) = rest.split_once(name) {
        rest = after;
        let begins = before.is_empty() || before.ends_with([' ', ',', '\t']);
        let Some(value) = after.trim_start().strip_prefix('=').filter(|_| begins) else { continue };
        let value = value.trim_start();
        let value = match value.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next(),
            None => value.split([',', ' ']).next(),
        };
        return value.filter(|value| !value.is_empty()).map(str::to_owned);
    }
    None
}

/// Origin and path of an address.
fn split(url: &str) -> Option<(String, &str)> {
    let uri: http::Uri = url.parse().ok()?;
    let origin = format!("{}://{}", uri.scheme_str()?, uri.authority()?);
    let path = url.strip_prefix(&origin)?.split(['?', '#']).next().unwrap_or_default();
    Some((origin, path))
}

async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| reached(&error))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(format!("its answer is longer than {MAX_ANSWER} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_challenge_are_read() {
        let challenge =
            r#"Bearer error="invalid_token", resource_metadata="https://a/x", scope="a b", realm=r"#;
        for (name, expected) in [
            ("resource_metadata", Some("https://a/x")),
            ("scope", Some("a b")),
            ("realm", Some("r")),
            ("metadata", None),
            ("nonce", None),
        ] {
            assert_eq!(parameter(challenge, name).as_deref(), expected, "{name}");
        }
        assert_eq!(parameter("", "scope"), None);
    }
}
