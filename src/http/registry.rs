//! Asks an image registry which tags a repository has.
//!
//! The list of tags of the OCI distribution specification 1.1 (`GET /v2/<name>/tags/list`, pages by `Link`
//! headers), with the anonymous token that registries hand out (`WWW-Authenticate: Bearer`). Invariants:
//! the registry is the one that the image's name or the operator names; plain HTTP only on this machine;
//! no answer is longer or later than its bound.

use std::path::Path;

use http::header::{ACCEPT, LINK, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use serde_json::Value;

use super::index::{body, client};
use crate::outgoing::Client;
use crate::ports::{PortError, PortResult};

/// Pages of one list. Registries give 100 to 1,000 tags a page.
const MAX_PAGES: usize = 100;

/// The client for all registries.
pub struct Registry {
    client: Client,
}

/// A repository of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// `https://registry.example`, without a slash at its end.
    pub base: String,
    /// `team/weather`
    pub name: String,
}

impl Repository {
    /// Where the image of this name is, as Docker reads names: what stands before the first slash is the
    /// registry if it has a dot or a port or is `localhost`. `default`: the registry of all others; none
    /// when there is none.
    pub fn of_image(name: &str, default: Option<&str>) -> Option<Self> {
        let host = name.split_once('/').filter(|(host, _)| host.contains(['.', ':']) || *host == "localhost");
        if let Some((host, rest)) = host {
            let scheme = if is_here(host) { "http" } else { "https" };
            return Some(Self { base: format!("{scheme}://{host}"), name: rest.to_owned() });
        }
        let base = default?.trim_end_matches('/').to_owned();
        Some(Self { base, name: name.to_owned() })
    }
}

/// Whether a host with or without a port is this machine.
fn is_here(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let address = name.parse::<std::net::IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

impl Registry {
    /// `ca_file` is trusted besides the system's certificates.
    ///
    /// # Errors
    /// When there is no TLS, or the file holds no certificates.
    pub fn new(ca_file: Option<&Path>, proxy: Option<&str>) -> PortResult<Self> {
        Ok(Self { client: client(ca_file, proxy)? })
    }

    /// The tags of a repository.
    ///
    /// # Errors
    /// When the registry does not answer, or wants credentials, or has no such repository.
    pub async fn tags(&self, repository: &Repository) -> PortResult<Vec<String>> {
        let Repository { base, name } = repository;
        let failed = || PortError::retry(format!("failed to list the tags of `{name}` at its registry"));
        let mut tags = Vec::new();
        let mut token = None;
        let mut url = format!("{base}/v2/{name}/tags/list?n=1000");
        for _ in 0..MAX_PAGES {
            let mut response =
                self.get(&url, token.as_deref()).await.map_err(|error| failed().caused_by(error))?;
            if response.status() == StatusCode::UNAUTHORIZED && token.is_none() {
                let challenge = header(&response, WWW_AUTHENTICATE).unwrap_or_default();
                token = self.token(&challenge).await.map_err(|error| failed().caused_by(error))?;
                if token.is_some() {
                    response =
                        self.get(&url, token.as_deref()).await.map_err(|error| failed().caused_by(error))?;
                }
            }
            if !response.status().is_success() {
                return Err(refused(failed(), response.status()));
            }
            let next = header(&response, LINK).and_then(|link| next(base, &link));
            let bytes = body(response).await.map_err(|error| failed().caused_by(error))?;
            let answer: Value = serde_json::from_slice(&bytes)
                .map_err(|error| failed().caused_by(error).hint("is this the address of a registry?"))?;
            let listed = answer["tags"].as_array().into_iter().flatten();
            tags.extend(listed.filter_map(Value::as_str).map(str::to_owned));
            match next {
                Some(next) => url = next,
                None => return Ok(tags),
            }
        }
        Err(failed().caused_by(format!("the list has more than {MAX_PAGES} pages")))
    }

    async fn get(&self, url: &str, token: Option<&str>) -> PortResult<reqwest::Response> {
        let mut request = self.client.request(Method::GET, url)?.header(ACCEPT, "application/json");
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request
            .send()
            .await
            .map_err(|error| PortError::retry("the registry was not reached").caused_by(error.without_url()))
    }

    /// The token for everybody that a registry asks for; none when it asks for something else.
    async fn token(
        &self,
        challenge: &str,
    ) -> Result<Option<String>, Box<dyn std::error::Error + Send + Sync>> {
        let Some(url) = token_url(challenge) else { return Ok(None) };
        let response = self.get(&url, None).await?;
        if !response.status().is_success() {
            return Ok(None);
        }
        let answer: Value = serde_json::from_slice(&body(response).await?)?;
        let token = ["token", "access_token"].iter().find_map(|field| answer[*field].as_str());
        Ok(token.map(str::to_owned))
    }
}

fn header(response: &reqwest::Response, name: http::HeaderName) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

fn refused(error: PortError, status: StatusCode) -> PortError {
    let hint = match status.as_u16() {
        401 | 403 => {
            "the registry wants credentials, which are not sent: pull the newer image on the engine, and it \
             is found there"
        }
        404 => "check the image's name: the registry does not have it",
        _ => "check the address of the registry",
    };
    error.caused_by(format!("the registry answered with status {}", status.as_u16())).hint(hint)
}

/// The next page, of the same registry: `</v2/name/tags/list?last=x&n=2>; rel="next"`.
fn next(base: &str, link: &str) -> Option<String> {
    let link = link.split(',').find(|link| link.contains("rel=\"next\"") || link.contains("rel=next"))?;
    let target = link.split_once('<')?.1.split_once('>')?.0;
    let path = target.strip_prefix(base).unwrap_or(target);
    path.starts_with("/v2/").then(|| format!("{base}{path}"))
}

/// `Bearer realm="https://auth.example/token",service="registry",scope="repository:a:pull"` as an address.
fn token_url(challenge: &str) -> Option<String> {
    let (scheme, rest) = challenge.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    // Values are quoted and may hold commas: every second part is a value.
    let parts: Vec<&str> = rest.split('"').collect();
    let named = |name: &str| {
        let at = parts.iter().step_by(2).position(|key| key.trim_matches([',', ' ', '=']) == name)?;
        parts.get(at * 2 + 1).copied()
    };
    let realm = named("realm")?;
    let host = realm.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default())?;
    if !realm.starts_with("https://") && !is_here(host) {
        return None;
    }
    let mut url = realm.to_owned();
    for name in ["service", "scope"] {
        if let Some(value) = named(name) {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(name);
            url.push('=');
            url.push_str(&escaped(value));
        }
    }
    Some(url)
}

