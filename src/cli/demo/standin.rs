//! The stand-in provider: an authorization server on loopback that is as strict as a real one.
//!
//! Authorization code with PKCE S256 (RFC 7636), client authentication, `iss` (RFC 9207), metadata (RFC 8414), revocation
//! (RFC 7009). Refresh tokens rotate, and one that comes back ends its whole family. Nothing is kept but in memory.

use aws_lc_rs::{digest, rand};
use axum::Router;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Json, Redirect, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

pub(super) const CLIENT_ID: &str = "grantd-demo";
/// Guards nothing: the stand-in lives as long as the demo, on loopback.
pub(super) const CLIENT_SECRET: &str = "demo-secret";
/// How long an access token lives, in seconds: short, so that a rotation is soon seen.
const LIFE: u64 = 8;

/// A running stand-in.
#[derive(Clone)]
pub(super) struct StandIn {
    issuer: Arc<str>,
    book: Arc<Mutex<Book>>,
}

/// What was handed out.
#[derive(Default)]
struct Book {
    codes: BTreeMap<String, Pledge>,
    /// Refresh tokens and the family of each; those that were spent stay known.
    refresh: BTreeMap<String, u64>,
    spent: BTreeSet<String>,
    access: BTreeMap<String, u64>,
    ended: BTreeSet<u64>,
    families: u64,
    reuses: u64,
}

/// What a code was given for.
struct Pledge {
    challenge: String,
    redirect_uri: String,
}

impl StandIn {
    /// Listens on a port of loopback that the kernel picks, until `stop`.
    pub(super) async fn start(stop: CancellationToken) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let issuer = format!("http://{}", listener.local_addr()?).into();
        let standin = Self { issuer, book: Arc::default() };
        let router = Router::new()
            .route("/.well-known/oauth-authorization-server", get(metadata))
            .route("/authorize", get(consent_page).post(decide))
            .route("/token", post(token))
            .route("/revoke", post(revoke))
            .route("/userinfo", get(userinfo))
            .with_state(standin.clone());
        #[expect(
            clippy::disallowed_methods,
            reason = "the stand-in ends with the demo, which ends the runtime"
        )]
        let _server = tokio::spawn(async move {
            axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
        });
        Ok(standin)
    }

    /// Its issuer identifier.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whether it takes an access token.
    pub(super) fn accepts(&self, token: &str) -> bool {
        let book = self.book();
        book.access.get(token).is_some_and(|family| !book.ended.contains(family))
    }

    /// How often a spent refresh token came back.
    pub(super) fn reuses(&self) -> u64 {
        self.book().reuses
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn metadata(State(standin): State<StandIn>) -> Response {
    let at = |path: &str| format!("{}{path}", standin.issuer);
    Json(json!({
        "issuer": *standin.issuer,
        "authorization_endpoint": at("/authorize"),
        "token_endpoint": at("/token"),
        "revocation_endpoint": at("/revoke"),
        "userinfo_endpoint": at("/userinfo"),
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    }))
    .into_response()
}

#[derive(Deserialize)]
struct Asked {
    client_id: String,
    redirect_uri: String,
    state: String,
    code_challenge: String,
    code_challenge_method: String,
    #[serde(default)]
    scope: String,
}

impl Asked {
    fn is_good(&self) -> bool {
        self.client_id == CLIENT_ID
            && self.code_challenge_method == "S256"
            && Url::parse(&self.redirect_uri)
                .is_ok_and(|url| url.path() == "/v1/integrations/oauth/callback/standin")
    }
}

async fn consent_page(Query(asked): Query<Asked>) -> Response {
    if !asked.is_good() {
        return (StatusCode::BAD_REQUEST, "this is no request of a client that is known here")
            .into_response();
    }
    let scope: String =
        asked.scope.chars().filter(|char| char.is_ascii_alphanumeric() || " ._".contains(*char)).collect();
    Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Stand-in provider</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>body{{font:1.1rem system-ui;margin:15vh auto;\
         max-width:32rem;padding:0 1rem}}button{{font:inherit;padding:.6em 1.4em;margin-right:1em}}</style>\
         <h1>Stand-in provider</h1><p>grantd asks for <strong>{scope}</strong>, as acme-bot.</p>\
         <form method=\"post\"><button name=\"decision\" value=\"allow\">Allow</button>\
         <button name=\"decision\" value=\"deny\">Deny</button></form></html>"
    ))
    .into_response()
}

