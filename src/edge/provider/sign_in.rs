//! Sign-in of operators at the company's own identity provider: OpenID Connect, authorization code, PKCE.
//!
//! Goes only where the configured issuer's own document leads. A person is taken from a checked `id_token` and, for claims that it
//! lacks, from the issuer's userinfo about the same subject; the tokens are dropped.

use super::client::{AuthorizeRequest, Provider, ProviderError};
use super::keys::Keys;
use super::registration::{ClientAuth, Endpoints, Pkce, Registration, Revoke};
use super::{Credential, Transport};
use crate::engine::{Clock, Pending, SignIn};
use crate::lifecycle::{
    Answer, Code, Exchange, Frozen, IdTokenRules, Person, ProviderId, Refusal, Spent, check_id_token,
};
use crate::secret::{AccessToken, IdToken, Nonce, StateToken};
use crate::time::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// The registration of grantd at the company's identity provider.
#[derive(Debug)]
pub struct Employer {
    /// The issuer, exactly as its documents write it.
    pub issuer: String,
    /// `client_id`.
    pub client_id: String,
    /// The client secret.
    pub client_secret: Credential,
    /// Where it sends browsers back to.
    pub redirect_uri: Url,
    /// The claims that the rules of the organizations look at; each that is also a scope of the issuer is asked for.
    pub claims: Vec<String>,
}

/// Signs operators in. Cheap to clone.
#[derive(Clone)]
pub struct IdentityProvider(Arc<Inner>);

struct Inner {
    provider: Provider,
    rules: IdTokenRules,
    redirect_uri: Url,
    claims: Vec<String>,
    keys: Keys,
    clock: Arc<dyn Clock>,
}

impl IdentityProvider {
    /// Makes it. Connects to nothing. `None` never comes of a checked configuration.
    #[must_use]
    pub fn new(employer: Employer, transport: Transport, clock: Arc<dyn Clock>) -> Option<Self> {
        let Employer { issuer, client_id, client_secret, redirect_uri, claims } = employer;
        let registration = Registration {
            id: ProviderId::parse("operators").ok()?,
            client_id: client_id.clone(),
            client_secret,
            client_auth: ClientAuth::Basic,
            endpoints: Endpoints::default(),
            issuer: Some(issuer.clone()),
            scope_separator: " ".into(),
            pkce: Pkce::Sent,
            authorize_params: Vec::new(),
            token_headers: Vec::new(),
            account: None,
            minting: super::Minting::None,
            revoke: Revoke::Unsupported,
        };
        let provider = Provider::new(registration, transport, Arc::clone(&clock));
        let rules = IdTokenRules { issuer, client_id };
        let keys = Keys::default();
        Some(Self(Arc::new(Inner { provider, rules, redirect_uri, claims, keys, clock })))
    }
}

impl SignIn for IdentityProvider {
    fn begin(&self, state: StateToken, nonce: Nonce) -> Pending<Result<(String, Frozen), Refusal>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.begin(state, nonce).await.map_err(|error| refusal(&error)) })
    }

    fn finish(&self, exchange: Exchange) -> Pending<Result<Person, Refusal>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.finish(&exchange).await })
    }
}

impl Inner {
    async fn begin(&self, state: StateToken, nonce: Nonce) -> Result<(String, Frozen), ProviderError> {
        let discovered = self.provider.discovered().await?;
        let scopes = scopes(discovered.scopes.as_deref(), &self.claims);
        let asked = AuthorizeRequest { state, nonce: Some(nonce), scopes };
        self.provider.authorize(asked, &self.redirect_uri).await
    }

    async fn finish(&self, exchange: &Exchange) -> Result<Person, Refusal> {
        let answer = match self.provider.exchange(exchange).await {
            Spent::Answered(answer) => answer,
            Spent::NotSent(_) | Spent::Lost(_) => return Err(refusal(&ProviderError::Unreachable)),
        };
        let tokens = tokens(&answer)?;
        let now = self.clock.now();
        let mut claims =
            self.claims_of(&tokens.id, exchange.frozen.nonce.as_ref(), now).await.map_err(|word| {
                tracing::warn!(cause = word, "an id_token was refused at a sign-in");
                Refusal::new(
                    Code::NotSignedIn,
                    "the identity provider's id_token does not fit this sign-in: begin again",
                )
            })?;
        self.complete(&mut claims, tokens.access.as_ref()).await;
        Person::of(&claims)
            .ok_or_else(|| Refusal::new(Code::NotSignedIn, "the identity provider did not say who signed in"))
    }

