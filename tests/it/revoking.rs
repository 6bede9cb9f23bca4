//! Revocation: apps are cut off at once and for good, the provider is told, the record is cleared, whatever is down or dies.

use crate::world::{Daemon, Fault, Stopwatch, Trouble, World, eventually};
use serde_json::Value;
use std::time::Duration;

#[test]
fn a_revocation_bites_at_once_and_survives_kill_9_with_the_store_down() {
    let world = World::new("revoke");
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    assert_eq!(daemon.refresh().status, 200);
    let newest = world.client.newest();
    let mut app = daemon.app();
    assert_eq!(app.get(&crate::world::token_path(World::INTEGRATION)).status, 200);

    let ran = daemon.cli(&["revoke", World::INTEGRATION]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("older versions"), "{}", ran.stderr);
    let next = app.get(&crate::world::token_path(World::INTEGRATION));
    assert_eq!((next.status, next.code().as_str()), (403, "integration_revoked"), "the very next read");

    let told = world.client.requests("revocation");
    let refresh =
        told.iter().find(|told| told.hint.as_deref() == Some("refresh_token")).expect("the provider is told");
    assert_eq!((&refresh.presented, refresh.status), (&newest, Some(200)), "with the newest token");
    cleared(&world);

    daemon.kill9();
    world.store.set(Trouble::Refuse);
    daemon.restart();
    for _read in 0..20 {
        still_revoked(&daemon);
    }
    assert_eq!(daemon.status()["status"], "revoked");
}

