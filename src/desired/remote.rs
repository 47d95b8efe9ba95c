//! What a server that runs elsewhere is shown, checked: its headers and how tokens are got.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Uri};
use serde::Serialize;

use super::argv::parse;
use super::context::Context;
use super::place::Findings;
use super::{Location, needs};
use crate::manifest::Declared;
use crate::resource::remote::{OAuth, UserOAuth};
use crate::resource::server::{ServerSpec, Sessions};
use crate::resource::{Digest, EnvValue};

/// Headers that the protocol or the connection decides.
const OURS: [&str; 16] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "last-event-id",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
];

/// Whether a header, in lower case, is set by the protocol or the connection, so that nobody declares it.
pub fn is_ours(name: &str) -> bool {
    OURS.contains(&name) || name.starts_with("mcp-")
}

/// What requests to a server elsewhere carry besides what the protocol says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// By name; `${NAME}` in a value is a variable of `env`.
    headers: BTreeMap<String, String>,
    /// Only those that the headers speak of.
    pub env: BTreeMap<String, EnvValue>,
    pub oauth: Option<OAuth>,
    /// Where each user has a token of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<UserOAuth>,
}

impl Credentials {
    /// Nothing but what users authorize.
    #[cfg(test)]
    pub fn of_users(user: UserOAuth) -> Self {
        Self { headers: BTreeMap::new(), env: BTreeMap::new(), oauth: None, user: Some(user) }
    }

    /// The headers, with their placeholders replaced by what `value` says; none when it does not know one.
    pub fn headers<'a>(
        &'a self,
        value: impl Fn(&str) -> Option<String> + Copy + 'a,
    ) -> impl Iterator<Item = Option<(&'a str, String)>> {
        self.headers.iter().map(move |(name, text)| Some((name.as_str(), parse(text).ok()?.fill(value)?)))
    }
}

/// Where a server elsewhere is, and the digest of that.
pub(super) fn location(
    context: &Context<'_>,
    declared: &Arc<Declared>,
    spec: &ServerSpec,
    url: &str,
    findings: &mut Findings<'_>,
) -> (Location, Digest) {
    if !spec.files.is_empty() {
        let message = "a server that runs elsewhere gets no `files` from here";
        findings.error(&["files"], "not-supported", message, "remove it; nothing is started for a `url`");
    }
    if spec.volumes.is_some() {
        let message = "a server that runs elsewhere mounts no `volumes` from here";
        findings.error(&["volumes"], "not-supported", message, "remove it; nothing is started for a `url`");
    }
    let (env, _) =
        needs::merge(context, declared, &spec.integrations, (&spec.env, &BTreeMap::new()), findings);
    let mut used = BTreeMap::new();
    let mut headers = BTreeMap::new();
    for (name, text) in &spec.headers {
        if let Some(name) = header(name, text, &env, &mut used, findings) {
            headers.insert(name, text.clone());
        }
    }
    for name in spec.env.keys().filter(|name| !used.contains_key(*name)) {
        let message = format!("`{name}` reaches nobody: nothing is started for a `url`");
        let hint = format!("use it in a header, as `${{{name}}}`, or remove it");
        findings.error(&["env", name], "not-supported", message, &hint);
    }
    for (at, name) in spec.integrations.iter().enumerate() {
        let given = context.integrations.variables(name);
        if given.is_some_and(|mut given| !given.any(|variable| used.contains_key(variable))) {
            let message =
                format!("no header uses a variable of `{name}`, and nothing is started for a `url`");
            let hint = "use one as `${NAME}` in `headers`, or remove the integration";
            findings.error(&["integrations", &at.to_string()], "not-supported", message, hint);
        }
    }
    let oauth = spec.oauth.as_deref().cloned();
    if let Some(oauth) = &oauth {
        check(oauth, headers.contains_key("authorization"), findings);
    }
    let person = spec.user_oauth.as_deref().cloned();
    if let Some(person) = &person {
        check_user(person, spec, headers.contains_key("authorization"), findings);
    }
    if headers.is_empty() && oauth.is_none() && person.is_none() {
        let location = Location::Remote { url: url.to_owned(), credentials: None };
        return (location, Digest::of("remote", url));
    }
    let credentials = Credentials { headers, env: used, oauth, user: person };
    let digest = Digest::of("remote", &(url, &credentials));
    (Location::Remote { url: url.to_owned(), credentials: Some(Arc::new(credentials)) }, digest)
}

