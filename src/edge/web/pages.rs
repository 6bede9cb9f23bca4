//! The pages that need nobody signed in: what their templates show, and what the content policy lets through.
//!
//! Everything shown is escaped by the templates. There is one stylesheet, one script (for pages that follow what happens), no
//! picture and nothing from elsewhere. Every page works without the script.

use super::cookie::Window;
use super::landing::{Words, shown};
use super::operator::Desk;
use super::trouble::Trouble;
use super::visit::Visit;
use crate::engine::{Going, Landing};
use crate::lifecycle::{Account, Invitation};
use crate::time::Timestamp;
use askama::Template;
use aws_lc_rs::digest;
use axum::response::{Html, IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode};
use std::sync::LazyLock;
use std::time::Duration;
use url::Url;

/// What a page may load and who may frame it: nothing and nobody, but for the one stylesheet.
pub(super) static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| policy(""));

/// The same for a page with the one script, which may ask this host again for what the page shows.
pub(super) static SCRIPTED: LazyLock<HeaderValue> =
    LazyLock::new(|| policy(&format!(" script-src '{}'; connect-src 'self';", hash(SCRIPT))));

fn policy(more: &str) -> HeaderValue {
    HeaderValue::try_from(format!(
        "default-src 'none'; style-src '{}';{more} form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        hash(STYLE)
    ))
    .unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes())))
}

/// Goes with a response whose page has the script.
#[derive(Clone, Copy, Debug)]
pub(super) struct Script;

/// The mood of a page, as its mark shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// Nothing has happened yet.
    Calm,
    /// It is done.
    Good,
    /// It is not done yet.
    Wait,
    /// It was refused.
    Bad,
}

/// The front page.
pub(super) fn home(visit: &Visit) -> Response {
    show(StatusCode::OK, &Home { frame: Frame::of(visit, None) })
}

/// Where a link leads, to be read before anything happens.
pub(super) fn connect(
    visit: &Visit,
    invitation: &Invitation,
    present: Option<&Account>,
    now: Timestamp,
) -> Response {
    let ends = Ends::of(invitation.expires_at, now);
    let account = present.and_then(shown);
    show(StatusCode::OK, &Connect { frame: Frame::of(visit, None), invitation, account, ends })
}

/// On the way to the provider. The answer is a page, since `form-action` stops a redirect after a form (CSP 3 §6.4.1).
pub(super) fn going(visit: &Visit, going: &Going, to: &Url, now: Timestamp) -> Response {
    away(visit, &going.url, to, going.expires_at, now)
}

/// On the way to a provider, or to the identity provider.
pub(super) fn away(visit: &Visit, url: &str, to: &Url, ends: Timestamp, now: Timestamp) -> Response {
    let page = OnTheWay {
        frame: Frame::of(visit, None),
        url,
        destination: to.host_str().unwrap_or_default(),
        ends: Ends::of(ends, now),
    };
    show(StatusCode::OK, &page)
}

/// A consent that ended well.
pub(super) fn landed(visit: &Visit, landing: &Landing, words: &Words, end: End) -> Response {
    let then = landing.then.as_deref().and_then(onward);
    let integration = landing.identity.integration.as_str();
    let mut frame = Frame::of(visit, Some(words.code));
    if end.window == Window::Popup {
        frame = frame.in_popup(integration, words.is_done());
    }
    let back = end.signed_in;
    show(StatusCode::OK, &Landed { frame, landing, said: words, then, back })
}

/// Where a flow ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct End {
    /// In which window.
    pub(super) window: Window,
    /// Whether somebody is signed in, who has pages to go back to.
    pub(super) signed_in: bool,
}

/// Something was refused.
pub(super) fn trouble(visit: &Visit, trouble: &Trouble) -> Response {
    let mut frame = Frame::of(visit, Some(trouble.word));
    if trouble.window == Window::Popup {
        frame = frame.in_popup("", false);
    }
    trouble_for(trouble, frame)
}

pub(super) fn trouble_for(trouble: &Trouble, frame: Frame<'_>) -> Response {
    let mood = match trouble.status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Mood::Wait,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Mood::Calm,
        _ => Mood::Bad,
    };
    show(trouble.status, &Refused { frame, trouble, mood })
}

