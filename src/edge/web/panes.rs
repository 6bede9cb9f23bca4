//! The pages of operators: what their templates show, made of views and of the audit trail.
//!
//! Everything shown is escaped by the templates; what a provider or an identity provider named is cleaned first. No page holds a token of a provider.

use super::cookie::Window;
use super::install::Arrived;
use super::landing::{clean, shown};
use super::operator::{Desk, not_an_admin, not_signed_in};
use super::pages::{Frame, Mood, show};
use super::trouble::{Trouble, Voice};
use super::visit::Visit;
use crate::engine::{Ended, Posting};
use crate::lifecycle::{Action, ProviderId, Refusal, Revocation, Status, View};
use crate::time::Timestamp;
use askama::Template;
use axum::response::Response;
use http::StatusCode;
use serde_json::Value;
use std::sync::Arc;

/// The way to sign in; `next` is a path of ours.
pub(super) fn sign_in(visit: &Visit, status: StatusCode, next: &str) -> Response {
    if visit.settings.sign_in.is_none() {
        let refusal = Refusal { detail: NOWHERE.into(), ..not_signed_in() };
        return Trouble::from(refusal).answer(Voice::Page, visit);
    }
    let code = (status != StatusCode::OK).then_some("not_signed_in");
    show(status, &SignIn { frame: Frame::of(visit, code), next })
}

/// The same, where a page needs somebody who is signed in.
pub(super) fn sign_in_first(visit: &Visit, path: &str) -> Response {
    sign_in(visit, StatusCode::UNAUTHORIZED, path)
}

/// For somebody who is signed in and administers nothing.
pub(super) fn no_admin(desk: &Desk) -> Response {
    let trouble = Trouble::from(not_an_admin());
    super::pages::trouble_for(&trouble, Frame::of(&desk.visit, Some(trouble.word)).for_operator(desk))
}

pub(super) fn integrations(desk: &Desk, postings: &[Arc<Posting>]) -> Response {
    let rows: Vec<Row> = postings.iter().map(|posting| Row::of(desk, &posting.view)).collect();
    let good = rows.iter().filter(|row| row.mood == Mood::Good).count();
    show(StatusCode::OK, &Integrations { frame: Frame::of(&desk.visit, None).for_operator(desk), rows, good })
}

pub(super) fn integration(desk: &Desk, posting: &Posting, history: &[Line]) -> Response {
    let row = Row::of(desk, &posting.view);
    let planned = desk.visit.settings.integrations.get(&posting.view.identity.integration);
    let kept_in = planned.map(|planned| planned.kept_in.as_str());
    let frame = Frame::of(&desk.visit, None).for_operator(desk);
    show(StatusCode::OK, &Integration { frame, row, view: &posting.view, kept_in, history })
}

/// What a connect is about to do.
pub(super) fn before(desk: &Desk, posting: &Posting, window: Window) -> Response {
    let row = Row::of(desk, &posting.view);
    let planned = desk.visit.settings.integrations.get(&posting.view.identity.integration);
    let scopes = planned.map(|planned| planned.terms.scopes.as_slice()).unwrap_or_default();
    let kept_in = planned.map(|planned| planned.kept_in.as_str());
    let frame = Frame::of(&desk.visit, None).for_operator(desk);
    show(StatusCode::OK, &Before { frame, row, scopes, kept_in, popup: window == Window::Popup })
}

/// What a revocation is about to do.
pub(super) fn before_the_end(desk: &Desk, posting: &Posting) -> Response {
    let row = Row::of(desk, &posting.view);
    show(StatusCode::OK, &BeforeTheEnd { frame: Frame::of(&desk.visit, None).for_operator(desk), row })
}

/// What a deletion is about to do.
pub(super) fn before_it_is_gone(desk: &Desk, posting: &Posting) -> Response {
    let row = Row::of(desk, &posting.view);
    show(StatusCode::OK, &BeforeItIsGone { frame: Frame::of(&desk.visit, None).for_operator(desk), row })
}

/// What a deletion came to.
pub(super) fn gone(desk: &Desk, ended: &Ended) -> Response {
    let row = Row::of(desk, &ended.view);
    let frame = Frame::of(&desk.visit, Some("deleted")).for_operator(desk);
    let whole = ended.view.status == Status::Pending;
    show(StatusCode::OK, &Gone { frame, row, said: said(ended.upstream), whole })
}

/// What a revocation came to.
pub(super) fn ended(desk: &Desk, ended: &Ended) -> Response {
    let row = Row::of(desk, &ended.view);
    let frame = Frame::of(&desk.visit, Some("revoked")).for_operator(desk);
    show(StatusCode::OK, &Done { frame, row, said: said(ended.upstream) })
}