/// Checks one header; its name in lower case.
fn header(
    name: &str,
    text: &str,
    env: &BTreeMap<String, EnvValue>,
    used: &mut BTreeMap<String, EnvValue>,
    findings: &mut Findings<'_>,
) -> Option<String> {
    let path = ["headers", name];
    let mut fault = |message: String, hint: &str| {
        findings.error(&path, "invalid-value", message, hint);
        None
    };
    let Ok(parsed) = name.parse::<HeaderName>() else {
        return fault(format!("`{name}` is no name of a header"), "use letters, digits and `-`");
    };
    let lower = parsed.as_str().to_owned();
    if is_ours(&lower) {
        return fault(format!("`{name}` is set by the protocol"), "remove it");
    }
    let template = match parse(text) {
        Ok(template) => template,
        Err(error) => return fault(error.message, "write `${NAME}`, or `$${` for the characters `${`"),
    };
    for variable in template.names() {
        let Some(value) = env.get(variable) else {
            let message = format!("`${{{variable}}}` is no variable of `env` or of an integration");
            return fault(message, "declare it in `env`, or name the integration that has it");
        };
        used.insert(variable.to_owned(), value.clone());
    }
    if HeaderValue::from_str(text).is_err() {
        return fault(
            "a header is one line of visible ASCII".to_owned(),
            "remove line breaks and other letters",
        );
    }
    Some(lower)
}

/// Whether secrets may be sent to an address: https, or http on this machine.
pub fn is_safe(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => true,
        (Some("http"), Some(host)) => near(host),
        _ => false,
    })
}

/// Whether an address is of this machine, as it is written.
pub fn is_near(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(near))
}

fn near(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

fn check_user(user: &UserOAuth, spec: &ServerSpec, shown: bool, findings: &mut Findings<'_>) {
    if user.client_id.is_none() {
        let needs = [("clientSecret", user.client_secret.is_some()), ("provider", user.provider.is_some())];
        for (field, _) in needs.iter().filter(|(_, given)| *given) {
            let message = format!("`{field}` is of no use without `clientId`");
            let hint = "declare the client that is registered at the provider";
            findings.error(&["userOAuth", field], "invalid-value", message, hint);
        }
    }
    if user.client_secret.is_some() && user.provider.is_none() && user.issuer.is_none() {
        let message = "the secret would be sent to whomever the server names";
        let hint = "declare `issuer`, the provider that knows this client, as it calls itself";
        findings.error(&["userOAuth", "clientSecret"], "missing-field", message, hint);
    }
    if let Some(issuer) = &user.issuer {
        if user.provider.is_some() {
            let message = "the provider is given twice: here, and by `provider`";
            findings.error(&["userOAuth", "issuer"], "invalid-value", message, "remove one of them");
        } else if !is_safe(issuer) {
            let message = format!("`{issuer}` does not begin with https://");
            let hint = "write it as the provider calls itself";
            findings.error(&["userOAuth", "issuer"], "invalid-value", message, hint);
        }
    }
    if let Some(provider) = &user.provider {
        let given = [
            ("issuer", Some(&provider.issuer)),
            ("authorizationUrl", Some(&provider.authorization_url)),
            ("tokenUrl", Some(&provider.token_url)),
            ("revocationUrl", provider.revocation_url.as_ref()),
        ];
        for (field, url) in given {
            if let Some(url) = url.filter(|url| !is_safe(url)) {
                let message = format!("`{url}` does not begin with https://");
                let path = ["userOAuth", "provider", field];
                findings.error(&path, "invalid-value", message, "codes and tokens are sent there");
            }
        }
    }
    if shown || spec.oauth.is_some() {
        let message = "`Authorization` is given twice: here, and by `headers` or `oauth`";
        findings.error(&["userOAuth"], "invalid-value", message, "remove one of them");
    }
    if spec.sessions == Sessions::PerClient {
        let message = "a server with `userOAuth` can ask its users nothing yet";
        let hint = "remove `sessions`: each user has a connection of their own anyway";
        findings.error(&["sessions"], "not-supported", message, hint);
    }
}

fn check(oauth: &OAuth, shown: bool, findings: &mut Findings<'_>) {
    if !is_safe(&oauth.token_url) {
        let message = format!("`{}` does not begin with https://", oauth.token_url);
        let hint = "name the token endpoint: a secret is sent there";
        findings.error(&["oauth", "tokenUrl"], "invalid-value", message, hint);
    }
    let proves = match (&oauth.client_secret, &oauth.client_key) {
        (None, None) => Some("nothing says how the client proves itself"),
        (Some(_), Some(_)) => {
            Some("the client proves itself twice: with `clientSecret` and with `clientKey`")
        }
        _ => None,
    };
    if let Some(message) = proves {
        findings.error(&["oauth"], "invalid-value", message, "declare one of `clientSecret` and `clientKey`");
    }
    if shown {
        let message = "`Authorization` is given twice: here and by `headers`";
        findings.error(&["oauth"], "invalid-value", message, "remove one of them");
    }
}

/// For a server that is started here there is nobody to show them to.
pub(super) fn refused(spec: &ServerSpec, findings: &mut Findings<'_>) {
    let given = [
        ("headers", !spec.headers.is_empty()),
        ("oauth", spec.oauth.is_some()),
        ("userOAuth", spec.user_oauth.is_some()),
    ];
    for (field, given) in given {
        if given {
            let message = format!("`{field}` is for servers that run elsewhere");
            findings.error(&[field], "invalid-value", message, "remove it, or use `source: {url: …}`");
        }
    }
}
