//! Validation and reports: what the provider says to the token in use is noticed, healed where that is possible, and told.

use crate::world::{Daemon, Fault, Stopwatch, World, eventually, token_path};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

fn validate(daemon: &Daemon<'_>) -> crate::world::Answer {
    daemon.operate(Method::POST, &format!("/v1/integrations/{}/validate", World::INTEGRATION), None)
}

fn report(daemon: &Daemon<'_>, status: u16) -> u16 {
    let path = format!("/v1/integrations/{}/report", World::INTEGRATION);
    let sent = daemon.app().try_send(Method::POST, &path, Some(&json!({ "status": status })));
    sent.expect("a report is answered").status
}

fn status_is(daemon: &Daemon<'_>, wanted: &str) -> Value {
    eventually(&format!("the status is {wanted}"), || {
        let status = daemon.status();
        (status["status"] == wanted).then_some(status)
    })
}

/// Somebody else presents the newest refresh token: from now on the provider refuses it.
fn end_the_grant(world: &World) {
    let record = world.aws.record(&world.secret()).unwrap();
    let stolen = record["refresh_token"].as_str().unwrap();
    for _twice in 0..2 {
        let _spent = world.client.spend(&[("grant_type", "refresh_token"), ("refresh_token", stolen)]);
    }
}

#[test]
fn the_token_is_tried_again_and_again_and_an_outage_is_a_warning_that_passes() {
    let mut world = World::new("validate");
    world.env.push(("OAUTH_TOKEN_VALIDATION_INTERVAL".into(), "1".into()));
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    let first = daemon.status()["lastValidated"].as_str().unwrap().to_owned();
    eventually("it was validated again", || (daemon.status()["lastValidated"] != *first).then_some(()));

    world.client.plan("userinfo", Fault::Status(503), 5);
    let status = status_is(&daemon, "warning");
    assert_eq!(status["lastError"], "validation_silent");
    assert_eq!(daemon.token().status, 200, "nothing is lost by it");
    let status = status_is(&daemon, "connected");
    assert_eq!((&status["lastError"], &status["detectedAt"]), (&Value::Null, &Value::Null));
    assert!(world.client.refreshes().is_empty());
}

#[test]
fn an_outage_at_the_moment_of_the_consent_loses_nothing() {
    let mut world = World::new("validate-later");
    world.env.push(("OAUTH_TOKEN_VALIDATION_INTERVAL".into(), "2".into()));
    let daemon = world.start(&world.config());
    world.client.plan("userinfo", Fault::Status(503), 1);
    let _page = daemon.connect();
    assert_eq!(daemon.token().status, 200);
    let status = status_is(&daemon, "connected");
    assert!(status["lastValidated"].is_string() && status["account"]["id"].is_string(), "{status}");
}

#[test]
fn an_invalid_token_is_refreshed_once_and_a_second_verdict_is_a_warning() {
    let world = World::new("validate-invalid");
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    world.client.plan("userinfo", Fault::Status(401), 1);
    let ran = daemon.cli(&["validate", World::INTEGRATION]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!((world.client.refreshes().len(), &daemon.status()["status"]), (1, &json!("connected")));

    assert_eq!(report(&daemon, 401), 202);
    let status = status_is(&daemon, "warning");
    assert_eq!(status["lastError"], "api_still_unauthorized");
    assert_eq!(world.client.refreshes().len(), 1, "a fresh token is not refreshed for it");
    assert_eq!(validate(&daemon).json()["status"], "connected", "the provider takes it after all");

    world.client.plan("userinfo", Fault::Close, 1);
    let silent = validate(&daemon);
    assert_eq!((silent.status, silent.code().as_str()), (503, "token_unavailable"));
    for word in ["validate_asked", "validation_failed", "api_refused"] {
        eventually(word, || {
            let trail = daemon.operate(Method::GET, "/v1/audit", None).text();
            trail.contains(&format!("\"what\":\"{word}\"")).then_some(())
        });
    }
}

#[test]
fn a_reported_401_and_a_refused_refresh_need_a_person_and_reconnecting_heals_the_same_app() {
    let world = World::new("report-401");
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    let mut app = daemon.app();
    let path = token_path(World::INTEGRATION);
    assert_eq!(app.get(&path).status, 200);
    end_the_grant(&world);
    for _app in 0..5 {
        assert_eq!(report(&daemon, 401), 202);
    }
    status_is(&daemon, "needs_reauth");
    let read = app.get(&path);
    assert_eq!((read.status, read.code().as_str()), (401, "needs_reauth"));
    assert!(world.aws.record(&world.secret()).unwrap()["refresh_token"].is_string(), "the record is kept");

    std::thread::scope(|scope| {
        let mut patient = daemon.app();
        let waiting =
            scope.spawn(move || patient.get(&format!("{}?wait=30", token_path(World::INTEGRATION))).status);
        let _page = daemon.connect();
        assert_eq!(waiting.join().unwrap(), 200, "who waited is served");
    });
    assert_eq!(app.get(&path).status, 200, "nothing was restarted");
    assert_eq!(daemon.status()["status"], "connected");
}

#[test]
fn reports_of_403_and_429_are_warnings_until_a_good_answer() {
    let world = World::new("report-403");
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    for (bad, cause) in [(429, "api_rate_limited"), (403, "api_forbidden")] {
        assert_eq!(report(&daemon, bad), 202);
        assert_eq!(status_is(&daemon, "warning")["lastError"], cause);
        // What was just changed rests for a second.
        Stopwatch::start().rest(A_LITTLE_MORE_THAN_A_SECOND);
        assert_eq!(report(&daemon, 200), 202);
        assert_eq!(status_is(&daemon, "connected")["lastError"], Value::Null);
        Stopwatch::start().rest(A_LITTLE_MORE_THAN_A_SECOND);
    }
    assert!(world.client.refreshes().is_empty());
}

const A_LITTLE_MORE_THAN_A_SECOND: Duration = Duration::from_millis(1200);
