//! Who calls: bearer tokens to principals.
//!
//! Input: the headers of a request. Output: a [`Principal`], or the refusal that HTTP has for it.
//! Invariants: where anything is configured, nobody is let through without a token; an identity
//! without a name is none; no token is logged, kept in the clear or read from an address; what a token
//! costs to refuse is bounded. Source: MCP 2026-07-28 and 2025-11-25 `basic/authorization`, RFC 6750,
//! RFC 9728. Not here: what a principal may do.

mod attempts;
mod issuer;
mod tokens;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::time::Instant;

use super::{Answer, Peer};
use crate::policy::Principal;

pub use issuer::{Issuer, IssuerConfig};
pub use tokens::Tokens;

/// Bytes of one bearer token: identity providers with many groups write some KiB.
const MAX_TOKEN: usize = 16 << 10;

/// Where RFC 9728 has the metadata of a resource.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Who may use a listener.
pub struct Access {
    tokens: Option<Tokens>,
    issuer: Option<Issuer>,
    /// The address clients use, without a path: `https://tools.example.com`.
    public: String,
    attempts: attempts::Attempts,
    on_refused: OnRefused,
    scopes_at: ScopesAt,
}

/// What the endpoint at a path wants of tokens, besides what all want.
pub type ScopesAt = Arc<dyn Fn(&str) -> Vec<String> + Send + Sync>;

/// Hears why a request was refused, in a word.
pub type OnRefused = Arc<dyn Fn(&'static str) + Send + Sync>;

/// Why nobody is let through.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) enum Denied {
    /// There is no token.
    Missing,
    /// There is one, and it is no good.
    Invalid(&'static str),
    /// It is good, and not for this: the scopes it has to have.
    Scope,
    /// It cannot be checked now.
    Unavailable,
    /// Too many from the same address were no good. When to try again.
    TooMany(Duration),
}

impl Denied {
    fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "no-token",
            Self::Invalid(_) => "invalid-token",
            Self::Scope => "insufficient-scope",
            Self::Unavailable => "token-unchecked",
            Self::TooMany(_) => "invalid-tokens",
        }
    }
}

impl Access {
    /// None when neither way to be known is configured. `public` is the address clients use, without a path.
    pub fn new(
        tokens: Option<Tokens>,
        issuer: Option<Issuer>,
        public: &str,
        on_refused: OnRefused,
        scopes_at: ScopesAt,
    ) -> Option<Self> {
        let any = tokens.is_some() || issuer.is_some();
        let public = public.trim_end_matches('/').to_owned();
        let attempts = attempts::Attempts::default();
        any.then(|| Self { tokens, issuer, public, attempts, on_refused, scopes_at })
    }

    pub(in crate::http) async fn principal(
        &self,
        headers: &HeaderMap,
        path: &str,
        peer: Option<IpAddr>,
    ) -> Result<Arc<Principal>, Denied> {
        let token = bearer(headers)?;
        if let Some(tokens) = &self.tokens
            && let Some(principal) = tokens.find(token).await
        {
            return Ok(principal);
        }
        let Some(issuer) = &self.issuer else { return Err(Denied::Invalid("the token is not known")) };
        let resource = format!("{}{path}", self.public);
        if let Some(known) = issuer.remembered(token, &resource) {
            return known;
        }
        let Some(peer) = peer else { return issuer.verify(token, &resource).await };
        self.attempts.allows(peer, Instant::now()).map_err(Denied::TooMany)?;
        let verified = issuer.verify(token, &resource).await;
        if matches!(verified, Err(Denied::Invalid(_))) {
            self.attempts.failed(peer, Instant::now());
        }
        verified
    }

    /// What tokens of the provider have to be good for at a path, as challenges and metadata write it.
    fn scopes(&self, path: &str) -> Vec<String> {
        let mut all = self.issuer.as_ref().map(|issuer| issuer.scopes().to_vec()).unwrap_or_default();
        for scope in (self.scopes_at)(path) {
            if !all.contains(&scope) {
                all.push(scope);
            }
        }
        all
    }

    /// The metadata of RFC 9728: who gives tokens for this resource.
    fn metadata(&self, path: &str) -> String {
        let servers: Vec<&str> = self.issuer.iter().map(Issuer::name).collect();
        let mut document = serde_json::json!({
            "resource": format!("{}{path}", self.public),
            "bearer_methods_supported": ["header"],
        });
        if !servers.is_empty() {
            document["authorization_servers"] = servers.into();
        }
        let scopes = self.scopes(path);
        if !scopes.is_empty() {
            document["scopes_supported"] = scopes.into();
        }
        document.to_string()
    }

