//! SIGKILL at any moment: whatever it hits, no refresh token is presented twice and no token that was received is lost.

use crate::world::{Stopwatch, Trouble, World, eventually, fingerprint};
use std::time::Duration;

#[test]
fn kill_9_at_any_moment_of_a_refresh_replays_nothing() {
    let world = World::new("any-moment");
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    for round in 0_u64..16 {
        let watch = Stopwatch::start();
        std::thread::scope(|scope| {
            let path = format!("/v1/integrations/{}/refresh", World::INTEGRATION);
            let mut control = daemon.control();
            let asking = scope.spawn(move || control.try_send(::http::Method::POST, &path, None).is_some());
            watch.spin(Duration::from_millis(round * 4));
            daemon.kill9();
            let _answered = asking.join().unwrap();
        });
        daemon.restart();
        let read = eventually("the token is served again", || {
            Some(daemon.token()).filter(|token| token.status == 200)
        });
        world.client.assert_no_reuse();
        if daemon.status()["message"].as_str().is_some_and(|why| why.contains("in doubt")) {
            // The answer was on its way when the daemon died: said so, served on, and mended by a person.
            assert_ne!(read.json()["expires_at"], serde_json::Value::Null);
            let _page = daemon.connect();
        }
    }
    eventually("the newest token is in the store", || {
        let record = world.aws.record(&world.secret())?;
        (record["refresh_token"].as_str().map(fingerprint) == world.client.newest()).then_some(())
    });
    assert_eq!(daemon.refresh().status, 200);
    world.client.assert_no_reuse();
}

#[test]
fn kill_9_at_any_moment_of_a_revocation_never_serves_again() {
    for moment in [0, 4, 8, 16, 32] {
        let world = World::new("any-moment-revoke");
        let mut daemon = world.start(&world.config());
        let _page = daemon.connect();
        world.store.set(Trouble::Hang);
        let watch = Stopwatch::start();
        let cut_off = std::thread::scope(|scope| {
            let path = format!("/v1/integrations/{}/revoke", World::INTEGRATION);
            let (mut control, mut app) = (daemon.control(), daemon.app());
            let asking = scope.spawn(move || control.try_send(::http::Method::POST, &path, None).is_some());
            watch.spin(Duration::from_millis(moment));
            let seen = app.get(&crate::world::token_path(World::INTEGRATION)).status == 403;
            daemon.kill9();
            let _answered = asking.join().unwrap();
            seen
        });
        world.store.set(Trouble::None);
        daemon.restart();
        if cut_off && !world.client.requests("revocation").is_empty() {
            eventually("the restart is read", || (daemon.token().status == 403).then_some(()));
        } else {
            // It died before the revocation was durable, and nobody was told that it was done.
            let settled = eventually("the restart is read", || {
                Some(daemon.token().status).filter(|status| [200, 403].contains(status))
            });
            assert!(settled == 403 || daemon.cli(&["revoke", World::INTEGRATION]).code == 0);
            assert_eq!(daemon.token().status, 403);
        }
    }
}
