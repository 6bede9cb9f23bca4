//! The words of error pages: for each code what happened and what to do next, for the person in front of the browser.
//!
//! These are fixed sentences. What is special about one case is the refusal's own detail, which stands beside them.
//! Text between backticks is shown as code.

use crate::lifecycle::Code;

/// What an error page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Advice {
    /// A short title.
    pub(super) title: &'static str,
    /// What happened.
    pub(super) happened: &'static str,
    /// What to do next.
    pub(super) next: &'static str,
}

impl Advice {
    /// The words for a code.
    pub(super) const fn on(code: Code) -> &'static Self {
        match code {
            Code::AccessDenied => &ACCESS_DENIED,
            Code::AmbiguousIntegration => &AMBIGUOUS_INTEGRATION,
            Code::BindingMissing => &BINDING_MISSING,
            Code::IntegrationNotFound => &INTEGRATION_NOT_FOUND,
            Code::IntegrationPending => &INTEGRATION_PENDING,
            Code::IntegrationRevoked => &INTEGRATION_REVOKED,
            Code::InvalidOauthState => &INVALID_OAUTH_STATE,
            Code::InvalidRequest => &INVALID_REQUEST,
            Code::IssuerMismatch => &ISSUER_MISMATCH,
            Code::NeedsReauth => &NEEDS_REAUTH,
            Code::NotAnAdmin => &NOT_AN_ADMIN,
            Code::NotSignedIn => &NOT_SIGNED_IN,
            Code::PreflightFailed => &PREFLIGHT_FAILED,
            Code::ProviderNotConfigured => &PROVIDER_NOT_CONFIGURED,
            Code::RateLimited => &RATE_LIMITED,
            Code::RedirectNotAllowed => &REDIRECT_NOT_ALLOWED,
            Code::TokenUnavailable => &TOKEN_UNAVAILABLE,
            Code::TokenValidationFailed => &TOKEN_VALIDATION_FAILED,
            Code::UpstreamTimeout => &UPSTREAM_TIMEOUT,
            Code::UpstreamUnreachable => &UPSTREAM_UNREACHABLE,
            Code::WrongAccount => &WRONG_ACCOUNT,
        }
    }
}

// What HTTP itself refuses, before any code of the contract applies.

pub(super) const NOT_FOUND: Advice = Advice {
    title: "There is no such page",
    happened: "Nothing is kept at this address.",
    next: "Check the address. A link from `grantd connect` must be copied whole, to its last character.",
};
pub(super) const METHOD_NOT_ALLOWED: Advice = Advice {
    title: "That cannot be done here",
    happened: "This address exists, but it does not take requests of that kind.",
    next: "Go back, and follow the link or press the button again.",
};
pub(super) const MISDIRECTED: Advice = Advice {
    title: "This address belongs to somebody else",
    happened: "The request names a host that is not this grantd's, so it was refused.",
    next: "Use the address that operators gave you. Behind a proxy, pass on the `Host` that browsers send; it must be that of `server.public_url`.",
};
pub(super) const URI_TOO_LONG: Advice = Advice {
    title: "The address is too long",
    happened: "The address of this request is longer than any that grantd or a provider makes.",
    next: "Begin again with a new link. If it happens again, tell your operator which provider sent you here.",
};
pub(super) const CONTENT_TOO_LARGE: Advice = Advice {
    title: "The request is too large",
    happened: "The body of this request is larger than any that grantd takes.",
    next: "Send the documented members alone: `provider`, `code` and `state`.",
};
pub(super) const REQUEST_TIMEOUT: Advice = Advice {
    title: "The request took too long",
    happened: "The request began, but its end did not arrive in time. Nothing was done.",
    next: "Check the connection, then try again.",
};
pub(super) const CROSS_SITE: Advice = Advice {
    title: "This request came from another site",
    happened: "Another web page tried to press a button of grantd for you. It was refused, and nothing was done.",
    next: "Close that page. If you meant to connect an integration, open your link from `grantd connect` in a new tab and press the button there.",
};
pub(super) const NO_TOKEN: Advice = Advice {
    title: "The page was too old",
    happened: "The form, or the request, does not carry the token of the present session. Nothing was done.",
    next: "Open the page again and press the button there. A program sends the token as `X-CSRF-Token`.",
};
pub(super) const SIGN_IN_OVER: Advice = Advice {
    title: "This sign-in cannot go on",
    happened: "A sign-in works once, for ten minutes, and only in the browser that began it. Nobody was signed in.",
    next: "Open grantd's front page and sign in again.",
};
pub(super) const SIGN_IN_DECLINED: Advice = Advice {
    title: "You were not signed in",
    happened: "The identity provider says that the sign-in was declined, or that you may not use grantd there.",
    next: "Try again. If it happens again, ask whoever runs the identity provider to let you use grantd.",
};

