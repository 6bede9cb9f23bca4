//! Leaks: every world is searched at its end; here are the flows whose errors would be the likeliest to carry a secret away.

use crate::world::{Browser, Fault, Trouble, World, eventually};

#[test]
fn the_search_has_something_to_search() {
    let world = World::new("leak-trace");
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    assert_eq!(daemon.refresh().status, 200);
    let said = world.said.text();
    assert!(said.contains("\"level\":\"TRACE\""), "RUST_LOG=trace is not in force");
    let kinds: Vec<_> = world.client.secrets().into_iter().map(|(what, _)| what).collect();
    for kind in [
        "client_secret",
        "state",
        "authorization_code",
        "code_verifier",
        "access_token",
        "refresh_token",
        "nonce",
    ] {
        assert!(kinds.iter().any(|known| known == kind), "no {kind} is known: {kinds:?}");
    }
    assert!(std::fs::read_dir(world.state()).unwrap().count() > 0);
}

#[test]
fn errors_on_every_side_carry_no_secret() {
    let world = World::new("leak-errors");
    let mut daemon = world.start(&world.config());
    let mut browser = Browser::new();
    let mut callback = browser.until_callback(&daemon.link());
    world.note("cookie", &browser.cookie_values()[0]);
    callback.query_pairs_mut().append_pair("state", "again");
    assert_eq!(browser.arrive(&callback).status(), 400);
    for fault in [Fault::Status(500), Fault::Cut, Fault::Close, Fault::Lose] {
        world.client.plan("token", fault, 1);
        let page = Browser::new().connect(&daemon.link());
        assert_ne!(page.status(), 200, "{fault:?}: {}", page.text());
    }
    world.client.plan("userinfo", Fault::Status(500), 1);
    let _page = daemon.connect();
    for trouble in [Trouble::CutAnswer(10), Trouble::CutRequest(300), Trouble::Refuse] {
        world.store.set(trouble);
        let _refreshed_or_held = daemon.refresh();
    }
    world.store.set(Trouble::None);
    eventually("the store is written again", || (daemon.status()["stored"] == true).then_some(()));
    for fault in [Fault::Status(401), Fault::Status(429), Fault::Cut] {
        world.client.plan("token", fault, 1);
        let _refused = daemon.refresh();
    }
    let _refused = daemon.cli(&["connect", "no-such-integration"]);
    daemon.kill9();
    daemon.restart();
    let _revoked = daemon.cli(&["revoke", World::INTEGRATION]);
    daemon.terminate();
}
