//! Outages: apps read on as if nothing had happened while the store, the provider, or both are gone.

use crate::world::{Fault, Stopwatch, Trouble, World, eventually, never, token_path};
use std::time::Duration;

#[test]
fn reads_go_on_while_the_store_and_the_provider_hang() {
    let world = World::new("hang");
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    world.store.set(Trouble::Hang);
    world.idp.set(Trouble::Hang);
    std::thread::scope(|scope| {
        let refreshing = scope.spawn(|| daemon.refresh().status);
        eventually("the refresh hangs at the provider", || (world.idp.taken() > 0).then_some(()));
        let mut app = daemon.app();
        let mut times = Vec::new();
        for _read in 0..200 {
            let watch = Stopwatch::start();
            let token = app.get(&token_path(World::INTEGRATION));
            times.push(watch.elapsed());
            assert_eq!(token.status, 200, "{}", token.text());
        }
        times.sort();
        assert!(times[100] < Duration::from_millis(20), "median {:?}", times[100]);
        assert!(times[198] < Duration::from_millis(250), "99th of a hundred {:?}", times[198]);
        assert!(!refreshing.is_finished() || refreshing.join().unwrap() != 200, "nothing hung at all");
        world.idp.set(Trouble::None);
        world.store.set(Trouble::None);
    });
}

#[test]
fn the_daemon_starts_while_everything_is_down() {
    let world = World::new("start-down");
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    daemon.terminate();
    world.store.set(Trouble::Refuse);
    world.idp.set(Trouble::Refuse);
    daemon.restart();
    let unread = daemon.token();
    assert_eq!((unread.status, unread.code().as_str()), (503, "token_unavailable"));
    assert!(unread.header("retry-after").parse::<u32>().is_ok());
    world.store.set(Trouble::None);
    eventually("the record is read when the store is back", || (daemon.token().status == 200).then_some(()));
    assert_eq!(world.client.requests("token").len(), 1, "the lease still lives: nothing was spent");
}

#[test]
fn a_cut_answer_of_the_store_is_asked_for_again() {
    let world = World::new("cut");
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    world.store.set(Trouble::CutAnswer(30));
    assert_eq!(daemon.refresh().status, 200);
    eventually("the store's answer was cut", || daemon.status()["lastError"].is_string().then_some(()));
    daemon.kill9();
    daemon.restart();
    world.store.set(Trouble::None);
    eventually("the record is stored in the end", || {
        let record = world.aws.record(&world.secret())?;
        (record["refresh_token"].as_str().map(crate::world::fingerprint) == world.client.newest())
            .then_some(())
    });
    assert_eq!(daemon.refresh().status, 200);
    world.client.assert_no_reuse();
}

#[test]
fn a_provider_that_is_down_costs_nothing() {
    let world = World::new("idp-down");
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    world.idp.set(Trouble::Refuse);
    let failed = daemon.refresh();
    assert_ne!(failed.status, 401, "{}", failed.text());
    assert_eq!(daemon.token().status, 200);
    assert_eq!(world.client.refreshes().len(), 0);
    world.idp.set(Trouble::None);
    eventually("a later refresh succeeds", || {
        let _asked = daemon.refresh();
        (world.client.refreshes().len() == 1).then_some(())
    });
    world.client.assert_no_reuse();
}

#[test]
fn a_lost_answer_of_a_strict_provider_is_not_followed_by_a_replay() {
    let world = World::new("lost");
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    world.client.plan("token", Fault::Lose, 1);
    let _lost = daemon.refresh();
    let status = eventually("the refresh is in doubt", || {
        Some(daemon.status()).filter(|status| status["status"] == "warning")
    });
    assert!(status["message"].as_str().is_some_and(|message| message.contains("in doubt")), "{status}");
    let asked = world.client.refreshes().len();
    never("the token in doubt is presented again while its lease lives", || {
        let _refused = daemon.refresh();
        assert_eq!(daemon.token().status, 200, "the lease is served to its end");
        world.client.refreshes().len() > asked
    });
    world.client.assert_no_reuse();
    let _page = daemon.connect();
    assert_eq!(daemon.status()["status"], "connected");
}
