//! The status object of contract §4: what anyone may know about an integration. Holds no secret.

use super::{Account, Identity};
use crate::time::Timestamp;
use serde::Serialize;

/// How an integration is, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "the members are the contract's")]
pub struct View {
    /// The three names, flattened.
    #[serde(flatten)]
    pub identity: Identity,
    /// Whether there is a grant that was not revoked or refused.
    pub connected: bool,
    /// One word for it.
    pub status: Status,
    /// One sentence for a person.
    pub message: String,
    /// What an operator can do about it.
    pub actions: Vec<Action>,
    /// Whether a live lease is served.
    pub token_valid: bool,
    /// Whether the last lease has ended without a successor.
    pub token_expired: bool,
    /// When the lease ends; null if it does not, or there is none.
    pub expires_at: Option<Timestamp>,
    /// When the refresh token ends, where the provider says so.
    pub refresh_token_expires_at: Option<Timestamp>,
    /// When the last tokens were received.
    pub last_refreshed: Option<Timestamp>,
    /// When the provider last took a token of ours.
    pub last_validated: Option<Timestamp>,
    /// What went wrong last, as a stable word with a reason; null when nothing is wrong.
    pub last_error: Option<String>,
    /// Since when it is wrong.
    pub detected_at: Option<Timestamp>,
    /// Who authorized it.
    pub account: Account,
    /// The scopes granted.
    pub scopes: Vec<String>,
    /// The newest generation.
    pub generation: u64,
    /// Whether the newest record is in the store.
    pub stored: bool,
    /// Since when it is not.
    pub unstored_since: Option<Timestamp>,
}

/// The status words of contract §4, in their order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// An operator ended the grant.
    Revoked,
    /// The refresh token was refused.
    NeedsReauth,
    /// Never connected, or not read from the store yet.
    Pending,
    /// No live lease.
    Expired,
    /// It works, and someone should look.
    Warning,
    /// It works.
    Connected,
}

/// What an operator can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Connect for the first time.
    Connect,
    /// Connect again.
    Reconnect,
    /// Ask for a refresh.
    Refresh,
    /// Mend the configuration, a permission or the secret.
    Configure,
}

impl Status {
    /// The word as it stands in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::NeedsReauth => "needs_reauth",
            Self::Pending => "pending",
            Self::Expired => "expired",
            Self::Warning => "warning",
            Self::Connected => "connected",
        }
    }
}
