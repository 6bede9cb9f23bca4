//! Signing in and out: the way to the company's identity provider, the way back, and the end of a session.
//!
//! A sign-in begins with a press of our button, is bound to the browser by a cookie of its own, and ends once. No word of the
//! identity provider is shown or logged.

use super::form::Form;
use super::sessions::Sessions;
use super::site::Site;
use super::trouble::{Trouble, Voice};
use super::visit::Visit;
use super::{cookie, operator, pages, panes};
use crate::engine::SignIn;
use crate::lifecycle::{
    AccountChange, Actor, AuditEvent, Bearer, Callback, Code, Exchange, Person, Refusal, check_issuer,
};
use crate::secret::{Nonce, StateToken};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::sync::Arc;
use url::Url;

/// `GET /sign-in`: the button.
pub(super) async fn show(
    State(site): State<Site>,
    Extension(visit): Extension<Visit>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let next = next_of(query.as_deref().unwrap_or_default());
    if operator::signed_in(&site, &visit, &headers).is_some() {
        return to(&next);
    }
    panes::sign_in(&visit, StatusCode::OK, &next)
}

/// `POST /sign-in`: off to the identity provider.
pub(super) async fn begin(
    State(site): State<Site>,
    Extension(visit): Extension<Visit>,
    body: Bytes,
) -> Response {
    let next = next_of(std::str::from_utf8(&body).unwrap_or_default());
    match set_out(&site, &visit, next).await {
        Ok(response) => response,
        Err(refusal) => Trouble::from(refusal).answer(Voice::Page, &visit),
    }
}

async fn set_out(site: &Site, visit: &Visit, next: String) -> Result<Response, Refusal> {
    let port = port(visit)?;
    let (state, nonce) = (StateToken::new(site.sessions.text()), Nonce::new(site.sessions.text()));
    let (url, frozen) = port.begin(state.duplicate(), nonce).await?;
    let to = Url::parse(&url).ok().filter(|to| matches!(to.scheme(), "https" | "http")).ok_or_else(|| {
        Refusal::new(
            Code::ProviderNotConfigured,
            "the identity provider's authorization endpoint is not one that a browser can follow",
        )
    })?;
    let value = site.sessions.expect(&state, frozen, next);
    let now = site.clock.now();
    let mut response = pages::away(visit, &url, &to, now.plus(Sessions::SIGN_IN), now);
    if let Some(cookie) = cookie::sign_in_given(&visit.settings, &state, &value, Sessions::SIGN_IN) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// `GET /sign-in/callback`: back from the identity provider.
pub(super) async fn returned(
    State(site): State<Site>,
    Extension(visit): Extension<Visit>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let address = visit.client(&headers).to_string();
    match arrive(&site, &visit, &headers, query.as_deref().unwrap_or_default()).await {
        Ok((person, next)) => {
            let actor = Actor::Operator { subject: person.subject.clone(), name: person.name.clone() };
            site.trail.record(AuditEvent::done("sign_in", actor).from(address));
            if let Some(old) = cookie::session(&visit.settings, &headers) {
                site.sessions.close(&old);
            }
            let value = site.sessions.open(person);
            with(to(&next), cookie::session_given(&visit.settings, &value, Sessions::LIFE))
        }
        Err(refusal) => {
            site.trail.record(AuditEvent::refused("sign_in", Actor::Browser, refusal.code).from(address));
            Trouble::of_sign_in(refusal).answer(Voice::Page, &visit)
        }
    }
}

async fn arrive(
    site: &Site,
    visit: &Visit,
    headers: &HeaderMap,
    query: &str,
) -> Result<(Person, String), Refusal> {
    let port = port(visit)?;
    let callback = Callback::from_query("sign-in", None, query, Bearer::Browser(None))?;
    let unknown = || {
        Refusal::new(
            Code::InvalidOauthState,
            "the sign-in is unknown, over, or was begun in another browser: sign in again",
        )
    };
    let state = callback.state.as_ref().ok_or_else(unknown)?;
    let bound = cookie::sign_in(&visit.settings, headers, state);
    let arrival = site.sessions.arrive(state, bound.as_deref()).ok_or_else(unknown)?;
    check_issuer(&arrival.frozen, callback.issuer.as_deref())?;
    if let Some(error) = callback.error.as_deref() {
        return Err(declined(error));
    }
    let code = callback.code.ok_or_else(|| {
        Refusal::new(Code::InvalidRequest, "the identity provider sent neither a code nor an error")
    })?;
    let exchange = Exchange { code, frozen: arrival.frozen, account: AccountChange::Refused, pace: None };
    Ok((port.finish(exchange).await?, arrival.next))
}

/// `POST /sign-out`: ends the session, here and in every tab.
pub(super) async fn out(
    State(site): State<Site>,
    Extension(visit): Extension<Visit>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some((person, token)) = operator::signed_in(&site, &visit, &headers) else { return to("/") };
    if !Form::of(&body).token().is_some_and(|brought| token.fits(brought)) {
        return Trouble::no_token().answer(Voice::Page, &visit);
    }
    if let Some(cookie) = cookie::session(&visit.settings, &headers) {
        site.sessions.close(&cookie);
    }
    let actor = Actor::Operator { subject: person.subject.clone(), name: person.name.clone() };
    site.trail.record(AuditEvent::done("sign_out", actor).from(visit.client(&headers).to_string()));
    with(to("/"), cookie::session_given(&visit.settings, "", std::time::Duration::ZERO))
}

/// On to a page of ours (RFC 9700 §4.12 wants 303).
pub(super) fn to(path: &str) -> Response {
    let place = HeaderValue::try_from(path).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(header::LOCATION, place)]).into_response()
}

