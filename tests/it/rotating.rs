//! Rotation: no refresh token is presented twice, and none is lost, whatever dies in between.

use crate::world::{Browser, Config, Daemon, Trouble, World, eventually, fingerprint};
use std::collections::BTreeSet;

#[test]
fn ten_rotations_with_kill_9_in_between_lose_nothing_and_reuse_nothing() {
    let world = World::new("ten");
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    let mut tokens = BTreeSet::from([access_token(&daemon)]);
    for round in 1..=10 {
        let refreshed = daemon.refresh();
        assert_eq!(refreshed.status, 200, "round {round}: {}", refreshed.text());
        assert!(tokens.insert(access_token(&daemon)), "round {round}: the token did not change");
        if round % 3 == 0 {
            // At once: the write to the store may still be on its way.
            daemon.kill9();
            daemon.restart();
            served(&daemon);
        }
    }
    assert_eq!(world.client.refreshes().len(), 10);
    world.client.assert_no_reuse();
    let record = stored(&world, &daemon);
    assert_eq!(record["generation"], daemon.token().json()["generation"]);
    assert_eq!(daemon.status()["status"], "connected");
}

#[test]
fn a_rotation_that_the_store_never_saw_survives_kill_9() {
    let world = World::new("unstored");
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    world.store.set(Trouble::Hang);
    let refreshed = daemon.refresh();
    assert_eq!(refreshed.status, 200, "the store is not waited for: {}", refreshed.text());
    let newest = access_token(&daemon);
    assert_eq!(daemon.status()["stored"], false);
    daemon.kill9();
    assert_ne!(record_token(&world), world.client.newest(), "the store has the older token");
    daemon.restart();
    // The sealed answer alone is enough to serve, with the store still silent.
    eventually("the sealed token is served", || (daemon.token().status == 200).then_some(()));
    assert_eq!(access_token(&daemon), newest);
    world.store.set(Trouble::None);
    stored(&world, &daemon);
    assert_eq!(daemon.refresh().status, 200);
    stored(&world, &daemon);
    world.client.assert_no_reuse();
}

#[test]
fn a_first_consent_that_the_store_never_saw_survives_kill_9() {
    let world = World::new("unstored-first");
    let mut daemon = world.start(&world.config());
    let link = daemon.link();
    let mut browser = Browser::new();
    let back = browser.until_callback(&link);
    world.store.set(Trouble::Refuse);
    let page = browser.arrive(&back);
    assert_eq!((page.status(), page.code().as_deref()), (200, Some("sealed")), "{}", page.text());
    assert_eq!(daemon.token().status, 200);
    daemon.kill9();
    daemon.restart();
    eventually("the sealed token is served", || (daemon.token().status == 200).then_some(()));
    world.store.set(Trouble::None);
    stored(&world, &daemon);
    assert_eq!(world.client.requests("token").len(), 1);
}

#[test]
fn tokens_are_refreshed_before_they_end_and_reads_never_fail() {
    let world = World::with_ttl("by-itself", 3);
    let daemon = world.start(&world.sealed_config());
    let _page = daemon.connect();
    let mut tokens = BTreeSet::new();
    eventually("four tokens in turn", || {
        let token = daemon.token();
        assert_eq!(token.status, 200, "a read failed between two tokens: {}", token.text());
        tokens.insert(token.json()["access_token"].to_string());
        (tokens.len() >= 4).then_some(())
    });
    world.client.assert_no_reuse();
}

#[test]
fn twenty_refreshes_at_once_are_one() {
    let world = World::new("joined");
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    world.client.plan("token", crate::world::Fault::Delay(500), 1);
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..20).map(|_| scope.spawn(|| daemon.refresh().status)).collect();
        for one in asked {
            assert_eq!(one.join().unwrap(), 200);
        }
    });
    let count = world.client.refreshes().len();
    assert!((1..3).contains(&count), "{count} token requests for twenty refreshes");
    world.client.assert_no_reuse();
}

