//! What operators order on the control socket, one function for each: from JSON to the engine and back.
//!
//! Tickets, states and provider URLs leave here in answers and nowhere else.

use super::answers::{answer, bytes_of, json, json_of, misfit, nowhere, refused};
use super::control::ControlDesk;
use super::witness::{About, Refused};
use crate::engine::{DeviceStarted, Enabling, Going, Landed, Landing, Recovered, Start, Started};
use crate::lifecycle::{
    Account, Bearer, Callback, Code, Confirmation, Identity, IntegrationId, ProviderId, Refusal, View,
};
use crate::secret::{Imported, Ticket};
use crate::time::Timestamp;
use axum::body::Body;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::IntoResponse;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode};
use serde::{Deserialize, Serialize};
use url::Url;

/// Why an order was not carried out.
pub(super) enum Denial {
    Refusal(Refusal),
    Misfit(StatusCode, String),
    Nowhere,
}

type Outcome = Result<Response<Body>, Denial>;

pub(super) async fn start(State(desk): State<ControlDesk>, body: Result<Bytes, BytesRejection>) -> Outcome {
    let wanted: StartBody = serde_json::from_slice(&body?).map_err(|_shape| not_a_start())?;
    let named = wanted.integration.as_ref().and_then(|name| desk.handle.board().cell(name));
    let Started { ticket, state, expires_at } = desk.handle.start(wanted.into()).await?;
    let auth_url = link(&desk.public_url.load(), &ticket);
    let begun = Begun { success: true, auth_url: &auth_url, state: state.expose_secret(), expires_at };
    Ok(about(named.map(|cell| cell.posting().view.identity.clone()), json_of(&begun)))
}

pub(super) async fn confirm(
    State(desk): State<ControlDesk>,
    ticket: Result<Path<String>, PathRejection>,
) -> Outcome {
    let Path(ticket) = ticket?;
    let Going { url, state, expires_at, .. } =
        desk.handle.confirm(Ticket::new(ticket), Confirmation::default()).await?;
    Ok(json_of(&Begun { success: true, auth_url: &url, state: state.expose_secret(), expires_at }))
}

pub(super) async fn callback(
    State(desk): State<ControlDesk>,
    body: Result<Bytes, BytesRejection>,
) -> Outcome {
    let callback = Callback::from_json(&body?, Bearer::Operator)?;
    let landing = desk.handle.callback(callback).await?;
    Ok(about(Some(landing.identity.clone()), ended(&landing)))
}

fn ended(landing: &Landing) -> Response<Body> {
    let Landing { identity, provider_name, .. } = landing;
    json_of(&Ended {
        success: true,
        message: message(&landing.landed),
        integration: Named { id: &identity.integration, name: provider_name, provider: &identity.provider },
    })
}

