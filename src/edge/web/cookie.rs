//! Cookies: of flows (contract §4, RFC 6749 §10.12), of sign-ins, of sessions, and of what a third party sent along.
//!
//! The name of a flow's depends on its state, so that flows in two tabs do not meet; its value is for the engine alone to judge.
//! All are HttpOnly, and Secure wherever https is spoken.

use super::WebSettings;
use crate::engine::Going;
use crate::lifecycle::cookie_suffix;
use crate::secret::StateToken;
use http::{HeaderMap, HeaderValue, header};
use std::time::Duration;

/// Whether a flow goes on in a small window of its own, which then closes itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Window {
    #[default]
    Whole,
    Popup,
}

/// The header that gives a browser the cookie of a flow that has begun.
pub(super) fn given(
    settings: &WebSettings,
    going: &Going,
    window: Window,
    lives: Duration,
) -> Option<HeaderValue> {
    let value = match window {
        Window::Whole => going.cookie.clone(),
        Window::Popup => format!("{}{POPUP}", going.cookie),
    };
    line(settings, &flow(settings, &going.state), &value, CALLBACKS, lives)
}

/// The header that takes the cookie of a flow away.
pub(super) fn taken(settings: &WebSettings, state: &StateToken) -> Option<HeaderValue> {
    line(settings, &flow(settings, state), "", CALLBACKS, Duration::ZERO)
}

/// The value of the cookie that goes with `state`, if the browser sent it, and the window it was given to.
pub(super) fn brought(
    settings: &WebSettings,
    headers: &HeaderMap,
    state: &StateToken,
) -> Option<(String, Window)> {
    let value = named(headers, &flow(settings, state))?;
    Some(match value.strip_suffix(POPUP) {
        Some(value) => (value.to_owned(), Window::Popup),
        None => (value, Window::Whole),
    })
}

/// The header that gives a browser its session. `SameSite=Lax`, since a provider's redirect must find the person signed in.
pub(super) fn session_given(settings: &WebSettings, value: &str, lives: Duration) -> Option<HeaderValue> {
    line(settings, &host_only(settings, SESSION), value, "/", lives)
}

/// The value of the session cookie.
pub(super) fn session(settings: &WebSettings, headers: &HeaderMap) -> Option<String> {
    named(headers, &host_only(settings, SESSION))
}

/// The header that binds a sign-in to a browser.
pub(super) fn sign_in_given(
    settings: &WebSettings,
    state: &StateToken,
    value: &str,
    lives: Duration,
) -> Option<HeaderValue> {
    line(settings, &sign_in_name(settings, state), value, SIGN_IN, lives)
}

/// The value of the cookie of a sign-in.
pub(super) fn sign_in(settings: &WebSettings, headers: &HeaderMap, state: &StateToken) -> Option<String> {
    named(headers, &sign_in_name(settings, state))
}

/// The header that lets a browser keep what a third party sent along.
pub(super) fn install_given(settings: &WebSettings, value: &str, lives: Duration) -> Option<HeaderValue> {
    line(settings, &format!("{}{INSTALL}", prefix(settings)), value, "/install", lives)
}

/// What a third party sent along.
pub(super) fn install(settings: &WebSettings, headers: &HeaderMap) -> Option<String> {
    named(headers, &format!("{}{INSTALL}", prefix(settings)))
}

fn named(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
}

fn line(settings: &WebSettings, name: &str, value: &str, path: &str, lives: Duration) -> Option<HeaderValue> {
    let secure = if is_https(settings) { "; Secure" } else { "" };
    // Rounded up: with an age of zero a browser would throw the cookie away at once. The engine judges the time.
    let age = lives.as_millis().div_ceil(1000);
    let mut header = HeaderValue::try_from(format!(
        "{name}={value}; Path={path}; Max-Age={age}; HttpOnly; SameSite=Lax{secure}"
    ))
    .ok()?;
    header.set_sensitive(true);
    Some(header)
}

