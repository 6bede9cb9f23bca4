//! One provider: authorize, exchange, refresh, try, revoke. Each is one bounded request, never retried here.

use super::account::AccountLookup;
use super::discovery::{Discovered, Discovery, Undiscovered};
use super::machine::Minting;
use super::registration::{Endpoints, Registration, Revoke};
use super::requests::{self, Client};
use super::static_key;
use super::transport::Transport;
use crate::engine::Clock;
use crate::lifecycle::{Exchange, Frozen, Revocation, Spent, Trial, WireFault};
use crate::secret::{AccessToken, ClientSecret, Nonce, RefreshToken, StateToken};
use crate::time::Timestamp;
use std::sync::Arc;
use tokio::sync::Semaphore;
use url::Url;

/// One client registration at one provider, ready to be used. Cheap to clone.
#[derive(Clone)]
pub struct Provider(Arc<Inner>);

struct Inner {
    registration: Registration,
    transport: Transport,
    discovery: Option<Discovery>,
    clock: Arc<dyn Clock>,
    /// Bounds what one provider can take of this host.
    places: Semaphore,
}

/// An authorization request before it has a URL.
#[derive(Debug)]
pub struct AuthorizeRequest {
    /// Its state.
    pub state: StateToken,
    /// Its OIDC nonce, where `openid` is asked for.
    pub nonce: Option<Nonce>,
    /// The scopes to ask for.
    pub scopes: Vec<String>,
}

/// Why an authorization cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The provider's discovery document cannot be fetched.
    #[error("the provider does not answer: try again in a while")]
    Unreachable,
    /// Something is missing or wrong in the configuration.
    #[error("the provider is not configured: {0}")]
    Misconfigured(&'static str),
}

/// Why a provider cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreached {
    /// An endpoint is neither configured nor discovered.
    Endpoints(ProviderError),
    /// The token endpoint's host does not answer.
    Host {
        /// The host.
        host: String,
        /// How it failed.
        fault: WireFault,
    },
}

impl Provider {
    /// Makes a provider of its registration. Connects to nothing.
    #[must_use]
    pub fn new(registration: Registration, transport: Transport, clock: Arc<dyn Clock>) -> Self {
        let discovery = registration.issuer.as_deref().map(Discovery::new);
        let places = Semaphore::new(PLACES);
        Self(Arc::new(Inner { registration, transport, discovery, clock, places }))
    }

    /// Makes the URL of an authorization request, and what its flow freezes.
    ///
    /// # Errors
    /// [`ProviderError`] when an endpoint is neither configured nor discovered.
    pub async fn authorize(
        &self,
        asked: AuthorizeRequest,
        redirect_uri: &Url,
    ) -> Result<(String, Frozen), ProviderError> {
        let registration = &self.0.registration;
        let endpoints = self.endpoints().await?;
        let authorize =
            endpoints.authorize.ok_or(ProviderError::Misconfigured("it has no authorization endpoint"))?;
        let token = endpoints.token.ok_or(ProviderError::Misconfigured("it has no token endpoint"))?;
        let (url, verifier) = requests::authorize_url(registration, &authorize, redirect_uri, &asked);
        let frozen = Frozen {
            token_endpoint: token.into(),
            issuer: registration.issuer.clone(),
            issuer_promised: endpoints.issuer_promised,
            redirect_uri: redirect_uri.to_string(),
            verifier,
            nonce: asked.nonce,
        };
        Ok((url.into(), frozen))
    }

    /// Finds the endpoints and connects to the token endpoint's host. Sends no credentials; gives the host's clock if it tells it.
    ///
    /// # Errors
    /// [`Unreached`].
    pub async fn reach(&self) -> Result<Option<Timestamp>, Unreached> {
        if matches!(self.0.registration.minting, Minting::Key) {
            return Ok(None);
        }
        let endpoints = self.endpoints().await.map_err(Unreached::Endpoints)?;
        let missing = |what| Unreached::Endpoints(ProviderError::Misconfigured(what));
        let token = endpoints.token.ok_or(missing("it has no token endpoint"))?;
        let by_device = endpoints.device.is_some();
        if endpoints.authorize.is_none() && !by_device && matches!(self.0.registration.minting, Minting::None)
        {
            return Err(missing("it has no authorization endpoint"));
        }
        let silent = |fault| Unreached::Host { host: token.host_str().unwrap_or("").to_owned(), fault };
        let Ok(_place) = self.0.places.acquire().await else { return Err(silent(WireFault::Connect)) };
        self.0.transport.probe(&token).await.map_err(silent)
    }

