//! Every callback that must be refused: with the right status and code, and before any token request.

use crate::world::{Answer, Browser, Config, Daemon, Page, World, fetch};
use ::http::Request;
use bytes::Bytes;
use serde_json::{Value, json};
use url::Url;

/// A flow that has come back from the provider, and was not let in yet.
struct Returned {
    browser: Browser,
    callback: Url,
}

#[test]
fn without_a_state() {
    refused(400, "invalid_oauth_state", |returned| without(&mut returned.callback, "state"));
}

#[test]
fn with_a_forged_state() {
    refused(400, "invalid_oauth_state", |returned| {
        let state = parameter(&returned.callback, "state");
        let forged: String = state.chars().rev().collect();
        set(&mut returned.callback, "state", &forged);
    });
}

#[test]
fn with_one_character_of_the_state_changed() {
    refused(400, "invalid_oauth_state", |returned| {
        let mut state = parameter(&returned.callback, "state").into_bytes();
        state[5] = if state[5] == b'A' { b'B' } else { b'A' };
        set(&mut returned.callback, "state", &String::from_utf8(state).unwrap());
    });
}

#[test]
fn from_a_browser_without_the_cookie() {
    refused(400, "invalid_oauth_state", |returned| returned.browser = Browser::new());
}

#[test]
fn from_a_browser_with_the_cookie_of_another_flow() {
    let world = World::new("other-flow");
    let daemon = world.start(&world.sealed_config());
    let (mine, theirs) = (returned(&daemon), returned(&daemon));
    let mut victim = theirs.browser;
    let page = victim.arrive(&mine.callback);
    assert_refused(&world, &page, 400, "invalid_oauth_state");
    // A callback that fails the cookie check leaves the state unspent.
    let mut rightful = mine.browser;
    assert_eq!(rightful.arrive(&mine.callback).status(), 200);
}

#[test]
fn on_another_providers_path() {
    let world = World::new("other-path");
    let mut config = world.sealed_config();
    config.providers.push_str(&world.provider("other"));
    config.integrations.push_str(&world.integration("acme-other", "other"));
    let daemon = world.start(&config);
    let mut returned = returned(&daemon);
    let path = returned.callback.path().replace("/callback/idp", "/callback/other");
    returned.callback.set_path(&path);
    let page = returned.browser.arrive(&returned.callback);
    assert_refused(&world, &page, 400, "invalid_oauth_state");
}

#[test]
fn on_the_path_of_a_provider_that_is_not_there() {
    refused(400, "invalid_oauth_state", |returned| {
        let path = returned.callback.path().replace("/callback/idp", "/callback/nobody");
        returned.callback.set_path(&path);
    });
}

#[test]
fn from_another_issuer() {
    refused(400, "issuer_mismatch", |returned| set(&mut returned.callback, "iss", "https://evil.example"));
}

#[test]
fn without_the_issuer_that_the_server_promised() {
    refused(400, "issuer_mismatch", |returned| without(&mut returned.callback, "iss"));
}

#[test]
fn with_repeated_parameters() {
    for name in ["state", "code", "iss"] {
        refused(400, "invalid_request", |returned| {
            let value = parameter(&returned.callback, name);
            returned.callback.query_pairs_mut().append_pair(name, &value);
        });
    }
}

#[test]
fn with_an_error_beside_a_code() {
    refused(403, "access_denied", |returned| {
        returned.callback.query_pairs_mut().append_pair("error", "access_denied");
    });
}

#[test]
fn without_a_code() {
    refused(400, "invalid_request", |returned| without(&mut returned.callback, "code"));
}

#[test]
fn after_its_time() {
    let world = World::new("late");
    let config = Config { oauth: "state_expiry = \"1s\"\n".into(), ..world.sealed_config() };
    let daemon = world.start(&config);
    let mut browser = Browser::new();
    let authorize = browser.confirm(&daemon.link()).unwrap();
    let returning =
        Url::parse(&format!("{}/v1/integrations/oauth/callback/idp", world.public_url())).unwrap();
    // The cookie lives as long as the state; one that is kept longer is refused all the same.
    let cookie = browser.cookie_header(&returning);
    assert!(!cookie.is_empty());
    let callback = browser.consent(&authorize);
    let mut late = Returned { browser, callback };
    crate::world::eventually("the cookie ends with its state", || {
        late.browser.cookie_names(&late.callback).is_empty().then_some(())
    });
    for page in [Page::of(with_cookie(&late.callback, &cookie)), late.browser.arrive(&late.callback)] {
        assert_refused(&world, &page, 400, "invalid_oauth_state");
    }
}