#[test]
fn an_app_that_needs_more_life_gets_one_refresh_in_half_a_minute() {
    let world = World::new("min-ttl");
    let daemon = world.start(&world.sealed_config());
    let _page = daemon.connect();
    let path = format!("/v1/integrations/{}/token?min_ttl=7200", World::INTEGRATION);
    for _ask in 0..5 {
        let short = daemon.app().get(&path);
        assert_eq!((short.status, short.code().as_str()), (503, "token_unavailable"));
        assert!(short.header("retry-after").parse::<u32>().is_ok());
    }
    eventually("one refresh comes of it", || (world.client.refreshes().len() == 1).then_some(()));
    assert_eq!(daemon.app().get(&format!("{path}&wait=1")).status, 503);
    assert_eq!(world.client.refreshes().len(), 1);
}

#[test]
fn a_schedule_refreshes_beside_the_deadlines() {
    let world = World::new("schedule");
    let config = Config { rotation: "schedule = \"* * * * * *\"\n".into(), ..world.sealed_config() };
    let daemon = world.start(&config);
    let _page = daemon.connect();
    eventually("the schedule fires thrice", || (world.client.refreshes().len() >= 3).then_some(()));
    world.client.assert_no_reuse();
    let without = Config { rotation: String::new(), ..config };
    assert_eq!(daemon.reload(&without).code, 0);
}

#[test]
fn a_refused_refresh_token_asks_for_a_person_and_one_reconnect_heals() {
    let world = World::with_ttl("reauth", 3);
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    // Somebody else spends the newest token: the next one that grantd presents is a replay.
    let record = stored(&world, &daemon);
    let stolen = record["refresh_token"].as_str().unwrap();
    let spent = world.client.spend(&[("grant_type", "refresh_token"), ("refresh_token", stolen)]);
    assert_eq!(spent.status, 200, "the thief came too late");
    let status = eventually("the refusal is noticed", || {
        Some(daemon.status()).filter(|status| status["status"] == "needs_reauth")
    });
    assert!(status["actions"].to_string().contains("reconnect"), "{status}");
    let refused =
        eventually("the last lease ends", || Some(daemon.token()).filter(|token| token.status != 200));
    assert_eq!((refused.status, refused.code().as_str()), (401, "needs_reauth"));
    assert!(world.aws.record(&world.secret()).unwrap()["refresh_token"].is_string(), "nothing was deleted");
    let asked = world.client.refreshes().len();
    assert_eq!(daemon.refresh().status, 401);
    assert_eq!(world.client.refreshes().len(), asked, "a refused token is not presented again");
    let _page = daemon.connect();
    assert_eq!(daemon.token().status, 200);
    assert_eq!(daemon.status()["status"], "connected");
}

#[test]
fn an_answer_that_is_no_refusal_is_tried_again() {
    let world = World::new("transient");
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    let before = access_token(&daemon);
    world.client.plan("token", crate::world::Fault::Status(429), 1);
    let failed = daemon.refresh();
    assert!([200, 503].contains(&failed.status), "{}", failed.text());
    assert_eq!(daemon.token().status, 200, "the lease is served meanwhile");
    assert_ne!(daemon.status()["status"], "needs_reauth");
    eventually("a later try succeeds", || {
        let _asked = daemon.refresh();
        (access_token(&daemon) != before).then_some(())
    });
}

fn access_token(daemon: &Daemon<'_>) -> String {
    let token = daemon.token();
    assert_eq!(token.status, 200, "{}", token.text());
    token.json()["access_token"].as_str().unwrap().to_owned()
}

fn served(daemon: &Daemon<'_>) {
    eventually("the token is served again", || (daemon.token().status == 200).then_some(()));
}

/// Waits until the store holds the newest refresh token that the provider issued, and says so.
fn stored(world: &World, daemon: &Daemon<'_>) -> serde_json::Value {
    eventually("the newest token is in the store", || {
        let newest = record_token(world) == world.client.newest() && daemon.status()["stored"] == true;
        newest.then(|| world.aws.record(&world.secret()).unwrap())
    })
}

fn record_token(world: &World) -> Option<String> {
    world.aws.record(&world.secret())?["refresh_token"].as_str().map(fingerprint)
}
