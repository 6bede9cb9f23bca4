//! Somebody else at the same secret: a foreign value is never overwritten, and a write is one version, however often it is repeated.

use crate::world::{Daemon, Trouble, World, eventually, fingerprint};

#[test]
fn a_foreign_value_stays_and_the_newest_record_stands_beside_it() {
    let world = World::new("foreign");
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    world.aws.put(&world.secret(), "{\"written\":\"by a script\"}");
    assert_eq!(daemon.refresh().status, 200);
    beside(&world);
    let status = daemon.status();
    assert_eq!(status["status"], "warning", "{status}");
    assert!(status["message"].as_str().is_some_and(|message| message.contains("someone else")), "{status}");
    assert_eq!(
        world.aws.value(&world.secret(), "AWSCURRENT").as_deref(),
        Some("{\"written\":\"by a script\"}")
    );
    daemon.kill9();
    daemon.restart();
    eventually("the record beside is found again", || (daemon.token().status == 200).then_some(()));
    assert_eq!(daemon.refresh().status, 200);
    beside(&world);
    world.client.assert_no_reuse();
}

#[test]
fn a_write_whose_acknowledgement_is_lost_makes_no_second_version() {
    let world = World::new("ack-lost");
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    let before = world.aws.versions(&world.secret());
    world.store.set(Trouble::LoseAnswerTo("secretsmanager.PutSecretValue"));
    assert_eq!(daemon.refresh().status, 200);
    eventually("the write is not acknowledged", || daemon.status()["lastError"].is_string().then_some(()));
    assert_eq!(record_token(&world), world.client.newest(), "it was committed all the same");
    world.store.set(Trouble::None);
    stored(&daemon);
    assert_eq!(world.aws.versions(&world.secret()), before + 1);
}

#[test]
fn requests_and_answers_of_the_store_that_are_cut_or_corrupted_make_one_version() {
    let broken = [
        Trouble::CutRequest(60),
        Trouble::CorruptRequest(3),
        Trouble::CutAnswer(20),
        Trouble::CutAnswer(150),
        Trouble::CorruptAnswer(0),
        Trouble::CorruptBody(0),
    ];
    std::thread::scope(|scope| {
        for trouble in broken {
            scope.spawn(move || {
                let world = World::new("garbled");
                let daemon = world.start(&world.config());
                let _page = daemon.connect();
                let before = world.aws.versions(&world.secret());
                world.store.set(trouble);
                assert_eq!(daemon.refresh().status, 200, "{trouble:?}");
                eventually("the write fails", || daemon.status()["lastError"].is_string().then_some(()));
                assert_eq!(daemon.token().status, 200, "{trouble:?}");
                world.store.set(Trouble::None);
                stored(&daemon);
                assert_eq!(record_token(&world), world.client.newest(), "{trouble:?}");
                assert_eq!(world.aws.versions(&world.secret()), before + 1, "{trouble:?}");
                world.client.assert_no_reuse();
            });
        }
    });
}

#[test]
fn with_the_store_down_a_strict_token_is_spent_once_and_then_held() {
    let world = World::new("held");
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    world.store.set(Trouble::Refuse);
    assert_eq!(daemon.refresh().status, 200);
    for _ask in 0..3 {
        let held = daemon.refresh();
        assert_eq!((held.status, held.code().as_str()), (503, "token_unavailable"), "{}", held.text());
        assert_eq!(daemon.token().status, 200);
    }
    assert_eq!(world.client.refreshes().len(), 1, "nothing more is spent than can be kept");
    world.store.set(Trouble::None);
    stored(&daemon);
    assert_eq!(daemon.refresh().status, 200);
    stored(&daemon);
    assert_eq!(record_token(&world), world.client.newest());
}

fn stored(daemon: &Daemon<'_>) {
    eventually("the newest record is stored", || (daemon.status()["stored"] == true).then_some(()));
}

fn beside(world: &World) {
    eventually("the newest record is under the private label", || {
        let text = world.aws.value(&world.secret(), "GRANTD_NEXT")?;
        let record: serde_json::Value = serde_json::from_str(&text).ok()?;
        (record["refresh_token"].as_str().map(fingerprint) == world.client.newest()).then_some(())
    });
}

fn record_token(world: &World) -> Option<String> {
    world.aws.record(&world.secret())?["refresh_token"].as_str().map(fingerprint)
}