/// As a value of a query.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte);
    let word = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_registries_as_docker_reads_them() {
        let default = Some("https://mirror.example/");
        for (name, default, expected) in [
            ("127.0.0.1:5000/a/b", None, Some(("http://127.0.0.1:5000", "a/b"))),
            ("localhost/a", None, Some(("http://localhost", "a"))),
            ("[::1]:5000/a", None, Some(("http://[::1]:5000", "a"))),
            ("ghcr.example/team/weather", None, Some(("https://ghcr.example", "team/weather"))),
            ("host:5000/a", None, Some(("https://host:5000", "a"))),
            ("team/weather", None, None),
            ("team/weather", default, Some(("https://mirror.example", "team/weather"))),
            ("busybox", default, Some(("https://mirror.example", "busybox"))),
        ] {
            let found = Repository::of_image(name, default);
            let found = found.as_ref().map(|found| (found.base.as_str(), found.name.as_str()));
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn pages_and_tokens_are_asked_for_where_a_registry_says() {
        let base = "https://r.example";
        let link = |text: &str| next(base, text);
        let page = Some("https://r.example/v2/a/tags/list?last=x&n=2".to_owned());
        assert_eq!(link("</v2/a/tags/list?last=x&n=2>; rel=\"next\""), page);
        assert_eq!(link("<https://r.example/v2/a/tags/list?last=x&n=2>; rel=\"next\""), page);
        assert_eq!(link("<https://elsewhere.example/v2/a>; rel=\"next\""), None);
        assert_eq!(link("</v2/a/tags/list>; rel=\"prev\""), None);
        let challenge = r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull,push""#;
        let url = "https://auth.example/token?service=r.example&scope=repository:a/b:pull%2Cpush";
        assert_eq!(token_url(challenge).as_deref(), Some(url));
        assert_eq!(token_url(r#"Bearer realm="http://auth.example/token""#), None);
        assert_eq!(token_url(r#"Basic realm="x""#), None);
    }
}
