//! The operator API for a signed-in operator (contract §4): JSON in, JSON out, problem details for every refusal.
//!
//! A start answers with the provider's own URL and gives this browser the flow's cookie. No answer holds a token of a provider.

use super::activity::{is_theirs, number};
use super::cookie::{self, Window};
use super::form::Form;
use super::operator::{Acting, Desk, not_an_admin};
use super::sign_in::with;
use super::trouble::{Trouble, Voice};
use crate::engine::{Going, Start};
use crate::lifecycle::{AccountChange, Code, Confirmation, Identity, Refusal, View};
use crate::time::Timestamp;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery};
use axum::response::{IntoResponse as _, Response};
use bytes::{BufMut as _, BytesMut};
use http::header;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `POST /v1/integrations/oauth/start`.
pub(super) async fn start(Acting(desk): Acting, RawQuery(query): RawQuery, body: Bytes) -> Response {
    let window = Form::of(query.as_deref().unwrap_or_default().as_bytes()).window();
    told(&desk, begin(&desk, &body, window).await)
}

async fn begin(desk: &Desk, body: &[u8], window: Window) -> Result<Response, Refusal> {
    let wanted: StartBody = serde_json::from_slice(body).map_err(|_shape| {
        Refusal::new(
            Code::InvalidRequest,
            "the body is not an object of integration or provider, organization, scopes, redirectUri and replace, each at most once",
        )
    })?;
    let identity = wanted.means(desk)?;
    let account = if wanted.replace { AccountChange::Allowed } else { AccountChange::Refused };
    let start = Start {
        integration: Some(identity.integration.to_string()),
        provider: None,
        organization: None,
        scopes: wanted.scopes,
        then: wanted.redirect_uri,
    };
    let going = set_out(desk, &identity, start, account).await?;
    let begun = Begun {
        success: true,
        auth_url: &going.url,
        state: going.state.expose_secret(),
        expires_at: going.expires_at,
    };
    let lives = going.expires_at.since(desk.site.clock.now());
    Ok(with(json(&begun), cookie::given(&desk.visit.settings, &going, window, lives)))
}

/// Mints a link for one integration and follows it at once: what a signed-in operator began, only they may finish.
pub(super) async fn set_out(
    desk: &Desk,
    identity: &Identity,
    start: Start,
    account: AccountChange,
) -> Result<Going, Refusal> {
    let confirmation = Confirmation { owner: Some(desk.person.subject.clone()), account };
    let handle = &desk.site.handle;
    let begun = match handle.start(start).await {
        Ok(started) => handle.confirm(started.ticket, confirmation).await,
        Err(refusal) => Err(refusal),
    };
    desk.recorded("consent_begun", identity, begun)
}

