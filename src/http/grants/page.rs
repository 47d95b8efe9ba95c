//! What a browser sees: `/oauth/start/<id>`, which sends it to the provider, and `/oauth/callback`, to which
//! the provider sends it back. All text is ours; nothing of a request or of a repository is repeated.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::client::{DOCUMENT, Stranger, published};
use super::provider::Endpoints;
use super::token::Failed;
use super::{Authorization, Grants, LIFE, Opened, Pending, Wanted, lock, random, seconds};
use crate::http::{Answer, At, Peer};
use crate::resource::Digest;

/// Bytes of the form: one token.
const MAX_FORM: usize = 32 << 10;
/// Bytes of what a provider sends back: codes have some hundred.
const MAX_QUERY: usize = 8 << 10;

const OLD: &str = "This address is not good any more. Repeat the call, and open the new one.\n";
const DONE: &str = "Authorized. You can close this page and go on.\n";
const UNREACHED: &str = "The provider of this server cannot be asked now. The log of the daemon says why.\n";
const STRANGER: &str = "This daemon is not registered at the provider of this server, which registers nobody by itself. \
Whoever runs the daemon has to declare `userOAuth.clientId`; the log says more.\n";
const FORM: &str = "<!doctype html><meta charset=\"utf-8\"><title>Toolcrib</title>\
<p>Before you authorize a server, show who you are: paste the token with which you use this endpoint.</p>\
<form method=\"post\"><input type=\"password\" name=\"token\" autocomplete=\"off\" autofocus> <button>Go on</button></form>\n";

/// The pages for browsers, before what is served at other paths. They need no token: whoever opens them
/// proves who they are.
pub fn pages<A: Answer>(grants: Arc<Grants>, rest: A) -> At<A> {
    let router = Router::new()
        .route("/oauth/start/{id}", get(start).post(start))
        .route("/oauth/callback", get(callback))
        .route(DOCUMENT, get(document))
        .with_state(grants);
    At::new(|path| path.starts_with("/oauth/"), router, rest)
}

/// What is shown instead of going on.
struct Shown(StatusCode, &'static str);

async fn start(State(grants): State<Arc<Grants>>, Path(id): Path<String>, request: Request) -> Response {
    let found = {
        let mut pending = lock(&grants.pending);
        pending.retain(|one| one.since.elapsed() < LIFE);
        pending.iter().find(|one| one.id == id).map(|one| (one.user.clone(), one.wanted.clone()))
    };
    let Some((user, wanted)) = found else { return text(StatusCode::NOT_FOUND, OLD) };
    let endpoints = match grants.endpoints(&wanted).await {
        Ok(endpoints) => endpoints,
        Err(why) => {
            tracing::warn!(server = %wanted.server, why, "users cannot authorize");
            return text(StatusCode::BAD_GATEWAY, UNREACHED);
        }
    };
    match grants.is_asker(&user, request).await {
        Ok(true) => grants.open(&id, &user, &wanted, endpoints).await,
        Ok(false) => form(&endpoints),
        Err(Shown(status, said)) => text(status, said),
    }
}

async fn callback(State(grants): State<Arc<Grants>>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    if query.len() > MAX_QUERY {
        return text(StatusCode::URI_TOO_LONG, OLD);
    }
    let (query, headers) = (pairs(query), request.headers().clone());
    // To the end, also when the browser goes away meanwhile: a code is good once.
    let tasks = grants.tasks.clone();
    match tasks.spawn(async move { grants.returned(&query, &headers).await }).await {
        Ok(Ok(())) => text(StatusCode::OK, DONE),
        Ok(Err(Shown(status, said))) => text(status, said),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, OLD),
    }
}