const fn said(upstream: Revocation) -> &'static str {
    match upstream {
        Revocation::Confirmed => "The provider confirmed that the grant has ended there as well.",
        Revocation::Refused => {
            "The provider refused to end the grant. Remove grantd's access in the provider's own settings."
        }
        Revocation::Silent => {
            "The provider did not answer in time, and is told again until it does. To be sure at once, remove grantd's access in its own settings."
        }
        Revocation::Unsupported => {
            "This provider has no way to be told. Remove grantd's access in its own settings."
        }
        Revocation::Nothing => "There was no token that the provider could be told about.",
    }
}

pub(super) fn activity(desk: &Desk, lines: &[Line]) -> Response {
    show(StatusCode::OK, &Activity { frame: Frame::of(&desk.visit, None).for_operator(desk), lines })
}

/// A journey that began elsewhere: which integration it is for.
pub(super) fn install(
    desk: &Desk,
    provider: &ProviderId,
    choices: &[Arc<Posting>],
    arrived: &Arrived,
) -> Response {
    let rows: Vec<Row> = choices.iter().map(|posting| Row::of(desk, &posting.view)).collect();
    let provider = rows.first().map_or_else(|| provider.to_string(), |row| row.provider.clone());
    let known = rows.iter().any(|row| row.account.is_some());
    let arrived = arrived.pairs.iter().map(|(name, value)| (clean(name), clean(value))).collect();
    let frame = Frame::of(&desk.visit, None).for_operator(desk);
    show(StatusCode::OK, &Install { frame, provider, rows, arrived, known })
}

/// One integration, for a person.
#[expect(clippy::struct_excessive_bools, reason = "a template asks for each by itself")]
struct Row {
    id: String,
    organization: String,
    provider: String,
    mood: Mood,
    state: &'static str,
    message: String,
    account: Option<String>,
    ends: Option<Moment>,
    /// `connect` or `reconnect`, whichever is the right word now.
    connects: &'static str,
    must_connect: bool,
    can_refresh: bool,
    can_validate: bool,
    can_revoke: bool,
    can_delete: bool,
    must_configure: bool,
}

impl Row {
    fn of(desk: &Desk, view: &View) -> Self {
        let (mood, state) = match view.status {
            Status::Connected => (Mood::Good, "Connected"),
            Status::Warning => (Mood::Wait, "Works, needs a look"),
            Status::Expired => (Mood::Wait, "No live token"),
            Status::NeedsReauth => (Mood::Bad, "Must be reconnected"),
            Status::Revoked => (Mood::Calm, "Revoked"),
            Status::Pending => (Mood::Calm, "Not connected"),
        };
        let has = |action| view.actions.contains(&action);
        let fresh = view.status == Status::Pending && view.generation == 0;
        Self {
            id: view.identity.integration.to_string(),
            organization: view.identity.organization.to_string(),
            provider: desk.visit.settings.provider_name(&view.identity.integration).to_owned(),
            mood,
            state,
            message: view.message.clone(),
            account: shown(&view.account),
            ends: view.expires_at.map(Moment::of),
            connects: if fresh { "Connect" } else { "Reconnect" },
            must_connect: has(Action::Connect) || has(Action::Reconnect),
            can_refresh: view.connected && !matches!(view.status, Status::Revoked | Status::NeedsReauth),
            can_validate: view.connected && view.token_valid,
            can_revoke: view.connected || view.status == Status::NeedsReauth,
            can_delete: view.status != Status::Pending,
            must_configure: has(Action::Configure),
        }
    }
}

/// A moment, for a person.
pub(super) struct Moment {
    exactly: String,
    shown: String,
}

impl Moment {
    fn of(at: Timestamp) -> Self {
        Self::said(at.to_string())
    }

    fn said(exactly: String) -> Self {
        let shown = match (exactly.get(..10), exactly.get(11..19)) {
            (Some(day), Some(time)) => format!("{day} {time} UTC"),
            _ => exactly.clone(),
        };
        Self { exactly, shown }
    }
}

/// One event of the trail, for a person.
pub(super) struct Line {
    pub(super) number: u64,
    at: Moment,
    what: String,
    who: String,
    integration: Option<String>,
    from: Option<String>,
    outcome: String,
    good: bool,
    detail: Option<String>,
}