#[test]
fn a_revocation_while_the_store_is_down_is_finished_when_it_is_back() {
    let world = World::new("revoke-down");
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    world.store.set(Trouble::Refuse);
    let ran = daemon.cli(&["revoke", World::INTEGRATION]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    still_revoked(&daemon);
    daemon.kill9();
    daemon.restart();
    still_revoked(&daemon);
    assert!(world.aws.record(&world.secret()).unwrap()["refresh_token"].is_string(), "not cleared yet");
    world.store.set(Trouble::None);
    cleared(&world);
    still_revoked(&daemon);
    daemon.kill9();
    daemon.restart();
    still_revoked(&daemon);
}

#[test]
fn a_silent_provider_does_not_hold_up_a_revocation() {
    let world = World::new("revoke-silent");
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    world.client.plan("revocation", Fault::Hang, 9);
    let watch = Stopwatch::start();
    std::thread::scope(|scope| {
        let revoking = scope.spawn(|| daemon.cli(&["revoke", World::INTEGRATION]));
        eventually("apps are cut off before the provider says anything", || {
            (daemon.token().status == 403).then_some(())
        });
        assert!(!revoking.is_finished(), "the provider is being waited for");
        let ran = revoking.join().unwrap();
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(ran.stderr.contains("did not answer"), "{}", ran.stderr);
        assert!(
            watch.elapsed() < Duration::from_secs(14),
            "one deadline of 10 s, not two: {:?}",
            watch.elapsed()
        );
    });
    cleared(&world);
}

#[test]
fn a_refresh_in_flight_does_not_undo_a_revocation() {
    let world = World::new("revoke-race");
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    world.client.plan("token", Fault::Delay(1500), 1);
    std::thread::scope(|scope| {
        let refreshing = scope.spawn(|| daemon.refresh());
        eventually("apps are cut off", || {
            let _ran = daemon.cli(&["revoke", World::INTEGRATION]);
            (daemon.token().status == 403).then_some(())
        });
        let refreshed = refreshing.join().unwrap();
        assert_ne!(refreshed.status, 500, "{}", refreshed.text());
    });
    let newest = world.client.newest();
    eventually("the provider is told with the token that came home late", || {
        world.client.requests("revocation").iter().any(|told| told.presented == newest).then_some(())
    });
    cleared(&world);
    still_revoked(&daemon);
}

#[test]
fn a_revocation_that_was_killed_tells_the_provider_the_token_that_only_the_disk_had() {
    let world = World::new("revoke-sealed");
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    world.store.set(Trouble::Refuse);
    assert_eq!(daemon.refresh().status, 200);
    let newest = world.client.newest();
    assert_eq!(daemon.status()["stored"], false);
    world.idp.set(Trouble::Hold);
    let carried = world.idp.taken();
    begin_to_revoke(&daemon);
    eventually("the mark is durable, and the provider is being told", || {
        (world.idp.taken() > carried).then_some(())
    });
    still_revoked(&daemon);
    daemon.kill9();
    world.idp.set(Trouble::Refuse);
    world.idp.set(Trouble::None);
    daemon.restart();
    still_revoked(&daemon);
    world.store.set(Trouble::None);
    cleared(&world);
    still_revoked(&daemon);
    let told = world.client.requests("revocation");
    assert!(told.iter().any(|told| told.presented == newest), "not with the newest token: {told:#?}");
}

#[test]
fn a_revocation_killed_with_a_spend_in_flight_stays_revoked() {
    let world = World::new("revoke-flight");
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    let presented = world.client.newest();
    world.idp.set(Trouble::HoldAnswerTo("/token"));
    let mut control = daemon.control();
    let path = format!("/v1/integrations/{}/refresh", World::INTEGRATION);
    let _asking = std::thread::spawn(move || control.try_send(::http::Method::POST, &path, None));
    eventually("the provider has committed", || (world.client.refreshes().len() == 1).then_some(()));
    begin_to_revoke(&daemon);
    eventually("apps are cut off", || (daemon.token().status == 403).then_some(()));
    daemon.kill9();
    world.idp.set(Trouble::Refuse);
    daemon.restart();
    world.idp.set(Trouble::None);
    let mut settled = 0;
    eventually("it is settled", || {
        settled = daemon.token().status;
        [200, 403].contains(&settled).then_some(())
    });
    if settled == 200 {
        // It died before the mark was durable, and nobody was told that it was done.
        assert_eq!(daemon.cli(&["revoke", World::INTEGRATION]).code, 0);
    }
    still_revoked(&daemon);
    cleared(&world);
    // The newest token died in the socket; the provider is told with the newest that there is, which ends the family.
    let told = world.client.requests("revocation");
    assert!(told.iter().any(|told| told.presented == presented && told.status == Some(200)), "{told:#?}");
    assert_eq!(world.client.refreshes().len(), 1, "it is not presented again");
    daemon.kill9();
    daemon.restart();
    still_revoked(&daemon);
}

#[test]
fn a_new_consent_ends_a_revocation() {
    let world = World::new("revoke-reconnect");
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    assert_eq!(daemon.cli(&["revoke", World::INTEGRATION]).code, 0);
    still_revoked(&daemon);
    cleared(&world);
    let _page = daemon.connect();
    assert_eq!(daemon.token().status, 200);
    let record = world.aws.record(&world.secret()).unwrap();
    assert_eq!((record["status"].as_str(), record["refresh_token"].is_string()), (Some("connected"), true));
}

/// Asks for a revocation and waits for nothing.
fn begin_to_revoke(daemon: &Daemon<'_>) {
    let mut control = daemon.control();
    let path = format!("/v1/integrations/{}/revoke", World::INTEGRATION);
    let _asking = std::thread::spawn(move || control.try_send(::http::Method::POST, &path, None));
}

fn still_revoked(daemon: &Daemon<'_>) {
    let read = daemon.token();
    assert_eq!((read.status, read.code().as_str()), (403, "integration_revoked"));
}

/// Waits until neither stage of the secret holds a token.
fn cleared(world: &World) {
    eventually("the record is cleared under both stages", || {
        ["AWSCURRENT", "AWSPREVIOUS"].into_iter().all(|stage| is_clear(world, stage)).then_some(())
    });
}

fn is_clear(world: &World, stage: &str) -> bool {
    let Some(text) = world.aws.value(&world.secret(), stage) else { return false };
    let record: Value = serde_json::from_str(&text).unwrap();
    record["status"] == "revoked"
        && record.get("refresh_token").is_none()
        && record.get("access_token").is_none()
}

#[test]
fn a_provider_that_was_down_is_told_after_a_restart() {
    let world = World::new("revoke-untold");
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    let newest = world.client.newest();
    world.idp.set(Trouble::Refuse);
    let ran = daemon.cli(&["revoke", World::INTEGRATION]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("did not answer"), "{}", ran.stderr);
    cleared(&world);
    let told_of = |daemon: &Daemon<'_>| {
        let status = daemon.status();
        assert_eq!(status["lastError"], "provider_not_told", "{status}");
        assert!(status["message"].to_string().contains("told again"), "{status}");
    };
    told_of(&daemon);
    daemon.kill9();
    daemon.restart();
    still_revoked(&daemon);
    told_of(&daemon);
    daemon.terminate();
    world.idp.set(Trouble::None);
    daemon.restart();
    eventually("the provider is told at last", || {
        world.client.requests("revocation").iter().any(|told| told.presented == newest).then_some(())
    });
    eventually("nothing is owed any more", || daemon.status()["lastError"].is_null().then_some(()));
    let before = world.client.requests("revocation").len();
    daemon.terminate();
    daemon.restart();
    still_revoked(&daemon);
    assert_eq!(world.client.requests("revocation").len(), before, "it is told once");
}
