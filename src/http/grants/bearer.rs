//! Tokens of users while they are good: shown, refreshed, revoked.

use std::sync::Arc;

use http::HeaderValue;

use super::client::Known;
use super::token::{Failed, Granted};
use super::vault::Tokens;
use super::{Authorization, Grants, Wanted, lock, seconds};
use crate::ports::{PortError, PortResult, SecretValue};
use crate::resource::Name;

/// Before its end a token is refreshed; at most half its life.
const EARLY: u64 = 60;

impl Grants {
    /// Deletes an authorization, and tells the provider; why it could not be told, if so.
    ///
    /// # Errors
    /// When there is none, or the store refuses.
    pub async fn revoke(&self, user: &str, server: &Name) -> PortResult<Option<String>> {
        let turn = self.turn(user, server);
        let _turn = turn.lock().await;
        let about = self.vault.find(user, server).ok_or_else(|| {
            PortError::stalled(format!("`{user}` has not authorized `{server}`"))
                .hint("`toolcrib authorizations list` shows who has")
        })?;
        let tokens = self.vault.tokens(&about);
        self.vault.forget(user, server)?;
        let Some(tokens) = tokens else { return Ok(None) };
        let known = lock(&self.known).get(server).cloned();
        let Some(wanted) = known.filter(|wanted| wanted.digest() == about.declared) else {
            return Ok(Some("its server is not declared any more".to_owned()));
        };
        let endpoints = match self.endpoints(&wanted).await {
            Ok(endpoints) if endpoints.issuer == about.issuer => endpoints,
            Ok(_) => return Ok(Some("the server names another provider now".to_owned())),
            Err(why) => return Ok(Some(why)),
        };
        let known = match self.known_as(&about.client, &wanted, &endpoints) {
            Ok(Some(known)) => known,
            Ok(None) => return Ok(Some("it was given to a client that we are not any more".to_owned())),
            Err(why) => return Ok(Some(why)),
        };
        let Some(endpoint) = endpoints.revocation else {
            return Ok(Some("it has no revocation endpoint: the token ends by itself".to_owned()));
        };
        let given = [(tokens.refresh.as_ref(), "refresh_token"), (Some(&tokens.access), "access_token")];
        for (token, kind) in given {
            let Some(token) = token.and_then(|token| std::str::from_utf8(token.expose()).ok()) else {
                continue;
            };
            match self.tell_revoked(&endpoint, &known, (token, kind)).await {
                Ok(true) => {}
                // What was given for a refresh token that is revoked ends soon (RFC 7009, section 2.1).
                Ok(false) if kind == "access_token" && tokens.refresh.is_some() => {}
                Ok(false) => {
                    return Ok(Some("it revokes no such tokens: this one ends by itself".to_owned()));
                }
                Err(why) => return Ok(Some(why)),
            }
        }
        Ok(None)
    }

    /// A header with the user's token, good for a while yet. `refused`: one that the server did not take.
    ///
    /// # Errors
    /// When the user has to authorize (again), or the provider cannot be asked.
    pub async fn bearer(
        self: &Arc<Self>,
        user: &str,
        wanted: &Wanted,
        refused: Option<&HeaderValue>,
    ) -> PortResult<HeaderValue> {
        let turn = self.turn(user, &wanted.server).lock_owned().await;
        let about = self.vault.find(user, &wanted.server).filter(|_| self.has(user, wanted));
        let Some((tokens, about)) = about.and_then(|about| Some((self.vault.tokens(&about)?, about))) else {
            self.forget(user, &wanted.server);
            return Err(missing(user, wanted));
        };
        let header = header(&tokens.access)?;
        let now = seconds();
        let early = EARLY.min(about.until.saturating_sub(about.since) / 2);
        let good = now + early < about.until;
        if good && refused != Some(&header) {
            return Ok(header);
        }
        if refused == Some(&header) {
            // It may name another provider now.
            lock(&self.found).remove(&wanted.digest());
        }
        let usable = (now < about.until && refused != Some(&header)).then_some(header);
        if tokens.refresh.is_none() {
            return usable.ok_or_else(|| {
                self.forget(user, &wanted.server);
                missing(user, wanted)
            });
        }
        let (grants, wanted) = (Arc::clone(self), wanted.clone());
        // To the end, whatever becomes of the call: a refresh token may be good once.
        let renewed = self.tasks.spawn(async move {
            let _turn = turn;
            grants.renewed(tokens, &wanted, about, usable).await
        });
        renewed.await.unwrap_or_else(|_| Err(PortError::retry("failed to refresh the token of the user")))
    }

    /// A new token in the place of one; `usable` where that cannot be had.
    async fn renewed(
        &self,
        tokens: Tokens,
        wanted: &Wanted,
        about: Authorization,
        usable: Option<HeaderValue>,
    ) -> PortResult<HeaderValue> {
        let Some(refresh) = tokens.refresh.as_ref() else { return Err(missing(&about.user, wanted)) };
        match self.refreshed(refresh, wanted, &about).await {
            Ok(granted) => {
                let now = seconds();
                let tokens = Tokens { refresh: granted.tokens.refresh.or(tokens.refresh), ..granted.tokens };
                let about = Authorization { since: now, until: now + granted.life.as_secs(), ..about };
                self.vault.keep(about, &tokens)?;
                header(&tokens.access)
            }
            Err(failed) => usable.ok_or_else(|| match failed {
                Failed::Refused(why) | Failed::Stranger(why) => {
                    let user = about.user;
                    tracing::info!(user, server = %wanted.server, why, "a token is not refreshed: the user is asked again");
                    self.forget(&user, &wanted.server);
                    missing(&user, wanted)
                }
                Failed::Unavailable(why) => {
                    PortError::retry("failed to refresh the token of the user").caused_by(why)
                }
            }),
        }
    }

    async fn refreshed(
        &self,
        refresh: &SecretValue,
        wanted: &Wanted,
        about: &Authorization,
    ) -> Result<Granted, Failed> {
        let endpoints = self.endpoints(wanted).await.map_err(Failed::Unavailable)?;
        if endpoints.issuer != about.issuer {
            return Err(Failed::Refused("the server names another provider now".to_owned()));
        }
        let known = self.known_as(&about.client, wanted, &endpoints).map_err(Failed::Unavailable)?;
        let known: Known = known.ok_or_else(|| {
            Failed::Stranger("it was given to a client that we are not any more".to_owned())
        })?;
        let refresh = String::from_utf8_lossy(refresh.expose());
        let grant = [("grant_type", "refresh_token"), ("refresh_token", &*refresh)];
        let granted = self.ask(&endpoints, &known, wanted.resource(&endpoints), &grant).await;
        if let Err(Failed::Stranger(_)) = &granted {
            self.forget_registration(&endpoints.issuer, &known);
        }
        granted
    }
}

fn missing(user: &str, wanted: &Wanted) -> PortError {
    let server = &wanted.server;
    PortError::retry(format!(
        "user `{user}` has not authorized server `{server}`: run `toolcrib authorizations start {server} --user {user}` and open what it prints"
    ))
}

fn header(token: &SecretValue) -> PortResult<HeaderValue> {
    let bytes = [b"Bearer ", token.expose()].concat();
    let mut header = HeaderValue::from_bytes(&bytes)
        .map_err(|_| PortError::stalled("the token of the user cannot be sent in a header"))?;
    header.set_sensitive(true);
    Ok(header)
}
