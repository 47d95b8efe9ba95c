//! As whom an authorization server knows us. In this order (MCP `basic/authorization`, client registration):
//! as declared; by the address of a document about us, where it reads such documents and reaches us by https;
//! as it registered us when we asked it to (RFC 7591).
//!
//! Invariant: what one authorization server gave is shown to that one only (SEP-2352).

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Uri};
use serde::Deserialize;
use serde_json::json;

use super::super::presented::{reached, refusal};
use super::provider::{BASIC, Endpoints, read};
use super::vault::Registration;
use super::{Grants, Place, Wanted, lock, seconds};
use crate::ports::SecretValue;
use crate::resource::Digest;

/// The path of the document about us.
pub(super) const DOCUMENT: &str = "/oauth/client.json";
/// How people read of us at the provider.
const NAME: &str = "Toolcrib";
const POST: &str = "client_secret_post";
const NONE: &str = "none";
/// Bytes of an id or a secret: they have some dozens, those of signed kinds some hundreds.
const MAX_TEXT: usize = 4 << 10;
/// Seconds before the end of a secret at which we register anew: as long as an address to open is good.
const EARLY: u64 = 600;

/// Who we are at one authorization server.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) id: String,
    pub(super) shows: Shows,
    /// It was made by asking, and may be forgotten there.
    pub(super) registered: bool,
}

impl Known {
    /// What is kept beside tokens of who they were given to: ids are told to providers only.
    pub(super) fn digest(&self) -> String {
        Digest::of_bytes(self.id.as_bytes()).to_string()
    }
}

/// How that is proven at the token endpoint.
#[derive(Clone)]
pub(super) enum Shows {
    Nothing,
    Basic(SecretValue),
    Post(SecretValue),
}

/// Why we are nobody there.
pub(super) enum Stranger {
    /// Nothing is declared, and it registers nobody: what to do.
    Undeclared(String),
    Failed(String),
}

impl Stranger {
    pub(super) fn why(self) -> String {
        match self {
            Self::Undeclared(why) | Self::Failed(why) => why,
        }
    }
}

/// What a registration endpoint answers (RFC 7591, section 3.2.1).
#[derive(Deserialize)]
struct Registered {
    client_id: String,
    client_secret: Option<String>,
    /// Seconds since the epoch; 0: never.
    #[serde(default)]
    client_secret_expires_at: u64,
    token_endpoint_auth_method: Option<String>,
}

impl Grants {
    /// Who we are at a server's provider; registers us there where that is the way.
    pub(super) async fn known(&self, wanted: &Wanted, endpoints: &Endpoints) -> Result<Known, Stranger> {
        if let Some(known) = self.known_already(wanted, endpoints).map_err(Stranger::Failed)? {
            return Ok(known);
        }
        let Some(place) = self.place.get() else {
            return Err(Stranger::Failed("nothing is served yet".to_owned()));
        };
        let Some(endpoint) = &endpoints.registration else {
            // It may be changed at the provider, and is looked up again then.
            lock(&self.found).remove(&wanted.digest());
            return Err(Stranger::Undeclared(undeclared(endpoints, place)));
        };
        // One at a time, so that two who begin at once do not both register.
        let _turn = self.registering.lock().await;
        if let Some(known) = self.registered(&endpoints.issuer, place) {
            return Ok(known);
        }
        let registration = self.register(endpoint, endpoints, place).await.map_err(Stranger::Failed)?;
        tracing::info!(issuer = endpoints.issuer, "registered as a client");
        self.vault.keep_registration(&registration).map_err(|error| Stranger::Failed(error.chain()))?;
        Ok(registration.known())
    }

    /// The same, without asking anybody.
    pub(super) fn known_already(
        &self,
        wanted: &Wanted,
        endpoints: &Endpoints,
    ) -> Result<Option<Known>, String> {
        let user = wanted.user().ok_or("its users do not authorize for themselves")?;
        if let Some(id) = &user.client_id {
            let shows = match &user.client_secret {
                None => Shows::Nothing,
                Some(secret) => {
                    let secret = self.secrets.resolve(&secret.secret).map_err(|error| error.operation)?;
                    let methods = || endpoints.methods.join("`, `");
                    let basic = endpoints.methods.iter().any(|method| method == BASIC);
                    let post = endpoints.methods.iter().any(|method| method == POST);
                    match (basic, post) {
                        (true, _) => Shows::Basic(secret),
                        (false, true) => Shows::Post(secret),
                        (false, false) => {
                            return Err(format!(
                                "the provider takes no secret of a client, but `{}`; a `clientSecret` is declared",
                                methods()
                            ));
                        }
                    }
                }
            };
            return Ok(Some(Known { id: id.clone(), shows, registered: false }));
        }
        let Some(place) = self.place.get() else { return Ok(None) };
        if endpoints.reads_documents && place.is_public() {
            let id = format!("{}{DOCUMENT}", place.origin);
            return Ok(Some(Known { id, shows: Shows::Nothing, registered: false }));
        }
        Ok(self.registered(&endpoints.issuer, place))
    }