pub(super) fn with(mut response: Response, cookie: Option<HeaderValue>) -> Response {
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

fn port(visit: &Visit) -> Result<Arc<dyn SignIn>, Refusal> {
    visit.settings.sign_in.clone().ok_or_else(|| {
        Refusal::new(
            Code::NotSignedIn,
            "nobody signs in here: the configuration has no [operators]; operate with `grantd` on the host",
        )
    })
}

fn declined(error: &str) -> Refusal {
    match error {
        "access_denied" | "login_required" | "consent_required" | "interaction_required" => {
            Refusal::new(Code::AccessDenied, "the sign-in was declined at the identity provider")
        }
        "server_error" | "temporarily_unavailable" => Refusal::new(
            Code::TokenUnavailable,
            "the identity provider cannot sign anybody in right now: try again later",
        ),
        _ => Refusal::new(
            Code::ProviderNotConfigured,
            "the identity provider refused the request itself: check [operators] and the client's redirect URI there",
        ),
    }
}

/// The path of ours that a form or a query names as `next`; else the front page. Never another site (RFC 9700 §4.11.1).
fn next_of(form: &str) -> String {
    let named = url::form_urlencoded::parse(form.as_bytes()).find(|(key, _)| key == "next");
    let plain = |path: &str| {
        path.starts_with('/')
            && !path.starts_with("//")
            && path.len() <= 200
            && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte))
    };
    named.map(|(_, path)| path.into_owned()).filter(|path| plain(path)).unwrap_or_else(|| "/".into())
}

#[cfg(test)]
mod tests {
    use super::next_of;
    use crate::edge::web::staff::{person, state_of, with_operators, with_sign_in};
    use crate::edge::web::testing::{PUBLIC, Room, Script, settings};
    use crate::lifecycle::{Code, Refusal};

    #[test]
    fn only_paths_of_ours_are_gone_to_afterwards() {
        for (form, path) in [
            ("next=%2Factivity", "/activity"),
            ("next=%2Fintegrations%2Fgithub", "/integrations/github"),
            ("next=%2F%2Fevil.example", "/"),
            ("next=https%3A%2F%2Fevil.example", "/"),
            ("next=%2F%5Cevil.example", "/"),
            ("next=%2Fx%3Fy", "/"),
            ("", "/"),
        ] {
            assert_eq!(next_of(form), path, "{form}");
        }
    }

