//! The pages of one integration for a signed-in operator: its facts and history; connect, refresh, validate and revoke, each confirmed.
//!
//! Every form carries the token of the session. Reading a page changes nothing.

use super::form::Form;
use super::operator::Desk;
use super::sign_in::{to, with};
use super::site::Site;
use super::trouble::{Trouble, Voice};
use super::visit::Visit;
use super::{activity, api, cookie, operator, pages, panes};
use crate::engine::{Posting, Start};
use crate::lifecycle::{Code, Identity, Refusal};
use axum::Extension;
use axum::body::Body;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts as _, Path, RawQuery, State};
use axum::response::Response;
use http::{Request, StatusCode};
use std::sync::Arc;
use url::Url;

type Name = Result<Path<String>, PathRejection>;

/// `GET /`: the integrations, for whoever is signed in; else the way to sign in, or whose grantd this is.
pub(super) async fn home(
    State(site): State<Site>,
    Extension(visit): Extension<Visit>,
    request: Request<Body>,
) -> Response {
    if visit.settings.sign_in.is_none() {
        return pages::home(&visit);
    }
    if operator::signed_in(&site, &visit, request.headers()).is_none() {
        return panes::sign_in(&visit, StatusCode::OK, "/");
    }
    let (mut parts, _body) = request.into_parts();
    match Desk::from_request_parts(&mut parts, &site).await {
        Ok(desk) => panes::integrations(&desk, &desk.integrations()),
        Err(answer) => answer,
    }
}

/// `GET /integrations/{integration}`.
pub(super) async fn show(desk: Desk, name: Name) -> Response {
    match found(&desk, name) {
        Ok(posting) => {
            let history = activity::history(&desk, posting.view.identity.integration.as_str()).await;
            panes::integration(&desk, &posting, &history)
        }
        Err(trouble) => trouble.answer(Voice::Page, &desk.visit),
    }
}

/// `GET /integrations/{integration}/connect`: what is about to happen.
pub(super) async fn before(desk: Desk, name: Name, RawQuery(query): RawQuery) -> Response {
    let window = Form::of(query.as_deref().unwrap_or_default().as_bytes()).window();
    match found(&desk, name) {
        Ok(posting) => panes::before(&desk, &posting, window),
        Err(trouble) => trouble.answer(Voice::Page, &desk.visit),
    }
}

/// `POST /integrations/{integration}/connect`.
pub(super) async fn connect(desk: Desk, name: Name, body: Bytes) -> Response {
    let form = Form::of(&body);
    let end = match acted(&desk, name, &form) {
        Ok(posting) => go(&desk, &posting.view.identity, &form).await,
        Err(trouble) => Err(trouble),
    };
    end.unwrap_or_else(|trouble| trouble.answer(Voice::Page, &desk.visit))
}

/// Off to the provider, with the flow's cookie.
pub(super) async fn go(desk: &Desk, identity: &Identity, form: &Form) -> Result<Response, Trouble> {
    let start = Start {
        integration: Some(identity.integration.to_string()),
        provider: None,
        organization: None,
        scopes: Vec::new(),
        then: None,
    };
    let going = api::set_out(desk, identity, start, form.account()).await?;
    let to = Url::parse(&going.url).ok().filter(|to| matches!(to.scheme(), "https" | "http"));
    let to = to.ok_or_else(|| {
        Refusal::new(
            Code::ProviderNotConfigured,
            "the provider's authorize_url is not one that a browser can follow",
        )
    })?;
    let now = desk.site.clock.now();
    let given = cookie::given(&desk.visit.settings, &going, form.window(), going.expires_at.since(now));
    Ok(with(pages::away(&desk.visit, &going.url, &to, going.expires_at, now), given))
}