#[test]
fn when_the_person_says_no() {
    let world = World::new("denied");
    let daemon = world.start(&world.sealed_config());
    let mut browser = Browser::declining("access_denied");
    let page = browser.connect(&daemon.link());
    assert_refused(&world, &page, 403, "access_denied");
    assert!(!page.answer.text().contains("<b>said no"), "what the provider said is never shown as HTML");
    assert_eq!(daemon.status()["status"], "pending");
}

#[test]
fn a_second_time() {
    let world = World::new("twice");
    let daemon = world.start(&world.sealed_config());
    let mut returned = returned(&daemon);
    assert_eq!(returned.browser.arrive(&returned.callback).status(), 200);
    let again = returned.browser.arrive(&returned.callback);
    assert_eq!((again.status(), again.code().as_deref()), (400, Some("invalid_oauth_state")));
    assert_eq!(world.client.requests("token").len(), 1, "the code was exchanged once");
    assert_eq!(daemon.token().status, 200, "and what it brought is still good");
}

#[test]
fn after_a_restart() {
    let world = World::new("restarted");
    let mut daemon = world.start(&world.sealed_config());
    let mut returned = returned(&daemon);
    daemon.kill9();
    daemon.restart();
    let page = returned.browser.arrive(&returned.callback);
    assert_refused(&world, &page, 400, "invalid_oauth_state");
}

#[test]
fn by_post_with_json() {
    let world = World::new("json");
    let daemon = world.start(&world.sealed_config());
    let good = returned(&daemon);
    let part = |name: &str| parameter(&good.callback, name);
    let cookie = good.browser.cookie_header(&good.callback);
    let body = json!({ "provider": World::PROVIDER, "code": part("code"), "state": part("state"), "iss": part("iss") });
    let with = |key: &str, value: Value| {
        let mut body = body.clone();
        body[key] = value;
        body
    };
    let url = format!("{}/v1/integrations/oauth/callback", world.public_url());
    for (sent, cookie, status, code) in [
        (json!([]).to_string(), &cookie, 400, "invalid_request"),
        (json!({ "provider": World::PROVIDER }).to_string(), &cookie, 400, "invalid_oauth_state"),
        (body.to_string().replacen('{', "{\"code\":\"again\",", 1), &cookie, 400, "invalid_request"),
        (with("state", json!("AAAA")).to_string(), &cookie, 400, "invalid_oauth_state"),
        (body.to_string(), &String::new(), 400, "invalid_oauth_state"),
        (with("iss", json!("https://evil.example")).to_string(), &cookie, 400, "issuer_mismatch"),
    ] {
        let answer = post(&url, cookie, &sent);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{}",
            sent.replace(&part("code"), "CODE")
        );
    }
    assert_eq!(world.client.requests("token").len(), 0);
}

/// Brings one flow back from the provider, spoils it, and expects it to be refused.
#[track_caller]
fn refused(status: u16, code: &str, spoil: impl Fn(&mut Returned)) {
    let world = World::new("callback");
    let daemon = world.start(&world.sealed_config());
    let mut returned = returned(&daemon);
    spoil(&mut returned);
    let page = returned.browser.arrive(&returned.callback);
    assert_refused(&world, &page, status, code);
    assert_eq!(daemon.token().status, 409, "nothing is served");
}

#[track_caller]
fn assert_refused(world: &World, page: &Page, status: u16, code: &str) {
    assert_eq!((page.status(), page.code().as_deref()), (status, Some(code)), "{}", page.text());
    assert_eq!(world.client.requests("token").len(), 0, "a token request was made");
    assert!(page.answer.header("content-security-policy").contains("default-src 'none'"));
    assert_eq!(page.answer.header("referrer-policy"), "no-referrer");
    assert!(page.answer.header("cache-control").contains("no-store"));
}

#[track_caller]
fn returned(daemon: &Daemon<'_>) -> Returned {
    let mut browser = Browser::new();
    let callback = browser.until_callback(&daemon.link());
    Returned { browser, callback }
}

fn parameter(url: &Url, name: &str) -> String {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap()
}

fn without(url: &mut Url, name: &str) {
    let kept: Vec<(String, String)> = url.query_pairs().into_owned().filter(|(key, _)| key != name).collect();
    url.query_pairs_mut().clear().extend_pairs(kept);
}

fn set(url: &mut Url, name: &str, value: &str) {
    without(url, name);
    url.query_pairs_mut().append_pair(name, value);
}

fn with_cookie(url: &Url, cookie: &str) -> Answer {
    let request = Request::get(url.as_str()).header("cookie", cookie).header("accept", "text/html");
    fetch(request.body(Bytes::new()).unwrap())
}

fn post(url: &str, cookie: &str, body: &str) -> Answer {
    let mut request =
        Request::post(url).header("content-type", "application/json").header("sec-fetch-site", "same-origin");
    if !cookie.is_empty() {
        request = request.header("cookie", cookie);
    }
    fetch(request.body(Bytes::from(body.to_owned())).unwrap())
}
