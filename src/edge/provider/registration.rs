//! What is known about one client registration at one provider. Plain data, made by `daemon` from the checked config.

use super::{AccountLookup, Credential, Minting};
use crate::lifecycle::ProviderId;
use url::Url;

/// One client registration at one provider.
#[derive(Debug)]
pub struct Registration {
    /// Its id in the configuration.
    pub id: ProviderId,
    /// `client_id` (RFC 6749 §2.2).
    pub client_id: String,
    /// The client secret, known or fetched.
    pub client_secret: Credential,
    /// How the client proves itself at the token endpoint.
    pub client_auth: ClientAuth,
    /// The endpoints that the configuration or the catalogue spells out.
    pub endpoints: Endpoints,
    /// The issuer, for discovery of what is not spelled out.
    pub issuer: Option<String>,
    /// What stands between scopes; usually a space.
    pub scope_separator: String,
    /// Whether PKCE is sent.
    pub pkce: Pkce,
    /// More parameters for the authorization request. Those of the protocol cannot be overridden.
    pub authorize_params: Vec<(String, String)>,
    /// More headers for the token endpoint.
    pub token_headers: Vec<(String, String)>,
    /// Where a token can be tried, and where the account's facts stand in the answer.
    pub account: Option<AccountLookup>,
    /// How a grant is ended.
    pub revoke: Revoke,
    /// How it gets tokens without a person.
    pub minting: Minting,
}

/// Endpoints. What is `None` may be discovered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// The authorization endpoint (RFC 6749 §3.1).
    pub authorize: Option<Url>,
    /// The token endpoint (RFC 6749 §3.2).
    pub token: Option<Url>,
    /// The revocation endpoint (RFC 7009).
    pub revoke: Option<Url>,
    /// The userinfo endpoint (OpenID Connect Core §5.3).
    pub userinfo: Option<Url>,
    /// The device authorization endpoint (RFC 8628 §3.1).
    pub device: Option<Url>,
    /// Whether the server promises `iss` in its redirects (RFC 9207 §3).
    pub issuer_promised: bool,
}

/// How the client proves itself (RFC 6749 §2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// HTTP Basic.
    Basic,
    /// In the form body.
    Body,
    /// In a JSON body, with everything else in JSON too.
    Json,
    /// HTTP Basic, with everything else in a JSON body (Notion).
    BasicJson,
}

/// Whether PKCE (RFC 7636, always S256) is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pkce {
    /// Sent.
    Sent,
    /// Left out, because the provider breaks on it.
    Broken,
}

/// How a grant is ended at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoke {
    /// RFC 7009: a form with `token` and `token_type_hint`.
    Rfc7009,
    /// GitHub: `DELETE` with Basic authentication and `{"access_token"}` as JSON.
    DeleteJson,
    /// Slack: a request with the access token as Bearer.
    Bearer,
    /// GitHub Apps: `DELETE` with the access token as Bearer.
    DeleteBearer,
    /// Telegram: `POST` with the token in the path, which clears what the key has set up.
    TokenInPath,
    /// There is no way.
    Unsupported,
}