    /// Exchanges a code at the endpoint that its flow froze.
    pub async fn exchange(&self, exchange: &Exchange) -> Spent {
        let frozen = &exchange.frozen;
        let (Ok(endpoint), Ok(redirect)) =
            (Url::parse(&frozen.token_endpoint), Url::parse(&frozen.redirect_uri))
        else {
            return Spent::NotSent(WireFault::Misconfigured);
        };
        if exchange.pace.is_some() {
            return self.poll(&endpoint, exchange).await;
        }
        let verifier = frozen.verifier.as_ref();
        self.spend(|client| requests::exchange(client, &endpoint, &redirect, &exchange.code, verifier)).await
    }

    /// Presents a refresh token, once.
    pub async fn refresh(&self, token: &RefreshToken) -> Spent {
        match self.token_endpoint().await {
            Ok(endpoint) => self.spend(|client| requests::refresh(client, &endpoint, token)).await,
            Err(fault) => Spent::NotSent(fault),
        }
    }

    /// What is spelled out needs no discovery, and no wait for it.
    pub(super) async fn token_endpoint(&self) -> Result<Url, WireFault> {
        if let Some(spelled) = &self.0.registration.endpoints.token {
            return Ok(spelled.clone());
        }
        match self.endpoints().await {
            Ok(Endpoints { token: Some(endpoint), .. }) => Ok(endpoint),
            Ok(_) | Err(ProviderError::Misconfigured(_)) => Err(WireFault::Misconfigured),
            Err(ProviderError::Unreachable) => Err(WireFault::Connect),
        }
    }

    pub(super) fn registration(&self) -> &Registration {
        &self.0.registration
    }

    pub(super) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Tries an access token and asks whom it belongs to.
    pub async fn try_token(&self, token: &AccessToken) -> Trial {
        let openid = AccountLookup::openid();
        let lookup = self.0.registration.account.as_ref().unwrap_or(&openid);
        let url = match &lookup.url {
            Some(url) => Some(url.clone()),
            None => self.endpoints().await.ok().and_then(|endpoints| endpoints.userinfo),
        };
        let Some(request) = url.and_then(|url| lookup_request(lookup, &url, token)) else {
            return Trial::Silent;
        };
        match self.send(request).await {
            Spent::Answered(answer) => lookup.read(&answer),
            Spent::NotSent(_) | Spent::Lost(_) => Trial::Silent,
        }
    }

    /// Tells the provider that a grant ends: the refresh token first, then the access token.
    pub async fn revoke(
        &self,
        refresh: Option<&RefreshToken>,
        access: Option<&AccessToken>,
        connected_account: Option<&str>,
    ) -> Revocation {
        if let (Minting::Broker, Some(account)) = (&self.registration().minting, connected_account) {
            return self.delete_account(account).await;
        }
        let endpoint = match self.endpoints().await {
            Ok(Endpoints { revoke: Some(endpoint), .. }) => endpoint,
            Ok(_) | Err(ProviderError::Misconfigured(_)) => return Revocation::Unsupported,
            Err(ProviderError::Unreachable) => return Revocation::Silent,
        };
        let Ok(secret) = self.client_secret().await else { return Revocation::Silent };
        let said = self.revoke_as(self.client(secret.as_deref()), &endpoint, refresh, access).await;
        if said != Revocation::Refused {
            return said;
        }
        // Perhaps it was the client that was refused.
        match self.0.registration.client_secret.other(self.0.clock.now()).await {
            Some(other) => self.revoke_as(self.client(Some(&other)), &endpoint, refresh, access).await,
            None => said,
        }
    }

    async fn revoke_as(
        &self,
        client: Client<'_>,
        endpoint: &Url,
        refresh: Option<&RefreshToken>,
        access: Option<&AccessToken>,
    ) -> Revocation {
        let (first, second) = match client.registration.revoke {
            Revoke::Unsupported => return Revocation::Unsupported,
            Revoke::Rfc7009 => (
                refresh
                    .and_then(|token| revoke_form(client, endpoint, token.expose_secret(), "refresh_token")),
                access.and_then(|token| revoke_form(client, endpoint, token.expose_secret(), "access_token")),
            ),
            Revoke::DeleteJson => (None, access.and_then(|token| delete_json(client, endpoint, token))),
            Revoke::Bearer => (None, access.and_then(|token| bearer(http::Method::POST, endpoint, token))),
            Revoke::TokenInPath => {
                let url = access.and_then(|token| static_key::in_path(endpoint, token));
                (None, url.and_then(|url| http::Request::post(url.as_str()).body(Vec::new()).ok()))
            }
            Revoke::DeleteBearer => {
                (None, access.and_then(|token| bearer(http::Method::DELETE, endpoint, token)))
            }
        };
        let told = match first {
            Some(request) => Some(self.told(request).await),
            None => None,
        };
        if told == Some(Revocation::Silent) {
            // Whoever did not answer once is not waited for again: a revocation takes one deadline at most.
            return Revocation::Silent;
        }
        // RFC 7009 §2.1: the server may or may not end the access token along with the refresh token.
        let also = match second {
            Some(request) => Some(self.told(request).await),
            None => None,
        };
        told.or(also).unwrap_or(Revocation::Nothing)
    }