/// `GET /v1/integrations`.
pub(super) async fn list(desk: Desk) -> Response {
    let mut body = BytesMut::from(&br#"{"integrations":["#[..]);
    for (index, posting) in desk.integrations().iter().enumerate() {
        if index > 0 {
            body.put_u8(b',');
        }
        body.put_slice(&posting.status);
    }
    body.put_slice(b"]}");
    ([(header::CONTENT_TYPE, JSON)], body.freeze()).into_response()
}

/// `GET /v1/integrations/{integration}/status`.
pub(super) async fn status(desk: Desk, name: Result<Path<String>, PathRejection>) -> Response {
    let status = named(&desk, name).map(|(posting, _)| posting);
    told(&desk, status.map(|status| ([(header::CONTENT_TYPE, JSON)], status).into_response()))
}

/// `POST /v1/integrations/{integration}/refresh`.
pub(super) async fn refresh(Acting(desk): Acting, name: Result<Path<String>, PathRejection>) -> Response {
    let end = match named(&desk, name) {
        Ok((_, identity)) => {
            let view = desk.site.handle.refresh(&identity.integration).await;
            desk.recorded("refresh", &identity, view)
        }
        Err(refusal) => Err(refusal),
    };
    told(&desk, end.map(|view| json(&view)))
}

/// `POST /v1/integrations/{integration}/validate`.
pub(super) async fn validate(Acting(desk): Acting, name: Result<Path<String>, PathRejection>) -> Response {
    let end = match named(&desk, name) {
        Ok((_, identity)) => {
            let view = desk.site.handle.validate(&identity.integration).await;
            desk.recorded("validate", &identity, view)
        }
        Err(refusal) => Err(refusal),
    };
    told(&desk, end.map(|view| json(&view)))
}

/// `POST /v1/integrations/{integration}/revoke`.
pub(super) async fn revoke(Acting(desk): Acting, name: Result<Path<String>, PathRejection>) -> Response {
    let end = match named(&desk, name) {
        Ok((_, identity)) => {
            let ended = desk.site.handle.revoke(&identity.integration).await;
            desk.recorded("revoke", &identity, ended)
        }
        Err(refusal) => Err(refusal),
    };
    told(&desk, end.map(|ended| json(&Revoked { view: &ended.view, upstream: ended.upstream.word() })))
}

/// `DELETE /v1/integrations/{integration}`.
pub(super) async fn delete(Acting(desk): Acting, name: Result<Path<String>, PathRejection>) -> Response {
    let end = match named(&desk, name) {
        Ok((_, identity)) => {
            let ended = desk.site.handle.delete(&identity.integration).await;
            desk.recorded("delete", &identity, ended)
        }
        Err(refusal) => Err(refusal),
    };
    told(&desk, end.map(|ended| json(&Revoked { view: &ended.view, upstream: ended.upstream.word() })))
}

/// `GET /v1/audit?after=`: the events of the operator's organizations, the oldest first, and where to go on.
pub(super) async fn audit(desk: Desk, RawQuery(query): RawQuery) -> Response {
    let form = Form::of(query.as_deref().unwrap_or_default().as_bytes());
    let Ok(mut after) = form.get("after").unwrap_or("0").parse::<u64>() else {
        return told(&desk, Err(Refusal::new(Code::InvalidRequest, "`after` is the number of an event")));
    };
    let mut events = Vec::new();
    while events.is_empty() {
        let portion = desk.site.trail.after(after, PORTION).await;
        let Some(last) = portion.iter().map(number).max().filter(|last| *last > after) else { break };
        after = last;
        events.extend(portion.into_iter().filter(|event| is_theirs(event, &desk.organizations)));
    }
    json(&Events { events, next: after })
}

fn named(desk: &Desk, name: Result<Path<String>, PathRejection>) -> Result<(Bytes, Identity), Refusal> {
    let Ok(Path(name)) = name else {
        return Err(Refusal::new(Code::IntegrationNotFound, "no integration has that name"));
    };
    let posting = desk.integration(&name)?;
    Ok((posting.status.clone(), posting.view.identity.clone()))
}

fn told(desk: &Desk, end: Result<Response, Refusal>) -> Response {
    end.unwrap_or_else(|refusal| Trouble::from(refusal).answer(Voice::Problem, &desk.visit))
}

fn json(body: &impl Serialize) -> Response {
    ([(header::CONTENT_TYPE, JSON)], serde_json::to_vec(body).unwrap_or_default()).into_response()
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
    /// Another account may take the place of the present one.
    #[serde(default)]
    replace: bool,
}

impl StartBody {
    /// The one integration among the operator's own that is meant; others are not even counted.
    fn means(&self, desk: &Desk) -> Result<Identity, Refusal> {
        let invalid = |why: &str| Err(Refusal::new(Code::InvalidRequest, why));
        if self.integration.is_none() && self.provider.is_none() {
            return invalid("name an integration or a provider");
        }
        if let Some(name) = &self.integration {
            desk.integration(name)?;
        }
        let foreign = |named: &String| !desk.organizations.contains(named.as_str());
        if self.organization.as_ref().is_some_and(foreign) {
            return Err(not_an_admin());
        }
        let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        let mine = desk.integrations();
        let mut fitting = mine.iter().map(|posting| &posting.view.identity).filter(|identity| {
            fits(&self.integration, identity.integration.as_str())
                && fits(&self.provider, identity.provider.as_str())
                && fits(&self.organization, identity.organization.as_str())
        });
        match (fitting.next(), fitting.next()) {
            (Some(identity), None) => Ok(identity.clone()),
            (Some(_), Some(_)) => invalid("several integrations fit: name one by its id"),
            (None, _) => invalid("no integration fits that request"),
        }
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
struct Revoked<'a> {
    #[serde(flatten)]
    view: &'a View,
    upstream: &'static str,
}

#[derive(Serialize)]
struct Events {
    events: Vec<Value>,
    next: u64,
}

const JSON: &str = "application/json";
const PORTION: usize = 1_000;

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
