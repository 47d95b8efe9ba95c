//! What is asked for when a user authorizes, and what is asked for later: a server may want more for some
//! of its tools (RFC 6750, section 3.1; MCP `basic/authorization`, scope challenges; SEP-2350).
//!
//! Invariant: a user is asked again only where that asks for something new, and so often at most.

use tokio::time::Instant;

use super::{Grants, LIFE, MAX_PENDING, Wanted, lock};
use crate::ports::Refusal;

use super::provider::Endpoints;

/// What gives tokens that outlive the user's session (`OpenID` Connect Core, section 11).
pub(super) const OFFLINE: &str = "offline_access";
/// Scopes asked for in one authorization: providers show each to the user.
const MAX_SCOPES: usize = 64;
/// How often one authorization is asked to grow. Servers have a few scopes; one that wants another each
/// time does not keep its users busy for ever.
const MAX_RAISES: u8 = 8;

impl Grants {
    /// Told that a server refused a user's token with this challenge: whether that is for want of scopes, and
    /// the user can be asked for them. From then on [`Grants::address`] leads to asking for them too.
    pub(in crate::http) fn lacks(&self, user: &str, wanted: &Wanted, challenge: &str) -> Refusal {
        self.lacks_at(user, wanted, challenge, Instant::now())
    }

    pub(super) fn lacks_at(&self, user: &str, wanted: &Wanted, challenge: &str, now: Instant) -> Refusal {
        if parameter(challenge, "error").as_deref() != Some("insufficient_scope") {
            return Refusal::Other;
        }
        let Some(scopes) = parameter(challenge, "scope") else {
            let why = "the server wants a token with more scopes, and does not say which; declare them in `userOAuth.scopes`";
            return Refusal::Final(why.to_owned());
        };
        let about = self.vault.find(user, &wanted.server);
        let asked = about.as_ref().map(|about| about.scopes.as_slice()).unwrap_or_default();
        let more = scopes.split_whitespace().filter(|scope| !asked.iter().any(|known| known == scope));
        let more: Vec<String> = more.map(str::to_owned).collect();
        if more.is_empty() {
            return Refusal::Final(format!(
                "the server wants a token with the scopes `{scopes}`, which the provider was asked for and did not give to this user"
            ));
        }
        let raised = about.as_ref().map_or(0, |about| about.raised);
        if raised >= MAX_RAISES || asked.len() + more.len() > MAX_SCOPES {
            return Refusal::Final(format!(
                "the server wants the scopes `{scopes}` after it was given more {raised} times; declare all of them in `userOAuth.scopes`"
            ));
        }
        let mut lacking = lock(&self.lacking);
        // Whoever did not open the address in time is refused again, and asked again.
        lacking.retain(|_, (_, since)| now.saturating_duration_since(*since) < LIFE);
        let key = (user.to_owned(), wanted.server.clone());
        if lacking.len() >= MAX_PENDING && !lacking.contains_key(&key) {
            return Refusal::Final("too many users are asked for more scopes at the same time".to_owned());
        }
        let (all, since) = lacking.entry(key).or_insert_with(|| (Vec::new(), now));
        *since = now;
        for scope in more {
            if all.len() < MAX_SCOPES && !all.contains(&scope) {
                all.push(scope);
            }
        }
        Refusal::Ask(format!("it needs the scopes `{scopes}`"))
    }

    /// What a user is asked for: what is declared, or what the server names; with that, what was asked for
    /// before, and what the server refused calls for.
    pub(super) fn scopes(&self, user: &str, wanted: &Wanted, endpoints: &Endpoints) -> Vec<String> {
        let declared = wanted.user().map(|user| &*user.scopes).filter(|scopes| !scopes.is_empty());
        let first = declared.unwrap_or(&endpoints.scopes);
        let key = (user.to_owned(), wanted.server.clone());
        let lacking = lock(&self.lacking).get(&key).map(|(scopes, _)| scopes.clone()).unwrap_or_default();
        let before = self.vault.find(user, &wanted.server).map(|about| about.scopes).unwrap_or_default();
        let offline = endpoints.offline.then(|| OFFLINE.to_owned());
        let mut all: Vec<String> = Vec::new();
        for scope in first.iter().cloned().chain(before).chain(lacking).chain(offline) {
            if all.len() < MAX_SCOPES && !all.contains(&scope) {
                all.push(scope);
            }
        }
        all
    }
}

/// A parameter of a challenge (RFC 9110, section 11.2); the first of that name.
pub(super) fn parameter(challenge: &str, name: &str) -> Option<String> {
    let mut rest = challenge;
    while let Some((before, after)) = rest.split_once('=') {
        let key = before.trim_end().rsplit([' ', '\t', ',']).next().unwrap_or_default();
        let (value, left) = value(after.trim_start());
        if key.eq_ignore_ascii_case(name) {
            return Some(value).filter(|value| !value.is_empty());
        }
        rest = left;
    }
    None
}

/// A token or a quoted string, and what follows.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, left) = text.split_at(end);
        return (value.to_owned(), left);
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, character) in quoted.char_indices() {
        match character {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return (value, &quoted[at + 1..]),
            other => {
                value.push(other);
                escaped = false;
            }
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_challenge_are_read() {
        let challenge = r#"Bearer error="invalid_token", resource_metadata="https://a/x?y=1", error_description="say \"scope=no\", nonce=1", scope = "a b", realm=r"#;
        for (name, expected) in [
            ("resource_metadata", Some("https://a/x?y=1")),
            ("error", Some("invalid_token")),
            ("error_description", Some("say \"scope=no\", nonce=1")),
            ("scope", Some("a b")),
            ("Realm", Some("r")),
            ("metadata", None),
            ("nonce", None),
        ] {
            assert_eq!(parameter(challenge, name).as_deref(), expected, "{name}");
        }
        for broken in ["", "Bearer", "scope=", "scope=\"", "=x", "scope=\"é"] {
            assert_eq!(parameter(broken, "scope").as_deref(), broken.strip_prefix("scope=\"é").map(|_| "é"));
        }
    }
}
