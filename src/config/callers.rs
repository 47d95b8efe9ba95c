//! Who may call: what the flags about tokens mean.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{ConfigError, Settings};

/// How callers say who they are. At least one of both is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callers {
    /// Hashes of static tokens.
    pub tokens: Option<PathBuf>,
    pub oidc: Option<Oidc>,
}

/// An identity provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oidc {
    pub issuer: String,
    pub audience: String,
    pub name_claim: String,
    pub groups_claim: String,
    /// What every token has to be good for.
    pub scopes: Vec<String>,
}

/// # Errors
/// When others than this machine could call without saying who they are, or under a name that
/// nobody could check.
pub(super) fn callers(
    settings: &Settings,
    listen: SocketAddr,
    public_url: Option<&str>,
) -> Result<Option<Callers>, ConfigError> {
    let oidc = oidc(settings, public_url)?;
    let callers = (settings.tokens_file.is_some() || oidc.is_some())
        .then(|| Callers { tokens: settings.tokens_file.clone(), oidc });
    if !listen.ip().is_loopback() {
        if callers.is_none() {
            return Err(ConfigError::new(format!(
                "`listen`: `{listen}` can be reached by others, and nobody would have to say who they are"
            ))
            .hint("name who may call with --tokens-file or --oidc-issuer, or listen on 127.0.0.1"));
        }
        if public_url.is_none() {
            return Err(ConfigError::new(format!(
                "`listen`: `{listen}` can be reached by others, and under which name is not said"
            ))
            .hint("name the address clients use with --public-url, such as https://tools.example.org"));
        }
    }
    Ok(callers)
}

fn oidc(settings: &Settings, public_url: Option<&str>) -> Result<Option<Oidc>, ConfigError> {
    let Some(issuer) = &settings.oidc_issuer else {
        let extra = settings.oidc_audience.is_some()
            || settings.oidc_name_claim.is_some()
            || settings.oidc_groups_claim.is_some()
            || settings.oidc_scopes.is_some();
        return if extra {
            Err(ConfigError::new("`oidc-audience`, `oidc-scopes` and the claims need an issuer")
                .hint("add --oidc-issuer"))
        } else {
            Ok(None)
        };
    };
    if !issuer.starts_with("https://") && !issuer.starts_with("http://127.0.0.1:") {
        return Err(ConfigError::new(format!("`oidc-issuer`: `{issuer}` is not an https address"))
            .hint("write the `issuer` of the provider's /.well-known/openid-configuration"));
    }
    let audience = settings.oidc_audience.clone().or_else(|| public_url.map(|url| format!("{url}/mcp")));
    let audience = audience.filter(|audience| !audience.is_empty()).ok_or_else(|| {
        ConfigError::new("`oidc-issuer` needs an audience: tokens for other services must not be taken")
            .hint("add --oidc-audience, or --public-url")
    })?;
    let claim = |given: &Option<String>, usual: &str| given.clone().unwrap_or_else(|| usual.to_owned());
    let scopes: Vec<String> =
        settings.oidc_scopes.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned).collect();
    // RFC 6749, section 3.3: visible ASCII without `"` and `\`.
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    if let Some(wrong) = scopes.iter().find(|scope| !scope.bytes().all(fits)) {
        return Err(ConfigError::new(format!("`oidc-scopes`: `{wrong}` is no scope"))
            .hint("write words separated by spaces, such as `mcp:tools mcp:read`"));
    }
    Ok(Some(Oidc {
        issuer: issuer.clone(),
        audience,
        name_claim: claim(&settings.oidc_name_claim, "sub"),
        groups_claim: claim(&settings.oidc_groups_claim, "groups"),
        scopes,
    }))
}