pub(super) fn show(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => {
            let scripted = text.contains("<script>");
            let mut response = (status, Html(text)).into_response();
            // What is shown is escaped, so that only our own script is written so.
            if scripted {
                response.extensions_mut().insert(Script);
            }
            response
        }
        Err(error) => {
            tracing::error!(error = %error, "a page was not made");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The engine has judged it; this only sees to it that nothing but https becomes a link.
fn onward(then: &str) -> Option<Url> {
    Url::parse(then).ok().filter(|to| to.scheme() == "https")
}

/// What stands around every page.
pub(super) struct Frame<'a> {
    pub(super) style: &'static str,
    pub(super) script: Option<&'static str>,
    pub(super) host: &'a str,
    pub(super) code: Option<&'static str>,
    pub(super) bar: Option<Bar<'a>>,
    pub(super) popup: Option<Popup<'a>>,
}

/// The bar of signed-in pages.
pub(super) struct Bar<'a> {
    pub(super) name: String,
    pub(super) token: &'a str,
}

/// A landing in a small window: what it tells the page that opened it, and no more than that.
pub(super) struct Popup<'a> {
    pub(super) integration: &'a str,
    pub(super) done: bool,
}

impl<'a> Frame<'a> {
    pub(super) fn of(visit: &'a Visit, code: Option<&'static str>) -> Self {
        Self { style: STYLE, script: None, host: visit.host(), code, bar: None, popup: None }
    }

    pub(super) fn for_operator(self, desk: &'a Desk) -> Self {
        let bar = Bar { name: super::landing::clean(&desk.person.name), token: desk.token.shown() };
        Self { bar: Some(bar), script: Some(SCRIPT), ..self }
    }

    fn in_popup(self, integration: &'a str, done: bool) -> Self {
        Self { popup: Some(Popup { integration, done }), script: Some(SCRIPT), ..self }
    }

    /// The token of the session, for forms.
    pub(super) fn token(&self) -> &str {
        self.bar.as_ref().map_or("", |bar| bar.token)
    }
}

/// When something ends, for a person.
struct Ends {
    exactly: Timestamp,
    at: String,
    left: String,
}

impl Ends {
    fn of(exactly: Timestamp, now: Timestamp) -> Self {
        let text = exactly.to_string();
        // Nothing that a page counts down to is as much as a day away.
        let at = text.get(11..16).map_or_else(|| text.clone(), |time| format!("{time} UTC"));
        Self { exactly, at, left: left(exactly.since(now)) }
    }
}

fn left(span: Duration) -> String {
    match span.as_secs() / 60 {
        0 => "less than a minute".into(),
        1 => "about a minute".into(),
        minutes => format!("about {minutes} minutes"),
    }
}

#[derive(Template)]
#[template(path = "home.html")]
struct Home<'a> {
    frame: Frame<'a>,
}

#[derive(Template)]
#[template(path = "connect.html")]
struct Connect<'a> {
    frame: Frame<'a>,
    invitation: &'a Invitation,
    account: Option<String>,
    ends: Ends,
}

#[derive(Template)]
#[template(path = "going.html")]
struct OnTheWay<'a> {
    frame: Frame<'a>,
    url: &'a str,
    destination: &'a str,
    ends: Ends,
}

#[derive(Template)]
#[template(path = "landing.html")]
struct Landed<'a> {
    frame: Frame<'a>,
    landing: &'a Landing,
    said: &'a Words,
    then: Option<Url>,
    back: bool,
}

#[derive(Template)]
#[template(path = "trouble.html")]
struct Refused<'a> {
    frame: Frame<'a>,
    trouble: &'a Trouble,
    mood: Mood,
}

const STYLE: &str = include_str!("../../../templates/style.css");
const SCRIPT: &str = include_str!("../../../templates/page.js");

#[cfg(test)]
mod tests {
    use super::{Ends, onward};
    use crate::time::Timestamp;

    #[test]
    fn times_are_said_for_people() {
        let said = |end, now| {
            let ends = Ends::of(Timestamp::from_millis(end), Timestamp::from_seconds(now));
            (ends.at, ends.left)
        };
        let at = "00:10 UTC".to_owned();
        assert_eq!(said(600_250, 0), (at.clone(), "about 10 minutes".into()));
        assert_eq!(said(600_000, 500), (at.clone(), "about a minute".into()));
        assert_eq!(said(600_000, 700), (at, "less than a minute".into()));
    }

    #[test]
    fn nothing_but_https_becomes_a_link() {
        assert_eq!(
            onward("https://app.acme.example/done").unwrap().as_str(),
            "https://app.acme.example/done"
        );
        for bad in ["javascript:alert(1)", "http://acme.example/", "//acme.example", "data:text/html,x", ""] {
            assert_eq!(onward(bad), None, "{bad}");
        }
    }
}
