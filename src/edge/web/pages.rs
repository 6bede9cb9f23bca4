//! The pages: what the templates show, and the one stylesheet that the content policy lets through.
//!
//! Everything shown is escaped by the templates. There is no script, no picture and nothing from elsewhere.

use super::landing::Words;
use super::trouble::Trouble;
use super::visit::Visit;
use crate::engine::{Going, Landing};
use crate::lifecycle::Invitation;
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
pub(super) static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    HeaderValue::try_from(format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ))
    .unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

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
pub(super) fn connect(visit: &Visit, invitation: &Invitation, now: Timestamp) -> Response {
    let ends = Ends::of(invitation.expires_at, now);
    show(StatusCode::OK, &Connect { frame: Frame::of(visit, None), invitation, ends })
}

/// On the way to the provider. The answer is a page, since `form-action` stops a redirect after a form (CSP 3 §6.4.1).
pub(super) fn going(visit: &Visit, going: &Going, to: &Url, now: Timestamp) -> Response {
    let page = OnTheWay {
        frame: Frame::of(visit, None),
        url: &going.url,
        destination: to.host_str().unwrap_or_default(),
        ends: Ends::of(going.expires_at, now),
    };
    show(StatusCode::OK, &page)
}

/// A consent that ended well.
pub(super) fn landed(visit: &Visit, landing: &Landing, words: &Words) -> Response {
    let then = landing.then.as_deref().and_then(onward);
    show(StatusCode::OK, &Landed { frame: Frame::of(visit, Some(words.code)), landing, said: words, then })
}

/// Something was refused.
pub(super) fn trouble(visit: &Visit, trouble: &Trouble) -> Response {
    let mood = match trouble.status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Mood::Wait,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Mood::Calm,
        _ => Mood::Bad,
    };
    show(trouble.status, &Refused { frame: Frame::of(visit, Some(trouble.word)), trouble, mood })
}

fn show(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => (status, Html(text)).into_response(),
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
struct Frame<'a> {
    style: &'static str,
    host: &'a str,
    code: Option<&'static str>,
}

impl<'a> Frame<'a> {
    fn of(visit: &'a Visit, code: Option<&'static str>) -> Self {
        Self { style: STYLE, host: visit.host(), code }
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
}

#[derive(Template)]
#[template(path = "trouble.html")]
struct Refused<'a> {
    frame: Frame<'a>,
    trouble: &'a Trouble,
    mood: Mood,
}

const STYLE: &str = include_str!("../../../templates/style.css");

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
