//! The protocol's requests, built by `oauth2` and handed on unsent, so that its parser never sees an answer.

use super::registration::{ClientAuth, Pkce, Registration};
use crate::secret::{self, AuthCode, PkceVerifier, RefreshToken};
use oauth2::basic::BasicClient;
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, HttpRequest, HttpResponse,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, TokenUrl,
};
use std::cell::RefCell;
use url::Url;

/// An authorization request (RFC 6749 §4.1.1) and the verifier that goes with it.
pub(super) fn authorize_url(
    registration: &Registration,
    endpoint: &Url,
    redirect_uri: &Url,
    asked: &super::AuthorizeRequest,
) -> (Url, Option<PkceVerifier>) {
    let client = BasicClient::new(ClientId::new(registration.client_id.clone()))
        .set_auth_uri(AuthUrl::from_url(endpoint.clone()))
        .set_redirect_uri(RedirectUrl::from_url(redirect_uri.clone()));
    let state = CsrfToken::new(asked.state.expose_secret().to_owned());
    let mut request = client.authorize_url(|| state);
    if !asked.scopes.is_empty() {
        request = request.add_extra_param("scope", asked.scopes.join(&registration.scope_separator));
    }
    if let Some(nonce) = &asked.nonce {
        request = request.add_extra_param("nonce", nonce.expose_secret().to_owned());
    }
    let extras = registration.authorize_params.iter().filter(|(key, _)| !RESERVED.contains(&key.as_str()));
    for (key, value) in extras {
        request = request.add_extra_param(key.clone(), value.clone());
    }
    let verifier = (registration.pkce == Pkce::Sent).then(PkceCodeChallenge::new_random_sha256);
    let (url, _state) = match &verifier {
        Some((challenge, _)) => request.set_pkce_challenge(challenge.clone()).url(),
        None => request.url(),
    };
    (url, verifier.map(|(_, verifier)| PkceVerifier::new(verifier.into_secret())))
}

/// A registration and its secret as it is now.
#[derive(Clone, Copy)]
pub(super) struct Client<'a> {
    pub(super) registration: &'a Registration,
    pub(super) secret: Option<&'a secret::ClientSecret>,
}

/// A code exchange (RFC 6749 §4.1.3).
pub(super) fn exchange(
    as_client: Client<'_>,
    endpoint: &Url,
    redirect_uri: &Url,
    code: &AuthCode,
    verifier: Option<&PkceVerifier>,
) -> Option<http::Request<Vec<u8>>> {
    let mut json = vec![
        ("grant_type", "authorization_code"),
        ("code", code.expose_secret()),
        ("redirect_uri", redirect_uri.as_str()),
    ];
    if let Some(verifier) = verifier {
        json.push(("code_verifier", verifier.expose_secret()));
    }
    if let Some(request) = as_json(as_client, endpoint, &json) {
        return Some(request);
    }
    let client =
        token_client!(as_client, endpoint).set_redirect_uri(RedirectUrl::from_url(redirect_uri.clone()));
    let mut request = client.exchange_code(AuthorizationCode::new(code.expose_secret().to_owned()));
    if let Some(verifier) = verifier {
        request = request.set_pkce_verifier(PkceCodeVerifier::new(verifier.expose_secret().to_owned()));
    }
    let captured = RefCell::new(None);
    let _unsent = request.request(&|request: HttpRequest| capture(&captured, request));
    decorated(as_client.registration, captured.into_inner()?)
}

/// A refresh (RFC 6749 §6).
pub(super) fn refresh(
    as_client: Client<'_>,
    endpoint: &Url,
    token: &RefreshToken,
) -> Option<http::Request<Vec<u8>>> {
    let json = [("grant_type", "refresh_token"), ("refresh_token", token.expose_secret())];
    if let Some(request) = as_json(as_client, endpoint, &json) {
        return Some(request);
    }
    let client = token_client!(as_client, endpoint);
    let token = oauth2::RefreshToken::new(token.expose_secret().to_owned());
    let captured = RefCell::new(None);
    let _unsent =
        client.exchange_refresh_token(&token).request(&|request: HttpRequest| capture(&captured, request));
    decorated(as_client.registration, captured.into_inner()?)
}