#[derive(Deserialize)]
struct Decision {
    decision: String,
}

async fn decide(
    State(standin): State<StandIn>,
    Query(asked): Query<Asked>,
    Form(decision): Form<Decision>,
) -> Response {
    let Ok(mut back) = Url::parse(&asked.redirect_uri) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    if !asked.is_good() {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let mut query = back.query_pairs_mut();
    if decision.decision == "allow" {
        let code = fresh();
        let pledge = Pledge { challenge: asked.code_challenge, redirect_uri: asked.redirect_uri.clone() };
        standin.book().codes.insert(code.clone(), pledge);
        query.append_pair("code", &code);
    } else {
        query.append_pair("error", "access_denied");
    }
    query.append_pair("state", &asked.state).append_pair("iss", &standin.issuer);
    drop(query);
    Redirect::to(back.as_str()).into_response()
}

#[derive(Deserialize)]
struct Request {
    grant_type: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    redirect_uri: String,
    #[serde(default)]
    code_verifier: String,
    #[serde(default)]
    refresh_token: String,
}

async fn token(State(standin): State<StandIn>, headers: HeaderMap, Form(request): Form<Request>) -> Response {
    if !is_client(&headers) {
        return refused(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    let mut book = standin.book();
    let family = match request.grant_type.as_str() {
        "authorization_code" => book.redeem(&request),
        "refresh_token" => book.rotate(&request.refresh_token),
        _ => return refused(StatusCode::BAD_REQUEST, "unsupported_grant_type"),
    };
    let Some(family) = family else { return refused(StatusCode::BAD_REQUEST, "invalid_grant") };
    let (access_token, refresh_token) = (fresh(), fresh());
    book.access.insert(access_token.clone(), family);
    book.refresh.insert(refresh_token.clone(), family);
    Json(json!({
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": LIFE,
        "refresh_token": refresh_token,
    }))
    .into_response()
}

impl Book {
    /// A code becomes a family of tokens, once, for the verifier that belongs to its challenge.
    fn redeem(&mut self, request: &Request) -> Option<u64> {
        let pledge = self.codes.remove(&request.code)?;
        let hash = digest::digest(&digest::SHA256, request.code_verifier.as_bytes());
        let holds =
            URL_SAFE_NO_PAD.encode(hash) == pledge.challenge && request.redirect_uri == pledge.redirect_uri;
        self.families += 1;
        holds.then_some(self.families)
    }

    /// A refresh token is spent. One that was spent before ends its family.
    fn rotate(&mut self, token: &str) -> Option<u64> {
        let family = *self.refresh.get(token)?;
        if !self.spent.insert(token.to_owned()) {
            self.reuses += 1;
            self.ended.insert(family);
        }
        (!self.ended.contains(&family)).then_some(family)
    }
}

#[derive(Deserialize)]
struct Revoked {
    token: String,
}

async fn revoke(
    State(standin): State<StandIn>,
    headers: HeaderMap,
    Form(revoked): Form<Revoked>,
) -> Response {
    if !is_client(&headers) {
        return refused(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    let mut book = standin.book();
    let family = book.refresh.get(&revoked.token).or_else(|| book.access.get(&revoked.token)).copied();
    book.ended.extend(family);
    StatusCode::OK.into_response()
}

async fn userinfo(State(standin): State<StandIn>, headers: HeaderMap) -> Response {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match bearer.and_then(|value| value.strip_prefix("Bearer ")) {
        Some(token) if standin.accepts(token) => Json(json!({
            "sub": "42", "name": "Acme Bot", "preferred_username": "acme-bot", "email": "bot@acme.example",
        }))
        .into_response(),
        Some(_) | None => refused(StatusCode::UNAUTHORIZED, "invalid_token"),
    }
}

fn is_client(headers: &HeaderMap) -> bool {
    let expected = format!("Basic {}", STANDARD.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}")));
    headers.get(header::AUTHORIZATION).is_some_and(|value| value.as_bytes() == expected.as_bytes())
}

fn refused(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

fn fresh() -> String {
    let mut bytes = [0_u8; 24];
    while rand::fill(&mut bytes).is_err() {
        std::thread::yield_now();
    }
    URL_SAFE_NO_PAD.encode(bytes)
}