impl Line {
    pub(super) fn of(event: &Value) -> Self {
        let text = |name: &str| event.get(name).and_then(Value::as_str).map(clean);
        let detail = match (text("from"), text("to"), text("cause")) {
            (Some(from), Some(to), cause) if from != to => Some(format!(
                "{from} to {to}{}",
                cause.map_or_else(String::new, |cause| format!(", {cause}"))
            )),
            (_, _, cause) => cause,
        };
        let count = event.get("count").and_then(Value::as_u64).unwrap_or(1);
        let what = text("what").unwrap_or_default().replace('_', " ");
        let outcome = text("outcome").unwrap_or_default();
        Self {
            number: super::activity::number(event),
            at: Moment::said(text("at").unwrap_or_default()),
            what: if count > 1 { format!("{what} × {count}") } else { what },
            who: who(event.get("who").unwrap_or(&Value::Null)),
            integration: text("integration"),
            from: text("address"),
            good: outcome == "ok",
            outcome,
            detail,
        }
    }
}

fn who(who: &Value) -> String {
    let text = |name: &str| who.get(name).and_then(Value::as_str).map(clean);
    let user =
        || who.get("uid").and_then(Value::as_u64).map_or_else(String::new, |uid| format!("user {uid}"));
    match who.get("kind").and_then(Value::as_str) {
        Some("operator") => text("name").unwrap_or_else(|| "an operator".into()),
        Some("app") => text("unit").unwrap_or_else(user),
        Some("host") => format!("{} on the host", user()),
        Some("browser") => "a browser".into(),
        Some(_) | None => "grantd".into(),
    }
}

#[derive(Template)]
#[template(path = "sign-in.html")]
struct SignIn<'a> {
    frame: Frame<'a>,
    next: &'a str,
}

#[derive(Template)]
#[template(path = "integrations.html")]
struct Integrations<'a> {
    frame: Frame<'a>,
    rows: Vec<Row>,
    good: usize,
}

#[derive(Template)]
#[template(path = "integration.html")]
struct Integration<'a> {
    frame: Frame<'a>,
    row: Row,
    view: &'a View,
    kept_in: Option<&'a str>,
    history: &'a [Line],
}

#[derive(Template)]
#[template(path = "before.html")]
struct Before<'a> {
    frame: Frame<'a>,
    row: Row,
    scopes: &'a [String],
    kept_in: Option<&'a str>,
    popup: bool,
}

#[derive(Template)]
#[template(path = "before-the-end.html")]
struct BeforeTheEnd<'a> {
    frame: Frame<'a>,
    row: Row,
}

#[derive(Template)]
#[template(path = "before-it-is-gone.html")]
struct BeforeItIsGone<'a> {
    frame: Frame<'a>,
    row: Row,
}

#[derive(Template)]
#[template(path = "gone.html")]
struct Gone<'a> {
    frame: Frame<'a>,
    row: Row,
    said: &'static str,
    whole: bool,
}

#[derive(Template)]
#[template(path = "done.html")]
struct Done<'a> {
    frame: Frame<'a>,
    row: Row,
    said: &'static str,
}

#[derive(Template)]
#[template(path = "activity.html")]
struct Activity<'a> {
    frame: Frame<'a>,
    lines: &'a [Line],
}

#[derive(Template)]
#[template(path = "install.html")]
struct Install<'a> {
    frame: Frame<'a>,
    provider: String,
    rows: Vec<Row>,
    arrived: Vec<(String, String)>,
    known: bool,
}

const NOWHERE: &str = "nobody signs in here: the configuration has no [operators]; an operator connects with `grantd connect` on the host";

#[cfg(test)]
mod tests {
    use super::Line;
    use serde_json::json;

    #[test]
    fn an_event_is_said_for_a_person() {
        let line = Line::of(&json!({
            "seq": 7, "at": "2026-11-25T03:00:00Z", "what": "token_read", "count": 3, "outcome": "ok",
            "who": { "kind": "app", "uid": 1001, "unit": "billing.service" }, "integration": "github"
        }));
        assert_eq!(
            (line.number, line.what.as_str(), line.who.as_str()),
            (7, "token read × 3", "billing.service")
        );
        assert_eq!(line.at.shown, "2026-11-25 03:00:00 UTC");
        assert!(line.good && line.detail.is_none());
        let line =
            Line::of(&json!({ "what": "refreshed", "from": "active", "to": "active", "cause": "rotated" }));
        assert_eq!((line.detail.as_deref(), line.who.as_str()), (Some("rotated"), "grantd"));
        let line = Line::of(&json!({ "who": { "kind": "host", "uid": 0 }, "outcome": "not_an_admin" }));
        assert_eq!((line.who.as_str(), line.good), ("user 0 on the host", false));
    }
}