/// A request in the client's own name (RFC 6749 §4.4.2).
pub(super) fn client_credentials(
    as_client: Client<'_>,
    endpoint: &Url,
    scope: Option<&str>,
    audience: Option<&str>,
) -> Option<http::Request<Vec<u8>>> {
    let more: Vec<_> = [("scope", scope), ("audience", audience)]
        .into_iter()
        .filter_map(|(key, value)| value.map(|value| (key, value)))
        .collect();
    let mut json = vec![("grant_type", "client_credentials")];
    json.extend(more.iter().copied());
    if let Some(request) = as_json(as_client, endpoint, &json) {
        return Some(request);
    }
    let client = token_client!(as_client, endpoint);
    let mut request = client.exchange_client_credentials();
    for (key, value) in more {
        request = request.add_extra_param(key.to_owned(), value.to_owned());
    }
    let captured = RefCell::new(None);
    let _unsent = request.request(&|request: HttpRequest| capture(&captured, request));
    decorated(as_client.registration, captured.into_inner()?)
}

/// A signed assertion as the grant (RFC 7523 §2.1).
pub(super) fn assertion(
    registration: &Registration,
    endpoint: &Url,
    jwt: &secret::ClientSecret,
    scope: Option<&str>,
) -> Option<http::Request<Vec<u8>>> {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
    form.append_pair("assertion", jwt.expose_secret());
    if let Some(scope) = scope {
        form.append_pair("scope", scope);
    }
    let request = http::Request::post(endpoint.as_str())
        .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(http::header::ACCEPT, "application/json");
    decorated(registration, request.body(form.finish().into_bytes()).ok()?)
}

/// `Authorization: Basic` as RFC 6749 §2.3.1 says: both parts form-encoded first.
pub(super) fn basic(as_client: Client<'_>) -> Option<http::HeaderValue> {
    use base64::Engine as _;
    let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let secret = as_client.secret.map_or("", |secret| secret.expose_secret());
    let id = encode(&as_client.registration.client_id);
    let pair = zeroize::Zeroizing::new(format!("{id}:{}", encode(secret)));
    let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair.as_bytes()));
    let mut value = http::HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Parameters that no configuration may override.
const RESERVED: &[&str] = &[
    "client_id",
    "client_secret",
    "code_challenge",
    "code_challenge_method",
    "nonce",
    "redirect_uri",
    "response_type",
    "scope",
    "state",
];

/// The client for the token endpoint; a macro because its type grows with every setter.
macro_rules! token_client {
    ($client:expr, $endpoint:expr) => {{
        let auth = if $client.registration.client_auth == ClientAuth::Body {
            AuthType::RequestBody
        } else {
            AuthType::BasicAuth
        };
        let mut client = BasicClient::new(ClientId::new($client.registration.client_id.clone()))
            .set_token_uri(TokenUrl::from_url($endpoint.clone()))
            .set_auth_type(auth);
        if let Some(secret) = $client.secret {
            client = client.set_client_secret(ClientSecret::new(secret.expose_secret().to_owned()));
        }
        client
    }};
}
use token_client;

/// Ends `oauth2`'s part before anything is sent.
#[derive(Debug, thiserror::Error)]
#[error("captured")]
struct Captured;

fn capture(slot: &RefCell<Option<HttpRequest>>, request: HttpRequest) -> Result<HttpResponse, Captured> {
    *slot.borrow_mut() = Some(request);
    Err(Captured)
}

pub(super) fn decorated(
    registration: &Registration,
    mut request: http::Request<Vec<u8>>,
) -> Option<http::Request<Vec<u8>>> {
    for (name, value) in &registration.token_headers {
        let name = http::HeaderName::from_bytes(name.as_bytes()).ok()?;
        request.headers_mut().insert(name, http::HeaderValue::from_str(value).ok()?);
    }
    Some(request)
}

/// Providers that take JSON instead of RFC 6749's form.
fn as_json(
    as_client: Client<'_>,
    endpoint: &Url,
    members: &[(&str, &str)],
) -> Option<http::Request<Vec<u8>>> {
    let mut body: serde_json::Map<String, serde_json::Value> =
        members.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
    let mut request = http::Request::post(endpoint.as_str())
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(http::header::ACCEPT, "application/json");
    let registration = as_client.registration;
    match registration.client_auth {
        ClientAuth::Basic | ClientAuth::Body => return None,
        ClientAuth::BasicJson => request = request.header(http::header::AUTHORIZATION, basic(as_client)?),
        ClientAuth::Json => {
            body.insert("client_id".into(), registration.client_id.clone().into());
            let secret = as_client.secret.map(|secret| secret.expose_secret());
            body.insert("client_secret".into(), secret.into());
        }
    }
    decorated(registration, request.body(serde_json::to_vec(&body).ok()?).ok()?)
}
