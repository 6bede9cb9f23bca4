//! The operator API as a program in a signed-in browser meets it: what it may, and what it may not.

use crate::edge::web::staff::{SignedIn, person, with_operators};
use crate::edge::web::testing::{PUBLIC, Room, Script, settings};
use serde_json::Value;

const START: &str = "/v1/integrations/oauth/start";

async fn signed_in(groups: &[&str]) -> (Room, SignedIn) {
    let room = Room::open(with_operators(person("ann", groups)), Script::default());
    let browser = room.sign_in().await;
    (room, browser)
}

#[tokio::test]
async fn a_start_answers_with_the_providers_own_url_and_the_flows_cookie() {
    let (room, browser) = signed_in(&["secops"]).await;
    let body = r#"{"integration":"github","scopes":["repo"],"redirectUri":"https://acme.example/done"}"#;
    let told = room.send("POST", START, &browser.acting(), body).await;
    assert_eq!(told.status, 200, "{}", told.body);
    let answer: Value = serde_json::from_str(&told.body).unwrap();
    assert_eq!((&answer["success"], &answer["state"]), (&Value::Bool(true), &"state-1".into()));
    assert_eq!(answer["authUrl"], "https://github.example/authorize?client_id=c&state=state-1");
    assert!(
        told.header("set-cookie")
            .starts_with("__Secure-grantd-f36b45ae=cookie-value; Path=/v1/integrations/oauth/callback;")
    );
    assert_eq!(room.asked(), ["start github [repo] https://acme.example/done", "confirm minted for sub-ann"]);
    assert_eq!(room.trail()[1], "consent_begun ok ann github");
}

