//! The authorization server of a server elsewhere, found.
//!
//! Sources: RFC 9728 (whom a server names), RFC 8414 and `OpenID` Connect Discovery (where that is asked).

use std::time::Duration;

use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE, WWW_AUTHENTICATE};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::presented::reached;
use super::scopes::{OFFLINE, parameter};
use super::{Grants, Wanted};
use crate::desired::remote::{is_near, is_safe};
use crate::resource::remote::UserOAuth;

/// Bytes of one answer: metadata and tokens have some KiB.
const MAX_ANSWER: usize = 64 << 10;
/// How long finding an authorization server may take in all, while a user waits: several documents of
/// two machines.
const DISCOVERY: Duration = Duration::from_secs(20);
/// How clients show their secret where nothing else is said (RFC 8414, section 2).
pub(super) const BASIC: &str = "client_secret_basic";

/// Where a provider is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoints {
    pub(super) issuer: String,
    pub(super) authorization: String,
    pub(super) token: String,
    pub(super) revocation: Option<String>,
    /// Where clients register themselves (RFC 7591).
    pub(super) registration: Option<String>,
    /// A client can be known by the address of a document about it.
    pub(super) reads_documents: bool,
    /// How clients say at the token endpoint who they are.
    pub(super) methods: Vec<String>,
    /// It says that it names itself in the redirect (RFC 9207).
    pub(super) names_itself: bool,
    /// As what the server names itself.
    pub(super) resource: Option<String>,
    /// What the server says that can be asked for; asked for where nothing is declared.
    pub(super) scopes: Vec<String>,
    /// It gives tokens that are refreshed without the user where `offline_access` is asked for (SEP-2207).
    pub(super) offline: bool,
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
    registration_endpoint: Option<String>,
    #[serde(default)]
    client_id_metadata_document_supported: bool,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    scopes_supported: Vec<String>,
    #[serde(default)]
    code_challenge_methods_supported: Vec<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl Grants {
    /// Finds the provider of a server, as declared or as the server names it, in [`DISCOVERY`].
    pub(super) async fn discover(&self, wanted: &Wanted, user: &UserOAuth) -> Result<Endpoints, String> {
        let found = tokio::time::timeout(DISCOVERY, self.find(wanted, user)).await;
        found.unwrap_or_else(|_| {
            Err(format!("its authorization server was not found within {} s", DISCOVERY.as_secs()))
        })
    }

    async fn find(&self, wanted: &Wanted, user: &UserOAuth) -> Result<Endpoints, String> {
        if let Some(declared) = &user.provider {
            return Ok(Endpoints {
                issuer: declared.issuer.clone(),
                authorization: declared.authorization_url.clone(),
                token: declared.token_url.clone(),
                revocation: declared.revocation_url.clone(),
                registration: None,
                reads_documents: false,
                methods: vec![BASIC.to_owned()],
                names_itself: false,
                resource: None,
                scopes: Vec::new(),
                offline: false,
            });
        }
        let (origin, path) = split(&wanted.url).ok_or("the server's address is none")?;
        let challenge = self.challenge(&wanted.url).await?;
        let near = is_near(&wanted.url);
        let said = parameter(&challenge, "resource_metadata").filter(|place| may_be_asked(place, near));
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
        let issuer = chosen(&named.authorization_servers, user.issuer.as_deref())?;
        if !may_be_asked(issuer, near) {
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
                let endpoints = endpoints(issuer, found, near)?;
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
}

/// Whom of those that a server names tokens are asked of.
fn chosen<'a>(named: &'a [String], declared: Option<&str>) -> Result<&'a str, String> {
    let Some(declared) = declared else {
        let first = named.first().ok_or("the server names no authorization server")?;
        return Ok(first);
    };
    let found = named.iter().find(|named| *named == declared);
    found.map(String::as_str).ok_or_else(|| {
        format!("the server does not name `{declared}`, the declared `issuer`, as its authorization server")
    })
}

/// Whether an address that somebody else wrote may be asked: https, and http on this machine only where the
/// server is on it too. Nobody elsewhere has us ask what listens here.
fn may_be_asked(url: &str, near: bool) -> bool {
    is_safe(url) && (near || !is_near(url))
}

fn endpoints(issuer: &str, found: Metadata, near: bool) -> Result<Endpoints, String> {
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
        found.registration_endpoint.as_ref(),
    ];
    if addresses.into_iter().flatten().any(|url| !may_be_asked(url, near)) {
        return Err("an address of the authorization server does not begin with https://".to_owned());
    }
    Ok(Endpoints {
        issuer: found.issuer,
        authorization: found.authorization_endpoint,
        token: found.token_endpoint,
        revocation: found.revocation_endpoint,
        registration: found.registration_endpoint,
        reads_documents: found.client_id_metadata_document_supported,
        methods: found.token_endpoint_auth_methods_supported.unwrap_or_else(|| vec![BASIC.to_owned()]),
        names_itself: found.authorization_response_iss_parameter_supported,
        resource: None,
        scopes: Vec::new(),
        offline: found.scopes_supported.iter().any(|scope| scope == OFFLINE),
    })
}

/// Origin and path of an address.
fn split(url: &str) -> Option<(String, &str)> {
    let uri: http::Uri = url.parse().ok()?;
    let origin = format!("{}://{}", uri.scheme_str()?, uri.authority()?);
    let path = url.strip_prefix(&origin)?.split(['?', '#']).next().unwrap_or_default();
    Some((origin, path))
}

pub(super) async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, String> {
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

    fn found(token: &str) -> Metadata {
        serde_json::from_value(serde_json::json!({
            "issuer": "https://a.example",
            "authorization_endpoint": "https://a.example/authorize",
            "token_endpoint": token,
            "code_challenge_methods_supported": ["S256"],
        }))
        .expect("metadata")
    }

    #[test]
    fn nobody_elsewhere_has_what_listens_here_asked() {
        for (token, near, good) in [
            ("https://a.example/token", false, true),
            ("http://a.example/token", false, false),
            ("http://127.0.0.1:2375/containers/create", false, false),
            ("https://localhost/token", false, false),
            ("http://[::1]/token", false, false),
            ("http://127.0.0.1:8080/token", true, true),
            ("http://a.example/token", true, false),
        ] {
            assert_eq!(endpoints("https://a.example", found(token), near).is_ok(), good, "{token} {near}");
        }
    }

    #[test]
    fn the_declared_issuer_is_asked_or_nobody() {
        let named = ["https://a.example", "https://b.example"].map(str::to_owned);
        assert_eq!(chosen(&named, None).as_deref(), Ok("https://a.example"));
        assert_eq!(chosen(&named, Some("https://b.example")).as_deref(), Ok("https://b.example"));
        assert!(chosen(&named, Some("https://a.example/")).is_err_and(|why| why.contains("`issuer`")));
        assert!(chosen(&[], None).is_err());
    }
}