const ACCESS_DENIED: Advice = Advice {
    title: "The authorization was declined",
    happened: "The provider says that the request was declined, or that nobody signed in to answer it. Nothing was stored, and nothing else has changed.",
    next: "If you declined on purpose, you can close this page. If not, ask for a new link (`grantd connect` makes one) and approve the request at the provider.",
};
const AMBIGUOUS_INTEGRATION: Advice = Advice {
    title: "The name fits several integrations",
    happened: "There is more than one integration of that name, and grantd does not guess which one is meant.",
    next: "Name the integration by its own id. `grantd list` shows the ids.",
};
const BINDING_MISSING: Advice = Advice {
    title: "That is not allowed from here",
    happened: "No binding lets this caller use that integration.",
    next: "Ask your operator for a binding, and say which integration you need.",
};
const INTEGRATION_NOT_FOUND: Advice = Advice {
    title: "There is no such integration",
    happened: "The integration is not in grantd's configuration, or is not there any more. Nothing was stored.",
    next: "Ask your operator: `grantd list` on the host shows all integrations.",
};
const INTEGRATION_PENDING: Advice = Advice {
    title: "This integration is not connected yet",
    happened: "Nobody has authorized this integration so far, so there is nothing to work with.",
    next: "An operator connects it with `grantd connect` on the host.",
};
const INTEGRATION_REVOKED: Advice = Advice {
    title: "This integration was revoked",
    happened: "An operator ended this grant. Its tokens are not served any more.",
    next: "If it is needed again, an operator connects it anew with `grantd connect` on the host.",
};
const INVALID_OAUTH_STATE: Advice = Advice {
    title: "This link does not work any more",
    happened: "A link works once, for a short time, and only in the browser that opened it; a restart of grantd ends it as well. No token was stored.",
    next: "Ask for a new link (`grantd connect` on the host makes one). Open it in the browser in which you sign in to the provider, and finish there without going back.",
};
const INVALID_REQUEST: Advice = Advice {
    title: "The request cannot be understood",
    happened: "Something in it is missing, malformed or there twice. It was refused before any token was asked for.",
    next: "Do not reload this page. Begin again with a new link; if it happens again, show your operator what stands above.",
};
const ISSUER_MISMATCH: Advice = Advice {
    title: "The answer came from somewhere else",
    happened: "What your browser brought back does not come from the provider that you were sent to. This can be an attack, so it was refused before anything was exchanged.",
    next: "Do not try again before your operator has looked at it. If the provider's address has changed, `issuer` must be changed in the configuration.",
};
const NEEDS_REAUTH: Advice = Advice {
    title: "This integration must be connected again",
    happened: "The provider does not accept the stored grant any more. It may have been withdrawn there, or have ended.",
    next: "An operator reconnects it with `grantd connect` on the host. Apps need no restart.",
};
const NOT_AN_ADMIN: Advice = Advice {
    title: "You may not do that here",
    happened: "You are signed in, but not as an administrator of the organization to which this integration belongs.",
    next: "Ask an administrator of that organization, or sign in with another account.",
};
const NOT_SIGNED_IN: Advice = Advice {
    title: "Sign in first",
    happened: "This page is for signed-in operators. You are not signed in, or your session has ended.",
    next: "Sign in, then open the page again.",
};
const PREFLIGHT_FAILED: Advice = Advice {
    title: "Something is missing before this can begin",
    happened: "grantd checked whether it could keep what the provider will issue, and something is missing. You were not sent on, so nothing can be lost.",
    next: "Show your operator what stands above. `grantd check` on the host names each thing that is missing, with its remedy.",
};
const PROVIDER_NOT_CONFIGURED: Advice = Advice {
    title: "The provider is not set up correctly",
    happened: "The provider and grantd do not agree about the client, its redirect URI or its scopes. It is nothing that you did. No token was stored.",
    next: "Tell your operator: `grantd check` on the host looks for the cause. When it is mended, begin again with a new link.",
};
const RATE_LIMITED: Advice = Advice {
    title: "Too much at once",
    happened: "More authorizations are under way than grantd takes on at one time.",
    next: "Wait a moment. Then open the link again; if it was used up, ask for a new one.",
};
const REDIRECT_NOT_ALLOWED: Advice = Advice {
    title: "That destination is not allowed",
    happened: "The address to go to afterwards is not on the list of allowed ones, so nothing was begun.",
    next: "Use an https address on a host that `oauth.allowed_redirects` names, or ask your operator to add the host.",
};
const TOKEN_UNAVAILABLE: Advice = Advice {
    title: "This cannot be finished right now",
    happened: "The provider, the store or grantd itself does not answer as it should at this moment.",
    next: "Wait a moment. Then open the link again; if it was used up, ask for a new one. Operators see how the integration is with `grantd status`.",
};
const TOKEN_VALIDATION_FAILED: Advice = Advice {
    title: "The provider rejects its own token",
    happened: "You approved the request, but the provider does not accept the token that it issued for it. grantd did not store it and asks the provider to take it back.",
    next: "Begin again with a new link. If it happens again, a scope or a permission is probably missing: show your operator what stands above.",
};
const UPSTREAM_TIMEOUT: Advice = Advice {
    title: "The provider's API did not answer in time",
    happened: "The call was sent, and the API said nothing for five minutes. Whether it did anything, only the provider knows.",
    next: "Look at the provider's status page, and try again later.",
};
const UPSTREAM_UNREACHABLE: Advice = Advice {
    title: "The provider's API cannot be reached",
    happened: "There was no answer from the provider's API: the connection was not made, or broke off.",
    next: "Try again in a while. If it stays so, look whether this host may reach the provider.",
};
const WRONG_ACCOUNT: Advice = Advice {
    title: "Another account authorized this",
    happened: "This integration is for one particular account, and you were signed in to another one at the provider. grantd did not store the grant and asks the provider to take it back.",
    next: "Sign out at the provider, sign in with the right account, and begin again. If the account is to be replaced, tick that before you go on.",
};

#[cfg(test)]
mod tests {
    use super::Advice;
    use crate::lifecycle::Code;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_has_words_of_its_own() {
        let mut seen = BTreeSet::new();
        for code in Code::ALL {
            let Advice { title, happened, next } = Advice::on(*code);
            assert!(seen.insert(title) && seen.insert(happened) && seen.insert(next), "{code}");
            assert!(!title.ends_with('.') && title.len() <= 48, "{title}");
            for sentence in [happened, next] {
                assert!(sentence.ends_with('.') && sentence.matches('`').count() % 2 == 0, "{sentence}");
            }
        }
    }
}
