//! Tokens that no person grants: client credentials (RFC 6749 §4.4) and signed assertions (RFC 7523 §2.1, GitHub Apps).
//!
//! Each is one bounded request, never retried here. What it brings can be asked for again at will, so an answer in a vendor's own
//! words may be put into RFC 6749's before it is sealed: nothing is lost if that goes wrong.

use super::assertion::{AssertionStyle, Said, Signer};
use super::client::{Provider, bearer};
use super::requests;
use crate::lifecycle::{Answer, Spent, WireFault};
use crate::secret::{AccessToken, SecretBytes};
use crate::time::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use url::Url;

/// How a registration gets tokens without a person.
#[derive(Debug, Default)]
pub enum Minting {
    /// It does not.
    #[default]
    None,
    /// In the client's own name.
    ClientCredentials {
        /// `audience`, where the provider wants one.
        audience: Option<String>,
    },
    /// With a signed assertion.
    Assertion(Signer),
    /// A broker hands them out.
    Broker,
    /// An operator imports a key: there is no token endpoint.
    Key,
}

/// Whom one integration's tokens are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errand {
    /// The scopes to ask for.
    pub scopes: Vec<String>,
    /// `sub` of an assertion; at a broker, the user that connected accounts belong to.
    pub subject: Option<String>,
    /// What stands for `{installation_id}` in the token endpoint.
    pub installation_id: Option<String>,
}

impl Provider {
    /// Asks for an access token, once; of a broker, for the one of `connected_account`.
    pub async fn mint(&self, errand: &Errand, connected_account: Option<&str>) -> Spent {
        if let (Minting::Broker, Some(account)) = (&self.registration().minting, connected_account) {
            return self.fetch(account).await;
        }
        let endpoint = match self.token_endpoint().await {
            Ok(endpoint) => with_installation(&endpoint, errand.installation_id.as_deref()),
            Err(fault) => return Spent::NotSent(fault),
        };
        match &self.registration().minting {
            Minting::None | Minting::Key | Minting::Broker => Spent::NotSent(WireFault::Misconfigured),
            Minting::ClientCredentials { audience } => {
                let scope = self.joined(errand);
                self.spend(|client| {
                    requests::client_credentials(client, &endpoint, scope.as_deref(), audience.as_deref())
                })
                .await
            }
            Minting::Assertion(signer) => self.assert(signer, &endpoint, errand).await,
        }
    }

    async fn assert(&self, signer: &Signer, endpoint: &Url, errand: &Errand) -> Spent {
        let now = self.now();
        let key = match signer.key.now(now).await {
            Ok(Some(key)) => key,
            Ok(None) => return Spent::NotSent(WireFault::Misconfigured),
            Err(fault) => return Spent::NotSent(fault),
        };
        let form = signer.style == AssertionStyle::Form;
        let token_endpoint = form.then_some(endpoint.as_str());
        let said = Said {
            issuer: &self.registration().client_id,
            subject: errand.subject.as_deref(),
            audience: signer.audience.as_deref().or(token_endpoint),
            scope: self.joined(errand).filter(|_| form),
        };
        let made = match signer.assertion(&key, said, now) {
            Ok(made) => made,
            Err(cause) => {
                tracing::error!(provider = %self.registration().id, cause, "no assertion can be signed");
                return Spent::NotSent(WireFault::Misconfigured);
            }
        };
        let request = match signer.style {
            AssertionStyle::Form => {
                let scope = self.joined(errand).filter(|_| !made.of_account);
                requests::assertion(self.registration(), endpoint, &made.jwt, scope.as_deref())
            }
            AssertionStyle::Bearer => {
                let jwt = AccessToken::new(made.jwt.expose_secret());
                bearer(http::Method::POST, endpoint, &jwt)
                    .and_then(|request| requests::decorated(self.registration(), request))
            }
        };
        match request {
            Some(request) => plain(self.send(request).await),
            None => Spent::NotSent(WireFault::Misconfigured),
        }
    }

    fn joined(&self, errand: &Errand) -> Option<String> {
        (!errand.scopes.is_empty()).then(|| errand.scopes.join(&self.registration().scope_separator))
    }
}

fn with_installation(endpoint: &Url, installation: Option<&str>) -> Url {
    let Some(installation) = installation else { return endpoint.clone() };
    let encoded: String = url::form_urlencoded::byte_serialize(installation.as_bytes()).collect();
    let mut endpoint = endpoint.clone();
    let path = endpoint.path().replace("%7Binstallation_id%7D", &encoded);
    endpoint.set_path(&path);
    endpoint
}

/// GitHub answers `token` and `expires_at`; anything else passes as it came.
fn plain(spent: Spent) -> Spent {
    let Spent::Answered(answer) = &spent else { return spent };
    match rewritten(answer) {
        Some(body) => Spent::Answered(Arc::new(Answer { body, form_encoded: false, ..answer.beside() })),
        None => spent,
    }
}

fn rewritten(answer: &Answer) -> Option<SecretBytes> {
    if !answer.whole || !(200..300).contains(&answer.status) {
        return None;
    }
    let body: Value = serde_json::from_slice(answer.body.expose_secret()).ok()?;
    let token = body.get("token").and_then(Value::as_str)?;
    let ends = body.get("expires_at").and_then(Value::as_str).and_then(Timestamp::parse);
    let life = ends.map(|ends| ends.since(answer.received_at).as_secs());
    let plain = json!({ "access_token": token, "token_type": "Bearer", "expires_in": life });
    Some(SecretBytes::new(serde_json::to_vec(&plain).ok()?))
}

#[cfg(test)]
mod tests {
    use super::{plain, with_installation};
    use crate::lifecycle::{Answer, Spent};
    use crate::secret::SecretBytes;
    use crate::time::Timestamp;
    use std::sync::Arc;
    use url::Url;

    fn answered(status: u16, body: &str) -> String {
        let answer = Answer {
            status,
            form_encoded: false,
            retry_after: None,
            whole: true,
            body: SecretBytes::new(body.as_bytes().to_vec()),
            received_at: Timestamp::parse("2026-11-25T06:00:00Z").unwrap(),
        };
        let Spent::Answered(answer) = plain(Spent::Answered(Arc::new(answer))) else { panic!("no answer") };
        String::from_utf8(answer.body.expose_secret().to_vec()).unwrap()
    }

    #[test]
    fn an_installation_token_is_put_into_plain_words() {
        let body = r#"{"token":"ghs_1","expires_at":"2026-11-25T07:00:00Z","permissions":{}}"#;
        let plain: serde_json::Value = serde_json::from_str(&answered(201, body)).unwrap();
        assert_eq!(
            plain,
            serde_json::json!({ "access_token": "ghs_1", "token_type": "Bearer", "expires_in": 3600 })
        );
        for (status, other) in [(401, body), (200, r#"{"access_token":"a"}"#), (201, "<html>")] {
            assert_eq!(answered(status, other), other);
        }
    }

    #[test]
    fn the_installation_takes_its_place_in_the_path() {
        let url =
            Url::parse("https://api.github.com/app/installations/{installation_id}/access_tokens").unwrap();
        assert_eq!(
            with_installation(&url, Some("42")).as_str(),
            "https://api.github.com/app/installations/42/access_tokens"
        );
        assert_eq!(with_installation(&url, None), url);
    }
}