    fn refuse(&self, path: &str, denied: &Denied) -> Response {
        let (status, message) = match denied {
            Denied::Missing => (StatusCode::UNAUTHORIZED, "a bearer token is needed"),
            Denied::Invalid(why) => (StatusCode::UNAUTHORIZED, *why),
            Denied::Scope => (StatusCode::FORBIDDEN, "the token lacks a scope that is needed here"),
            Denied::TooMany(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                "too many tokens from this address were no good; try again later",
            ),
            Denied::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "the token cannot be checked now; try again later")
            }
        };
        let mut response = json(
            status,
            serde_json::json!({"jsonrpc": "2.0", "error": {"code": -32600, "message": message}}).to_string(),
        );
        (self.on_refused)(denied.reason());
        if let Denied::TooMany(after) = denied {
            response.headers_mut().insert(header::RETRY_AFTER, (after.as_secs() + 1).into());
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let mut challenge = format!("Bearer resource_metadata=\"{}{WELL_KNOWN}{path}\"", self.public);
            let mut add = |name: &str, value: &str| {
                // A `String` takes everything.
                let _ = write!(challenge, ", {name}=\"{value}\"");
            };
            match denied {
                Denied::Invalid(_) => add("error", "invalid_token"),
                Denied::Scope => add("error", "insufficient_scope"),
                _ => {}
            }
            if !matches!(denied, Denied::Missing) {
                add("error_description", message);
            }
            let scopes = self.scopes(path);
            if !scopes.is_empty() {
                add("scope", &scopes.join(" "));
            }
            let challenge = HeaderValue::from_str(&challenge);
            response.headers_mut().extend(challenge.ok().map(|value| (header::WWW_AUTHENTICATE, value)));
        }
        response
    }
}

fn json(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The token of `Authorization`, given once.
fn bearer(headers: &HeaderMap) -> Result<&str, Denied> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = given.next() else { return Err(Denied::Missing) };
    if given.next().is_some() {
        return Err(Denied::Invalid("there is more than one `Authorization`"));
    }
    let (scheme, token) = value.to_str().ok().and_then(|value| value.split_once(' ')).unwrap_or_default();
    let token = token.trim_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(Denied::Missing);
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if token.len() > MAX_TOKEN || !token.bytes().all(fits) {
        return Err(Denied::Invalid("the token has no form of a bearer token"));
    }
    Ok(token)
}

/// Lets only requests through whose principal is known, and gives it to them as an extension; all, where
/// nobody has to say who they are.
pub fn authenticated<A: Answer>(answer: A, access: Option<Arc<Access>>) -> Authenticated<A> {
    Authenticated { access, next: answer }
}

/// What is behind [`authenticated`].
pub struct Authenticated<A> {
    access: Option<Arc<Access>>,
    next: A,
}

impl<A: Answer> Answer for Authenticated<A> {
    async fn answer(&self, mut request: Request, peer: Peer) -> Response {
        let Some(access) = &self.access else { return self.next.answer(request, peer).await };
        let path = request.uri().path();
        if let Some(of) = path.strip_prefix(WELL_KNOWN)
            && request.method() == Method::GET
            && let Some(of) = resource(of)
        {
            return json(StatusCode::OK, access.metadata(of));
        }
        match access.principal(request.headers(), path, Some(peer.0)).await {
            Ok(principal) => {
                request.extensions_mut().insert(principal);
                self.next.answer(request, peer).await
            }
            Err(denied) => access.refuse(request.uri().path(), &denied),
        }
    }
}

/// The endpoint whose metadata is asked for: its path stands behind the well-known one, or nothing does.
fn resource(of: &str) -> Option<&str> {
    match of {
        "" | "/" => Some("/mcp"),
        _ => (of == "/mcp" || of.starts_with("/mcp/") || of.starts_with("/mcp@")).then_some(of),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_given_once_and_has_the_form_of_one() {
        let cases: [(&[&str], Result<&str, Denied>); 8] = [
            (&[], Err(Denied::Missing)),
            (&["Bearer abc.DEF-1~2+3/4="], Ok("abc.DEF-1~2+3/4=")),
            (&["bearer  abc "], Ok("abc")),
            (&["Basic YTpi"], Err(Denied::Missing)),
            (&["Bearer"], Err(Denied::Missing)),
            (&["Bearer "], Err(Denied::Missing)),
            (&["Bearer a b"], Err(Denied::Invalid("the token has no form of a bearer token"))),
            (&["Bearer a", "Bearer b"], Err(Denied::Invalid("there is more than one `Authorization`"))),
        ];
        for (given, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in given {
                headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).expect("a header"));
            }
            assert_eq!(bearer(&headers), expected, "{given:?}");
        }
        let long = format!("Bearer {}", "a".repeat(MAX_TOKEN + 1));
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, long.parse().expect("a header"))]);
        assert!(matches!(bearer(&headers), Err(Denied::Invalid(_))));
    }
}