    async fn claims_of(
        &self,
        token: &IdToken,
        nonce: Option<&Nonce>,
        now: Timestamp,
    ) -> Result<Map<String, Value>, &'static str> {
        let discovered = self.provider.discovered().await.map_err(|_gone| "id_token_keys")?;
        let place = discovered.keys.as_ref().ok_or("id_token_keys")?;
        let claims = self.keys.verified(&self.provider, place, token.expose_secret(), now).await?;
        check_id_token(token, &self.rules, Some(nonce.ok_or("id_token_nonce")?), now)?;
        // It was made for this exchange, a moment ago (OpenID Connect Core §3.1.3.7 item 10).
        let issued = claims.get("iat").and_then(Value::as_i64).ok_or("id_token_issued")?;
        if now.since(Timestamp::from_seconds(issued)) > AGE {
            return Err("id_token_issued");
        }
        Ok(claims)
    }

    /// Many issuers put groups into userinfo alone. What the `id_token` says stands; a userinfo of somebody else is dropped
    /// (OpenID Connect Core §5.3.2).
    async fn complete(&self, claims: &mut Map<String, Value>, token: Option<&AccessToken>) {
        let Ok(discovered) = self.provider.discovered().await else { return };
        let (Some(place), Some(token)) = (&discovered.endpoints.userinfo, token) else { return };
        let Some(Value::Object(more)) = self.provider.document(place, Some(token)).await else { return };
        if more.get("sub").is_none() || more.get("sub") != claims.get("sub") {
            tracing::warn!("the identity provider's userinfo is about somebody else and was not used");
            return;
        }
        for (name, value) in more {
            claims.entry(name).or_insert(value);
        }
    }
}

struct Tokens {
    id: IdToken,
    access: Option<AccessToken>,
}

#[derive(Deserialize)]
struct Body {
    id_token: String,
    access_token: Option<String>,
}

fn tokens(answer: &Answer) -> Result<Tokens, Refusal> {
    let body = answer.body.expose_secret();
    match (answer.status, serde_json::from_slice::<Body>(body)) {
        (200, Ok(body)) => {
            Ok(Tokens { id: IdToken::new(body.id_token), access: body.access_token.map(AccessToken::new) })
        }
        (400 | 401, _) => {
            let client = serde_json::from_slice::<Value>(body)
                .is_ok_and(|body| body.get("error").and_then(Value::as_str) == Some("invalid_client"));
            Err(if client {
                refusal(&ProviderError::Misconfigured(
                    "it rejects the client: check [operators] client_id and client_secret",
                ))
            } else {
                Refusal::new(
                    Code::InvalidOauthState,
                    "the identity provider does not take the code: sign in again",
                )
            })
        }
        (500.., _) => Err(refusal(&ProviderError::Unreachable)),
        _ => {
            Err(refusal(&ProviderError::Misconfigured("its token endpoint did not answer with an id_token")))
        }
    }
}

/// `openid`, and of the usual ones those that the issuer names: some refuse a request for what they do not know.
fn scopes(supported: Option<&[String]>, claims: &[String]) -> Vec<String> {
    let mut wanted: Vec<&str> = vec!["openid", "profile", "email"];
    for claim in claims.iter().map(String::as_str) {
        // Asked for only where the issuer says that there is such a scope.
        let named = supported.is_some_and(|all| all.iter().any(|scope| scope == claim));
        if named && !wanted.contains(&claim) {
            wanted.push(claim);
        }
    }
    let known = |scope: &&str| {
        *scope == "openid" || supported.is_none_or(|all| all.iter().any(|known| known == scope))
    };
    wanted.into_iter().filter(known).map(str::to_owned).collect()
}

fn refusal(error: &ProviderError) -> Refusal {
    match error {
        ProviderError::Unreachable => Refusal::new(
            Code::TokenUnavailable,
            "the identity provider does not answer: try again in a while",
        )
        .with_retry_after(Duration::from_secs(30)),
        ProviderError::Misconfigured(why) => {
            Refusal::new(Code::ProviderNotConfigured, format!("the identity provider cannot be used: {why}"))
        }
    }
}

/// How old a fresh `id_token` may be.
const AGE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::scopes;

    #[test]
    fn only_scopes_that_the_issuer_names_are_asked_for() {
        let asked = |supported: Option<&[&str]>, claims: &[&str]| {
            let supported: Option<Vec<String>> =
                supported.map(|all| all.iter().map(|scope| (*scope).to_owned()).collect());
            let claims: Vec<String> = claims.iter().map(|claim| (*claim).to_owned()).collect();
            scopes(supported.as_deref(), &claims).join(" ")
        };
        assert_eq!(asked(None, &["groups"]), "openid profile email");
        assert_eq!(asked(Some(&["openid", "email", "groups"]), &["groups"]), "openid email groups");
        assert_eq!(asked(Some(&[]), &["email"]), "openid");
    }
}
