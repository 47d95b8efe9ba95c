//! Scopes of OAuth that an endpoint wants of tokens. Source: RFC 6750 section 3.1, RFC 9728, MCP
//! `basic/authorization`.

use super::{Gateway, Scope, Unserved, operator};
use crate::policy::Principal;
use crate::resource::toolset::Access;

impl Gateway {
    /// Whether a principal's token is good for an endpoint.
    pub(super) fn within(&self, scope: &Scope, access: &Access, user: &Principal) -> Result<(), Unserved> {
        if access.is_within(&user.scopes) {
            return Ok(());
        }
        let scopes = access.scopes.join(" ");
        let why = format!("the token lacks a scope that is needed here: `{scopes}`");
        let metadata = self.metadata_of(scope);
        let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scopes}\"{metadata}");
        Err(Unserved::Scopes { why, challenge })
    }

    /// What the endpoint at a path wants of tokens, besides what all of them want.
    pub fn scopes_at(&self, path: &str) -> Vec<String> {
        let Some(scope) = Scope::of_path(path) else { return Vec::new() };
        if operator::is_it(&scope) {
            let operators = &self.catalogs.current().operators;
            return operators.as_ref().map(|access| access.scopes.clone()).unwrap_or_default();
        }
        let toolset = self.catalogs.sight(&scope).ok().and_then(|sight| sight.toolset);
        let access = toolset.as_ref().and_then(|toolset| toolset.access.as_ref());
        access.map(|access| access.scopes.clone()).unwrap_or_default()
    }
}
