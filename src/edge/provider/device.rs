//! The device flow's two requests (RFC 8628 §3.1, §3.4): a code for a person to enter elsewhere, and the ask whether they have.
//!
//! How often is asked is decided by `lifecycle`; each ask is one bounded request.

use super::client::{Provider, ProviderError};
use super::machine::{Errand, Minting};
use super::registration::{ClientAuth, Endpoints};
use super::requests::{self, Client};
use crate::lifecycle::{Answer, Exchange, Pace, Spent};
use crate::secret::AuthCode;
use serde::Deserialize;
use std::time::Duration;
use url::Url;

/// A device code, and what its person needs.
#[derive(Debug)]
pub struct DeviceCode {
    /// The code that tokens are asked for with.
    pub code: AuthCode,
    /// The page at which a person enters `user_code`.
    pub page: String,
    /// The same page with the code filled in, where the provider has one.
    pub page_with_code: Option<String>,
    /// What a person enters.
    pub user_code: String,
    /// How tokens are asked for.
    pub pace: Pace,
    /// Where.
    pub token_endpoint: Url,
}

impl Provider {
    /// Asks for a device code; of a broker, for the page at which an account is connected.
    ///
    /// # Errors
    /// [`ProviderError`] where the provider has no device flow, or refuses.
    pub async fn device(&self, errand: &Errand) -> Result<DeviceCode, ProviderError> {
        if matches!(self.registration().minting, Minting::Broker) {
            return self.initiate(errand).await;
        }
        let Endpoints { device, token, .. } = self.endpoints().await?;
        let device = device.ok_or(ProviderError::Misconfigured("it has no device_url"))?;
        let token_endpoint = token.ok_or(ProviderError::Misconfigured("it has no token endpoint"))?;
        let scope = errand.scopes.join(&self.registration().scope_separator);
        let mut pairs = vec![("client_id", self.registration().client_id.as_str())];
        if !scope.is_empty() {
            pairs.push(("scope", &scope));
        }
        match self.spend(|client| form(client, &device, &pairs)).await {
            Spent::Answered(answer) => self.device_code(&answer, token_endpoint),
            Spent::NotSent(_) | Spent::Lost(_) => Err(ProviderError::Unreachable),
        }
    }

    /// Asks whether a person has entered the code.
    pub(super) async fn poll(&self, endpoint: &Url, exchange: &Exchange) -> Spent {
        if matches!(self.registration().minting, Minting::Broker) {
            return self.look_at(exchange.code.expose_secret()).await;
        }
        let pairs = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", exchange.code.expose_secret()),
            ("client_id", self.registration().client_id.as_str()),
        ];
        self.spend(|client| form(client, endpoint, &pairs)).await
    }

    fn device_code(&self, answer: &Answer, token_endpoint: Url) -> Result<DeviceCode, ProviderError> {
        match answer.status {
            200..=299 => {}
            429 | 500.. => return Err(ProviderError::Unreachable),
            _ => return Err(ProviderError::Misconfigured("it refuses a device code to this client")),
        }
        let wire: Wire = serde_json::from_slice(answer.body.expose_secret())
            .map_err(|_shape| ProviderError::Misconfigured("its answer is no device code"))?;
        let life = Duration::from_secs(wire.expires_in).min(LONGEST);
        Ok(DeviceCode {
            code: AuthCode::new(wire.device_code),
            page: wire.verification_uri,
            page_with_code: wire.verification_uri_complete,
            user_code: wire.user_code,
            pace: Pace {
                interval: Duration::from_secs(wire.interval.unwrap_or(5).clamp(1, 60)),
                until: self.now().plus(life),
            },
            token_endpoint,
        })
    }
}

/// RFC 8628 §3.2. Google says `verification_url`.
#[derive(Deserialize)]
struct Wire {
    device_code: String,
    user_code: String,
    #[serde(alias = "verification_url")]
    verification_uri: String,
    #[serde(alias = "verification_url_complete")]
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

/// A form in the client's name, which it proves as at the token endpoint.
fn form(client: Client<'_>, endpoint: &Url, pairs: &[(&str, &str)]) -> Option<http::Request<Vec<u8>>> {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(pairs);
    let mut request = http::Request::post(endpoint.as_str())
        .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(http::header::ACCEPT, "application/json");
    match (client.secret, client.registration.client_auth) {
        (Some(secret), ClientAuth::Body | ClientAuth::Json) => {
            form.append_pair("client_secret", secret.expose_secret());
        }
        (Some(_), ClientAuth::Basic | ClientAuth::BasicJson) => {
            request = request.header(http::header::AUTHORIZATION, requests::basic(client)?);
        }
        (None, _) => {}
    }
    requests::decorated(client.registration, request.body(form.finish().into_bytes()).ok()?)
}

/// However long the provider would wait for a person.
const LONGEST: Duration = Duration::from_secs(1800);
