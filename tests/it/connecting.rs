//! Connecting by a one-time link: from the operator's command to a record in the company's secret and a token on the socket.

use crate::world::{
    Browser, World, as_other_user, binding, eventually, is_root, own_uid, partly_tested, shared_group,
    token_path,
};
use ::http::Method;
use serde_json::json;

#[test]
fn a_link_connects_and_the_record_is_in_the_secret_that_was_made_for_it() {
    let world = World::new("connect");
    let daemon = world.start(&world.config());
    let page = daemon.connect();
    assert!(page.text().contains("acme-bot"), "the page names the account: {}", page.text());

    let record = world.aws.record(&world.secret()).expect("a record under AWSCURRENT");
    assert_eq!(record["schema"], "grantd/1");
    assert_eq!(record["integration"], World::INTEGRATION);
    assert_eq!(record["organization"], "acme");
    assert_eq!(record["provider"], World::PROVIDER);
    assert_eq!(record["token_type"], "Bearer");
    assert_eq!(record["status"], "connected");
    assert_eq!(record["scope"], "openid profile email");
    assert_eq!(record["account"]["username"], "acme-bot");
    assert_eq!(record["account"]["email"], "acme-bot@acme.example");
    assert!(record["generation"].as_u64() >= Some(1));
    assert!(record["expires_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{record}");
    assert!(record["written_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{record}");
    assert_eq!(record["refresh_token"].as_str().map(crate::world::fingerprint), world.client.newest());

    let token = daemon.token();
    assert_eq!((token.status, token.header("cache-control").as_str()), (200, "no-store"));
    let token = token.json();
    assert_eq!(token["access_token"], record["access_token"]);
    assert_eq!(token["integration"], World::INTEGRATION);
    assert_eq!(token["generation"], record["generation"]);
    assert_eq!(token["token_type"], "Bearer");
    assert!(token.get("refresh_token").is_none(), "a refresh token never reaches an app");

    let status = daemon.status();
    assert_eq!(
        (status["status"].as_str(), status["stored"].as_bool()),
        (Some("connected"), Some(true)),
        "{status}"
    );
    assert_eq!(world.client.requests("token").len(), 1, "one exchange and no more");
}

#[test]
fn the_command_for_apps_prints_the_bare_token() {
    let world = World::new("cli-token");
    let daemon = world.start(&world.sealed_config());
    let refused = daemon.cli(&["token", World::INTEGRATION]);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{}", refused.stderr);
    let _page = daemon.connect();
    let bare = daemon.cli(&["token", World::INTEGRATION]);
    assert_eq!(bare.stdout.trim(), daemon.token().json()["access_token"].as_str().unwrap());
    let whole = daemon.cli(&["token", World::INTEGRATION, "--json", "--min-ttl", "60s"]);
    let whole: serde_json::Value = serde_json::from_str(&whole.stdout).unwrap();
    assert_eq!(whole["integration"], World::INTEGRATION);
}

#[test]
fn a_token_is_read_by_the_bound_user_and_by_no_other() {
    let world = World::new("peers");
    let app = world.home.path().join("app.sock");
    let path = token_path(World::INTEGRATION);
    let bound = if is_root() { STRANGER } else { own_uid() };
    let config =
        crate::world::Config { bindings: binding(World::INTEGRATION, bound), ..world.sealed_config() };
    let daemon = world.start(&config);
    let _page = daemon.connect();
    if !is_root() {
        // Another user cannot be had: the bound one is let in, and an integration that is not bound looks like none.
        partly_tested("not root, so no other user asked for the token");
        assert_eq!(daemon.token().status, 200);
        assert_eq!(daemon.app().get(&token_path("somebody-elses")).code(), "binding_missing");
        return;
    }
    let (_, group) = shared_group().expect("a group of the system's");
    let good = as_other_user(STRANGER, group, &app, &path);
    assert_eq!(good.status, 200, "{}", good.text());
    assert!(good.json()["access_token"].as_str().is_some_and(|token| token.len() > 20));
    let other = as_other_user(STRANGER + 1, group, &app, &path);
    assert_eq!((other.status, other.code().as_str()), (403, "binding_missing"));
    let root = daemon.token();
    assert_eq!((root.status, root.code().as_str()), (403, "binding_missing"), "root is not implicit");
    let absent = as_other_user(STRANGER + 1, group, &app, &token_path("no-such"));
    assert_eq!(
        without_id(&absent.text()),
        without_id(&other.text()),
        "unknown and forbidden are answered alike"
    );
    let listed = as_other_user(STRANGER + 1, group, &app, "/v1/integrations").json();
    assert_eq!(listed, json!({ "integrations": [] }));
    let listed = as_other_user(STRANGER, group, &app, "/v1/integrations").json();
    assert_eq!(listed["integrations"][0]["integration"], World::INTEGRATION);
    assert_eq!(listed["integrations"][0]["allow"], json!(["token"]));
}

#[test]
fn an_app_can_neither_operate_nor_begin_a_flow() {
    let world = World::new("app-only");
    let daemon = world.start(&world.sealed_config());
    let _page = daemon.connect();
    for (method, path) in [
        (Method::POST, "/v1/integrations/oauth/start"),
        (Method::POST, "/v1/integrations/acme-idp/refresh"),
        (Method::POST, "/v1/integrations/acme-idp/revoke"),
        (Method::DELETE, "/v1/integrations/acme-idp"),
        (Method::GET, "/metrics"),
    ] {
        let body = json!({ "integration": World::INTEGRATION });
        let answer = daemon.app().try_send(method.clone(), path, Some(&body)).unwrap();
        assert!([403, 404, 405].contains(&answer.status), "{method} {path}: {}", answer.status);
    }
    assert_eq!(daemon.status()["status"], "connected");
    if is_root() {
        let socket = world.home.path().join("control.sock");
        let (_, group) = shared_group().unwrap();
        let ran = crate::world::run(
            std::process::Command::new("setpriv")
                .args([
                    "--reuid",
                    &STRANGER.to_string(),
                    "--regid",
                    &group.to_string(),
                    "--clear-groups",
                    "curl",
                    "-sS",
                ])
                .arg("--unix-socket")
                .arg(socket)
                .arg("http://grantd/v1/integrations"),
        );
        assert!(!ran.status.success(), "a stranger reached the control socket");
    } else {
        partly_tested("not root, so no other user tried the control socket");
    }
}

#[test]
fn a_link_shows_what_will_happen_and_works_once() {
    let world = World::new("link");
    let daemon = world.start(&world.sealed_config());
    let link = daemon.link();
    let mut browser = Browser::new();
    for _look in 0..2 {
        let page = browser.open(&link);
        assert_eq!(page.status(), 200);
        for word in ["Acme ID", World::INTEGRATION, "acme", "email"] {
            assert!(page.text().contains(word), "{word}: {}", page.text());
        }
        assert!(page.answer.header("content-security-policy").contains("default-src 'none'"));
        assert_eq!(page.answer.header("referrer-policy"), "no-referrer");
        assert!(page.answer.header("cache-control").contains("no-store"));
    }
    assert!(browser.cookie_values().is_empty(), "looking spends nothing");
    assert!(browser.confirm(&link).is_ok());
    let again = Browser::new().confirm(&link).unwrap_err();
    assert_eq!((again.status(), again.code().as_deref()), (400, Some("invalid_oauth_state")));
    assert_eq!(world.client.requests("token").len(), 0);
}

#[test]
fn a_form_from_another_site_does_not_begin_a_flow() {
    let world = World::new("cross-site");
    let daemon = world.start(&world.sealed_config());
    let link = daemon.link();
    let request = ::http::Request::post(&link)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("origin", "https://evil.example")
        .header("sec-fetch-site", "cross-site")
        .header("sec-fetch-mode", "navigate");
    let answer = crate::world::fetch(request.body(bytes::Bytes::new()).unwrap());
    assert!([400, 403].contains(&answer.status), "{}", answer.status);
    assert!(Browser::new().confirm(&link).is_ok(), "and the link is still good");
}

#[test]
fn the_wrong_account_is_refused_before_anything_is_stored() {
    let world = World::new("wrong-account");
    let mut config = world.config();
    config.integrations =
        config.integrations.trim_end().to_owned() + "\nexpect_account = { username = \"acme-bot\" }\n\n";
    let daemon = world.start(&config);
    let page = Browser::of("somebody-else").connect(&daemon.link());
    assert_eq!((page.status(), page.code().as_deref()), (409, Some("wrong_account")), "{}", page.text());
    assert_eq!(world.aws.value(&world.secret(), "AWSCURRENT"), None);
    assert_eq!((daemon.token().status, daemon.status()["status"].as_str()), (409, Some("pending")));
    eventually("the grant is given back", || (!world.client.requests("revocation").is_empty()).then_some(()));
    let page = daemon.connect();
    assert!(page.text().contains("acme-bot"));
}

#[test]
fn a_placeholder_is_overwritten_and_a_strangers_record_is_not() {
    let world = World::new("placeholder");
    world.aws.make_secret(&world.secret());
    world.aws.put(&world.secret(), "change me");
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    assert_eq!(world.aws.record(&world.secret()).unwrap()["schema"], "grantd/1");
    drop(daemon);

    let world = World::new("stranger");
    world.aws.make_secret(&world.secret());
    let foreign = json!({ "schema": "grantd/1", "integration": "other", "organization": "other", "provider": "idp",
        "generation": 7, "account": {}, "status": "connected", "written_at": "2026-01-01T00:00:00Z" });
    world.aws.put(&world.secret(), &foreign.to_string());
    let daemon = world.start(&world.config());
    let status = eventually("the record is read", || {
        Some(daemon.status())
            .filter(|status| status["message"].as_str().is_some_and(|why| why.contains("other")))
    });
    assert_eq!((status["status"].as_str(), daemon.token().status), (Some("pending"), 503), "{status}");
    assert_eq!(world.aws.record(&world.secret()), Some(foreign), "nothing was written");
}

#[test]
fn the_callback_may_come_by_hand_over_the_control_socket() {
    let world = World::new("paste");
    let daemon = world.start(&world.sealed_config());
    let link = daemon.link();
    let ticket = link.rsplit('/').next().unwrap();
    let going = daemon.operate(Method::POST, &format!("/connect/{ticket}"), None);
    assert_eq!(going.status, 200, "{}", going.text());
    let authorize = going.json()["authUrl"].as_str().unwrap().parse().unwrap();
    let back = Browser::new().consent(&authorize);
    let part = |name: &str| back.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
    let body = json!({ "provider": World::PROVIDER, "code": part("code"), "state": part("state"), "iss": part("iss") });
    let done = daemon.operate(Method::POST, "/v1/integrations/oauth/callback", Some(&body));
    assert_eq!(done.status, 200, "{}", done.text());
    let done = done.json();
    assert_eq!(done["success"], true);
    assert!(done["message"].as_str().is_some_and(|message| !message.is_empty()));
    assert_eq!(done["integration"]["id"], World::INTEGRATION);
    assert_eq!(done["integration"]["provider"], World::PROVIDER);
    let again = daemon.operate(Method::POST, "/v1/integrations/oauth/callback", Some(&body));
    assert_eq!((again.status, again.code().as_str()), (400, "invalid_oauth_state"));
    assert_eq!(daemon.token().status, 200);
}

#[test]
fn a_start_fits_exactly_one_integration_and_a_subset_of_its_scopes() {
    let world = World::new("start");
    let mut config = world.sealed_config();
    config.integrations.push_str(&world.integration("acme-second", World::PROVIDER));
    config.oauth = "allowed_redirects = [\"acme.example\"]\n".into();
    let daemon = world.start(&config);
    let start =
        |body: serde_json::Value| daemon.operate(Method::POST, "/v1/integrations/oauth/start", Some(&body));
    for (body, status, code) in [
        (json!({ "provider": World::PROVIDER }), 400, "invalid_request"),
        (json!({}), 400, "invalid_request"),
        (json!({ "integration": "nobody" }), 404, "integration_not_found"),
        (json!({ "integration": World::INTEGRATION, "scopes": ["write"] }), 400, "invalid_request"),
        (
            json!({ "integration": World::INTEGRATION, "redirectUri": "https://evil.example/" }),
            400,
            "redirect_not_allowed",
        ),
        (
            json!({ "integration": World::INTEGRATION, "redirectUri": "http://acme.example/" }),
            400,
            "redirect_not_allowed",
        ),
    ] {
        let refused = start(body.clone());
        assert_eq!((refused.status, refused.code().as_str()), (status, code), "{body}");
    }
    let good = json!({ "integration": World::INTEGRATION, "organization": "acme", "scopes": ["openid"],
        "redirectUri": "https://app.acme.example/done" });
    let started = start(good).json();
    assert_eq!(started["success"], true);
    let state = started["state"].as_str().unwrap();
    assert!((16..=200).contains(&state.len()), "{}", state.len());
    world.note("state", state);
    let link = started["authUrl"].as_str().unwrap();
    assert!(link.starts_with(&format!("{}/connect/", world.public_url())), "{link}");
    let page = Browser::new().connect(link);
    assert_eq!(page.status(), 200, "{}", page.text());
    assert!(page.answer.text().contains("https://app.acme.example/done"));
    assert_eq!(daemon.token().json()["scope"], "openid");
}

/// No user of this host's.
const STRANGER: u32 = 54_321;

fn without_id(problem: &str) -> String {
    let mut problem: serde_json::Value = serde_json::from_str(problem).unwrap();
    if let Some(members) = problem.as_object_mut() {
        members.remove("instance");
    }
    problem.to_string()
}
