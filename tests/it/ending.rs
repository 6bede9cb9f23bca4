//! Ending and beginning: SIGTERM drains, nothing in flight is lost, and two daemons never share a state directory.

use crate::world::{Fault, Stopwatch, World, eventually, fingerprint, second};
use std::time::Duration;

#[test]
fn sigterm_ends_an_idle_daemon_at_once() {
    let world = World::new("idle");
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    let _kept = daemon.app().get("/v1/integrations");
    let took = daemon.terminate();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(
        !world.home.path().join("app.sock").exists()
            || crate::world::Connection::try_open(&world.home.path().join("app.sock")).is_none()
    );
    daemon.restart();
    eventually("the token is served again", || (daemon.token().status == 200).then_some(()));
    assert_eq!(world.client.requests("token").len(), 1);
}

#[test]
fn sigterm_lets_a_refresh_in_flight_finish() {
    let world = World::new("drain");
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    world.client.plan("token", Fault::Delay(2000), 1);
    let watch = Stopwatch::start();
    let before = world.idp.taken();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let path = format!("/v1/integrations/{}/refresh", World::INTEGRATION);
            daemon.control().try_send(::http::Method::POST, &path, None)
        });
        eventually("the refresh is at the provider", || (world.idp.taken() > before).then_some(()));
        daemon.ask_to_end();
        let _answered_or_cut = asking.join().unwrap();
    });
    daemon.await_end();
    assert!(watch.elapsed() < Duration::from_secs(30));
    assert_eq!(world.client.refreshes().len(), 1);
    daemon.restart();
    eventually("the token is served again", || (daemon.token().status == 200).then_some(()));
    eventually("the rotated token is stored", || {
        let record = world.aws.record(&world.secret())?;
        (record["refresh_token"].as_str().map(fingerprint) == world.client.newest()).then_some(())
    });
    assert_eq!(daemon.refresh().status, 200);
    world.client.assert_no_reuse();
}

#[test]
fn a_second_daemon_on_the_same_state_gives_up() {
    let world = World::new("second");
    let daemon = world.start(&world.sealed_config());
    let _page = daemon.connect();
    let (ran, took) = second(&world);
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!([69, 75].contains(&ran.code), "{}", ran.code);
    assert!(
        ran.stderr.contains(&world.state().display().to_string()),
        "it names the directory: {}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    assert_eq!(daemon.token().status, 200, "the first one's sockets are left alone");
    assert_eq!(daemon.cli(&["status", World::INTEGRATION]).code, 0);
}

#[test]
fn a_killed_daemon_leaves_nothing_in_the_way() {
    let world = World::new("killed");
    let mut daemon = world.start(&world.sealed_config());
    for _life in 0..3 {
        daemon.kill9();
        daemon.restart();
    }
    let _page = daemon.connect();
}