fn flow(settings: &WebSettings, state: &StateToken) -> String {
    format!("{}grantd-{}", prefix(settings), cookie_suffix(state))
}

fn sign_in_name(settings: &WebSettings, state: &StateToken) -> String {
    format!("{}grantd-sign-in-{}", prefix(settings), cookie_suffix(state))
}

fn prefix(settings: &WebSettings) -> &'static str {
    if is_https(settings) { "__Secure-" } else { "" }
}

/// Browsers take a `__Host-` cookie from no other host, no other path and no plain connection (RFC 6265bis §4.1.3.2).
fn host_only(settings: &WebSettings, name: &str) -> String {
    format!("{}{name}", if is_https(settings) { "__Host-" } else { "" })
}

/// Plain http is for loopback alone (the configuration sees to it), and browsers keep no Secure cookie there.
fn is_https(settings: &WebSettings) -> bool {
    settings.public_url.scheme() == "https"
}

/// The cookie of a flow goes to the callbacks and nowhere else.
const CALLBACKS: &str = "/v1/integrations/oauth/callback";
const SIGN_IN: &str = "/sign-in/callback";
const SESSION: &str = "grantd-session";
const INSTALL: &str = "grantd-install";
/// Behind a value in base64url, which has no dot.
const POPUP: &str = ".popup";

#[cfg(test)]
mod tests {
    use super::{Window, brought, given, session, session_given, taken};
    use crate::edge::web::testing::going;
    use crate::edge::web::testing::settings;
    use crate::secret::StateToken;
    use http::{HeaderMap, HeaderValue, header};
    use std::time::Duration;

    #[test]
    fn a_cookie_lives_as_long_as_its_state_and_never_zero_seconds() {
        let age = |millis| {
            super::line(&settings("http://localhost:8443"), "n", "v", "/", Duration::from_millis(millis))
                .unwrap()
        };
        for (millis, seconds) in [(300_000, 300), (999, 1), (1, 1), (0, 0)] {
            let header = age(millis);
            assert!(header.to_str().unwrap().contains(&format!("Max-Age={seconds};")), "{millis}");
        }
    }

    #[test]
    fn the_right_cookie_is_found_among_others() {
        let https = settings("https://grantd.acme.example");
        let state = StateToken::new("state");
        let set = taken(&https, &state).unwrap();
        let name = set.to_str().unwrap().split('=').next().unwrap().to_owned();
        let mut headers = HeaderMap::new();
        let lines =
            [format!("a=b; grantd-00000000=x;{name}x=n"), format!("c=d;  {name}=right=; {name}=second")];
        for line in lines {
            headers.append(header::COOKIE, HeaderValue::try_from(line).unwrap());
        }
        assert_eq!(brought(&https, &headers, &state), Some(("right=".into(), Window::Whole)));
        assert_eq!(brought(&https, &headers, &StateToken::new("other")), None);
        assert_eq!(brought(&settings("http://localhost:8443"), &headers, &state), None);
    }

    #[test]
    fn a_popup_is_remembered_beside_the_value() {
        let https = settings("https://grantd.acme.example");
        let set = given(&https, &going(), Window::Popup, Duration::from_secs(1)).unwrap();
        let (cookie, _) = set.to_str().unwrap().split_once(';').unwrap();
        let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::try_from(cookie).unwrap())]);
        assert_eq!(brought(&https, &headers, &going().state), Some(("cookie-value".into(), Window::Popup)));
    }

    #[test]
    fn a_session_cookie_belongs_to_the_host() {
        let https = settings("https://grantd.acme.example");
        let set = session_given(&https, "value", Duration::from_secs(60)).unwrap();
        assert_eq!(
            set.to_str().unwrap(),
            "__Host-grantd-session=value; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
        );
        let plain = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_static("grantd-session=x"))]);
        assert_eq!(session(&https, &plain), None);
        assert_eq!(session(&settings("http://localhost:1"), &plain).as_deref(), Some("x"));
    }
}