/// `POST /integrations/{integration}/refresh`.
pub(super) async fn refresh(desk: Desk, name: Name, body: Bytes) -> Response {
    let posting = match acted(&desk, name, &Form::of(&body)) {
        Ok(posting) => posting,
        Err(trouble) => return trouble.answer(Voice::Page, &desk.visit),
    };
    let identity = &posting.view.identity;
    let view = desk.site.handle.refresh(&identity.integration).await;
    match desk.recorded("refresh", identity, view) {
        Ok(_) => to(&format!("/integrations/{}", identity.integration)),
        Err(refusal) => Trouble::from(refusal).answer(Voice::Page, &desk.visit),
    }
}

/// `POST /integrations/{integration}/validate`.
pub(super) async fn validate(desk: Desk, name: Name, body: Bytes) -> Response {
    let posting = match acted(&desk, name, &Form::of(&body)) {
        Ok(posting) => posting,
        Err(trouble) => return trouble.answer(Voice::Page, &desk.visit),
    };
    let identity = &posting.view.identity;
    let view = desk.site.handle.validate(&identity.integration).await;
    match desk.recorded("validate", identity, view) {
        Ok(_) => to(&format!("/integrations/{}", identity.integration)),
        Err(refusal) => Trouble::from(refusal).answer(Voice::Page, &desk.visit),
    }
}

/// `GET /integrations/{integration}/revoke`: what is about to end.
pub(super) async fn before_the_end(desk: Desk, name: Name) -> Response {
    match found(&desk, name) {
        Ok(posting) => panes::before_the_end(&desk, &posting),
        Err(trouble) => trouble.answer(Voice::Page, &desk.visit),
    }
}

/// `POST /integrations/{integration}/revoke`.
pub(super) async fn revoke(desk: Desk, name: Name, body: Bytes) -> Response {
    let posting = match acted(&desk, name, &Form::of(&body)) {
        Ok(posting) => posting,
        Err(trouble) => return trouble.answer(Voice::Page, &desk.visit),
    };
    let identity = &posting.view.identity;
    let ended = desk.site.handle.revoke(&identity.integration).await;
    match desk.recorded("revoke", identity, ended) {
        Ok(ended) => panes::ended(&desk, &ended),
        Err(refusal) => Trouble::from(refusal).answer(Voice::Page, &desk.visit),
    }
}

/// `GET /integrations/{integration}/delete`: what is about to be gone.
pub(super) async fn before_it_is_gone(desk: Desk, name: Name) -> Response {
    match found(&desk, name) {
        Ok(posting) => panes::before_it_is_gone(&desk, &posting),
        Err(trouble) => trouble.answer(Voice::Page, &desk.visit),
    }
}

/// `POST /integrations/{integration}/delete`; the form must name the integration once more.
pub(super) async fn delete(desk: Desk, name: Name, body: Bytes) -> Response {
    let form = Form::of(&body);
    let posting = match acted(&desk, name, &form) {
        Ok(posting) => posting,
        Err(trouble) => return trouble.answer(Voice::Page, &desk.visit),
    };
    let identity = &posting.view.identity;
    if form.get("name").map(str::trim) != Some(identity.integration.as_str()) {
        let refusal =
            Refusal::new(Code::InvalidRequest, "the name that was typed is another one: nothing was deleted");
        return Trouble::from(refusal).answer(Voice::Page, &desk.visit);
    }
    let ended = desk.site.handle.delete(&identity.integration).await;
    match desk.recorded("delete", identity, ended) {
        Ok(ended) => panes::gone(&desk, &ended),
        Err(refusal) => Trouble::from(refusal).answer(Voice::Page, &desk.visit),
    }
}

fn found(desk: &Desk, name: Name) -> Result<Arc<Posting>, Trouble> {
    let Ok(Path(name)) = name else {
        return Err(Refusal::new(Code::IntegrationNotFound, "no integration has that name").into());
    };
    Ok(desk.integration(&name)?)
}

fn acted(desk: &Desk, name: Name, form: &Form) -> Result<Arc<Posting>, Trouble> {
    desk.check(form.token())?;
    found(desk, name)
}
