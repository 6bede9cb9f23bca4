//! What is answered when something is refused: a page for people, or problem details for programs (RFC 9457).
//!
//! Both carry the same stable code and the same status. Neither carries a word that came with the request.

use super::advice::{self, Advice};
use super::cookie::Window;
use super::pages;
use super::visit::Visit;
use crate::lifecycle::{Action, Code, Missing, Refusal};
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use serde::Serialize;

/// A refusal on its way to a browser or a program.
#[derive(Debug)]
pub(super) struct Trouble {
    /// The HTTP status.
    pub(super) status: StatusCode,
    /// The stable code.
    pub(super) word: &'static str,
    /// The words for a page.
    pub(super) advice: &'static Advice,
    /// What is special about this case.
    pub(super) detail: Option<String>,
    /// After how many seconds asking again may help.
    pub(super) retry_after: Option<u64>,
    /// In which window a page of it is shown.
    pub(super) window: Window,
    title: &'static str,
    actions: Box<[Action]>,
    missing: Box<[Missing]>,
}

/// In which form a refusal is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    /// HTML.
    Page,
    /// `application/problem+json`.
    Problem,
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self {
            status: StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            word: refusal.code.word(),
            advice: Advice::on(refusal.code),
            retry_after: refusal.retry_after_header(),
            window: Window::Whole,
            title: refusal.code.title(),
            detail: Some(refusal.detail),
            actions: refusal.actions.into_boxed_slice(),
            missing: refusal.missing.into_boxed_slice(),
        }
    }
}

impl Trouble {
    pub(super) fn not_found() -> Self {
        Self::of_http(StatusCode::NOT_FOUND, "not_found", &advice::NOT_FOUND)
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::of_http(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &advice::METHOD_NOT_ALLOWED)
    }

    pub(super) fn misdirected() -> Self {
        Self::of_http(StatusCode::MISDIRECTED_REQUEST, "misdirected_request", &advice::MISDIRECTED)
    }

    pub(super) fn uri_too_long() -> Self {
        Self::of_http(StatusCode::URI_TOO_LONG, Code::InvalidRequest.word(), &advice::URI_TOO_LONG)
    }

    pub(super) fn content_too_large() -> Self {
        Self::of_http(StatusCode::PAYLOAD_TOO_LARGE, Code::InvalidRequest.word(), &advice::CONTENT_TOO_LARGE)
    }

    pub(super) fn too_slow() -> Self {
        Self::of_http(StatusCode::REQUEST_TIMEOUT, Code::InvalidRequest.word(), &advice::REQUEST_TIMEOUT)
    }

    pub(super) fn cross_site() -> Self {
        Self::of_http(StatusCode::FORBIDDEN, Code::InvalidRequest.word(), &advice::CROSS_SITE)
    }

    /// The form or the request lacks the token of the session.
    pub(super) fn no_token() -> Self {
        Self::of_http(StatusCode::FORBIDDEN, Code::InvalidRequest.word(), &advice::NO_TOKEN)
    }

    /// A sign-in that was refused has words of its own where those of a consent would mislead.
    pub(super) fn of_sign_in(refusal: Refusal) -> Self {
        let advice = if refusal.code == Code::InvalidOauthState {
            &advice::SIGN_IN_OVER
        } else if refusal.code == Code::AccessDenied {
            &advice::SIGN_IN_DECLINED
        } else {
            Advice::on(refusal.code)
        };
        Self { advice, ..Self::from(refusal) }
    }

    /// The same, in a window.
    pub(super) fn shown_in(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    fn of_http(status: StatusCode, word: &'static str, advice: &'static Advice) -> Self {
        let title = advice.title;
        Self {
            status,
            word,
            advice,
            detail: None,
            retry_after: None,
            window: Window::Whole,
            title,
            actions: Box::default(),
            missing: Box::default(),
        }
    }

    /// The answer, in the voice that the request asks for.
    pub(super) fn answer(&self, voice: Voice, visit: &Visit) -> Response {
        let mut response = match voice {
            Voice::Page => pages::trouble(visit, self),
            Voice::Problem => self.problem(),
        };
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait));
        }
        response
    }

    fn problem(&self) -> Response {
        let problem = Problem {
            r#type: "about:blank",
            title: self.title,
            status: self.status.as_u16(),
            detail: self.detail.as_deref().unwrap_or(self.advice.happened),
            code: self.word,
            actions: &self.actions,
            missing: &self.missing,
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}

impl Voice {
    /// Programs that post to the API, and whoever prefers JSON, get problem details; all others get a page.
    pub(super) fn of(request: &Request<Body>) -> Self {
        let posts = !matches!(*request.method(), Method::GET | Method::HEAD);
        if (posts && request.uri().path().starts_with("/v1/")) || prefers_json(request.headers()) {
            Self::Problem
        } else {
            Self::Page
        }
    }
}

/// RFC 9110 §12.5.1, as far as it matters here.
fn prefers_json(headers: &HeaderMap) -> bool {
    let accepted = || {
        headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
    };
    let best = |wanted: &[&str]| {
        accepted()
            .filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let name =
                    parts.next().filter(|name| wanted.iter().any(|kind| kind.eq_ignore_ascii_case(name)))?;
                Some((name, parts.find_map(|part| part.strip_prefix("q="))))
            })
            .map(|(_, quality)| quality.and_then(|text| text.parse::<f32>().ok()).unwrap_or(1.0))
            .fold(0.0, f32::max)
    };
    best(&["application/json", "application/problem+json"]) > best(&["text/html", "application/xhtml+xml"])
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    actions: &'a [Action],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    missing: &'a [Missing],
}

#[cfg(test)]
mod tests {
    use super::{Trouble, Voice, prefers_json};
    use crate::edge::web::testing::visit;
    use crate::lifecycle::{Action, Code, Missing, Refusal};
    use http::{HeaderMap, HeaderValue, header};
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn problem_details_are_those_of_the_refusal() {
        for code in Code::ALL {
            let missing = Missing { what: "w".into(), place: "p".into(), fix: "f".into() };
            let refusal = Refusal::new(*code, "what happened")
                .with_actions(&[Action::Connect])
                .with_missing(vec![missing]);
            let expected = refusal.problem();
            let answer = Trouble::from(refusal).answer(Voice::Problem, &visit("https://grantd.acme.example"));
            assert_eq!(answer.status().as_u16(), code.status());
            assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), expected);
        }
    }

    #[test]
    fn json_must_be_preferred_to_be_given() {
        let given = |accept: &'static str| {
            prefers_json(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]))
        };
        for page in
            ["", "*/*", "text/html", "text/html,application/json;q=0.9", "text/html, application/json"]
        {
            assert!(!given(page), "{page}");
        }
        for problem in [
            "application/json",
            "application/problem+json",
            "text/html;q=0.5, Application/JSON; q=0.8",
            "*/*, application/json",
        ] {
            assert!(given(problem), "{problem}");
        }
    }
}