    #[tokio::test]
    async fn signing_in_goes_there_and_back_and_opens_a_session() {
        let room = Room::open(with_operators(person("ann", &["secops"])), Script::default());
        let (page, cookie) = room.set_out("/activity").await;
        assert_eq!(page.status, 200);
        assert!(page.body.contains("https://idp.acme.example/authorize"), "{}", page.body);
        let set = page.header("set-cookie");
        assert!(
            set.starts_with("__Secure-grantd-sign-in-") && set.contains("Path=/sign-in/callback"),
            "{set}"
        );
        let state = state_of(&page);
        let back = room.send("GET", &format!("/sign-in/callback?code=c&state={state}"), &cookie, "").await;
        assert_eq!((back.status, back.header("location")), (303, "/activity"));
        let session = back.header("set-cookie");
        assert!(
            session.starts_with("__Host-grantd-session=")
                && session.contains("Path=/; Max-Age=3600; HttpOnly; SameSite=Lax; Secure")
        );
        let again = room.send("GET", &format!("/sign-in/callback?code=c&state={state}"), &cookie, "").await;
        assert_eq!((again.status, again.code()), (400, "invalid_oauth_state"));
        assert_eq!(room.trail(), ["sign_in ok ann", "sign_in invalid_oauth_state browser"]);
    }

    #[tokio::test]
    async fn another_browser_cannot_finish_a_sign_in() {
        let room = Room::open(with_operators(person("ann", &["secops"])), Script::default());
        let (page, cookie) = room.set_out("/").await;
        let state = state_of(&page);
        let stolen = room.get(&format!("/sign-in/callback?code=c&state={state}")).await;
        assert_eq!(
            (stolen.status, stolen.code(), stolen.header("set-cookie")),
            (400, "invalid_oauth_state", "")
        );
        let own = room.send("GET", &format!("/sign-in/callback?code=c&state={state}"), &cookie, "").await;
        assert_eq!(own.status, 303);
    }

    #[tokio::test]
    async fn errors_and_foreign_issuers_open_nothing() {
        let room = Room::open(with_operators(person("ann", &["secops"])), Script::default());
        for (rest, status, code) in [
            ("error=access_denied&error_description=%3Cscript%3E", 403, "access_denied"),
            ("code=c&iss=https%3A%2F%2Fevil.example", 400, "issuer_mismatch"),
            ("iss=https%3A%2F%2Fidp.acme.example", 400, "invalid_request"),
        ] {
            let (page, cookie) = room.set_out("/").await;
            let state = state_of(&page);
            let path = format!("/sign-in/callback?state={state}&{rest}");
            let page = room.send("GET", &path, &cookie, "").await;
            assert_eq!((page.status, page.code(), page.header("set-cookie")), (status, code, ""), "{rest}");
            assert!(!page.body.contains("<script"));
        }
    }

    #[tokio::test]
    async fn a_person_whom_the_port_refuses_is_not_signed_in() {
        let refused = Refusal::new(Code::NotSignedIn, "the id_token does not fit");
        let room = Room::open(with_sign_in(Err(refused)), Script::default());
        let (page, cookie) = room.set_out("/").await;
        let state = state_of(&page);
        let page = room.send("GET", &format!("/sign-in/callback?code=c&state={state}"), &cookie, "").await;
        assert_eq!((page.status, page.code(), page.header("set-cookie")), (401, "not_signed_in", ""));
    }

    #[tokio::test]
    async fn signing_out_needs_the_token_and_ends_the_session() {
        let room = Room::open(with_operators(person("ann", &["secops"])), Script::default());
        let signed_in = room.sign_in().await;
        let kept = room.send("POST", "/sign-out", &signed_in.cookie, "csrf=x").await;
        assert_eq!(kept.status, 403);
        let body = format!("csrf={}", signed_in.token);
        let out = room.send("POST", "/sign-out", &signed_in.cookie, &body).await;
        assert_eq!((out.status, out.header("location")), (303, "/"));
        assert!(out.header("set-cookie").contains("Max-Age=0"));
        let page = room.send("GET", "/activity", &signed_in.cookie, "").await;
        assert_eq!((page.status, page.code()), (401, "not_signed_in"));
    }

    #[tokio::test]
    async fn without_operators_nobody_signs_in() {
        let room = Room::open(settings(PUBLIC), Script::default());
        for page in [room.get("/sign-in").await, room.send("POST", "/sign-in", "", "").await] {
            assert_eq!((page.status, page.code()), (401, "not_signed_in"));
            assert!(page.body.contains("no [operators]") || page.body.contains("grantd connect"));
        }
    }
}
