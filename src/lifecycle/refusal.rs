//! Refusals: the stable codes of contract §5, each with its HTTP status, as RFC 9457 problem details.

use super::Action;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Refusal {
    /// The stable code.
    pub code: Code,
    /// What happened and what to do, for a person. Never a secret, never a peer's words.
    pub detail: String,
    /// What an operator can do.
    pub actions: Vec<Action>,
    /// When to ask again, where asking again helps.
    pub retry_after: Option<Duration>,
    /// What has to be mended first.
    pub missing: Vec<Missing>,
}

/// Something that a consent needs and does not find, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Missing {
    /// What is wrong, in a sentence.
    pub what: String,
    /// Where: the integration and the key of the configuration.
    #[serde(rename = "where")]
    pub place: String,
    /// What to paste: a command, a policy statement, a line of the configuration.
    pub fix: String,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $status:literal, $title:literal;)+) => {
        /// A stable code (contract §5).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {$($(#[$doc])* $name,)+}

        impl Code {
            /// All codes, in alphabetical order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The code as it stands in JSON.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {$(Self::$name => $word,)+}
            }

            /// The HTTP status it travels with.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self {$(Self::$name => $status,)+}
            }

            /// A short title for it (RFC 9457 `title`).
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self {$(Self::$name => $title,)+}
            }
        }
    };
}

codes! {
    /// The person said no.
    AccessDenied = "access_denied", 403, "The authorization was declined";
    /// A provider's name fits several integrations.
    AmbiguousIntegration = "ambiguous_integration", 409, "The name fits several integrations";
    /// No binding, or no such integration: alike.
    BindingMissing = "binding_missing", 403, "No binding lets this caller do that";
    /// Never connected.
    IntegrationPending = "integration_pending", 409, "The integration is not connected yet";
    /// No such integration (operators only).
    IntegrationNotFound = "integration_not_found", 404, "There is no such integration";
    /// Revoked.
    IntegrationRevoked = "integration_revoked", 403, "The integration was revoked";
    /// `state` is wrong, expired, used, from another browser, or for another provider.
    InvalidOauthState = "invalid_oauth_state", 400, "This authorization request is not valid";
    /// Repeated or malformed parameters.
    InvalidRequest = "invalid_request", 400, "The request is not valid";
    /// RFC 9207: the answer came from another issuer.
    IssuerMismatch = "issuer_mismatch", 400, "The answer came from another issuer";
    /// The refresh token was refused.
    NeedsReauth = "needs_reauth", 401, "An operator must reconnect this integration";
    /// The signed-in person administers another organization.
    NotAnAdmin = "not_an_admin", 403, "Only an administrator of the organization may do that";
    /// Nobody is signed in.
    NotSignedIn = "not_signed_in", 401, "Sign in first";
    /// Something that a consent needs is missing.
    PreflightFailed = "preflight_failed", 409, "Something is missing before this can begin";
    /// The provider's client or endpoints are not usable as configured.
    ProviderNotConfigured = "provider_not_configured", 409, "The provider is not configured";
    /// Too many requests.
    RateLimited = "rate_limited", 429, "Too many requests";
    /// The place to go afterwards is not on the allow-list.
    RedirectNotAllowed = "redirect_not_allowed", 400, "That redirect is not allowed";
    /// No live lease, and the provider or the store does not answer yet.
    TokenUnavailable = "token_unavailable", 503, "No token is available right now";
    /// The provider rejects the token it just gave.
    TokenValidationFailed = "token_validation_failed", 502, "The provider rejects the token it just gave";
    /// The provider's API does not answer in time (the proxy).
    UpstreamTimeout = "upstream_timeout", 504, "The provider's API does not answer in time";
    /// The provider's API cannot be reached, or broke off (the proxy).
    UpstreamUnreachable = "upstream_unreachable", 502, "The provider's API cannot be reached";
    /// `expect_account` does not hold.
    WrongAccount = "wrong_account", 409, "Another account authorized this";
}

impl Refusal {
    /// A refusal with a sentence for a person.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), actions: Vec::new(), retry_after: None, missing: Vec::new() }
    }

    /// The same, with what an operator can do.
    #[must_use]
    pub fn with_actions(mut self, actions: &[Action]) -> Self {
        self.actions = actions.to_vec();
        self
    }

    /// The same, with a time after which asking again may help.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same, with what has to be mended first.
    #[must_use]
    pub fn with_missing(mut self, missing: Vec<Missing>) -> Self {
        self.missing = missing;
        self
    }

    /// The body of an `application/problem+json` answer (RFC 9457).
    #[must_use]
    pub fn problem(&self) -> Vec<u8> {
        let problem = Problem {
            r#type: "about:blank",
            title: self.code.title(),
            status: self.code.status(),
            detail: &self.detail,
            code: self.code.word(),
            actions: &self.actions,
            missing: &self.missing,
        };
        serde_json::to_vec(&problem).unwrap_or_default()
    }

    /// `Retry-After` in whole seconds, at least one, where the refusal has one.
    #[must_use]
    pub fn retry_after_header(&self) -> Option<u64> {
        self.retry_after.map(|wait| wait.as_millis().div_ceil(1000).clamp(1, 3600).try_into().unwrap_or(3600))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    actions: &'a [Action],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    missing: &'a [Missing],
}

#[cfg(test)]
mod tests {
    use super::{Code, Missing, Refusal};
    use crate::lifecycle::Action;
    use std::time::Duration;

    #[test]
    fn problem_is_the_documented_json() {
        let refusal = Refusal::new(Code::NeedsReauth, "reconnect github").with_actions(&[Action::Reconnect]);
        assert_eq!(
            String::from_utf8(refusal.problem()).unwrap(),
            r#"{"type":"about:blank","title":"An operator must reconnect this integration","status":401,"detail":"reconnect github","code":"needs_reauth","actions":["reconnect"]}"#
        );
    }

    #[test]
    fn what_is_missing_travels_with_its_remedy() {
        let missing = Missing { what: "w".into(), place: "p".into(), fix: "f".into() };
        let refusal = Refusal::new(Code::PreflightFailed, "1 thing is missing").with_missing(vec![missing]);
        let problem: serde_json::Value = serde_json::from_slice(&refusal.problem()).unwrap();
        assert_eq!(problem["status"], 409);
        assert_eq!(problem["missing"], serde_json::json!([{ "what": "w", "where": "p", "fix": "f" }]));
    }

    #[test]
    fn retry_after_rounds_up_and_never_says_zero() {
        let header = |millis| {
            Refusal::new(Code::RateLimited, "")
                .with_retry_after(Duration::from_millis(millis))
                .retry_after_header()
        };
        assert_eq!((header(0), header(1500), header(10_000_000)), (Some(1), Some(2), Some(3600)));
    }
}