    /// As which client a token was given ([`Known::digest`]), where we still are that client.
    pub(super) fn known_as(
        &self,
        client: &str,
        wanted: &Wanted,
        endpoints: &Endpoints,
    ) -> Result<Option<Known>, String> {
        let now = self.known_already(wanted, endpoints)?.filter(|known| known.digest() == client);
        // Browsers may have been sent back to another address then.
        let before = || {
            let mut all = self.vault.registered(&endpoints.issuer).into_iter().map(Registration::known);
            all.find(|known| known.digest() == client)
        };
        Ok(now.or_else(before))
    }

    /// A registration that is good for a while yet.
    fn registered(&self, issuer: &str, place: &Place) -> Option<Known> {
        let mut all = self.vault.registered(issuer).into_iter();
        let found = all.find(|one| one.redirect == place.redirect())?;
        let good = found.until.is_none_or(|until| seconds() + EARLY < until);
        good.then(|| found.known())
    }

    /// The provider does not know us any more: the next who authorizes registers us anew.
    pub(super) fn forget_registration(&self, issuer: &str, known: &Known) {
        if !known.registered {
            return;
        }
        tracing::info!(issuer, "the provider does not know its registration any more");
        if let Err(error) = self.vault.forget_registration(issuer, &known.id) {
            tracing::error!(issuer, error = %error.chain(), "a registration is not deleted");
        }
    }

    async fn register(
        &self,
        endpoint: &str,
        endpoints: &Endpoints,
        place: &Place,
    ) -> Result<Registration, String> {
        let method =
            [BASIC, POST, NONE].into_iter().find(|&ours| endpoints.methods.iter().any(|it| it == ours));
        let method = method
            .ok_or("it authenticates clients in no way that is supported; declare `userOAuth.clientId`")?;
        let failed = |why: String| format!("failed to register at the authorization server: {why}");
        let mut about = document(place);
        about["token_endpoint_auth_method"] = method.into();
        let request = self.client.request(Method::POST, endpoint).map_err(|error| failed(error.chain()))?;
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .body(about.to_string());
        let response = request.send().await.map_err(|error| failed(reached(&error)))?;
        let status = response.status();
        let body = read(response).await.map_err(failed)?;
        if !status.is_success() {
            return Err(failed(refusal(status, &body)));
        }
        let given: Registered =
            serde_json::from_slice(&body).map_err(|_| failed("its answer is no registration".to_owned()))?;
        let long = |text: &String| text.is_empty() || text.len() > MAX_TEXT;
        if long(&given.client_id) || given.client_secret.as_ref().is_some_and(long) {
            return Err(failed("its answer holds an id or a secret that cannot be".to_owned()));
        }
        // What it left out is as it was asked for.
        let method = given.token_endpoint_auth_method.as_deref().unwrap_or(method);
        let secret = given.client_secret.map(|secret| SecretValue::new(secret.into_bytes()));
        let shows = match (method, secret) {
            (NONE, _) => Shows::Nothing,
            (BASIC, Some(secret)) => Shows::Basic(secret),
            (POST, Some(secret)) => Shows::Post(secret),
            (BASIC | POST, None) => return Err(failed("it gave no secret".to_owned())),
            _ => return Err(failed("it wants clients to show what is not supported".to_owned())),
        };
        Ok(Registration {
            issuer: endpoints.issuer.clone(),
            redirect: place.redirect(),
            until: Some(given.client_secret_expires_at)
                .filter(|until| *until != 0 && !matches!(shows, Shows::Nothing)),
            id: given.client_id,
            shows,
        })
    }
}

impl Registration {
    fn known(self) -> Known {
        Known { id: self.id, shows: self.shows, registered: true }
    }
}

impl Place {
    /// Where providers send browsers back to.
    pub(super) fn redirect(&self) -> String {
        format!("{}/oauth/callback", self.origin)
    }

    /// Whether browsers reach it on this machine only.
    fn is_local(&self) -> bool {
        let uri: Uri = self.origin.parse().unwrap_or_default();
        matches!(uri.host(), None | Some("localhost" | "127.0.0.1" | "[::1]"))
    }

    /// Whether a provider elsewhere may read a document of ours.
    pub(super) fn is_public(&self) -> bool {
        self.origin.starts_with("https://") && !self.is_local()
    }
}

/// What a provider reads about us (RFC 7591, section 2).
fn document(place: &Place) -> serde_json::Value {
    // A redirect to this machine is that of a native application (OpenID Connect Registration, section 2).
    let kind = if place.is_local() { "native" } else { "web" };
    json!({
        "client_name": NAME,
        "redirect_uris": [place.redirect()],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": NONE,
        "application_type": kind,
    })
}

/// The document that is served at [`DOCUMENT`] (OAuth Client ID Metadata Documents).
pub(super) fn published(place: &Place) -> serde_json::Value {
    let mut document = document(place);
    document["client_id"] = format!("{}{DOCUMENT}", place.origin).into();
    document["client_uri"] = place.origin.clone().into();
    document
}

fn undeclared(endpoints: &Endpoints, place: &Place) -> String {
    let or = if endpoints.reads_documents {
        ", or serve this endpoint at a public https address (`--public-url`)"
    } else {
        ""
    };
    format!(
        "the authorization server `{}` registers no clients by itself: declare `userOAuth.clientId`, registered there with `{}` as redirect URI{or}",
        endpoints.issuer,
        place.redirect()
    )
}
