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
    /// Its secret, sent to `tokenUrl` only. This or `clientKey`. Example: `{secret: {env: WEATHER_CLIENT_SECRET}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Reference>,
    /// A key with which it proves itself instead (`private_key_jwt`, RFC 7523). The key is sent to nobody.
    ///
    /// Default: none. Example: `{privateKey: {secret: {file: /etc/toolcrib/client.pem}}, keyId: "2026"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<ClientKey>,
    /// What the token is to allow. Default: what the authorization server gives. Example: `[read]`.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub scopes: Box<[String]>,
    /// What the token is for (RFC 8707). Default: the address of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

/// A private key with which a client proves itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClientKey {
    /// The key in PEM (PKCS #8): ECDSA on P-256 signs ES256, Ed25519 `EdDSA`, RSA RS256.
    ///
    /// Example: `{secret: {file: /etc/toolcrib/client.pem}}`.
    pub private_key: Reference,
    /// As what the authorization server knows the key (`kid`). Default: it finds out. Example: `2026-a`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// For whom it signs: the authorization server, as it calls itself. Default: `tokenUrl`.
    ///
    /// Example: `https://login.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
}

/// How each user gets a token of their own: the authorization code grant of OAuth 2.1, with PKCE.
///
/// A call of a user who has not authorized yet answers with an address to open. Nobody else's calls use
/// that user's token or connection. Tokens are kept encrypted in the state directory, and refreshed in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct UserOAuth {
    /// As whom tokens are asked for: registered at the provider, with `/oauth/callback` of the daemon's
    /// public address as redirect URI. Example: `toolcrib`.
    ///
    /// Default: the address of a document about this daemon (`/oauth/client.json`), where the provider reads
    /// such and the daemon has a public https address; else the daemon registers itself (RFC 7591).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Its secret, sent to the provider only: with it, `issuer` or `provider` says who that is. Default: none,
    /// a public client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Reference>,
    /// What tokens are to allow. Default: what the provider gives. Example: `[read]`.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub scopes: Box<[String]>,
    /// What tokens are for (RFC 8707). Default: the address of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Whom the server has to name as who gives tokens, as that calls itself (RFC 8414).
    ///
    /// Default: any. Example: `https://login.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Who gives tokens. Default: whom the server names (RFC 9728, RFC 8414).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// The user whose token lists what the server offers; `local` on loopback.
    ///
    /// Default: nobody; it is listed without a token, or from its lock with `tools: {trust: locked}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_as: Option<String>,
}

/// Who gives tokens, where that is not discovered. Addresses are https, or http on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Provider {
    /// As it calls itself (RFC 9207). Example: `https://login.example.com`.
    pub issuer: String,
    /// Where users authorize. Example: `https://login.example.com/authorize`.
    pub authorization_url: String,
    /// Where tokens are given out. Example: `https://login.example.com/token`.
    pub token_url: String,
    /// Where they are revoked (RFC 7009). Default: they end by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_url: Option<String>,
}
