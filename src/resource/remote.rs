//! What a server that runs elsewhere is shown: headers, and tokens of OAuth 2.1.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::Reference;

/// How a token for a server elsewhere is got: the client credentials grant of OAuth 2.1.
///
/// The token is kept in memory, asked for anew before it expires and when the server refuses it, and sent
/// to that server only, as `Authorization: Bearer …`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct OAuth {
    /// Where tokens are given out: https, or http on this machine.
    ///
    /// Example: `https://login.example.com/oauth/token`.
    pub token_url: String,
    /// As whom the token is asked for. Example: `toolcrib`.
    pub client_id: String,
    /// Its secret, sent to `tokenUrl` only. Example: `{secret: {env: WEATHER_CLIENT_SECRET}}`.
    pub client_secret: Reference,
    /// What the token is to allow. Default: what the authorization server gives. Example: `[read]`.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub scopes: Box<[String]>,
    /// What the token is for (RFC 8707). Default: the address of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}
