//! What users authorized for themselves, as it is asked of the daemon and told: no secrets.

use serde::{Deserialize, Serialize};

use crate::resource::Name;
use crate::status::Timestamp;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum GrantAsk {
    List,
    /// The address at which a user authorizes a server.
    Start {
        user: String,
        server: Name,
    },
    /// Deletes an authorization, and tells the provider.
    Revoke {
        user: String,
        server: Name,
    },
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GrantReply {
    pub list: Vec<GrantView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Why the provider was not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_told: Option<String>,
}

/// One authorization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantView {
    pub user: String,
    pub server: Name,
    pub issuer: String,
    pub refreshed: Timestamp,
    /// When its token ends; it is refreshed by the next call, where the provider permits that.
    pub expires: Timestamp,
}