#[tokio::test]
async fn a_start_fits_exactly_one_of_the_operators_own_integrations() {
    let (room, browser) = signed_in(&["secops"]).await;
    for (body, status, code) in [
        (r#"{"provider":"github"}"#, 400, "invalid_request"),
        (r#"{"provider":"github","organization":"globex"}"#, 403, "not_an_admin"),
        (r#"{"integration":"globex-github"}"#, 403, "not_an_admin"),
        (r#"{"integration":"nothing"}"#, 404, "integration_not_found"),
        (r#"{"provider":"nothing"}"#, 400, "invalid_request"),
        (r#"{"integration":"github","unknown":1}"#, 400, "invalid_request"),
        ("{}", 400, "invalid_request"),
        ("", 400, "invalid_request"),
    ] {
        let told = room.send("POST", START, &browser.acting(), body).await;
        assert_eq!((told.status, told.code()), (status, code), "{body}");
        assert_eq!(told.header("content-type"), "application/problem+json");
        assert_eq!(told.header("set-cookie"), "");
    }
    assert_eq!(room.asked(), [""; 0]);
    assert!(room.trail().contains(&"operate not_an_admin ann globex-github".to_owned()));
}

#[tokio::test]
async fn replacing_the_account_and_a_small_window_are_asked_for_in_so_many_words() {
    let (room, browser) = signed_in(&["secops"]).await;
    let body = r#"{"integration":"github","replace":true}"#;
    let told = room.send("POST", &format!("{START}?popup=1"), &browser.acting(), body).await;
    assert!(told.header("set-cookie").contains("=cookie-value.popup;"), "{told:?}");
    assert_eq!(room.asked()[1], "confirm minted for sub-ann replacing");
}

#[tokio::test]
async fn nothing_crosses_organizations() {
    let (room, browser) = signed_in(&["secops"]).await;
    let list = room.send("GET", "/v1/integrations", &browser.cookie, "").await;
    assert!(
        list.body.contains("\"github\"") && list.body.contains("github-2") && !list.body.contains("globex")
    );
    for (method, path) in [
        ("GET", "/v1/integrations/globex-github/status"),
        ("POST", "/v1/integrations/globex-github/refresh"),
        ("POST", "/v1/integrations/globex-github/revoke"),
    ] {
        let told = room.send(method, path, &browser.acting(), "").await;
        assert_eq!((told.status, told.code()), (403, "not_an_admin"), "{path}");
    }
    for path in [
        "/integrations/globex-github",
        "/integrations/globex-github/connect",
        "/integrations/globex-github/revoke",
    ] {
        let page = room.send("GET", path, &browser.cookie, "").await;
        assert_eq!((page.status, page.code()), (403, "not_an_admin"), "{path}");
        let done = room.send("POST", path, &browser.cookie, &browser.form("")).await;
        assert!(done.status == 403 || done.status == 405, "{path}");
    }
    let home = room.send("GET", "/", &browser.cookie, "").await;
    assert!(home.body.contains("/integrations/github-2") && !home.body.contains("globex"));
    assert_eq!(room.asked(), [""; 0]);
}

#[tokio::test]
async fn the_trail_shows_the_events_of_their_organizations_alone() {
    let (room, browser) = signed_in(&["globex-admins"]).await;
    for number in 1..=2_500 {
        room.ledger.push(number, if number == 2_400 { "globex" } else { "acme" });
    }
    let told = room.send("GET", "/v1/audit?after=7", &browser.cookie, "").await;
    let answer: Value = serde_json::from_str(&told.body).unwrap();
    assert_eq!(
        (answer["events"][0]["seq"].as_u64(), answer["events"].as_array().unwrap().len()),
        (Some(2_400), 1)
    );
    let rest = room.send("GET", "/v1/audit?after=2500", &browser.cookie, "").await;
    assert_eq!(rest.body, r#"{"events":[],"next":2500}"#);
    let page = room.send("GET", "/activity", &browser.cookie, "").await;
    assert!(page.body.contains("globex-github") && !page.body.contains("acme-github"));
    let wrong = room.send("GET", "/v1/audit?after=x", &browser.cookie, "").await;
    assert_eq!((wrong.status, wrong.code()), (400, "invalid_request"));
}

#[tokio::test]
async fn what_changes_something_needs_the_token_of_the_session() {
    let (room, browser) = signed_in(&["secops"]).await;
    let foreign = format!("{}X-CSRF-Token: x\r\n", browser.cookie);
    for head in [&browser.cookie, &foreign] {
        let verbs = ["refresh", "validate", "revoke"].map(|verb| format!("/v1/integrations/github/{verb}"));
        for path in verbs.iter().map(String::as_str).chain([START]) {
            let told = room.send("POST", path, head, r#"{"integration":"github"}"#).await;
            assert_eq!((told.status, told.code()), (403, "invalid_request"), "{path}");
        }
        let told = room.send("DELETE", "/v1/integrations/github", head, "").await;
        assert_eq!((told.status, told.code()), (403, "invalid_request"));
    }
    for path in ["connect", "refresh", "validate", "revoke", "delete"] {
        let path = format!("/integrations/github/{path}");
        for form in ["", "csrf=x"] {
            assert_eq!(room.send("POST", &path, &browser.cookie, form).await.status, 403, "{path}");
        }
    }
    assert_eq!(room.asked(), [""; 0]);
}

#[tokio::test]
async fn refresh_validate_and_revoke_answer_with_the_status_after_it() {
    let (room, browser) = signed_in(&["secops"]).await;
    let told = room.send("POST", "/v1/integrations/github/refresh", &browser.acting(), "").await;
    assert!(told.status == 200 && told.body.contains(r#""status":"connected""#), "{}", told.body);
    let told = room.send("POST", "/v1/integrations/github/validate", &browser.acting(), "").await;
    assert!(told.status == 200 && told.body.contains(r#""status":"connected""#), "{}", told.body);
    let told = room.send("POST", "/v1/integrations/github/revoke", &browser.acting(), "").await;
    assert!(told.status == 200 && told.body.ends_with(r#""upstream":"confirmed"}"#), "{}", told.body);
    let told = room.send("DELETE", "/v1/integrations/github", &browser.acting(), "").await;
    assert!(told.status == 200 && told.body.ends_with(r#""upstream":"confirmed"}"#), "{}", told.body);
    assert_eq!(room.asked(), ["refresh github", "validate github", "revoke github", "delete github"]);
    let trail = ["refresh", "validate", "revoke", "delete"].map(|verb| format!("{verb} ok ann github"));
    assert_eq!(room.trail()[1..], trail);
}

#[tokio::test]
async fn a_page_deletes_only_what_was_named_once_more() {
    let (room, browser) = signed_in(&["secops"]).await;
    let before = room.send("GET", "/integrations/github/delete", &browser.cookie, "").await;
    assert!(before.status == 200 && before.body.contains("Type <code>github</code>"), "{}", before.body);
    for name in ["", "slack"] {
        let form = format!("csrf={}&name={name}", browser.token);
        let told = room.send("POST", "/integrations/github/delete", &browser.cookie, &form).await;
        assert_eq!((told.status, told.code()), (400, "invalid_request"));
    }
    assert_eq!(room.asked(), [""; 0]);
    let form = format!("csrf={}&name=github", browser.token);
    let told = room.send("POST", "/integrations/github/delete", &browser.cookie, &form).await;
    assert!(told.status == 200 && told.body.contains("The provider confirmed"), "{}", told.body);
    assert_eq!(room.asked(), ["delete github"]);
}

#[tokio::test]
async fn nobody_signed_in_and_nobody_who_administers_gets_in() {
    let (room, nobody) = signed_in(&["guests"]).await;
    let open = Room::open(settings(PUBLIC), Script::default());
    for (method, path) in [
        ("GET", "/v1/integrations"),
        ("GET", "/v1/integrations/github/status"),
        ("GET", "/v1/audit"),
        ("POST", START),
        ("POST", "/v1/integrations/github/revoke"),
        ("GET", "/activity"),
        ("GET", "/integrations/github"),
        ("GET", "/install/github"),
    ] {
        for room in [&room, &open] {
            let told = room.send(method, path, "", "").await;
            assert_eq!((told.status, told.code()), (401, "not_signed_in"), "{path}");
        }
        let told = room.send(method, path, &nobody.acting(), "").await;
        assert_eq!((told.status, told.code()), (403, "not_an_admin"), "{path}");
    }
    assert_eq!(room.asked(), [""; 0]);
    assert!(room.trail().contains(&"operate not_signed_in browser".to_owned()));
    assert!(room.trail().contains(&"operate not_an_admin ann".to_owned()));
}