pub(super) async fn list(State(desk): State<ControlDesk>) -> Outcome {
    let mut body = BytesMut::from(&br#"{"integrations":["#[..]);
    for (index, posting) in desk.handle.board().postings().iter().enumerate() {
        if index > 0 {
            body.put_u8(b',');
        }
        body.put_slice(&posting.status);
    }
    body.put_slice(b"]}");
    Ok(json(HeaderMap::new(), body.freeze()))
}

pub(super) async fn status(
    State(desk): State<ControlDesk>,
    name: Result<Path<String>, PathRejection>,
) -> Outcome {
    let Path(name) = name?;
    let cell = desk.handle.board().cell(&name).ok_or_else(not_found)?;
    Ok(json(HeaderMap::new(), cell.posting().status.clone()))
}

pub(super) async fn refresh(
    State(desk): State<ControlDesk>,
    name: Result<Path<String>, PathRejection>,
) -> Outcome {
    let integration = named(name)?;
    Ok(json_of(&desk.handle.refresh(&integration).await?))
}

pub(super) async fn validate(
    State(desk): State<ControlDesk>,
    name: Result<Path<String>, PathRejection>,
) -> Outcome {
    let integration = named(name)?;
    Ok(json_of(&desk.handle.validate(&integration).await?))
}

pub(super) async fn revoke(
    State(desk): State<ControlDesk>,
    name: Result<Path<String>, PathRejection>,
) -> Outcome {
    let integration = named(name)?;
    let ended = desk.handle.revoke(&integration).await?;
    Ok(json_of(&Revoked { view: &ended.view, upstream: ended.upstream.word() }))
}

pub(super) async fn delete(
    State(desk): State<ControlDesk>,
    name: Result<Path<String>, PathRejection>,
) -> Outcome {
    let integration = named(name)?;
    let ended = desk.handle.delete(&integration).await?;
    Ok(json_of(&Revoked { view: &ended.view, upstream: ended.upstream.word() }))
}

/// What needs no person works at once; for everything else a link is made.
pub(super) async fn connect(
    State(desk): State<ControlDesk>,
    name: Result<Path<String>, PathRejection>,
) -> Outcome {
    let integration = named(name)?;
    match desk.handle.enable(&integration).await? {
        Enabling::Works(view) => return Ok(json_of(&Enabled { status: &view })),
        Enabling::Broker => {
            let DeviceStarted { page, expires_at, .. } = desk.handle.device(&integration).await?;
            return Ok(json_of(&AtBroker { success: true, auth_url: page, expires_at }));
        }
        Enabling::Link => {}
    }
    let wanted = Start {
        integration: Some(integration.to_string()),
        provider: None,
        organization: None,
        scopes: Vec::new(),
        then: None,
    };
    let Started { ticket, state, expires_at } = desk.handle.start(wanted).await?;
    let auth_url = link(&desk.public_url.load(), &ticket);
    Ok(json_of(&Begun { success: true, auth_url: &auth_url, state: state.expose_secret(), expires_at }))
}

/// A device code (RFC 8628): its end is seen in the status.
pub(super) async fn device(
    State(desk): State<ControlDesk>,
    name: Result<Path<String>, PathRejection>,
) -> Outcome {
    let integration = named(name)?;
    let DeviceStarted { page, page_with_code, user_code, expires_at, .. } =
        desk.handle.device(&integration).await?;
    Ok(json_of(&Waits {
        success: true,
        verification_uri: page,
        verification_uri_complete: page_with_code,
        user_code,
        expires_at,
    }))
}

/// A refresh token or a key that an operator brings.
pub(super) async fn import(
    State(desk): State<ControlDesk>,
    name: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Outcome {
    let integration = named(name)?;
    let wanted: ImportBody = serde_json::from_slice(&body?).map_err(|_shape| not_an_import())?;
    let imported = Imported::new(wanted.token);
    let text = imported.expose_secret();
    if text.trim().is_empty() || text.contains(char::is_control) {
        return Err(not_an_import().into());
    }
    let landing = desk.handle.import(&integration, imported).await?;
    Ok(ended(&landing))
}

pub(super) async fn recover(
    State(desk): State<ControlDesk>,
    name: Result<Path<String>, PathRejection>,
) -> Outcome {
    let integration = named(name)?;
    let Recovered { word, message, view } = desk.handle.recover(&integration).await?;
    Ok(json_of(&Found { found: word, message, status: &view }))
}

pub(super) async fn reload(State(desk): State<ControlDesk>) -> Outcome {
    match desk.handle.reload().await {
        Ok(message) => Ok(json_of(&Reloaded { success: true, message })),
        Err(problems) => Err(Denial::Misfit(StatusCode::UNPROCESSABLE_ENTITY, problems)),
    }
}

pub(super) async fn audit(
    State(desk): State<ControlDesk>,
    query: Result<Query<After>, QueryRejection>,
) -> Outcome {
    let Query(After { after }) = query.map_err(|_shape| not_a_number())?;
    let events = desk.trail.after(after, PAGE).await;
    let last = events.last().and_then(|event| event.get("seq")).and_then(serde_json::Value::as_u64);
    Ok(json_of(&Page { next: last.unwrap_or(after), events }))
}

pub(super) async fn health(State(desk): State<ControlDesk>) -> Response<Body> {
    let ready = desk.handle.turns().await;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer(HeaderMap::new(), status, "application/json", bytes_of(&Health { ready }).into())
}

impl IntoResponse for Denial {
    fn into_response(self) -> Response<Body> {
        match self {
            Self::Refusal(refusal) => {
                let mut answer = refused(HeaderMap::new(), &refusal);
                answer.extensions_mut().insert(Refused(refusal.code.word()));
                answer
            }
            Self::Misfit(status, detail) => misfit(HeaderMap::new(), status, &detail),
            Self::Nowhere => nowhere(HeaderMap::new()),
        }
    }
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<BytesRejection> for Denial {
    fn from(rejection: BytesRejection) -> Self {
        Self::Misfit(rejection.status(), "the body is larger than 64 KiB, or did not arrive whole".into())
    }
}

/// A segment that is no text names nothing.
impl From<PathRejection> for Denial {
    fn from(_undecodable: PathRejection) -> Self {
        Self::Nowhere
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StartBody {
    integration: Option<String>,
    provider: Option<String>,
    organization: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    redirect_uri: Option<String>,
}

impl From<StartBody> for Start {
    fn from(body: StartBody) -> Self {
        let StartBody { integration, provider, organization, scopes, redirect_uri } = body;
        Self { integration, provider, organization, scopes, then: redirect_uri }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Begun<'a> {
    success: bool,
    auth_url: &'a str,
    state: &'a str,
    expires_at: Timestamp,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Waits {
    success: bool,
    verification_uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    verification_uri_complete: Option<String>,
    user_code: String,
    expires_at: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportBody {
    token: String,
}

/// The broker's own page.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AtBroker {
    success: bool,
    auth_url: String,
    expires_at: Option<Timestamp>,
}

#[derive(Serialize)]
struct Enabled<'a> {
    status: &'a View,
}

#[derive(Serialize)]
struct Ended<'a> {
    success: bool,
    message: String,
    integration: Named<'a>,
}

#[derive(Serialize)]
struct Named<'a> {
    id: &'a IntegrationId,
    name: &'a str,
    provider: &'a ProviderId,
}

#[derive(Serialize)]
struct Revoked<'a> {
    #[serde(flatten)]
    view: &'a View,
    upstream: &'static str,
}

#[derive(Serialize)]
struct Found<'a> {
    found: &'static str,
    message: String,
    status: &'a View,
}

#[derive(Serialize)]
struct Reloaded {
    success: bool,
    message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    #[serde(default)]
    after: u64,
}

#[derive(Serialize)]
struct Page {
    events: Vec<serde_json::Value>,
    next: u64,
}

#[derive(Serialize)]
struct Health {
    ready: bool,
}

/// Tells the witness whose order it was, where the path does not.
fn about(identity: Option<Identity>, mut answer: Response<Body>) -> Response<Body> {
    if let Some(identity) = identity {
        answer.extensions_mut().insert(About(identity));
    }
    answer
}

/// The truth about how far a consent got.
fn message(landed: &Landed) -> String {
    match landed {
        Landed::Stored { account } => format!("connected{}; the record is in the store", by(account)),
        Landed::Sealed { account, why } => format!(
            "connected{}; the record is sealed on this host and not stored yet ({why}), which is being retried",
            by(account)
        ),
        Landed::Unverified => {
            "authorized and sealed on this host; nothing is served before the provider says whose it is"
                .into()
        }
    }
}

fn by(account: &Account) -> String {
    let names = [&account.username, &account.email, &account.name, &account.id];
    names.into_iter().flatten().next().map_or_else(String::new, |name| format!(" as {name}"))
}

fn link(public_url: &Url, ticket: &Ticket) -> String {
    format!("{}/connect/{}", public_url.as_str().trim_end_matches('/'), ticket.expose_secret())
}

fn named(name: Result<Path<String>, PathRejection>) -> Result<IntegrationId, Denial> {
    let Path(name) = name?;
    IntegrationId::parse(&name).map_err(|_no_identifier| not_found())
}

fn not_found() -> Denial {
    Denial::Refusal(Refusal::new(
        Code::IntegrationNotFound,
        "there is no integration of that name: `grantd list` shows all",
    ))
}

fn not_a_number() -> Refusal {
    Refusal::new(Code::InvalidRequest, "after is the number of the last event that is known, once")
}

fn not_an_import() -> Refusal {
    Refusal::new(Code::InvalidRequest, "the body is not an object of token, which is one line of text")
}

fn not_a_start() -> Refusal {
    Refusal::new(
        Code::InvalidRequest,
        "the body is not an object of integration or provider, organization, scopes and redirectUri, each at most once",
    )
}

/// How many events one answer has at most.
const PAGE: usize = 500;
