//! What the configuration and the catalogue say about one integration, as far as its life depends on it.

use std::time::Duration;

/// The terms under which one integration lives. Plain data; made by `daemon` from the checked config.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// Where its tokens come from.
    pub origin: Origin,
    /// The share of an access token's life after which it is refreshed, in thousandths (700 = 0.7).
    pub refresh_at_permille: u16,
    /// How the provider treats refresh tokens.
    pub rotation: Rotation,
    /// How long an access token lives when the answer does not say. `None`: it does not expire.
    pub default_life: Option<Duration>,
    /// Who must have authorized, if the operator pinned it.
    pub expected_account: ExpectedAccount,
    /// What to do while the store refuses writes.
    pub outage: Outage,
    /// How many times a day the secret may be written, where its store sets a limit.
    pub write_budget: Option<u32>,
    /// The scopes that were asked for, space-joined in requests unless the provider says otherwise.
    pub scopes: Vec<String>,
    /// How the provider's token answers are read.
    pub dialect: Dialect,
    /// Whether the provider lets a fresh token be tried (it has a validation or userinfo endpoint).
    pub can_try: bool,
    /// How often the token in use is tried (`oauth.validation_interval`). `None`: only when someone asks.
    pub validate_every: Option<Duration>,
}

/// Where the tokens of a grant come from (`grant` in the config).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// A person consents, or an operator imports a refresh token; refresh tokens lead on from there.
    #[default]
    Consent,
    /// The client asks in its own name, as often as it needs to (RFC 6749 §4.4, RFC 7523 §2.1). Nothing is kept in the store.
    Machine,
    /// A key that an operator imports.
    Key,
    /// A broker keeps the refresh token and hands access tokens out.
    Broker,
}

impl Origin {
    /// Whether tokens are asked for again at will: an answer that is lost costs nothing, and is never in doubt.
    #[must_use]
    pub const fn is_repeatable(self) -> bool {
        matches!(self, Self::Machine | Self::Broker)
    }

    /// Whether there is a record in the store.
    #[must_use]
    pub const fn keeps_record(self) -> bool {
        !matches!(self, Self::Machine)
    }
}

/// How a provider treats a refresh token that was presented (`rotation` in the config; unknown means strict).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// Refresh tokens do not rotate.
    None,
    /// They rotate, and the old one stays valid.
    ReuseOk,
    /// They rotate, and the old one may be presented again within this time.
    Grace(Duration),
    /// They rotate, and presenting an old one ends the grant.
    Strict,
}

/// What to do with a due refresh while the store refuses writes (`store.outage`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// Hold while the lease lives; spend to the spool only when the lease is about to end.
    Hold,
    /// Spend to the sealed spool.
    Spool,
}

/// The account that must have authorized (`expect_account`). Each field that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpectedAccount {
    /// The provider's own user or workspace id.
    pub id: Option<String>,
    /// The login name.
    pub username: Option<String>,
    /// The e-mail address, compared without regard to ASCII case.
    pub email: Option<String>,
}

impl ExpectedAccount {
    /// Whether nothing is pinned.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.id.is_none() && self.username.is_none() && self.email.is_none()
    }

    /// Whether `account` is the one that was pinned. A pinned field that the provider did not name does not match.
    #[must_use]
    pub fn accepts(&self, account: &super::Account) -> bool {
        let same = |want: &Option<String>, got: &Option<String>| want.is_none() || want == got;
        let same_email = match (&self.email, &account.email) {
            (None, _) => true,
            (Some(want), Some(got)) => want.eq_ignore_ascii_case(got),
            (Some(_), None) => false,
        };
        same(&self.id, &account.id) && same(&self.username, &account.username) && same_email
    }
}

/// How a provider's token answers are read. JSON pointers (RFC 6901) into the answer; the defaults are RFC 6749's names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialect {
    /// Where the tokens stand if not at the top, for example `/authed_user` (Slack user tokens).
    pub tokens_at: Option<String>,
    /// Where an error code stands if not in `error`, for example `/error` with `ok: false` (Slack).
    pub error_at: Option<String>,
    /// Error codes, beyond `invalid_grant`, that mean that the refresh token is dead.
    pub dead_grant_errors: Vec<String>,
    /// A member that must be `true` for success, for example `/ok` (Slack).
    pub success_at: Option<String>,
    /// The issuer an `id_token` must carry, and the client it must be for. `None`: no `id_token` is expected.
    pub id_token: Option<IdTokenRules>,
}

/// What an `id_token` must say (OpenID Connect Core §3.1.3.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdTokenRules {
    /// Compared exactly with `iss`.
    pub issuer: String,
    /// Must be in `aud`.
    pub client_id: String,
}
