//! Which names a listener answers to, so that no page of a browser can reach it under a name of its
//! own (DNS rebinding) or from its own origin, unless that origin was declared.

mod cors;

use std::net::{IpAddr, SocketAddr};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, Version, header};

use super::{Answer, Peer};

/// The names of a listener: those of loopback with its port, and its public URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    port: u16,
    /// The port of a name without one.
    usual_port: u16,
    public: Option<Place>,
    /// Other origins whose pages may use it.
    origins: Vec<Place>,
}

/// Scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    scheme: String,
    host: String,
    port: u16,
}

impl Allowed {
    pub fn new(local: SocketAddr, public_url: Option<&Uri>) -> Self {
        let public = public_url.and_then(place);
        Self { port: local.port(), usual_port: 80, public, origins: Vec::new() }
    }

    /// The same, where connections are encrypted.
    #[must_use]
    pub fn encrypted(self, encrypted: bool) -> Self {
        Self { usual_port: if encrypted { 443 } else { 80 }, ..self }
    }

    /// The same, with other origins whose pages may use it (CORS). What is no origin allows nothing.
    #[must_use]
    pub fn origins(self, origins: &[String]) -> Self {
        let origins = origins.iter().filter_map(|origin| place(&origin.parse().ok()?)).collect();
        Self { origins, ..self }
    }

    /// `Host` of a request; the scheme is not in it.
    fn host(&self, value: &str) -> bool {
        // Most are told apart at sight.
        if let Some(port) = value.strip_prefix("127.0.0.1:").or_else(|| value.strip_prefix("localhost:"))
            && port.parse() == Ok(self.port)
        {
            return true;
        }
        let Ok(authority) = value.parse::<Authority>() else { return false };
        let host = bare(authority.host());
        let port = authority.port_u16();
        let local = is_loopback(&host) && port.unwrap_or(self.usual_port) == self.port;
        let public = self.public.as_ref().is_some_and(|public| {
            public.host == host && port.or_else(|| default_port(&public.scheme)) == Some(public.port)
        });
        local || public
    }

    /// `Origin` of a request; `null` is none of ours.
    fn origin(&self, value: &str) -> bool {
        let Some(origin) = value.parse::<Uri>().ok().as_ref().and_then(place) else { return false };
        let own =
            (is_loopback(&origin.host) && origin.port == self.port) || self.public.as_ref() == Some(&origin);
        own || self.origins.contains(&origin)
    }

    /// The origin of a request, when it is a declared one.
    fn declared(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let value = headers.get(header::ORIGIN).filter(|_| !self.origins.is_empty())?;
        let origin = value.to_str().ok()?.parse::<Uri>().ok().as_ref().and_then(place)?;
        self.origins.contains(&origin).then(|| value.clone())
    }

    /// # Errors
    /// The status, which header is wrong, and what to do. What names no host, or two, is no request (RFC
    /// 9112 section 3.2); a target with a host counts before `Host` (section 3.2.2).
    fn check(&self, headers: &HeaderMap, target: &Uri, version: Version) -> Result<(), (StatusCode, String)> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let given = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().unwrap_or_default(),
            (None, _) if version < Version::HTTP_11 => "",
            (None, _) => return Err((StatusCode::BAD_REQUEST, "there is no `Host`".to_owned())),
            (Some(_), Some(_)) => return Err((StatusCode::BAD_REQUEST, "`Host` is there twice".to_owned())),
        };
        let host = target.authority().map_or(given, Authority::as_str);
        if !self.host(host) {
            let why = format!("`Host: {host}` is no name of this listener; see --public-url");
            return Err((StatusCode::FORBIDDEN, why));
        }
        for origin in headers.get_all(header::ORIGIN) {
            if !origin.to_str().is_ok_and(|origin| self.origin(origin)) {
                let why = "requests from this `Origin` are not served; see --allow-origin";
                return Err((StatusCode::FORBIDDEN, why.to_owned()));
            }
        }
        Ok(())
    }
}