    async fn told(&self, request: http::Request<Vec<u8>>) -> Revocation {
        match self.send(request).await {
            Spent::Answered(answer) => match answer.status {
                200..=299 => Revocation::Confirmed,
                500..=599 | 429 => Revocation::Silent,
                _ => Revocation::Refused,
            },
            Spent::NotSent(_) | Spent::Lost(_) => Revocation::Silent,
        }
    }

    /// Sends a request as the client. While two secrets are valid side by side, the second is tried once where the provider does
    /// not take the first: it looked at nothing else then, and consumed nothing (RFC 6749 §5.2).
    pub(super) async fn spend(
        &self,
        request: impl Fn(Client<'_>) -> Option<http::Request<Vec<u8>>>,
    ) -> Spent {
        let secret = match self.client_secret().await {
            Ok(secret) => secret,
            Err(fault) => return Spent::NotSent(fault),
        };
        let Some(first) = request(self.client(secret.as_deref())) else {
            return Spent::NotSent(WireFault::Misconfigured);
        };
        let said = self.send(first).await;
        let credential = &self.0.registration.client_secret;
        if !rejects_client(&said) {
            return said;
        }
        let Some(other) = credential.other(self.0.clock.now()).await else { return said };
        let Some(second) = request(self.client(Some(&other))) else { return said };
        match self.send(second).await {
            Spent::NotSent(_) => said,
            again @ (Spent::Lost(_) | Spent::Answered(_)) => {
                if !rejects_client(&again) {
                    tracing::info!(provider = %self.0.registration.id, "the other client secret is taken");
                    credential.turn();
                }
                again
            }
        }
    }

    async fn client_secret(&self) -> Result<Option<Arc<ClientSecret>>, WireFault> {
        self.0.registration.client_secret.now(self.0.clock.now()).await
    }

    fn client<'a>(&'a self, secret: Option<&'a ClientSecret>) -> Client<'a> {
        Client { registration: &self.0.registration, secret }
    }

    pub(super) async fn send(&self, request: http::Request<Vec<u8>>) -> Spent {
        // The semaphore is never closed; without a place nothing was sent.
        let Ok(_place) = self.0.places.acquire().await else { return Spent::NotSent(WireFault::Connect) };
        self.0.transport.send(request).await
    }

    /// What is configured, filled up with what is discovered.
    pub(super) async fn endpoints(&self) -> Result<Endpoints, ProviderError> {
        let spelled = &self.0.registration.endpoints;
        let complete = spelled.authorize.is_some() && spelled.token.is_some();
        let Some(discovery) = &self.0.discovery else { return Ok(spelled.clone()) };
        match discovery.discovered(&self.0.transport, self.0.clock.now()).await {
            Ok(discovered) => {
                let found = discovered.endpoints.clone();
                Ok(Endpoints {
                    authorize: spelled.authorize.clone().or(found.authorize),
                    token: spelled.token.clone().or(found.token),
                    revoke: spelled.revoke.clone().or(found.revoke),
                    userinfo: spelled.userinfo.clone().or(found.userinfo),
                    device: spelled.device.clone().or(found.device),
                    issuer_promised: found.issuer_promised,
                })
            }
            Err(_) if complete => Ok(spelled.clone()),
            Err(why) => Err(undiscovered(why)),
        }
    }

    /// What the issuer's document says, for whoever needs more of it than endpoints.
    pub(super) async fn discovered(&self) -> Result<Arc<Discovered>, ProviderError> {
        let Some(discovery) = &self.0.discovery else {
            return Err(ProviderError::Misconfigured("it has no issuer"));
        };
        discovery.discovered(&self.0.transport, self.0.clock.now()).await.map_err(undiscovered)
    }

    /// The JSON at one of the issuer's own addresses.
    pub(super) async fn document(&self, url: &Url, token: Option<&AccessToken>) -> Option<serde_json::Value> {
        let request = match token {
            Some(token) => bearer(http::Method::GET, url, token)?,
            None => http::Request::get(url.as_str())
                .header(http::header::ACCEPT, "application/json")
                .body(Vec::new())
                .ok()?,
        };
        match self.send(request).await {
            Spent::Answered(answer) if answer.status == 200 && answer.whole => {
                serde_json::from_slice(answer.body.expose_secret()).ok()
            }
            Spent::Answered(_) | Spent::NotSent(_) | Spent::Lost(_) => None,
        }
    }
}

/// Whether an answer refuses the client and nothing else. Looked for without parsing: an answer is sealed before anything is read
/// into it.
fn rejects_client(said: &Spent) -> bool {
    let Spent::Answered(answer) = said else { return false };
    let body = answer.body.expose_secret();
    let has = |word: &str| body.windows(word.len()).any(|part| part == word.as_bytes());
    let words = [
        "\"invalid_client\"",
        "\"incorrect_client_credentials\"",
        "\"bad_client_secret\"",
        "=invalid_client",
    ];
    let refuses = (200..500).contains(&answer.status) && answer.whole;
    refuses && !has("access_token") && !has("invalid_grant") && words.into_iter().any(has)
}

/// How many requests one provider is sent at a time.
const PLACES: usize = 8;

const fn undiscovered(why: Undiscovered) -> ProviderError {
    match why {
        Undiscovered::Unreachable => ProviderError::Unreachable,
        Undiscovered::Unfit => {
            ProviderError::Misconfigured("its discovery document is missing or names another issuer")
        }
    }
}

fn lookup_request(lookup: &AccountLookup, url: &Url, token: &AccessToken) -> Option<http::Request<Vec<u8>>> {
    let method = if lookup.post { http::Method::POST } else { http::Method::GET };
    let whole = static_key::in_path(url, token);
    let mut placed = whole.is_some();
    let mut request = bearer(method, whole.as_ref().unwrap_or(url), token)?;
    for (name, value) in &lookup.headers {
        let name = http::HeaderName::from_bytes(name.as_bytes()).ok()?;
        let key = static_key::in_header(value, token);
        let mut said = http::HeaderValue::from_str(key.as_ref().unwrap_or(value)).ok()?;
        said.set_sensitive(key.is_some());
        placed |= key.is_some();
        request.headers_mut().insert(name, said);
    }
    if placed && !lookup.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
        request.headers_mut().remove(http::header::AUTHORIZATION);
    }
    if let Some(body) = &lookup.body {
        request
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        *request.body_mut() = body.clone().into_bytes();
    }
    Some(request)
}

