//! Who calls: bearer tokens to principals.
//!
//! Input: the headers of a request. Output: a [`Principal`], or the refusal that HTTP has for it.
//! Invariants: where anything is configured, nobody is let through without a token; an identity
//! without a name is none; no token is logged, kept in the clear or read from an address. Source: MCP
//! 2026-07-28 `basic/authorization`, RFC 6750, RFC 9728. Not here: what a principal may do.

mod issuer;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

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
}

/// Why nobody is let through.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) enum Denied {
    /// There is no token.
    Missing,
    /// There is one, and it is no good.
    Invalid(&'static str),
    /// It cannot be checked now.
    Unavailable,
}

impl Access {
    /// None when neither way to be known is configured.
    pub fn new(tokens: Option<Tokens>, issuer: Option<Issuer>, public: &str) -> Option<Self> {
        let any = tokens.is_some() || issuer.is_some();
        any.then(|| Self { tokens, issuer, public: public.trim_end_matches('/').to_owned() })
    }

    pub(in crate::http) async fn principal(&self, headers: &HeaderMap) -> Result<Arc<Principal>, Denied> {
        let token = bearer(headers)?;
        if let Some(tokens) = &self.tokens
            && let Some(principal) = tokens.find(token).await
        {
            return Ok(principal);
        }
        match &self.issuer {
            Some(issuer) => issuer.verify(token).await,
            None => Err(Denied::Invalid("the token is not known")),
        }
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
        document.to_string()
    }

    fn refuse(&self, path: &str, denied: &Denied) -> Response {
        let (status, message) = match denied {
            Denied::Missing => (StatusCode::UNAUTHORIZED, "a bearer token is needed"),
            Denied::Invalid(why) => (StatusCode::UNAUTHORIZED, *why),
            Denied::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "the token cannot be checked now; try again later")
            }
        };
        let mut response = json(
            status,
            serde_json::json!({"jsonrpc": "2.0", "error": {"code": -32600, "message": message}}).to_string(),
        );
        if status == StatusCode::UNAUTHORIZED {
            let mut challenge = format!("Bearer resource_metadata=\"{}{WELL_KNOWN}{path}\"", self.public);
            if let Denied::Invalid(why) = denied {
                challenge.push_str(", error=\"invalid_token\", error_description=\"");
                challenge.push_str(why);
                challenge.push('"');
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

/// Lets only requests through whose principal is known, and gives it to them as an extension.
pub fn authenticated(router: Router, access: Arc<Access>) -> Router {
    router.layer(middleware::from_fn_with_state(access, check))
}

async fn check(State(access): State<Arc<Access>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if let Some(of) = path.strip_prefix(WELL_KNOWN)
        && (of.is_empty() || of.starts_with('/'))
        && request.method() == Method::GET
    {
        return json(StatusCode::OK, access.metadata(if of.is_empty() { "/mcp" } else { of }));
    }
    match access.principal(request.headers()).await {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(denied) => access.refuse(request.uri().path(), &denied),
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
