//! What servers elsewhere are shown of who asks.

use std::sync::Arc;

use async_trait::async_trait;

use super::PortResult;
use crate::desired;
use crate::resource::Name;

/// What requests to a server elsewhere carry, and what is done when that is refused.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// The headers, with a token that is good for a while yet. Their values are marked as sensitive.
    ///
    /// # Errors
    /// When no token can be had.
    async fn headers(&self) -> PortResult<http::HeaderMap>;
    /// Told that the server answered 401: whether it is worth asking once more, with other headers.
    async fn refused(&self, headers: &http::HeaderMap) -> bool;
    /// Told that the server answered 403, with this challenge (`WWW-Authenticate`): what that is about.
    fn forbidden(&self, challenge: &str) -> Refusal;
}

/// What a 403 of a server elsewhere is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not the scopes of a token.
    Other,
    /// The user's token has too few, and the user can be asked for more: which.
    Ask(String),
    /// The same, and asking is of no use: why.
    Final(String),
}

/// Makes what servers elsewhere are shown of what is declared.
pub trait Identities: Send + Sync {
    /// # Errors
    /// When a secret is missing, or no token can ever be asked for.
    fn of(
        &self,
        server: &Name,
        url: &str,
        declared: &Arc<desired::remote::Credentials>,
    ) -> PortResult<Arc<dyn Credentials>>;
}