pub(super) fn bearer(method: http::Method, url: &Url, token: &AccessToken) -> Option<http::Request<Vec<u8>>> {
    let mut value = http::HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).ok()?;
    value.set_sensitive(true);
    http::Request::builder()
        .method(method)
        .uri(url.as_str())
        .header(http::header::ACCEPT, "application/json")
        .header(http::header::AUTHORIZATION, value)
        .body(Vec::new())
        .ok()
}

fn revoke_form(
    client: Client<'_>,
    endpoint: &Url,
    token: &str,
    hint: &str,
) -> Option<http::Request<Vec<u8>>> {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("token", token).append_pair("token_type_hint", hint);
    let mut request = http::Request::post(endpoint.as_str())
        .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(http::header::ACCEPT, "application/json");
    let registration = client.registration;
    match (client.secret, registration.client_auth) {
        (Some(secret), super::ClientAuth::Body) => {
            form.append_pair("client_id", &registration.client_id);
            form.append_pair("client_secret", secret.expose_secret());
        }
        (Some(_), _) => request = request.header(http::header::AUTHORIZATION, requests::basic(client)?),
        (None, _) => {
            form.append_pair("client_id", &registration.client_id);
        }
    }
    request.body(form.finish().into_bytes()).ok()
}

fn delete_json(client: Client<'_>, endpoint: &Url, token: &AccessToken) -> Option<http::Request<Vec<u8>>> {
    let body = serde_json::json!({ "access_token": token.expose_secret() });
    http::Request::delete(endpoint.as_str())
        .header(http::header::ACCEPT, "application/vnd.github+json")
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(http::header::AUTHORIZATION, requests::basic(client)?)
        .body(serde_json::to_vec(&body).ok()?)
        .ok()
}