/// What providers read that know clients by the address of such a document.
async fn document(State(grants): State<Arc<Grants>>) -> Response {
    let Some(place) = grants.place.get().filter(|place| place.is_public()) else {
        return text(StatusCode::NOT_FOUND, "This endpoint is at no public address.\n");
    };
    let mut response = Response::new(Body::from(published(place).to_string()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

impl Grants {
    /// Whether whoever opens an address is the user who was asked. False: they have not said who they are.
    async fn is_asker(&self, user: &str, request: Request) -> Result<bool, Shown> {
        let Some(access) = self.place.get().and_then(|place| place.access.clone()) else { return Ok(true) };
        let peer = request.extensions().get::<Peer>().map(|Peer(address)| *address);
        let mut headers = HeaderMap::new();
        if let Some(shown) = request.headers().get(header::AUTHORIZATION) {
            headers.insert(header::AUTHORIZATION, shown.clone());
        } else if request.method() == http::Method::POST {
            let body = to_bytes(request.into_body(), MAX_FORM).await;
            let body = body.map_err(|_| Shown(StatusCode::PAYLOAD_TOO_LARGE, "The form is too long.\n"))?;
            let members = pairs(std::str::from_utf8(&body).unwrap_or_default());
            let token = one(&members, "token").unwrap_or_default();
            let shown = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
            let wrong = |_| Shown(StatusCode::FORBIDDEN, "That is no token of this endpoint.\n");
            headers.insert(header::AUTHORIZATION, shown.map_err(wrong)?);
        } else {
            return Ok(false);
        }
        match access.principal(&headers, "/mcp", peer).await {
            Ok(principal) if principal.name == user => Ok(true),
            Ok(_) => Err(Shown(StatusCode::FORBIDDEN, "Somebody else was asked to open this address.\n")),
            Err(_) => Err(Shown(StatusCode::FORBIDDEN, "That is no token of this endpoint.\n")),
        }
    }

    /// Sends the browser to the provider, and remembers which browser that was.
    async fn open(&self, id: &str, user: &str, wanted: &Wanted, endpoints: Endpoints) -> Response {
        let Some(place) = self.place.get() else { return text(StatusCode::NOT_FOUND, OLD) };
        let known = match self.known(wanted, &endpoints).await {
            Ok(known) => known,
            Err(why) => {
                let shown = if matches!(why, Stranger::Undeclared(_)) { STRANGER } else { UNREACHED };
                tracing::warn!(server = %wanted.server, why = why.why(), "users cannot authorize");
                return text(StatusCode::BAD_GATEWAY, shown);
            }
        };
        let Ok(mut address) = reqwest::Url::parse(&endpoints.authorization) else {
            return text(StatusCode::BAD_GATEWAY, OLD);
        };
        let (state, verifier, cookie) = (random(), random(), random());
        let hash = ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes());
        address
            .query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &known.id)
            .append_pair("redirect_uri", &place.redirect())
            .append_pair("state", &state)
            .append_pair("code_challenge", &BASE64_URL_SAFE_NO_PAD.encode(hash))
            .append_pair("code_challenge_method", "S256")
            .append_pair("resource", wanted.resource(&endpoints));
        let scopes = self.scopes(user, wanted, &endpoints);
        if !scopes.is_empty() {
            address.query_pairs_mut().append_pair("scope", &scopes.join(" "));
        }
        if endpoints.offline {
            // Otherwise providers of OpenID Connect leave `offline_access` out (Core, section 11).
            address.query_pairs_mut().append_pair("prompt", "consent");
        }
        let browser = Digest::of_bytes(cookie.as_bytes());
        let mut pending = lock(&self.pending);
        let Some(one) = pending.iter_mut().find(|one| one.id == id) else {
            return text(StatusCode::NOT_FOUND, OLD);
        };
        one.opened = Some(Opened { state, verifier, browser, endpoints, known, scopes });
        drop(pending);
        let secure = if place.origin.starts_with("https:") { "; Secure" } else { "" };
        let cookie = format!(
            "{}={cookie}; HttpOnly; SameSite=Lax; Path=/oauth; Max-Age={}{secure}",
            cookie_of(id),
            LIFE.as_secs()
        );
        let mut response = text(StatusCode::SEE_OTHER, "");
        let shown = [(header::LOCATION, address.to_string()), (header::SET_COOKIE, cookie)];
        for (name, value) in shown {
            let Ok(value) = HeaderValue::from_str(&value) else { return text(StatusCode::BAD_GATEWAY, OLD) };
            response.headers_mut().insert(name, value);
        }
        response
    }

    /// Takes what the provider sent the browser back with, once.
    async fn returned(&self, query: &[(String, String)], headers: &HeaderMap) -> Result<(), Shown> {
        let refused = |said| Err(Shown(StatusCode::BAD_REQUEST, said));
        let state = one(query, "state").unwrap_or_default();
        let taken = {
            let mut pending = lock(&self.pending);
            pending.retain(|one| one.since.elapsed() < LIFE);
            let at = pending.iter().position(|one| {
                // 256 random bits, compared by their digests: how long that takes tells nothing.
                let digest = |text: &str| Digest::of_bytes(text.as_bytes());
                one.opened.as_ref().is_some_and(|opened| digest(&opened.state) == digest(state))
            });
            at.map(|at| pending.swap_remove(at))
        };
        let Some(Pending { id, user, wanted, opened: Some(opened), .. }) = taken else { return refused(OLD) };
        let cookie = cookie(headers, &cookie_of(&id)).map(|cookie| Digest::of_bytes(cookie.as_bytes()));
        if cookie != Some(opened.browser) {
            return refused(
                "This browser is not the one that began. Repeat the call, and open the new address.\n",
            );
        }
        match one(query, "iss") {
            Some(issuer) if issuer != opened.endpoints.issuer => {
                return refused("Another provider answered than was asked. Nothing was kept.\n");
            }
            None if opened.endpoints.names_itself => {
                return refused("The provider did not say who it is. Nothing was kept.\n");
            }
            _ => {}
        }
        if one(query, "error").is_some() {
            return refused("The provider did not authorize it. Nothing was kept.\n");
        }
        let Some(code) = one(query, "code") else { return refused("The provider sent no code.\n") };
        self.exchange(user, &wanted, &opened, code).await
    }

    /// A code for a token, which is kept.
    async fn exchange(
        &self,
        user: String,
        wanted: &Wanted,
        opened: &Opened,
        code: &str,
    ) -> Result<(), Shown> {
        let failed = |why: String| {
            tracing::warn!(server = %wanted.server, why, "a user's authorization failed");
            Shown(StatusCode::BAD_GATEWAY, "The provider gave no token. The log of the daemon says why.\n")
        };
        let (Some(declared), Some(place)) = (wanted.user(), self.place.get()) else {
            return Err(Shown(StatusCode::BAD_REQUEST, OLD));
        };
        let redirect = place.redirect();
        let grant = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &redirect),
            ("code_verifier", &opened.verifier),
        ];
        let Opened { endpoints, known, scopes, .. } = opened;
        let granted = self.ask(endpoints, known, wanted.resource(endpoints), &grant).await;
        if let Err(Failed::Stranger(_)) = &granted {
            self.forget_registration(&endpoints.issuer, known);
        }
        let granted = granted.map_err(|error| failed(error.why()))?;
        // The server may have been declared anew meanwhile.
        if lock(&self.known).get(&wanted.server).is_some_and(|now| now.digest() != wanted.digest()) {
            return Err(Shown(StatusCode::BAD_REQUEST, OLD));
        }
        let now = seconds();
        let before = self.vault.find(&user, &wanted.server);
        let raised = before
            .filter(|about| about.scopes.len() < scopes.len())
            .map_or(0, |about| about.raised.saturating_add(1));
        let about = Authorization {
            user,
            server: wanted.server.clone(),
            issuer: endpoints.issuer.clone(),
            since: now,
            until: now + granted.life.as_secs(),
            declared: wanted.digest(),
            client: known.digest(),
            scopes: scopes.clone(),
            raised,
        };
        tracing::info!(user = about.user, server = %about.server, issuer = about.issuer, "authorized");
        let turn = self.turn(&about.user, &about.server);
        let _turn = turn.lock().await;
        let lists = declared.list_as.as_ref() == Some(&about.user);
        lock(&self.lacking).remove(&(about.user.clone(), about.server.clone()));
        self.vault.keep(about, &granted.tokens).map_err(|error| failed(error.chain()))?;
        if lists {
            self.listed.notify_one();
        }
        Ok(())
    }
}

/// One for each address that is opened, so that two can be open in one browser.
fn cookie_of(id: &str) -> String {
    format!("toolcrib_{}", id.get(..16).unwrap_or_default())
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The pairs of a query or a form.
fn pairs(text: &str) -> Vec<(String, String)> {
    let url = reqwest::Url::parse(&format!("http://localhost/?{text}")).ok();
    url.iter().flat_map(reqwest::Url::query_pairs).map(|(key, value)| (key.into(), value.into())).collect()
}

/// The value of a member that is given once.
fn one<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut found = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
    found.next().filter(|_| found.next().is_none())
}

fn form(endpoints: &Endpoints) -> Response {
    // Browsers hold the redirect that follows the form to this as well.
    let to = reqwest::Url::parse(&endpoints.authorization).map(|url| url.origin().ascii_serialization());
    let policy = format!(
        "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self' {}",
        to.unwrap_or_default()
    );
    let mut response = text(StatusCode::OK, FORM);
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    // Otherwise browsers send the form with `Origin: null`, which is refused as anybody's.
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn text(status: StatusCode, said: &'static str) -> Response {
    const HEADERS: [(HeaderName, &str); 6] = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
        ),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    let mut response = Response::new(Body::from(said));
    *response.status_mut() = status;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