fn place(uri: &Uri) -> Option<Place> {
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let port = uri.port_u16().or_else(|| default_port(&scheme))?;
    Some(Place { host: bare(uri.host()?), scheme, port })
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase()
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Lets only requests through that name this listener.
pub fn guard<A: Answer>(answer: A, allowed: Allowed) -> Guarded<A> {
    Guarded { allowed, next: answer }
}

/// What is behind [`guard`].
pub struct Guarded<A> {
    allowed: Allowed,
    next: A,
}

impl<A: Answer> Answer for Guarded<A> {
    async fn answer(&self, request: Request, peer: Peer) -> Response {
        let Self { allowed, next } = self;
        if let Err((status, reason)) = allowed.check(request.headers(), request.uri(), request.version()) {
            return refuse(status, &reason);
        }
        let Some(origin) = allowed.declared(request.headers()) else {
            return next.answer(request, peer).await;
        };
        let preflight = cors::preflight(request.method(), request.headers());
        let mut response = match preflight {
            Some(response) => response,
            None => next.answer(request, peer).await,
        };
        cors::allow(&mut response, origin);
        response
    }
}

fn refuse(status: StatusCode, reason: &str) -> Response {
    let error = serde_json::json!({"jsonrpc": "2.0", "error": {"code": -32600, "message": reason}});
    let mut response = Response::new(Body::from(error.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_listener_are_answered() {
        let public: Uri = "https://tools.example.com".parse().expect("a URL");
        let allowed = Allowed::new(([127, 0, 0, 1], 7800).into(), Some(&public))
            .origins(&["https://app.example.org".to_owned()]);
        let cases = [
            ("127.0.0.1:7800", None, true),
            ("localhost:7800", Some("http://localhost:7800"), true),
            ("LOCALHOST:7800", Some("http://127.0.0.1:7800"), true),
            ("[::1]:7800", Some("http://[::1]:7800"), true),
            ("127.1.2.3:7800", None, true),
            ("localhost", None, false),
            ("localhost:7801", None, false),
            ("evil.example.com:7800", None, false),
            ("localhost.evil.example.com:7800", None, false),
            ("localhost:7800@evil.example.com", None, false),
            ("", None, false),
            ("tools.example.com", Some("https://tools.example.com"), true),
            ("tools.example.com:443", Some("https://tools.example.com:443"), true),
            ("tools.example.com:7800", None, false),
            ("tools.example.com", Some("http://tools.example.com"), false),
            ("localhost:7800", Some("http://localhost:3000"), false),
            ("localhost:7800", Some("https://evil.example.com"), false),
            ("tools.example.com", Some("https://app.example.org"), true),
            ("localhost:7800", Some("https://app.example.org:443"), true),
            ("localhost:7800", Some("http://app.example.org"), false),
            ("localhost:7800", Some("https://app.example.org.evil.example"), false),
            ("localhost:7800", Some("null"), false),
            ("localhost:7800", Some(""), false),
        ];
        for (host, origin, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static(host));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            let checked = allowed.check(&headers, &Uri::from_static("/mcp"), Version::HTTP_11);
            assert_eq!(checked.is_ok(), expected, "{host} {origin:?}: {checked:?}");
        }
        let mut twice = HeaderMap::new();
        twice.append(header::HOST, HeaderValue::from_static("localhost:7800"));
        let status = |headers: &HeaderMap, target: &'static str, version| {
            let checked = allowed.check(headers, &Uri::from_static(target), version);
            checked.map_or_else(|(status, _)| status.as_u16(), |()| 200)
        };
        for (target, expected) in [
            ("http://localhost:7800/mcp", 200),
            ("http://evil.example.com/mcp", 403),
            ("evil.example.com:443", 403),
        ] {
            assert_eq!(status(&twice, target, Version::HTTP_11), expected, "{target}");
        }
        twice.append(header::HOST, HeaderValue::from_static("evil.example.com"));
        assert_eq!(status(&twice, "/mcp", Version::HTTP_11), 400);
        assert_eq!(status(&HeaderMap::new(), "/mcp", Version::HTTP_11), 400);
        assert_eq!(status(&HeaderMap::new(), "/mcp", Version::HTTP_10), 403);
    }

    #[test]
    fn a_name_without_a_port_has_the_port_of_its_scheme() {
        let named = |port: u16, encrypted: bool| {
            Allowed::new(([127, 0, 0, 1], port).into(), None).encrypted(encrypted).host("localhost")
        };
        assert!(named(80, false) && named(443, true) && !named(443, false) && !named(80, true));
    }
}
