//! A journey that begins at the third party ("Connect" in its own pages) and ends in the right organization.
//!
//! What arrives is kept in this browser alone, through the sign-in, and trusted for nothing: it can only point at an organization
//! that the signed-in person administers already. A person confirms before anything begins. A code is never among it.

use super::form::Form;
use super::manage;
use super::operator::{Desk, not_an_admin};
use super::sign_in::{to, with};
use super::trouble::{Trouble, Voice};
use super::visit::Visit;
use super::{cookie, panes};
use crate::engine::Posting;
use crate::lifecycle::{AuditEvent, Code, OrganizationId, ProviderId, Refusal};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

type Name = Result<Path<String>, PathRejection>;

/// `GET /install/{provider}?…`, before anybody is known: keeps what arrived and goes on without it in the address.
pub(super) async fn keep(
    Extension(visit): Extension<Visit>,
    name: Name,
    RawQuery(query): RawQuery,
    request: Request,
    next: Next,
) -> Response {
    match (name, query.filter(|query| !query.is_empty())) {
        (Ok(Path(provider)), Some(query)) if ProviderId::parse(&provider).is_ok() => {
            afresh(&visit, &provider, &query)
        }
        _ => next.run(request).await,
    }
}

/// On to a fresh start at `/install/{provider}`, with what else came along kept in this browser.
pub(super) fn afresh(visit: &Visit, provider: &str, query: &str) -> Response {
    let kept = Arrived::of(query).text();
    with(to(&format!("/install/{provider}")), cookie::install_given(&visit.settings, &kept, LIVES))
}

/// `GET /install/{provider}`.
pub(super) async fn show(desk: Desk, name: Name, headers: http::HeaderMap) -> Response {
    let arrived = Arrived::kept(cookie::install(&desk.visit.settings, &headers).as_deref());
    match choices(&desk, name, &arrived) {
        Ok((provider, choices)) => panes::install(&desk, &provider, &choices, &arrived),
        Err(refusal) => Trouble::from(refusal).answer(Voice::Page, &desk.visit),
    }
}

/// `POST /install/{provider}`: the operator has chosen and confirmed.
pub(super) async fn confirm(desk: Desk, name: Name, headers: http::HeaderMap, body: Bytes) -> Response {
    let form = Form::of(&body);
    match go(&desk, name, &headers, &form).await {
        Ok(response) => with(response, cookie::install_given(&desk.visit.settings, "", Duration::ZERO)),
        Err(trouble) => trouble.answer(Voice::Page, &desk.visit),
    }
}

async fn go(desk: &Desk, name: Name, headers: &http::HeaderMap, form: &Form) -> Result<Response, Trouble> {
    desk.check(form.token())?;
    let arrived = Arrived::kept(cookie::install(&desk.visit.settings, headers).as_deref());
    let (_, choices) = choices(desk, name, &arrived)?;
    let chosen = form
        .get("integration")
        .and_then(|chosen| choices.iter().find(|choice| choice.view.identity.integration.as_str() == chosen));
    let chosen = chosen
        .ok_or_else(|| Refusal::new(Code::InvalidRequest, "no integration was chosen of those that fit"))?;
    manage::go(desk, &chosen.view.identity, form).await
}

/// The operator's integrations at this provider: those of the organization that the arriving parameters name, else all.
fn choices(desk: &Desk, name: Name, arrived: &Arrived) -> Result<(ProviderId, Vec<Arc<Posting>>), Refusal> {
    let unknown = || Refusal::new(Code::IntegrationNotFound, "no integration is configured at that provider");
    let Ok(Path(name)) = name else { return Err(unknown()) };
    let provider = ProviderId::parse(&name).map_err(|_not_an_id| unknown())?;
    let named = arrived.names(&desk.visit, &provider);
    if !named.is_empty() && named.is_disjoint(&desk.organizations) {
        let refused = AuditEvent::refused("install", desk.actor(), Code::NotAnAdmin);
        desk.record(refused);
        return Err(not_an_admin());
    }
    let mut theirs = named.intersection(&desk.organizations);
    let only = match (theirs.next(), theirs.next()) {
        (Some(one), None) => Some(one.clone()),
        _ => None,
    };
    let mut choices = desk.integrations();
    choices.retain(|choice| {
        let identity = &choice.view.identity;
        identity.provider == provider && only.as_ref().is_none_or(|only| *only == identity.organization)
    });
    if choices.is_empty() { Err(unknown()) } else { Ok((provider, choices)) }
}

/// What a third party sent along: a few short parameters, kept as they came and believed in nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Arrived {
    pub(super) pairs: Vec<(String, String)>,
}

impl Arrived {
    fn of(query: &str) -> Self {
        let mut pairs = Vec::new();
        let mut room = ROOM;
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let size = name.len() + value.len();
            // Without our state a code is nobody's; a state of theirs means nothing here.
            let spoken_for = ["code", "state", "iss", "error", "error_description", "error_uri"];
            if spoken_for.contains(&name.as_ref()) || size > room || pairs.len() >= MOST {
                continue;
            }
            room -= size;
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Self { pairs }
    }

    /// From the cookie. Whoever changed it only changed what they said themselves.
    fn kept(text: Option<&str>) -> Self {
        let bytes = text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).unwrap_or_default();
        Self::of(std::str::from_utf8(&bytes).unwrap_or_default())
    }

    fn text(&self) -> String {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        URL_SAFE_NO_PAD.encode(form.extend_pairs(&self.pairs).finish())
    }

    /// The organizations whose external id at the provider is among the values.
    fn names(&self, visit: &Visit, provider: &ProviderId) -> BTreeSet<OrganizationId> {
        let is_among = |external: &String| self.pairs.iter().any(|(_, value)| value == external);
        let organizations = visit.settings.organizations.iter();
        organizations
            .filter(|(_, people)| people.external_ids.get(provider).is_some_and(is_among))
            .map(|(id, _)| id.clone())
            .collect()
    }
}

const ROOM: usize = 1024;
const MOST: usize = 16;
/// As long as a person may need to sign in.
const LIVES: Duration = Duration::from_secs(900);

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
